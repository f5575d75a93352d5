//! The pretend model: text in, text out.
//!
//! Enters: a prompt and the identity that the service was told. Leaves: an answer that is always the same for them.
//! It never refuses: a model that does what its prompt says is what the proxy guards against.

use http::HeaderMap;

/// A prompt that contains this word gets [`UNSAFE_OUTPUT`] in its answer.
pub const UNSAFE_TRIGGER: &str = "unsafe-demo";

/// What a harmful answer looks like.
pub const UNSAFE_OUTPUT: &str = "<script>alert(1)</script>";

/// How much of a prompt an answer repeats, in characters: a streamed answer should end within seconds.
const EXCERPT: usize = 60;

/// The longest token, in characters. It is shorter than [`UNSAFE_OUTPUT`], so that harmful output is spread over
/// several events of a stream, as it would be with a real model.
const TOKEN: usize = 8;

/// Who is asking, in the words of the headers; `None` where the header is absent.
#[derive(Debug)]
pub(super) struct Identity {
    pub organization: Option<String>,
    pub user_id: Option<String>,
}

impl Identity {
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self { organization: text("x-org-code"), user_id: text("x-user-id") }
    }

    /// Whose data an answer draws on: the organization's, else the user's, else everyone's, which is what a service
    /// without keys has to offer.
    pub fn owner(&self) -> String {
        match (&self.organization, &self.user_id) {
            (Some(organization), _) => format!("organization {organization}"),
            (None, Some(user)) => format!("user {user}"),
            (None, None) => "everyone".to_owned(),
        }
    }
}

/// The model's answer to a prompt.
pub(super) fn reply(prompt: &str, identity: &Identity) -> String {
    let excerpt: String = prompt.chars().take(EXCERPT).collect();
    let more = if excerpt.len() < prompt.len() { "…" } else { "" };
    let mut answer =
        format!("I looked at the data of {} and all is well. You asked: {excerpt}{more}", identity.owner());
    misbehave(prompt, &mut answer);
    answer
}

/// Appends the harmful output if the prompt asks for it.
pub(super) fn misbehave(prompt: &str, answer: &mut String) {
    if prompt.contains(UNSAFE_TRIGGER) {
        answer.push(' ');
        answer.push_str(UNSAFE_OUTPUT);
    }
}

/// The tokens of a text: a word with the space before it, long ones in pieces. Joined they are the text again.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut length = 0;
    for (at, character) in text.char_indices() {
        if length > 0 && (character == ' ' || length == TOKEN) {
            tokens.push(&text[start..at]);
            (start, length) = (at, 0);
        }
        length += 1;
    }
    if length > 0 {
        tokens.push(&text[start..]);
    }
    tokens
}

/// A stable number for a text, for ids and figures that look real.
pub(super) fn number(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}
