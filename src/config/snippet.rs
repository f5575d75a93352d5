//! The line at fault as it is shown: cropped, on one line, and without secrets.
//!
//! A secret belongs in no configuration file, but people put it there, and the mistake that tells them so must not
//! copy it into a log. So must no other mistake on the same line.

use std::borrow::Cow;
use std::ops::Range;

use super::mistake::Position;
use super::tree::{Node, Value};

/// The text of a file, with the parts that are never shown.
pub(super) struct Source<'a> {
    name: &'a str,
    /// Every line with its offset in the text.
    lines: Vec<(usize, &'a str)>,
    hidden: Hidden,
}

/// How the secrets of a text are known.
enum Hidden {
    /// The text is YAML: these bytes.
    Bytes(Vec<Range<usize>>),
    /// It is not: whatever follows a key that names a secret, as far as its indentation reaches.
    Guess,
}

/// What stands for a hidden character.
const MASK: char = '*';

impl<'a> Source<'a> {
    /// A text that could not be parsed.
    pub fn unparsed(name: &'a str, text: &'a str) -> Self {
        Self { name, lines: lines(text).collect(), hidden: Hidden::Guess }
    }

    /// A text and its tree.
    pub fn parsed(name: &'a str, text: &'a str, root: &Node) -> Self {
        let mut hidden = Vec::new();
        find_secrets(root, false, &mut hidden);
        Self { name, lines: lines(text).collect(), hidden: Hidden::Bytes(hidden) }
    }

    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The line of `position` with carets below what is meant.
    pub fn snippet(&self, position: Position) -> Option<String> {
        let shown: Vec<char> = self.masked(position.line.checked_sub(1)?)?.chars().map(visible).collect();
        let column = position.column.saturating_sub(1).min(shown.len());
        let crop = Crop::around(column, shown.len());
        let text: String = shown[crop.range.clone()].iter().collect();
        let carets = position.width.min(crop.range.end.saturating_sub(column)).max(1);
        let gutter = position.line.to_string();
        Some(format!(
            "  {gutter} | {}{}{}\n  {:blank$} | {:indent$}{:^<carets$}",
            crop.before,
            text.trim_end(),
            crop.after,
            "",
            "",
            "",
            blank = gutter.len(),
            indent = column - crop.range.start + crop.before.chars().count(),
        ))
    }

    fn masked(&self, index: usize) -> Option<Cow<'a, str>> {
        let &(start, line) = self.lines.get(index)?;
        Some(match &self.hidden {
            Hidden::Guess => guess(&self.lines[..index], line),
            Hidden::Bytes(hidden) => {
                let covered = |at: usize| hidden.iter().any(|range| range.contains(&at));
                let line: String = line
                    .char_indices()
                    .map(|(at, character)| if covered(start + at) { MASK } else { character })
                    .collect();
                Cow::Owned(without_userinfo(&line).into_owned())
            }
        })
    }
}

/// The part of a long line that is shown.
struct Crop {
    range: Range<usize>,
    before: &'static str,
    after: &'static str,
}

impl Crop {
    const WIDTH: usize = 110;
    const LEAD: usize = 40;

    fn around(column: usize, length: usize) -> Self {
        let start = if length <= Self::WIDTH { 0 } else { column.saturating_sub(Self::LEAD) };
        let end = length.min(start + Self::WIDTH);
        Self {
            range: start..end, before: if start > 0 { "…" } else { "" }, after: if end < length { "…" } else { "" }
        }
    }
}

/// Lines as YAML counts them (`\n`, `\r\n` or `\r`), each with its offset; a byte order mark is no column.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text.strip_prefix('\u{feff}').unwrap_or(text));
    std::iter::from_fn(move || {
        let current = rest?;
        let start = text.len() - current.len();
        let Some(end) = current.find(['\n', '\r']) else {
            rest = None;
            return Some((start, current));
        };
        let broken = if current[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&current[end + broken..]);
        Some((start, &current[..end]))
    })
}

fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

/// Collects the bytes of every text below a key that names a secret. `env` and `file` name places, not secrets.
fn find_secrets(node: &Node, secret: bool, hidden: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Map(entries) => {
            // What lies beside a `key_id` as `key` is one that signs; elsewhere the word means other things.
            let has_id = entries.iter().any(|(key, _)| matches!(&key.value, Value::Text(name) if name == "key_id"));
            for (key, value) in entries {
                let below = match &key.value {
                    Value::Text(name) => match name.as_str() {
                        "env" | "file" => false,
                        "key" if has_id => true,
                        name => secret || names_secret(name),
                    },
                    _ => secret,
                };
                find_secrets(value, below, hidden);
            }
        }
        Value::List(items) => items.iter().for_each(|item| find_secrets(item, secret, hidden)),
        Value::Null | Value::Bool(_) => {}
        Value::Int(_) | Value::Float(_) | Value::Text(_) if secret => hidden.push(node.bytes.clone()),
        Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// Whether a key, also a mistyped one, names something that must not be shown.
pub(super) fn names_secret(key: &str) -> bool {
    const WORDS: [&str; 7] = ["token", "secret", "password", "pepper", "authorization", "cookie", "private_key"];
    let key = key.to_ascii_lowercase().replace('-', "_");
    if key.ends_with("tokens") {
        // What a model counts.
        return false;
    }
    // One letter more or less is a slip; `pass` is not `password`.
    let slip = |word: &str| key.len().abs_diff(word.len()) <= 1 && strsim::jaro_winkler(&key, word) >= 0.9;
    WORDS.iter().any(|word| key.contains(word) || slip(word)) || key.ends_with("api_key")
}

/// Masks a line of a text that is not YAML, by what stands in the lines before it.
fn guess<'a>(before: &[(usize, &str)], line: &'a str) -> Cow<'a, str> {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let mut inside: Option<usize> = None;
    // A key whose value begins on the next line, however that one is indented.
    let mut dangling = false;
    for (_, earlier) in before.iter().filter(|(_, earlier)| !earlier.trim().is_empty()) {
        if !dangling && inside.is_some_and(|key| indent(earlier) <= key) {
            inside = None;
        }
        dangling = false;
        if let (None, Some(from)) = (inside, secret_start(earlier)) {
            inside = Some(indent(earlier));
            dangling = earlier[from..].trim().is_empty();
        }
    }
    let from = match inside {
        Some(key) if dangling || indent(line) > key => Some(0),
        _ => secret_start(line),
    };
    match from {
        Some(from) => {
            let masked = line[from..].chars().map(|character| if character == ' ' { ' ' } else { MASK });
            Cow::Owned(line[..from].chars().chain(masked).collect())
        }
        None => without_userinfo(line),
    }
}

/// Where the value of the first key that names a secret begins on this line.
fn secret_start(line: &str) -> Option<usize> {
    line.match_indices(':').find_map(|(colon, _)| {
        let key = line[..colon].trim_end_matches(['"', '\'', ' ']);
        let start = key.rfind([' ', '{', ',', '"', '\'', '[']).map_or(0, |at| at + 1);
        names_secret(&key[start..]).then_some(colon + 1)
    })
}

/// Masks `user:password` of every URL.
pub(super) fn without_userinfo(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(['/', '?', '#', ' ', '"', '\'', ',', '}', ']']).unwrap_or(after.len());
        let user = after[..end].rfind('@').unwrap_or(0);
        shown.extend(after[..user].chars().map(|_| MASK));
        rest = &after[user..];
    }
    if shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}
