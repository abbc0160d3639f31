//! Whether the pool can serve: the legal changes of its readiness, and their watchers.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::{
    error::Error,
    report::{Readiness, ReadinessSnapshot, ReadinessWatch},
};

/// How long there may be fewer than `ready_at` connections, while they are being replaced, before that shows.
///
/// A cancelled query costs a connection, and its replacement takes milliseconds: not a reason to
/// be taken out of service.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

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

/// Holds the readiness and tells those who watch.
#[derive(Debug)]
pub(crate) struct Board {
    sender: watch::Sender<ReadinessSnapshot>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let standing = ReadinessSnapshot {
            readiness: Readiness::Cold,
            since: SystemTime::now(),
            times_ready: 0,
        };
        Self {
            sender: watch::Sender::new(standing),
        }
    }

    pub(crate) fn standing(&self) -> ReadinessSnapshot {
        *self.sender.borrow()
    }

    pub(crate) fn watch(&self) -> ReadinessWatch {
        ReadinessWatch::new(self.sender.subscribe())
    }

    /// Judges anew; returns the change, if it is one.
    pub(crate) fn update(&self, facts: Facts) -> Option<(Readiness, Readiness)> {
        self.change(|standing| judge(standing.readiness, standing.times_ready > 0, facts))
    }

    pub(crate) fn close(&self) -> Option<(Readiness, Readiness)> {
        self.change(|_| Readiness::Closed)
    }

    fn change(
        &self,
        next: impl FnOnce(&ReadinessSnapshot) -> Readiness,
    ) -> Option<(Readiness, Readiness)> {
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
