//! When to renew something that ends, so that many who began together do not renew together.

use std::time::Duration;

/// A drawn lot. Everything below takes it as an argument, so that a test can draw any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(pub(super) u32);

impl Chance {
    /// Without randomness all lots are the middle one: nothing breaks, only nothing is spread.
    pub(super) fn draw() -> Self {
        Self(getrandom::u32().unwrap_or(u32::MAX / 2))
    }

    /// A time in the last tenth of `lifetime`, early enough to renew before the end: 90 to 97 hundredths.
    pub(super) fn near_the_end_of(self, lifetime: Duration) -> Duration {
        lifetime.mul_f64(0.90 + 0.07 * self.fraction())
    }

    /// A time anywhere before the last hundredths of `lifetime`.
    pub(super) fn anywhere_in(self, lifetime: Duration) -> Duration {
        lifetime.mul_f64(0.97 * self.fraction())
    }

    /// A time between half of `pause` and all of it.
    pub(super) fn half_to_whole(self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + 0.5 * self.fraction())
    }

    fn fraction(self) -> f64 {
        f64::from(self.0) / (f64::from(u32::MAX) + 1.0)
    }
}
