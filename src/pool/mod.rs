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
/// ```no_run
/// use mysql_warm_pool::{Error, Pool, PoolConfig};
///
/// async fn stock(pool: &Pool, id: u64) -> Result<Option<i64>, Error> {
///     pool.exec_first("SELECT stock FROM item WHERE id = ?", (id,)).await
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Error> {
///     let pool = Pool::new(PoolConfig::from_env()?)?;
///     println!("{}", pool.warm_up().await?);
///
///     let worker = pool.clone(); // A handle to the same pool; no `Arc` is needed.
///     let reading = tokio::spawn(async move { stock(&worker, 7).await });
///     println!("{:?}", reading.await);
///
///     println!("{}", pool.close().await);
///     Ok(())
/// }
/// ```
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
    /// Nothing is opened until the pool is used: see [`warm_up`](Self::warm_up).
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of the settings.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::sync::LazyLock;
    ///
    /// use mysql_warm_pool::{Error, Pool, PoolConfig};
    ///
    /// static POOL: LazyLock<Pool> = LazyLock::new(|| {
    ///     let pool = PoolConfig::from_env().and_then(Pool::new);
    ///     pool.unwrap_or_else(|error| panic!("{error}"))
    /// });
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// POOL.warm_up().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self::with_shared(Shared::new(
            config,
            Exporter::default(),
            false,
        )))
    }

    /// Creates the pool of a cluster's member.
    pub(crate) fn of_member(config: PoolConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self::with_shared(Shared::new(
            config,
            Exporter::default(),
            true,
        )))
    }

    fn with_shared(shared: Arc<Shared>) -> Self {
        Self {
            handle: Arc::new(LastHandle { shared }),
        }
    }

    /// Creates a pool as [`new`](Self::new) does, but exports its metrics to this recorder instead
    /// of the one that is installed. Needs the feature `metrics`.
    ///
    /// For a program that installs no recorder, or whose pools use different recorders.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use mysql_warm_pool::{Error, Pool, PoolConfig};
    ///
    /// fn pool(recorder: Arc<dyn metrics::Recorder + Send + Sync>) -> Result<Pool, Error> {
    ///     Pool::with_recorder(PoolConfig::from_env()?, recorder)
    /// }
    /// ```
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
        let shared =
            metrics::with_local_recorder(&*recorder, || Shared::new(config, exporter, false));
        Ok(Self::with_shared(shared))
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
    /// [`get`](Self::get) are served meanwhile, as connections are opened. After an error it may be
    /// called again, with a `warm_up_timeout` of its own.
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
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Error, Pool};
    /// # async fn run(pool: Pool) -> Result<(), Error> {
    /// match pool.warm_up().await {
    ///     Ok(report) => println!("{report}"), // 20 of 20 connections ready in 41 ms
    ///     // The database may come later: serve, with a probe that says "not ready" until then.
    ///     Err(error) if error.is_transient() => eprintln!("{error}"),
    ///     // A wrong password or the like: end the program.
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use mysql_warm_pool::{Error, Pool};
    ///
    /// /// Suggestions are not worth waiting for: without a free connection there are none.
    /// async fn suggestions(pool: &Pool) -> Result<Vec<String>, Error> {
    ///     let select = "SELECT name FROM item ORDER BY sold DESC LIMIT 5";
    ///     match pool.get_within(Duration::from_millis(50)).await {
    ///         Ok(mut conn) => Ok(conn.query(select).await?),
    ///         Err(Error::Timeout { .. }) => Ok(Vec::new()),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
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
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
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
    pub async fn get_called_at(
        &self,
        timeout: Duration,
        called_at: &'static Location<'static>,
    ) -> Result<PooledConn, Error> {
        let lease = get::get(self.shared(), timeout, called_at).await?;
        Ok(PooledConn::new(lease, Arc::clone(self.shared()), called_at))
    }

    /// Gets a connection if one is idle and can be handed out as it is, else `None`. Never waits,
    /// and does no I/O.
    ///
    /// An idle connection that must be [validated](field@PoolConfig::validate_after_idle) first is
    /// not returned; it is validated in the background, for the next caller. Returns `None` too if
    /// the pool is closed, and outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Error, Pool};
    /// # async fn run(pool: Pool) -> Result<(), Error> {
    /// // Work that takes a connection only if no request needs it.
    /// if let Some(mut conn) = pool.try_get() {
    ///     conn.query_drop("DELETE FROM session WHERE expires < NOW() LIMIT 100").await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConn> {
        let called_at = Location::caller();
        let lease = get::try_get(self.shared(), called_at)?;
        Some(PooledConn::new(lease, Arc::clone(self.shared()), called_at))
    }

    /// Returns whether the pool can serve. Does no I/O.
    ///
    /// # Examples
    ///
    /// A readiness route, for any web framework. Use it for readiness and start-up probes, not for
    /// liveness: a restart of the service does not bring its database back.
    ///
    /// ```
    /// use mysql_warm_pool::{Pool, PoolConfig};
    ///
    /// fn ready(pool: &Pool) -> (u16, String) {
    ///     let readiness = pool.readiness();
    ///     let status = if readiness.is_serving() { 200 } else { 503 };
    ///     (status, readiness.to_string())
    /// }
    ///
    /// let pool = Pool::new(PoolConfig::from_url("mysql://app:secret@db/shop")?)?;
    /// assert_eq!(ready(&pool), (503, "cold".to_owned()));
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.shared().readiness.snapshot().readiness
    }

    /// Returns the readiness with its context: since when, the status, the last error. Does no I/O.
    #[must_use]
    pub fn health(&self) -> Health {
        assess::health(self.shared())
    }

    /// Waits until the pool is [`Ready`](Readiness::Ready). Also resolves if the pool became Ready
    /// after the call and no longer is.
    ///
    /// Opens nothing by itself: a pool that is never used, by [`warm_up`](Self::warm_up) or
    /// [`get`](Self::get), never becomes Ready. It has no timeout of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the pool is closed, or closes meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Error, Pool};
    /// # async fn consume(pool: Pool) {}
    /// # async fn run(pool: Pool) -> Result<(), Error> {
    /// let warming = pool.clone();
    /// tokio::spawn(async move { warming.warm_up().await });
    /// // Meanwhile the service does what needs no database ...
    /// pool.wait_ready().await?;
    /// consume(pool).await; // ... and takes messages off its queue only now.
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_ready(&self) -> Result<(), Error> {
        self.shared().readiness.wait_ready().await
    }

    /// Watches the readiness from now on; [`changed`](ReadinessWatch::changed) waits for its next
    /// change, and has an example.
    #[must_use]
    pub fn watch(&self) -> ReadinessWatch {
        self.shared().readiness.watch()
    }

    /// Returns the pool's connections now, as one consistent snapshot. Does no I/O.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.shared().slots.status()
    }

    /// Returns counters and histograms of times since the pool was created. Does no I/O.
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
    /// ```
    /// use mysql_warm_pool::Pool;
    ///
    /// /// Answers `/metrics`. `render` is the exporter's.
    /// fn metrics_page(pool: &Pool, render: impl Fn() -> String) -> String {
    ///     pool.publish_metrics();
    ///     render()
    /// }
    /// ```
    ///
    /// Install the recorder before the pool is created, because [`new`](Self::new) registers with
    /// the one that is installed then; or pass one to [`with_recorder`](Self::with_recorder).
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        maintain::publish_metrics(self.shared());
    }

    /// Returns the pool's name in metrics and log events: the setting
    /// [`name`](field@PoolConfig::name), by default `host:port/database`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// Returns the settings the pool was created with.
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
    ///
    /// # Examples
    ///
    /// ```
    /// use mysql_warm_pool::{Pool, PoolConfig};
    ///
    /// let pool = Pool::new(PoolConfig::from_url("mysql://app:secret@db/shop")?)?;
    /// // Twice the replicas, each with half the connections: the server sees as many as before.
    /// let config = pool.config();
    /// pool.resize(config.size / 2, config.overflow / 2)?;
    /// assert_eq!(pool.status().limit(), 25);
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn run(pool: mysql_warm_pool::Pool) -> std::io::Result<()> {
    /// use tokio::signal::unix::{SignalKind, signal};
    ///
    /// // `kill -HUP` after the secret was rotated.
    /// let mut hangups = signal(SignalKind::hangup())?;
    /// while hangups.recv().await.is_some() {
    ///     pool.refresh();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn refresh(&self) {
        maintain::refresh(self.shared());
    }

    /// Waits until the pool is refreshed: by [`refresh`](Self::refresh), or by itself because a
    /// statement's error says that the server takes no writes any more, or that sessions were lost.
    ///
    /// For code that caches something about the server, such as whether it takes writes, and must
    /// then ask again. It sees only refreshes after its first poll. When the pool closes, it never
    /// resolves.
    ///
    /// ```no_run
    /// # async fn keep_fresh(pool: &mysql_warm_pool::Pool, cache: &mut Vec<u8>) {
    /// loop {
    ///     pool.refreshed().await;
    ///     cache.clear();
    /// }
    /// # }
    /// ```
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
    /// For when you know that the server is back, or that its settings were fixed. After a failure
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
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::Pool;
    /// # async fn serve_until(_: impl Future) {}
    /// # async fn run(pool: Pool) {
    /// // First the server, which lets its requests finish, then the pool that they use.
    /// serve_until(tokio::signal::ctrl_c()).await;
    /// println!("{}", pool.close().await); // 20 connections drained, 0 cut
    /// # }
    /// ```
    pub async fn close(&self) -> CloseReport {
        close::close(self.shared()).await
    }

    /// Like [`close`](Self::close), but no other call waits for this one.
    pub(crate) async fn close_alone(&self) {
        close::close_alone(self.shared()).await;
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
