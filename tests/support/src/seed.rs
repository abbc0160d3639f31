//! Random choices that can be repeated.

use std::env;
use std::thread;
use std::time::{Duration, SystemTime};

/// A small random number generator. If the test panics it prints `SEED=...`; with that in the environment, the next
/// run makes the same choices.
#[derive(Debug)]
pub struct Seed {
    root: u64,
    state: u64,
}

impl Seed {
    /// Begins with `SEED` from the environment, else with the time.
    pub fn new() -> Self {
        let root = match env::var("SEED") {
            Ok(text) => text.parse().expect("SEED is a whole number"),
            Err(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| {
                since.as_secs() ^ (u64::from(since.subsec_nanos()) << 32)
            }),
        };
        Self::from(root)
    }

    /// Another generator for the task or thread of that number: the choices of each do not depend on how they interleave.
    pub fn fork(&self, number: u64) -> Self {
        let mut own = Self {
            root: self.root,
            state: self.root ^ number.wrapping_mul(0xD134_2543_DE82_EF95),
        };
        own.next();
        own
    }

    /// Any number, made as `SplitMix64` does.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let count = u64::try_from(items.len()).expect("a length fits into 64 bits");
        let index = usize::try_from(self.below(count)).expect("an index fits into usize");
        &items[index]
    }

    /// True in `percent` of 100 calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A duration below `end`, to the microsecond.
    pub fn duration_below(&mut self, end: Duration) -> Duration {
        let micros = u64::try_from(end.as_micros()).expect("a short duration");
        Duration::from_micros(self.below(micros.max(1)))
    }
}

impl From<u64> for Seed {
    fn from(root: u64) -> Self {
        Self { root, state: root }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to repeat: SEED={}", self.root);
        }
    }
}
