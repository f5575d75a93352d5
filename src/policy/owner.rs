//! Who a verified key belongs to.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use ipnet::IpNet;

use super::rate::Limit;

/// A verified caller. Made only from an answer of the verifier; immutable, shared by the cache.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key's public id; safe to log and to forward.
    pub key_id: Arc<str>,
    pub org_code: Option<Arc<str>>,
    pub user_id: Option<Arc<str>>,
    pub scopes: Arc<[Arc<str>]>,
    /// The moment from which the key is refused, whatever a cache says.
    pub expires: Option<SystemTime>,
    /// What the key itself demands of each request.
    pub terms: KeyTerms,
    /// Header forms, made once: stamping a request must not parse or allocate.
    key_header: HeaderValue,
    org_header: Option<HeaderValue>,
    user_header: Option<HeaderValue>,
    scopes_header: HeaderValue,
}

/// What a key demands of each request, beside what its route demands.
#[derive(Clone, Debug, Default)]
pub struct KeyTerms {
    /// Where the client must be; anywhere when empty.
    pub allow_from: Arc<[IpNet]>,
    /// A limit of the key's own, charged with those of the route, all or nothing.
    pub limit: Option<Arc<Limit>>,
    /// Where uses are counted, for a verifier that wants to know.
    pub uses: Option<Arc<UseCounter>>,
}

impl KeyTerms {
    /// Whether a request from `client` may use the key.
    pub fn allow(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow_from.is_empty() || self.allow_from.iter().any(|range| range.contains(&client))
    }
}

/// Counts the uses of one key until somebody takes them; costs a request two atomic additions.
#[derive(Debug, Default)]
pub struct UseCounter {
    count: AtomicU64,
    /// Milliseconds since 1970.
    last: AtomicU64,
}

impl UseCounter {
    /// Counts one use at `wall`.
    pub fn note(&self, wall: SystemTime) {
        let millis = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.last.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
        // Behind the moment: whoever takes the count sees a moment that belongs to it, or a later one.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// The uses since the last answer, and when the last of all was.
    pub fn take(&self) -> (u64, SystemTime) {
        let count = self.count.swap(0, Ordering::Acquire);
        (count, UNIX_EPOCH + Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

impl Principal {
    /// Builds a principal whose every value can stand in a header. Empty owners count as absent.
    pub fn new(
        key_id: &str,
        org_code: Option<&str>,
        user_id: Option<&str>,
        scopes: &[String],
        expires: Option<SystemTime>,
    ) -> Result<Self, InvalidOwner> {
        let org_code = org_code.filter(|value| !value.is_empty());
        let user_id = user_id.filter(|value| !value.is_empty());
        Ok(Self {
            key_header: header("key id", key_id)?,
            org_header: org_code.map(|value| header("org code", value)).transpose()?,
            user_header: user_id.map(|value| header("user id", value)).transpose()?,
            scopes_header: header("scopes", &scopes.join(" "))?,
            key_id: key_id.into(),
            org_code: org_code.map(Into::into),
            user_id: user_id.map(Into::into),
            scopes: scopes.iter().map(|scope| scope.as_str().into()).collect(),
            expires,
            terms: KeyTerms::default(),
        })
    }

    /// The same principal under `terms`.
    pub fn under(self, terms: KeyTerms) -> Self {
        Self { terms, ..self }
    }

    pub fn has_scope(&self, wanted: &str) -> bool {
        self.scopes.iter().any(|scope| scope.as_ref() == wanted)
    }

    /// Whether the key's own time has not come at `wall`.
    pub fn is_unexpired(&self, wall: SystemTime) -> bool {
        self.expires.is_none_or(|expires| wall < expires)
    }

    pub fn key_header(&self) -> &HeaderValue {
        &self.key_header
    }

    pub fn org_header(&self) -> Option<&HeaderValue> {
        self.org_header.as_ref()
    }

    pub fn user_header(&self) -> Option<&HeaderValue> {
        self.user_header.as_ref()
    }

    pub fn scopes_header(&self) -> &HeaderValue {
        &self.scopes_header
    }
}

/// Visible ASCII and inner spaces only: anything else is read differently by different servers.
fn header(what: &'static str, value: &str) -> Result<HeaderValue, InvalidOwner> {
    let clean = value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim() == value;
    HeaderValue::from_str(value).ok().filter(|_| clean).ok_or(InvalidOwner { what })
}

/// An owner value that cannot be a header value; names the field, not the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidOwner {
    pub what: &'static str,
}

impl fmt::Display for InvalidOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} must be visible ASCII without leading or trailing spaces", self.what)
    }
}

impl std::error::Error for InvalidOwner {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_for_every_spelling_of_an_address() {
        let terms = |ranges: &[&str]| KeyTerms {
            allow_from: ranges.iter().map(|range| range.parse().expect("a range")).collect(),
            ..KeyTerms::default()
        };
        let from = |address: &str| address.parse::<IpAddr>().expect("an address");
        let some = terms(&["10.0.0.0/8", "2001:db8::/32"]);
        for good in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"] {
            assert!(some.allow(from(good)), "{good}");
        }
        for bad in ["11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "::1"] {
            assert!(!some.allow(from(bad)), "{bad}");
        }
        assert!(terms(&[]).allow(from("11.0.0.1")));
    }

    #[test]
    fn uses_are_taken_once() {
        let uses = UseCounter::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        uses.note(at(9));
        uses.note(at(5));
        assert_eq!(uses.take(), (2, at(9)));
        assert_eq!(uses.take().0, 0);
    }
}
