//! Secrets: read from a file or the environment, never written in the configuration.

use std::io::{self, Read as _};
use std::path::Path;

use crate::policy::SecretString;

use super::section::{Keys, Section};
use super::value::{Context, Value};

/// Where a secret is taken from.
pub(super) const SECRET: Keys = Keys { known: &["env", "file"], later: &[] };

/// More than any key, token or PEM bundle; a wrong path must not fill the memory.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads `{env: NAME}` or `{file: PATH}`.
pub(super) fn secret(value: &Value<'_>) -> Option<SecretString> {
    read_secret(value, one_line)
}

/// As [`secret`], but a text that may have several lines, as a key in PEM has.
pub(super) fn lines(value: &Value<'_>) -> Option<SecretString> {
    read_secret(value, printable_lines)
}

type Shape = fn(String) -> Result<SecretString, &'static str>;

fn read_secret(value: &Value<'_>, shape: Shape) -> Option<SecretString> {
    if !value.is_map() {
        return value.refuse(
            value
                .mistake("a secret is never written in this file")
                .help("write `{file: PATH}` or `{env: NAME}`, and change the secret if this file was shared"),
        );
    }
    let section = Section::open(value, &SECRET)?;
    match (section.get("env"), section.get("file")) {
        (Some(name), None) => from_env(name, section.context(), shape),
        (None, Some(path)) => from_file(path, section.context(), shape),
        (Some(_), Some(_)) => value.refuse(value.mistake("expected either `env` or `file`, found both")),
        (None, None) => value.refuse(value.mistake("expected `{file: PATH}` or `{env: NAME}`")),
    }
}

fn from_env(name: &Value<'_>, context: Context<'_>, shape: Shape) -> Option<SecretString> {
    let variable = name.text("the name of an environment variable")?;
    match (context.env)(variable).map(shape) {
        None => name.refuse(name.mistake("this environment variable is not set")),
        Some(Err(reason)) => name.refuse(name.mistake(format!("the value of this environment variable {reason}"))),
        Some(Ok(secret)) => Some(secret),
    }
}

fn from_file(path: &Value<'_>, context: Context<'_>, shape: Shape) -> Option<SecretString> {
    let file = context.base_dir.join(path.text("the path of a file")?);
    context.findings.depends_on(&file);
    match read(&file).map(shape) {
        Err(error) => path.refuse(path.mistake(format!("cannot read {}: {error}", file.display()))),
        Ok(Err(reason)) => path.refuse(path.mistake(format!("the content of {} {reason}", file.display()))),
        Ok(Ok(secret)) => Some(secret),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 64KiB is no secret"));
    }
    Ok(text)
}

/// Drops the line end that editors and `echo` add. What remains can stand in a header, where a secret is compared.
fn one_line(text: String) -> Result<SecretString, &'static str> {
    // Taken over at once, so that every copy that this function makes is wiped.
    let text = SecretString::new(text);
    let line = text.expose().trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        Err("is empty")
    } else if !line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        Err("is not one line of printable ASCII")
    } else {
        Ok(SecretString::new(line.to_owned()))
    }
}

/// Drops the line end at the end; in between they stay.
fn printable_lines(text: String) -> Result<SecretString, &'static str> {
    let text = SecretString::new(text);
    let lines = text.expose().trim_end_matches(['\n', '\r']);
    if lines.is_empty() {
        Err("is empty")
    } else if !lines.bytes().all(|byte| (0x20..0x7f).contains(&byte) || matches!(byte, b'\n' | b'\r')) {
        Err("is not printable ASCII")
    } else {
        Ok(SecretString::new(lines.to_owned()))
    }
}
