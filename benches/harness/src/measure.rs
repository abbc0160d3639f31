//! Rounds and their statistics; conditions to wait for.

use std::time::{Duration, Instant};

use crate::Result;

/// How long one peer works in one round.
#[derive(Clone, Copy)]
pub struct Length {
    /// Uncounted time at the start: connections wake up, statements are prepared.
    pub rehearsal: Duration,
    pub counted: Duration,
}

/// One peer's results in one round.
pub struct Round {
    pub per_second: f64,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
}

impl Round {
    pub fn new(mut latencies: Vec<Duration>, length: Length) -> Self {
        latencies.sort_unstable();
        let microseconds =
            |share| quantile(&latencies, share).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        Self {
            per_second: latencies.len() as f64 / length.counted.as_secs_f64(),
            p50: microseconds(0.5),
            p99: microseconds(0.99),
        }
    }
}

/// The order of the sides, round after round: each once a round, rotating.
pub fn turns(rounds: usize, sides: usize) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(move |round| (0..sides).map(move |turn| (round + turn) % sides))
}

/// Two pieces of work, timed in turn.
pub struct SideBySide {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl SideBySide {
    /// Runs both `rounds` times, after one uncounted round. Each returns the time that counts, so
    /// preparing and cleaning up stay outside it.
    pub async fn run(
        rounds: usize,
        mut ours: impl AsyncFnMut() -> Result<Duration>,
        mut theirs: impl AsyncFnMut() -> Result<Duration>,
    ) -> Result<Self> {
        ours().await?;
        theirs().await?;
        let mut times = [Vec::new(), Vec::new()];
        for side in turns(rounds, 2) {
            let took = if side == 0 {
                ours().await?
            } else {
                theirs().await?
            };
            times[side].push(took.as_secs_f64());
        }
        let [ours, theirs] = times;
        Ok(Self { ours, theirs })
    }

    /// How many times as long ours takes as theirs.
    pub fn ratio(&self) -> f64 {
        self.ratio_to_more(Duration::ZERO)
    }

    /// How many times as long ours takes as theirs plus `more`.
    pub fn ratio_to_more(&self, more: Duration) -> f64 {
        let theirs: Vec<_> = self
            .theirs
            .iter()
            .map(|time| time + more.as_secs_f64())
            .collect();
        median_ratio(&self.ours, &theirs)
    }

    /// Our shortest time, in seconds.
    pub fn best(&self) -> f64 {
        self.ours.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The median over the rounds of the ratio within each: a disturbance affects both sides of a
/// round.
pub fn median_ratio(a: &[f64], b: &[f64]) -> f64 {
    median(a.iter().zip(b).map(|(a, b)| a / b))
}

/// The given quantile of the times; `None` if there are none.
pub fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted
        .get((sorted.len() as f64 * share) as usize)
        .or(sorted.get(last))
        .copied()
}

/// Waits until the condition holds; fails after half a minute.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds().await? {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("not so after {:?}: {what}", start.elapsed()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The median of several tries.
pub async fn median_of(
    tries: usize,
    mut attempt: impl AsyncFnMut() -> Result<Duration>,
) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..tries {
        times.push(attempt().await?.as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(times)))
}
