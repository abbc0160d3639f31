//! The `Pool` handle: joins the parts, computes nothing.

mod statements;
mod transaction;

use std::{fmt, future::Future, panic::Location, sync::Arc, time::Duration};

pub use self::transaction::TransactionOptions;
use crate::{
    config::PoolConfig,
    connection::PooledConn,
    error::Error,
    lifecycle::{assess, close, get, maintain, open, validate, warm_up},
    report::{CloseReport, Health, PoolStatus, Readiness, ReadinessWatch, WarmUpReport},
    shared::Shared,
    telemetry::{Exporter, PoolMetrics},
};

/// A pool of warm connections to one MySQL or MariaDB server. Cheap to clone: all clones share the
/// same connections.
///
/// # Runtimes
///
/// It can be used from any tokio runtime, and from several at once. Its sockets and background
/// tasks live on the runtime that first used it ([`warm_up`](Self::warm_up) or
/// [`get`](Self::get)), the pool's runtime, which needs I/O and timers (`enable_all`). Callers on
/// other runtimes pay a wake-up across threads for each answer. Let the runtime that lives longest
/// use the pool first: when the pool's runtime ends, the pool moves to the next runtime that uses
/// it, but statements under way on other runtimes end with [`Error::RuntimeStopped`].
///
/// A caller's deadlines are kept by timers of its own runtime. If the pool's runtime is
/// single-threaded and nothing is in its `block_on`, callers on other runtimes get an error that
/// says so.
///
/// # Dropping
///
/// When the last clone is dropped, idle connections are closed in the background with `COM_QUIT`,
/// and the pool's tasks end. Connections in use stay usable, and are closed when they are dropped.
/// [`close`](Self::close) does the same and waits for it.
#[derive(Clone)]
pub struct Pool {
    handle: Arc<LastHandle>,
}

/// Dropped with the last clone. What it refers to may live longer, as the pool's tasks and the
/// connections in use refer to it too.
struct LastHandle {
    shared: Arc<Shared>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        close::abandon(&self.shared);
    }
}

impl Pool {
    /// Creates a pool. Does no I/O and needs no runtime, so a pool can be a `static`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of the settings.
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            handle: Arc::new(LastHandle {
                shared: Shared::new(config, Exporter::default()),
            }),
        })
    }

    /// Like [`new`](Self::new), but exports the pool's metrics to this recorder instead of the one
    /// that is installed. Needs the feature `metrics`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(feature = "metrics")]
    pub fn with_recorder(
        config: PoolConfig,
        recorder: Arc<dyn metrics::Recorder + Send + Sync>,
    ) -> Result<Self, Error> {
        config.check()?;
        let exporter = Exporter {
            recorder: Some(Arc::clone(&recorder)),
        };
        let shared = metrics::with_local_recorder(&*recorder, || Shared::new(config, exporter));
        Ok(Self {
            handle: Arc::new(LastHandle { shared }),
        })
    }

    /// Opens, initialises and validates [`size`](field@PoolConfig::size) connections; one if that
    /// is 0.
    ///
    /// After it returns, the first request finds its connection open. Call it when the service
    /// starts; the [recipes](crate::guide::recipes#sql-at-start-up) say where migrations and other
    /// SQL at start-up belong. The report lists what was opened and which settings are likely to
    /// cause trouble later; its `Display` is one line.
    ///
    /// Transient errors (refused, name not found, server full or starting) are retried, with
    /// back-off and jitter, until [`warm_up_timeout`](field@PoolConfig::warm_up_timeout). On a warm
    /// pool it opens nothing and returns at once. Concurrent calls share the work. Callers of
    /// [`get`](Self::get) are served meanwhile, as connections are opened.
    ///
    /// # Errors
    ///
    /// - [`Error::WarmUp`], with the report inside: at once for a permanent reason (wrong password,
    ///   unknown database, bad `init` statement), or when the time is up and fewer connections than
    ///   [`ready_at`](field@PoolConfig::ready_at) are open. Either way the pool keeps trying in the
    ///   background.
    /// - [`Error::Closed`] and [`Error::NoRuntime`].
    ///
    /// # Cancel safety
    ///
    /// Safe: connections that were opened stay open, and attempts under way go on.
    pub async fn warm_up(&self) -> Result<WarmUpReport, Error> {
        warm_up::warm_up(self.shared()).await
    }

    /// Gets a connection, within [`timeout`](field@PoolConfig::timeout).
    ///
    /// An idle connection is returned at once, or after one round trip if it has to be
    /// [validated](field@PoolConfig::validate_after_idle) first. If none is idle, the caller waits
    /// for whichever comes first: a connection that another caller returns, or a new one, which the
    /// pool opens in the background. Waiting callers are served strictly in order.
    ///
    /// Await the future, or drop it. One that was polled once and is then left alone, such as a
    /// pinned `get()` in a `select!` whose other arm goes on to use the pool, keeps its place in
    /// the queue. The next connection for it stays with it, and no other caller gets that
    /// connection. The [`Error::Timeout`] of other callers then names the connections kept by a
    /// `get()` that is not polled.
    ///
    /// # Errors
    ///
    /// - [`Error::Timeout`] when the time is up, with its cause;
    /// - [`Error::Connect`] when no connection is open and the server refuses for a permanent
    ///   reason, such as a wrong password, so that waiting cannot help;
    /// - [`Error::Closed`] and [`Error::NoRuntime`], at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped call leaves the queue. A connection that it was about to get, or that is
    /// being opened for it, goes to the next caller or becomes idle.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        self.get_called_at(self.config().timeout, Location::caller())
    }

    /// Gets a connection within the given time instead of the configured one. With a timeout of
    /// zero it returns an idle connection that needs no validation, or an error.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        self.get_called_at(timeout, Location::caller())
    }

    /// Gets a connection within the given time, as if the call stood at the given place in the
    /// source. For code that wraps a pool, so that log events and errors name the line of its own
    /// caller.
    ///
    /// ```no_run
    /// use std::panic::Location;
    ///
    /// use mysql_warm_pool::{Error, Pool, PooledConn};
    ///
    /// struct Orders(Pool);
    ///
    /// impl Orders {
    ///     #[track_caller]
    ///     fn conn(&self) -> impl Future<Output = Result<PooledConn, Error>> {
    ///         self.0.get_called_at(self.0.config().timeout, Location::caller())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_called_at(
        &self,
        timeout: Duration,
        called_at: &'static Location<'static>,
    ) -> Result<PooledConn, Error> {
        let lease = get::get(self.shared(), timeout, called_at).await?;
        Ok(PooledConn::new(lease, Arc::clone(self.shared()), called_at))
    }

    /// Gets a connection if one is idle and can be handed out as it is; else `None`. Never waits,
    /// and does no I/O.
    ///
    /// An idle connection that must be [validated](field@PoolConfig::validate_after_idle) first is
    /// not returned; it is validated in the background, for the next caller. Returns `None` too if
    /// the pool is closed, and outside of a tokio runtime.
    #[must_use]
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConn> {
        let called_at = Location::caller();
        let lease = get::try_get(self.shared(), called_at)?;
        Some(PooledConn::new(lease, Arc::clone(self.shared()), called_at))
    }

    /// Whether the pool can serve. Does no I/O.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.shared().readiness.snapshot().readiness
    }

    /// The readiness with its context: since when, the status, the last error. Does no I/O.
    ///
    /// A readiness probe answers by [`is_serving`](Readiness::is_serving) of the readiness in it.
    #[must_use]
    pub fn health(&self) -> Health {
        assess::health(self.shared())
    }

    /// Waits until the pool is [`Ready`](Readiness::Ready). Also resolves if the pool became Ready
    /// after the call and no longer is.
    ///
    /// Opens nothing by itself: a pool that is never used, by [`warm_up`](Self::warm_up) or
    /// [`get`](Self::get), never becomes Ready.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the pool is closed, or closes meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        self.shared().readiness.wait_ready().await
    }

    /// Watches the readiness from now on; [`changed`](ReadinessWatch::changed) waits for its next
    /// change.
    #[must_use]
    pub fn watch(&self) -> ReadinessWatch {
        self.shared().readiness.watch()
    }

    /// The pool's connections now, as one consistent snapshot.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.shared().slots.status()
    }

    /// What has happened since the pool was created: counters, and histograms of times.
    #[must_use]
    pub fn metrics(&self) -> PoolMetrics {
        let shared = self.shared();
        shared.metrics.read(self.readiness(), shared.queries.time())
    }

    /// Sets the gauges of the `metrics` facade, and the counters of prepared statements, to their
    /// current values. Does no I/O. Needs the feature `metrics`.
    ///
    /// Call it where metrics are scraped, so that they are fresh. The pool calls it in the
    /// background as well: about once a second, ten times a second while connections are in use.
    /// Histograms and the other counters do not need it, because they are recorded as things
    /// happen. The guide to [observability](crate::guide::observability) lists their names.
    ///
    /// Install the recorder before the pool is created, because [`new`](Self::new) registers with
    /// the one that is installed then; or pass one to [`with_recorder`](Self::with_recorder).
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        maintain::publish_metrics(self.shared());
    }

    /// The pool's name in metrics and log events: the setting [`name`](field@PoolConfig::name), by
    /// default `host:port/database`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// The settings the pool was created with.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.shared().config
    }

    /// Changes [`size`](field@PoolConfig::size) and [`overflow`](field@PoolConfig::overflow) while
    /// the pool is in use.
    ///
    /// It takes effect in the background: missing connections are opened, and surplus idle ones are
    /// closed. If more are in use than a smaller limit allows, the surplus is closed when it is
    /// returned. [`status`](Self::status) shows the current values, [`config`](Self::config) those
    /// the pool was created with.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a value is out of its range, in which case nothing changes, and
    /// [`Error::Closed`].
    pub fn resize(&self, size: usize, overflow: usize) -> Result<(), Error> {
        maintain::resize(self.shared(), size, overflow)
    }

    /// Replaces every connection opened before now, in the background. An idle one is closed once
    /// its replacement is open, one in use when it is returned. A connection that is being opened
    /// at the time of the call is replaced too.
    ///
    /// Call it after the password, or the address behind the server's name, has changed. The pool
    /// does it by itself when a statement's error says that the server has become read-only, as
    /// after a failover.
    pub fn refresh(&self) {
        maintain::refresh(self.shared());
    }

    /// Waits until the pool is refreshed: by [`refresh`](Self::refresh), or by itself because a
    /// statement's error says that the server takes no writes any more, or that sessions were lost.
    ///
    /// It notices what happens after it was first polled. When the pool closes, it never resolves.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub async fn refreshed(&self) {
        self.shared().refreshes.notified().await;
    }

    /// Ends the pause between failed attempts to open a connection, so that the next one is made at
    /// once. Does nothing if the last attempt succeeded.
    ///
    /// For when you know that the server is back, or that its settings were mended. After a failure
    /// there is still one attempt at a time.
    pub fn retry_now(&self) {
        open::retry_now(self.shared());
    }

    /// Makes every connection suspect: each is validated before it is handed out again, and idle
    /// ones in the background at once.
    ///
    /// For when you know that the server or the network has failed. The pool does it by itself when
    /// it finds a connection dead.
    pub fn suspect_all(&self) {
        validate::suspect_all(self.shared());
    }

    /// Closes the pool for good, and waits for its connections to be closed with `COM_QUIT`.
    ///
    /// From the first poll of the future on, every [`get`](Self::get) fails with [`Error::Closed`],
    /// including those that are already waiting. Connections in use are awaited up to
    /// [`close_timeout`](field@PoolConfig::close_timeout), then cut off: a statement that runs on
    /// one of them, or is sent later, ends with an error, and the connection is closed when its
    /// handle is dropped.
    ///
    /// Concurrent and later calls return the same report. Outside of a tokio runtime with timers,
    /// connections in use are not awaited, but cut off at once.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the pool stays closed and idle connections are still closed, but
    /// connections in use are not cut off, unless `close()` is called again.
    pub async fn close(&self) -> CloseReport {
        close::close(self.shared()).await
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("readiness", &self.readiness())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
