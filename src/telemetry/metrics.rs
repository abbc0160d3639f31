//! What has happened since the pool was made: counters and times, and the gauges that are exported beside them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    report::Readiness,
    report::discard::DiscardReason,
    telemetry::{
        Histogram, Recording,
        export::{self, Registry},
    },
};

/// What has happened since the pool was made; read by [`Pool::metrics`](crate::Pool::metrics).
///
/// Counts and histograms are since creation. What is so now is told by [`Pool::status`](crate::Pool::status). Each number
/// is exact, but they are read one after the other while the pool works, so two of them may differ by what happened in
/// between.
///
/// The feature `metrics` hands the same numbers on to the `metrics` facade; the README names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Connections handed out.
    pub gets: u64,
    /// Calls of `get()` that found no idle connection and waited.
    pub gets_waited: u64,
    /// Those of them that waited although fewer than `size` connections were in use or being cleaned: they waited for a
    /// connection to be opened, after a loss or on a cold pool.
    pub gets_waited_below_size: u64,
    /// Calls of `get()` that ended with a time-out.
    pub timeouts: u64,
    /// Connections opened.
    pub opened: u64,
    /// Attempts to open a connection that failed.
    pub failed_attempts: u64,
    /// Connections closed instead of kept, by reason.
    pub discarded: Vec<(DiscardReason, u64)>,
    /// Returned connections that were cleaned before they were idle again.
    pub cleaned: u64,
    /// What was done to clean connections, by kind: `drain` rows, `validation`, `rollback`, `reset` of
    /// the session, `database` restored. One connection may need several; a reset rolls back too.
    pub cleanings: Vec<(&'static str, u64)>,
    /// Sessions that were reset.
    pub resets: u64,
    /// Idle connections asked for a proof by a round trip.
    pub validations: u64,
    /// Proofs that were asked for because another connection had been found dead.
    pub suspects: u64,
    /// How long opening a connection took, from asking for credentials to the proof.
    pub create_time: Histogram,
    /// How long each `get()` took that had a connection. Where one was idle and fresh, that is counted as no time, without
    /// a look at the clock.
    pub wait_time: Histogram,
    /// How long connections were held, from get to return. Recorded only with the feature `metrics`, or with
    /// [`leak_after`](field@crate::PoolConfig::leak_after) set, as it costs a look at the clock at each return.
    pub use_time: Histogram,
    /// How long the last warm-up took, of those that opened connections; `None` before the first.
    pub warm_up_time: Option<Duration>,
    /// The readiness now, [as a number](Readiness::number).
    pub readiness: u8,
}

/// The numbers behind [`PoolMetrics`].
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) gets_waited: Counter,
    pub(crate) gets_waited_below_size: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) failed_attempts: Counter,
    pub(crate) cleaned: Counter,
    pub(crate) drains: Counter,
    pub(crate) cleaning_validations: Counter,
    pub(crate) rollbacks: Counter,
    pub(crate) resets: Counter,
    pub(crate) databases: Counter,
    pub(crate) validations: Counter,
    pub(crate) suspects: Counter,
    pub(crate) create_time: Recording,
    pub(crate) wait_time: Recording,
    pub(crate) use_time: Recording,
    /// Nanoseconds; 0 before the first.
    warm_up_time: AtomicU64,
    #[cfg(feature = "metrics")]
    gauges: Gauges,
}

impl Metrics {
    /// Registers with the recorder that is installed at this moment; one that comes later is not seen.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |metric| Counter::new(registry.counter(metric, None));
        let cleanings =
            |kind| Counter::new(registry.counter(export::CLEANINGS, Some(("kind", kind))));
        let times = |metric| Recording::new(registry.histogram(metric));
        Self {
            gets_waited: counter(export::WAITED),
            gets_waited_below_size: counter(export::WAITED_BELOW_SIZE),
            timeouts: counter(export::TIMEOUTS),
            failed_attempts: counter(export::FAILED_ATTEMPTS),
            cleaned: counter(export::CLEANED),
            drains: cleanings("drain"),
            cleaning_validations: cleanings("validation"),
            rollbacks: cleanings("rollback"),
            resets: cleanings("reset"),
            databases: cleanings("database"),
            validations: counter(export::VALIDATIONS),
            suspects: counter(export::SUSPECTS),
            create_time: times(export::CREATE_TIME),
            wait_time: times(export::WAIT_TIME),
            use_time: times(export::USE_TIME),
            warm_up_time: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            gauges: Gauges::new(registry),
        }
    }

    pub(crate) fn note_warm_up(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.warm_up_time.store(nanos.max(1), Ordering::Relaxed);
    }

    fn warm_up_time(&self) -> Option<Duration> {
        let nanos = self.warm_up_time.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    pub(crate) fn read(
        &self,
        discarded: Vec<(DiscardReason, u64)>,
        readiness: Readiness,
    ) -> PoolMetrics {
        let (create_time, wait_time) = (self.create_time.read(), self.wait_time.read());
        PoolMetrics {
            gets: wait_time.count(),
            gets_waited: self.gets_waited.get(),
            gets_waited_below_size: self.gets_waited_below_size.get(),
            timeouts: self.timeouts.get(),
            opened: create_time.count(),
            failed_attempts: self.failed_attempts.get(),
            discarded,
            cleaned: self.cleaned.get(),
            cleanings: vec![
                ("drain", self.drains.get()),
                ("validation", self.cleaning_validations.get()),
                ("rollback", self.rollbacks.get()),
                ("reset", self.resets.get()),
                ("database", self.databases.get()),
            ],
            resets: self.resets.get(),
            validations: self.validations.get(),
            suspects: self.suspects.get(),
            create_time,
            wait_time,
            use_time: self.use_time.read(),
            warm_up_time: self.warm_up_time(),
            readiness: readiness.number(),
        }
    }

    /// Sets the gauges to what is so at one moment.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish(
        &self,
        status: &crate::report::PoolStatus,
        idle_max: usize,
        readiness: Readiness,
    ) {
        let gauges = &self.gauges;
        gauges.idle.set(status.idle);
        gauges.used.set(status.open.saturating_sub(status.idle));
        gauges.idle_max.set(idle_max);
        gauges.idle_min.set(status.size);
        gauges.max.set(status.limit());
        gauges.pending_requests.set(status.waiting);
        gauges.cleaning.set(status.cleaning);
        gauges.connecting.set(status.connecting);
        gauges.readiness.set(readiness.number().into());
        gauges
            .warm_up_time
            .set_time(self.warm_up_time().unwrap_or_default());
    }
}

/// Handles of the gauges: what is so at a moment, where counters tell what has happened.
#[cfg(feature = "metrics")]
#[derive(Debug)]
struct Gauges {
    idle: export::Gauge,
    used: export::Gauge,
    idle_max: export::Gauge,
    idle_min: export::Gauge,
    max: export::Gauge,
    pending_requests: export::Gauge,
    cleaning: export::Gauge,
    connecting: export::Gauge,
    readiness: export::Gauge,
    warm_up_time: export::Gauge,
}

#[cfg(feature = "metrics")]
impl Gauges {
    fn new(registry: &Registry) -> Self {
        let gauge = |metric| registry.gauge(metric, None);
        Self {
            idle: registry.gauge(export::COUNT, export::IDLE),
            used: registry.gauge(export::COUNT, export::USED),
            idle_max: gauge(export::IDLE_MAX),
            idle_min: gauge(export::IDLE_MIN),
            max: gauge(export::MAX),
            pending_requests: gauge(export::PENDING_REQUESTS),
            cleaning: gauge(export::CLEANING),
            connecting: gauge(export::CONNECTING),
            readiness: gauge(export::READINESS),
            warm_up_time: registry.gauge_of_time(export::WARM_UP_TIME),
        }
    }
}

/// A count that only grows.
#[derive(Debug)]
pub(crate) struct Counter {
    count: AtomicU64,
    exported: export::Counter,
}

impl Counter {
    pub(crate) const fn new(exported: export::Counter) -> Self {
        Self {
            count: AtomicU64::new(0),
            exported,
        }
    }

    #[inline]
    pub(crate) fn add_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.exported.add_one();
    }

    pub(crate) fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::{hint::black_box, sync::Arc, time::Instant};

    use ::metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
        Unit, with_local_recorder,
    };

    use super::*;

    /// Counts, as cheaply as a recorder can.
    struct Counting;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl HistogramFn for Count {
        fn record(&self, _: f64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Recorder for Counting {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(AtomicU64::new(0)))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(AtomicU64::new(0)))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::new(Count::default()))
        }
    }

    #[test]
    fn recording_a_get_and_its_return_takes_at_most_three_times_what_the_facade_takes() {
        let registry = Registry::of("pool");
        let metrics = with_local_recorder(&Counting, || Metrics::new(&registry));
        let facade = [(); 2].map(|()| Histogram::from_arc(Arc::new(Count::default())));
        let (mut ours, mut bare) = (Duration::MAX, Duration::MAX);
        // The least of many, in turn: whatever else runs on the machine only adds to it.
        for _ in 0..100 {
            // A get that finds an idle connection, and the return, with its look at the clock.
            ours = ours.min(time_for_each(|begun| {
                black_box(&metrics).wait_time.record_none();
                black_box(&metrics).use_time.record(begun.elapsed());
            }));
            bare = bare.min(time_for_each(|begun| {
                let [waited, used] = black_box(&facade);
                waited.record(0.0);
                used.record(begun.elapsed());
            }));
        }
        println!("{ours:?} for each get and return, by the facade alone {bare:?}");
        assert!(ours <= bare * 3, "{ours:?}, by the facade alone {bare:?}");
    }

    fn time_for_each(mut record: impl FnMut(Instant)) -> Duration {
        const TIMES: u32 = 10_000;
        let begun = Instant::now();
        for _ in 0..TIMES {
            record(begun);
        }
        begun.elapsed() / TIMES
    }
}
