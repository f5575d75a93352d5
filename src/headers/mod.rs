//! The header boundary.
//!
//! Enters: headers as a peer sent them. Leaves: headers that mean what they say: nothing hop-by-hop, and nothing
//! that only Keyward may set. Stripping happens before anything is decided, for every peer and every route, so that
//! no later mistake can let a client's copy through.
//!
//! Invariant: names are compared ignoring case and `-` versus `_`, because WSGI folds both into one variable.

mod hop;
mod number;
mod provenance;
mod trailers;
mod trusted;

pub use hop::{join_cookies, remove_hop_by_hop};
pub use number::push_number;
pub use provenance::{Provenance, Scheme};
pub use trailers::{Announced, Way, keep_listed};
pub use trusted::{
    NameClass, classify, echo_identity, names, remove_trusted, remove_underscored, stamp_identity, strip_response,
};
