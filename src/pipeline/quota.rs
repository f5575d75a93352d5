//! Limits as response headers: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10) and the
//! older `X-RateLimit-*` that most clients read.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::push_number;
use crate::limit::{Quota, Refused};
use crate::policy::Limit;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

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
    let mut set_named = |header: HeaderName, [(first, one), (second, two)]: [(&str, u64); 2]| {
        let mut text = String::with_capacity(name.len() + 48);
        text.push('"');
        text.push_str(name);
        text.push('"');
        for (parameter, number) in [(first, one), (second, two)] {
            text.push_str(parameter);
            push_number(&mut text, number);
        }
        // Limit names are checked when the policy is compiled; digits always are valid.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            headers.insert(header, value);
        }
    };
    set_named(POLICY, [(";q=", rate.requests), (";w=", whole_seconds(rate.per))]);
    set_named(STATE, [(";r=", remaining), (";t=", reset)]);
    headers.insert(LIMIT, HeaderValue::from(rate.capacity));
    headers.insert(REMAINING, HeaderValue::from(remaining));
    headers.insert(RESET, HeaderValue::from(reset));
}
