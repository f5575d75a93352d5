//! Inspection of texts: what may pass, what is changed, what is refused.
//!
//! Rules and bytes enter; verdicts, safe offsets and edits leave. Nothing here reads a
//! socket, a clock or a configuration file, and nothing waits: a caller feeds chunks of
//! any size and is told after each one how far the text is safe to let go. Results
//! never depend on how a text was cut into chunks.
//!
//! | module | what it does |
//! |---|---|
//! | [`rule`] | the vocabulary: rules, actions, directions |
//! | [`program`] | rules compiled to one anchored automaton |
//! | [`block`] | finds matches, and withholds no byte longer than it must |
//! | [`redact`] | `replace_all` over a stream |
//! | [`guard`] | redaction whose output is scanned again |
//! | [`view`] | a text as it is once it is decoded again |
//! | [`text`] | where the texts of a body are: JSON strings, form fields |
//! | [`ruleset`] | the programs of one list of rules |
//! | [`body`] | verdicts on bodies held in memory |
//! | [`stream`] | verdicts on bodies while they are delivered |
//! | [`decode`] | takes content codings off a body |
//! | [`presets`] | the rules that come with the program |
//! | [`places`] | where rules matched, for those who ask |
//! | [`examples`] | checks rules against the examples written beside them |

pub mod block;
pub mod body;
pub mod decode;
pub mod examples;
pub mod guard;
mod occupied;
pub mod places;
pub mod presets;
pub mod program;
#[cfg(test)]
mod proof;
pub mod redact;
pub mod rule;
pub mod ruleset;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod text;
pub mod view;

pub use body::{BinaryParts, Inspection, Report, RuleHit, TextFormat, Verdict, inspect, inspect_query, locate};
pub use decode::{Codings, DecodeError, Decoder};
pub use examples::{ExampleFailure, rule_examples};
pub use places::{Place, Places};
pub use presets::preset;
pub use program::{Program, ProgramError};
pub use rule::{Action, Direction, Rule};
pub use ruleset::RuleSet;
pub use stream::{Joining, MessageKind, Messages, StreamFormat, StreamRules, StreamScanner, StreamStop};
pub use view::View;
