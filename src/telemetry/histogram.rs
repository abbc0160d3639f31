//! Histograms of durations, recorded without a lock.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::time::nanos;

/// The upper bounds of the buckets in nanoseconds. The last bucket has none.
const BOUNDS: [u64; 18] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// A histogram of durations recorded since a pool was created, as of the call of
/// [`Pool::metrics`](crate::Pool::metrics).
///
/// Durations are counted in fixed buckets, [`BOUNDS`](Self::BOUNDS), so its size does not grow. A
/// duration being recorded during that call may be in [`count`](Self::count) and not yet in
/// [`sum`](Self::sum).
///
/// With the feature `serde` it serialises as `{"count", "sum", "bounds", "counts"}`, sum and bounds
/// in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// The upper bounds of the buckets in seconds, inclusive and ascending: 0.1 ms to 60 s. One
    /// more bucket counts what is above the last bound.
    ///
    /// They are the same for all pools, so an exporter can be configured with them.
    pub const BOUNDS: [f64; BOUNDS.len()] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        5.0, 10.0, 30.0, 60.0,
    ];

    /// The bounds in seconds that OpenTelemetry recommends for the exported
    /// `db.client.operation.duration`: 1 ms to 10 s.
    pub const OPERATION_BOUNDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

    /// Returns the number of durations recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations recorded.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns the number of durations in each bucket: one for each of [`BOUNDS`](Self::BOUNDS),
    /// then the one above them.
    #[must_use]
    pub const fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns what was recorded since `earlier`, a previous reading of the same histogram: for
    /// example to get the quantiles of the last minute.
    ///
    /// With a reading of another histogram the result is meaningless; counts saturate at 0.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn run(pool: mysql_warm_pool::Pool) {
    /// let mut before = pool.metrics().wait_time;
    /// let mut minutes = tokio::time::interval(Duration::from_secs(60));
    /// loop {
    ///     minutes.tick().await;
    ///     let now = pool.metrics().wait_time;
    ///     println!("get: {}", now.since(&before)); // 1204 times, mean 210µs, median 180µs, ...
    ///     before = now;
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Self {
            counts,
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// Returns the mean, or `None` if nothing was recorded.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum.as_nanos().checked_div(self.count().into())?;
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    /// Returns the duration that the share `q` of all recorded durations do not exceed.
    ///
    /// `quantile(0.5)` is the median, and one duration in a hundred exceeds `quantile(0.99)`.
    /// `None` if nothing was recorded or `q` is not between 0 and 1.
    ///
    /// This is an estimate. It assumes that durations are spread evenly within a bucket, so it is
    /// off by at most the width of one bucket. Above the last bound, it is the last bound.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let all = self.count();
        if all == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * as_f64(all);
        let mut below = 0.0;
        let mut lower = 0.0;
        for (count, upper) in self.counts.iter().zip(Self::BOUNDS) {
            let count = as_f64(*count);
            if count > 0.0 && below + count >= rank {
                let seconds = lower + (upper - lower) * ((rank - below) / count).max(0.0);
                return Some(Duration::from_secs_f64(seconds));
            }
            below += count;
            lower = upper;
        }
        Some(Duration::from_secs_f64(lower))
    }
}

/// Count, mean, median and 99th percentile: `1204 times, mean 210µs, median 180µs, p99 940µs`.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} times", self.count())?;
        if let (Some(mean), Some(median), Some(p99)) =
            (self.mean(), self.quantile(0.5), self.quantile(0.99))
        {
            write!(f, ", mean {mean:.0?}, median {median:.0?}, p99 {p99:.0?}")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("Histogram", 4)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("sum", &self.sum.as_secs_f64())?;
        fields.serialize_field("bounds", &Self::BOUNDS)?;
        fields.serialize_field("counts", &self.counts)?;
        fields.end()
    }
}

/// Records the durations of a [`Histogram`], from any thread.
#[derive(Debug)]
pub(crate) struct Recording {
    counts: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
    #[cfg(feature = "metrics")]
    exported: ::metrics::Histogram,
}

impl Recording {
    pub(super) fn new() -> Self {
        Self {
            counts: Default::default(),
            sum: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            exported: ::metrics::Histogram::noop(),
        }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn exported_as(self, exported: ::metrics::Histogram) -> Self {
        Self { exported, ..self }
    }

    pub(crate) fn record(&self, time: Duration) {
        let nanos = nanos(time);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanos, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.exported.record(time);
    }

    /// Records a duration of 0, for what is too short to be worth reading the clock.
    #[inline]
    pub(crate) fn record_none(&self) {
        let [first, ..] = &self.counts;
        first.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.exported.record(Duration::ZERO);
    }

    pub(super) fn read(&self) -> Histogram {
        Histogram {
            counts: self
                .counts
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum.load(Ordering::Relaxed)),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 would take centuries"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(times: &[Duration]) -> Histogram {
        let recording = Recording::new();
        for time in times {
            recording.record(*time);
        }
        recording.read()
    }

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_bounds_are_the_same_in_seconds_and_in_nanoseconds() {
        let in_seconds = BOUNDS.map(|nanos| Duration::from_nanos(nanos).as_secs_f64());
        assert_eq!(Histogram::BOUNDS, in_seconds);
    }

    #[test]
    fn upper_bounds_are_inclusive_and_the_last_bucket_has_none() {
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            let bound = Duration::from_nanos(bound);
            let histogram = recorded(&[bound, bound + Duration::from_nanos(1)]);
            let expected: Vec<_> = (0..BUCKETS)
                .map(|bucket| u64::from(bucket == at || bucket == at + 1))
                .collect();
            assert_eq!(histogram.counts(), expected);
        }
        assert_eq!(recorded(&[Duration::MAX]).counts().last(), Some(&1));
    }

    #[test]
    fn no_time_is_counted_and_adds_nothing_to_the_sum() {
        let recording = Recording::new();
        recording.record_none();
        let histogram = recording.read();
        assert_eq!((histogram.count(), histogram.sum()), (1, Duration::ZERO));
        assert_eq!(histogram, recorded(&[Duration::ZERO]));
    }

    #[test]
    fn an_empty_histogram_has_no_mean_and_no_quantile() {
        let empty = Histogram::default();
        assert_eq!((empty.mean(), empty.quantile(0.5)), (None, None));
        assert_eq!(empty.to_string(), "0 times");
    }

    #[test]
    fn quantiles_assume_durations_evenly_spread_in_a_bucket() {
        let histogram = recorded(&ms(&[4; 100]));
        assert_eq!(histogram.quantile(0.0), Some(Duration::from_micros(2500)));
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(3750)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_millis(5)));
        assert_eq!(histogram.mean(), Some(Duration::from_millis(4)));
        for q in [-0.1, 1.1, f64::NAN] {
            assert_eq!(histogram.quantile(q), None, "{q}");
        }
        let long = recorded(&ms(&[120_000]));
        assert_eq!(long.quantile(0.5), Some(Duration::from_secs(60)));
    }

    #[test]
    fn the_difference_of_two_readings_is_what_lies_between() {
        let earlier = recorded(&ms(&[3, 7, 400]));
        let later = recorded(&ms(&[3, 7, 400, 4, 900]));
        assert_eq!(later.since(&earlier), recorded(&ms(&[4, 900])));
        assert_eq!(later.since(&later), Histogram::default());
        assert_eq!(earlier.since(&later), Histogram::default());
    }

    #[test]
    fn concurrent_recording_loses_nothing() {
        let recording = Recording::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        recording.record(Duration::from_micros(n));
                    }
                });
            }
        });
        let histogram = recording.read();
        assert_eq!(histogram.count(), 40_000);
        assert_eq!(
            histogram.sum(),
            Duration::from_micros(4 * 9_999 * 10_000 / 2)
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_has_bounds_and_sum_in_seconds() {
        let json = serde_json::to_value(recorded(&ms(&[3, 7]))).expect("JSON");
        assert_eq!(json["count"], 2);
        assert_eq!(json["sum"], 0.01);
        assert_eq!(json["bounds"][4], 0.0025);
        assert_eq!(json["counts"][5], 1);
        assert_eq!(json["counts"][6], 1);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_same_bucket_as_the_true_one(
            mut micros in proptest::collection::vec(0u64..60_000_000, 1..200),
            q in 0.0..=1.0f64,
        ) {
            let times: Vec<_> = micros.iter().copied().map(Duration::from_micros).collect();
            let estimate = recorded(&times).quantile(q).expect("recorded");
            micros.sort_unstable();
            // The smallest duration that at least the share `q` of all do not exceed.
            let share = |n: usize| as_f64(n as u64) / as_f64(micros.len() as u64);
            let rank = (1..=micros.len()).find(|n| share(*n) >= q).expect("all of them do");
            let truth = nanos(Duration::from_micros(micros[rank - 1]));
            let bucket = BOUNDS.partition_point(|bound| *bound < truth);
            let lower = bucket.checked_sub(1).map_or(0, |before| BOUNDS[before]);
            // Seconds as a floating-point number may be a nanosecond off.
            let estimate = nanos(estimate);
            prop_assert!(estimate + 1 >= lower && estimate <= BOUNDS[bucket] + 1);
        }
    }
}
