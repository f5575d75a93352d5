//! The transition tables of a [`Program`](super::Program), copied from a dense DFA and
//! trimmed.
//!
//! Two things are added to what the DFA knows. Every state from which no match can be
//! reached becomes the one dead state, so that a living thread always has a witness: a
//! text that completes its match. And since the DFA reports a match one byte late, a
//! match that does not depend on that byte is moved to the state before it.

use std::collections::HashMap;

use super::{Dfa, Semantics, Skip, graph::Graph};

/// A state, as the index of its first entry in the transition table.
pub(crate) type State = u32;

/// The farthest that a start is followed at once. Each byte is part of so many of them at most.
const FAR: u64 = 4;

/// The state from which nothing can match.
pub(crate) const DEAD: State = 0;

/// Which rules a state reports, as indices into [`Table::sets`].
#[derive(Clone, Copy)]
struct Reports {
    /// Matches that end with the byte that led here.
    now: u32,
    /// Matches that ended before that byte and needed it to be certain.
    late: u32,
    /// Matches that end here if the text ends here.
    end: u32,
}

/// Transitions, start states and reports.
///
/// States are ordered: the dead one, those that only live, those that live and report,
/// those that report and die. Two comparisons tell which a state is.
pub(crate) struct Table {
    classes: Box<[u8; 256]>,
    /// Classes, which is the length of a state's row.
    stride: usize,
    transitions: Box<[State]>,
    /// States from here on report something.
    reporting: State,
    /// States from here on report and then die.
    dying: State,
    reports: Box<[Reports]>,
    sets: Box<[Box<[u32]>]>,
    /// One start state per kind of position: what the byte before it is, as far as
    /// look-behind can tell.
    starts: Box<[State]>,
    kind_at_start: u8,
    kind_after: Box<[u8; 256]>,
    skip: Skip,
    /// How far a start is followed at once, in bytes.
    far: u64,
}

impl Table {
    /// Renumbers the states that live or report, and drops the rest.
    pub(super) fn new(dfa: &Dfa, semantics: Semantics) -> Self {
        let graph = Graph::explore(dfa, semantics);
        let live = graph.live();
        let reports = |s: usize| !graph.now[s].is_empty() || !graph.late[s].is_empty();
        let rank = |s: usize| match (live[s], reports(s)) {
            (true, false) => 1,
            (true, true) => 2,
            (false, true) => 3,
            (false, false) => 0,
        };
        let mut order: Vec<usize> = (0..graph.next.len()).filter(|&s| rank(s) > 0).collect();
        order.sort_by_key(|&s| rank(s));
        let count = |r: usize| order.iter().filter(|&&s| rank(s) == r).count();
        let (reporting, dying) = (1 + count(1), 1 + count(1) + count(2));

        let (classes, samples) = graph.merge_classes();
        let stride = samples.len();
        let mut renumbered = vec![DEAD; graph.next.len()];
        for (new, &old) in order.iter().enumerate() {
            renumbered[old] = ((new + 1) * stride) as State;
        }

        let mut sets = Sets::default();
        let nothing = sets.number(&[]);
        let mut transitions = vec![DEAD; (order.len() + 1) * stride];
        let mut table_reports = vec![Reports { now: nothing, late: nothing, end: nothing }];
        for (new, &old) in order.iter().enumerate() {
            let row = (new + 1) * stride;
            // A state that reports and dies has no successors worth keeping.
            if live[old] {
                for (class, &sample) in samples.iter().enumerate() {
                    transitions[row + class] = renumbered[graph.next[old][sample] as usize];
                }
            }
            table_reports.push(Reports {
                now: sets.number(&graph.now[old]),
                late: sets.number(&graph.late[old]),
                end: sets.number(&graph.end[old]),
            });
        }
        let mut table = Self {
            classes,
            stride,
            transitions: transitions.into(),
            reporting: (reporting * stride) as State,
            dying: (dying * stride) as State,
            reports: table_reports.into(),
            sets: sets.list.into(),
            starts: graph.starts.iter().map(|&s| renumbered[s as usize]).collect(),
            kind_at_start: graph.kind_at_start,
            kind_after: graph.kind_after,
            skip: Skip::never(),
            far: FAR,
        };
        table.skip = Skip::new(&table);
        table.far = table.shortest_report(FAR) + 1;
        table
    }

    /// Gives every rule another index: `names[rule]`. The order of rules must stay.
    pub(super) fn rename(&mut self, names: &[usize]) {
        for rule in self.sets.iter_mut().flat_map(|set| set.iter_mut()) {
            // There are far fewer rules than this.
            *rule = names[*rule as usize] as u32;
        }
    }

    /// The state after `byte`.
    #[inline(always)]
    pub(crate) fn next(&self, state: State, byte: u8) -> State {
        self.transitions[state as usize + usize::from(self.classes[usize::from(byte)])]
    }

    /// The state of a match that would start at a position of this kind.
    #[inline(always)]
    pub(crate) fn start(&self, kind: u8) -> State {
        self.starts[usize::from(kind)]
    }

    /// Every kind of position.
    pub(super) fn kinds(&self) -> impl Iterator<Item = u8> + use<> {
        // There are at most six: the five that look-behind tells apart, and the start.
        0..self.starts.len() as u8
    }

    /// The kind of the first position of a text.
    pub(crate) fn kind_at_start(&self) -> u8 {
        self.kind_at_start
    }

    /// The kind of the position after `byte`.
    #[inline(always)]
    pub(crate) fn kind_after(&self, byte: u8) -> u8 {
        self.kind_after[usize::from(byte)]
    }

    /// Whether `state` has something in [`now`](Self::now) or [`late`](Self::late).
    #[inline(always)]
    pub(crate) fn reports(&self, state: State) -> bool {
        state >= self.reporting
    }

    /// Whether a match, other than those reported on arrival, can still end at or after
    /// `state`.
    #[inline(always)]
    pub(crate) fn lives(&self, state: State) -> bool {
        state != DEAD && state < self.dying
    }

    /// The rules that match up to and including the byte that led to `state`.
    pub(crate) fn now(&self, state: State) -> &[u32] {
        self.set(self.reports[self.index(state)].now)
    }

    /// The rules that match up to the byte before the one that led to `state`.
    pub(crate) fn late(&self, state: State) -> &[u32] {
        self.set(self.reports[self.index(state)].late)
    }

    /// The rules that match if the text ends in `state`.
    pub(crate) fn at_end(&self, state: State) -> &[u32] {
        self.set(self.reports[self.index(state)].end)
    }

    /// Whether a match can end where it starts.
    pub(super) fn matches_empty(&self) -> bool {
        self.starts.iter().any(|&start| {
            let late = |byte| !self.late(self.next(start, byte)).is_empty();
            !self.at_end(start).is_empty() || (0..=255).any(late)
        })
    }

    /// The first index at or after `from`, a position of this kind, at which a match can start that the rest of `bytes`
    /// does not refute soon, or the length.
    ///
    /// What starts before it might as well have been followed, by a scanner that holds at most `cap` bytes: it dies in
    /// these bytes, reports nothing, and is dead before a start behind it can report.
    #[inline]
    pub(crate) fn next_start(&self, kind: u8, bytes: &[u8], from: usize, cap: u64) -> usize {
        let far = cap.clamp(1, self.far) as usize;
        self.skip.find(bytes, from, |at| {
            let kind = if at == from { kind } else { self.kind_after(bytes[at - 1]) };
            let mut state = self.start(kind);
            for &byte in bytes[at..].iter().take(far) {
                state = self.next(state, byte);
                if state == DEAD || self.reports(state) {
                    return state != DEAD;
                }
            }
            true
        })
    }

    /// The fewest bytes behind a start after which something is reported, or `most` if those are more.
    fn shortest_report(&self, most: u64) -> u64 {
        let mut states: Vec<State> = self.starts.to_vec();
        for bytes in 1..most {
            let next = states.iter().flat_map(|&state| (0..=u8::MAX).map(move |byte| self.next(state, byte)));
            states = next.filter(|&state| state != DEAD).collect();
            states.sort_unstable();
            states.dedup();
            if states.iter().any(|&state| self.reports(state)) {
                return bytes;
            }
        }
        most
    }

    /// How to pass over bytes where nothing can start.
    #[inline(always)]
    pub(crate) fn skip(&self) -> &Skip {
        &self.skip
    }

    /// How many states there are, the dead one included.
    pub(crate) fn states(&self) -> usize {
        self.reports.len()
    }

    /// A dense number for `state`, below [`states`](Self::states).
    #[inline(always)]
    pub(crate) fn index(&self, state: State) -> usize {
        state as usize / self.stride
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.transitions)
            + size_of_val(&*self.reports)
            + self.sets.iter().map(|set| size_of_val(&**set)).sum::<usize>()
    }

    fn set(&self, set: u32) -> &[u32] {
        &self.sets[set as usize]
    }

    /// The longest path from a start through living states, in bytes, or `None` if there
    /// is a cycle. With `stop_at_match`, a certain match ends the path.
    pub(super) fn longest_hold(&self, stop_at_match: bool) -> Option<usize> {
        const UNSEEN: usize = usize::MAX;
        const OPEN: usize = usize::MAX - 1;
        // `longest[s]` is the longest living path that begins at s.
        let mut longest = vec![UNSEEN; self.states()];
        let classes = self.stride;
        let decided = |state: State| stop_at_match && !self.now(state).is_empty();
        let follow = |state: State| self.lives(state) && !decided(state);
        let mut best = 0;
        for &start in &self.starts {
            // An explicit stack, since a path can be as long as there are states.
            let mut stack = vec![(start, 0, 0)];
            longest[self.index(start)] = OPEN;
            while let Some((state, class, far)) = stack.last_mut() {
                if *class == classes {
                    let (state, far) = (*state, *far);
                    longest[self.index(state)] = far;
                    stack.pop();
                    if let Some((_, _, up)) = stack.last_mut() {
                        *up = (*up).max(far + 1);
                    }
                    continue;
                }
                let to = self.transitions[*state as usize + *class];
                *class += 1;
                if !follow(to) {
                    continue;
                }
                match longest[self.index(to)] {
                    OPEN => return None,
                    UNSEEN => {
                        longest[self.index(to)] = OPEN;
                        stack.push((to, 0, 0));
                    }
                    known => *far = (*far).max(known + 1),
                }
            }
            best = best.max(longest[self.index(start)]);
        }
        Some(best)
    }
}

/// Sets of rules, each kept once.
#[derive(Default)]
struct Sets {
    numbers: HashMap<Box<[u32]>, u32>,
    list: Vec<Box<[u32]>>,
}

impl Sets {
    fn number(&mut self, rules: &[u32]) -> u32 {
        *self.numbers.entry(rules.into()).or_insert_with(|| {
            self.list.push(rules.into());
            (self.list.len() - 1) as u32
        })
    }
}
