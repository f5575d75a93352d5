//! One budget for every body that is held, so that many large bodies become refusals and not an end of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// The budget. Shared by all workers.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    total: usize,
    used: AtomicUsize,
    gauge: IntGauge,
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    pub(super) fn new(total: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { total, used: AtomicUsize::new(0), gauge })
    }

    /// An empty lease, to be grown.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        Lease { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Lease {
    /// Another empty lease of the same budget.
    pub(super) fn sibling(&self) -> Self {
        self.budget.lease()
    }

    /// Takes over what another lease of the same budget holds.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Takes `bytes` more, or none.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let budget = &self.budget;
        budget
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= budget.total)
            })
            .map_err(|_| Exhausted)?;
        self.bytes += bytes;
        budget.gauge.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Holds `bytes` from now on: takes the rest, or gives back what is too much.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if bytes >= self.bytes {
            return self.grow(bytes - self.bytes);
        }
        let freed = self.bytes - bytes;
        self.budget.used.fetch_sub(freed, Ordering::Relaxed);
        self.budget.gauge.sub(i64::try_from(freed).unwrap_or(i64::MAX));
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.gauge.sub(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_all_or_nothing_and_comes_back() {
        let gauge = IntGauge::new("held", "held").expect("a name");
        let budget = MemoryBudget::new(10, gauge.clone());
        let mut first = budget.lease();
        assert_eq!(first.grow(8), Ok(()));
        let mut second = budget.lease();
        assert_eq!(second.grow(3), Err(Exhausted));
        assert_eq!(second.grow(2), Ok(()));
        assert_eq!(second.grow(usize::MAX), Err(Exhausted));
        assert_eq!(gauge.get(), 10);
        assert_eq!((first.resize(10), first.resize(3), gauge.get()), (Err(Exhausted), Ok(()), 5));
        assert_eq!(first.resize(8), Ok(()));
        let mut third = first.sibling();
        assert_eq!((first.resize(5), third.grow(3)), (Ok(()), Ok(())));
        first.absorb(third);
        assert_eq!(gauge.get(), 10);
        drop(first);
        assert_eq!(second.grow(8), Ok(()));
        drop(second);
        assert_eq!(gauge.get(), 0);
    }
}
