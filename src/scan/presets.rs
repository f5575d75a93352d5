//! The rules that come with the program.
//!
//! A name enters, rules leave. Every pattern here is ASCII only and spells its white
//! space out, because `\s`, `\w`, `\b` and `(?i)` mean different things to the languages
//! that will read the text.

use super::rule::Rule;

/// The rules of the preset called `name`, in order of preference.
///
/// - `seed`: the three patterns of the source document's `sanitizeAIInput` and
///   `validateAIResponse`, exactly. `event-handler` also finds `connection =` in ordinary
///   code, and `script-element` has no bound on its length.
/// - `html`: markup that runs scripts, in context and bounded. A handler is only seen
///   inside of a tag, in its first 256 bytes or so, and not behind a quoted `>`.
/// - `secrets`: tokens whose shape is documented by who issues them. `private-key` finds
///   the first line of a key only, so block on it; redacting would leave the rest.
/// - `context`: a line that imitates the owner line of a prompt's context. Routes with a context look for it unasked.
pub fn preset(name: &str) -> Option<Vec<Rule>> {
    let rules: &[(&str, &str)] = match name {
        "seed" => SEED,
        "html" => HTML,
        "secrets" => SECRETS,
        "context" => CONTEXT,
        _ => return None,
    };
    let rule = |&(id, pattern): &(&str, &str)| match id {
        "html-javascript-url" => Rule::new(id, javascript_url()),
        _ => Rule::new(id, pattern),
    };
    Some(rules.iter().map(rule).collect())
}

/// `javascript:` with the white space between its characters that browsers drop.
///
/// The space is bounded: more than anyone writes by mistake is itself a match, so that
/// no amount of it hides the rest.
fn javascript_url() -> String {
    let spaced = "avascript:"
        .chars()
        .rev()
        .fold(String::new(), |rest, character| format!(r"(?:[\t\n\r]{{32}}|[\t\n\r]{{0,31}}{character}{rest})"));
    format!("(?i-u:j{spaced})")
}

/// The names of all presets.
pub const NAMES: [&str; 4] = ["seed", "html", "secrets", "context"];

/// The source document's patterns, in the form that means in bytes what they mean there.
///
/// The first is the lazy form of a loop that cannot give back; `\s` includes U+FEFF and
/// lacks U+0085; the case of ASCII letters is ignored, and no other letter is one.
const SEED: &[(&str, &str)] = &[
    ("script-element", r"(?s-u:(?i:<script)\b.*?(?i:</script>))"),
    ("javascript-url", r"(?i-u:javascript:)"),
    (
        "event-handler",
        concat!(
            r"(?i-u:on[0-9A-Za-z_]+)",
            r"[\t\n\x0B\x0C\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]*=",
        ),
    ),
];

const HTML: &[(&str, &str)] = &[
    // The opener is enough, and it is short; how the element ends does not matter.
    ("html-script", r"(?i-u:<script[\t\n\x0C\r />])"),
    // The scheme is written out by `javascript_url`.
    ("html-javascript-url", ""),
    // Longer names and wider gaps than handlers have are matches themselves.
    (
        "html-event-handler",
        concat!(
            r"(?i-u:<[a-z][a-z0-9:_-]{0,30}[\t\n\x0C\r /]",
            r#"(?:[^<>]{0,223}[\t\n\x0C\r /"'])?"#,
            r"on(?:[a-z]{13}|[a-z]{1,12}(?:[\t\n\x0C\r ]{4}|[\t\n\x0C\r ]{0,3}=)))",
        ),
    ),
];

/// A counted part sets the least that makes a token; the open end takes all of it when it
/// is redacted. Blocking never waits for that end.
const SECRETS: &[(&str, &str)] = &[
    ("aws-access-key-id", r"(?-u:\b(?:AKIA|ASIA)[A-Z2-7]{16}\b)"),
    ("github-token", r"(?-u:\bgh[pousr]_[0-9A-Za-z]{36,})"),
    ("github-fine-grained-token", r"(?-u:\bgithub_pat_[0-9A-Za-z_]{60,})"),
    ("slack-token", r"(?-u:\bxox[abeoprs]-[0-9A-Za-z-]{10,})"),
    ("anthropic-key", r"(?-u:\bsk-ant-[0-9A-Za-z_-]{20,})"),
    ("openai-project-key", r"(?-u:\bsk-(?:proj|svcacct|admin|None)-[0-9A-Za-z_-]{20,})"),
    ("openai-key", r"(?-u:\bsk-[0-9A-Za-z]{32,})"),
    ("stripe-key", r"(?-u:\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,})"),
    ("google-api-key", r"(?-u:\bAIza[0-9A-Za-z_-]{35})"),
    ("private-key", r"(?-u:-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)"),
    // A header in base64 that begins with a member that headers have.
    (
        "json-web-token",
        concat!(
            r"(?-u:\beyJ(?:hbGciOi|0eXAiOi|raWQiOi|qa3UiOi|4NXQiOi|lbmMiOi|jdHkiOi|6aXAiOi)",
            r"[0-9A-Za-z_-]{10,}(?:\.[0-9A-Za-z_-]*){0,4})",
        ),
    ),
];

/// Every character that some reader takes for the end of a line begins a new one, and what looks like nothing or like a
/// colon counts as such.
const CONTEXT: &[(&str, &str)] = &[(
    "context-owner",
    concat!(
        r"(?:(?m-u:^)|[\x0B\x0C\r\x1C-\x1E\u{85}\u{2028}\u{2029}])",
        r"[\t \u{a0}\u{ad}\u{1680}\u{2000}-\u{200f}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}]*",
        r"(?i-u:ContextOwner)",
        r"[\t \u{a0}\u{ad}\u{1680}\u{2000}-\u{200f}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}]*[:\u{fe55}\u{ff1a}]",
    ),
)];

#[cfg(test)]
mod tests;
