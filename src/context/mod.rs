//! Prompt context: who the caller is, inside of the prompt.
//!
//! Enters: the bytes of a JSON body, cut anywhere, and the owner that was verified. Leaves: the same bytes with one
//! insertion, in a place that the document's structure gives: a first system message, a field, the beginning of a text.
//! Everything else leaves as it came, byte for byte, and nothing of the body is kept.
//!
//! Invariants: what is inserted stands before, and apart from, what the user wrote; a document that two readers could
//! read differently at that place (the member twice, or in another case) is refused; so is a text that imitates the
//! owner line.
//!
//! | module | what it does |
//! |---|---|
//! | `spec` | what a route puts in, compiled |
//! | `place` | where in a document it belongs |
//! | `splice` | carries the bytes through, with the insertion |

mod place;
mod spec;
mod splice;

pub use place::{Pointer, PointerError};
pub use spec::{Context, Format, Owner, Source, Template, TemplateError};
pub use splice::{Imitation, SpliceError, Splicer};
