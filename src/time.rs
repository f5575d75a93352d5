//! The only reader of clocks.
//!
//! Everything below takes a [`Now`] (or an [`Instant`]) as an argument, so that a limit, a cache entry or a record
//! can be tested at any moment without waiting for it. A request reads the clock once at its start and once at
//! each later event that needs a time of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// One moment on both clocks: `monotonic` for durations and limits, `wall` for what people read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic: Instant,
    pub wall: SystemTime,
}

/// A source of [`Now`]: the system's, or one that a test moves by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<ManualTime>>,
}

#[derive(Debug)]
struct ManualTime {
    start: Now,
    elapsed_ns: AtomicU64,
    /// By how much the wall clock was set, in seconds; may be negative.
    wall_step: AtomicI64,
    moved: Notify,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still until [`Clock::advance`] moves it; copies move together.
    #[allow(clippy::disallowed_methods, reason = "this module is the one place that reads clocks")]
    pub fn manual() -> Self {
        let start = Now { monotonic: Instant::now(), wall: SystemTime::now() };
        Self {
            manual: Some(Arc::new(ManualTime {
                start,
                elapsed_ns: AtomicU64::new(0),
                wall_step: AtomicI64::new(0),
                moved: Notify::new(),
            })),
        }
    }

    /// Moves a manual clock; the system's clocks cannot be moved and stay as they are.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            manual.elapsed_ns.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
            manual.moved.notify_waiters();
        }
    }

    /// Sets the wall time of a manual clock forward or back by so many seconds, as an operator or NTP does; monotonic
    /// time goes on as before.
    pub fn step_wall(&self, seconds: i64) {
        if let Some(manual) = &self.manual {
            manual.wall_step.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    /// Waits until this clock has moved on by `by`; a manual one moves only by [`Clock::advance`].
    pub async fn sleep(&self, by: Duration) {
        let Some(manual) = &self.manual else { return tokio::time::sleep(by).await };
        let until = self.now().monotonic + by;
        loop {
            let mut moved = std::pin::pin!(manual.moved.notified());
            moved.as_mut().enable();
            if self.now().monotonic >= until {
                return;
            }
            moved.await;
        }
    }

    /// The present moment.
    #[allow(clippy::disallowed_methods, reason = "this module is the one place that reads clocks")]
    pub fn now(&self) -> Now {
        match &self.manual {
            None => Now { monotonic: Instant::now(), wall: SystemTime::now() },
            Some(manual) => {
                let elapsed = Duration::from_nanos(manual.elapsed_ns.load(Ordering::SeqCst));
                let step = manual.wall_step.load(Ordering::SeqCst);
                let by = Duration::from_secs(step.unsigned_abs());
                let wall = manual.start.wall + elapsed;
                let wall = if step < 0 { wall - by } else { wall + by };
                Now { monotonic: manual.start.monotonic + elapsed, wall }
            }
        }
    }

    /// The present moment for durations and limits alone: half of what [`Clock::now`] costs.
    #[allow(clippy::disallowed_methods, reason = "this module is the one place that reads clocks")]
    pub fn monotonic(&self) -> Instant {
        match &self.manual {
            None => Instant::now(),
            Some(_) => self.now().monotonic,
        }
    }
}
