//! The waits for a service, by the names that they have in the configuration.

/// What was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    FirstByte,
    Idle,
    Total,
}

impl Wait {
    /// The name of the timeout.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}
