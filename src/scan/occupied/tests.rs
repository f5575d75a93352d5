use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::scan::{
    block::BlockScanner,
    program::{DEAD, Program},
    rule::Rule,
    testing::config,
};

fn states(program: &Program) -> Vec<State> {
    let table = program.table();
    // The states of one long match, one per byte.
    let mut state = table.start(table.kind_at_start());
    std::iter::from_fn(|| {
        state = table.next(state, b'a');
        (state != DEAD).then_some(state)
    })
    .collect()
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn it_is_a_set(rounds in proptest::collection::vec(proptest::collection::vec(0..20usize, 0..40), 0..6)) {
        let program = Program::compile(&[Rule::new("r", "a{20}b")]).unwrap();
        let states = states(&program);
        prop_assert_eq!(states.len(), 20);
        let mut occupied = Occupied::default();
        for round in rounds {
            let (mut kept, mut expected) = (Vec::new(), HashSet::new());
            for i in round {
                let is_new = occupied.is_new(program.table(), kept.iter().copied(), states[i]);
                prop_assert_eq!(is_new, expected.insert(i));
                kept.extend(is_new.then_some(states[i]));
            }
        }
    }
}

#[test]
fn many_threads_are_as_good_as_few() {
    let program = Program::compile(&[Rule::new("r", "[ab]{20}c")]).unwrap();
    let mut scanner = BlockScanner::new(&program, u64::MAX);
    scanner.feed(&program, &b"ab".repeat(50));
    assert_eq!(scanner.frontier(), 80);
    scanner.feed(&program, b"c");
    assert_eq!(scanner.hit().map(|hit| (hit.start, hit.end)), Some((80, 101)));
}

#[test]
fn marks_are_cleared_when_their_generation_comes_round() {
    let program = Program::compile(&[Rule::new("r", "a{20}b")]).unwrap();
    let states = states(&program);
    let marks = Marks { generation: u32::MAX - 1, ..Marks::default() };
    let mut occupied = Occupied { marks: Some(Box::new(marks)) };
    for _ in 0..4 {
        for kept in 0..20 {
            assert!(occupied.is_new(program.table(), states[..kept].iter().copied(), states[kept]));
        }
        for &state in &states {
            assert!(!occupied.is_new(program.table(), states.iter().copied(), state));
        }
    }
}
