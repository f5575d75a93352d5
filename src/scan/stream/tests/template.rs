//! Frames that are read as the frame before with other values, against the same frames read one by one.

use super::*;
use crate::scan::testing::{Random, SETS, prove};

/// What frames are made of: `…` is a string, `#` a number, `~` either or something else, the same in most frames.
const SHAPES: [&str; 12] = [
    r#"{"id":"…","created":#,"choices":[{"index":0,"delta":{"content":"…"},"finish_reason":~}],"obfuscation":"…"}"#,
    r#"{"id":"…","choices":[{"index":#,"delta":{"content":"…","type":"…","thought":"…"}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":#,"id":"…","function":{"arguments":"…"}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"…"}],"usage":{"total":#,"details":[#,"…"]}}"#,
    r#"{"choices":[{"index":0,"logprobs":{"content":[{"token":"…","bytes":[#,81,#]}]},"delta":{"content":"…"}}]}"#,
    r#"{"type":"response.output_text.delta","item_id":"…","sequence_number":#,"output_index":#,"delta":"…"}"#,
    r#"{"type":"response.output_text.~","output_index":0,"sequence_number":#,"delta":"…","text":"…"}"#,
    r#"{"type":"content_block_delta","index":#,"delta":{"type":"text_delta","text":"…"}}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"…","thought":~}]}}],"modelVersion":"…","n":#}"#,
    r#"{"model":"…","created_at":"…","message":{"role":"assistant","content":"…"},"done":~}"#,
    r#"{"…":"…","a":{"text":"…"},"v":#,"type":"…"}"#,
    r#"["…",{"text":"…"},#,~]"#,
];

/// What stands for each mark: mostly what stood there before.
fn value(random: &mut Random, mark: char) -> &'static str {
    let values: &[&str] = match mark {
        '…' => {
            &["a", "", "Q", "X", "Z", "QXZ", "é", "\\n", "\\u0051", "sk-Q", " word", "1", "delta", "stop", "\\ud83d"]
        }
        '#' => &["0", "1", "2", "17", "1.5", "-3", "01", "1e3", "null", ""],
        _ => &["null", "\"\"", "\"stop\"", "true", "done", "delta", "{}"],
    };
    values[random.below(values.len())]
}

fn stream(random: &mut Random, size: usize) -> String {
    let mut stream = String::new();
    let mut shape = SHAPES[random.below(SHAPES.len())];
    let mut values: Vec<&str> = Vec::new();
    for _ in 0..=size {
        if random.once_in(8) {
            shape = SHAPES[random.below(SHAPES.len())];
            values.clear();
        }
        let mut at = 0;
        let mut frame = String::new();
        for character in shape.chars() {
            if !matches!(character, '…' | '#' | '~') {
                frame.push(character);
                continue;
            }
            let usual = match character {
                '…' => ["a", "word", "Q"][at % 3],
                '#' => "1",
                _ => "null",
            };
            if values.len() == at {
                values.push(usual);
            }
            // Most numbers and texts change into others of their kind.
            let seldom = if character == '~' { 9 } else { 3 };
            if random.once_in(seldom) {
                values[at] = value(random, character);
            }
            frame.push_str(values[at]);
            // What breaks a frame does so once.
            if matches!(values[at], "01" | "") || character == '~' {
                values[at] = usual;
            }
            at += 1;
        }
        let spaces = if random.once_in(9) { "  " } else { " " };
        stream.push_str(&format!("data:{spaces}{frame}\n\n"));
        if random.once_in(40) {
            stream.push_str("data: [DONE]\n\n");
        }
    }
    stream
}

#[test]
fn a_frame_like_the_one_before_is_read_as_any_other() {
    let (mut again, mut seen) = (0, 0);
    prove(
        20_000,
        24,
        |random, size| (stream(random, size), random.next()),
        |(stream, choice)| {
            let mut choice = Random::new(*choice);
            let action = *choice.pick(&[Action::Block, Action::Redact, Action::Observe]);
            let declared = *choice.pick(&[None, Some(Vendor::OpenAi), Some(Vendor::Anthropic)]);
            let mut rules = choice.pick(&SETS[..]).asked(action);
            rules.max_chars = choice.once_in(4).then_some(20);
            let new = || StreamScanner::new(rules.clone(), StreamFormat::Events, declared);
            // Where places are asked for, every frame is read.
            let (mut fast, mut slow) = (new(), new().with_places());
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            for frame in stream.split_inclusive("\n\n") {
                fast.feed(frame.as_bytes(), &mut out);
                slow.feed(frame.as_bytes(), &mut expected);
                seen += 1;
                let told = |scanner: &StreamScanner| {
                    let ending = Ending { reason: EndReason::Blocked, code: "c", message: "m", request_id: "r" };
                    let state = (scanner.stop(), scanner.hits(), scanner.chars(), scanner.unread());
                    (state, scanner.withheld(), scanner.held(), scanner.end(&ending))
                };
                if told(&fast) != told(&slow) || out != expected {
                    return Err(format!("{:?}\nis not\n{:?}\nbehind {frame}", told(&fast), told(&slow)));
                }
                if fast.stop().is_some() {
                    break;
                }
            }
            if let Wire::Frames(frames) = &fast.wire {
                again += frames.again;
            }
            fast.finish(&mut out);
            slow.finish(&mut expected);
            if out == expected && fast.stop() == slow.stop() { Ok(()) } else { Err("they end differently".into()) }
        },
    );
    eprintln!("{again} of {seen} frames were read as the one before");
    assert!(again * 20 > seen, "{again} of {seen}: this tests nothing");
}

#[test]
fn bytes_that_are_no_characters_are_no_value_of_a_frame_like_the_one_before() {
    let frame = |text: &[u8], note: &[u8]| [b"data: {\"text\":\"", text, b"\",\"note\":\"", note, b"\"}\n\n"].concat();
    for (text, note) in [(&b"c\xFF"[..], &b"c"[..]), (b"c", b"\xC3")] {
        let clean = [frame(b"a", b"a"), frame(b"b", b"b")].concat();
        let stream = [&clean[..], &frame(text, note)].concat();
        let (out, stop, _) = scan(&html(Action::Block), StreamFormat::Events, stream.chunks(7));
        assert!(matches!(stop, Some(StreamStop::Unscannable(_))), "{stop:?}");
        assert_eq!(out, clean, "what is no JSON does not leave");
    }
}
