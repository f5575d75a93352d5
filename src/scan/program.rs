//! Rules compiled to the automaton that the scanners run.
//!
//! Rules enter as source text; a [`Program`] leaves: immutable tables, shared by all
//! scanners of one rule set. Every mistake in a rule is found here, at start-up, and
//! named. A program never sees a byte of traffic and holds no state of a scan.
//!
//! A program only recognises matches that start at a given byte. The scanners start one
//! thread at every byte where a match could begin, which tells them where the
//! earliest candidate starts: what lies before it is safe to let go.

mod graph;
mod skip;
mod table;

use std::{fmt, sync::Arc};

use regex_automata::{
    MatchKind,
    dfa::{StartKind, dense},
    nfa::thompson,
};
use regex_syntax::hir::Hir;

use crate::scan::rule::Rule;

/// The automaton that the tables are copied from.
type Dfa = dense::DFA<Vec<u32>>;

pub(super) use skip::Skip;
pub(super) use table::{DEAD, State, Table};

/// The most memory one automaton may take, in bytes, while it is built and afterwards.
///
/// Thirty secret rules need 1 MB; a counter such as `.{1,4096}` needs without end.
const SIZE_LIMIT: usize = 8 << 20;

/// Which words of the rules' language a program reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantics {
    /// Every match of every rule, as soon as it is certain: what blocking and
    /// observing need. Greedy and lazy repetition are the same here.
    Every,
    /// The match that `regex` would find from the same start, where the rule that
    /// comes first in the list is preferred: what replacing needs.
    LeftmostFirst,
}

/// A set of rules as one automaton. Cheap to share, immutable.
pub struct Program {
    ids: Box<[Arc<str>]>,
    semantics: Semantics,
    table: Table,
    max_hold: Option<usize>,
}

impl Program {
    /// Compiles `rules` to report every match.
    ///
    /// # Errors
    /// Names the rule that cannot be used, and why.
    pub fn compile(rules: &[Rule]) -> Result<Self, ProgramError> {
        Self::compile_for(rules, Semantics::Every)
    }

    /// Compiles `rules` for the semantics that the scanner at hand asks for.
    ///
    /// # Errors
    /// Names the rule that cannot be used, and why.
    pub fn compile_for(rules: &[Rule], semantics: Semantics) -> Result<Self, ProgramError> {
        let all: Vec<usize> = (0..rules.len()).collect();
        Self::compile_some(rules, &all, semantics)
    }

    /// Compiles those of `rules` whose indices are `some`. What it reports are still indices among all of them.
    ///
    /// # Errors
    /// As [`compile_for`](Self::compile_for).
    pub(super) fn compile_some(rules: &[Rule], some: &[usize], semantics: Semantics) -> Result<Self, ProgramError> {
        let ids = rules.iter().map(|rule| Arc::clone(&rule.id)).collect();
        let rules: Vec<&Rule> = some.iter().map(|&rule| &rules[rule]).collect();
        let parsed = rules.iter().map(|rule| parse(rule)).collect::<Result<Vec<_>, _>>()?;
        let dfa = determinize(&parsed, semantics).map_err(|TooLarge| too_large(&rules))?;
        let mut table = Table::new(&dfa, semantics);
        table.rename(some);
        Ok(Self { ids, semantics, max_hold: table.longest_hold(semantics == Semantics::Every), table })
    }

    /// The id of the rule with this index, in the order of compilation.
    pub fn rule_id(&self, rule: usize) -> Option<&Arc<str>> {
        self.ids.get(rule)
    }

    /// The ids of all rules, in the order of compilation.
    pub fn rule_ids(&self) -> &[Arc<str>] {
        &self.ids
    }

    /// Which matches this program reports.
    pub fn semantics(&self) -> Semantics {
        self.semantics
    }

    /// The most bytes of a text that a scanner ever withholds while it waits for the
    /// rest of a match. `None` means that a text exists for which there is no bound, so
    /// that only the scanner's cap limits it.
    pub fn max_hold(&self) -> Option<usize> {
        self.max_hold
    }

    /// Memory of the tables, in bytes.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("ids", &self.ids)
            .field("semantics", &self.semantics)
            .field("memory", &self.memory())
            .finish_non_exhaustive()
    }
}

/// Why a set of rules cannot be compiled. The text is meant for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramError {
    /// The id of the rule at fault, or of all rules if only their union is at fault.
    pub rule: String,
    /// What is wrong.
    pub kind: ProgramErrorKind,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramErrorKind {
    /// The pattern is not a regular expression.
    Syntax {
        /// What the parser says.
        message: String,
        /// Where: byte offsets into the pattern.
        at: std::ops::Range<usize>,
    },
    /// The pattern matches the empty text, that is, everywhere.
    MatchesEmpty,
    /// The pattern cannot match any text.
    MatchesNothing,
    /// A Unicode word boundary cannot be decided byte by byte.
    UnicodeWordBoundary,
    /// The automaton needs more memory than one rule set may take.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule `{}`: ", self.rule)?;
        match &self.kind {
            ProgramErrorKind::Syntax { message, at } => {
                write!(f, "{message} (at byte {} of the pattern)", at.start)
            }
            ProgramErrorKind::MatchesEmpty => f.write_str("the pattern matches the empty text"),
            ProgramErrorKind::MatchesNothing => f.write_str("the pattern can match no text"),
            ProgramErrorKind::UnicodeWordBoundary => {
                f.write_str("a Unicode word boundary cannot be decided byte by byte; write `(?-u:\\b)`")
            }
            ProgramErrorKind::TooLarge { limit } => write!(
                f,
                "the automaton needs more than {limit} bytes; use `+` in place of large \
                 counts such as `{{1,4096}}`, or fewer rules together"
            ),
        }
    }
}

impl std::error::Error for ProgramError {}

/// Parses one rule and refuses what a scanner could not honour.
fn parse(rule: &Rule) -> Result<Hir, ProgramError> {
    let error = |kind| ProgramError { rule: rule.id.to_string(), kind };
    // Texts are not always valid UTF-8, so a rule may speak of single bytes.
    let hir =
        regex_syntax::ParserBuilder::new().utf8(false).build().parse(&rule.pattern).map_err(|e| error(syntax(&e)))?;
    let properties = hir.properties();
    if properties.look_set().contains_word_unicode() {
        return Err(error(ProgramErrorKind::UnicodeWordBoundary));
    }
    match properties.minimum_len() {
        Some(0) => Err(error(ProgramErrorKind::MatchesEmpty)),
        Some(_) => Ok(hir),
        // The parser gives up on some patterns in which a part can match nothing.
        None => matches_something(hir).map_err(error),
    }
}

/// Decides by the automaton whether a pattern matches some text, and not the empty one.
fn matches_something(hir: Hir) -> Result<Hir, ProgramErrorKind> {
    let too_large = |TooLarge| ProgramErrorKind::TooLarge { limit: SIZE_LIMIT };
    let dfa = determinize(std::slice::from_ref(&hir), Semantics::Every).map_err(too_large)?;
    let table = Table::new(&dfa, Semantics::Every);
    match (table.states(), table.matches_empty()) {
        (1, _) => Err(ProgramErrorKind::MatchesNothing),
        (_, true) => Err(ProgramErrorKind::MatchesEmpty),
        (_, false) => Ok(hir),
    }
}

fn syntax(error: &regex_syntax::Error) -> ProgramErrorKind {
    let (message, span) = match error {
        regex_syntax::Error::Parse(e) => (e.kind().to_string(), Some(e.span())),
        regex_syntax::Error::Translate(e) => (e.kind().to_string(), Some(e.span())),
        other => (other.to_string(), None),
    };
    let at = span.map_or(0..0, |span| span.start.offset..span.end.offset);
    ProgramErrorKind::Syntax { message, at }
}

/// The automaton or its construction outgrew [`SIZE_LIMIT`].
struct TooLarge;

/// Builds the anchored automaton of the union.
///
/// Anchored matters: `[a-z]{40}X` is 41 states when it starts at a given byte, and
/// exponentially many when it may start anywhere. It is not minimized, because that
/// takes ten times longer than building it and saves a third of the memory.
fn determinize(rules: &[Hir], semantics: Semantics) -> Result<Dfa, TooLarge> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(SIZE_LIMIT))
                .which_captures(thompson::WhichCaptures::None),
        )
        .build_many_from_hir(rules)
        .map_err(|_| TooLarge)?;
    let kind = match semantics {
        Semantics::Every => MatchKind::All,
        Semantics::LeftmostFirst => MatchKind::LeftmostFirst,
    };
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .match_kind(kind)
        .minimize(false)
        .accelerate(false)
        .dfa_size_limit(Some(SIZE_LIMIT))
        .determinize_size_limit(Some(SIZE_LIMIT));
    // Parsing has already refused the one other cause, a Unicode word boundary.
    dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|_| TooLarge)
}

/// Names the first rule that is too large alone, or else all of them together.
fn too_large(rules: &[&Rule]) -> ProgramError {
    let alone =
        rules.iter().find(|rule| parse(rule).is_ok_and(|hir| determinize(&[hir], Semantics::LeftmostFirst).is_err()));
    let rule = match alone {
        Some(rule) => rule.id.to_string(),
        None => rules.iter().map(|rule| &*rule.id).collect::<Vec<_>>().join(", "),
    };
    ProgramError { rule, kind: ProgramErrorKind::TooLarge { limit: SIZE_LIMIT } }
}

#[cfg(test)]
mod tests;
