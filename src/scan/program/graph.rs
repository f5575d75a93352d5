//! A dense DFA, read into plain lists that can be reasoned about.
//!
//! The DFA enters; its reachable states leave, with what each reports, and whether it
//! lives. It knows nothing of how the tables are laid out.

use std::collections::HashMap;

use regex_automata::{
    dfa::Automaton,
    util::{primitives::StateID, start},
};

use super::{Dfa, Semantics};

/// The reachable part of the DFA, before trimming. State 0 is dead.
pub(super) struct Graph {
    classes: Box<[u8; 256]>,
    /// Successors by state and class.
    pub(super) next: Vec<Box<[u32]>>,
    /// The rules certain to match up to the byte that leads to a state.
    pub(super) now: Vec<Vec<u32>>,
    /// The rules that match up to the byte before the one that leads to a state.
    pub(super) late: Vec<Vec<u32>>,
    /// The rules that match if the text ends in a state.
    pub(super) end: Vec<Vec<u32>>,
    /// By kind of position: the state of a match that starts there.
    pub(super) starts: Vec<u32>,
    pub(super) kind_at_start: u8,
    pub(super) kind_after: Box<[u8; 256]>,
}

impl Graph {
    /// Visits every state that can be reached from a start.
    pub(super) fn explore(dfa: &Dfa, semantics: Semantics) -> Self {
        let mut classes = Box::new([0; 256]);
        for byte in 0..=255u8 {
            classes[usize::from(byte)] = dfa.byte_classes().get(byte);
        }
        let samples: Vec<u8> = dfa.byte_classes().representatives(..).filter_map(|unit| unit.as_u8()).collect();

        let mut numbers = Numbers::default();
        let mut starts = Vec::new();
        let kind_at_start = kind(dfa, None, &mut numbers, &mut starts);
        let mut kind_after = Box::new([0; 256]);
        for byte in 0..=255u8 {
            kind_after[usize::from(byte)] = kind(dfa, Some(byte), &mut numbers, &mut starts);
        }

        let mut graph = Self {
            classes,
            next: vec![vec![0; samples.len()].into()],
            now: vec![Vec::new()],
            late: vec![Vec::new()],
            end: vec![Vec::new()],
            starts,
            kind_at_start,
            kind_after,
        };
        // `numbers` grows while its states are visited in order.
        while let Some(&id) = numbers.order.get(graph.next.len() - 1) {
            let next = samples.iter().map(|&b| numbers.of(dfa, dfa.next_state(id, b))).collect();
            graph.next.push(next);
            graph.late.push(matches(dfa, id));
            graph.end.push(matches(dfa, dfa.next_eoi_state(id)));
        }
        graph.advance(semantics);
        graph
    }

    /// Moves each match that is certain to the state before the one that reports it.
    ///
    /// Certain are the matches that every next byte confirms, and the end of the text
    /// too. Where rules are preferred by order, the preferred one must be the same in
    /// all cases.
    fn advance(&mut self, semantics: Semantics) {
        for state in 1..self.next.len() {
            let mut certain = self.end[state].clone();
            for &to in &self.next[state] {
                let confirmed = &self.late[to as usize];
                certain.retain(|rule| confirmed.contains(rule));
            }
            if semantics == Semantics::LeftmostFirst {
                debug_assert!(certain.len() <= 1, "leftmost-first prefers one rule");
            }
            self.now.push(certain);
        }
    }

    /// For each state, whether a match can still end after it, or end in it on a
    /// condition that is yet open.
    pub(super) fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.next.len()];
        let mut before = vec![Vec::new(); self.next.len()];
        let mut work = Vec::new();
        for (state, is_live) in live.iter_mut().enumerate().skip(1) {
            let open = |rules: &Vec<u32>| rules.iter().any(|r| !self.now[state].contains(r));
            *is_live = open(&self.end[state]);
            for &to in &self.next[state] {
                let to = to as usize;
                before[to].push(state);
                *is_live |= open(&self.late[to]) || !self.now[to].is_empty();
            }
            if *is_live {
                work.push(state);
            }
        }
        while let Some(state) = work.pop() {
            for &from in &before[state] {
                if !std::mem::replace(&mut live[from], true) {
                    work.push(from);
                }
            }
        }
        live
    }

    /// Joins byte classes that no state tells apart. Returns the class of each byte, and
    /// for each class one of the classes it was made of.
    pub(super) fn merge_classes(&self) -> (Box<[u8; 256]>, Vec<usize>) {
        let mut columns = HashMap::new();
        let mut samples = Vec::new();
        let merged: Vec<u8> = (0..self.next[0].len())
            .map(|class| {
                let column: Vec<u32> = self.next.iter().map(|row| row[class]).collect();
                *columns.entry(column).or_insert_with(|| {
                    samples.push(class);
                    // There are at most as many as there are bytes.
                    (samples.len() - 1) as u8
                })
            })
            .collect();
        let mut classes = self.classes.clone();
        for class in classes.iter_mut() {
            *class = merged[usize::from(*class)];
        }
        (classes, samples)
    }
}

/// The numbers given to states of the DFA in the order of their discovery.
#[derive(Default)]
struct Numbers {
    by_id: HashMap<StateID, u32>,
    order: Vec<StateID>,
}

impl Numbers {
    fn of(&mut self, dfa: &Dfa, id: StateID) -> u32 {
        // A quit state cannot be: no byte is configured to quit.
        if dfa.is_dead_state(id) || dfa.is_quit_state(id) {
            return 0;
        }
        *self.by_id.entry(id).or_insert_with(|| {
            self.order.push(id);
            self.order.len() as u32
        })
    }
}

/// The rules that the DFA reports in this state.
fn matches(dfa: &Dfa, id: StateID) -> Vec<u32> {
    if !dfa.is_match_state(id) {
        return Vec::new();
    }
    (0..dfa.match_len(id)).map(|i| dfa.match_pattern(id, i).as_u32()).collect()
}

/// The kind of the position behind `before`; adds its start state to `starts` if new.
fn kind(dfa: &Dfa, before: Option<u8>, numbers: &mut Numbers, starts: &mut Vec<u32>) -> u8 {
    let config = start::Config::new().look_behind(before).anchored(regex_automata::Anchored::Yes);
    // An anchored start is always supported by a DFA built with anchored starts, so the
    // error arm is for quit bytes, of which there are none.
    let start = dfa.start_state(&config).map_or(0, |id| numbers.of(dfa, id));
    let kind = starts.iter().position(|&s| s == start).unwrap_or_else(|| {
        starts.push(start);
        starts.len() - 1
    });
    kind as u8
}
