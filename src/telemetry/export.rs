//! The exported metrics: their names and descriptions, and their registration with the `metrics`
//! facade. Without the feature `metrics`, the same instruments count and export nothing.
//!
//! The pool registers them once, when it is created, with the recorder installed by then. Only the
//! histograms of statements are registered later (`operations.rs`).
#![cfg_attr(
    not(feature = "metrics"),
    expect(
        dead_code,
        unused_variables,
        reason = "only an exporter needs names, descriptions and labels"
    )
)]

use std::fmt;
#[cfg(feature = "metrics")]
use std::{sync::Arc, time::Duration};

#[cfg(feature = "metrics")]
use ::metrics::{Key, KeyName, Level, Metadata, Recorder, SharedString, Unit, with_recorder};

use super::{histogram::Recording, metrics::Counter};

/// An exported metric: a row of the table in `docs/observability.md`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    name: &'static str,
    description: &'static str,
    #[cfg(feature = "metrics")]
    unit: Unit,
}

const fn count(name: &'static str, description: &'static str) -> Metric {
    Metric {
        name,
        description,
        #[cfg(feature = "metrics")]
        unit: Unit::Count,
    }
}

const fn seconds(name: &'static str, description: &'static str) -> Metric {
    Metric {
        name,
        description,
        #[cfg(feature = "metrics")]
        unit: Unit::Seconds,
    }
}

// OpenTelemetry's names, from the semantic conventions for database clients.
pub(super) const COUNT: Metric = count(
    "db.client.connection.count",
    "open connections now, by state: idle, or used by a caller or by the pool itself",
);
pub(super) const IDLE_MAX: Metric = count(
    "db.client.connection.idle.max",
    "most idle connections allowed",
);
pub(super) const IDLE_MIN: Metric = count(
    "db.client.connection.idle.min",
    "connections kept open, idle or used: the pool's size",
);
pub(super) const MAX: Metric = count(
    "db.client.connection.max",
    "most connections allowed: size and overflow",
);
pub(super) const PENDING_REQUESTS: Metric = count(
    "db.client.connection.pending_requests",
    "callers waiting for a connection now",
);
pub(super) const TIMEOUTS: Metric = count("db.client.connection.timeouts", "gets that timed out");
pub(super) const CREATE_TIME: Metric = seconds(
    "db.client.connection.create_time",
    "time to open a connection, from credentials to validation",
);
pub(super) const WAIT_TIME: Metric = seconds(
    "db.client.connection.wait_time",
    "time of each successful get, 0 if a connection was idle",
);
pub(super) const USE_TIME: Metric =
    seconds("db.client.connection.use_time", "time from get to return");
pub(super) const OPERATION_DURATION: Metric = seconds(
    "db.client.operation.duration",
    "time of each statement of callers, from sending it to the end of its answer",
);
pub(super) const RETURNED_ROWS: Metric = count(
    "db.client.response.returned_rows",
    "rows that the caller of a statement got",
);

// The pool's own.
pub(super) const CLEANING: Metric = count(
    "mysql_warm_pool.connections.cleaning",
    "connections being cleaned, validated, replaced or closed now; they also count as used",
);
pub(super) const CONNECTING: Metric = count(
    "mysql_warm_pool.connections.connecting",
    "connections being opened now; they do not count as open",
);
pub(super) const FAILED_ATTEMPTS: Metric = count(
    "mysql_warm_pool.connections.failed_attempts",
    "failed attempts to open a connection",
);
pub(super) const DISCARDED: Metric = count(
    "mysql_warm_pool.connections.discarded",
    "connections closed instead of kept, by reason",
);
pub(super) const CLEANED: Metric = count(
    "mysql_warm_pool.connections.cleaned",
    "returned connections that were cleaned before they became idle",
);
pub(super) const CLEANINGS: Metric =
    count("mysql_warm_pool.cleanings", "what cleaning did, by kind");
pub(super) const VALIDATIONS: Metric = count(
    "mysql_warm_pool.validations",
    "validations of idle connections",
);
pub(super) const SUSPECTS: Metric = count(
    "mysql_warm_pool.suspects",
    "validations made because another connection had been found dead",
);
pub(super) const GETS_WAITED: Metric = count(
    "mysql_warm_pool.gets.waited",
    "gets that found no idle connection and waited",
);
pub(super) const GETS_WAITED_BELOW_SIZE: Metric = count(
    "mysql_warm_pool.gets.waited_below_size",
    "gets that waited for a connection to open, with fewer than size in use",
);
pub(super) const CACHE_HITS: Metric = count(
    "mysql_warm_pool.statement_cache.hits",
    "executions that found their text prepared on their connection",
);
pub(super) const CACHE_MISSES: Metric = count(
    "mysql_warm_pool.statement_cache.misses",
    "executions that had to prepare their text first",
);
pub(super) const CACHE_EVICTIONS: Metric = count(
    "mysql_warm_pool.statement_cache.evictions",
    "prepared statements closed because a connection's cache was full",
);
pub(super) const PREPARED_AGAIN: Metric = count(
    "mysql_warm_pool.statements.prepared_again",
    "texts prepared again on a connection that had lost them",
);
pub(super) const READINESS: Metric = count(
    "mysql_warm_pool.readiness",
    "readiness now: 0 closed, 1 unavailable, 2 cold, 3 warming, 4 degraded, 5 ready",
);
pub(super) const WARM_UP_TIME: Metric = seconds(
    "mysql_warm_pool.warm_up.time",
    "duration of the last warm-up that opened connections; 0 before the first",
);

/// A label besides the pool's name: key and value.
pub(super) type Label = (&'static str, &'static str);

pub(super) const IDLE: Label = ("db.client.connection.state", "idle");
pub(super) const USED: Label = ("db.client.connection.state", "used");

/// Creates the instruments of one pool, labelled with its name.
#[derive(Debug)]
pub(super) struct Registry {
    #[cfg(feature = "metrics")]
    pool: SharedString,
}

impl Registry {
    pub(super) fn new(pool: &str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            pool: pool.to_owned().into(),
        }
    }

    pub(super) fn counter(&self, metric: Metric, label: Option<Label>) -> Counter {
        let counter = Counter::new();
        #[cfg(feature = "metrics")]
        let counter = counter.exported_as(self.exported_counter(metric, label));
        counter
    }

    #[cfg(feature = "metrics")]
    pub(super) fn exported_counter(
        &self,
        metric: Metric,
        label: Option<Label>,
    ) -> ::metrics::Counter {
        self.register(metric, label, |recorder, key| {
            recorder.describe_counter(metric.key_name(), Some(metric.unit), metric.text());
            recorder.register_counter(key, &METADATA)
        })
    }

    pub(super) fn recording(&self, metric: Metric) -> Recording {
        let recording = Recording::new();
        #[cfg(feature = "metrics")]
        let recording = recording.exported_as(self.register(metric, None, |recorder, key| {
            recorder.describe_histogram(metric.key_name(), Some(metric.unit), metric.text());
            recorder.register_histogram(key, &METADATA)
        }));
        recording
    }

    #[cfg(feature = "metrics")]
    pub(super) fn gauge(&self, metric: Metric, label: Option<Label>) -> Gauge {
        Gauge(self.register(metric, label, |recorder, key| {
            recorder.describe_gauge(metric.key_name(), Some(metric.unit), metric.text());
            recorder.register_gauge(key, &METADATA)
        }))
    }

    #[cfg(feature = "metrics")]
    fn register<T>(
        &self,
        metric: Metric,
        label: Option<Label>,
        register: impl FnOnce(&dyn Recorder, &Key) -> T,
    ) -> T {
        let pool = ::metrics::Label::new("db.client.connection.pool.name", self.pool.clone());
        let label = label.map(|(key, value)| ::metrics::Label::from_static_parts(key, value));
        let labels: Vec<_> = [pool].into_iter().chain(label).collect();
        let key = Key::from_parts(metric.name, labels);
        with_recorder(|recorder| register(recorder, &key))
    }
}

/// Describes a histogram that is registered later.
#[cfg(feature = "metrics")]
pub(super) fn describe_histogram(metric: Metric) {
    with_recorder(|recorder| {
        recorder.describe_histogram(metric.key_name(), Some(metric.unit), metric.text());
    });
}

/// Where metrics are exported to: the recorder given to `Pool::with_recorder`, or the one installed
/// at the time.
#[derive(Clone, Default)]
pub(crate) struct Exporter {
    #[cfg(feature = "metrics")]
    pub(crate) recorder: Option<Arc<dyn Recorder + Send + Sync>>,
}

#[cfg(feature = "metrics")]
impl Exporter {
    /// Registers a histogram, at any time.
    pub(super) fn register_histogram(
        &self,
        metric: Metric,
        labels: Vec<::metrics::Label>,
    ) -> ::metrics::Histogram {
        let key = Key::from_parts(metric.name, labels);
        match &self.recorder {
            Some(recorder) => recorder.register_histogram(&key, &METADATA),
            None => with_recorder(|recorder| recorder.register_histogram(&key, &METADATA)),
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

#[cfg(feature = "metrics")]
static METADATA: Metadata<'static> = Metadata::new("mysql_warm_pool", Level::INFO, None);

#[cfg(feature = "metrics")]
impl Metric {
    fn key_name(self) -> KeyName {
        KeyName::from_const_str(self.name)
    }

    fn text(self) -> SharedString {
        SharedString::const_str(self.description)
    }
}

/// An exported gauge.
#[cfg(feature = "metrics")]
#[derive(Debug)]
pub(super) struct Gauge(::metrics::Gauge);

#[cfg(feature = "metrics")]
impl Gauge {
    pub(super) fn set(&self, count: usize) {
        // The facade takes an `f64`, which holds every `u32` exactly.
        self.0.set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub(super) fn set_time(&self, time: Duration) {
        self.0.set(time);
    }
}
