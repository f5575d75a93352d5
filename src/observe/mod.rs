//! What the operator sees: one usage record per request, metrics, and the log.
//!
//! Enters: what happened to a request, as values. Leaves: JSON lines, Prometheus text. Never here: a key, a body,
//! or a label that a client can choose.

mod metrics;
mod upstreams;
mod usage;

pub use metrics::{ClientTimeouts, Metrics, UnscannedReason};
pub use upstreams::UpstreamCounters;
pub use usage::{Outcome, RuleHits, UsageOutput, UsageRecord, UsageSink, UsageSlot};
