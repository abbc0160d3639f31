//! Closes the pool: idle connections at once, those in use when they return, the rest by force.

use std::sync::Arc;

use tracing::{Instrument, info, info_span};

use crate::{
    engine::runtime,
    report::{CloseReport, DiscardReason},
    shared::Shared,
};

use super::{assess::log_change, discard::discard};

/// Closes the pool for good. If this is dropped midway, the pool stays closed and idle connections
/// are still closed with `COM_QUIT`, but those in use are not cut off.
pub(crate) async fn close(shared: &Arc<Shared>) -> CloseReport {
    let span = info_span!("close", pool = shared.name);
    // Concurrent calls wait for the one that closes. If that one is dropped, another goes on.
    let closing = shared.closed.get_or_init(|| close_in_span(shared));
    *closing.instrument(span).await
}

/// Like [`close`], but no other call waits for this one, which may be on a runtime that is no longer
/// driven.
pub(crate) async fn close_alone(shared: &Arc<Shared>) {
    close_in_span(shared).await;
}

async fn close_in_span(shared: &Arc<Shared>) -> CloseReport {
    begin_closing(shared);
    match runtime::within(shared.config.close_timeout, close_all(shared)) {
        Ok(all_gone) => drop(all_gone.await),
        // Nothing is awaited.
        Err(_no_timers) => discard_idle(shared),
    }
    let (drained, cut) = shared.slots.drained_and_open();
    shared.activities.cut_all();
    let report = CloseReport { drained, cut };
    info!(pool = shared.name, drained, cut, "pool closed");
    report
}

/// Closes the pool without waiting, because its last handle was dropped.
pub(crate) fn abandon(shared: &Arc<Shared>) {
    if begin_closing(shared) {
        discard_idle(shared);
    }
}

fn discard_idle(shared: &Arc<Shared>) {
    while let Some(lease) = shared.slots.try_take() {
        discard(shared, lease, DiscardReason::Closing);
    }
}

/// From now on no connection is handed out or opened. Returns whether this was the first call.
fn begin_closing(shared: &Shared) -> bool {
    let is_first = shared.closing.set(()).is_ok();
    if is_first {
        log_change(shared, shared.readiness.close(), None);
        shared.notify_waiters();
        shared.notify_maintenance();
    }
    is_first
}

/// Discards each connection as it becomes idle, until none is open or being opened.
pub(super) async fn close_all(shared: &Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    loop {
        let status = shared.slots.status();
        if status.open == 0 && status.connecting == 0 {
            return;
        }
        tokio::select! {
            lease = shared.slots.take(shared.slots.turn()) => {
                discard(shared, lease, DiscardReason::Closing);
            }
            _ = changes.changed() => {}
        }
    }
}
