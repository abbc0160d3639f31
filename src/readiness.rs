//! Whether the pool can serve: the states, their legal changes, and who is told.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::{error::Error, status::PoolStatus};

/// How long there may be fewer than `ready_at` connections, while they are being replaced, before that shows.
///
/// A cancelled query costs a connection, and its replacement takes milliseconds: not a reason to
/// be taken out of service.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

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

/// What readiness is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Whether a first fill has begun.
    pub(crate) begun: bool,
    /// Open connections not known to be dead or out of reach.
    pub(crate) working: usize,
    /// How many of them make the pool ready.
    pub(crate) ready_at: usize,
    /// Whether the last attempt to open a connection failed.
    pub(crate) failing: bool,
    /// Whether no connection has answered for long though all are in use and callers wait.
    pub(crate) silent: bool,
    /// For how long there have been fewer than `ready_at`.
    pub(crate) short_for: Duration,
}

/// The state that follows `was`, given the facts; `was_ready` says whether the pool ever was.
pub(crate) fn judge(was: Readiness, was_ready: bool, facts: Facts) -> Readiness {
    let trouble = facts.failing || facts.silent || facts.short_for >= GRACE;
    match was {
        Readiness::Closed => Readiness::Closed,
        _ if !facts.begun => Readiness::Cold,
        _ if facts.working >= facts.ready_at && !facts.silent => Readiness::Ready,
        _ if !was_ready && facts.working == 0 && facts.failing => Readiness::Unavailable,
        _ if !was_ready => Readiness::Warming,
        Readiness::Ready if !trouble => Readiness::Ready,
        _ if facts.working > 0 => Readiness::Degraded,
        Readiness::Degraded if !trouble => Readiness::Degraded,
        _ => Readiness::Unavailable,
    }
}

/// Follows the readiness of a pool; made by [`Pool::watch`](crate::Pool::watch).
#[derive(Clone, Debug)]
pub struct ReadinessWatch {
    receiver: watch::Receiver<Standing>,
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
    times_ready: u64,
}

/// Holds the readiness and tells those who watch.
#[derive(Debug)]
pub(crate) struct Board {
    sender: watch::Sender<Standing>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let standing = Standing {
            readiness: Readiness::Cold,
            since: SystemTime::now(),
            times_ready: 0,
        };
        Self {
            sender: watch::Sender::new(standing),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        *self.sender.borrow()
    }

    pub(crate) fn watch(&self) -> ReadinessWatch {
        ReadinessWatch {
            receiver: self.sender.subscribe(),
        }
    }

    /// Judges anew; returns the change, if it is one.
    pub(crate) fn update(&self, facts: Facts) -> Option<(Readiness, Readiness)> {
        self.change(|standing| judge(standing.readiness, standing.times_ready > 0, facts))
    }

    pub(crate) fn close(&self) -> Option<(Readiness, Readiness)> {
        self.change(|_| Readiness::Closed)
    }

    fn change(&self, next: impl FnOnce(&Standing) -> Readiness) -> Option<(Readiness, Readiness)> {
        let mut change = None;
        self.sender.send_if_modified(|standing| {
            let next = next(standing);
            if next == standing.readiness {
                return false;
            }
            change = Some((standing.readiness, next));
            standing.readiness = next;
            standing.since = SystemTime::now();
            if next == Readiness::Ready {
                standing.times_ready = standing.times_ready.saturating_add(1);
            }
            true
        });
        change
    }

    /// Resolves when the pool is ready, or has been since the call; error when it is closed.
    pub(crate) async fn wait_ready(&self) -> Result<(), Error> {
        let mut receiver = self.sender.subscribe();
        let before = receiver.borrow().times_ready;
        let standing = receiver
            .wait_for(|standing| {
                standing.times_ready > before
                    || matches!(standing.readiness, Readiness::Ready | Readiness::Closed)
            })
            .await
            .map(|standing| *standing);
        match standing {
            Ok(standing)
                if standing.times_ready > before || standing.readiness == Readiness::Ready =>
            {
                Ok(())
            }
            Ok(_) | Err(_) => Err(Error::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Board, Facts, GRACE, Readiness, judge};

    const FACTS: Facts = Facts {
        begun: true,
        working: 0,
        ready_at: 3,
        failing: false,
        silent: false,
        short_for: Duration::ZERO,
    };

    #[test]
    fn each_state_follows_from_the_facts() {
        use Readiness::{Closed, Cold, Degraded, Ready, Unavailable, Warming};
        let short = GRACE;
        let table = [
            // was, was_ready, working, failing, short for, begun => becomes
            (Cold, false, 0, false, Duration::ZERO, false, Cold),
            (Cold, false, 0, false, Duration::ZERO, true, Warming),
            (Warming, false, 0, true, Duration::ZERO, true, Unavailable),
            (Unavailable, false, 1, false, Duration::ZERO, true, Warming),
            (Warming, false, 3, false, Duration::ZERO, true, Ready),
            (Ready, true, 0, false, Duration::ZERO, true, Ready),
            (Ready, true, 2, false, short, true, Degraded),
            (Ready, true, 2, true, Duration::ZERO, true, Degraded),
            (Ready, true, 0, true, Duration::ZERO, true, Unavailable),
            (Degraded, true, 2, false, Duration::ZERO, true, Degraded),
            (Degraded, true, 0, false, short, true, Unavailable),
            (Unavailable, true, 1, false, short, true, Degraded),
            (Unavailable, true, 3, false, Duration::ZERO, true, Ready),
            (Closed, true, 3, false, Duration::ZERO, true, Closed),
        ];
        for (was, was_ready, working, failing, short_for, begun, becomes) in table {
            let facts = Facts {
                begun,
                working,
                failing,
                short_for,
                ..FACTS
            };
            assert_eq!(
                judge(was, was_ready, facts),
                becomes,
                "from {was} with {facts:?}"
            );
        }
    }

    #[test]
    fn silence_degrades_and_no_more() {
        use Readiness::{Degraded, Ready, Unavailable, Warming};
        let silent = Facts {
            working: 3,
            silent: true,
            ..FACTS
        };
        for was in [Ready, Degraded, Unavailable] {
            assert_eq!(judge(was, true, silent), Degraded, "from {was}");
        }
        assert_eq!(judge(Warming, false, silent), Warming);
        let answering = Facts {
            silent: false,
            ..silent
        };
        assert_eq!(judge(Degraded, true, answering), Ready);
    }

    #[tokio::test]
    async fn wait_ready_skips_no_ready_state_however_short() {
        let board = Board::new();
        board.update(FACTS);
        let waiting = board.wait_ready();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        board.update(Facts {
            working: 3,
            ..FACTS
        });
        board.update(Facts {
            failing: true,
            ..FACTS
        });
        assert_eq!(board.standing().readiness, Readiness::Unavailable);
        waiting.await.expect("it was ready");
    }

    #[tokio::test]
    async fn closing_ends_wait_ready_and_shows_in_the_watch() {
        let board = Board::new();
        let mut watch = board.watch();
        let (ready, change) = tokio::join!(board.wait_ready(), async {
            board.close();
            watch.changed().await
        });
        assert!(ready.is_err());
        assert_eq!(change, Readiness::Closed);
    }
}
