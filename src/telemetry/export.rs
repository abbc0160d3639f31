//! Hands metrics on to the `metrics` facade, by OpenTelemetry's names; without the feature `metrics` it does nothing.
//!
//! No other file knows the facade. A handle is registered once, when the pool is made, with the recorder that is
//! installed by then, and kept.

#[cfg(feature = "metrics")]
pub(crate) use facade::Gauge;
pub(crate) use facade::{Counter, Histogram, Registry};

/// What is exported: its name, and what it means.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "nobody is told of it")
)]
pub(crate) struct Metric {
    name: &'static str,
    meaning: &'static str,
}

const fn metric(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, meaning }
}

// OpenTelemetry's, of the semantic conventions for database clients.
#[cfg(feature = "metrics")]
pub(crate) const COUNT: Metric = metric(
    "db.client.connection.count",
    "open connections now, by state: idle, or used by a caller or by the pool itself",
);
#[cfg(feature = "metrics")]
pub(crate) const IDLE_MAX: Metric = metric(
    "db.client.connection.idle.max",
    "idle connections allowed at most",
);
#[cfg(feature = "metrics")]
pub(crate) const IDLE_MIN: Metric = metric(
    "db.client.connection.idle.min",
    "connections kept open, idle or used: the pool's size",
);
#[cfg(feature = "metrics")]
pub(crate) const MAX: Metric = metric(
    "db.client.connection.max",
    "connections allowed at most: size and overflow",
);
#[cfg(feature = "metrics")]
pub(crate) const PENDING_REQUESTS: Metric = metric(
    "db.client.connection.pending_requests",
    "callers waiting for a connection now",
);
pub(crate) const TIMEOUTS: Metric = metric(
    "db.client.connection.timeouts",
    "gets that ended with a time-out",
);
pub(crate) const CREATE_TIME: Metric = metric(
    "db.client.connection.create_time",
    "time to open a connection, from credentials to proof",
);
pub(crate) const WAIT_TIME: Metric = metric(
    "db.client.connection.wait_time",
    "time of a get that had a connection; 0 where one was idle",
);
pub(crate) const USE_TIME: Metric = metric(
    "db.client.connection.use_time",
    "time from getting a connection to returning it",
);

// The pool's own.
#[cfg(feature = "metrics")]
pub(crate) const CLEANING: Metric = metric(
    "mysql_warm_pool.connections.cleaning",
    "connections now being cleaned, proved, replaced or closed; among the used ones",
);
#[cfg(feature = "metrics")]
pub(crate) const CONNECTING: Metric = metric(
    "mysql_warm_pool.connections.connecting",
    "connections being opened now; not among the open ones",
);
#[cfg(feature = "metrics")]
pub(crate) const READINESS: Metric = metric(
    "mysql_warm_pool.readiness",
    "readiness as a number: 0 closed, 1 unavailable, 2 cold, 3 warming, 4 degraded, 5 ready",
);
#[cfg(feature = "metrics")]
pub(crate) const WARM_UP_TIME: Metric = metric(
    "mysql_warm_pool.warm_up.time",
    "time of the last warm-up that opened connections; 0 before the first",
);
pub(crate) const WAITED: Metric = metric(
    "mysql_warm_pool.gets.waited",
    "gets that found no idle connection and waited",
);
pub(crate) const WAITED_BELOW_SIZE: Metric = metric(
    "mysql_warm_pool.gets.waited_below_size",
    "gets that waited for an opening while fewer connections than size were used",
);
pub(crate) const FAILED_ATTEMPTS: Metric = metric(
    "mysql_warm_pool.connections.failed_attempts",
    "attempts to open a connection that failed",
);
pub(crate) const DISCARDED: Metric = metric(
    "mysql_warm_pool.connections.discarded",
    "connections closed instead of kept, by reason",
);
pub(crate) const CLEANED: Metric = metric(
    "mysql_warm_pool.connections.cleaned",
    "returned connections that were cleaned before they were idle again",
);
pub(crate) const CLEANINGS: Metric = metric(
    "mysql_warm_pool.cleanings",
    "what was done to clean connections, by kind",
);
pub(crate) const VALIDATIONS: Metric = metric(
    "mysql_warm_pool.validations",
    "idle connections asked for a proof by a round trip",
);
pub(crate) const SUSPECTS: Metric = metric(
    "mysql_warm_pool.suspects",
    "idle connections asked for a proof because another had been found dead",
);

/// A label besides the pool's name.
pub(crate) type Extra = Option<(&'static str, &'static str)>;

#[cfg(feature = "metrics")]
pub(crate) const IDLE: Extra = Some(("db.client.connection.state", "idle"));
#[cfg(feature = "metrics")]
pub(crate) const USED: Extra = Some(("db.client.connection.state", "used"));

#[cfg(feature = "metrics")]
mod facade {
    use std::time::Duration;

    use ::metrics::{Key, KeyName, Label, Level, Metadata, SharedString, Unit, with_recorder};

    use super::{Extra, Metric};

    static METADATA: Metadata<'static> = Metadata::new("mysql_warm_pool", Level::INFO, None);

    /// Makes the handles for one pool.
    #[derive(Debug)]
    pub(crate) struct Registry {
        pool: SharedString,
    }

    impl Registry {
        pub(crate) fn of(pool: &str) -> Self {
            Self {
                pool: pool.to_owned().into(),
            }
        }

        pub(crate) fn counter(&self, metric: Metric, extra: Extra) -> Counter {
            let (name, meaning) = named(metric);
            with_recorder(|recorder| {
                recorder.describe_counter(name, Some(Unit::Count), meaning);
                Counter(recorder.register_counter(&self.key(metric, extra), &METADATA))
            })
        }

        /// A gauge of connections or callers.
        pub(crate) fn gauge(&self, metric: Metric, extra: Extra) -> Gauge {
            self.gauge_in(Unit::Count, metric, extra)
        }

        pub(crate) fn gauge_of_time(&self, metric: Metric) -> Gauge {
            self.gauge_in(Unit::Seconds, metric, None)
        }

        fn gauge_in(&self, unit: Unit, metric: Metric, extra: Extra) -> Gauge {
            let (name, meaning) = named(metric);
            with_recorder(|recorder| {
                recorder.describe_gauge(name, Some(unit), meaning);
                Gauge(recorder.register_gauge(&self.key(metric, extra), &METADATA))
            })
        }

        pub(crate) fn histogram(&self, metric: Metric) -> Histogram {
            let (name, meaning) = named(metric);
            with_recorder(|recorder| {
                recorder.describe_histogram(name, Some(Unit::Seconds), meaning);
                Histogram(recorder.register_histogram(&self.key(metric, None), &METADATA))
            })
        }

        fn key(&self, metric: Metric, extra: Extra) -> Key {
            let pool = Label::new("db.client.connection.pool.name", self.pool.clone());
            let extra = extra.map(|(key, value)| Label::from_static_parts(key, value));
            let labels: Vec<_> = [pool].into_iter().chain(extra).collect();
            Key::from_parts(metric.name, labels)
        }
    }

    fn named(metric: Metric) -> (KeyName, SharedString) {
        (
            KeyName::from_const_str(metric.name),
            SharedString::const_str(metric.meaning),
        )
    }

    #[derive(Debug)]
    pub(crate) struct Counter(::metrics::Counter);

    impl Counter {
        #[inline]
        pub(crate) fn add_one(&self) {
            self.0.increment(1);
        }
    }

    #[derive(Debug)]
    pub(crate) struct Gauge(::metrics::Gauge);

    impl Gauge {
        pub(crate) fn set(&self, count: usize) {
            // No pool has more than fit.
            self.0.set(u32::try_from(count).unwrap_or(u32::MAX));
        }

        pub(crate) fn set_time(&self, time: Duration) {
            self.0.set(time);
        }
    }

    #[derive(Debug)]
    pub(crate) struct Histogram(::metrics::Histogram);

    impl Histogram {
        #[cfg(test)]
        pub(crate) const fn to_nobody() -> Self {
            Self(::metrics::Histogram::noop())
        }

        #[inline]
        pub(crate) fn record(&self, time: Duration) {
            self.0.record(time);
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod facade {
    use std::time::Duration;

    use super::{Extra, Metric};

    #[derive(Debug)]
    pub(crate) struct Registry;

    impl Registry {
        pub(crate) const fn of(_pool: &str) -> Self {
            Self
        }

        pub(crate) const fn counter(&self, _: Metric, _: Extra) -> Counter {
            Counter
        }

        pub(crate) const fn histogram(&self, _: Metric) -> Histogram {
            Histogram
        }
    }

    #[derive(Debug)]
    pub(crate) struct Counter;

    impl Counter {
        #[inline]
        pub(crate) const fn add_one(&self) {}
    }

    #[derive(Debug)]
    pub(crate) struct Histogram;

    impl Histogram {
        #[cfg(test)]
        pub(crate) const fn to_nobody() -> Self {
            Self
        }

        #[inline]
        pub(crate) const fn record(&self, _: Duration) {}
    }
}
