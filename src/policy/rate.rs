//! Limits as data: how many, over how long, counted for whom.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A token bucket's numbers: `capacity` tokens, refilled evenly at `requests` per `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub requests: u64,
    pub per: Duration,
    pub capacity: u64,
}

/// A named limit of the configuration.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub name: Arc<str>,
    pub rate: Rate,
    pub by: Subject,
}

/// Whose requests share a bucket. None of these comes from a header the client controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The key; a keyless caller counts by address.
    Key,
    /// The key's organization; a key without one counts by key.
    Organization,
    /// The key's user; a key without one counts by key.
    User,
    /// Everybody on the route together.
    Route,
    /// The client address (an IPv6 client by its /64).
    Address,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Organization => "organization",
            Self::User => "user",
            Self::Route => "route",
            Self::Address => "address",
        })
    }
}
