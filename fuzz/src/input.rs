//! An input: what is asked, where it is cut, and the bytes.

/// The first line of an input is four bytes of choices and a line feed, so that it can be written by hand; the rest is
/// what is read.
pub struct Input<'a> {
    choices: [u8; 2],
    cuts: u16,
    pub body: &'a [u8],
}

impl<'a> Input<'a> {
    /// `None` if it is too short.
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let (&[first, second, third, fourth, _], body) = data.split_first_chunk::<5>()?;
        Some(Self { choices: [first, second], cuts: u16::from_be_bytes([third, fourth]), body })
    }

    /// One of `list`, by the first or the second of the choices. `0` is the first of the list.
    pub fn pick<'b, T>(&self, choice: usize, list: &'b [T]) -> &'b T {
        &list[usize::from(self.choices[choice].wrapping_sub(b'0')) % list.len()]
    }

    /// The body in chunks of 1 to 8 or 1 to 64 bytes.
    pub fn chunks(&self) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        let (mut rest, mut state) = (self.body, u64::from(self.cuts) + 1);
        let most = if self.cuts & 1 == 0 { 8 } else { 64 };
        while !rest.is_empty() {
            // SplitMix64's step and a shorter mix: any spread of lengths will do.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let length = (state.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) % most + 1;
            let (chunk, behind) = rest.split_at(rest.len().min(length as usize));
            chunks.push(chunk);
            rest = behind;
        }
        chunks
    }
}
