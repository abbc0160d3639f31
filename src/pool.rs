//! The `Pool` handle: joins the parts, computes nothing.

use std::{fmt, future::Future, panic::Location, sync::Arc, time::Duration};

use crate::{
    acquire, cleaning, closing_down,
    config::PoolConfig,
    connection::PooledConn,
    connector::Connector,
    error::Error,
    keeper,
    metrics::PoolMetrics,
    readiness::{Health, Readiness, ReadinessWatch},
    report::{CloseReport, WarmUpReport},
    session::Reason,
    status::PoolStatus,
    warm_up,
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

/// What all clones share; dropped with the last of them.
struct LastHandle {
    connector: Arc<Connector>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        if self.connector.begin_closing() {
            while let Some(filled) = self.connector.slots.try_take() {
                cleaning::discard(&self.connector, filled, Reason::Closing);
            }
        }
    }
}

impl Pool {
    /// Makes a pool. Does no I/O and needs no runtime, so it can be a `static`.
    ///
    /// Its first use, [`warm_up`](Self::warm_up) or [`get`](Self::get), binds it to the tokio runtime it is called
    /// on, for as long as that runtime lives. That runtime needs I/O and time enabled (`enable_all`).
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
    /// Passing faults (refused, name not found, server full or starting) are tried again, with
    /// back-off and jitter, until [`warm_up_timeout`](field@PoolConfig::warm_up_timeout). On a
    /// warm pool it opens nothing and returns at once. Calls at the same time share the work, and
    /// callers of [`get`](Self::get) are served meanwhile, as connections appear.
    ///
    /// # Errors
    ///
    /// - [`Error::WarmUp`], with the report inside: a fault that trying again does not mend (wrong
    ///   password, unknown database, bad init statement), at once; or fewer connections than
    ///   [`ready_at`](field@PoolConfig::ready_at) when the time was over. The pool goes on trying in the background.
    /// - [`Error::Closed`] and [`Error::WrongRuntime`].
    ///
    /// # Cancel safety
    ///
    /// Safe: what was opened stays, and what is being opened goes on.
    pub async fn warm_up(&self) -> Result<WarmUpReport, Error> {
        warm_up::warm_up(self.connector()).await
    }

    /// Gets a connection, within [`timeout`](field@PoolConfig::timeout).
    ///
    /// A proved idle one at once; else whichever comes first, one that is returned or one that is
    /// opened. Waiting callers are served in the order they came.
    ///
    /// # Errors
    ///
    /// - [`Error::Timeout`], with its cause, after the whole of the time;
    /// - [`Error::Connect`] when nothing is open and the server refuses for a reason that lasts;
    /// - [`Error::Closed`] and [`Error::WrongRuntime`], at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, it leaves the queue. A connection it was about to get, or asked for, goes to the next.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        let timeout = self.connector().config.timeout;
        acquire::get(self.connector(), timeout, Location::caller())
    }

    /// Gets a connection, within the given time instead of the configured one.
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

    /// Gets a proved idle connection, now or never. Costs no I/O.
    #[must_use]
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConn> {
        acquire::try_get(self.connector(), Location::caller())
    }

    /// Whether the pool can serve. Costs no I/O.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.connector().board.standing().readiness
    }

    /// Readiness, since when, the status, and the last error. Costs no I/O.
    #[must_use]
    pub fn health(&self) -> Health {
        self.connector().health()
    }

    /// Waits until the pool is ready; resolves also if it was for a moment meanwhile.
    ///
    /// Opens nothing by itself: that is for [`warm_up`](Self::warm_up) and [`get`](Self::get).
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

    /// Follows the readiness from now on.
    #[must_use]
    pub fn watch(&self) -> ReadinessWatch {
        self.connector().board.watch()
    }

    /// The pool's connections now, as one consistent snapshot.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.connector().slots.status()
    }

    /// What has happened since the pool was made.
    #[must_use]
    pub fn metrics(&self) -> PoolMetrics {
        self.connector().metrics()
    }

    /// Sets the gauges of the `metrics` facade to what is so now. Costs no I/O. Feature `metrics`.
    ///
    /// For a handler that is asked for metrics. The pool does it by itself as well, as its keeper passes by: about once
    /// a second, ten times where connections are in use. Counters and times need none of it, they are recorded as they
    /// happen. What is recorded, and by which names, is in the README.
    ///
    /// The recorder must be installed before the pool is made: the pool registers with it then, once.
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
    /// More is opened, and what is too many and idle is closed, in the background; connections in use beyond a
    /// smaller limit are closed when they are returned. [`status`](Self::status) tells the values now,
    /// [`config`](Self::config) those the pool was made with.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], if a value is out of its range; nothing is changed then. [`Error::Closed`].
    pub fn resize(&self, size: usize, overflow: usize) -> Result<(), Error> {
        keeper::resize(self.connector(), size, overflow)
    }

    /// Replaces every connection opened before now, in the background: each once its replacement is open, those in
    /// use when they are returned. Openings that had begun are not used either.
    ///
    /// For new credentials, and for a name that is to be resolved anew. The pool calls it itself when a statement's
    /// error says that the server has become read-only.
    pub fn refresh(&self) {
        self.connector().refresh();
    }

    /// Closes the pool: says goodbye to the server on each connection, and waits for it.
    ///
    /// From its first poll on, every `get()` fails with [`Error::Closed`], those that wait too.
    /// Connections in use are awaited up to [`close_timeout`](field@PoolConfig::close_timeout), then cut: a command that runs on
    /// one, or is sent later, ends with an error, and its connection is closed when it is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the pool stays closed, but connections in use are not cut.
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
