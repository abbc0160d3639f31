//! Whether the pool can serve: the states, and how to follow their changes.

use std::{fmt, time::SystemTime};

use tokio::sync::watch;

use super::PoolStatus;

/// Whether the pool can serve. The pool knows it from what its connections do, so asking costs no I/O.
///
/// A readiness probe needs [`is_serving`](Self::is_serving) only. The difference between `Ready` and `Degraded` is for
/// people and dashboards: both serve, and a pool may go from one to the other and back often.
///
/// - With [`ready_at`](field@crate::PoolConfig::ready_at) at its default, `size`, every connection counts: if one is
///   lost and the next attempt to open another is refused, the pool is `Degraded` until an attempt succeeds. Where losses
///   and refusals alternate, so do the two states.
/// - What counts is how many connections there are, not how callers fare. If connections are lost as fast as they can be
///   replaced (many callers cancelled, and a small [`max_connecting`](field@crate::PoolConfig::max_connecting)), the pool
///   stays `Degraded` though every caller is served.
///
/// So raise an alarm when `Degraded` lasts, and set `ready_at` below `size` where single connections do not matter. Being
/// busy is no trouble: a pool whose connections are all in use, and answering, is `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Readiness {
    /// Nothing was asked of the pool yet, so it has opened nothing.
    Cold,
    /// The first connections are being opened.
    Warming,
    /// At least `ready_at` connections are open and proved, idle or in use.
    Ready,
    /// The pool was ready and has fewer than `ready_at` connections that work now, but at least one; and the last attempt
    /// to open another has failed, or there have been too few for more than 500 ms.
    ///
    /// Or: all connections that the limit allows are in use, callers wait, and none of the connections has answered for
    /// 0.7 s. That may be slow queries, or a server that hangs.
    Degraded,
    /// No connection works, and opening one fails or takes long; [`Pool::health`](crate::Pool::health) says why. The pool
    /// goes on trying.
    Unavailable,
    /// The pool was closed.
    Closed,
}

impl Readiness {
    /// Whether traffic should be sent here: `Ready` or `Degraded`.
    #[must_use]
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }

    /// As a number for metrics, the better the higher: `Closed` 0, `Unavailable` 1, `Cold` 2, `Warming` 3,
    /// `Degraded` 4, `Ready` 5. From 4 on it [is serving](Self::is_serving).
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

/// The readiness of a pool, with what is needed to understand it; read by [`Pool::health`](crate::Pool::health).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Health {
    /// Whether the pool can serve.
    pub readiness: Readiness,
    /// Since when it has been so. With feature `serde`: seconds since 1970.
    #[cfg_attr(feature = "serde", serde(serialize_with = "unix_seconds"))]
    pub since: SystemTime,
    /// The pool's connections.
    pub status: PoolStatus,
    /// Why connections cannot be opened, or that none of those in use answers; `None` once an attempt has succeeded, or
    /// answers come, again. Holds no password, but perhaps hosts and users, in the server's own words: not for clients.
    pub last_error: Option<String>,
}

#[cfg(feature = "serde")]
fn unix_seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    serializer.serialize_f64(seconds)
}

/// Follows the readiness of a pool; made by [`Pool::watch`](crate::Pool::watch).
#[derive(Clone, Debug)]
pub struct ReadinessWatch {
    pub(crate) receiver: watch::Receiver<Standing>,
}

impl ReadinessWatch {
    /// The readiness now.
    #[must_use]
    pub fn current(&self) -> Readiness {
        self.receiver.borrow().readiness
    }

    /// Waits for the next change of the readiness, and returns what it has become. A change since this was made, or since
    /// the last call, is returned at once.
    ///
    /// Only the last of several changes is returned, so it may be the same state as before. Once the pool is gone it
    /// returns `Closed` at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: a change that was not returned is returned by the next call.
    pub async fn changed(&mut self) -> Readiness {
        match self.receiver.changed().await {
            Ok(()) => self.receiver.borrow_and_update().readiness,
            Err(_the_pool_is_gone) => Readiness::Closed,
        }
    }
}

/// A readiness, since when, and how often the pool has become ready so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) readiness: Readiness,
    pub(crate) since: SystemTime,
    pub(crate) times_ready: u64,
}
