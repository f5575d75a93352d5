//! What is wrong with a file, told so that it can be mended.
//!
//! Every mistake of a file is collected in [`Findings`] and leaves as one [`Mistakes`]. A mistake never carries a
//! secret: its message quotes only what is none, and its snippet is masked when it is made.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use super::files::Watched;
use super::snippet::Source;

/// A place in the file. Lines and columns count from 1; columns and width count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: usize,
    pub column: usize,
    pub width: usize,
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `None` when the file as a whole is meant, as when it cannot be read.
    pub position: Option<Position>,
    /// The way to the value, such as `routes[2].request.action`; empty for the file.
    pub path: String,
    pub message: String,
    /// What would mend it, where that can be guessed.
    pub help: Option<String>,
    /// The line at fault with carets below, secrets masked.
    pub snippet: Option<String>,
}

impl Mistake {
    pub(super) fn at(position: Option<Position>, path: &str, message: impl Into<String>) -> Self {
        Self { position, path: path.to_owned(), message: message.into(), help: None, snippet: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds `did you mean …?` when `candidates` hold something that looks like `written`.
    pub(super) fn did_you_mean<'a>(self, written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(written, candidates) {
            Some(candidate) => self.help(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }
}

/// The candidate that `written` was most likely meant to be: a slip or two away, or cut short.
pub(super) fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Words that share their beginning are this similar, and words that share letters by chance are not.
    const ALIKE: f64 = 0.9;
    // What nobody can mistype is not worth comparing, and comparing costs the square of the length.
    const LONGEST: usize = 64;
    let fold = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = fold(written);
    if wanted.len() > LONGEST {
        return None;
    }
    let slips = |candidate: &str| {
        let candidate = fold(candidate);
        let slips = strsim::damerau_levenshtein(&wanted, &candidate);
        // One slip in a word of two letters is a guess worth making; in one letter it is another letter.
        let length = wanted.len().min(candidate.len());
        let near = length > 1 && slips <= (length / 3).max(1);
        (near || strsim::jaro_winkler(&wanted, &candidate) >= ALIKE).then_some(slips)
    };
    candidates.into_iter().filter_map(|candidate| Some((slips(candidate)?, candidate))).min().map(|(_, best)| best)
}

/// A written value as a message may show it: short, on one line, without the password of a URL.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let masked = super::snippet::without_userinfo(text);
    let mut shown: String = masked.chars().take(LONGEST).flat_map(printable).collect();
    if masked.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn printable(character: char) -> Vec<char> {
    if character.is_control() { character.escape_debug().collect() } else { vec![character] }
}

/// Mistakes as they are found. Shared by everything that reads one file.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: RefCell<Vec<Mistake>>,
    known: RefCell<HashSet<(Option<Position>, String)>>,
    files: RefCell<Watched>,
}

impl Findings {
    /// Adds a mistake, once: a default that is wrong is wrong for every route, and is told once.
    pub fn add(&self, mistake: Mistake) {
        if self.known.borrow_mut().insert((mistake.position, mistake.message.clone())) {
            self.list.borrow_mut().push(mistake);
        }
    }

    /// Notes a file that the outcome depends on, before it is read.
    pub fn depends_on(&self, file: &Path) {
        self.files.borrow_mut().add(file);
    }

    /// Takes the files that were noted.
    pub fn files(&self) -> Watched {
        self.files.take()
    }

    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Closes the list: sorted by position, each with its snippet.
    pub fn finish(&self, source: &Source<'_>) -> Mistakes {
        let mut list = self.list.take();
        for mistake in &mut list {
            mistake.snippet = mistake.position.and_then(|position| source.snippet(position));
        }
        list.sort_by_key(|mistake| mistake.position);
        Mistakes { file: source.name().to_owned(), list }
    }
}

/// Everything that is wrong with one file, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// A file that could not even be read.
    pub(super) fn unreadable(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), list: vec![Mistake::at(None, "", message)] }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            f.write_str(&self.file)?;
            if let Some(Position { line, column, .. }) = mistake.position {
                write!(f, ":{line}:{column}")?;
            }
            if !mistake.path.is_empty() {
                write!(f, ": {}", mistake.path)?;
            }
            writeln!(f, ": {}", mistake.message)?;
            if let Some(snippet) = &mistake.snippet {
                writeln!(f, "{snippet}")?;
            }
            if let Some(help) = &mistake.help {
                writeln!(f, "  help: {help}")?;
            }
            writeln!(f)?;
        }
        let plural = if self.list.len() == 1 { "" } else { "s" };
        write!(f, "{} mistake{plural} in {}", self.list.len(), self.file)
    }
}

impl std::error::Error for Mistakes {}
