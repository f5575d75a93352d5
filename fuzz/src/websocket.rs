//! Frames of a WebSocket. Their reader is no part of the library's interface, so that it is compiled into this package.

#[allow(dead_code, reason = "what writes frames is not read here")]
#[rustfmt::skip]
#[path = "../../src/pipeline/websocket/frame.rs"]
mod frame;
#[path = "../../src/pipeline/websocket/utf8.rs"]
mod utf8;

use frame::{Control, Decoder, Event, Terms, Violation};
use keyward::scan::MessageKind;

use crate::input::Input;

const MAX: u64 = 4096;

#[derive(Debug, PartialEq)]
enum Seen {
    Begin(u8, MessageKind, u64),
    Data(Vec<u8>),
    End(bool),
    Control(Control, Vec<u8>),
}

fn read(terms: Terms, chunks: &[&[u8]]) -> (Result<(), Violation>, Vec<Seen>) {
    let mut decoder = Decoder::new(terms);
    let mut all: Vec<Seen> = Vec::new();
    let result = chunks.iter().try_for_each(|chunk| {
        decoder.feed(&mut chunk.to_vec(), &mut |event| match (event, all.last_mut()) {
            (Event::Data(data), Some(Seen::Data(last))) => last.extend_from_slice(data),
            (Event::Data(data), _) => all.push(Seen::Data(data.to_vec())),
            (Event::Begin { first, kind, length }, _) => all.push(Seen::Begin(first, kind, length)),
            (Event::End { message }, _) => all.push(Seen::End(message)),
            (Event::Control(control, payload), _) => all.push(Seen::Control(control, payload.to_vec())),
        })
    });
    (result, all)
}

pub fn check(input: &Input<'_>) {
    let masked = *input.pick(0, &[true, false]);
    let extended = *input.pick(1, &[false, true]);
    let terms = Terms { masked, extended, max: MAX };
    let (whole, all) = read(terms, &[input.body]);
    let (cut, cut_all) = read(terms, &input.chunks());
    assert_eq!(whole, cut, "cuts make no difference");
    match whole {
        // How much of a text comes before the error depends on the cuts: none of it has to.
        Err(Violation::NotText) => {}
        _ => assert_eq!(all, cut_all, "cuts make no difference"),
    }
    let (mut message, mut kind, mut left, mut text) = (0, None, 0, Vec::new());
    for seen in &all {
        match seen {
            Seen::Begin(_, of, length) => {
                assert!(kind.is_none_or(|kind| kind == *of), "a message has one kind");
                (kind, left) = (Some(*of), *length);
                message += length;
                assert!(message <= MAX, "a message of {message} bytes");
            }
            Seen::Data(data) => {
                left = left.checked_sub(data.len() as u64).expect("no more than was announced");
                text.extend_from_slice(data);
            }
            Seen::End(ends) => {
                assert_eq!(left, 0, "a frame is whole");
                if *ends {
                    let is_text = kind == Some(MessageKind::Text) && !extended;
                    assert!(!is_text || std::str::from_utf8(&text).is_ok(), "a text is UTF-8");
                    (message, kind) = (0, None);
                    text.clear();
                }
            }
            Seen::Control(_, payload) => assert!(payload.len() <= 125, "a control frame is short"),
        }
    }
}
