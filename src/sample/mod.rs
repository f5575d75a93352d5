//! The sample AI service behind `keyward demo`: a deterministic pretend model.
//!
//! It is written the way services without keys are: it verifies nothing, limits nothing and scans nothing, and
//! believes two request headers, `X-Org-Code` and `X-User-Id`. Whatever its answers say about an organization or a
//! user, a proxy in front of it put there.
//!
//! | endpoint | takes | gives |
//! |---|---|---|
//! | `POST /ai/support` | `{message}` | `{response, organization, user_id, data_sources}` |
//! | `GET /ai/analytics` | | `{insights, organization, user_id, data_summary: {total_records, date_range}}` |
//! | `POST /ai/workflow` | `{workflow}` | `{result, organization, user_id, workflow_id, execution_time}` |
//! | `POST /ai/chat` | `{message}` | `{response, organization, user_id}` |
//! | `GET /ai/chats/{id}` | | `{id, messages, organization, user_id}` |
//! | `POST /ai/process` | `{input}` | `{result, organization, user_id}`; the result repeats the whole input |
//! | `POST /v1/chat/completions` | OpenAI's chat request | OpenAI's completion; with `stream: true` its event stream |
//! | `GET /healthz` | | `{status}` |
//!
//! A text that contains [`UNSAFE_TRIGGER`] makes the model misbehave: its answer then carries [`UNSAFE_OUTPUT`].
//!
//! Enters: requests on a listener that the caller bound. Leaves: answers that depend on nothing but the request and
//! the time. It never reads a clock of its own, keeps nothing between requests, and panics on no input.

mod completions;
mod model;
mod server;
mod service;
#[cfg(test)]
mod tests;

pub use model::{UNSAFE_OUTPUT, UNSAFE_TRIGGER};
pub use server::serve;
pub use service::{Content, answer};
