//! Work timed, alone or side by side with other work, so that a promise is a ratio and not a number of this machine.

use std::time::{Duration, Instant};

/// The times of two pieces of work, taken in turn in the same run.
#[derive(Debug)]
pub struct SideBySide {
    /// The medians.
    pub ours: Duration,
    pub theirs: Duration,
    rounds: Vec<(Duration, Duration)>,
}

impl SideBySide {
    /// How many times as long ours takes: the median of the rounds' ratios, so that a machine that is busy for some of
    /// the time is so for both.
    pub fn ratio(&self) -> f64 {
        self.ratio_to_more(Duration::ZERO)
    }

    /// How many times as long as theirs and that much more ours takes.
    pub fn ratio_to_more(&self, more: Duration) -> f64 {
        let ratio = |(ours, theirs): &(Duration, Duration)| {
            ours.as_secs_f64() / (*theirs + more).as_secs_f64()
        };
        let mut ratios: Vec<_> = self.rounds.iter().map(ratio).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// Runs both `rounds` times, in turn, after one round that is not counted. Each returns the time that counts,
/// measured by [`timed`] or otherwise, so that preparing and tidying up stay outside it.
pub async fn side_by_side(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> Duration,
    mut theirs: impl AsyncFnMut() -> Duration,
) -> SideBySide {
    ours().await;
    theirs().await;
    let mut both = Vec::new();
    for _ in 0..rounds {
        both.push((ours().await, theirs().await));
    }
    SideBySide {
        ours: median(both.iter().map(|round| round.0).collect()),
        theirs: median(both.iter().map(|round| round.1).collect()),
        rounds: both,
    }
}

/// How long the future took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = work.await;
    (value, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
