//! The `Pool` handle: joins the parts, computes nothing.

use std::{fmt, future::Future, panic::Location, sync::Arc, time::Duration};

use crate::{
    config::PoolConfig,
    connection::PooledConn,
    error::Error,
    lifecycle::{
        clean as cleaning, close as closing_down, get as acquire, maintain as keeper, warm_up,
    },
    report::{
        CloseReport, Health, PoolStatus, Readiness, ReadinessWatch, WarmUpReport,
        discard::DiscardReason,
    },
    shared::Connector,
    telemetry::PoolMetrics,
};

/// A pool of warm connections to one MySQL or MariaDB server. Cheap to clone: clones share it.
///
/// When the last clone is dropped, idle connections say goodbye to the server in the background,
/// and the pool's tasks end; connections in use stay usable, and are closed when they are dropped.
/// [`close`](Self::close) does the same and waits for it.
#[derive(Clone)]
pub struct Pool {
    handle: Arc<LastHandle>,
}

/// What all clones share; dropped with the last of them. The connector itself may live longer: the pool's tasks and
/// connections in use hold it too.
struct LastHandle {
    connector: Arc<Connector>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        if self.connector.begin_closing() {
            while let Some(filled) = self.connector.slots.try_take() {
                cleaning::discard(&self.connector, filled, DiscardReason::Closing);
            }
        }
    }
}

impl Pool {
    /// Makes a pool. Does no I/O and needs no runtime, so it can be a `static`.
    ///
    /// Its first use, [`warm_up`](Self::warm_up) or [`get`](Self::get), binds it to the tokio runtime on which that is
    /// called, for as long as that runtime lives: connections belong to the runtime that opened them. The runtime needs
    /// I/O and time enabled (`enable_all`).
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of the settings.
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            handle: Arc::new(LastHandle {
                connector: Connector::new(config),
            }),
        })
    }

    /// Opens, initialises and proves [`size`](field@PoolConfig::size) connections.
    ///
    /// After it returns, the first request finds its connection open. Call it when the service starts; its report says what
    /// was opened and what is likely to hurt later, and prints as one line.
    ///
    /// Faults that may pass (refused, name not found, server full or starting) are tried again, with back-off and jitter,
    /// until [`warm_up_timeout`](field@PoolConfig::warm_up_timeout). On a warm pool it opens nothing and returns at once.
    /// Calls at the same time share the work, and callers of [`get`](Self::get) are served meanwhile, as connections
    /// appear.
    ///
    /// # Errors
    ///
    /// - [`Error::WarmUp`], with the report inside: at once at a fault that trying again does not mend (wrong password,
    ///   unknown database, bad `init` statement); or when the time is over and fewer connections than
    ///   [`ready_at`](field@PoolConfig::ready_at) are open. Either way the pool goes on trying in the background.
    /// - [`Error::Closed`] and [`Error::NoRuntime`].
    ///
    /// # Cancel safety
    ///
    /// Safe: what was opened stays, and what is being opened goes on.
    pub async fn warm_up(&self) -> Result<WarmUpReport, Error> {
        warm_up::warm_up(self.connector()).await
    }

    /// Gets a connection, within [`timeout`](field@PoolConfig::timeout).
    ///
    /// If one is idle, it is returned at once, or after one round trip if it has been idle for so long that it has to be
    /// [proved](field@PoolConfig::validate_after_idle) first. If not, the caller waits for whichever comes first: a
    /// connection that another caller returns, or a new one, which the pool opens in the background. Waiting callers are
    /// served in the order they came.
    ///
    /// # Errors
    ///
    /// - [`Error::Timeout`] when the time is over, with what it went on;
    /// - [`Error::Connect`] when no connection is open and the server refuses for a reason that does not pass by itself, such
    ///   as a wrong password: waiting for the whole time would be of no use;
    /// - [`Error::Closed`] and [`Error::NoRuntime`], at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, it leaves the queue. A connection that it was about to get, or that is being opened for it, goes to
    /// the next caller or becomes idle.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        let timeout = self.connector().config.timeout;
        acquire::get(self.connector(), timeout, Location::caller())
    }

    /// Gets a connection, within the given time instead of the configured one. With no time at all: an idle connection that
    /// needs no proof, or an error.
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
        acquire::get(self.connector(), timeout, Location::caller())
    }

    /// Gets a connection if one is idle and can be handed out as it is; else `None`. Never waits, and does no I/O.
    ///
    /// An idle connection that must be [proved](field@PoolConfig::validate_after_idle) first is not handed out; it is
    /// proved in the background, for whoever asks next. `None` is also the answer of a pool that is closed or lives on
    /// another runtime.
    #[must_use]
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConn> {
        acquire::try_get(self.connector(), Location::caller())
    }

    /// Whether the pool can serve. Costs no I/O: the pool knows it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.connector().board.standing().readiness
    }

    /// The readiness with what is needed to understand it: since when, the status, the last error. Costs no I/O.
    ///
    /// For a readiness probe: answer by [`is_serving`](Readiness::is_serving) of what it says.
    #[must_use]
    pub fn health(&self) -> Health {
        self.connector().health()
    }

    /// Waits until the pool is [`Ready`](Readiness::Ready). Also resolves if the pool was ready for a moment after the
    /// call and is not any more.
    ///
    /// Opens nothing by itself: a pool that is never used, by [`warm_up`](Self::warm_up) or [`get`](Self::get), never
    /// becomes ready.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the pool is closed, or closes meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        self.connector().board.wait_ready().await
    }

    /// Returns what follows the readiness from now on, to await its changes.
    #[must_use]
    pub fn watch(&self) -> ReadinessWatch {
        self.connector().board.watch()
    }

    /// The pool's connections now, as one consistent snapshot.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.connector().slots.status()
    }

    /// What has happened since the pool was made: counters, and histograms of times.
    #[must_use]
    pub fn metrics(&self) -> PoolMetrics {
        self.connector().metrics()
    }

    /// Sets the gauges of the `metrics` facade to what is so now. Costs no I/O. Feature `metrics`.
    ///
    /// Call it where metrics are asked for, so that they are fresh. The pool does it by itself as well, in the
    /// background: about once a second, ten times a second while connections are in use. Counters and times do not need
    /// it; they are recorded as things happen. What is recorded, and by which names, is in the README.
    ///
    /// The recorder must be installed before the pool is made: the pool registers with it then, and only then.
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.connector().publish_metrics();
    }

    /// The pool's name in metrics and log events: the setting [`name`](field@PoolConfig::name), by default
    /// `host:port/database`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.connector().name
    }

    /// The settings the pool was made with.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.connector().config
    }

    /// Changes [`size`](field@PoolConfig::size) and [`overflow`](field@PoolConfig::overflow) while the pool is in use.
    ///
    /// Happens in the background: missing connections are opened, idle ones that are too many are closed. Where more are
    /// in use than a smaller limit allows, they are closed when they are returned. [`status`](Self::status) tells the values
    /// now, [`config`](Self::config) those the pool was made with.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], if a value is out of its range; nothing is changed then. [`Error::Closed`].
    pub fn resize(&self, size: usize, overflow: usize) -> Result<(), Error> {
        keeper::resize(self.connector(), size, overflow)
    }

    /// Replaces every connection opened before now, in the background. An idle one is closed once its replacement is open,
    /// one in use when it is returned. A connection that was being opened is not used either.
    ///
    /// Call it after the password or the address behind the server's name has changed. The pool does it by itself when a
    /// statement's error says that the server has become read-only, as after a failover.
    pub fn refresh(&self) {
        self.connector().refresh();
    }

    /// Closes the pool for good, and waits for its connections: each says goodbye to the server (`COM_QUIT`).
    ///
    /// As soon as the future is first polled, every [`get`](Self::get) fails with [`Error::Closed`], those that wait too.
    /// Connections in use are awaited up to [`close_timeout`](field@PoolConfig::close_timeout), then cut off: a command that
    /// runs on one of them, or is sent later, ends with an error, and the connection is closed when its handle is dropped.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the pool stays closed and idle connections still say goodbye, but connections in use are not
    /// cut off.
    pub async fn close(&self) -> CloseReport {
        closing_down::close(self.connector()).await
    }

    fn connector(&self) -> &Arc<Connector> {
        &self.handle.connector
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
