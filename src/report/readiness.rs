//! Whether the pool can serve: `Readiness`, `Health`, and a watch on changes.

use std::{fmt, time::SystemTime};

use tokio::sync::watch;

use super::PoolStatus;

/// Whether the pool can serve. It follows from what the connections do, so reading it costs no I/O.
///
/// A readiness probe needs only [`is_serving`](Self::is_serving). The difference between `Ready`
/// and `Degraded` is for people and dashboards: both serve, and a pool may change between them
/// often.
///
/// - By default, [`ready_at`](field@crate::PoolConfig::ready_at) is `size`, so every connection
///   counts: if one is lost and the next attempt to open another fails, the pool is `Degraded`
///   until an attempt succeeds. If losses and failures alternate, so do the two states.
/// - Readiness counts connections, not the success of callers. If connections are lost as fast as
///   they can be replaced (many cancelled callers and a small
///   [`max_connecting`](field@crate::PoolConfig::max_connecting)), the pool stays `Degraded`
///   although every caller is served.
///
/// So alert only if `Degraded` lasts, and set `ready_at` below `size` if single connections do not
/// matter. Busy is not down: a pool whose connections are all in use and answering is `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Readiness {
    /// The pool has not been used yet and has opened nothing.
    Cold,
    /// The first connections are being opened, and
    /// [`warm_up_timeout`](field@crate::PoolConfig::warm_up_timeout), counted from the pool's first
    /// use, is not over.
    Warming,
    /// At least `ready_at` validated connections are open, idle or in use. With a
    /// [`size`](field@crate::PoolConfig::size) of 0: the last attempt to open one succeeded.
    Ready,
    /// At least one connection works, but fewer than `ready_at` do, and
    ///
    /// - the pool was ready before, and either the last attempt to open another connection failed,
    ///   or this has lasted for more than 500 ms;
    /// - or the pool has never been ready, and
    ///   [`warm_up_timeout`](field@crate::PoolConfig::warm_up_timeout) is over. So a new replica
    ///   serves with the connections that the server allows it, while the old one still holds the
    ///   others.
    ///
    /// Or all connections that the limit allows are in use, callers wait, and no connection has
    /// answered for 0.7 s: because of slow queries, or a server that hangs.
    Degraded,
    /// No connection works, and opening one fails or takes long: more than 500 ms after the pool
    /// was ready, or more than `warm_up_timeout` before.
    /// [`Pool::health`](crate::Pool::health) says why. The pool keeps trying.
    Unavailable,
    /// The pool is closed.
    Closed,
}

impl Readiness {
    /// Returns whether traffic should be sent here: true for `Ready` and `Degraded`.
    #[must_use]
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }

    /// Returns the readiness as a number for metrics.
    ///
    /// Higher is better, and from 4 up it [is serving](Self::is_serving): `Closed` 0, `Unavailable`
    /// 1, `Cold` 2, `Warming` 3, `Degraded` 4, `Ready` 5.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Unavailable => 1,
            Self::Cold => 2,
            Self::Warming => 3,
            Self::Degraded => 4,
            Self::Ready => 5,
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cold => "cold",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Closed => "closed",
        })
    }
}

/// The pool's readiness with the facts to understand it; returned by
/// [`Pool::health`](crate::Pool::health).
///
/// With the feature `serde` it serialises, for a page that only operators see.
///
/// ```
/// use mysql_warm_pool::{Pool, PoolConfig, Readiness};
///
/// let pool = Pool::new(PoolConfig::from_url("mysql://app:secret@db/shop")?)?;
/// let health = pool.health();
/// println!("{}: {}", health.readiness, health.status);
/// if let Some(error) = &health.last_error {
///     println!("{error}");
/// }
/// assert_eq!(health.readiness, Readiness::Cold);
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Health {
    /// Whether the pool can serve now.
    pub readiness: Readiness,
    /// When the readiness became what it is. With the feature `serde`: seconds since 1970.
    #[cfg_attr(feature = "serde", serde(serialize_with = "unix_seconds"))]
    pub since: SystemTime,
    /// The pool's connections now.
    pub status: PoolStatus,
    /// Why connections cannot be opened now, or that none of those in use answers; `None` if
    /// neither is the case.
    ///
    /// It holds no password but may hold hosts and users in the server's own words, so do not show
    /// it to clients.
    pub last_error: Option<String>,
}

#[cfg(feature = "serde")]
pub(super) fn unix_seconds<S: serde::Serializer>(
    time: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    serializer.serialize_f64(seconds)
}

/// Watches the readiness of a pool or a cluster; returned by [`Pool::watch`](crate::Pool::watch)
/// and [`Cluster::watch`](crate::cluster::Cluster::watch).
#[derive(Clone, Debug)]
pub struct ReadinessWatch {
    receiver: watch::Receiver<ReadinessSnapshot>,
}

impl ReadinessWatch {
    pub(crate) const fn new(receiver: watch::Receiver<ReadinessSnapshot>) -> Self {
        Self { receiver }
    }

    /// Returns the readiness now.
    #[must_use]
    pub fn current(&self) -> Readiness {
        self.receiver.borrow().readiness
    }

    /// Waits for the next change and returns the new readiness. Returns at once if it has changed
    /// since the last call, or since the watch was created.
    ///
    /// Of several changes only the last is returned, so the state may be the same as before.
    /// `Closed` is the last change: end a loop there. Calls after it wait until the pool and its
    /// connections are dropped, and then return `Closed` at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: a change that was not returned is returned by the next call.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Pool, Readiness};
    /// # fn run(pool: &Pool) {
    /// let mut watch = pool.watch();
    /// tokio::spawn(async move {
    ///     loop {
    ///         let readiness = watch.changed().await;
    ///         println!("the database is {readiness}");
    ///         if readiness == Readiness::Closed {
    ///             break;
    ///         }
    ///     }
    /// });
    /// # }
    /// ```
    pub async fn changed(&mut self) -> Readiness {
        match self.receiver.changed().await {
            Ok(()) => self.receiver.borrow_and_update().readiness,
            Err(_pool_is_dropped) => Readiness::Closed,
        }
    }
}

/// The readiness at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadinessSnapshot {
    pub(crate) readiness: Readiness,
    /// When the readiness became what it is.
    pub(crate) since: SystemTime,
    /// How often the pool has become ready since creation.
    pub(crate) times_ready: u64,
}
