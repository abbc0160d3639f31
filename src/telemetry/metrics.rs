//! Counters, histograms and gauges of one pool.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "metrics")]
use crate::report::PoolStatus;
use crate::{
    report::{DiscardReason, Readiness},
    session::statements::CacheCounts,
    telemetry::{
        Histogram,
        export::{self, Registry},
        histogram::Recording,
    },
    time::nanos,
};

/// What has happened since a pool was created; returned by
/// [`Pool::metrics`](crate::Pool::metrics).
///
/// Counters and histograms are since creation; [`Pool::status`](crate::Pool::status) is the state
/// now. Each number is exact, but they are read one after the other while the pool works, so two of
/// them may differ by what happened in between.
///
/// The feature `metrics` exports the same numbers through the `metrics` facade, under the names in
/// the [observability guide](crate::guide::observability).
///
/// ```
/// use mysql_warm_pool::{Pool, PoolConfig, metrics::DiscardReason};
///
/// let pool = Pool::new(PoolConfig::from_url("mysql://app:secret@db/shop")?)?;
/// let metrics = pool.metrics(); // Of a pool that has not been used yet.
/// println!("{} gets, {} of them waited", metrics.gets, metrics.gets_waited);
/// println!("statements: {}", metrics.query_time);
/// let mut discarded = metrics.discarded.iter();
/// let lost = discarded.find(|(reason, _)| *reason == DiscardReason::Lost);
/// assert_eq!(lost, Some(&(DiscardReason::Lost, 0)));
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Connections handed out since creation.
    pub gets: u64,
    /// Gets since creation that found no idle connection and waited.
    pub gets_waited: u64,
    /// Those of [`gets_waited`](Self::gets_waited) that waited for a connection to open, after a
    /// loss or on a cold pool: fewer than `size` connections were in use or being cleaned.
    pub gets_waited_below_size: u64,
    /// Gets that timed out since creation.
    pub timeouts: u64,
    /// Connections opened since creation.
    pub opened: u64,
    /// Failed attempts to open a connection since creation.
    pub failed_attempts: u64,
    /// Connections closed instead of kept since creation, by reason. Every reason is listed.
    pub discarded: Vec<(DiscardReason, u64)>,
    /// Returned connections since creation that were cleaned before they became idle.
    pub cleaned: u64,
    /// Steps of cleaning since creation, by kind: `drain` (unread rows read), `validation`,
    /// `rollback`, `undo` (of what changed in the session, see
    /// [`Reset::WhenChanged`](crate::Reset::WhenChanged)), `reset` (of the session), `database`
    /// (restored). One connection may need several; a reset also rolls back. One kind is a cause:
    /// `unfollowed`, connections cleaned because the driver's bare `Conn` was used.
    pub cleanings: Vec<(&'static str, u64)>,
    /// Sessions reset since creation.
    pub resets: u64,
    /// Validations of idle connections since creation.
    pub validations: u64,
    /// Those of [`validations`](Self::validations) that were made because another connection had
    /// been found dead.
    pub suspects: u64,
    /// Executions and `prep`s since creation that found their text prepared on their connection.
    ///
    /// This and the next three count only statements whose text the pool sees: `exec*` and `prep`
    /// on this crate's types and on [`Executor`](crate::Executor). Each connection has its own
    /// cache. It holds as many statements as the driver's option `stmt_cache_size` says, 32 unless
    /// set.
    pub statement_cache_hits: u64,
    /// Executions and `prep`s since creation that had to prepare their text first, in one more
    /// round trip. What the pool itself prepares, from
    /// [`prepare`](field@crate::PoolConfig::prepare), does not count.
    pub statement_cache_misses: u64,
    /// Prepared statements closed since creation because a connection's cache was full.
    pub statement_cache_evictions: u64,
    /// Texts since creation that were prepared again on a connection that had lost them to a reset
    /// or an eviction, those in [`prepare`](field@crate::PoolConfig::prepare) included.
    pub statements_prepared_again: u64,
    /// Time to open each connection since creation, from asking for credentials to validation.
    pub create_time: Histogram,
    /// Time of each successful get since creation. It is 0, and the clock is not read, if a
    /// connection was idle and needed no validation.
    pub wait_time: Histogram,
    /// Time from each get to the return of the connection, since creation. Recorded only with the
    /// feature `metrics` or with [`leak_after`](field@crate::PoolConfig::leak_after) set, because
    /// it reads the clock at each return.
    pub use_time: Histogram,
    /// Time of each statement of callers that has ended since creation, with an answer or an error:
    /// from sending it to the end of its answer. For `*_iter` and `*_stream` methods the time ends
    /// when the answer begins. If the statement has to be prepared first, that is included.
    ///
    /// `BEGIN`, `COMMIT`, `ROLLBACK` and savepoints are statements too. An `exec_batch` is one
    /// statement, and so is a text of several. These do not count: statements whose future was
    /// dropped before they ended, those that were refused before anything was sent, `prep` and
    /// `ping`, what is sent on the bare `Conn`, and what the pool sends for itself.
    pub query_time: Histogram,
    /// Duration of the last warm-up that opened connections; `None` before the first.
    pub warm_up_time: Option<Duration>,
    /// The readiness now, [as a number](Readiness::number).
    pub readiness: u8,
}

/// Records what [`PoolMetrics`] reports.
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
    pub(crate) undone: Counter,
    pub(crate) resets: Counter,
    pub(crate) databases: Counter,
    pub(crate) unfollowed: Counter,
    pub(crate) validations: Counter,
    pub(crate) suspects: Counter,
    pub(crate) create_time: Recording,
    pub(crate) wait_time: Recording,
    pub(crate) use_time: Recording,
    cache: Arc<CacheCounts>,
    /// In the order of [`DiscardReason::ALL`].
    discarded: [Counter; DiscardReason::ALL.len()],
    /// Nanoseconds; 0 before the first warm-up.
    warm_up_time: AtomicU64,
    #[cfg(feature = "metrics")]
    gauges: Gauges,
}

/// The kinds of cleaning, as labels.
const CLEANINGS: [&str; 7] = [
    "drain",
    "validation",
    "rollback",
    "undo",
    "reset",
    "database",
    "unfollowed",
];

impl Metrics {
    /// Registers with the recorder that is installed now; one installed later gets nothing.
    pub(crate) fn new(pool_name: &str, cache: Arc<CacheCounts>) -> Self {
        let registry = Registry::new(pool_name);
        let counter = |metric| registry.counter(metric, None);
        let [
            drains,
            cleaning_validations,
            rollbacks,
            undone,
            resets,
            databases,
            unfollowed,
        ] = CLEANINGS.map(|kind| registry.counter(export::CLEANINGS, Some(("kind", kind))));
        Self {
            gets_waited: counter(export::GETS_WAITED),
            gets_waited_below_size: counter(export::GETS_WAITED_BELOW_SIZE),
            timeouts: counter(export::TIMEOUTS),
            failed_attempts: counter(export::FAILED_ATTEMPTS),
            cleaned: counter(export::CLEANED),
            drains,
            cleaning_validations,
            rollbacks,
            undone,
            resets,
            databases,
            unfollowed,
            validations: counter(export::VALIDATIONS),
            suspects: counter(export::SUSPECTS),
            create_time: registry.recording(export::CREATE_TIME),
            wait_time: registry.recording(export::WAIT_TIME),
            use_time: registry.recording(export::USE_TIME),
            cache,
            discarded: DiscardReason::ALL
                .map(|reason| registry.counter(export::DISCARDED, Some(("reason", reason.name())))),
            warm_up_time: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            gauges: Gauges::new(&registry),
        }
    }

    /// Counts a connection that is closed instead of kept.
    pub(crate) fn record_discard(&self, reason: DiscardReason) {
        if let Some(counter) = self.discarded.get(reason as usize) {
            counter.add_one();
        }
    }

    /// How many connections were discarded for this reason since creation.
    pub(crate) fn discarded(&self, reason: DiscardReason) -> u64 {
        self.discarded.get(reason as usize).map_or(0, Counter::get)
    }

    /// Records the duration of a warm-up that opened connections.
    pub(crate) fn record_warm_up(&self, took: Duration) {
        self.warm_up_time
            .store(nanos(took).max(1), Ordering::Relaxed);
    }

    fn warm_up_time(&self) -> Option<Duration> {
        let nanos = self.warm_up_time.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// `query_time`: what [`Queries`](crate::telemetry::Queries) has recorded.
    pub(crate) fn read(&self, readiness: Readiness, query_time: Histogram) -> PoolMetrics {
        let (create_time, wait_time) = (self.create_time.read(), self.wait_time.read());
        let cleanings = [
            &self.drains,
            &self.cleaning_validations,
            &self.rollbacks,
            &self.undone,
            &self.resets,
            &self.databases,
            &self.unfollowed,
        ];
        PoolMetrics {
            gets: wait_time.count(),
            gets_waited: self.gets_waited.get(),
            gets_waited_below_size: self.gets_waited_below_size.get(),
            timeouts: self.timeouts.get(),
            opened: create_time.count(),
            failed_attempts: self.failed_attempts.get(),
            discarded: DiscardReason::ALL
                .map(|reason| (reason, self.discarded(reason)))
                .to_vec(),
            cleaned: self.cleaned.get(),
            cleanings: CLEANINGS
                .into_iter()
                .zip(cleanings.map(Counter::get))
                .collect(),
            resets: self.resets.get(),
            validations: self.validations.get(),
            suspects: self.suspects.get(),
            statement_cache_hits: read(&self.cache.hits),
            statement_cache_misses: read(&self.cache.misses),
            statement_cache_evictions: read(&self.cache.evictions),
            statements_prepared_again: read(&self.cache.repeated),
            create_time,
            wait_time,
            use_time: self.use_time.read(),
            query_time,
            warm_up_time: self.warm_up_time(),
            readiness: readiness.number(),
        }
    }

    /// Sets the exported gauges and the exported counters of prepared statements.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish(&self, status: &PoolStatus, idle_max: usize, readiness: Readiness) {
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
        gauges.cache_hits.absolute(read(&self.cache.hits));
        gauges.cache_misses.absolute(read(&self.cache.misses));
        gauges.cache_evictions.absolute(read(&self.cache.evictions));
        gauges.prepared_again.absolute(read(&self.cache.repeated));
    }
}

/// The exported gauges, which show the state now, and the counters of prepared statements, which
/// are set together with them.
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
    cache_hits: ::metrics::Counter,
    cache_misses: ::metrics::Counter,
    cache_evictions: ::metrics::Counter,
    prepared_again: ::metrics::Counter,
}

#[cfg(feature = "metrics")]
impl Gauges {
    fn new(registry: &Registry) -> Self {
        let gauge = |metric| registry.gauge(metric, None);
        Self {
            idle: registry.gauge(export::COUNT, Some(export::IDLE)),
            used: registry.gauge(export::COUNT, Some(export::USED)),
            idle_max: gauge(export::IDLE_MAX),
            idle_min: gauge(export::IDLE_MIN),
            max: gauge(export::MAX),
            pending_requests: gauge(export::PENDING_REQUESTS),
            cleaning: gauge(export::CLEANING),
            connecting: gauge(export::CONNECTING),
            readiness: gauge(export::READINESS),
            warm_up_time: gauge(export::WARM_UP_TIME),
            cache_hits: registry.exported_counter(export::CACHE_HITS, None),
            cache_misses: registry.exported_counter(export::CACHE_MISSES, None),
            cache_evictions: registry.exported_counter(export::CACHE_EVICTIONS, None),
            prepared_again: registry.exported_counter(export::PREPARED_AGAIN, None),
        }
    }
}

/// A count that only grows.
#[derive(Debug)]
pub(crate) struct Counter {
    count: AtomicU64,
    #[cfg(feature = "metrics")]
    exported: ::metrics::Counter,
}

impl Counter {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            exported: ::metrics::Counter::noop(),
        }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn exported_as(self, exported: ::metrics::Counter) -> Self {
        Self { exported, ..self }
    }

    #[inline]
    pub(crate) fn add_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.exported.increment(1);
    }

    fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_discard_reason_has_its_own_counter() {
        let metrics = Metrics::new("shop", Arc::default());
        for (n, reason) in (1..).zip(DiscardReason::ALL) {
            for _ in 0..n {
                metrics.record_discard(reason);
            }
            assert_eq!(metrics.discarded(reason), n, "{reason}");
        }
        let expected: Vec<_> = DiscardReason::ALL.into_iter().zip(1..).collect();
        assert_eq!(
            metrics
                .read(Readiness::Ready, Histogram::default())
                .discarded,
            expected
        );
    }

    #[test]
    fn each_kind_of_cleaning_has_its_own_counter() {
        let metrics = Metrics::new("shop", Arc::default());
        for (n, counter) in (1..).zip([
            &metrics.drains,
            &metrics.cleaning_validations,
            &metrics.rollbacks,
            &metrics.undone,
            &metrics.resets,
            &metrics.databases,
            &metrics.unfollowed,
        ]) {
            for _ in 0..n {
                counter.add_one();
            }
        }
        let read = metrics.read(Readiness::Ready, Histogram::default());
        assert_eq!(
            read.cleanings,
            [
                ("drain", 1),
                ("validation", 2),
                ("rollback", 3),
                ("undo", 4),
                ("reset", 5),
                ("database", 6),
                ("unfollowed", 7),
            ]
        );
        assert_eq!(read.resets, 5);
    }

    #[test]
    fn gets_and_openings_are_the_counts_of_their_times() {
        let metrics = Metrics::new("shop", Arc::default());
        metrics.wait_time.record_none();
        metrics.wait_time.record(Duration::from_millis(3));
        metrics.create_time.record(Duration::from_millis(1));
        let read = metrics.read(Readiness::Degraded, Histogram::default());
        assert_eq!((read.gets, read.opened, read.readiness), (2, 1, 4));
    }

    #[test]
    fn the_last_warm_up_is_kept_however_short() {
        let metrics = Metrics::new("shop", Arc::default());
        let read = || {
            metrics
                .read(Readiness::Ready, Histogram::default())
                .warm_up_time
        };
        assert_eq!(read(), None);
        metrics.record_warm_up(Duration::from_secs(2));
        assert_eq!(read(), Some(Duration::from_secs(2)));
        metrics.record_warm_up(Duration::ZERO);
        assert_eq!(read(), Some(Duration::from_nanos(1)));
    }
}
