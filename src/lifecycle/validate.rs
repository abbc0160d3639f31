//! Validates open connections, and makes the others suspect when one is found dead.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::debug;

use crate::{
    engine::slots::{Cleaning, Lease},
    error::Brief,
    report::DiscardReason,
    shared::Shared,
    time::Timestamp,
};

use super::{assess::assess, discard, give_back};

/// A connection that does not answer the pool for longer than this does not count as working, and
/// all others become suspect.
const PATIENCE: Duration = Duration::from_millis(300);
/// A connection being cleaned is not given up earlier than this.
const CLEANING_PATIENCE: Duration = Duration::from_millis(600);
/// How long an old connection may stay silent once a new one works: a server that was frozen
/// answers on both at once.
const LATE_ANSWER: Duration = Duration::from_millis(500);
/// How often the pool decides whether to give up a connection.
const AGAIN: Duration = Duration::from_millis(50);

/// Validates a connection in a new task, so that a caller that gives up wastes nothing.
///
/// The connection is sent to the returned receiver, or becomes idle if that was dropped. If it is
/// not valid it is discarded, and nothing is sent.
pub(super) fn validate_in_background(
    shared: &Arc<Shared>,
    lease: Lease,
) -> oneshot::Receiver<Lease> {
    let (sender, receiver) = oneshot::channel();
    let runtime = lease.origin.runtime.clone();
    let cleaning = shared.slots.begin_cleaning(lease);
    let shared = Arc::clone(shared);
    drop(runtime.spawn(async move {
        if let Some(lease) = validate(&shared, cleaning).await
            && let Err(lease) = sender.send(lease)
        {
            give_back::make_idle(&shared, lease);
        }
    }));
    receiver
}

async fn validate(shared: &Arc<Shared>, mut cleaning: Cleaning) -> Option<Lease> {
    let session = cleaning.session()?;
    let (id, validated_at) = (session.origin.id, session.follow.validated_at);
    shared.metrics.validations.add_one();
    if shared.liveness.is_suspect(validated_at) {
        shared.metrics.suspects.add_one();
    }
    let began = Timestamp::now();
    let outcome = {
        let asking = pin!(session.validate());
        with_patience(shared, id, validated_at, Work::Validation, asking).await
    };
    let error = match outcome {
        Some(Ok(())) => {
            shared.liveness.record_answer(Timestamp::now());
            return cleaning.finish();
        }
        Some(Err(error)) => Brief(error).to_string(),
        None => format!("no answer within {:.1?}", Timestamp::now().since(began)),
    };
    debug!(
        pool = shared.name,
        connection = id,
        error,
        "validation failed"
    );
    // Boxed, as it is rare and large.
    let reason = DiscardReason::ValidationFailed;
    Box::pin(discard::discard_cleaning(shared, cleaning, reason)).await;
    None
}

/// Makes all connections suspect because one, last validated at `validated_at`, was found dead.
/// Does nothing if that one was suspect itself: then it says nothing new about the others.
pub(super) fn suspect_others(shared: &Shared, validated_at: Option<Timestamp>) {
    if validated_at.is_none_or(|at| !shared.liveness.is_suspect(at)) {
        suspect_all(shared);
    }
}

/// Makes all connections suspect.
pub(crate) fn suspect_all(shared: &Shared) {
    shared.liveness.suspect_all(Timestamp::now());
    shared.notify_maintenance();
}

/// Makes those connections suspect that have not answered since a timed-out statement began: the
/// network may be gone. The others have shown that they work.
pub(super) fn suspect_quiet(shared: &Shared) {
    let limit = shared.config.statement_timeout.unwrap_or_default();
    shared.liveness.suspect_all(Timestamp::now().before(limit));
    shared.notify_maintenance();
}

/// The pool's own work on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// One question, which a reachable server answers at once.
    Validation,
    /// May roll back a large transaction, which takes long.
    Cleaning,
}

impl Work {
    /// How long the work may take before the connection is given up for waiting callers.
    const fn patience(self) -> Duration {
        match self {
            Self::Validation => PATIENCE,
            Self::Cleaning => CLEANING_PATIENCE,
        }
    }
}

/// Awaits the pool's own work on a connection; `None` if it is given up, at the latest after
/// `connect_timeout`. After [`PATIENCE`] the connection does not count as working until the work
/// ends, and all others become suspect.
pub(super) async fn with_patience<T>(
    shared: &Shared,
    id: u32,
    validated_at: Timestamp,
    kind: Work,
    mut work: impl Future<Output = T> + Unpin,
) -> Option<T> {
    let _panic = RecordPanic {
        shared,
        id,
        validated_at,
    };
    let limit = shared.config.connect_timeout;
    let began = Timestamp::now();
    let soon = timeout(PATIENCE.min(limit), &mut work).await;
    if soon.is_ok() || limit <= PATIENCE {
        return soon.ok();
    }
    let unresponsive = shared.liveness.unresponsive();
    suspect_others(shared, Some(validated_at));
    assess(shared);
    let outcome = tokio::select! {
        biased;
        // The timer is polled first: an endless answer would leave it no budget.
        () = until_given_up(shared, began, kind) => None,
        outcome = work => Some(outcome),
    };
    drop(unresponsive);
    assess(shared);
    outcome
}

/// Waits until a connection that does not answer is to be given up.
///
/// The network may have lost the connection, or the server may be frozen, in which case its
/// connections should be kept. So one connection is given up if callers wait and there is no room
/// for another. If the one opened in its place works, the network is at fault and the others are
/// given up too.
async fn until_given_up(shared: &Shared, began: Timestamp, kind: Work) {
    let limit = shared.config.connect_timeout;
    let mut superseded_at = None;
    loop {
        let now = Timestamp::now();
        let waited = now.since(began);
        if waited >= limit {
            return;
        }
        if superseded_at.is_none() && shared.liveness.opened_since(began) {
            superseded_at = Some(now);
        }
        let is_dead = superseded_at.is_some_and(|at| now.since(at) >= LATE_ANSWER);
        if is_dead && matches!(kind, Work::Validation) {
            return;
        }
        if waited >= kind.patience()
            && is_in_the_way(shared)
            && (is_dead || shared.state().health.may_give_up(now))
        {
            return;
        }
        sleep(AGAIN.min(limit.saturating_sub(waited))).await;
    }
}

/// Whether callers wait, and another connection could be opened if this one were given up.
fn is_in_the_way(shared: &Shared) -> bool {
    let status = shared.slots.status();
    let is_full = status.open == status.limit() && status.connecting == 0;
    status.waiting > 0 && status.idle == 0 && is_full
}

/// Counts the connection as lost if the driver panics. Its `Cleaning` closes it.
struct RecordPanic<'a> {
    shared: &'a Shared,
    id: u32,
    validated_at: Timestamp,
}

impl Drop for RecordPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let validated_at = Some(self.validated_at);
            discard::record(self.shared, self.id, DiscardReason::Lost, validated_at);
        }
    }
}
