//! The states that threads already occupy, so that no two threads share one.
//!
//! Two threads in one state have the same future, so the one that started first stands
//! for both. This is what bounds the number of threads by the number of states.

use super::program::{State, Table};

/// How many states are compared one by one before marks are used.
const FEW: usize = 8;

/// A set of states that is emptied in constant time.
#[derive(Default)]
pub(super) struct Occupied {
    few: [State; FEW],
    len: usize,
    /// `marks[s] == generation` means that state number `s` is in the set. Filled only
    /// once there are more than [`FEW`] threads, which ordinary texts never reach.
    marks: Vec<u32>,
    generation: u32,
}

impl Occupied {
    /// Empties the set.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds `state`; false if it was there.
    #[inline(always)]
    pub(super) fn insert(&mut self, table: &Table, state: State) -> bool {
        if self.len > FEW {
            return self.mark(table, state);
        }
        if self.few[..self.len.min(FEW)].contains(&state) {
            return false;
        }
        if self.len == FEW {
            return self.spill(table, state);
        }
        self.few[self.len] = state;
        self.len += 1;
        true
    }

    /// Moves from the short list to marks, and adds `state`, which is new.
    #[cold]
    fn spill(&mut self, table: &Table, state: State) -> bool {
        self.marks.resize(table.states(), 0);
        self.generation = self.generation.checked_add(1).unwrap_or_else(|| {
            self.marks.fill(0);
            1
        });
        for state in self.few {
            self.mark(table, state);
        }
        self.mark(table, state)
    }

    fn mark(&mut self, table: &Table, state: State) -> bool {
        let mark = &mut self.marks[table.index(state)];
        if *mark == self.generation {
            return false;
        }
        *mark = self.generation;
        self.len = FEW + 1;
        true
    }
}

#[cfg(test)]
mod tests;
