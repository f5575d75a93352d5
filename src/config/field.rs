//! A written value together with where it stands.
//!
//! A value that could not be read is [`Field::Broken`], not missing: its mistake was told, and nothing that follows
//! from its absence may be told as a second one.

use std::sync::Arc;

use super::mistake::{Mistake, Position};

/// Where a value stands, for a mistake that is found only later.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub position: Position,
    pub path: Arc<str>,
}

impl Spot {
    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake::at(Some(self.position), &self.path, message)
    }
}

/// A value that was written, and where.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub spot: Spot,
}

/// What became of a key that may be left out.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    /// Not written.
    #[default]
    Missing,
    /// Written wrongly, and reported.
    Broken,
    Given(At<T>),
}

impl<T> Field<T> {
    /// The value, or `default` when there is none. For a broken field `default` only stands in: a file with a
    /// mistake never becomes a policy.
    pub fn or(self, default: T) -> T {
        self.given().unwrap_or(default)
    }

    pub fn given(self) -> Option<T> {
        match self {
            Self::Given(at) => Some(at.value),
            Self::Missing | Self::Broken => None,
        }
    }

    pub fn as_ref(&self) -> Field<&T> {
        match self {
            Self::Missing => Field::Missing,
            Self::Broken => Field::Broken,
            Self::Given(at) => Field::Given(At { value: &at.value, spot: at.spot.clone() }),
        }
    }

    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    pub fn spot(&self) -> Option<&Spot> {
        match self {
            Self::Given(at) => Some(&at.spot),
            Self::Missing | Self::Broken => None,
        }
    }
}

impl<T: Clone> Field<T> {
    /// This field where it was written (even wrongly), else the one below it.
    pub fn over(&self, below: &Self) -> Self {
        if self.is_missing() { below.clone() } else { self.clone() }
    }
}
