//! The cache and its flights together, in simulated time: every race is a seed.

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::auth::cache::{CacheSpec, KeyCache, Lookup, Purge, Tail};
use crate::auth::chance::Chance;
use crate::policy::Principal;
use crate::time::{Clock, Now};

/// A generator whose whole state is its seed (xorshift64*).
struct Lots(u64);

impl Lots {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn chance(&mut self) -> Chance {
        Chance((self.next() >> 32) as u32)
    }
}

const TTL: u64 = 60;
const NEGATIVE: u64 = 5;
/// How often a list of active keys is read, and the longest that takes.
const POLL: u64 = 25;
const SLOWEST_LIST: u64 = 4;
/// The longest that a verification takes.
const SLOWEST: u64 = 8;
const KEYS: u8 = 4;

fn cache(stale: u64) -> KeyCache {
    let spec = CacheSpec {
        ttl: Duration::from_secs(TTL),
        negative_ttl: Duration::from_secs(NEGATIVE),
        // Room enough: what is evicted is verified again, which is no race.
        max_entries: 10_000,
        refresh_ahead: true,
        stale_if_error: Duration::from_secs(stale),
    };
    KeyCache::new(&spec).expect("randomness")
}

/// What the verifier knows about a key.
#[derive(Clone, Copy, Default)]
struct Truth {
    revoked_at: Option<u64>,
    /// On the wall clock, in seconds after the start.
    expires: Option<u64>,
    /// When it took the place of a key that was invalid.
    renewed_at: Option<u64>,
}

/// A verification in the air.
struct Airborne {
    ticket: Ticket,
    key: u8,
    lands_at: u64,
    /// What the verifier will say; `None` if it is away.
    says: Option<Found>,
}

/// A list of active keys that is being read.
struct Listing {
    began_at: u64,
    lands_at: u64,
    asked: HashSet<Arc<str>>,
    active: HashMap<Arc<str>, Option<Tail>>,
}

/// A request that waits for an answer.
struct Waiter {
    waiting: Waiting,
    key: u8,
    began_at: u64,
    doubtful: bool,
}

struct Simulation {
    cache: KeyCache,
    flights: Arc<Flights>,
    lots: Lots,
    stale: u64,
    start: Now,
    second: u64,
    wall_step: i64,
    truth: [Truth; KEYS as usize],
    purged_at: [Option<u64>; KEYS as usize],
    /// When the last "valid" about a key was written.
    vouched_at: [Option<u64>; KEYS as usize],
    away: bool,
    airborne: Vec<Airborne>,
    waiters: Vec<Waiter>,
    /// Whether this one reads lists, and the one that it reads now.
    reads_lists: bool,
    listing: Option<Listing>,
    accepted: u64,
    evicted: u64,
    stale_answers: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let stale = if seed.is_multiple_of(2) { 0 } else { 120 };
        Self {
            cache: cache(stale),
            flights: Flights::new(3),
            lots: Lots(seed * 2 + 1),
            stale,
            start: Clock::manual().now(),
            second: 0,
            wall_step: 0,
            truth: [Truth::default(); KEYS as usize],
            purged_at: [None; KEYS as usize],
            vouched_at: [None; KEYS as usize],
            away: false,
            airborne: Vec::new(),
            waiters: Vec::new(),
            reads_lists: seed.is_multiple_of(3),
            listing: None,
            accepted: 0,
            evicted: 0,
            stale_answers: 0,
        }
    }

    fn now(&self) -> Now {
        let monotonic = self.start.monotonic + Duration::from_secs(self.second);
        Now { monotonic, wall: self.start.wall + Duration::from_secs(self.wall()) }
    }

    fn wall(&self) -> u64 {
        1_000_000_u64.saturating_add(self.second).saturating_add_signed(self.wall_step)
    }

    fn step(&mut self) {
        self.second += 1;
        self.land();
        self.read_list();
        match self.lots.below(100) {
            0 => self.away = !self.away,
            // A correction of a minute, or a clock that was wrong by hours.
            1 => {
                let reach = if self.lots.below(4) == 0 { 20_000 } else { 60 };
                self.wall_step += self.lots.below(2 * reach) as i64 - reach as i64;
            }
            2 | 3 => self.revoke(),
            4 => {
                let key = self.lots.below(u64::from(KEYS)) as usize;
                self.truth[key].expires = Some(self.wall() + self.lots.below(200));
            }
            5 => self.renew(),
            _ => {}
        }
        for _ in 0..self.lots.below(4) {
            self.request();
        }
    }

    /// Revokes a key; half of the time somebody purges it too.
    fn revoke(&mut self) {
        let key = self.lots.below(u64::from(KEYS)) as usize;
        self.truth[key].revoked_at.get_or_insert(self.second);
        if self.lots.below(2) == 0 {
            let purge = match self.lots.below(3) {
                0 => Purge::All,
                1 => Purge::KeyId(format!("id_{key}")),
                _ => Purge::Organization(format!("org_{key}")),
            };
            self.cache.purge(&purge);
            let meant = |other: usize| other == key || purge == Purge::All;
            for other in (0..usize::from(KEYS)).filter(|other| meant(*other)) {
                self.purged_at[other] = Some(self.second);
                self.vouched_at[other] = None;
            }
        }
    }

    /// Begins to read the list of active keys, or ends it. What it says is what was true when it began.
    fn read_list(&mut self) {
        if let Some(listing) = self.listing.take_if(|listing| listing.lands_at <= self.second) {
            self.evicted += self.cache.keep_active(&listing.asked, &listing.active).revoked;
            for key in 0..usize::from(KEYS) {
                let id: Arc<str> = format!("id_{key}").into();
                if listing.asked.contains(&id) && !listing.active.contains_key(&id) {
                    self.vouched_at[key] = None;
                }
                if self.truth[key].revoked_at.is_some_and(|at| at < listing.began_at) {
                    self.purged_at[key] = Some(self.second);
                }
            }
        }
        if self.reads_lists && self.listing.is_none() && self.second.is_multiple_of(POLL) && !self.away {
            let active = (0..KEYS).filter(|key| matches!(self.verdict(*key), Found::Valid(_)));
            let active = active.map(|key| (format!("id_{key}").into(), None)).collect();
            let lands_at = self.second + self.lots.below(SLOWEST_LIST + 1);
            self.listing = Some(Listing { began_at: self.second, lands_at, asked: self.cache.ids_for_list(), active });
        }
    }

    /// Another key takes a dead one's place.
    fn renew(&mut self) {
        let key = self.lots.below(u64::from(KEYS)) as usize;
        // Only when nothing of the old one can be left, so that the two are not confused.
        let dead = self.truth[key].revoked_at.is_some_and(|at| self.second > at + TTL + self.stale + 2 * SLOWEST);
        if dead && self.airborne.iter().all(|flight| usize::from(flight.key) != key) {
            self.truth[key] = Truth { renewed_at: Some(self.second), ..Truth::default() };
            self.purged_at[key] = None;
            self.vouched_at[key] = None;
        }
    }

    fn verdict(&self, key: u8) -> Found {
        let truth = self.truth[usize::from(key)];
        let expired = truth.expires.is_some_and(|expires| expires <= self.wall());
        if truth.revoked_at.is_some() || expired {
            return Found::Invalid;
        }
        let expires = truth.expires.map(|expires| self.start.wall + Duration::from_secs(expires));
        let (id, org) = (format!("id_{key}"), format!("org_{key}"));
        Found::Valid(Arc::new(Principal::new(&id, Some(&org), None, &[], expires).expect("valid")))
    }

    fn request(&mut self) {
        let key = self.lots.below(u64::from(KEYS)) as u8;
        let now = self.now();
        match self.cache.look(&[key; 16], now) {
            Lookup::Fresh { found, refresh } => {
                if refresh {
                    self.take_off(key, false);
                }
                self.judge(key, self.second, &Ok(found));
            }
            Lookup::Stale { principal, refresh } => {
                if refresh {
                    self.take_off(key, false);
                }
                self.stale_answers += 1;
                self.judge(key, self.second, &Ok(Found::Valid(principal)));
            }
            Lookup::Doubtful => self.wait(key, true),
            Lookup::Unknown => self.wait(key, false),
        }
    }

    fn wait(&mut self, key: u8, doubtful: bool) {
        if let Some(waiting) = self.take_off(key, true) {
            self.waiters.push(Waiter { waiting, key, began_at: self.second, doubtful });
        }
    }

    fn take_off(&mut self, key: u8, for_answer: bool) -> Option<Waiting> {
        let seat = self.flights.seat([key; 16], || self.cache.stamp(), || None, || Ok::<(), ()>(()));
        match seat.expect("nobody pays here") {
            Seat::Known(_) => None,
            Seat::Full => {
                assert!(self.airborne.len() >= 3, "full with {} flights", self.airborne.len());
                None
            }
            Seat::Wait(waiting) => Some(waiting),
            Seat::Lead(ticket, waiting) => {
                assert!(self.airborne.len() < 3, "more flights than were allowed");
                let same = self.airborne.iter().filter(|flight| flight.key == key);
                assert!(same.clone().all(|flight| flight.ticket.stamp() != ticket.stamp()), "two flights for one key");
                // The verifier looks at some moment of the flight; the first one is the hardest.
                let says = (!self.away).then(|| self.verdict(key));
                let lands_at = self.second + 1 + self.lots.below(SLOWEST);
                self.airborne.push(Airborne { ticket, key, lands_at, says });
                for_answer.then_some(waiting)
            }
        }
    }

    fn land(&mut self) {
        let now = self.now();
        for flight in std::mem::take(&mut self.airborne) {
            if flight.lands_at > self.second {
                self.airborne.push(flight);
                continue;
            }
            let chance = self.lots.chance();
            let answer = match flight.says {
                Some(found) => {
                    self.cache.insert(
                        *flight.ticket.key(),
                        Tail::default(),
                        found.clone(),
                        flight.ticket.stamp(),
                        now,
                        chance,
                    );
                    if flight.ticket.stamp() == self.cache.stamp() {
                        self.vouched_at[usize::from(flight.key)] =
                            matches!(found, Found::Valid(_)).then_some(self.second);
                    }
                    Ok(found)
                }
                None => {
                    self.cache.failed(flight.ticket.key(), now);
                    Err(VerifierError::new("away"))
                }
            };
            flight.ticket.land(answer);
        }
        for waiter in std::mem::take(&mut self.waiters) {
            let arrived = waiter.waiting.0.borrow().clone();
            match arrived {
                None => self.waiters.push(waiter),
                Some(Err(error)) => {
                    let stale = self.cache.stale(&[waiter.key; 16], now).filter(|_| waiter.doubtful);
                    self.stale_answers += u64::from(stale.is_some());
                    let answer = stale.map_or(Err(error), |principal| Ok(Found::Valid(principal)));
                    self.judge(waiter.key, waiter.began_at, &answer);
                }
                Some(answer) => self.judge(waiter.key, waiter.began_at, &answer),
            }
        }
    }

    /// Compares an answer of now with what is true.
    fn judge(&mut self, key: u8, began_at: u64, answer: &Answer) {
        let truth = self.truth[usize::from(key)];
        let context = format!("key {key} at {} (began {began_at}), stale {}", self.second, self.stale);
        match answer {
            Ok(Found::Valid(principal)) => {
                self.accepted += 1;
                if !principal.is_unexpired(self.now().wall) {
                    // The authenticator looks at it once more, and refuses.
                    return;
                }
                let Some(revoked_at) = truth.revoked_at else { return };
                let bound = revoked_at + TTL + self.stale + SLOWEST;
                assert!(self.second <= bound, "revoked at {revoked_at} and still accepted: {context}");
                let purged = self.purged_at[usize::from(key)].filter(|at| *at >= revoked_at);
                assert!(purged.is_none_or(|at| began_at <= at), "purged at {purged:?} and accepted: {context}");
            }
            Ok(Found::Invalid) => {
                // What is remembered of the key before it is not about this one.
                let renewed = truth.renewed_at.is_some_and(|at| began_at <= at + NEGATIVE + SLOWEST);
                let innocent = truth.revoked_at.is_none() && truth.expires.is_none() && !renewed;
                assert!(!innocent, "a valid key was called invalid: {context}");
            }
            Err(_) => {
                let innocent = truth.revoked_at.is_none() && truth.expires.is_none();
                let vouched = self.vouched_at[usize::from(key)];
                let excused = vouched.is_none_or(|at| self.second >= at + TTL + self.stale || at > began_at);
                assert!(!innocent || excused, "known good at {vouched:?}, and refused: {context}");
            }
        }
    }
}

#[test]
fn no_race_accepts_a_revoked_key_or_refuses_a_good_one() {
    let (mut accepted, mut stale_answers, mut evicted) = (0, 0, 0);
    for seed in 0..4000 {
        let mut simulation = Simulation::new(seed);
        for _ in 0..600 {
            simulation.step();
        }
        accepted += simulation.accepted;
        stale_answers += simulation.stale_answers;
        evicted += simulation.evicted;
    }
    println!(
        "4000 seeds: {accepted} accepted, {stale_answers} while the verifier was away, {evicted} evicted by a list"
    );
    assert!(accepted > 500_000 && stale_answers > 10_000 && evicted > 500, "{accepted} {stale_answers} {evicted}");
}

#[tokio::test]
async fn everybody_gets_one_answer_and_an_abandoned_flight_frees_its_place() {
    let (cache, flights) = (cache(0), Flights::new(1));
    let seat = |key: u8, known: Option<Found>| {
        flights.seat([key; 16], || cache.stamp(), || known, || Ok::<(), ()>(())).expect("nobody pays here")
    };
    let Seat::Lead(ticket, first) = seat(1, None) else { panic!("the first leads") };
    let Seat::Wait(second) = seat(1, Some(Found::Invalid)) else { panic!("the second waits") };
    assert!(matches!(seat(2, None), Seat::Full));
    assert!(matches!(seat(2, Some(Found::Invalid)), Seat::Known(Found::Invalid)));
    ticket.land(Ok(Found::Invalid));
    assert!(matches!(first.answer().await, Ok(Found::Invalid)));
    assert!(matches!(second.answer().await, Ok(Found::Invalid)));

    let Seat::Lead(abandoned, waiting) = seat(1, None) else { panic!("nothing is under way") };
    drop(abandoned);
    assert!(waiting.answer().await.is_err());
    assert!(matches!(seat(2, None), Seat::Lead(..)));
    let refused = flights.seat([3; 16], || cache.stamp(), || None, || Err("no token"));
    assert!(matches!(refused, Err("no token")), "who cannot pay takes no place");
    assert!(matches!(seat(3, None), Seat::Lead(..)));
}

#[test]
fn what_began_before_a_purge_is_not_waited_for_after_it() {
    let (cache, flights) = (cache(0), Flights::new(9));
    let seat = || flights.seat([1; 16], || cache.stamp(), || None, || Ok::<(), ()>(())).expect("nobody pays here");
    let Seat::Lead(before, _) = seat() else { panic!("the first leads") };
    cache.purge(&Purge::KeyId("any".to_owned()));
    let Seat::Lead(after, _) = seat() else { panic!("the purge was ignored") };
    before.land(Ok(Found::Invalid));
    assert!(matches!(seat(), Seat::Wait(_)), "the old flight has not taken the new one's place with it");
    after.land(Ok(Found::Invalid));
    assert!(matches!(seat(), Seat::Lead(..)));
}
