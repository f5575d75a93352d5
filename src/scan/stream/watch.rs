//! A JSON document that is only observed: it is read as it passes, whatever its length, and waits for nothing.

use super::super::{
    RuleSet,
    text::{
        json::{Lexer, Role, Run, Sink},
        utf16_len,
    },
    view::Counter,
};
use super::{StreamRules, StreamStop, Tally};

const NO_JSON: StreamStop = StreamStop::Unscannable("the body is not the JSON that it is said to be");

/// Reads one document.
pub(super) struct Watch {
    lexer: Lexer,
    strings: Strings,
}

struct Strings {
    /// `None` where there are no rules.
    scanner: Option<Counter>,
    role: Role,
    /// UTF-16 units of all values so far.
    units: u64,
}

impl Watch {
    pub(super) fn new(rules: &StreamRules) -> Self {
        let scanner = (!rules.rules.is_empty()).then(|| Counter::new(rules.rules.to_block()));
        Self { lexer: Lexer::new(), strings: Strings { scanner, role: Role::Value, units: 0 } }
    }

    pub(super) fn feed(&mut self, rules: &StreamRules, bytes: &[u8], tally: &mut Tally) -> Result<(), StreamStop> {
        let mut reader = Reader { strings: &mut self.strings, rules: &rules.rules };
        let read = self.lexer.feed(bytes, &mut reader);
        tally.released = self.strings.units;
        read.map_err(|_| {
            tally.unread.unscannable += bytes.len() as u64;
            NO_JSON
        })
    }

    pub(super) fn finish(&mut self) -> Result<(), StreamStop> {
        self.lexer.finish().map_err(|_| NO_JSON)
    }

    pub(super) fn observed(&self) -> &[u64] {
        self.strings.scanner.as_ref().map_or(&[], Counter::counts)
    }
}

struct Reader<'a> {
    strings: &'a mut Strings,
    rules: &'a RuleSet,
}

impl Sink for Reader<'_> {
    fn begin(&mut self, role: Role, _: u64) {
        self.strings.role = role;
        if let Some(scanner) = &mut self.strings.scanner {
            scanner.next_text(self.rules.to_block());
        }
    }

    fn run(&mut self, run: Run<'_>) {
        if self.strings.role == Role::Value {
            self.strings.units += utf16_len(run.text);
        }
        if let Some(scanner) = &mut self.strings.scanner {
            scanner.feed(self.rules.to_block(), run.text);
        }
    }

    fn end(&mut self, _: u64) {
        if let Some(scanner) = &mut self.strings.scanner {
            scanner.finish(self.rules.to_block());
        }
    }
}
