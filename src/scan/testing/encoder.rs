//! The content codings as clients and services apply them.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use zstd_safe::{InBuffer, OutBuffer};

/// What encodes: the codings, and the two shapes of `deflate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    Gzip,
    Zlib,
    Raw,
    Brotli,
    Zstd,
}

/// All of them.
pub const ALL: [Encoder; 5] = [Encoder::Gzip, Encoder::Zlib, Encoder::Raw, Encoder::Brotli, Encoder::Zstd];

impl Encoder {
    /// As `Content-Encoding` has it.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Gzip => b"gzip",
            Self::Zlib | Self::Raw => b"deflate",
            Self::Brotli => b"br",
            Self::Zstd => b"zstd",
        }
    }

    /// Encodes `events`, each flushed; the last piece is the end of the coding alone.
    pub fn pieces(self, events: &[&[u8]]) -> Vec<Vec<u8>> {
        match self {
            Self::Brotli => brotli(events, 20),
            _ => self.with(events, Compression::default(), 3),
        }
    }

    /// The same with the least effort and memory: most of the time that a small text takes is spent on making an encoder.
    pub fn light_pieces(self, events: &[&[u8]]) -> Vec<Vec<u8>> {
        match self {
            Self::Brotli => brotli_with(events, 0, 10),
            _ => self.with(events, Compression::fast(), -5),
        }
    }

    fn with(self, events: &[&[u8]], level: Compression, zstd: i32) -> Vec<Vec<u8>> {
        match self {
            Self::Gzip => {
                flushed(GzEncoder::new(Vec::new(), level), events, GzEncoder::get_ref, |e| e.finish().unwrap())
            }
            Self::Zlib => {
                flushed(ZlibEncoder::new(Vec::new(), level), events, ZlibEncoder::get_ref, |e| e.finish().unwrap())
            }
            Self::Raw => flushed(DeflateEncoder::new(Vec::new(), level), events, DeflateEncoder::get_ref, |e| {
                e.finish().unwrap()
            }),
            Self::Brotli => brotli(events, 20),
            Self::Zstd => {
                let mut context = zstd_safe::CCtx::create();
                context.init(zstd).unwrap();
                zstd_with(context, events)
            }
        }
    }

    /// Encodes a text that nobody waits for.
    pub fn encode(self, text: &[u8]) -> Vec<u8> {
        self.pieces(&[text]).concat()
    }
}

fn flushed<W: Write>(
    mut encoder: W,
    events: &[&[u8]],
    so_far: impl Fn(&W) -> &Vec<u8>,
    finish: impl FnOnce(W) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut length = 0;
    for event in events {
        encoder.write_all(event).unwrap();
        encoder.flush().unwrap();
        pieces.push(so_far(&encoder)[length..].to_vec());
        length = so_far(&encoder).len();
    }
    pieces.push(finish(encoder)[length..].to_vec());
    pieces
}

/// Encodes for a window of so many bits.
pub fn brotli(events: &[&[u8]], window: u32) -> Vec<Vec<u8>> {
    brotli_with(events, 5, window)
}

fn brotli_with(events: &[&[u8]], quality: u32, window: u32) -> Vec<Vec<u8>> {
    let encoder = ::brotli::CompressorWriter::new(Vec::new(), 4096, quality, window);
    flushed(encoder, events, |encoder| encoder.get_ref(), |encoder| encoder.into_inner())
}

/// Encodes as `context` says.
pub fn zstd_with(mut context: zstd_safe::CCtx<'_>, events: &[&[u8]]) -> Vec<Vec<u8>> {
    let longest = events.iter().map(|event| event.len()).max().unwrap_or(0);
    let mut buffer = vec![0; zstd_safe::compress_bound(longest) + 1024];
    let mut pieces = Vec::new();
    for event in events {
        let mut out = OutBuffer::around(&mut buffer[..]);
        let mut input = InBuffer::around(event);
        while input.pos() < event.len() {
            context.compress_stream(&mut out, &mut input).unwrap();
        }
        while context.flush_stream(&mut out).unwrap() > 0 {}
        pieces.push(out.as_slice().to_vec());
    }
    let mut out = OutBuffer::around(&mut buffer[..]);
    while context.end_stream(&mut out).unwrap() > 0 {}
    pieces.push(out.as_slice().to_vec());
    pieces
}
