//! Buckets by owner: created when first charged, forgotten when full again, bounded in number.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::{Bucket, Granted};
use crate::policy::Limit;

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BucketOwner {
    Key(Arc<str>),
    Organization(Arc<str>),
    User(Arc<str>),
    Route(Arc<str>),
    Address(IpAddr),
    /// Everybody who came after the table was full, together.
    Overflow,
}

impl BucketOwner {
    /// An address as limits count it: one IPv6 customer owns a /64, and could otherwise have 2^64 buckets.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 => v4,
        })
    }
}

/// One limit that a request must pass, and whose bucket pays.
#[derive(Clone, Debug)]
pub struct Charge {
    pub limit: Arc<Limit>,
    pub owner: BucketOwner,
}

/// Proof that the limits of a request were asked. Only [`Limiter::admit`] makes one.
#[derive(Debug)]
pub struct Admission {
    tightest: Option<Quota>,
    /// What was taken, from the buckets that really paid.
    paid: Vec<Charge>,
}

impl Admission {
    /// The limit with the fewest tokens left, for the response headers.
    pub fn tightest(&self) -> Option<&Quota> {
        self.tightest.as_ref()
    }
}

/// The state of one limit after a request was admitted.
#[derive(Clone, Debug)]
pub struct Quota {
    pub limit: Arc<Limit>,
    pub granted: Granted,
}

/// A limit that said no.
#[derive(Clone, Debug)]
pub struct Refused {
    pub limit: Arc<Limit>,
    /// Until one more request would pass.
    pub retry_after: Duration,
}

/// How many buckets of one kind there are. Addresses are free for whoever owns a network; they must not crowd out
/// the buckets of keys and their owners.
#[derive(Debug, Default)]
struct Counts {
    addresses: AtomicUsize,
    others: AtomicUsize,
}

impl Counts {
    fn of(&self, owner: &BucketOwner) -> &AtomicUsize {
        match owner {
            BucketOwner::Address(_) => &self.addresses,
            _ => &self.others,
        }
    }
}

/// All buckets of the process.
///
/// The map is locked per shard and never across an await. Its key holds the limit itself, so a limit whose numbers
/// change on reload starts with fresh buckets and an unchanged one keeps its own.
#[derive(Debug)]
pub struct Limiter {
    buckets: DashMap<(Arc<Limit>, BucketOwner), Bucket>,
    counts: Counts,
    max_buckets: usize,
}

impl Limiter {
    /// A limiter that holds at most about `max_buckets` buckets of addresses, and as many of other owners. Beyond that,
    /// new owners share one bucket per limit: a flood of them can neither grow memory nor win tokens.
    pub fn new(max_buckets: usize) -> Self {
        Self { buckets: DashMap::new(), counts: Counts::default(), max_buckets }
    }

    /// Takes one token from every bucket, or none from any.
    pub fn admit(&self, charges: &[Charge], now: Instant) -> Result<Admission, Refused> {
        let mut tightest: Option<Quota> = None;
        let mut paid = Vec::with_capacity(charges.len());
        for charge in charges {
            match self.take(charge, now) {
                Ok((granted, payer)) => {
                    paid.push(Charge { limit: Arc::clone(&charge.limit), owner: payer });
                    if tightest.as_ref().is_none_or(|known| granted.remaining < known.granted.remaining) {
                        tightest = Some(Quota { limit: Arc::clone(&charge.limit), granted });
                    }
                }
                Err(retry_after) => {
                    self.give_back(Admission { tightest: None, paid });
                    return Err(Refused { limit: Arc::clone(&charge.limit), retry_after });
                }
            }
        }
        Ok(Admission { tightest, paid })
    }

    /// Returns the tokens of an admission that turned out not to be needed.
    pub fn give_back(&self, admission: Admission) {
        for Charge { limit, owner } in admission.paid {
            let rate = limit.rate;
            if let Some(mut bucket) = self.buckets.get_mut(&(limit, owner)) {
                bucket.give_back(&rate, 1);
            }
        }
    }

    /// Forgets the buckets that are full again. Called now and then, off the request path.
    pub fn sweep(&self, now: Instant) {
        self.buckets.retain(|(limit, owner), bucket| {
            let kept = !bucket.is_full_at(&limit.rate, now);
            if !kept && *owner != BucketOwner::Overflow {
                self.counts.of(owner).fetch_sub(1, Ordering::Relaxed);
            }
            kept
        });
    }

    /// How many buckets are held.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Takes a token, and says which bucket it came from.
    fn take(&self, charge: &Charge, now: Instant) -> Result<(Granted, BucketOwner), Duration> {
        let rate = &charge.limit.rate;
        let own = |granted| (granted, charge.owner.clone());
        let count = self.counts.of(&charge.owner);
        match self.buckets.entry((Arc::clone(&charge.limit), charge.owner.clone())) {
            Entry::Occupied(mut bucket) => return bucket.get_mut().take_at(rate, now, 1).map(own),
            Entry::Vacant(slot) if count.load(Ordering::Relaxed) < self.max_buckets => {
                count.fetch_add(1, Ordering::Relaxed);
                return slot.insert(Bucket::full(now)).take_at(rate, now, 1).map(own);
            }
            Entry::Vacant(_) => {}
        }
        let overflow = (Arc::clone(&charge.limit), BucketOwner::Overflow);
        let mut bucket = self.buckets.entry(overflow).or_insert_with(|| Bucket::full(now));
        bucket.take_at(rate, now, 1).map(|granted| (granted, BucketOwner::Overflow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Rate, Subject};
    use crate::time::Clock;

    fn limit(name: &str, requests: u64, by: Subject) -> Arc<Limit> {
        let rate = Rate { requests, per: Duration::from_secs(60), capacity: requests };
        Arc::new(Limit { name: name.into(), rate, by })
    }

    fn charge(limit: &Arc<Limit>, key: &str) -> Charge {
        Charge { limit: Arc::clone(limit), owner: BucketOwner::Key(key.into()) }
    }

    #[test]
    fn a_refusal_charges_nobody() {
        let (wide, narrow) = (limit("wide", 10, Subject::Key), limit("narrow", 1, Subject::Organization));
        let limiter = Limiter::new(100);
        let now = Clock::manual().now().monotonic;
        let both = [charge(&wide, "k"), charge(&narrow, "o")];
        assert_eq!(limiter.admit(&both, now).expect("the first passes").tightest().expect("two limits").limit, narrow);
        for _ in 0..20 {
            assert_eq!(limiter.admit(&both, now).expect_err("narrow is empty").limit, narrow);
        }
        let left = limiter.admit(&[charge(&wide, "k")], now).expect("wide was not charged by the refusals");
        assert_eq!(left.tightest().expect("one limit").granted.remaining, 8);
    }

    #[test]
    fn owners_do_not_share() {
        let ai = limit("ai", 2, Subject::Key);
        let limiter = Limiter::new(100);
        let now = Clock::manual().now().monotonic;
        assert!(limiter.admit(&[charge(&ai, "a")], now).is_ok());
        assert!(limiter.admit(&[charge(&ai, "a")], now).is_ok());
        assert!(limiter.admit(&[charge(&ai, "a")], now).is_err());
        assert!(limiter.admit(&[charge(&ai, "b")], now).is_ok());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_full_buckets() {
        let ai = limit("ai", 2, Subject::Key);
        let limiter = Limiter::new(10);
        let now = Clock::manual().now().monotonic;
        let passed = (0..1000).filter(|n| limiter.admit(&[charge(&ai, &n.to_string())], now).is_ok()).count();
        assert_eq!(passed, 10 + 2, "ten own buckets, then one shared bucket of two");
        assert_eq!(limiter.len(), 11);
        limiter.sweep(now + Duration::from_secs(60));
        assert!(limiter.is_empty());
        assert!(limiter.admit(&[charge(&ai, "late")], now + Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_leaves_keys_their_buckets_and_whoever_shares_gets_back_what_was_his() {
        let (ai, failures) = (limit("ai", 2, Subject::Key), limit("failures", 2, Subject::Address));
        let limiter = Limiter::new(10);
        let now = Clock::manual().now().monotonic;
        let from = |n: u32| Charge {
            limit: Arc::clone(&failures),
            owner: BucketOwner::Address(IpAddr::from(n.to_be_bytes())),
        };
        for n in 0..1000 {
            if let Ok(admission) = limiter.admit(&[from(n)], now) {
                // As a valid key does, wherever the token came from.
                limiter.give_back(admission);
            }
        }
        assert!(limiter.admit(&[from(5000)], now).is_ok(), "nobody has failed, so nobody is locked out");
        assert!(limiter.admit(&[charge(&ai, "a")], now).is_ok());
        assert!(limiter.admit(&[charge(&ai, "a")], now).is_ok());
        assert!(limiter.admit(&[charge(&ai, "a")], now).is_err(), "a key has a bucket of its own");
        assert!(limiter.admit(&[charge(&ai, "b")], now).is_ok());
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let owner = |text: &str| BucketOwner::address(text.parse().expect("an address"));
        assert_eq!(owner("2001:db8:1:2:3::4"), owner("2001:db8:1:2:ffff::1"));
        assert_ne!(owner("2001:db8:1:2::1"), owner("2001:db8:1:3::1"));
        assert_eq!(owner("::ffff:1.2.3.4"), owner("1.2.3.4"));
    }
}
