//! The states that threads already occupy, so that no two threads share one.
//!
//! Two threads in one state have the same future, so the one that started first stands
//! for both. This is what bounds the number of threads by the number of states.

use super::program::{State, Table};

/// How many states are compared one by one before marks are used.
const FEW: usize = 8;

/// Tells the states of one step apart. The threads that are kept are themselves the list that is searched, so that a
/// scanner of an ordinary text needs no memory for it.
#[derive(Default)]
pub(super) struct Occupied {
    /// Made once there are more than [`FEW`] threads, which ordinary texts never reach.
    marks: Option<Box<Marks>>,
}

#[derive(Default)]
struct Marks {
    /// `states[s] == generation` means that state number `s` is occupied.
    states: Vec<u32>,
    generation: u32,
}

impl Occupied {
    /// Whether `state` is none of those `kept` so far in this step. Then the caller keeps it, before it asks again.
    #[inline(always)]
    pub(super) fn is_new(
        &mut self,
        table: &Table,
        mut kept: impl ExactSizeIterator<Item = State> + Clone,
        state: State,
    ) -> bool {
        if kept.len() > FEW {
            return self.marks.get_or_insert_default().mark(table, state);
        }
        if kept.clone().any(|other| other == state) {
            return false;
        }
        if kept.len() == FEW {
            self.spill(table, &mut kept);
            return self.marks.get_or_insert_default().mark(table, state);
        }
        true
    }

    /// Moves from comparing to marks.
    #[cold]
    fn spill(&mut self, table: &Table, kept: &mut dyn Iterator<Item = State>) {
        let marks = self.marks.get_or_insert_default();
        marks.states.resize(table.states(), 0);
        marks.generation = marks.generation.checked_add(1).unwrap_or_else(|| {
            marks.states.fill(0);
            1
        });
        for state in kept {
            marks.mark(table, state);
        }
    }
}

impl Marks {
    /// Marks `state`; false if it was.
    fn mark(&mut self, table: &Table, state: State) -> bool {
        let mark = &mut self.states[table.index(state)];
        std::mem::replace(mark, self.generation) != self.generation
    }
}

#[cfg(test)]
mod tests;
