//! Formats that an operator describes.

use serde_json::json;

use super::*;

fn described(house: House) -> StreamRules {
    StreamRules { house: Some(Arc::new(house)), ..html(Action::Block) }
}

fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().map(|text| Path::parse(text).unwrap()).collect()
}

fn blocks(rules: &StreamRules, events: &[Value]) -> bool {
    let stream: String = events.iter().cloned().map(event).collect();
    // However it is cut.
    let verdicts = [1, 7, stream.len()].map(|size| {
        let (out, stop, _) = scan(rules, StreamFormat::Events, stream.as_bytes().chunks(size));
        assert!(stop.is_some() || out == stream.as_bytes(), "{stream}");
        stop
    });
    assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "{verdicts:?}");
    assert!(matches!(verdicts[0], None | Some(StreamStop::Blocked)), "{verdicts:?}");
    verdicts[0].is_some()
}

#[test]
fn pieces_are_joined_where_the_description_says_and_nowhere_else() {
    let rules = described(House { join: paths(&["$.result.tok", "alts[].w"]), ..House::default() });
    let two = |shape: &dyn Fn(&str) -> Value| blocks(&rules, &[shape("a <scr"), shape("ipt> b")]);
    assert!(two(&|t| json!({"result": {"tok": t}})));
    assert!(two(&|t| json!({"alts": [{"w": "x"}, {"w": t}]})));
    assert!(two(&|t| json!({"choices": [{"index": 0, "delta": {"content": t}}]})), "a known API stays known");
    assert!(!two(&|t| json!({"text": t})), "a name that unknown formats join");
    assert!(!two(&|t| json!({"other": {"tok": t}})));
    // Whatever is described, each string is scanned.
    assert!(blocks(&rules, &[json!({"note": "<script>"})]));
    assert!(blocks(&rules, &[json!({"result": {"tok": "<script>"}})]));
}

#[test]
fn members_tell_texts_apart() {
    let rules = described(House {
        join: paths(&["out.t", "list[].t"]),
        channel: paths(&["stream", "out.no", "list[].no"]),
        ..House::default()
    });
    let out = |stream: Value, no: Value, t: &str| json!({"stream": stream, "out": {"no": no, "t": t}});
    let same = |a: (Value, Value), b: (Value, Value)| blocks(&rules, &[out(a.0, a.1, "<scr"), out(b.0, b.1, "ipt>")]);
    assert!(same((json!("a"), json!(0)), (json!("a"), json!(0.0))));
    assert!(same((json!("a"), json!("0")), (json!("a"), json!(0))));
    assert!(!same((json!("a"), json!(0)), (json!("a"), json!(1))));
    assert!(!same((json!("a"), json!(0)), (json!("b"), json!(0))));
    assert!(!same((json!(true), json!(0)), (json!(false), json!(0))));
    // Positions tell nothing where members do.
    let list = |no: [u8; 2], t: [&str; 2]| json!({"list": [{"no": no[0], "t": t[0]}, {"t": t[1], "no": no[1]}]});
    assert!(blocks(&rules, &[list([1, 2], ["x", "<scr"]), list([2, 1], ["ipt>", "y"])]));
    assert!(!blocks(&rules, &[list([1, 2], ["x", "<scr"]), list([1, 2], ["ipt>", "y"])]));
}

#[test]
fn ids_are_skipped_while_they_look_like_ids() {
    let rule = Rule::new("r", "on[a-z]+=");
    let house = House { join: paths(&["t"]), opaque: paths(&["trace.id"]), ..House::default() };
    let rules = StreamRules { house: Some(Arc::new(house)), ..asked(vec![rule], Action::Block) };
    assert!(!blocks(&rules, &[json!({"trace": {"id": "ab0onabc="}})]));
    assert!(blocks(&rules, &[json!({"trace": {"id": "x onabc="}})]));
    assert!(blocks(&rules, &[json!({"id": "ab0onabc="})]));
    let stream = event(json!({"trace": {"id": "12345"}}));
    assert_eq!(scan(&rules, StreamFormat::Events, [stream.as_bytes()]).2.unread().opaque, 5);
}

#[test]
fn a_stream_ends_as_the_description_says() {
    let end = ["{\"type\": \"error\", \"why\": \"{message}\"}", "[END]"].map(|text| Template::parse(text).unwrap());
    let house = House { join: paths(&["t"]), done: Some("[END]".into()), end: end.to_vec(), ..House::default() };
    let rules = described(house);
    let ending = Ending { reason: EndReason::Blocked, code: "C", message: "no \"way\"", request_id: "1" };
    let expected = [r#"{"type": "error", "why": "no \"way\""}"#, "[END]"];
    for (format, frames) in [
        (StreamFormat::Events, expected.map(|text| format!("data: {text}\n\n")).concat()),
        (StreamFormat::Lines, expected.map(|text| format!("{text}\n")).concat()),
    ] {
        let scanner = StreamScanner::new(rules.clone(), format, None);
        assert_eq!(scanner.end(&ending).map(String::from_utf8), Some(Ok(frames)));
    }
    // Its own last event ends the texts: what waited leaves at once, and nothing may follow.
    let begun = event(json!({"t": "a <scr"}));
    let mut scanner = StreamScanner::new(rules, StreamFormat::Events, None);
    let mut out = Vec::new();
    scanner.feed(begun.as_bytes(), &mut out);
    assert!(out.is_empty());
    scanner.feed(b"data: [END]\n\n", &mut out);
    assert_eq!(String::from_utf8_lossy(&out), format!("{begun}data: [END]\n\n"));
    scanner.feed(begun.as_bytes(), &mut out);
    assert!(matches!(scanner.stop(), Some(StreamStop::Unscannable(_))));
}
