//! Who a verified key belongs to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
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
    pub scopes: Arc<KeyScopes>,
    /// The moment from which the key is refused, whatever a cache says.
    pub expires: Option<SystemTime>,
    /// What the key itself demands of each request.
    pub terms: KeyTerms,
    /// The three above, one after another, each fit for a header: stamping a request takes slices and copies nothing.
    text: Bytes,
}

/// What a key may be used for. Many keys have the same scopes, and share them.
#[derive(Debug)]
pub struct KeyScopes {
    names: Box<[Arc<str>]>,
    /// Made once: stamping a request must not parse or allocate.
    header: HeaderValue,
}

/// What a key demands of each request, beside what its route demands.
#[derive(Clone, Debug, Default)]
pub struct KeyTerms {
    /// Most keys have none, and thousands are cached.
    own: Option<Arc<OwnTerms>>,
    uses: Option<Arc<UseCounter>>,
}

#[derive(Debug)]
struct OwnTerms {
    allow_from: Box<[IpNet]>,
    limit: Option<Arc<Limit>>,
}

impl KeyTerms {
    /// `allow_from`: where the client must be; anywhere when empty. `limit`: one of the key's own, charged with those of
    /// the route, all or nothing. `uses`: where uses are counted, for a verifier that wants to know.
    pub fn new(
        allow_from: impl IntoIterator<Item = IpNet>,
        limit: Option<Limit>,
        uses: Option<Arc<UseCounter>>,
    ) -> Self {
        let allow_from: Box<[IpNet]> = allow_from.into_iter().map(canonical_range).collect();
        let has_own = limit.is_some() || !allow_from.is_empty();
        Self { own: has_own.then(|| Arc::new(OwnTerms { allow_from, limit: limit.map(Arc::new) })), uses }
    }

    /// Whether a request from `client` may use the key.
    pub fn allow(&self, client: IpAddr) -> bool {
        let Some(own) = &self.own else { return true };
        let client = client.to_canonical();
        own.allow_from.is_empty() || own.allow_from.iter().any(|range| range.contains(&client))
    }

    /// The key's own limit.
    pub fn limit(&self) -> Option<&Arc<Limit>> {
        self.own.as_ref()?.limit.as_ref()
    }

    /// Where uses are counted.
    pub fn uses(&self) -> Option<&UseCounter> {
        self.uses.as_deref()
    }
}

/// A range as callers are compared with it: their addresses come as IPv4 where they can, and IPv4-mapped IPv6 ranges
/// (RFC 4291 section 2.5.5.2) would match none of them. Bits behind the prefix mean nothing, so none are shown.
pub fn canonical_range(range: IpNet) -> IpNet {
    let mapped = match range {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(address, length)| IpNet::new(address.into(), length).ok()).unwrap_or(range).trunc()
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
        let values = [("key id", Some(key_id)), ("org code", org_code), ("user id", user_id)];
        let mut text = String::with_capacity(values.iter().filter_map(|(_, value)| *value).map(str::len).sum());
        for (what, value) in values {
            let value = value.unwrap_or_default();
            header(what, value)?;
            text.push_str(value);
        }
        Ok(Self {
            key_id: key_id.into(),
            org_code: org_code.map(Into::into),
            user_id: user_id.map(Into::into),
            scopes: KeyScopes::shared(scopes)?,
            expires,
            terms: KeyTerms::default(),
            text: text.into(),
        })
    }

    /// The same principal under `terms`.
    pub fn under(self, terms: KeyTerms) -> Self {
        Self { terms, ..self }
    }

    pub fn has_scope(&self, wanted: &str) -> bool {
        self.scopes.names.iter().any(|scope| scope.as_ref() == wanted)
    }

    /// Whether the key's own time has not come at `wall`.
    pub fn is_unexpired(&self, wall: SystemTime) -> bool {
        self.expires.is_none_or(|expires| wall < expires)
    }

    pub fn key_header(&self) -> Option<HeaderValue> {
        self.header(0..self.key_id.len())
    }

    pub fn org_header(&self) -> Option<HeaderValue> {
        self.header(self.key_id.len()..self.user_start())
    }

    pub fn user_header(&self) -> Option<HeaderValue> {
        self.header(self.user_start()..self.text.len())
    }

    /// `None` where there are none.
    pub fn scopes_header(&self) -> Option<HeaderValue> {
        Some(&self.scopes.header).filter(|scopes| !scopes.is_empty()).cloned()
    }

    fn user_start(&self) -> usize {
        self.key_id.len() + self.org_code.as_ref().map_or(0, |org| org.len())
    }

    /// A part of the text, which [`new`](Self::new) has found fit for a header; `None` if it is empty.
    fn header(&self, part: Range<usize>) -> Option<HeaderValue> {
        let part = self.text.slice(part);
        (!part.is_empty()).then(|| HeaderValue::from_maybe_shared(part).ok()).flatten()
    }
}

impl KeyScopes {
    /// These scopes; those that another key has already, where this thread knows of it.
    fn shared(names: &[String]) -> Result<Arc<Self>, InvalidOwner> {
        /// Lists that are remembered; all others are each key's own.
        const MOST: usize = 256;
        thread_local!(static KNOWN: RefCell<HashMap<Box<str>, Weak<KeyScopes>>> = RefCell::default());
        let joined = names.join(" ");
        KNOWN.with_borrow_mut(|known| {
            // A scope may hold a space, and is then no two.
            let same =
                |scopes: &Arc<Self>| scopes.names.iter().map(|name| &**name).eq(names.iter().map(String::as_str));
            if let Some(shared) = known.get(&*joined).and_then(Weak::upgrade).filter(same) {
                return Ok(shared);
            }
            let header = header("scopes", &joined)?;
            let scopes = Arc::new(Self { names: names.iter().map(|name| name.as_str().into()).collect(), header });
            if known.len() >= MOST {
                known.retain(|_, scopes| scopes.strong_count() > 0);
            }
            if known.len() < MOST {
                known.insert(joined.into(), Arc::downgrade(&scopes));
            }
            Ok(scopes)
        })
    }

    /// By name, in the order that the verifier told them in.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
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
        let terms =
            |ranges: &[&str]| KeyTerms::new(ranges.iter().map(|range| range.parse().expect("a range")), None, None);
        let from = |address: &str| address.parse::<IpAddr>().expect("an address");
        let some = terms(&["10.0.0.0/8", "2001:db8::/32"]);
        for good in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"] {
            assert!(some.allow(from(good)), "{good}");
        }
        for bad in ["11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "::1"] {
            assert!(!some.allow(from(bad)), "{bad}");
        }
        assert!(terms(&[]).allow(from("11.0.0.1")));
        // Nobody's address is told as an IPv4-mapped one, so such a range means the one that it maps.
        let mapped = terms(&["::ffff:10.0.0.0/104"]);
        assert!(mapped.allow(from("10.1.2.3")) && mapped.allow(from("::ffff:10.1.2.3")));
        assert!(!mapped.allow(from("11.1.2.3")) && !mapped.allow(from("::1")));
    }

    #[test]
    fn headers_are_what_the_key_has_and_nothing_else() {
        let principal = |org, user, scopes: &[&str]| {
            let scopes: Vec<String> = scopes.iter().map(|&scope| scope.into()).collect();
            Principal::new("key_1", org, user, &scopes, None).expect("valid")
        };
        let all = |key: &Principal| {
            let headers = [key.key_header(), key.org_header(), key.user_header(), key.scopes_header()];
            headers.map(|value| value.map(|value| value.to_str().expect("a text").to_owned()))
        };
        let told = |values: [Option<&str>; 4]| values.map(|value| value.map(str::to_owned));
        let both = principal(Some("org"), Some("user"), &["a:b", "c"]);
        assert_eq!(all(&both), told([Some("key_1"), Some("org"), Some("user"), Some("a:b c")]));
        assert_eq!(all(&principal(None, Some("user"), &[])), told([Some("key_1"), None, Some("user"), None]));
        assert_eq!(all(&principal(Some("org"), Some(""), &[])), told([Some("key_1"), Some("org"), None, None]));
        assert_eq!(
            Principal::new("key_1", Some("o\n"), None, &[], None).err(),
            Some(InvalidOwner { what: "org code" })
        );
    }

    #[test]
    fn the_same_scopes_are_kept_once() {
        let of = |scopes: &[&str]| {
            let scopes: Vec<String> = scopes.iter().map(|&scope| scope.into()).collect();
            Principal::new("key", Some("org"), None, &scopes, None).expect("valid").scopes
        };
        let two = of(&["read", "write"]);
        assert!(Arc::ptr_eq(&two, &of(&["read", "write"])));
        // One scope with a space in it is written like two.
        assert_eq!(of(&["read write"]).names().len(), 1);
        assert_eq!(of(&["read", "write"]).names().len(), 2);
        // However many lists there are, each key has its own.
        let many: Vec<_> = (0..600).map(|n| of(&[&format!("scope:{n}")])).collect();
        assert!(many.iter().enumerate().all(|(n, scopes)| *scopes.names()[0] == format!("scope:{n}")));
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
