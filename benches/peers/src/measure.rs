//! Rounds, and what is made of them.

use std::time::{Duration, Instant};

use crate::{
    item,
    pools::{Caller, Result, Work},
};

/// How long one peer works in one round.
#[derive(Clone, Copy)]
pub struct Length {
    /// Before anything counts: connections wake up, statements are prepared.
    pub rehearsal: Duration,
    pub counted: Duration,
}

/// What one peer did in one round.
pub struct Round {
    pub per_second: f64,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
}

impl Round {
    pub fn new(mut latencies: Vec<Duration>, length: Length) -> Self {
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies.get(at).map_or(f64::NAN, Duration::as_secs_f64) * 1e6
        };
        Self {
            per_second: latencies.len() as f64 / length.counted.as_secs_f64(),
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

/// Borrows over and over, and says how long each took, from asking to having returned.
pub async fn drive(
    task: usize,
    length: Length,
    caller: &mut impl Caller,
    work: Work,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(1 << 15);
    let mut id = task as u32;
    let mut last = Instant::now();
    let counted_from = last + length.rehearsal;
    let until = counted_from + length.counted;
    while last < until {
        id = (id + 7) % item::ROWS;
        caller.borrow(work, id).await?;
        let now = Instant::now();
        if last >= counted_from {
            latencies.push(now - last);
        }
        last = now;
    }
    Ok(latencies)
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

/// Median over the rounds of the ratio within each: what disturbs a round disturbs both.
pub fn median_ratio(a: &[f64], b: &[f64]) -> f64 {
    median(a.iter().zip(b).map(|(a, b)| a / b))
}
