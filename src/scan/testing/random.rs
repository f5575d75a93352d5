//! Chance that can be repeated.

use std::{fmt, fs::OpenOptions, io::Write as _, thread};

/// What all chance of a run begins with.
pub fn seed() -> u64 {
    number("KEYWARD_SEED").unwrap_or(0x6b65_7977_6172_6421)
}

/// How many cases to try: `most`, unless the environment says fewer. Whoever asks for figures is told.
pub fn cases(most: u32) -> u32 {
    let cases = number("KEYWARD_CASES").map_or(most, |cases| most.min(cases as u32));
    tell(cases);
    cases
}

/// Adds a line to the file that `KEYWARD_FIGURES` names, if it names one: which test tries how many cases.
fn tell(cases: u32) {
    let Some(path) = std::env::var_os("KEYWARD_FIGURES") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of KEYWARD_FIGURES");
    let test = thread::current().name().unwrap_or_default().to_owned();
    file.write_all(format!("cases\t{test}\t{cases}\n").as_bytes()).expect("the file of KEYWARD_FIGURES");
}

#[allow(clippy::disallowed_methods, reason = "only tests read it: with which cases is no configuration of the program")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, and is {text:?}")))
}

/// SplitMix64 (Steele, Lea and Flood, 2014): a few instructions for a number, where a strategy that shrinks costs more
/// than the code that is tested.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`. The bias is far below what any test could see.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Checks a property of `most` cases. `make` is given a size that grows from 1 to `size` over the first cases, so that
/// what fails first is small; `check` says what is wrong.
pub fn prove<T: fmt::Debug>(
    most: u32,
    size: usize,
    mut make: impl FnMut(&mut Random, usize) -> T,
    mut check: impl FnMut(&T) -> Result<(), String>,
) {
    let (seed, cases) = (seed(), cases(most));
    for i in 0..cases {
        let mut random = Random::new(seed ^ (u64::from(i) << 32));
        let size = (1 + i as usize * size * 4 / cases as usize).min(size);
        let case = make(&mut random, size);
        if let Err(why) = check(&case) {
            panic!("{why}\ncase {i} of {cases}: {case:#?}\nto repeat: KEYWARD_SEED={seed}");
        }
    }
}
