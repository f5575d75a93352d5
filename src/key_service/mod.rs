//! The key service: Kinde's API for API keys, before the embedded store.
//!
//! Enters: requests with a token on a listener of its own. Leaves: Kinde's answers, with its paths, fields, statuses
//! and codes; what goes beyond Kinde is added beside, never in place of it. Sidecars verify keys here as they do at
//! Kinde, and may follow the stream of changes.
//!
//! Invariants: nothing is told or changed without a token that has the scope for it, except how to ask
//! (`/openapi.json`). A key's text is in the answer that makes it and in no other. Every change is a line in the log that
//! says whose token made it.

mod api;
mod body;
mod changes;
mod form;
mod oauth;
mod openapi;
mod problem;
mod request;
mod shape;
mod token;

pub use api::{Open, Parts, Service};
pub use body::MAX_LIST;
pub use openapi::document;
pub use shape::record_json;
pub use token::{AdminToken, InvalidToken, Scope, Tokens, token_digest};
