//! Events and lines, against the frames as the standards read them.

use keyward::scan::text::sse::{Framing, Split, Splitter};

use crate::input::Input;

/// A frame with its data, or a line feed that belongs to the frame before.
type Piece = (Vec<u8>, Vec<Vec<u8>>);

fn split(framing: Framing, chunks: &[&[u8]]) -> Vec<Piece> {
    let mut splitter = Splitter::new(framing);
    let mut pieces = Vec::new();
    let frame = |splitter: &Splitter| {
        let frame = splitter.frame();
        let mut end = 0;
        for range in &frame.data {
            assert!(end <= range.start && range.end <= frame.raw.len(), "{frame:?}");
            end = range.end;
        }
        for range in &frame.rest {
            assert!(range.end <= frame.raw.len(), "{frame:?}");
            assert!(frame.data.iter().all(|data| data.end <= range.start || range.end <= data.start), "{frame:?}");
        }
        (frame.raw.clone(), frame.data.iter().map(|range| frame.raw[range.clone()].to_vec()).collect())
    };
    for chunk in chunks {
        let mut rest = *chunk;
        while let Some(split) = splitter.next(&mut rest) {
            pieces.push(match split {
                Split::Frame => frame(&splitter),
                Split::LineFeed => (b"\n".to_vec(), Vec::new()),
            });
        }
        assert!(rest.is_empty(), "all of a chunk is read");
    }
    if splitter.finish() {
        pieces.push(frame(&splitter));
    }
    pieces
}

/// The data of each event, as "Parsing an event stream" of the HTML standard says, but of an event that the stream ends
/// in too.
fn events(stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut events, mut data) = (Vec::new(), Vec::new());
    let mut rest = stream.strip_prefix("\u{feff}".as_bytes()).unwrap_or(stream);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        rest = behind.strip_prefix(b"\r\n").or(behind.get(1..)).unwrap_or_default();
        if line.is_empty() {
            events.push(std::mem::take(&mut data));
        } else if let Some(value) = line.strip_prefix(b"data:") {
            data.push(value.strip_prefix(b" ").unwrap_or(value).to_vec());
        } else if line == b"data" {
            data.push(Vec::new());
        }
    }
    events.push(data);
    events.retain(|data| !data.is_empty());
    events
}

/// The document of each line that has one.
fn lines(stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let stream = stream.strip_prefix("\u{feff}".as_bytes()).unwrap_or(stream);
    let documents = stream.split(|byte| *byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.strip_prefix(b"\x1e").unwrap_or(line)
    });
    documents.filter(|line| !line.trim_ascii().is_empty()).map(|line| vec![line.to_vec()]).collect()
}

pub fn check(input: &Input<'_>) {
    let framing = *input.pick(0, &[Framing::Events, Framing::Lines]);
    let whole = split(framing, &[input.body]);
    assert_eq!(whole, split(framing, &input.chunks()), "cuts make no difference");
    let raw: Vec<u8> = whole.iter().flat_map(|(raw, _)| raw.clone()).collect();
    assert_eq!(raw, input.body, "frames are the stream");
    let data: Vec<_> = whole.into_iter().map(|(_, data)| data).filter(|data| !data.is_empty()).collect();
    let expected = match framing {
        Framing::Events => events(input.body),
        Framing::Lines => lines(input.body),
    };
    assert_eq!(data, expected, "the data of the frames");
}
