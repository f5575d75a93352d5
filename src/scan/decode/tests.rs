use proptest::prelude::*;

use super::*;
use crate::scan::testing::{
    config,
    encoder::{ALL, Encoder, brotli, zstd_with},
};

fn decoder(names: &[u8], limit: Limit) -> Decoder {
    let codings = Codings::parse([names]).expect("known codings");
    Decoder::new(codings, limit).expect("a coding")
}

/// Feeds one piece and returns what comes of it.
fn feed(decoder: &mut Decoder, mut piece: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    loop {
        let before = out.len();
        let fed = decoder.feed(&mut piece, &mut out)?;
        assert!(out.len() - before <= STEP);
        if fed == Fed::Hungry {
            assert!(piece.is_empty());
            return Ok(out);
        }
    }
}

fn decode(names: &[u8], body: &[u8], chunk: usize, limit: Limit) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = decoder(names, limit);
    let mut out = Vec::new();
    for piece in body.chunks(chunk) {
        out.extend(feed(&mut decoder, piece)?);
    }
    decoder.finish()?;
    Ok(out)
}

fn is_broken(result: &Result<Vec<u8>, DecodeError>) -> bool {
    matches!(result, Err(DecodeError::Undecodable(_)))
}

/// About 50 KB that compress somewhat.
fn text() -> Vec<u8> {
    (0..4000_u32).flat_map(|number| format!("{} line\n", number.wrapping_mul(2_654_435_761)).into_bytes()).collect()
}

#[test]
fn every_coding_and_every_pair_in_chunks_of_any_size() {
    let text = text();
    for encoder in ALL {
        let once = encoder.encode(&text);
        for chunk in [1, 2, 7, 4096, usize::MAX] {
            let decoded = decode(encoder.name(), &once, chunk, Limit::Ratio);
            assert!(decoded.as_ref() == Ok(&text), "{encoder:?} in chunks of {chunk}");
        }
        for outer in ALL {
            let twice = outer.encode(&once);
            let names = [encoder.name(), b", ", outer.name()].concat();
            for chunk in [1, 2, 7, 4096, usize::MAX] {
                let decoded = decode(&names, &twice, chunk, Limit::Ratio);
                assert!(decoded.as_ref() == Ok(&text), "{encoder:?} in {outer:?} in chunks of {chunk}");
            }
        }
    }
}

#[test]
fn each_flushed_event_leaves_before_the_next_one_comes() {
    let events: Vec<Vec<u8>> = (0..50)
        .map(|n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"tok{n}\"}}}}]}}\n\n").into_bytes())
        .collect();
    let events: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
    for encoder in ALL {
        let pieces = encoder.pieces(&events);
        let mut once = decoder(encoder.name(), Limit::Ratio);
        for (piece, event) in pieces.iter().zip(&events) {
            assert_eq!(feed(&mut once, piece).as_deref(), Ok(*event), "{encoder:?}");
        }
        assert_eq!(feed(&mut once, &pieces[events.len()]).as_deref(), Ok(&b""[..]), "{encoder:?}");
        assert_eq!(once.finish(), Ok(()), "{encoder:?}");
        for outer in ALL {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let mut twice = decoder(&[encoder.name(), b",", outer.name()].concat(), Limit::Ratio);
            for (piece, event) in outer.pieces(&pieces).iter().zip(&events) {
                assert_eq!(feed(&mut twice, piece).as_deref(), Ok(*event), "{encoder:?} in {outer:?}");
            }
        }
    }
}

#[test]
fn a_flushed_event_of_several_steps_leaves_whole() {
    let text = text();
    assert!(text.len() > 3 * STEP);
    for encoder in ALL {
        let pieces = encoder.pieces(&[&text, b"more"]);
        let mut decoder = decoder(encoder.name(), Limit::Ratio);
        assert!(feed(&mut decoder, &pieces[0]).as_ref() == Ok(&text), "{encoder:?}");
    }
}

#[test]
fn a_body_that_breaks_off_anywhere_is_noticed() {
    for encoder in ALL {
        let body = encoder.encode(b"a small body, a small body");
        assert_eq!(decode(encoder.name(), b"", 1, Limit::Ratio), Ok(Vec::new()));
        for length in 1..body.len() {
            assert!(is_broken(&decode(encoder.name(), &body[..length], 4096, Limit::Ratio)), "{encoder:?} {length}");
        }
        for outer in ALL {
            let twice = outer.encode(&body);
            let names = [encoder.name(), b",", outer.name()].concat();
            for length in 1..twice.len() {
                assert!(
                    is_broken(&decode(&names, &twice[..length], 3, Limit::Ratio)),
                    "{encoder:?} {outer:?} {length}"
                );
            }
            // The outer coding is whole, and what is in it is not.
            let cut = outer.encode(&body[..body.len() - 1]);
            assert!(is_broken(&decode(&names, &cut, 4096, Limit::Ratio)), "{encoder:?} in {outer:?}");
        }
    }
}

#[test]
fn members_and_frames_are_one_text_and_nothing_else_may_follow() {
    for encoder in [Encoder::Gzip, Encoder::Zstd] {
        let body = [encoder.encode(b"java"), encoder.encode(b""), encoder.encode(b"script:")].concat();
        for chunk in [1, 2, 7, 4096] {
            let decoded = decode(encoder.name(), &body, chunk, Limit::Ratio);
            assert_eq!(decoded.as_deref(), Ok(&b"javascript:"[..]), "{encoder:?}");
        }
    }
    for encoder in ALL {
        for garbage in [&b"\0"[..], b"x", b"\0\0\0\0\0\0\0\0\0\0\0\0", b"javascript:alert(1)", b"\x1F\x8B\x08"] {
            let body = [&encoder.encode(b"text")[..], garbage].concat();
            for chunk in [1, 4096] {
                assert!(is_broken(&decode(encoder.name(), &body, chunk, Limit::Ratio)), "{encoder:?} {garbage:?}");
            }
        }
    }
    for encoder in [Encoder::Zlib, Encoder::Raw, Encoder::Brotli] {
        let body = encoder.encode(b"text").repeat(2);
        assert!(is_broken(&decode(encoder.name(), &body, 4096, Limit::Ratio)), "{encoder:?} has one stream");
    }
    // A skippable frame (RFC 8878 §3.1.2) holds no text.
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &Encoder::Zstd.encode(b"text")].concat();
    assert_eq!(decode(b"zstd", &skippable, 1, Limit::Ratio).as_deref(), Ok(&b"text"[..]));
}

#[test]
fn gzip_headers_with_every_field() {
    let deflated = Encoder::Raw.encode(b"text");
    let mut header = vec![0x1F, 0x8B, 8, 0b1_1111, 1, 2, 3, 4, 0, 255, 3, 0, b'a', 0, b'c'];
    header.extend(b"name\0comment\0");
    let checksum = (crc32fast::hash(&header) & 0xFFFF) as u16;
    let trailer = [crc32fast::hash(b"text").to_le_bytes(), 4_u32.to_le_bytes()].concat();
    let body = [&header[..], &checksum.to_le_bytes(), &deflated, &trailer].concat();
    for chunk in [1, 2, 4096] {
        assert_eq!(decode(b"x-gzip", &body, chunk, Limit::Ratio).as_deref(), Ok(&b"text"[..]));
    }
    // Each of these bytes is checked: magic, method, reserved flags, the checksums and the length.
    for (at, flip) in [(0, 1), (1, 1), (2, 1), (3, 0x20), (3, 0x80), (header.len(), 1), (header.len() + 1, 1)] {
        let mut bad = body.clone();
        bad[at] ^= flip;
        assert!(is_broken(&decode(b"gzip", &bad, 4096, Limit::Ratio)), "{at}");
    }
    for at in body.len() - 8..body.len() {
        let mut bad = body.clone();
        bad[at] ^= 1;
        assert!(is_broken(&decode(b"gzip", &bad, 4096, Limit::Ratio)), "{at}");
    }
    // An extra field of no bytes, and no other field.
    let body = [&[0x1F, 0x8B, 8, HAS_EXTRA, 0, 0, 0, 0, 0, 255, 0, 0][..], &deflated, &trailer].concat();
    assert_eq!(decode(b"gzip", &body, 1, Limit::Ratio).as_deref(), Ok(&b"text"[..]));
}

const HAS_EXTRA: u8 = 4;

#[test]
fn checksums_of_the_other_codings() {
    let mut zlib = Encoder::Zlib.encode(b"text");
    *zlib.last_mut().expect("a byte") ^= 1;
    assert!(is_broken(&decode(b"deflate", &zlib, 4096, Limit::Ratio)));
    // A zlib header that asks for a dictionary (RFC 1950 §2.2).
    assert!(is_broken(&decode(b"deflate", &[0x78, 0xBB, 1, 2, 3, 4, 3, 0], 4096, Limit::Ratio)));
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let mut zstd = zstd_with(context, &[b"text"]).concat();
    assert_eq!(decode(b"zstd", &zstd, 1, Limit::Ratio).as_deref(), Ok(&b"text"[..]));
    *zstd.last_mut().expect("a byte") ^= 1;
    assert!(is_broken(&decode(b"zstd", &zstd, 4096, Limit::Ratio)));
}

/// Found by fuzzing: whether the library compared the length depended on how the body was cut.
#[test]
fn zstd_frames_keep_to_the_length_that_they_declare() {
    let frame = |declared: u8, blocks: &[u8]| [&[0x28, 0xB5, 0x2F, 0xFD, 0x20, declared], blocks].concat();
    let (empty, text) = ([1, 0, 0], [&[4 << 3 | 1, 0, 0][..], b"text"].concat());
    let whole = frame(4, &text);
    for chunk in [1, 2, 7, 4096] {
        let decoded = |body: &[u8]| decode(b"zstd", body, chunk, Limit::Ratio);
        assert_eq!(decoded(&whole).as_deref(), Ok(&b"text"[..]));
        assert_eq!(decoded(&frame(0, &empty)).as_deref(), Ok(&b""[..]));
        for bad in [frame(67, &empty), frame(5, &text), frame(3, &text), [whole.clone(), frame(67, &empty)].concat()] {
            assert!(is_broken(&decoded(&bad)), "{bad:?} in chunks of {chunk}");
        }
    }
}

#[test]
fn windows_over_eight_mebibytes_are_refused() {
    let text = text();
    assert!(decode(b"br", &brotli(&[&text], 23).concat(), 4096, Limit::Ratio).is_ok());
    assert!(is_broken(&decode(b"br", &brotli(&[&text], 24).concat(), 4096, Limit::Ratio)));
    for (log, fits) in [(23, true), (24, false)] {
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::WindowLog(log)).unwrap();
        let body = zstd_with(context, &[&text]).concat();
        assert_eq!(decode(b"zstd", &body, 4096, Limit::Ratio).is_ok(), fits, "{log}");
    }
}

#[test]
fn bombs_end_at_their_limit() {
    let zeros = vec![0_u8; 3 << 20];
    for encoder in ALL {
        let bomb = encoder.encode(&zeros);
        let mut by_ratio = decoder(encoder.name(), Limit::Ratio);
        let (mut input, mut out) = (&bomb[..], Vec::new());
        let error = loop {
            match by_ratio.feed(&mut input, &mut out) {
                Ok(Fed::Full) => {}
                Ok(Fed::Hungry) => panic!("{encoder:?}: a bomb went off"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DecodeError::Undecodable(why) if why.contains("200 times")), "{encoder:?}: {error:?}");
        assert!((RATIO_FROM as usize - STEP..=RATIO_FROM as usize + STEP).contains(&out.len()), "{encoder:?}");
        // As one body, its length is what counts, at every stage.
        let total = |limit| decode(encoder.name(), &bomb, 4096, Limit::Total(limit));
        assert_eq!(total(3 << 20).map(|decoded| decoded.len()), Ok(3 << 20), "{encoder:?}");
        assert_eq!(total((3 << 20) - 1), Err(DecodeError::TooLarge), "{encoder:?}");
        // Less than a mebibyte is no bomb.
        assert!(decode(encoder.name(), &encoder.encode(&zeros[..1 << 20]), 4096, Limit::Ratio).is_ok(), "{encoder:?}");
    }
    // Empty members decode to nothing at all, but the coding around them is bounded too.
    let nothing = Encoder::Gzip.encode(b"").repeat(100_000);
    let bomb = Encoder::Brotli.encode(&nothing);
    assert!(is_broken(&decode(b"gzip, br", &bomb, 4096, Limit::Ratio)));
    assert_eq!(decode(b"gzip, br", &bomb, 4096, Limit::Total(1 << 20)), Err(DecodeError::TooLarge));
}

#[test]
fn memory_is_what_the_windows_are() {
    let text: Vec<u8> = std::iter::repeat_with(text).take(100).flatten().collect();
    for (names, body, least, most) in [
        (&b"gzip"[..], Encoder::Gzip.encode(&text), 32 << 10, 64 << 10),
        (b"deflate", Encoder::Raw.encode(&text), 32 << 10, 64 << 10),
        (b"br", brotli(&[&text], 22).concat(), 4 << 20, 5 << 20),
        (b"zstd", Encoder::Zstd.encode(&text), 2 << 20, 3 << 20),
    ] {
        let mut decoder = decoder(names, Limit::Total(u64::MAX));
        assert!(decoder.memory() < 256 << 10, "{names:?} at the start");
        feed(&mut decoder, &body).expect("a body");
        assert!((least..most).contains(&decoder.memory()), "{names:?}: {}", decoder.memory());
    }
}

/// A decoder meets anything at all without a panic, and what it says does not depend on the cuts.
fn anything(names: &[u8], body: &[u8], chunk: usize) {
    let whole = decode(names, body, usize::MAX, Limit::Total(1 << 20));
    let cut = decode(names, body, chunk, Limit::Total(1 << 20));
    assert_eq!(whole.is_ok(), cut.is_ok());
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!(whole, cut);
    }
}

#[test]
fn what_was_whole_leaves_before_the_error() {
    for encoder in ALL {
        let body = [&encoder.encode(b"whole")[..], b"and more"].concat();
        let mut decoder = decoder(encoder.name(), Limit::Ratio);
        let (mut input, mut out) = (&body[..], Vec::new());
        assert_eq!(decoder.feed(&mut input, &mut out), Ok(Fed::Full), "{encoder:?}");
        assert_eq!(out, b"whole", "{encoder:?}");
        for _ in 0..2 {
            assert!(matches!(decoder.feed(&mut input, &mut out), Err(DecodeError::Undecodable(_))), "{encoder:?}");
        }
        for outer in ALL {
            let body = [&outer.encode(&encoder.encode(b"whole"))[..], b"and more"].concat();
            let mut decoder = self::decoder(&[encoder.name(), b",", outer.name()].concat(), Limit::Ratio);
            let (mut input, mut out) = (&body[..], Vec::new());
            while decoder.feed(&mut input, &mut out).is_ok() {}
            assert_eq!(out, b"whole", "{encoder:?} in {outer:?}");
        }
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn decoding_undoes_encoding_however_it_is_cut(
        text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000),
            proptest::collection::vec(0_u8..3, 0..60_000),
        ],
        encoder in 0..ALL.len(),
        outer in proptest::option::of(0..ALL.len()),
        flush in 1_usize..5000,
        sizes in proptest::collection::vec(1_usize..5000, 1..20),
    ) {
        let events: Vec<&[u8]> = text.chunks(flush).collect();
        let mut body = ALL[encoder].pieces(&events).concat();
        let mut names = ALL[encoder].name().to_vec();
        if let Some(outer) = outer {
            body = ALL[outer].encode(&body);
            names.extend([b",", ALL[outer].name()].concat());
        }
        let mut decoder = decoder(&names, Limit::Total(1 << 20));
        let (mut rest, mut out) = (&body[..], Vec::new());
        for size in sizes.iter().cycle() {
            let (piece, more) = rest.split_at((*size).min(rest.len()));
            out.extend(feed(&mut decoder, piece).expect("a whole body"));
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decoder.finish(), Ok(()));
        prop_assert!(out == text);
    }

    #[test]
    fn damage_and_noise_are_errors_or_text_but_never_a_panic(
        mut body in proptest::collection::vec(any::<u8>(), 0..400),
        encoder in 0..ALL.len(),
        noise in any::<bool>(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        chunk in 1_usize..40,
    ) {
        if !noise {
            body = ALL[encoder].encode(&body);
            let at = at.index(body.len());
            body[at] ^= flip;
        }
        anything(ALL[encoder].name(), &body, chunk);
    }
}
