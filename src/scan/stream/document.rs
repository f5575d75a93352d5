//! One frame's JSON, as the texts in it and where they stand.
//!
//! A payload enters; its strings leave, each with the place that it has in the tree, and with the raw range that
//! each of its characters was written as. Buffers are kept from frame to frame, so that reading allocates nothing.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use super::super::text::json::{Container, JsonError, Lexer, Role, Run, Sink};

/// The most arrays, objects and strings of one frame.
const MAX_PARTS: usize = 1 << 14;

/// The most numbers and words of one frame: an embedding has a few thousand.
const MAX_SCALARS: usize = 1 << 16;

/// The members that say which of several texts a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    Index,
    OutputIndex,
    ContentIndex,
    SummaryIndex,
    ItemId,
    Type,
    Thought,
    SequenceNumber,
}

pub(super) const MARKS: [(&[u8], Mark); 8] = [
    (b"index", Mark::Index),
    (b"output_index", Mark::OutputIndex),
    (b"content_index", Mark::ContentIndex),
    (b"summary_index", Mark::SummaryIndex),
    (b"item_id", Mark::ItemId),
    (b"type", Mark::Type),
    (b"thought", Mark::Thought),
    (b"sequence_number", Mark::SequenceNumber),
];

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    NotJson(JsonError),
    /// A name stands twice in one object, and readers differ on which one counts.
    TwoMembers,
    TooManyParts,
}

/// A piece of a string, and the raw bytes that it was written as: linear if as long as these, else one escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Offset in the string.
    pub at: u32,
    pub len: u32,
    /// Offset of what it was written as.
    pub raw: u32,
    pub raw_len: u32,
}

/// Where a value stands in its container.
#[derive(Clone, Debug)]
pub(super) enum Label {
    /// The outermost value.
    Root,
    /// A member; its name in [`Document::text`].
    Key(Range<usize>),
    /// An element.
    Position(u32),
}

/// An object or array. The first one is the outermost.
#[derive(Debug)]
pub(super) struct Node {
    pub parent: Option<u32>,
    pub label: Label,
    array: bool,
    elements: u32,
    key: Range<usize>,
    /// By [`Mark`]: the member's value in [`Document::text`].
    marks: [Option<(u32, u32)>; MARKS.len()],
}

/// A string.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub role: Role,
    pub parent: Option<u32>,
    pub label: Label,
    pub text: Range<usize>,
    pub pieces: Range<usize>,
}

/// A number, `true`, `false` or `null`.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub parent: Option<u32>,
    pub label: Label,
    pub text: Range<usize>,
}

/// The frame that was read last.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// All strings, decoded, one after another.
    pub text: Vec<u8>,
    pub pieces: Vec<Piece>,
    pub nodes: Vec<Node>,
    pub leaves: Vec<Leaf>,
    pub scalars: Vec<Scalar>,
    /// Raw ranges of the numbers in the `bytes` arrays of `logprobs`, which spell a text.
    pub integers: Vec<Range<u32>>,
    names: Vec<(u32, u64)>,
}

impl Document {
    /// Reads a frame's payload.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Unreadable> {
        self.clear();
        let mut lexer = Lexer::new();
        let mut reader = Reader {
            document: self,
            payload,
            current: None,
            role: Role::Value,
            text: 0,
            pieces: 0,
            label: Label::Root,
            too_many: false,
        };
        let result = lexer.feed(payload, &mut reader).and_then(|()| lexer.finish());
        if reader.too_many {
            return Err(Unreadable::TooManyParts);
        }
        result.map_err(Unreadable::NotJson)?;
        self.names.sort_unstable();
        if self.names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Unreadable::TwoMembers);
        }
        Ok(())
    }

    fn clear(&mut self) {
        /// What an ordinary frame needs; a giant's memory is not kept.
        const KEPT: usize = 1 << 16;
        if self.text.capacity() > KEPT || self.pieces.capacity() > KEPT {
            *self = Self::default();
        }
        self.text.clear();
        self.pieces.clear();
        self.nodes.clear();
        self.leaves.clear();
        self.scalars.clear();
        self.integers.clear();
        self.names.clear();
    }

    pub(super) fn text(&self, leaf: &Leaf) -> &[u8] {
        &self.text[leaf.text.clone()]
    }

    /// The value of a mark of an object.
    pub(super) fn mark(&self, node: u32, mark: Mark) -> Option<&[u8]> {
        let (from, to) = self.nodes[node as usize].marks[mark as usize]?;
        Some(&self.text[from as usize..to as usize])
    }

    /// The name of a member; `None` for an element.
    pub(super) fn name(&self, label: &Label) -> Option<&[u8]> {
        match label {
            Label::Key(name) => Some(&self.text[name.clone()]),
            Label::Root | Label::Position(_) => None,
        }
    }

    /// The containers around a value, the outermost first.
    pub(super) fn containers(&self, parent: Option<u32>, into: &mut Vec<u32>) {
        into.clear();
        let mut next = parent;
        while let Some(node) = next {
            into.push(node);
            next = self.nodes[node as usize].parent;
        }
        into.reverse();
    }

    /// Whether the outermost object has this member.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.names.binary_search(&(0, hashed(name))).is_ok()
    }
}

pub(super) fn hashed(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

struct Reader<'a> {
    document: &'a mut Document,
    payload: &'a [u8],
    current: Option<u32>,
    role: Role,
    /// Where the current string begins in the document's text and pieces.
    text: usize,
    pieces: usize,
    label: Label,
    too_many: bool,
}

impl Reader<'_> {
    /// Where the value that begins now stands.
    fn place(&mut self) -> Label {
        let Some(current) = self.current else { return Label::Root };
        let node = &mut self.document.nodes[current as usize];
        if node.array {
            node.elements += 1;
            return Label::Position(node.elements - 1);
        }
        Label::Key(node.key.clone())
    }

    /// Remembers a value that tells texts apart.
    fn note(&mut self, label: &Label, value: Range<usize>) {
        let (Some(current), Some(name)) = (self.current, self.document.name(label)) else { return };
        if let Some((_, mark)) = MARKS.iter().find(|(known, _)| *known == name) {
            let value = (value.start as u32, value.end as u32);
            self.document.nodes[current as usize].marks[*mark as usize] = Some(value);
        }
    }

    /// Whether elements of the current array spell a text as numbers.
    fn spells(&self) -> bool {
        let Some(current) = self.current else { return false };
        let node = &self.document.nodes[current as usize];
        if self.document.name(&node.label) != Some(b"bytes") {
            return false;
        }
        let mut parent = node.parent;
        while let Some(up) = parent {
            let up = &self.document.nodes[up as usize];
            if self.document.name(&up.label) == Some(b"logprobs") {
                return true;
            }
            parent = up.parent;
        }
        false
    }

    fn is_full(&mut self) -> bool {
        self.too_many |= self.document.nodes.len() + self.document.leaves.len() >= MAX_PARTS
            || self.document.scalars.len() >= MAX_SCALARS;
        self.too_many
    }
}

impl Sink for Reader<'_> {
    fn open(&mut self, container: Container) {
        if self.is_full() {
            return;
        }
        let label = self.place();
        self.document.nodes.push(Node {
            parent: self.current,
            label,
            array: container == Container::Array,
            elements: 0,
            key: 0..0,
            marks: [None; MARKS.len()],
        });
        self.current = Some(self.document.nodes.len() as u32 - 1);
    }

    fn close(&mut self) {
        if !self.too_many {
            self.current = self.current.and_then(|current| self.document.nodes[current as usize].parent);
        }
    }

    fn scalar(&mut self, raw: u64) {
        if self.is_full() {
            return;
        }
        let start = raw as usize;
        let length = self.payload[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
            .count();
        if self.spells() {
            self.document.integers.push(start as u32..(start + length) as u32);
        }
        let label = self.place();
        let text = self.document.text.len();
        self.document.text.extend_from_slice(&self.payload[start..start + length]);
        self.note(&label, text..text + length);
        self.document.scalars.push(Scalar { parent: self.current, label, text: text..text + length });
    }

    fn begin(&mut self, role: Role, _: u64) {
        self.role = role;
        self.text = self.document.text.len();
        self.pieces = self.document.pieces.len();
        if role == Role::Value && !self.too_many {
            self.label = self.place();
        }
    }

    fn run(&mut self, run: Run<'_>) {
        if self.too_many {
            return;
        }
        self.document.text.extend_from_slice(run.text);
        // Frames are far smaller than 4 GiB.
        self.document.pieces.push(Piece {
            at: run.at as u32,
            len: run.text.len() as u32,
            raw: run.raw as u32,
            raw_len: run.raw_len,
        });
    }

    fn end(&mut self, _: u64) {
        if self.is_full() {
            return;
        }
        let text = self.text..self.document.text.len();
        let mut label = std::mem::replace(&mut self.label, Label::Root);
        match (self.role, self.current) {
            (Role::Key, Some(current)) => {
                let hash = hashed(&self.document.text[text.clone()]);
                self.document.names.push((current, hash));
                self.document.nodes[current as usize].key = text.clone();
                label = Label::Key(text.clone());
            }
            _ => self.note(&label, text.clone()),
        }
        let pieces = self.pieces..self.document.pieces.len();
        self.document.leaves.push(Leaf { role: self.role, parent: self.current, label, text, pieces });
    }
}
