//! The splitter against a reader that has the whole stream.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::scan::testing::{chunks, config, cuts};

/// Splits a stream that arrives in `chunks`.
fn split<'a>(framing: Framing, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut splitter = Splitter::new(framing);
    let mut frames: Vec<Frame> = Vec::new();
    for mut chunk in chunks {
        while let Some(split) = splitter.next(&mut chunk) {
            match split {
                Split::Frame => frames.push(splitter.frame().clone()),
                Split::LineFeed => frames.last_mut().expect("a frame before").raw.push(b'\n'),
            }
        }
    }
    if splitter.finish() {
        frames.push(splitter.frame().clone());
    }
    frames
}

fn data(frame: &Frame) -> Option<String> {
    let lines: Vec<_> = frame.data.iter().map(|range| String::from_utf8_lossy(&frame.raw[range.clone()])).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn all_data(framing: Framing, stream: &str) -> Vec<String> {
    split(framing, [stream.as_bytes()]).iter().filter_map(data).collect()
}

/// What the standard says a reader gets, read from the whole, with the last event taken though unterminated.
fn reference(stream: &str) -> Vec<String> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut data: Vec<&str> = Vec::new();
    for line in lines.split('\n') {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if line.is_empty() && !data.is_empty() {
            events.push(std::mem::take(&mut data).join("\n"));
        } else if name == "data" {
            data.push(value.strip_prefix(' ').unwrap_or(value));
        }
    }
    if !data.is_empty() {
        events.push(data.join("\n"));
    }
    events
}

#[test]
fn every_way_to_write_an_event() {
    for (stream, expected) in [
        ("data: a\n\n", &["a"][..]),
        ("data: a\r\n\r\ndata:b\r\r", &["a", "b"]),
        ("\u{feff}data: a\n\ndata: b\n\n", &["a", "b"]),
        ("data: \u{feff}\n\n\u{feff}data: b\n\n", &["\u{feff}"]),
        ("data: a\ndata:  b\ndata\n\n", &["a\n b\n"]),
        ("event: x\nid: 1\ndata: a\nretry: 5\n: why\n\n", &["a"]),
        (": ping\n\n:\n\ndata: a\n\n", &["a"]),
        ("dat: a\nData: b\ndata : c\n\n", &[]),
        ("data: a", &["a"]),
        ("data: a\n", &["a"]),
        ("data", &[""]),
        ("\n\n\r\n", &[]),
    ] {
        assert_eq!(all_data(Framing::Events, stream), expected, "{stream:?}");
        assert_eq!(reference(stream), expected, "{stream:?}");
    }
}

#[test]
fn a_comment_between_events_does_not_wait() {
    let mut splitter = Splitter::new(Framing::Events);
    let mut bytes = &b": ping\ndata: a\n: inside\n"[..];
    assert_eq!(splitter.next(&mut bytes), Some(Split::Frame));
    assert_eq!(splitter.frame().raw, b": ping\n");
    assert_eq!((splitter.next(&mut bytes), splitter.pending()), (None, "data: a\n: inside\n".len()));
}

#[test]
fn other_lines_are_kept_apart() {
    let frames = split(Framing::Events, [&b"\xEF\xBB\xBFevent: x\r\ndata: a\r\n:c\r\n\r\n"[..]]);
    let rest: Vec<_> = frames[0].rest.iter().map(|range| &frames[0].raw[range.clone()]).collect();
    assert_eq!(rest, [&b"event: x"[..], b":c"]);
}

#[test]
fn every_way_to_write_a_line() {
    for (stream, expected) in [
        ("{}\n[1]\r\n", &["{}", "[1]"][..]),
        ("\n \r\n{}", &["{}"]),
        ("\u{1e}{}\n\u{1e}[]\n", &["{}", "[]"]),
        ("\u{feff}{}\n", &["{}"]),
        ("{}\r{}\n", &["{}\r{}"]),
    ] {
        assert_eq!(all_data(Framing::Lines, stream), expected, "{stream:?}");
    }
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn frames_are_those_of_the_standard_however_the_stream_is_cut(
        pieces in proptest::collection::vec(
            select(vec!["data: ", "data:", "data", ": x", "event: e", "\n", "\r", "\r\n", "\n\n", "a", " ", "\u{feff}", ":"]),
            0..16,
        ),
        cuts in cuts(),
    ) {
        let stream = pieces.concat();
        for framing in [Framing::Events, Framing::Lines] {
            let whole = split(framing, [stream.as_bytes()]);
            let raw: Vec<u8> = whole.iter().flat_map(|frame| frame.raw.clone()).collect();
            prop_assert_eq!(&raw, stream.as_bytes());
            prop_assert_eq!(split(framing, chunks(stream.as_bytes(), &cuts)), whole);
        }
        prop_assert_eq!(all_data(Framing::Events, &stream), reference(&stream));
    }
}
