//! Where rules match in a body, for people.
//!
//! A body that [`inspect`](super::inspect) found something in enters once more; the places of what it found leave.
//! This reading is apart from the verdict's own, so that a request never pays for it.

use super::{
    Inspection, is_json,
    ranges::{Range, complement, subtract},
};
use crate::scan::{
    block::Hit,
    body::TextFormat,
    places::Places,
    rule::Action,
    text::{
        json::{self, Container, Lexer, Role, Run, Sink},
        query,
    },
    view::{Blocker, Counter, Readings, Replacer},
};

/// Adds where the rules match in `body` to `places`: under [`Action::Block`] the match that decides, else all that
/// the action replaces or counts, in offsets of the decoded text that they stand in. What
/// [`Action::Sanitize`] removes around an earlier removal has the offsets of all that is gone.
///
/// Channels are paths (`messages[0].content`), `names` for the members' names, and `text` for a body that is one.
pub fn locate(body: &[u8], format: TextFormat, what: &Inspection<'_>, places: &mut Places) {
    if what.rules.is_empty() {
        return;
    }
    let mut finder = Finder { what, places, decided: false };
    let before = finder.places.total();
    if format == TextFormat::Form {
        query::texts(body, |_, text| finder.named("field", Role::Value, text));
    }
    if format == TextFormat::Json || is_json(body) {
        let mut walk = Walk { finder: &mut finder, text: Vec::new(), role: Role::Value, path: Vec::new() };
        // What was found before a mistake is shown all the same.
        let _ = Lexer::new().feed(body, &mut walk);
    }
    if format == TextFormat::Text && finder.places.total() == before {
        finder.named("text", Role::Value, body);
        if finder.places.total() == before {
            finder.named("text, unescaped", Role::Value, &json::unescaped(body));
        }
    }
}

struct Finder<'a> {
    what: &'a Inspection<'a>,
    places: &'a mut Places,
    /// Nothing that follows could change the verdict.
    decided: bool,
}

impl Finder<'_> {
    fn named(&mut self, name: &str, role: Role, text: &[u8]) {
        if !self.decided {
            self.places.enter(|channel| channel.push_str(name));
            self.text(role, text);
        }
    }

    /// Adds the matches in one text.
    fn text(&mut self, role: Role, text: &[u8]) {
        let readings = self.what.rules.to_block();
        match self.what.action {
            Action::Observe => {
                let mut scanner = Counter::new(readings);
                scanner.feed_each(readings, text, |hit| self.places.add(hit));
                scanner.finish_each(readings, |hit| self.places.add(hit));
            }
            Action::Redact if role == Role::Value => {
                for hit in matches(self.what.rules.to_redact(), [text]) {
                    self.places.add(hit);
                }
            }
            Action::Sanitize if role == Role::Value => self.sanitized(text),
            // A name is never rewritten.
            Action::Block | Action::Redact | Action::Sanitize => {
                let mut scanner = Blocker::new(readings, u64::MAX);
                scanner.feed(readings, text);
                scanner.finish(readings);
                if let Some(hit) = scanner.hit() {
                    self.places.add(hit);
                    self.decided = true;
                }
            }
        }
    }

    /// Each rule in turn, in what the rules before it left.
    fn sanitized(&mut self, text: &[u8]) {
        let whole = 0..text.len();
        let mut kept: Vec<Range> = vec![whole];
        for (rule, readings) in self.what.rules.to_sanitize().enumerate() {
            let hits = matches(readings, kept.iter().map(|range| &text[range.clone()]));
            let cuts: Vec<Range> = hits.iter().map(|hit| hit.start as usize..hit.end as usize).collect();
            for cut in &cuts {
                let (start, last) = (offset(&kept, cut.start), offset(&kept, cut.end - 1));
                self.places.add(Hit { rule, start: start as u64, end: last as u64 + 1 });
            }
            let gone = complement(&subtract(&kept, &cuts), text.len());
            kept = complement(&gone, text.len());
        }
    }
}

/// Where the byte stands that has `at` kept bytes before it.
fn offset(kept: &[Range], mut at: usize) -> usize {
    for range in kept {
        if at < range.len() {
            return range.start + at;
        }
        at -= range.len();
    }
    // Only reached for an offset behind the text, which no byte of a match has.
    kept.last().map_or(0, |range| range.end)
}

/// What `replace_all` would replace in the text that the pieces make.
fn matches<'t>(readings: Readings<'_>, pieces: impl IntoIterator<Item = &'t [u8]>) -> Vec<Hit> {
    let mut scanner = Replacer::new(readings, None);
    for piece in pieces {
        scanner.feed(readings, piece);
    }
    scanner.finish(readings);
    std::iter::from_fn(|| scanner.next_match()).collect()
}

/// Follows where in a document its strings stand.
struct Walk<'a, 'b> {
    finder: &'a mut Finder<'b>,
    text: Vec<u8>,
    role: Role,
    path: Vec<Step>,
}

enum Step {
    /// In an object: the name of the member.
    Member(Vec<u8>),
    /// In an array: how many elements have begun.
    Element(usize),
}

impl Walk<'_, '_> {
    fn value_begins(&mut self) {
        if let Some(Step::Element(count)) = self.path.last_mut() {
            *count += 1;
        }
    }

    fn write_path(path: &[Step], name: &mut String) {
        for step in path {
            match step {
                Step::Member(member) => {
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&String::from_utf8_lossy(member));
                }
                Step::Element(count) => name.push_str(&format!("[{}]", count.saturating_sub(1))),
            }
        }
    }
}

impl Sink for Walk<'_, '_> {
    fn open(&mut self, container: Container) {
        self.value_begins();
        self.path.push(match container {
            Container::Object => Step::Member(Vec::new()),
            Container::Array => Step::Element(0),
        });
    }

    fn close(&mut self) {
        self.path.pop();
    }

    fn scalar(&mut self, _: u64) {
        self.value_begins();
    }

    fn begin(&mut self, role: Role, _: u64) {
        self.role = role;
        self.text.clear();
        if role == Role::Value {
            self.value_begins();
        }
    }

    fn run(&mut self, run: Run<'_>) {
        self.text.extend_from_slice(run.text);
    }

    fn end(&mut self, _: u64) {
        let text = std::mem::take(&mut self.text);
        if !self.finder.decided {
            let path = &self.path;
            self.finder.places.enter(|name| match self.role {
                Role::Key => name.push_str("names"),
                Role::Value => Self::write_path(path, name),
            });
            self.finder.text(self.role, &text);
        }
        self.text = text;
        if let (Role::Key, Some(Step::Member(name))) = (self.role, self.path.last_mut()) {
            name.clone_from(&self.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Verdict, inspect};
    use super::*;
    use crate::scan::{Rule, RuleSet, preset};

    fn found(body: &str, format: TextFormat, rules: Vec<Rule>, action: Action) -> Vec<(usize, u64, u64, String)> {
        let rules = RuleSet::compile(rules).unwrap();
        let what = Inspection {
            rules: &rules,
            action,
            max_chars: None,
            max_body_chars: None,
            binary_parts: crate::scan::BinaryParts::Pass,
        };
        let report = inspect(&Bytes::copy_from_slice(body.as_bytes()), format, &what);
        assert_ne!(report.verdict, Verdict::Clean);
        let mut places = Places::default();
        locate(body.as_bytes(), format, &what, &mut places);
        let counted = report.hits.iter().map(|hit| hit.count).sum::<u64>();
        // What blocks is counted in every text that was read by then, and shown once.
        assert!(places.total() == counted || report.verdict == Verdict::Blocked, "{places:?} {report:?}");
        places.list().iter().map(|p| (p.rule, p.start, p.end, p.channel.to_string())).collect()
    }

    #[test]
    fn offsets_are_those_of_the_decoded_text() {
        let rules = || vec![Rule::new("x", "x+"), Rule::new("y", "y")];
        let body = r#"{"n":1,"a":[{"b":"é\u0041x"},"yxx"],"c":"clean"}"#;
        let all = [(0, 3, 4, "a[0].b".to_owned()), (1, 0, 1, "a[1]".to_owned()), (0, 1, 3, "a[1]".to_owned())];
        assert_eq!(found(body, TextFormat::Json, rules(), Action::Redact), all);
        assert_eq!(found(body, TextFormat::Json, rules(), Action::Block), all[..1]);
        assert_eq!(found(body, TextFormat::Text, rules(), Action::Redact), all, "a text that is a document");
        let name = [(0, 1, 2, "names".to_owned())];
        assert_eq!(found(r#"{"ax":"ax"}"#, TextFormat::Json, rules(), Action::Redact), name);
    }

    #[test]
    fn what_an_earlier_rule_uncovers_is_found_around_it() {
        let places =
            found("jav<script></script>ascript:!", TextFormat::Text, preset("seed").unwrap(), Action::Sanitize);
        assert_eq!(places, [(0, 3, 20, "text".to_owned()), (1, 0, 28, "text".to_owned())]);
    }
}
