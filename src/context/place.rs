//! Finding a place in a document while it passes.
//!
//! Enters: what the lexer says of the document. Leaves: where the value is that a pointer names, and the certainty that
//! no other member could be taken for it.

use std::fmt;

use crate::scan::text::json::Container;

/// A JSON Pointer (RFC 6901) to something inside of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    steps: Vec<Step>,
}

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: Box<[u8]>,
    /// What readers that ignore case take the name for.
    folded: Box<[u8]>,
    /// Where the step leads in an array.
    index: Option<u64>,
}

/// Why a text is no pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerError;

impl fmt::Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no JSON pointer to a member: expected one such as `/prompt` or `/input/0/text`")
    }
}

impl Pointer {
    /// Reads a pointer of at least one step.
    ///
    /// # Errors
    /// If it does not begin with `/`, or has a `~` that is neither `~0` nor `~1`.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        let steps = text.strip_prefix('/').ok_or(PointerError)?.split('/').map(Step::parse);
        Ok(Self { text: text.into(), steps: steps.collect::<Result<_, _>>()? })
    }

    /// To a member of the outermost object.
    pub(super) fn member(name: &str) -> Self {
        Self { text: name.into(), steps: vec![Step::new(name)] }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Step {
    fn parse(text: &str) -> Result<Self, PointerError> {
        let mut rest = text;
        while let Some(at) = rest.find('~') {
            if !rest[at..].starts_with("~0") && !rest[at..].starts_with("~1") {
                return Err(PointerError);
            }
            rest = &rest[at + 2..];
        }
        Ok(Self::new(&text.replace("~1", "/").replace("~0", "~")))
    }

    fn new(name: &str) -> Self {
        let is_index = name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
        let index = if is_index { name.parse().ok() } else { None };
        Self { name: name.as_bytes().into(), folded: folded(name.as_bytes()).into(), index }
    }
}

/// ASCII letters in lower case, and so the two other characters that Unicode folds to ASCII: some readers compare
/// member names like that.
fn folded(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix("ſ".as_bytes()) {
            folded.push(b's');
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("\u{212a}".as_bytes()) {
            folded.push(b'k');
            rest = behind;
        } else {
            folded.push(byte.to_ascii_lowercase());
            rest = behind;
        }
    }
    folded
}

/// Two members could be taken for the one that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    Twice,
    OtherCase,
}

/// Where in the document a value stands that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is the one that the pointer names.
    Target,
    /// It contains that one, if it is a container.
    OnTheWay,
    Elsewhere,
}

/// Follows a document along a pointer. Keeps one entry per step, however deep the document is.
#[derive(Debug)]
pub(super) struct Tracker {
    pointer: Pointer,
    /// Open containers.
    depth: usize,
    /// The outermost of them, as far as they lie on the way.
    way: Vec<Level>,
    /// The key that is being read, as far as it could be one that matters.
    key: Vec<u8>,
    key_overflows: bool,
}

#[derive(Debug)]
struct Level {
    container: Container,
    /// Values that have begun in an array.
    begun: u64,
    /// Whether the step's own member was seen in an object.
    seen: bool,
    /// Whether the value that comes next is that member's.
    next: bool,
    empty: bool,
}

impl Tracker {
    pub(super) fn new(pointer: Pointer) -> Self {
        Self { pointer, depth: 0, way: Vec::new(), key: Vec::new(), key_overflows: false }
    }

    pub(super) fn pointer(&self) -> &Pointer {
        &self.pointer
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the innermost container lies on the way, so that its members matter.
    fn is_on_the_way(&self) -> bool {
        self.depth > 0 && self.way.len() == self.depth
    }

    /// Whether the innermost container is the outermost object, and whether it has no member yet.
    pub(super) fn outermost_object(&self) -> Option<bool> {
        let [level] = &self.way[..] else { return None };
        (self.depth == 1 && level.container == Container::Object).then_some(level.empty)
    }

    pub(super) fn key_begins(&mut self) {
        self.key.clear();
        self.key_overflows = false;
        if self.is_on_the_way()
            && let Some(level) = self.way.last_mut()
        {
            level.empty = false;
        }
    }

    pub(super) fn key_goes_on(&mut self, text: &[u8]) {
        /// A folded character is at most three bytes for one.
        const WIDEST: usize = 3;
        if !self.is_on_the_way() {
            return;
        }
        let longest = self.step().map_or(0, |step| step.name.len() * WIDEST);
        if self.key.len() + text.len() > longest {
            self.key_overflows = true;
        } else {
            self.key.extend_from_slice(text);
        }
    }

    pub(super) fn key_ends(&mut self) -> Result<(), Doubt> {
        if !self.is_on_the_way() {
            return Ok(());
        }
        let Some(step) = self.step() else { return Ok(()) };
        let is_same = !self.key_overflows && *self.key == *step.name;
        let is_similar = !self.key_overflows && folded(&self.key) == *step.folded;
        let Some(level) = self.way.last_mut() else { return Ok(()) };
        level.next = is_same;
        if is_same {
            if std::mem::replace(&mut level.seen, true) { Err(Doubt::Twice) } else { Ok(()) }
        } else if is_similar {
            Err(Doubt::OtherCase)
        } else {
            Ok(())
        }
    }

    /// A value begins; a container is then told by [`Tracker::open`] too.
    pub(super) fn value(&mut self) -> Found {
        if self.depth == 0 {
            return Found::OnTheWay;
        }
        if !self.is_on_the_way() {
            return Found::Elsewhere;
        }
        let index = self.step().and_then(|step| step.index);
        let is_last = self.depth == self.pointer.steps.len();
        let Some(level) = self.way.last_mut() else { return Found::Elsewhere };
        let is_next = match level.container {
            Container::Object => std::mem::take(&mut level.next),
            Container::Array => {
                level.begun += 1;
                index == Some(level.begun - 1)
            }
        };
        match (is_next, is_last) {
            (false, _) => Found::Elsewhere,
            (true, true) => Found::Target,
            (true, false) => Found::OnTheWay,
        }
    }

    /// The value that began is a container.
    pub(super) fn open(&mut self, container: Container, found: Found) {
        self.depth += 1;
        if found == Found::OnTheWay {
            self.way.push(Level { container, begun: 0, seen: false, next: false, empty: true });
        }
    }

    pub(super) fn close(&mut self) {
        if self.way.len() == self.depth {
            self.way.pop();
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// The step that leads on from the innermost container.
    fn step(&self) -> Option<&Step> {
        self.pointer.steps.get(self.way.len().checked_sub(1)?)
    }
}
