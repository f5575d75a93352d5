//! Arithmetic on what is cut out of a text and what is kept of it.

/// A range of a text, in bytes.
pub(super) type Range = std::ops::Range<usize>;

/// Widens each cut to whole characters and joins those that then touch the same one.
///
/// Only a rule about single bytes can cut a character in two.
pub(super) fn whole_characters(text: &[u8], cuts: Vec<Range>) -> Vec<Range> {
    let mut whole: Vec<Range> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let start = character_around(text, cut.start).map_or(cut.start, |character| character.start);
        let end = character_around(text, cut.end).map_or(cut.end, |character| character.end);
        match whole.last_mut() {
            Some(last) if start < last.end => last.end = last.end.max(end),
            _ => whole.push(start..end),
        }
    }
    whole
}

/// The character that has bytes on both sides of `at`, in text that may be no UTF-8.
fn character_around(text: &[u8], at: usize) -> Option<Range> {
    let continues = |i: usize| text.get(i).is_some_and(|byte| byte & 0xC0 == 0x80);
    if !continues(at) {
        return None;
    }
    // A character has at most four bytes, of which the first is no continuation.
    let start = (at.saturating_sub(3)..at).rev().find(|&i| !continues(i))?;
    let len = match text[start] {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    let end = start + len;
    (at < end && (at..end).all(continues)).then_some(start..end)
}

/// What the cuts leave of a text of this length: one range more than there are cuts,
/// some perhaps empty.
pub(super) fn complement(cuts: &[Range], len: usize) -> Vec<Range> {
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.end));
    let ends = cuts.iter().map(|cut| cut.start).chain(std::iter::once(len));
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// What remains of `kept` without `cuts`, whose offsets count kept bytes only.
pub(super) fn subtract(kept: &[Range], cuts: &[Range]) -> Vec<Range> {
    let mut rest = Vec::with_capacity(kept.len() + cuts.len());
    let mut cuts = cuts.iter().peekable();
    // Kept bytes before the current range.
    let mut before = 0;
    for range in kept {
        let mut at = range.start;
        let end_before = before + range.len();
        while let Some(cut) = cuts.next_if(|cut| cut.end <= end_before) {
            // A cut may have begun in an earlier range.
            let start = range.start + cut.start.saturating_sub(before);
            rest.push(at..start);
            at = range.start + (cut.end - before);
        }
        match cuts.peek() {
            Some(cut) if cut.start < end_before => {
                let start = range.start + cut.start.saturating_sub(before);
                rest.push(at..start);
            }
            _ => rest.push(at..range.end),
        }
        before = end_before;
    }
    rest.retain(|range| !range.is_empty());
    rest
}
