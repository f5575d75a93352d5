//! Multipart bodies: their parts, and verdicts on them.

use std::ops::Range;

use keyward::scan::TextFormat;
use keyward::scan::text::multipart::{Boundary, Head, MultipartError, Sink, Splitter};

use crate::body;
use crate::input::Input;

const BOUNDARIES: [&[u8]; 4] = [b"b", b"AaB03x", b"--a--a", b"- -"];

#[derive(Debug, Default, PartialEq)]
struct Log {
    outside: Vec<Range<u64>>,
    /// Each head, and where its part begins and ends.
    parts: Vec<(Vec<u8>, u64, u64)>,
    head: Option<(Vec<u8>, u64)>,
}

impl Sink for Log {
    fn outside(&mut self, raw: Range<u64>) {
        match self.outside.last_mut() {
            Some(last) if last.end == raw.start => last.end = raw.end,
            _ => self.outside.push(raw),
        }
    }

    fn head(&mut self, head: &[u8], body: u64) {
        let open = self.head.replace((head.to_vec(), body));
        assert_eq!(open, None, "a part begins within another");
        // Whatever it says, it is read without a panic.
        let _ = Head::parse(head);
    }

    fn end(&mut self, raw: u64) {
        let (head, body) = self.head.take().expect("a part that has begun");
        self.parts.push((head, body, raw));
    }
}

fn split(boundary: &Boundary, chunks: &[&[u8]]) -> (Result<(), MultipartError>, Log) {
    let (mut splitter, mut log) = (Splitter::new(boundary), Log::default());
    let fed = chunks.iter().try_for_each(|chunk| splitter.feed(chunk, &mut log));
    let result = fed.and_then(|()| splitter.finish(&mut log));
    (result, log)
}

pub fn check(input: &Input<'_>) {
    let boundary = Boundary::new(input.pick::<&[u8]>(0, &BOUNDARIES)).expect("a boundary");
    let (whole, log) = split(&boundary, &[input.body]);
    let (cut, cut_log) = split(&boundary, &input.chunks());
    assert_eq!(whole, cut, "cuts make no difference");
    assert_eq!(log.parts, cut_log.parts, "cuts make no difference");
    let delimiter = boundary.delimiter();
    let mut at = 0;
    for (_, body, end) in &log.parts {
        assert!(at <= *body && body <= end && *end <= input.body.len() as u64, "{log:?}");
        at = *end;
        let part = &input.body[*body as usize..*end as usize];
        assert!(!part.windows(delimiter.len()).any(|window| window == delimiter), "a delimiter in a part");
    }
    if whole.is_ok() {
        assert_eq!(log, cut_log, "cuts make no difference");
        assert_eq!(log.head, None, "every part ends");
    }
    body::verdicts(input, TextFormat::Multipart(boundary));
}
