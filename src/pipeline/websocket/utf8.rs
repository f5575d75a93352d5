//! Whether a text that comes in pieces is UTF-8.

/// Checks one text.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// A character that is not whole yet.
    open: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Reads the next piece.
    ///
    /// # Errors
    /// It cannot become UTF-8 any more, from the byte on that has this many of the piece before it.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut bytes = piece;
        while let (true, Some((first, rest))) = (self.length > 0, bytes.split_first()) {
            self.open[self.length] = *first;
            self.length += 1;
            bytes = rest;
            match std::str::from_utf8(&self.open[..self.length]) {
                Ok(_) => self.length = 0,
                // A fourth byte always decides.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(piece.len() - bytes.len() - 1),
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                let open = &bytes[error.valid_up_to()..];
                self.open[..open.len()].copy_from_slice(open);
                self.length = open.len();
                Ok(())
            }
            Err(error) => {
                let (begun, bad) = (piece.len() - bytes.len(), &bytes[error.valid_up_to()..]);
                let hopeless =
                    |end: &usize| std::str::from_utf8(&bad[..*end]).is_err_and(|error| error.error_len().is_some());
                let decided = (1..=bad.len()).find(hopeless).unwrap_or(bad.len());
                Err(begun + error.valid_up_to() + decided - 1)
            }
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.length == 0
    }
}
