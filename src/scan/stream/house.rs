//! The stream of a service with a format of its own, as an operator describes it.
//!
//! Paths of JSON members enter, as `answer.text` or `choices[].piece`; which strings are pieces of one text, by which
//! members such texts are told apart, which strings are ids, and how the stream ends, leave. Every string is scanned
//! whatever is said here, but for ids that look like ids.

use serde_json::Value;

use super::end::Ending;

/// A described format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct House {
    /// Where strings stand that are pieces of one text.
    pub join: Vec<Path>,
    /// Members whose values tell such texts apart; if there are none, their places do, as in an unknown format.
    pub channel: Vec<Path>,
    /// Where ids and signatures stand.
    pub opaque: Vec<Path>,
    /// What the service sends when everything has been said, besides `[DONE]`.
    pub done: Option<Box<str>>,
    /// What is sent in place of what was blocked, one event or line each; empty for Keyward's own error.
    pub end: Vec<Template>,
}

impl House {
    /// Whether the strings at this path are pieces of a text.
    pub(super) fn joins(&self, path: &[u8]) -> bool {
        contains(&self.join, path)
    }

    /// Whether the strings at this path are ids.
    pub(super) fn is_opaque(&self, path: &[u8]) -> bool {
        contains(&self.opaque, path)
    }

    /// Whether a payload ends all texts.
    pub(super) fn is_done(&self, payload: &[u8]) -> bool {
        self.done.as_ref().is_some_and(|done| done.as_bytes() == payload.trim_ascii())
    }
}

fn contains(paths: &[Path], path: &[u8]) -> bool {
    paths.iter().any(|known| known.0.as_bytes() == path)
}

/// A place in a JSON document: names of members with dots between them, `[]` for every element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Box<str>);

impl Path {
    /// Reads a path, with or without a leading `$.`.
    ///
    /// # Errors
    /// Says what a path looks like.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let path = text.strip_prefix("$.").unwrap_or(text);
        let step = |step: &str| {
            let name = step.trim_end_matches("[]");
            !name.is_empty() && !name.contains(['[', ']', '*', '$', '"', '\'']) && !name.contains(char::is_whitespace)
        };
        let rooted = path.strip_prefix("[].").unwrap_or(path);
        match rooted.split('.').all(step) {
            true => Ok(Self(path.into())),
            false => {
                Err("expected member names with dots between them and `[]` behind arrays, such as `choices[].text`")
            }
        }
    }

    /// As it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A line that says why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<str>);

/// What a template may name.
const NAMES: [&str; 3] = ["{message}", "{code}", "{request_id}"];

impl Template {
    /// Reads a template: one line.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(['\r', '\n']) {
            return Err("expected one line");
        }
        let template = Self(text.into());
        // Others, such as `[DONE]`, only look like an array.
        let is_object = text.trim_start().starts_with('{');
        let unknown = text.match_indices('{').any(|(at, _)| {
            let name = text[at + 1..].split('}').next().filter(|name| at + 1 + name.len() < text.len());
            let is_name =
                |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            name.is_some_and(is_name) && !NAMES.iter().any(|known| text[at..].starts_with(*known))
        });
        if unknown {
            return Err("names something else than `{message}`, `{code}` and `{request_id}`");
        }
        let written = NAMES.iter().fold(text.to_owned(), |text, name| text.replace(name, "x"));
        if is_object && serde_json::from_str::<Value>(&written).is_err() {
            return Err("is no JSON once `{message}`, `{code}` and `{request_id}` are filled in");
        }
        Ok(template)
    }

    /// The line, each name replaced as the inside of a JSON string.
    pub(super) fn fill(&self, ending: &Ending<'_>) -> String {
        let mut out = String::new();
        let mut rest = &*self.0;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let values = [ending.message, ending.code, ending.request_id];
            match NAMES.iter().zip(values).find(|(name, _)| rest.starts_with(*name)) {
                Some((name, value)) => {
                    let quoted = Value::from(value).to_string();
                    out.push_str(&quoted[1..quoted.len() - 1]);
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::EndReason;
    use super::*;

    #[test]
    fn paths() {
        for (text, path) in
            [("$.a.b", "a.b"), ("a[].b", "a[].b"), ("a[][]", "a[][]"), ("[].t", "[].t"), ("$.[].t", "[].t")]
        {
            assert_eq!(Path::parse(text).map(|path| path.as_str().to_owned()).as_deref(), Ok(path), "{text}");
        }
        for text in ["", "$", "a..b", ".a", "a.", "a[0]", "a.*", "a b", "$..a", "['a']", "[]"] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn templates() {
        let ending = Ending { reason: EndReason::Blocked, code: "CODE", message: "a \"b\" {code}", request_id: "1" };
        let template = Template::parse(r#"{"e": {"m": "{message}", "c": "{code}", "i": "{request_id}"}}"#).unwrap();
        assert_eq!(template.fill(&ending), r#"{"e": {"m": "a \"b\" {code}", "c": "CODE", "i": "1"}}"#);
        assert_eq!(Template::parse("[DONE]").unwrap().fill(&ending), "[DONE]");
        assert_eq!(Template::parse("stopped: {code}").unwrap().fill(&ending), "stopped: CODE");
        for text in ["a\nb", "{\"a\": {code}}", "{\"a\"", r#"{"a": "{reason}"}"#] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
