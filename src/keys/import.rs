//! Keys that were made elsewhere, as a list of hashes: JSON Lines or CSV.
//!
//! Enters: a list. Leaves: [`ImportedKey`]s, or every line that is wrong, with its number.
//!
//! Invariant: no mistake repeats what the list says: somebody may have put keys where their hashes belong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, BufRead};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::digest::Digest;
use super::error::StoreError;
use super::instant::{from_millis, to_millis};
use super::new::{InvalidKey, KeyLimit, KeyOptions, NewKey, parse_range};
use super::record::KeyId;

/// The longest line.
const MAX_LINE: u64 = 64 << 10;
/// The most keys of one list: it is held in memory as a whole, to be added as a whole.
const MAX_KEYS: usize = 1_000_000;
/// How many mistakes are told; whoever has more has one of a kind.
const MAX_MISTAKES: usize = 100;
const MAX_HINT_CHARS: usize = 32;

/// One key of a list, checked.
#[derive(Clone, Debug)]
pub struct ImportedKey {
    pub(super) line: usize,
    pub(super) id: KeyId,
    pub(super) digest: Digest,
    pub(super) new: NewKey,
    pub(super) prefix: String,
    pub(super) suffix: String,
    pub(super) created_on: Option<SystemTime>,
}

/// How an import went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Keys that are new.
    pub added: usize,
    /// Keys that were there already and stayed as they were.
    pub known: usize,
}

/// Why nothing was imported.
#[derive(Debug)]
pub enum ImportError {
    /// The list is wrong.
    Mistakes(Vec<ImportMistake>),
    /// The list could not be read.
    Read(io::Error),
    Store(StoreError),
}

/// What is wrong with one line, counted from 1; 0 for the list as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportMistake {
    pub line: usize,
    pub message: String,
}

impl ImportError {
    pub(super) fn conflict(line: usize) -> Self {
        let message = "this hash is another key's already".to_owned();
        Self::Mistakes(vec![ImportMistake { line, message }])
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(mistakes) => {
                f.write_str("nothing was imported:")?;
                mistakes.iter().try_for_each(|mistake| write!(f, "\n  line {}: {}", mistake.line, mistake.message))
            }
            Self::Read(error) => write!(f, "cannot read the list: {error}"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

/// A line as it is written. The names are those that `keyward keys list --json` has.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sha256: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(alias = "organization_id")]
    org_code: Option<String>,
    user_id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    api_ids: Vec<String>,
    #[serde(default)]
    allow_from: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    limit: Option<WrittenLimit>,
    #[serde(alias = "expires_at")]
    expires_on: Option<String>,
    created_on: Option<String>,
    created_by: Option<String>,
    key_prefix: Option<String>,
    key_suffix: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimit {
    requests: u64,
    per_ms: u64,
}

/// The columns that a CSV list may have, in any order.
const COLUMNS: [&str; 9] =
    ["sha256", "id", "name", "org_code", "user_id", "scopes", "expires_on", "created_on", "allow_from"];

/// Reads a list. It is JSON Lines if its first line begins with `{`, otherwise CSV with a head line. `now` is what an
/// expiry must lie behind.
pub fn read_import(list: &mut dyn BufRead, now: SystemTime) -> Result<Vec<ImportedKey>, ImportError> {
    let mut reader = Reader { keys: Vec::new(), mistakes: Vec::new(), lines: HashMap::new(), head: None, now };
    let mut number = 0;
    loop {
        let mut bytes = Vec::new();
        let read = io::Read::take(&mut *list, MAX_LINE + 1).read_until(b'\n', &mut bytes).map_err(ImportError::Read)?;
        if read == 0 {
            break;
        }
        number += 1;
        if bytes.len() as u64 > MAX_LINE {
            reader.mistake(number, format!("a line has at most {MAX_LINE} bytes"));
            break;
        }
        match std::str::from_utf8(&bytes) {
            Ok(line) => reader.line(number, line.trim_start_matches('\u{feff}').trim()),
            Err(_) => reader.mistake(number, "this is not UTF-8".to_owned()),
        }
        if reader.mistakes.len() >= MAX_MISTAKES {
            reader.mistake(number, "further mistakes are not listed".to_owned());
            break;
        }
        if reader.keys.len() > MAX_KEYS {
            reader.mistake(number, format!("a list has at most {MAX_KEYS} keys; split it"));
            break;
        }
    }
    if reader.mistakes.is_empty() { Ok(reader.keys) } else { Err(ImportError::Mistakes(reader.mistakes)) }
}

enum Head {
    JsonLines,
    Csv(Vec<&'static str>),
    Broken,
}

struct Reader {
    keys: Vec<ImportedKey>,
    mistakes: Vec<ImportMistake>,
    /// On which line an id stands.
    lines: HashMap<KeyId, usize>,
    head: Option<Head>,
    now: SystemTime,
}

impl Reader {
    fn mistake(&mut self, line: usize, message: String) {
        self.mistakes.push(ImportMistake { line, message });
    }

    fn line(&mut self, number: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        let written = match &self.head {
            None if !text.starts_with('{') => {
                let head = csv_head(text);
                self.head = Some(match head {
                    Ok(columns) => Head::Csv(columns),
                    Err(message) => {
                        self.mistake(number, message);
                        Head::Broken
                    }
                });
                return;
            }
            None | Some(Head::JsonLines) => {
                self.head = Some(Head::JsonLines);
                // Its own message may quote what stands there.
                serde_json::from_str(text).map_err(|error| {
                    let what =
                        if error.is_data() { "a field is unknown, missing or of another type" } else { "no JSON" };
                    format!("{what} (column {})", error.column())
                })
            }
            Some(Head::Csv(columns)) => csv_line(text, columns),
            Some(Head::Broken) => return,
        };
        match written.and_then(|line| self.check(number, line)) {
            Ok(key) => self.keys.push(key),
            Err(message) => self.mistake(number, message),
        }
    }

    fn check(&mut self, number: usize, line: Line) -> Result<ImportedKey, String> {
        let hash = line.sha256.ok_or("`sha256` is missing: the SHA-256 of the whole key, as 64 hex digits")?;
        let digest = Digest::from_hex(&hash).ok_or("`sha256` must be 64 hex digits, and never the key itself")?;
        let id = match &line.id {
            Some(id) => KeyId::parse(id).map_err(|error| format!("`id`: {error}"))?,
            None => KeyId::of_import(&digest),
        };
        if let Some(first) = self.lines.insert(id.clone(), number) {
            return Err(format!("this key stands on line {first} already"));
        }
        let told = |error: InvalidKey| error.to_string();
        let name = line.name.ok_or("`name` is missing")?;
        let new = NewKey::new(&name, line.org_code.as_deref(), line.user_id.as_deref(), &line.scopes).map_err(told)?;
        let range = |text: &String| parse_range(text).map_err(|error| format!("`allow_from`: {error}"));
        let limit = line.limit.map(|limit| KeyLimit::new(limit.requests, Duration::from_millis(limit.per_ms)));
        let options = KeyOptions {
            expires_on: line.expires_on.as_deref().map(|text| date("expires_on", text)).transpose()?,
            metadata: line.metadata,
            allow_from: line.allow_from.iter().map(range).collect::<Result<_, _>>()?,
            limit: limit.transpose().map_err(told)?,
            created_by: line.created_by,
            api_ids: line.api_ids,
        };
        let short = |text: Option<String>, what| {
            let text = text.unwrap_or_default();
            let fits = text.chars().count() <= MAX_HINT_CHARS && text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            if fits { Ok(text) } else { Err(format!("`{what}` must be at most {MAX_HINT_CHARS} visible characters")) }
        };
        let prefix = short(line.key_prefix, "key_prefix")?;
        let suffix = short(line.key_suffix, "key_suffix")?;
        if suffix.len() > 4 {
            return Err("`key_suffix` must be the last four characters of the key at most".to_owned());
        }
        Ok(ImportedKey {
            line: number,
            id,
            digest,
            new: new.with(options, self.now).map_err(told)?,
            prefix,
            suffix,
            created_on: line.created_on.as_deref().map(|text| date("created_on", text)).transpose()?,
        })
    }
}

fn date(field: &str, text: &str) -> Result<SystemTime, String> {
    let moment = humantime::parse_rfc3339(text).ok().and_then(to_millis).and_then(from_millis);
    moment.ok_or_else(|| format!("`{field}` must be a moment in UTC such as 2027-01-31T00:00:00Z"))
}

fn csv_head(text: &str) -> Result<Vec<&'static str>, String> {
    let expected = || format!("expected JSON Lines, or a head line of: {}", COLUMNS.join(","));
    let names = csv_fields(text).ok_or_else(expected)?;
    let columns: Vec<_> =
        names.iter().filter_map(|name| COLUMNS.into_iter().find(|column| *column == name.trim())).collect();
    let repeated = columns.iter().enumerate().any(|(at, column)| columns[..at].contains(column));
    if columns.len() != names.len() || repeated || !columns.contains(&"sha256") {
        return Err(expected());
    }
    Ok(columns)
}

fn csv_line(text: &str, columns: &[&'static str]) -> Result<Line, String> {
    let fields = csv_fields(text).ok_or("a quote is not closed, or stands inside an unquoted field")?;
    if fields.len() != columns.len() {
        return Err(format!("expected {} fields, found {}", columns.len(), fields.len()));
    }
    let mut line = Line::default();
    for (column, field) in columns.iter().zip(fields) {
        let words = || field.split_whitespace().map(str::to_owned).collect();
        match *column {
            "scopes" => line.scopes = words(),
            "allow_from" => line.allow_from = words(),
            // What is empty is not there.
            _ if field.is_empty() => {}
            "sha256" => line.sha256 = Some(field),
            "id" => line.id = Some(field),
            "name" => line.name = Some(field),
            "org_code" => line.org_code = Some(field),
            "user_id" => line.user_id = Some(field),
            "expires_on" => line.expires_on = Some(field),
            _ => line.created_on = Some(field),
        }
    }
    Ok(line)
}

/// The fields of one line (RFC 4180 §2); a field has no line end inside.
fn csv_fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                if field.contains('"') {
                    return None;
                }
                (field.to_owned(), behind)
            }
            Some(quoted) => {
                let mut field = String::new();
                let mut quoted = quoted;
                loop {
                    let (before, behind) = quoted.split_once('"')?;
                    field.push_str(before);
                    let Some(more) = behind.strip_prefix('"') else { break (field, behind) };
                    field.push('"');
                    quoted = more;
                }
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None if behind.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests;
