//! Carrying a body through, with one insertion.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::place::{Doubt, Found, Pointer, Tracker};
use super::spec::{Context, Format, Owner, quoted};
use crate::scan::block::BlockScanner;
use crate::scan::text::json::{Container, JsonError, Lexer, Role, Run, Sink};

/// What becomes of a text that imitates the owner line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imitation {
    /// It is refused.
    Refused,
    /// It is counted.
    Observed,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpliceError {
    /// It is not JSON.
    Json(JsonError),
    /// The place for the context is not there.
    Missing(Pointer),
    /// Readers could disagree about which member it is.
    Twice(Pointer),
    OtherCase(Pointer),
    /// What stands there has no place for it: the pointer, and what was expected.
    WrongType(Pointer, &'static str),
    /// A text imitates the owner line: the index of the rule that found it.
    Imitation(usize),
}

impl fmt::Display for SpliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "{error}"),
            Self::Missing(at) => write!(f, "`{at}` is missing"),
            Self::Twice(at) => write!(f, "`{at}` is there twice"),
            Self::OtherCase(at) => write!(f, "`{at}` is there in another case"),
            Self::WrongType(at, expected) => write!(f, "`{at}` must be {expected}"),
            Self::Imitation(_) => f.write_str("a text imitates the owner line"),
        }
    }
}

/// What is inserted, ready to be written.
#[derive(Debug)]
enum Plan {
    /// As the first element of an array.
    First { element: String },
    /// At the beginning of a text; as a member if there is none.
    Beginning { text: String },
    /// As the first element of an array that a text becomes the second of; as a member if there is none.
    FirstBlock { block: String },
    /// Around a text.
    Around { before: String, behind: String },
}

impl Plan {
    fn expected(&self) -> &'static str {
        match self {
            Self::First { .. } => "an array",
            Self::Beginning { .. } | Self::Around { .. } => "a string",
            Self::FirstBlock { .. } => "a string or an array",
        }
    }
}

/// How far the insertion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Searching,
    /// Inside of the array, whose elements are at this depth.
    AtFirst(usize),
    /// Inside of the text; something follows when it ends.
    InText,
    Done,
}

/// Carries one body. Feed it the bytes, then finish it; nothing is kept but what the lexer needs.
pub struct Splicer {
    lexer: Lexer,
    finder: Finder,
    /// Bytes fed so far.
    fed: u64,
}

impl fmt::Debug for Splicer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splicer").field("finder", &self.finder.progress).field("fed", &self.fed).finish_non_exhaustive()
    }
}

impl Splicer {
    /// `headers` are those of the request, for the values that come from there.
    pub fn new(context: &Arc<Context>, owner: Owner<'_>, headers: &HeaderMap, imitation: Imitation) -> Self {
        let (before, behind) = context.template.fill(owner, &context.values(headers));
        let inner = |text: &str| {
            let quoted = quoted(text);
            quoted[1..quoted.len() - 1].to_owned()
        };
        let (pointer, plan) = match &context.format {
            Format::OpenAi => {
                let element = format!(r#"{{"role":"system","content":{}}}"#, quoted(&before));
                (Pointer::member("messages"), Plan::First { element })
            }
            Format::Responses => (Pointer::member("instructions"), Plan::Beginning { text: inner(&before) }),
            Format::Anthropic => {
                let block = format!(r#"{{"type":"text","text":{}}}"#, quoted(&before));
                (Pointer::member("system"), Plan::FirstBlock { block })
            }
            Format::Json(pointer) => (pointer.clone(), Plan::Around { before: inner(&before), behind: inner(&behind) }),
        };
        let program = context.imitations.block();
        Self {
            lexer: Lexer::new(),
            finder: Finder {
                tracker: Tracker::new(pointer),
                plan,
                progress: Progress::Searching,
                structure: 0,
                role: Role::Value,
                insertions: Vec::new(),
                // Only the verdict is asked for, so that nothing is withheld and nothing needs a cap.
                scanner: BlockScanner::new(program, u64::MAX),
                context: Arc::clone(context),
                imitation,
                imitations: 0,
                error: None,
            },
            fed: 0,
        }
    }

    /// Takes the next bytes and appends what leaves.
    ///
    /// # Errors
    /// If the body is refused. Every later call is then meaningless.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut VecDeque<Bytes>) -> Result<(), SpliceError> {
        let fed = self.lexer.feed(chunk, &mut self.finder);
        // What was found first is told: the lexer goes on to the end of the chunk.
        if let Some(error) = self.finder.error.take() {
            return Err(error);
        }
        fed.map_err(SpliceError::Json)?;
        let mut copied = 0;
        for (at, text) in self.finder.insertions.drain(..) {
            // An insertion stands at a byte of this chunk, or right behind one.
            let at = usize::try_from(at.saturating_sub(self.fed)).unwrap_or(usize::MAX).clamp(copied, chunk.len());
            push(out, chunk.slice(copied..at));
            push(out, text);
            copied = at;
        }
        push(out, chunk.slice(copied..));
        self.fed += chunk.len() as u64;
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// If it was not complete, or had no place for the context.
    pub fn finish(&mut self) -> Result<(), SpliceError> {
        self.lexer.finish().map_err(SpliceError::Json)?;
        match self.finder.progress {
            Progress::Done => Ok(()),
            _ => Err(SpliceError::Missing(self.finder.tracker.pointer().clone())),
        }
    }

    /// Texts that imitate the owner line, where those are only observed.
    pub fn imitations(&self) -> u64 {
        self.finder.imitations
    }

    /// Carries a body that is there as a whole.
    ///
    /// # Errors
    /// As [`Splicer::feed`] and [`Splicer::finish`].
    pub fn whole(&mut self, body: &Bytes) -> Result<Bytes, SpliceError> {
        let mut pieces = VecDeque::new();
        self.feed(body, &mut pieces)?;
        self.finish()?;
        let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        for piece in pieces {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

fn push(out: &mut VecDeque<Bytes>, piece: Bytes) {
    if !piece.is_empty() {
        out.push_back(piece);
    }
}

/// Listens to the lexer, and notes what is to be inserted where.
struct Finder {
    tracker: Tracker,
    plan: Plan,
    progress: Progress,
    /// Where the last byte of the structure stands.
    structure: u64,
    role: Role,
    insertions: Vec<(u64, Bytes)>,
    scanner: BlockScanner,
    context: Arc<Context>,
    imitation: Imitation,
    imitations: u64,
    error: Option<SpliceError>,
}

impl Finder {
    fn fail(&mut self, error: SpliceError) {
        self.error.get_or_insert(error);
    }

    fn insert(&mut self, at: u64, text: String, progress: Progress) {
        self.insertions.push((at, Bytes::from(text)));
        self.progress = progress;
    }

    fn doubt(&mut self, doubt: Doubt) {
        let pointer = self.tracker.pointer().clone();
        self.fail(match doubt {
            Doubt::Twice => SpliceError::Twice(pointer),
            Doubt::OtherCase => SpliceError::OtherCase(pointer),
        });
    }

    fn wrong_type(&mut self) {
        let (pointer, expected) = (self.tracker.pointer().clone(), self.plan.expected());
        self.fail(SpliceError::WrongType(pointer, expected));
    }

    /// Something begins at `raw`; if it is the first element of the array, the insertion goes before it.
    fn before_element(&mut self, raw: u64) {
        if self.progress == Progress::AtFirst(self.tracker.depth())
            && let Plan::First { element } | Plan::FirstBlock { block: element } = &self.plan
        {
            let text = format!("{element},");
            self.insert(raw, text, Progress::Done);
        }
    }

    /// The outermost object ends at `raw` without the member that can be added.
    fn before_end(&mut self, raw: u64, is_empty: bool) {
        let value = match &self.plan {
            Plan::Beginning { text } => format!("\"{text}\""),
            Plan::FirstBlock { block } => format!("[{block}]"),
            Plan::First { .. } | Plan::Around { .. } => return,
        };
        let comma = if is_empty { "" } else { "," };
        let member = quoted(&self.tracker.pointer().to_string());
        self.insert(raw, format!("{comma}{member}:{value}"), Progress::Done);
    }

    fn text_begins(&mut self, raw: u64) {
        match &self.plan {
            Plan::First { .. } => self.wrong_type(),
            Plan::Beginning { text } => {
                // A blank line keeps what was there apart.
                let text = format!("{text}\\n\\n");
                self.insert(raw + 1, text, Progress::Done);
            }
            Plan::FirstBlock { block } => {
                let text = format!(r#"[{block},{{"type":"text","text":"#);
                self.insert(raw, text, Progress::InText);
            }
            Plan::Around { before, .. } => {
                let text = before.clone();
                self.insert(raw + 1, text, Progress::InText);
            }
        }
    }

    fn text_ends(&mut self, raw: u64) {
        match &self.plan {
            Plan::FirstBlock { .. } => self.insert(raw + 1, "}]".to_owned(), Progress::Done),
            Plan::Around { behind, .. } => {
                let text = behind.clone();
                self.insert(raw, text, Progress::Done);
            }
            Plan::First { .. } | Plan::Beginning { .. } => {}
        }
    }
}

impl Sink for Finder {
    fn at(&mut self, raw: u64) {
        self.structure = raw;
    }

    fn open(&mut self, container: Container) {
        self.before_element(self.structure);
        let found = self.tracker.value();
        self.tracker.open(container, found);
        if found == Found::Target {
            match (&self.plan, container) {
                (Plan::First { .. } | Plan::FirstBlock { .. }, Container::Array) => {
                    self.progress = Progress::AtFirst(self.tracker.depth());
                }
                _ => self.wrong_type(),
            }
        }
    }

    fn close(&mut self) {
        if self.progress == Progress::AtFirst(self.tracker.depth())
            && let Plan::First { element } | Plan::FirstBlock { block: element } = &self.plan
        {
            let text = element.clone();
            self.insert(self.structure, text, Progress::Done);
        } else if self.progress == Progress::Searching
            && let Some(is_empty) = self.tracker.outermost_object()
        {
            self.before_end(self.structure, is_empty);
        }
        self.tracker.close();
    }

    fn scalar(&mut self, raw: u64) {
        self.before_element(raw);
        if self.tracker.value() == Found::Target {
            self.wrong_type();
        }
    }

    fn begin(&mut self, role: Role, raw: u64) {
        self.role = role;
        self.scanner.reset(self.context.imitations.block());
        match role {
            Role::Key => self.tracker.key_begins(),
            Role::Value => {
                self.before_element(raw);
                if self.tracker.value() == Found::Target {
                    self.text_begins(raw);
                }
            }
        }
    }

    fn run(&mut self, run: Run<'_>) {
        self.scanner.feed(self.context.imitations.block(), run.text);
        if self.role == Role::Key {
            self.tracker.key_goes_on(run.text);
        }
    }

    fn end(&mut self, raw: u64) {
        self.scanner.finish(self.context.imitations.block());
        if let Some(hit) = self.scanner.hit() {
            self.imitations += 1;
            if self.imitation == Imitation::Refused {
                self.fail(SpliceError::Imitation(hit.rule));
            }
        }
        match self.role {
            Role::Key => {
                if let Err(doubt) = self.tracker.key_ends() {
                    self.doubt(doubt);
                }
            }
            Role::Value if self.progress == Progress::InText => self.text_ends(raw),
            Role::Value => {}
        }
    }
}

#[cfg(test)]
mod tests;
