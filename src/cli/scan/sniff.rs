//! How the input is written, told by how it begins.
//!
//! | it begins with (white space and a byte order mark aside) | format |
//! |---|---|
//! | `data:`, `event:`, `id:`, `retry:` or `:` | server-sent events |
//! | a line that is a JSON object or array, and more behind it | NDJSON |
//! | `{` or `[` otherwise | JSON |
//! | anything else | text |

use std::io;

use super::{Chunks, Format};
use crate::scan::text::json::{Lexer, Role, Run, Sink};

/// The most that is read before it is decided. A first line of JSON beyond it makes a document.
const ENOUGH: usize = 64 << 10;

const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// Reads into `begun` what it takes to tell the format.
pub(super) fn sniff(chunks: &mut Chunks<'_>, begun: &mut Vec<u8>) -> io::Result<Format> {
    let mut chunk = Vec::new();
    loop {
        if let Some(format) = told(begun, begun.len() >= ENOUGH) {
            return Ok(format);
        }
        if !chunks.next(&mut chunk)? {
            return Ok(told(begun, true).unwrap_or(Format::Text));
        }
        begun.extend_from_slice(&chunk);
    }
}

/// The format, if it can be told. `enough`: nothing more is going to help.
fn told(begun: &[u8], enough: bool) -> Option<Format> {
    const BOM: &[u8] = b"\xEF\xBB\xBF";
    if BOM.starts_with(begun) && !enough {
        return None;
    }
    let text = begun.strip_prefix(BOM).unwrap_or(begun).trim_ascii_start();
    match text.first() {
        None => enough.then_some(Format::Text),
        Some(b'{' | b'[') => json(text, enough),
        Some(_) if FIELDS.iter().any(|field| text.starts_with(field)) => Some(Format::Sse),
        Some(_) if FIELDS.iter().any(|field| field.starts_with(text)) && !enough => None,
        Some(_) => Some(Format::Text),
    }
}

fn json(text: &[u8], enough: bool) -> Option<Format> {
    let Some(end) = memchr::memchr(b'\n', text) else { return enough.then_some(Format::Json) };
    let mut lexer = Lexer::new();
    let is_whole = lexer.feed(&text[..end], &mut Nothing).and_then(|()| lexer.finish()).is_ok();
    match is_whole {
        false => Some(Format::Json),
        true if !text[end..].trim_ascii().is_empty() => Some(Format::Ndjson),
        // A document and a line feed, so far.
        true => enough.then_some(Format::Json),
    }
}

struct Nothing;

impl Sink for Nothing {
    fn begin(&mut self, _: Role, _: u64) {}
    fn run(&mut self, _: Run<'_>) {}
    fn end(&mut self, _: u64) {}
}
