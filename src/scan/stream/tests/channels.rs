//! Which pieces are one text, and how many texts there may be.

use serde_json::json;

use super::*;

/// Whether two pieces, one in each event, are read as one text.
fn joined(first: fn(&str) -> Value, second: fn(&str) -> Value) -> bool {
    let stream = event(first("a <scr")) + &event(second("ipt> b"));
    match whole(&html(Action::Block), &stream).1 {
        None => false,
        Some(StreamStop::Blocked) => true,
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn what_an_api_leaves_out_is_no_other_text() {
    let thought: [fn(&str) -> Value; 4] = [
        |t| json!({"candidates": [{"index": 0, "content": {"parts": [{"text": t}]}}]}),
        |t| json!({"candidates": [{"index": 0, "content": {"parts": [{"text": t, "thought": false}]}}]}),
        |t| json!({"candidates": [{"content": {"parts": [{"text": t, "thought": null}]}}]}),
        |t| json!({"candidates": [{"index": 0.0, "content": {"parts": [{"text": t}]}}]}),
    ];
    let responses: [fn(&str) -> Value; 4] = [
        |t| json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": t}),
        |t| json!({"type": "response.output_text.delta", "output_index": 0, "delta": t}),
        |t| json!({"type": "response.output_text.delta", "output_index": 0.0, "content_index": "0", "delta": t}),
        |t| json!({"type": "response.output_text.delta", "content_index": null, "delta": t}),
    ];
    let chat: [fn(&str) -> Value; 4] = [
        |t| json!({"choices": [{"index": 0, "delta": {"content": t}}]}),
        |t| json!({"choices": [{"index": 0.0, "delta": {"content": t}}]}),
        |t| json!({"choices": [{"index": "0", "delta": {"content": t}}]}),
        |t| json!({"choices": [{"delta": {"content": t}}]}),
    ];
    for same in [thought, responses, chat] {
        for (a, b) in same.iter().flat_map(|a| same.iter().map(move |b| (a, b))) {
            assert!(joined(*a, *b), "{} and {}", a("t"), b("t"));
        }
    }
}

#[test]
fn what_differs_is_another_text() {
    let pairs: [(Shape, Shape); 4] = [
        (
            |t| json!({"choices": [{"index": 0, "delta": {"content": t}}]}),
            |t| json!({"choices": [{"index": 1, "delta": {"content": t}}]}),
        ),
        (
            |t| json!({"choices": [{"index": 0.5, "delta": {"content": t}}]}),
            |t| json!({"choices": [{"index": 0, "delta": {"content": t}}]}),
        ),
        (
            |t| json!({"candidates": [{"content": {"parts": [{"text": t, "thought": true}]}}]}),
            |t| json!({"candidates": [{"content": {"parts": [{"text": t}]}}]}),
        ),
        (
            |t| json!({"type": "response.output_text.delta", "content_index": 1, "delta": t}),
            |t| json!({"type": "response.output_text.delta", "delta": t}),
        ),
    ];
    for (a, b) in pairs {
        assert!(!joined(a, b), "{} and {}", a("t"), b("t"));
    }
}

fn piece(index: usize, text: &str) -> String {
    event(json!({"choices": [{"index": index, "delta": {"content": text}}]}))
}

#[test]
fn texts_that_wait_for_nothing_make_room_for_others() {
    let rules = html(Action::Block);
    let clean: String = (0..2000).map(|index| piece(index, "clean text")).collect();
    assert!(whole(&rules, &clean) == (clean.clone(), None));
    let ended: String = (0..600)
        .map(|index| {
            let at = |kind: &str, text| json!({"type": kind, "output_index": index, "delta": text, "text": "a <"});
            event(at("response.output_text.delta", "a <")) + &event(at("response.output_text.done", ""))
        })
        .collect();
    assert!(whole(&rules, &ended) == (ended.clone(), None));
    // Nor does a forgotten one go on behind its end.
    let on = json!({"type": "response.output_text.delta", "output_index": 1, "delta": "b"});
    assert_eq!(whole(&rules, &(ended + &event(on))).1, Some(StreamStop::Unscannable("a text goes on behind its end")));
    // One that is in use is not forgotten.
    let busy: String = (1..600).map(|index| piece(index, "clean") + &piece(0, "x")).collect();
    let split = busy + &piece(0, "<scr") + &piece(601, "clean") + &piece(0, "ipt>");
    assert_eq!(whole(&rules, &split).1, Some(StreamStop::Blocked));
}

#[test]
fn a_text_that_waits_is_never_forgotten() {
    let rules = html(Action::Block);
    let mut stream: String = (0..256).map(|index| piece(index, "<scr")).collect();
    // All of them could still become a match, so that there is no room for one more.
    assert_eq!(
        whole(&rules, &(stream.clone() + &piece(256, "x"))).1,
        Some(StreamStop::Unscannable("a stream has too many texts"))
    );
    stream += &piece(7, "ipt>");
    assert_eq!(whole(&rules, &stream).1, Some(StreamStop::Blocked));
    // Pieces that wait in the queue for another text are not forgotten either, and are let go in order.
    let waiting = piece(0, "<scr") + &(1..256).map(|index| piece(index, "x")).collect::<String>();
    assert!(matches!(whole(&rules, &(waiting.clone() + &piece(256, "x"))).1, Some(StreamStop::Unscannable(_))));
    let freed = waiting + &piece(0, "!") + &piece(256, "x");
    assert!(whole(&rules, &freed) == (freed.clone(), None));
}

#[test]
fn what_a_forgotten_text_showed_is_still_counted() {
    let rules = html(Action::Observe);
    let stream: String = (0..600).map(|index| piece(index, "<script>")).collect();
    let (_, _, scanner) = scan(&rules, StreamFormat::Events, [stream.as_bytes()]);
    assert_eq!(scanner.hits().iter().map(|hit| hit.count).max(), Some(600));
}
