//! Work timed side by side, so that a promise is a ratio and not a number of this machine.

use std::time::{Duration, Instant};

/// The medians of two pieces of work, taken in turn in the same run.
#[derive(Debug)]
pub(crate) struct SideBySide {
    pub(crate) ours: Duration,
    pub(crate) theirs: Duration,
}

impl SideBySide {
    /// How many times as long ours takes.
    pub(crate) fn ratio(&self) -> f64 {
        self.ours.as_secs_f64() / self.theirs.as_secs_f64()
    }
}

/// Runs both `rounds` times, in turn, after one round that is not counted. Each returns the time that counts,
/// measured by [`timed`] or otherwise, so that preparing and tidying up stay outside it.
pub(crate) async fn side_by_side(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> Duration,
    mut theirs: impl AsyncFnMut() -> Duration,
) -> SideBySide {
    ours().await;
    theirs().await;
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        our_times.push(ours().await);
        their_times.push(theirs().await);
    }
    SideBySide {
        ours: median(our_times),
        theirs: median(their_times),
    }
}

/// The median of `rounds` times.
pub(crate) async fn median_of(rounds: usize, mut work: impl AsyncFnMut() -> Duration) -> Duration {
    let mut times = Vec::new();
    for _ in 0..rounds {
        times.push(work().await);
    }
    median(times)
}

/// How long the future took.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = work.await;
    (value, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
