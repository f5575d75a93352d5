//! What is known of the APIs that stream: which strings are pieces of one text, and which stand alone.
//!
//! A frame that was read enters; for each of its strings a [`Class`] leaves and, for a piece, the key of the text it
//! belongs to. Every string has a class, so that a field nobody knew is never a way around the rules: all that
//! knowledge decides is which strings are also read as one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::super::text::json::Role;
use super::document::{Document, Label, Leaf, MARKS, Mark};
use super::house::House;

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
    /// What tells texts apart in a described format: by the member's path in [`House::channel`], and by the object
    /// that it stands in where there may be several; its place in [`Document::text`].
    told: HashMap<(usize, Option<u32>), Range<usize>>,
}

impl Sorter {
    /// Notes what a frame of a described format tells texts apart by.
    pub(super) fn begin(&mut self, house: &House, document: &Document) {
        self.told.clear();
        if house.channel.is_empty() {
            return;
        }
        let strings = document.leaves.iter().filter(|leaf| leaf.role == Role::Value);
        let strings = strings.map(|leaf| (leaf.parent, &leaf.label, &leaf.text));
        let scalars = document.scalars.iter().map(|scalar| (scalar.parent, &scalar.label, &scalar.text));
        for (parent, label, text) in strings.chain(scalars) {
            document.containers(parent, &mut self.containers);
            self.path(document, label);
            for (at, path) in house.channel.iter().enumerate() {
                if path.as_bytes() == self.path {
                    let several = path.as_str().contains("[]");
                    self.told.insert((at, parent.filter(|_| several)), text.clone());
                }
            }
        }
    }

    /// The class of a string, and its text's key if it is a piece. [`Sorter::begin`] has seen the frame of a `house`.
    pub(super) fn sort(&mut self, api: Option<Api>, house: Option<&House>, document: &Document, leaf: &Leaf) -> Class {
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
        match house {
            Some(house) if house.joins(&self.path) => {
                if house.channel.is_empty() {
                    self.set_key(api, document, leaf);
                } else {
                    self.set_house_key(house, document);
                }
                return Class::Delta;
            }
            // The description says it all where nothing else does.
            Some(_) if api.is_none() => return Class::Alone,
            _ => {}
        }
        let class = classify(api, kind, &self.path, name);
        if class == Class::Delta {
            self.set_key(api, document, leaf);
        }
        class
    }

    /// The last string's place, and the values beside it that tell its text from others.
    fn set_house_key(&mut self, house: &House, document: &Document) {
        self.key.clear();
        self.key.extend_from_slice(&self.path);
        for at in 0..house.channel.len() {
            let around = self.containers.iter().rev().map(|&node| Some(node));
            let value = around.chain([None]).find_map(|node| self.told.get(&(at, node)));
            self.key.push(b'{');
            // Nothing is as good as no member.
            let value = value.map(|value| &document.text[value.clone()]).filter(|value| *value != b"null");
            self.key.extend_from_slice(&canonical(value.unwrap_or_default()));
            self.key.push(b'}');
        }
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
            if name != b"text" {
                write_mark(key, document, 0, Mark::Index);
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
                write_mark(key, document, node, mark);
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
            if mark == Mark::Type {
                write_value(&mut self.key, mark, &[stem, b".delta"].concat());
            } else {
                write_mark(&mut self.key, document, 0, mark);
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
                Some(index) => key.extend_from_slice(&canonical(index)),
                None => key.extend_from_slice(position.to_string().as_bytes()),
            }
            key.push(b']');
        }
    }
}

/// Adds what an object says about which text it belongs to. What APIs leave out means zero, or no.
fn write_mark(key: &mut Vec<u8>, document: &Document, node: u32, mark: Mark) {
    let Some(value) = document.mark(node, mark) else { return };
    let value = canonical(value);
    let left_out: &[&[u8]] = match mark {
        Mark::Index | Mark::OutputIndex | Mark::ContentIndex | Mark::SummaryIndex => &[b"0", b"null"],
        Mark::Thought => &[b"false", b"null"],
        Mark::ItemId | Mark::Type | Mark::SequenceNumber => &[b"null"],
    };
    if !left_out.contains(&&*value) {
        write_value(key, mark, &value);
    }
}

/// A number as the shortest integer that is equal to it: readers take `0`, `0.0`, and many `"0"` too, for one index.
fn canonical(value: &[u8]) -> Cow<'_, [u8]> {
    /// Below this every integer is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let numeric = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    if !value.iter().all(numeric) {
        return Cow::Borrowed(value);
    }
    match std::str::from_utf8(value).ok().and_then(|text| text.parse::<f64>().ok()) {
        Some(number) if number.trunc() == number && number.abs() < EXACT => {
            Cow::Owned((number as i64).to_string().into_bytes())
        }
        _ => Cow::Borrowed(value),
    }
}

fn write_value(key: &mut Vec<u8>, mark: Mark, value: &[u8]) {
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
    name.is_some_and(|name| OPAQUE.contains(&name)) && looks_opaque(text)
}

/// Whether a string looks like an id, a signature or sound.
pub(super) fn looks_opaque(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-'))
}
