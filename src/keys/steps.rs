//! The steps of a change, at each of which a test can kill the process. Nothing in any other build.

/// Between two steps of a change.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn step() {}

#[cfg(test)]
pub(super) use testing::step;

#[cfg(test)]
pub(super) mod testing {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// This thread's process dies, by SIGKILL, at the step after `steps` more.
    pub fn die_after(steps: usize) {
        LEFT.set(Some(steps));
    }

    pub fn step() {
        match LEFT.get() {
            None => {}
            Some(0) => loop {
                let id = std::process::id().to_string();
                std::process::Command::new("kill").args(["-9", &id]).status().expect("`kill` is there");
            },
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}
