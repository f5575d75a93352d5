//! Limits as response headers: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10) and the
//! older `X-RateLimit-*` that most clients read.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::limit::{Quota, Refused};
use crate::policy::Limit;

/// Headers for a request that was admitted: the tightest of its limits.
pub(super) fn stamp(headers: &mut HeaderMap, quota: &Quota) {
    write(headers, &quota.limit, quota.granted.remaining, quota.granted.full_in);
}

/// Headers for a request that a limit refused.
pub(super) fn stamp_refused(headers: &mut HeaderMap, refused: &Refused) {
    write(headers, &refused.limit, 0, refused.retry_after);
}

/// Seconds, rounded up: waiting that long is always enough.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn write(headers: &mut HeaderMap, limit: &Limit, remaining: u64, reset: Duration) {
    let (name, rate, reset) = (&limit.name, &limit.rate, whole_seconds(reset));
    let window = whole_seconds(rate.per);
    let mut set = |name: &'static str, value: String| {
        // Limit names are checked when the policy is compiled; digits always are valid.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("ratelimit-policy", format!(r#""{name}";q={};w={window}"#, rate.requests));
    set("ratelimit", format!(r#""{name}";r={remaining};t={reset}"#));
    set("x-ratelimit-limit", rate.capacity.to_string());
    set("x-ratelimit-remaining", remaining.to_string());
    set("x-ratelimit-reset", reset.to_string());
}
