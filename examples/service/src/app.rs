//! The state that all requests share: the pool, the stage, the metrics.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use mysql_warm_pool::{Pool, PooledConn, metrics::Histogram};
use tokio::{sync::watch, time::Instant};

use crate::{
    Error,
    config::Config,
    live::LiveFeed,
    problem::Problem,
    stage::{Deadlines, Life, Stage},
};

/// The upper limits of the buckets for the rows of a statement.
const ROWS: [f64; 6] = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0];

pub(crate) struct App {
    pub(crate) pool: Pool,
    pub(crate) life: Life,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) request_timeout: Duration,
    pub(crate) shutdown_delay: Duration,
    pub(crate) started: Instant,
    /// What the page shows; the sender is dropped at the end.
    pub(crate) live: watch::Receiver<Arc<str>>,
}

impl App {
    /// Does no I/O.
    pub(crate) fn new(config: Config) -> Result<(Self, LiveFeed), Error> {
        // The recorder belongs to this service and not to the process.
        let recorder = PrometheusBuilder::new()
            .set_buckets(&Histogram::BOUNDS)
            .and_then(|builder| {
                let duration = Matcher::Full("db.client.operation.duration".to_owned());
                builder.set_buckets_for_metric(duration, &Histogram::OPERATION_BOUNDS)
            })
            .and_then(|builder| {
                let rows = Matcher::Full("db.client.response.returned_rows".to_owned());
                builder.set_buckets_for_metric(rows, &ROWS)
            })
            .map_err(|error| Error::Metrics(error.to_string()))?
            .build_recorder();
        let metrics = recorder.handle();
        let pool = Pool::with_recorder(config.pool, Arc::new(recorder))?;
        let (feed, live) = LiveFeed::new();
        let app = Self {
            pool,
            life: Life::new(),
            metrics,
            request_timeout: config.request_timeout,
            shutdown_delay: config.shutdown_delay,
            started: Instant::now(),
            live,
        };
        Ok((app, feed))
    }

    /// Whether the database can be used now, regardless of requests that are held.
    pub(crate) fn is_open(&self) -> bool {
        self.life.stage() == Stage::Serving && self.pool.readiness().is_serving()
    }

    /// Whether new requests should be sent here: the pool serves, and all requests that came before
    /// it did have been answered, so that new ones do not queue behind them. Costs no I/O.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_open() && self.life.early() == 0
    }

    /// Gets a connection within what is left of the request's time.
    pub(crate) async fn connection(&self, deadlines: Deadlines) -> Result<PooledConn, Problem> {
        let left = deadlines
            .connection
            .saturating_duration_since(Instant::now());
        let timeout = self.pool.config().timeout.min(left);
        Ok(self.pool.get_within(timeout).await?)
    }
}
