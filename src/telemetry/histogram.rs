//! How long things took: a histogram that is recorded without a lock, and what is read of it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::telemetry::export;

/// In nanoseconds, the upper bounds of all buckets but the last, which has none.
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

/// How often something took how long, since the pool was made: a copy of what had been recorded when
/// [`Pool::metrics`](crate::Pool::metrics) was called.
///
/// Times are counted in buckets, by [`BOUNDS`](Self::BOUNDS), so the memory it takes does not grow. A time that was being
/// recorded at that moment may be in [`count`](Self::count) and not yet in [`sum`](Self::sum).
///
/// With feature `serde` it is serialised as `{"count", "sum", "bounds", "counts"}`, the sum and the bounds in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// The upper bounds of the buckets, in seconds, smallest first: 0.1 ms to 60 s. A time that is equal to a bound is
    /// counted in the bucket that ends with it. One further bucket counts what is above the last bound.
    ///
    /// They are the same for all pools, so an exporter can be configured with them.
    pub const BOUNDS: [f64; BOUNDS.len()] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        5.0, 10.0, 30.0, 60.0,
    ];

    /// How many times were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All times together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// How many times lie in each bucket: one for each of [`BOUNDS`](Self::BOUNDS), and the one above them.
    #[must_use]
    pub const fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// What was recorded since `earlier`, a copy of the same histogram that was read before: for the quantiles of the last
    /// minute, say.
    ///
    /// With a histogram of another pool, or another field, the result means nothing; no count falls below 0.
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

    /// The mean; `None` where nothing was recorded.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum.as_nanos().checked_div(self.count().into())?;
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    /// The time within which this share of all recorded times lies: `quantile(0.5)` is the median, and
    /// `quantile(0.99)` is exceeded by one time in a hundred. `None` where nothing was recorded, or `of` is not from 0 to 1.
    ///
    /// An estimate: the times in a bucket are taken to be spread evenly over it, so it is off by the width of that bucket
    /// at most. Where it lies above the last bound, it is the last bound.
    #[must_use]
    pub fn quantile(&self, of: f64) -> Option<Duration> {
        let all = self.count();
        if all == 0 || !(0.0..=1.0).contains(&of) {
            return None;
        }
        let rank = of * as_f64(all);
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

/// Its count, mean and three quantiles: `1204 times, mean 210 µs, median 180 µs, p99 940 µs`.
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

/// Records the times behind a [`Histogram`], from many threads at once.
#[derive(Debug)]
pub(crate) struct Recording {
    counts: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
    exported: export::Histogram,
}

impl Recording {
    pub(crate) fn new(exported: export::Histogram) -> Self {
        Self {
            counts: Default::default(),
            sum: AtomicU64::new(0),
            exported,
        }
    }

    pub(crate) fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanos, Ordering::Relaxed);
        self.exported.record(time);
    }

    /// Records that something took no time worth a look at the clock.
    #[inline]
    pub(crate) fn record_none(&self) {
        let [first, ..] = &self.counts;
        first.fetch_add(1, Ordering::Relaxed);
        self.exported.record(Duration::ZERO);
    }

    pub(crate) fn read(&self) -> Histogram {
        Histogram {
            counts: std::array::from_fn(|at| {
                let count = self.counts.get(at);
                count.map_or(0, |count| count.load(Ordering::Relaxed))
            }),
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
        let recording = Recording::new(export::Histogram::to_nobody());
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
    fn a_time_equal_to_a_bound_lies_below_it_and_one_above_the_last_lies_in_the_last_bucket() {
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
    fn what_took_no_time_is_counted_and_adds_nothing() {
        let recording = Recording::new(export::Histogram::to_nobody());
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
    fn quantiles_lie_evenly_in_their_bucket() {
        let histogram = recorded(&ms(&[4; 100]));
        assert_eq!(histogram.quantile(0.0), Some(Duration::from_micros(2500)));
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(3750)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_millis(5)));
        assert_eq!(histogram.mean(), Some(Duration::from_millis(4)));
        for no_share in [-0.1, 1.1, f64::NAN] {
            assert_eq!(histogram.quantile(no_share), None, "{no_share}");
        }
        let long = recorded(&ms(&[120_000]));
        assert_eq!(long.quantile(0.5), Some(Duration::from_secs(60)));
    }

    #[test]
    fn the_difference_is_what_was_recorded_in_between() {
        let earlier = recorded(&ms(&[3, 7, 400]));
        let later = recorded(&ms(&[3, 7, 400, 4, 900]));
        assert_eq!(later.since(&earlier), recorded(&ms(&[4, 900])));
        assert_eq!(later.since(&later), Histogram::default());
        assert_eq!(earlier.since(&later), Histogram::default());
    }

    #[test]
    fn threads_that_record_at_once_lose_nothing() {
        let recording = Recording::new(export::Histogram::to_nobody());
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
    fn as_json_it_has_bounds_and_sum_in_seconds() {
        let json = serde_json::to_value(recorded(&ms(&[3, 7]))).expect("JSON");
        assert_eq!(json["count"], 2);
        assert_eq!(json["sum"], 0.01);
        assert_eq!(json["bounds"][4], 0.0025);
        assert_eq!(json["counts"][5], 1);
        assert_eq!(json["counts"][6], 1);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_the_true_one(
            mut micros in proptest::collection::vec(0u64..60_000_000, 1..200), of in 0.0..=1.0f64,
        ) {
            let times: Vec<_> = micros.iter().copied().map(Duration::from_micros).collect();
            let estimate = recorded(&times).quantile(of).expect("recorded");
            micros.sort_unstable();
            // The smallest time that the share does not exceed.
            let share = |n: usize| as_f64(n as u64) / as_f64(micros.len() as u64);
            let rank = (1..=micros.len()).find(|n| share(*n) >= of).expect("the whole");
            let truth = Duration::from_micros(micros[rank - 1]);
            let at = BOUNDS.partition_point(|bound| u128::from(*bound) < truth.as_nanos());
            let lower = at.checked_sub(1).map_or(Duration::ZERO, |at| Duration::from_nanos(BOUNDS[at]));
            // A nanosecond for what is lost in seconds as numbers.
            let slack = Duration::from_nanos(1);
            prop_assert!(estimate + slack >= lower && estimate <= Duration::from_nanos(BOUNDS[at]) + slack);
        }
    }
}
