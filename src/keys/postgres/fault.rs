//! What PostgreSQL's errors mean for the store.
//!
//! Invariant: only an error's code and its first line are kept. Its detail may show a row, with a digest in it.

use std::error::Error as _;

use tokio_postgres::Error;

use crate::keys::error::{Cause, Fault};

/// More than any message that helps.
const LONGEST: usize = 300;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let cause = cause(&error);
        let Some(code) = error.code().map(|code| code.code()) else {
            // Without an answer of the database it is the connection that failed, or what came over it.
            return Self::Lost;
        };
        match code {
            // Another transaction was in the way, and this one is rolled back; then, a lock was not to be had in time.
            _ if code.starts_with("40") => Self::Conflict,
            "55P03" | "57014" => Self::Busy,
            "53100" => Self::Full,
            "42501" => Self::Forbidden(cause),
            // What is called as our tables has other columns, or no columns of ours.
            "42703" | "42P07" | "42723" | "42710" => Self::Foreign,
            "42P01" => Self::NoStore,
            _ if code.starts_with("08") || code.starts_with("57P") || code.starts_with("25") => Self::Lost,
            // A statement that is no longer prepared, or no longer as it was: the next session prepares it anew.
            "26000" | "0A000" => Self::Lost,
            _ if code.starts_with("28") || code == "3D000" => Self::Unreachable(cause),
            _ if code.starts_with("XX") => Self::Damaged(cause),
            _ => Self::Failed(cause),
        }
    }
}

impl Fault {
    /// Why no connection came about.
    pub(super) fn connecting(error: &Error) -> Self {
        Self::Unreachable(cause(error))
    }

    /// Whether what the connection is in the middle of is unknown.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, Self::Lost | Self::TimedOut | Self::Deaf | Self::NoStore)
    }
}

fn cause(error: &Error) -> Cause {
    let mut text = match error.as_db_error() {
        Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
        None => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text.push_str(&format!(": {error}"));
                source = error.source();
            }
            text
        }
    };
    text = text.replace(|letter: char| letter.is_control(), " ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
    }
    Cause::Postgres(text)
}
