//! What clients and services encode with.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use zstd_safe::{CCtx, InBuffer, OutBuffer};

/// The codings that Keyward knows.
pub const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// Encodes a body as a whole.
pub fn encode(coding: &str, text: impl AsRef<[u8]>) -> Vec<u8> {
    encode_events(coding, &[text.as_ref()]).concat()
}

/// Encodes `events`, each flushed, so that a reader can have it before the next; the last piece ends the coding.
pub fn encode_events(coding: &str, events: &[impl AsRef<[u8]>]) -> Vec<Vec<u8>> {
    match coding {
        "gzip" => {
            let encoder = GzEncoder::new(Vec::new(), Compression::default());
            flushed(encoder, events, GzEncoder::get_ref, |encoder| encoder.finish().expect("memory"))
        }
        "deflate" => {
            let encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            flushed(encoder, events, ZlibEncoder::get_ref, |encoder| encoder.finish().expect("memory"))
        }
        "br" => {
            let encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            flushed(encoder, events, |encoder| encoder.get_ref(), |encoder| encoder.into_inner())
        }
        "zstd" => zstd(events),
        other => panic!("no encoder for {other}"),
    }
}

fn flushed<W: Write>(
    mut encoder: W,
    events: &[impl AsRef<[u8]>],
    so_far: impl Fn(&W) -> &Vec<u8>,
    finish: impl FnOnce(W) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut length = 0;
    for event in events {
        encoder.write_all(event.as_ref()).expect("memory");
        encoder.flush().expect("memory");
        pieces.push(so_far(&encoder)[length..].to_vec());
        length = so_far(&encoder).len();
    }
    pieces.push(finish(encoder)[length..].to_vec());
    pieces
}

fn zstd(events: &[impl AsRef<[u8]>]) -> Vec<Vec<u8>> {
    let mut context = CCtx::create();
    // More than any test's event takes.
    let mut buffer = vec![0; 1 << 20];
    let mut pieces = Vec::new();
    for event in events {
        let mut out = OutBuffer::around(&mut buffer[..]);
        let mut input = InBuffer::around(event.as_ref());
        while input.pos() < event.as_ref().len() {
            context.compress_stream(&mut out, &mut input).expect("room");
        }
        while context.flush_stream(&mut out).expect("room") > 0 {}
        pieces.push(out.as_slice().to_vec());
    }
    let mut out = OutBuffer::around(&mut buffer[..]);
    while context.end_stream(&mut out).expect("room") > 0 {}
    pieces.push(out.as_slice().to_vec());
    pieces
}
