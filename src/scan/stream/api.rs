//! What is known of the APIs that stream: which strings are pieces of one text, and which stand alone.
//!
//! A frame that was read enters; for each of its strings a [`Class`] leaves and, for a piece, the key of the text it
//! belongs to. Every string has a class, so that a field nobody knew is never a way around the rules: all that
//! knowledge decides is which strings are also read as one.

use super::document::{Document, Label, Leaf, MARKS, Mark};

/// The API that a frame is recognized as, by members that only it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `chat.completion.chunk`, and the older `text_completion`.
    OpenAiChat,
    /// `response.*` events.
    OpenAiResponses,
    /// The Realtime API's events, which only messages of a WebSocket are taken for.
    OpenAiRealtime,
    /// Messages.
    Anthropic,
    /// `streamGenerateContent`.
    Gemini,
    /// `/api/chat` and `/api/generate`.
    Ollama,
    /// Text Generation Inference.
    Tgi,
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A piece of a text that goes on in other frames.
    Delta,
    /// A text of its own.
    Alone,
}

/// Names of strings that are pieces, in formats that nobody told us about and where an API has more than we know.
const PIECES: [&[u8]; 33] = [
    b"content",
    b"text",
    b"delta",
    b"arguments",
    b"partial_json",
    b"thinking",
    b"reasoning",
    b"reasoning_content",
    b"refusal",
    b"response",
    b"transcript",
    b"generated_text",
    b"code",
    b"input",
    b"token",
    b"completion",
    b"output",
    b"message",
    b"chunk",
    b"answer",
    b"value",
    b"v",
    b"t",
    b"s",
    b"w",
    b"msg",
    b"reply",
    b"result",
    b"part",
    b"piece",
    b"word",
    b"textDelta",
    b"output_text",
];

/// Names of strings that are ids, signatures or noise, under a declared API.
const OPAQUE: [&[u8]; 14] = [
    b"id",
    b"item_id",
    b"response_id",
    b"call_id",
    b"tool_call_id",
    b"tool_use_id",
    b"message_id",
    b"request_id",
    b"system_fingerprint",
    b"obfuscation",
    b"signature",
    b"thoughtSignature",
    b"encrypted_content",
    b"data",
];

/// How the types of Realtime's events begin.
const REALTIME: [&[u8]; 7] = [
    b"response.",
    b"conversation.",
    b"session.",
    b"transcription_session.",
    b"input_audio_buffer.",
    b"output_audio_buffer.",
    b"rate_limits.",
];

impl Api {
    /// Recognizes a message.
    pub(super) fn of_message(document: &Document) -> Option<Self> {
        let kind = (!document.nodes.is_empty()).then(|| document.mark(0, Mark::Type)).flatten();
        match kind {
            Some(kind) if REALTIME.iter().any(|start| kind.starts_with(start)) => Some(Self::OpenAiRealtime),
            Some(b"error") if document.has(b"event_id") => Some(Self::OpenAiRealtime),
            _ => Self::of(document),
        }
    }

    /// Recognizes a frame.
    pub(super) fn of(document: &Document) -> Option<Self> {
        if document.nodes.is_empty() {
            return None;
        }
        match document.mark(0, Mark::Type) {
            Some(kind) if kind.starts_with(b"response.") => return Some(Self::OpenAiResponses),
            Some(kind)
                if kind.starts_with(b"content_block_")
                    || matches!(kind, b"message_start" | b"message_delta" | b"message_stop") =>
            {
                return Some(Self::Anthropic);
            }
            _ => {}
        }
        let has = |name: &str| document.has(name.as_bytes());
        match () {
            () if has("choices") => Some(Self::OpenAiChat),
            () if has("candidates") => Some(Self::Gemini),
            () if has("done") && (has("message") || has("response")) => Some(Self::Ollama),
            () if has("token") && has("generated_text") => Some(Self::Tgi),
            () => None,
        }
    }

    /// Objects' members that tell texts apart, besides the `index` of an array's element.
    fn marks(api: Option<Self>) -> &'static [Mark] {
        match api {
            // `type` stands only in the first piece of a tool call, `index` of TGI counts tokens, and the `item_id`
            // of some proxies differs in every event of one item.
            Some(Self::OpenAiChat | Self::Ollama | Self::Tgi) => &[],
            Some(Self::OpenAiResponses) => &[Mark::Type, Mark::OutputIndex, Mark::ContentIndex, Mark::SummaryIndex],
            Some(Self::OpenAiRealtime) => &[Mark::Type, Mark::OutputIndex, Mark::ContentIndex, Mark::ItemId],
            Some(Self::Anthropic) => &[Mark::Index],
            Some(Self::Gemini) => &[Mark::Thought],
            // A number at the top is as often a counter of events as that of a text.
            None => {
                &[Mark::Type, Mark::OutputIndex, Mark::ContentIndex, Mark::SummaryIndex, Mark::ItemId, Mark::Thought]
            }
        }
    }

    /// Arrays whose elements follow each other in one text.
    fn is_sequence(api: Option<Self>, name: Option<&[u8]>) -> bool {
        match api {
            Some(Self::OpenAiChat) => name == Some(b"content") || name == Some(b"refusal"),
            Some(Self::Gemini) => name == Some(b"parts"),
            _ => false,
        }
    }
}

/// Sorts the strings of one frame.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    containers: Vec<u32>,
    path: Vec<u8>,
    /// Which text the last delta belongs to.
    pub key: Vec<u8>,
}

impl Sorter {
    /// The class of a string, and its text's key if it is a piece.
    pub(super) fn sort(&mut self, api: Option<Api>, document: &Document, leaf: &Leaf) -> Class {
        document.containers(leaf.parent, &mut self.containers);
        self.path(document, &leaf.label);
        if self.containers.is_empty() {
            // A frame that is one string, as others are one text.
            self.set_text_key();
            return Class::Delta;
        }
        let kind = (!document.nodes.is_empty()).then(|| document.mark(0, Mark::Type)).flatten();
        // The name of an array is that of its elements.
        let name = document.name(&leaf.label).or_else(|| {
            let labels = self.containers.iter().rev().map(|&node| &document.nodes[node as usize].label);
            labels.into_iter().find_map(|label| document.name(label))
        });
        let class = classify(api, kind, &self.path, name);
        if class == Class::Delta {
            self.set_key(api, document, leaf);
        }
        class
    }

    /// Sets the key of the text that frames make which are no objects.
    pub(super) fn set_text_key(&mut self) {
        self.key.clear();
        self.key.extend_from_slice(b"data");
    }

    /// The last string's path, as `choices[].delta.content`.
    pub(super) fn last_path(&self) -> &[u8] {
        &self.path
    }

    /// The containers around the last string, the outermost first.
    pub(super) fn last_containers(&self) -> &[u32] {
        &self.containers
    }

    fn path(&mut self, document: &Document, last: &Label) {
        self.path.clear();
        let labels = self.containers.iter().map(|&node| &document.nodes[node as usize].label);
        for label in labels.chain([last]) {
            match label {
                Label::Root => {}
                Label::Position(_) => self.path.extend_from_slice(b"[]"),
                Label::Key(name) => {
                    if !self.path.is_empty() {
                        self.path.push(b'.');
                    }
                    self.path.extend_from_slice(&document.text[name.clone()]);
                }
            }
        }
    }

    fn set_key(&mut self, api: Option<Api>, document: &Document, leaf: &Leaf) {
        self.key.clear();
        let key = &mut self.key;
        if api == Some(Api::Anthropic) {
            // A block begins with what its `content_block_start` says. Readers join the blocks of text.
            let name = document.name(&leaf.label).unwrap_or_default();
            key.extend_from_slice(name);
            if let Some(index) = document.mark(0, Mark::Index).filter(|_| name != b"text") {
                write_mark(key, Mark::Index, index);
            }
            return;
        }
        let mut around: Option<&[u8]> = None;
        for &node in &self.containers {
            let label = &document.nodes[node as usize].label;
            let own_index = document.mark(node, Mark::Index).filter(|_| matches!(label, Label::Position(_)));
            write_label(key, api, document, label, own_index, around);
            around = document.name(label);
            for &mark in Api::marks(api) {
                if let Some(value) = document.mark(node, mark) {
                    write_mark(key, mark, value);
                }
            }
        }
        write_label(key, api, document, &leaf.label, None, around);
    }

    /// The key of the text whose end an event of the Responses or Realtime API tells, if it does.
    pub(super) fn ended(&mut self, api: Api, document: &Document) -> bool {
        let Some(kind) = document.mark(0, Mark::Type) else { return false };
        let stem = kind.strip_suffix(b".done").or_else(|| kind.strip_suffix(b".completed"));
        let Some(stem) = stem else { return false };
        self.key.clear();
        for &mark in Api::marks(Some(api)) {
            match document.mark(0, mark) {
                Some(_) if mark == Mark::Type => write_mark(&mut self.key, mark, &[stem, b".delta"].concat()),
                Some(value) => write_mark(&mut self.key, mark, value),
                None => {}
            }
        }
        self.key.extend_from_slice(b".delta");
        true
    }
}

/// Adds a step to a key. `around` is the name of the array that an element stands in.
fn write_label(
    key: &mut Vec<u8>,
    api: Option<Api>,
    document: &Document,
    label: &Label,
    own_index: Option<&[u8]>,
    around: Option<&[u8]>,
) {
    match label {
        Label::Root => {}
        Label::Key(name) => {
            key.push(b'.');
            key.extend_from_slice(&document.text[name.clone()]);
        }
        Label::Position(_) if Api::is_sequence(api, around) => key.extend_from_slice(b"[]"),
        Label::Position(position) => {
            key.push(b'[');
            match own_index {
                Some(index) => key.extend_from_slice(index),
                None => key.extend_from_slice(position.to_string().as_bytes()),
            }
            key.push(b']');
        }
    }
}

fn write_mark(key: &mut Vec<u8>, mark: Mark, value: &[u8]) {
    key.push(b'{');
    key.extend_from_slice(MARKS[mark as usize].0);
    key.push(b'=');
    key.extend_from_slice(value);
    key.push(b'}');
}

/// The table. `kind` is the event's `type`, `name` that of the string or of the array around it.
fn classify(api: Option<Api>, kind: Option<&[u8]>, path: &[u8], name: Option<&[u8]>) -> Class {
    let name = name.unwrap_or_default();
    match api {
        Some(Api::OpenAiChat) => match path {
            b"choices[].text" | b"choices[].logprobs.content[].token" | b"choices[].logprobs.refusal[].token" => {
                return Class::Delta;
            }
            // A last chunk that repeats the whole message.
            _ if path == b"choices[].message.content" || path == b"choices[].messages[].delta.content" => {
                return Class::Delta;
            }
            _ if path.starts_with(b"choices[].message.") || path.starts_with(b"choices[].logprobs") => {
                return Class::Alone;
            }
            // SDKs join every string of a delta but these, also those that we have never heard of.
            _ if path.starts_with(b"choices[].delta") => {
                return match name {
                    b"role" | b"type" | b"id" | b"index" => Class::Alone,
                    _ => Class::Delta,
                };
            }
            _ => {}
        },
        Some(Api::OpenAiResponses) => {
            return match kind {
                Some(kind) if kind.ends_with(b".delta") && path == b"delta" => Class::Delta,
                // The events at the end of a part, an item and the response repeat its text.
                _ => Class::Alone,
            };
        }
        Some(Api::OpenAiRealtime) => {
            return match kind {
                Some(kind) if kind.ends_with(b".delta") && path == b"delta" && !is_sound_event(kind) => Class::Delta,
                _ => Class::Alone,
            };
        }
        Some(Api::Anthropic) => {
            return match path {
                b"delta.text"
                | b"delta.partial_json"
                | b"delta.thinking"
                | b"content_block.text"
                | b"content_block.thinking" => Class::Delta,
                _ => Class::Alone,
            };
        }
        Some(Api::Gemini) if path.starts_with(b"candidates[].content.parts[].functionCall") => return Class::Alone,
        Some(Api::Tgi) if path == b"generated_text" || path.starts_with(b"top_tokens") => return Class::Alone,
        _ => {}
    }
    if PIECES.iter().any(|piece| piece.eq_ignore_ascii_case(name)) { Class::Delta } else { Class::Alone }
}

/// Whether an event carries a piece of sound.
fn is_sound_event(kind: &[u8]) -> bool {
    matches!(kind, b"response.audio.delta" | b"response.output_audio.delta")
}

/// Whether a string is sound in base64, as Realtime sends and takes it, and looks like it.
pub(super) fn is_sound(api: Option<Api>, document: &Document, leaf: &Leaf, text: &[u8]) -> bool {
    let named = || match document.name(&leaf.label) {
        Some(b"audio") => true,
        Some(b"delta") => document.mark(0, Mark::Type).is_some_and(is_sound_event),
        _ => false,
    };
    api == Some(Api::OpenAiRealtime) && named() && text.iter().all(is_of_base64)
}

fn is_of_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-')
}

/// Whether a string under a declared API is left unread: it is named like an id, and looks like one.
pub(super) fn is_opaque(name: Option<&[u8]>, text: &[u8]) -> bool {
    name.is_some_and(|name| OPAQUE.contains(&name)) && text.iter().all(is_of_base64)
}
