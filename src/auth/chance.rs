//! When to renew something that ends, so that many who began together do not renew together.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where lots are drawn. Copies draw from the same place.
#[derive(Clone, Debug, Default)]
pub(super) struct Lots {
    #[cfg(test)]
    seeded: Option<Arc<AtomicU64>>,
}

impl Lots {
    /// Lots that are the same in every run.
    #[cfg(test)]
    pub(super) fn seeded(seed: u64) -> Self {
        Self { seeded: Some(Arc::new(AtomicU64::new(seed))) }
    }

    /// Without randomness all lots are the middle one: nothing breaks, only nothing is spread.
    pub(super) fn draw(&self) -> Chance {
        #[cfg(test)]
        if let Some(state) = &self.seeded {
            // SplitMix64: every state gives a lot, so copies can share it without a lock.
            let step = 0x9e37_79b9_7f4a_7c15;
            let mut mixed = state.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            return Chance(((mixed ^ mixed >> 31) >> 32) as u32);
        }
        Chance(getrandom::u32().unwrap_or(u32::MAX / 2))
    }
}

/// A drawn lot. Everything below takes it as an argument, so that a test can draw any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(pub(super) u32);

impl Chance {
    /// A time in the last tenth of `lifetime`, early enough to renew before the end: 90 to 97 hundredths.
    pub(super) fn near_the_end_of(self, lifetime: Duration) -> Duration {
        lifetime.mul_f64(0.90 + 0.07 * self.fraction())
    }

    /// A time anywhere before the last hundredths of `lifetime`.
    pub(super) fn anywhere_in(self, lifetime: Duration) -> Duration {
        lifetime.mul_f64(0.97 * self.fraction())
    }

    /// As [`Chance::near_the_end_of`], but later, because each renewal is paid for: 94 to 98 hundredths.
    pub(super) fn late_in(self, lifetime: Duration) -> Duration {
        lifetime.mul_f64(0.94 + 0.04 * self.fraction())
    }

    /// A wait of at most `longest`, and at least nine tenths of it.
    pub(super) fn within(self, longest: Duration) -> Duration {
        longest.mul_f64(0.9 + 0.1 * self.fraction())
    }

    /// A wait of at least `shortest`, and at most a tenth longer.
    pub(super) fn beyond(self, shortest: Duration) -> Duration {
        shortest.mul_f64(1.0 + 0.1 * self.fraction())
    }

    /// A time between half of `pause` and all of it.
    pub(super) fn half_to_whole(self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + 0.5 * self.fraction())
    }

    fn fraction(self) -> f64 {
        f64::from(self.0) / (f64::from(u32::MAX) + 1.0)
    }
}
