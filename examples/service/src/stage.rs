//! The stage of the service's life, and whether new requests should come here.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The stages from start to end. The service never goes back to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The pool is warming up; requests are held.
    Starting,
    /// Requests are answered.
    Serving,
    /// About to end: requests are answered, but no new ones should be sent.
    Draining,
    /// Nothing new is accepted.
    Ending,
}

/// The stage, and the requests that came too early.
pub(crate) struct Life {
    stage: watch::Sender<Stage>,
    early: AtomicUsize,
}

/// Why a request is refused.
pub(crate) enum Refused {
    /// Its time was up before the service was ready.
    NotReady,
    /// The service is ending.
    Ending,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Starting),
            early: AtomicUsize::new(0),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    pub(crate) fn enter(&self, next: Stage) {
        self.stage.send_if_modified(|stage| {
            let later = next > *stage;
            *stage = (*stage).max(next);
            later
        });
    }

    /// Resolves when the service is at that stage, or past it.
    pub(crate) async fn until(&self, stage: Stage) {
        let mut stages = self.stage.subscribe();
        // This cannot fail: the sender lives as long as `self`.
        stages.wait_for(|now| *now >= stage).await.ok();
    }

    /// Holds a request until the service has started.
    pub(crate) async fn admit(&self, deadline: Instant) -> Result<(), Refused> {
        match timeout_at(deadline, self.until(Stage::Serving)).await {
            Ok(()) if self.stage() < Stage::Ending => Ok(()),
            Ok(()) => Err(Refused::Ending),
            Err(_elapsed) => Err(Refused::NotReady),
        }
    }

    /// Counts a request that came before the service was ready, until the returned guard is
    /// dropped.
    pub(crate) fn count_early(&self) -> Early<'_> {
        self.early.fetch_add(1, Ordering::Relaxed);
        Early { life: self }
    }

    /// Requests that came before the service was ready, and have no answer yet.
    pub(crate) fn early(&self) -> usize {
        self.early.load(Ordering::Relaxed)
    }
}

/// A request that came too early and has no answer yet.
pub(crate) struct Early<'a> {
    life: &'a Life,
}

impl Drop for Early<'_> {
    fn drop(&mut self) {
        self.life.early.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The times by which a request must have its connection and its answer.
///
/// A request without a connection after four fifths of its time would hardly finish in the rest. It
/// is refused then, while it is certain that nothing was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) connection: Instant,
    pub(crate) answer: Instant,
}

impl Deadlines {
    pub(crate) fn after(whole: Duration) -> Self {
        let now = Instant::now();
        Self {
            connection: now + whole * 4 / 5,
            answer: now + whole,
        }
    }
}
