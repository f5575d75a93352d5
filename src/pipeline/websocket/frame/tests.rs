//! Frames cut everywhere, and frames that must not be.

use proptest::prelude::*;

use super::*;

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Begin(u8, MessageKind),
    Data(Vec<u8>),
    End(bool),
    Control(Control, Vec<u8>),
}

const CLIENT: Terms = Terms { masked: true, extended: false, max: 1 << 20 };
const SERVICE: Terms = Terms { masked: false, ..CLIENT };

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_head(&mut out, first, payload.len() as u64, mask);
    let at = out.len();
    out.put_slice(payload);
    apply_mask(&mut out[at..], mask.unwrap_or_default(), 0);
    out.to_vec()
}

/// What is read of chunks; data of one frame is joined, so that it does not depend on them.
fn read<'a>(terms: Terms, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, Result<(), Violation>) {
    let mut decoder = Decoder::new(terms);
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let fed = decoder.feed(&mut chunk, &mut |event| match event {
            Event::Begin { first, kind, .. } => seen.push(Seen::Begin(first, kind)),
            Event::Data(data) => match seen.last_mut() {
                Some(Seen::Data(before)) => before.extend_from_slice(data),
                _ => seen.push(Seen::Data(data.to_vec())),
            },
            Event::End { message } => seen.push(Seen::End(message)),
            Event::Control(control, payload) => seen.push(Seen::Control(control, payload.to_vec())),
        });
        if fed.is_err() {
            return (seen, fed);
        }
    }
    (seen, Ok(()))
}

#[test]
fn cut_at_every_byte_the_frames_are_the_same() {
    let mask = Some([1, 2, 3, 4]);
    let stream = [
        frame(0x81, "hé 😀".as_bytes(), mask),
        frame(0x02, &[0xFF; 130], mask),
        frame(0x89, b"ping", mask),
        frame(0x00, &[], mask),
        frame(0x80, &[7; 70_000], mask),
        frame(0x01, &"😀".as_bytes()[..3], mask),
        frame(0x8A, b"", mask),
        frame(0x80, &"😀".as_bytes()[3..], mask),
        frame(0x88, b"\x0f\xa1bye", mask),
        frame(0x81, b"nothing counts any more", mask),
    ]
    .concat();
    let whole = read(CLIENT, [&stream[..]]);
    let expected = [
        Seen::Begin(0x81, MessageKind::Text),
        Seen::Data("hé 😀".into()),
        Seen::End(true),
        Seen::Begin(0x02, MessageKind::Binary),
        Seen::Data(vec![0xFF; 130]),
        Seen::End(false),
        Seen::Control(Control::Ping, b"ping".to_vec()),
        Seen::Begin(0x00, MessageKind::Binary),
        Seen::End(false),
        Seen::Begin(0x80, MessageKind::Binary),
        Seen::Data(vec![7; 70_000]),
        Seen::End(true),
        Seen::Begin(0x01, MessageKind::Text),
        Seen::Data("😀".as_bytes()[..3].to_vec()),
        Seen::End(false),
        Seen::Control(Control::Pong, Vec::new()),
        Seen::Begin(0x80, MessageKind::Text),
        Seen::Data("😀".as_bytes()[3..].to_vec()),
        Seen::End(true),
        Seen::Control(Control::Close, b"\x0f\xa1bye".to_vec()),
    ];
    assert_eq!(whole, (expected.to_vec(), Ok(())));
    assert_eq!(read(CLIENT, stream.chunks(1)), whole);
    let middle = 300..stream.len() - 300;
    for cut in (0..stream.len()).filter(|cut| !middle.contains(cut)) {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(read(CLIENT, [head, tail]), whole, "cut at {cut}");
    }
}

#[test]
fn what_the_protocol_forbids_is_told_by_its_code() {
    let text = |payload: &[u8]| frame(0x81, payload, None);
    for (what, bytes, code) in [
        ("a reserved bit", frame(0xC1, b"x", None), 1002),
        ("a reserved opcode", frame(0x83, b"x", None), 1002),
        ("a reserved control opcode", frame(0x8B, b"x", None), 1002),
        ("a masked frame of a service", frame(0x81, b"x", Some([1; 4])), 1002),
        ("a continuation of nothing", frame(0x80, b"x", None), 1002),
        ("a message within a message", [frame(0x01, b"x", None), text(b"y")].concat(), 1002),
        ("a fragmented ping", frame(0x09, b"x", None), 1002),
        ("a long ping", frame(0x89, &[0; 126], None), 1002),
        ("a length in too many bytes", vec![0x81, 126, 0, 125], 1002),
        ("a length in far too many bytes", vec![0x81, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], 1002),
        ("a negative length", vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("half a close code", frame(0x88, &[3], None), 1002),
        ("close code 999", frame(0x88, &999_u16.to_be_bytes(), None), 1002),
        ("close code 1004", frame(0x88, &1004_u16.to_be_bytes(), None), 1002),
        ("close code 1005", frame(0x88, &1005_u16.to_be_bytes(), None), 1002),
        ("close code 1006", frame(0x88, &1006_u16.to_be_bytes(), None), 1002),
        ("close code 1015", frame(0x88, &1015_u16.to_be_bytes(), None), 1002),
        ("close code 2999", frame(0x88, &2999_u16.to_be_bytes(), None), 1002),
        ("close code 5000", frame(0x88, &5000_u16.to_be_bytes(), None), 1002),
        ("a close reason that is no text", frame(0x88, b"\x03\xe8\xff", None), 1007),
        ("a text that is none", text(b"\xff"), 1007),
        ("a surrogate", text(b"\xed\xa0\x80"), 1007),
        ("a text that ends within a character", text(b"\xf0\x9f\x98"), 1007),
        ("a fragment that ends so", [frame(0x01, b"\xf0\x9f", None), frame(0x80, b"x", None)].concat(), 1007),
        ("a long message", vec![0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1], 1009),
        ("a long message in pieces", [frame(0x02, &[0; 1 << 20], None), frame(0x80, b"x", None)].concat(), 1009),
    ] {
        let (_, result) = read(SERVICE, bytes.chunks(1));
        assert_eq!(result.map_err(Violation::code), Err(code), "{what}");
        assert_eq!(read(SERVICE, [&bytes[..]]).1, result, "{what}");
    }
    assert_eq!(read(CLIENT, [&text(b"x")[..]]).1, Err(Violation::Protocol("a frame is not masked")));
}

#[test]
fn an_extension_may_use_its_bits_and_transform_text() {
    let extended = Terms { extended: true, ..SERVICE };
    assert_eq!(read(extended, [&frame(0xC1, b"\xff", None)[..]]).1, Ok(()));
    assert!(read(extended, [&frame(0xC9, b"", None)[..]]).1.is_err(), "control frames have none");
    assert_eq!(read(extended, [&frame(0x81, b"\xff", None)[..]]).1, Err(Violation::NotText), "what it left alone");
}

proptest! {
    /// Nothing panics, and what is made of bytes does not depend on their chunks.
    #[test]
    fn any_bytes_in_any_chunks(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200, masked: bool) {
        let terms = Terms { masked, ..CLIENT };
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(read(terms, [head, tail]), read(terms, bytes.chunks(1)));
    }

    #[test]
    fn a_mask_undoes_itself_from_any_phase(bytes in prop::collection::vec(any::<u8>(), 0..40), mask: [u8; 4], cut in 0_usize..40) {
        let mut masked = bytes.clone();
        apply_mask(&mut masked, mask, 0);
        let cut = cut.min(bytes.len());
        let phase = apply_mask(&mut masked[..cut], mask, 0);
        apply_mask(&mut masked[cut..], mask, phase);
        prop_assert_eq!(masked, bytes);
    }
}
