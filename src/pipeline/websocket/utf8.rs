//! Whether a text that comes in pieces is UTF-8.

/// Checks one text.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// A character that is not whole yet.
    open: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Reads the next piece. `false` when it cannot become UTF-8 any more.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while let (true, Some((first, rest))) = (self.length > 0, bytes.split_first()) {
            self.open[self.length] = *first;
            self.length += 1;
            bytes = rest;
            match std::str::from_utf8(&self.open[..self.length]) {
                Ok(_) => self.length = 0,
                // A fourth byte always decides.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                let open = &bytes[error.valid_up_to()..];
                self.open[..open.len()].copy_from_slice(open);
                self.length = open.len();
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.length == 0
    }
}
