//! The pool's background task: opens what is missing, retires, validates, closes what is surplus,
//! ends statements that take too long, and notices outages and connections held too long.

use std::{
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    config::PoolConfig,
    engine::{
        runtime::{Alive, Entered},
        schedule::{Action, IdleConnection, Occupancy},
        slots::Lease,
    },
    error::{ConfigError, Error},
    report::DiscardReason,
    session::{
        Session,
        runtime::{SignOfLife, SocketRuntime},
    },
    shared::Shared,
    time::Timestamp,
};

use super::{
    assess::assess,
    close::close_all,
    discard::discard,
    kill,
    open::{Demand, fill},
    validate::validate_in_background,
};

/// Makes sure that the pool has a runtime: the first caller, and the first after its runtime has
/// ended, gives it the current one, and starts its maintenance there. Returns the pool's runtime.
pub(crate) fn enter(shared: &Arc<Shared>) -> Result<Arc<SocketRuntime>, Error> {
    let alive = match shared.runtime.enter(shared.is_closing())? {
        Entered::Runs(runtime) => return Ok(runtime),
        Entered::Moved(alive) => alive,
    };
    let runtime = Arc::clone(&alive.runtime);
    discard_lost(shared);
    let maintenance = runtime.spawn(maintain(Arc::downgrade(shared), alive));
    if maintenance.is_finished() && !shared.is_closing() {
        // The current runtime is shutting down, and drops every task at once.
        return Err(Error::NoRuntime);
    }
    if shared.abandoned.is_some() {
        drop(runtime.spawn(kill::work(Arc::clone(shared))));
    }
    Ok(runtime)
}

/// Waits until the pool's runtime is known to be driven, as nothing would be answered before. If it
/// ends, the pool moves to the current one.
///
/// On another runtime, `sign_of_life` is set to a receiver that is notified once the pool's has run
/// something since this call.
pub(super) async fn until_driven(
    shared: &Arc<Shared>,
    sign_of_life: &mut Option<SignOfLife>,
) -> Result<(), Error> {
    loop {
        let runtime = enter(shared)?;
        let here = Handle::try_current().map_err(|_outside_of_any| Error::NoRuntime)?;
        let is_driven = runtime.is_driven(here.id(), Timestamp::now());
        *sign_of_life = runtime.may_stop().then(|| runtime.ask());
        match sign_of_life {
            Some(sign_of_life) if !is_driven => {
                let came = shared.unless_closing(sign_of_life.came()).await;
                came.ok_or(Error::Closed)?;
            }
            _ => return Ok(()),
        }
    }
}

/// Discards idle connections whose runtime has ended.
fn discard_lost(shared: &Arc<Shared>) {
    let lost = shared.slots.sweep(|_, idle| {
        let (lost, kept) = std::mem::take(idle)
            .into_iter()
            .partition(|lease| lease.origin.runtime.has_ended());
        *idle = kept;
        lost
    });
    for lease in Vec::into_iter(lost) {
        discard(shared, lease, DiscardReason::RuntimeGone);
    }
}

/// Changes the limit. The next pass closes surplus connections.
pub(crate) fn resize(shared: &Shared, size: usize, overflow: usize) -> Result<(), Error> {
    if shared.is_closing() {
        return Err(Error::Closed);
    }
    let faults = PoolConfig::check_limit(size, overflow);
    if !faults.is_empty() {
        return Err(ConfigError::new(faults).into());
    }
    // Set before the limit, so that no surplus connection is missed at its return.
    shared.trims_on_return.store(true, Ordering::Relaxed);
    shared.slots.resize(size, overflow);
    // A warm-up may have all that it waits for.
    shared.notify_waiters();
    Ok(())
}

/// Replaces every connection opened before now, each once its replacement is open.
pub(crate) fn refresh(shared: &Shared) {
    let before = shared.generation.fetch_add(1, Ordering::Relaxed);
    let generation = before.wrapping_add(1);
    info!(pool = shared.name, generation, "refreshing all connections");
    shared.notify_maintenance();
    shared.refreshes.notify_waiters();
}

/// The maintenance task. Ends when the pool closes, or with its runtime.
async fn maintain(pool: Weak<Shared>, _alive: Alive) {
    let Some(mut changes) = pool.upgrade().map(|shared| shared.changes.subscribe()) else {
        return;
    };
    let shared = loop {
        let next = {
            let Some(shared) = pool.upgrade() else {
                return;
            };
            if shared.is_closing() {
                break shared;
            }
            // Whatever changes during the pass causes another one.
            changes.mark_unchanged();
            pass(&shared)
        };
        // If this is dropped, nothing is lost: both only start another pass.
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(next) => {}
        }
    };
    // Connections being cleaned, validated or opened still become idle, and callers may hold theirs
    // for long.
    let mut closing = pin!(close_all(&shared));
    while timeout(shared.schedule.tick(true), &mut closing)
        .await
        .is_err()
    {
        let now = Timestamp::now();
        log_held_too_long(&shared, now);
        shared.activities.cut_overdue(now);
    }
    #[cfg(feature = "metrics")]
    publish_metrics(&shared);
}

/// Does what is due. Returns how long to sleep if nothing changes meanwhile.
fn pass(shared: &Arc<Shared>) -> Duration {
    let now = Timestamp::now();
    // Read before the pass: what falls due during it is noticed either way.
    let due = {
        let state = shared.state();
        [
            state.backoff.next_attempt(now),
            state.health.grace_ends(now),
            state
                .health
                .first_fill_ends(shared.config.warm_up_timeout, now),
        ]
    };
    let is_busy = sweep(shared, now);
    if is_busy {
        find_sign_of_life(shared, now);
    }
    log_held_too_long(shared, now);
    let overdue_at = shared.activities.cut_overdue(now);
    fill(shared, Demand::Waiting);
    assess(shared);
    #[cfg(feature = "metrics")]
    publish_metrics(shared);
    let tick = shared.schedule.tick(is_busy);
    let due = due.into_iter().chain([overdue_at]).flatten();
    let due = due.map(|at| at.since(now));
    due.min().map_or(tick, |due| due.min(tick))
}

/// Retires, closes and validates idle connections as planned. Returns whether any are in use.
fn sweep(shared: &Arc<Shared>, now: Timestamp) -> bool {
    // Reset first, and from here on only raised: a due connection that is returned during the sweep
    // raises it too, which must not be overwritten.
    shared.due.store(0, Ordering::Relaxed);
    let (planned, in_use) = shared
        .slots
        .sweep(|pool, idle| plan(shared, now, pool, idle));
    for (action, lease) in planned {
        match action {
            Action::Validate => drop(validate_in_background(shared, lease)),
            Action::Retire => discard(shared, lease, DiscardReason::Retired),
            Action::Close => discard(shared, lease, DiscardReason::Surplus),
            Action::Keep => lease.release(),
        }
    }
    in_use > 0
}

/// Takes out of `idle` the connections for which there is something to do.
fn plan(
    shared: &Shared,
    now: Timestamp,
    pool: Occupancy,
    idle: &mut Vec<Lease>,
) -> (Vec<(Action, Lease)>, usize) {
    let views: Vec<_> = idle.iter().map(|lease| view(shared, lease)).collect();
    let plan = shared.schedule.plan(now, pool, &views);
    let mut planned = Vec::new();
    if plan.actions.iter().any(|action| *action != Action::Keep) {
        for (action, lease) in plan.actions.into_iter().zip(std::mem::take(idle)) {
            match action {
                Action::Keep => idle.push(lease),
                action => planned.push((action, lease)),
            }
        }
    }
    let in_use = pool.open.saturating_sub(views.len());
    let in_use = in_use.saturating_sub(pool.cleaning);
    // Raised while the slots are locked, so that an attempt that ends after the sweep sees that it
    // is a replacement.
    shared.due.fetch_max(plan.due, Ordering::Relaxed);
    (planned, in_use)
}

fn view(shared: &Shared, session: &Session) -> IdleConnection {
    IdleConnection {
        used_at: session.follow.answer.ended_at,
        validated_at: session.follow.validated_at,
        expires_at: session.origin.expires_at,
        is_outdated: shared.is_outdated(session),
        is_suspect: shared.liveness.is_suspect(session.follow.validated_at),
        chance: session.origin.chance,
    }
}

/// If connections are in use and none has been returned for long, finds out whether the server is
/// busy or gone, with an idle connection or a new one.
fn find_sign_of_life(shared: &Arc<Shared>, now: Timestamp) {
    let last_return = shared.liveness.last_return();
    if !shared.liveness.is_quiet(now) || !shared.state().health.wants_sign_of_life(last_return, now)
    {
        return;
    }
    let status = shared.slots.status();
    if status.connecting > 0 || status.cleaning > 0 {
        // Those will show whether the server answers.
        return;
    }
    match shared.slots.try_take() {
        Some(lease) => drop(validate_in_background(shared, lease)),
        None => fill(shared, Demand::One),
    }
}

fn log_held_too_long(shared: &Shared, now: Timestamp) {
    let Some(leak_after) = shared.config.leak_after else {
        return;
    };
    for held in shared.slots.held_too_long(now.before(leak_after)) {
        let (pool, connection, got_at) = (&shared.name, held.connection, held.got_at);
        let held_for = now.since(held.since).as_secs_f64();
        warn!(pool, connection, held_for, %got_at, "connection held too long");
    }
}

/// Sets the exported gauges to their values now.
#[cfg(feature = "metrics")]
pub(crate) fn publish_metrics(shared: &Shared) {
    let status = shared.slots.status();
    let idle_max = if shared.config.overflow_linger.is_zero() {
        status.size
    } else {
        status.limit()
    };
    let readiness = shared.readiness.snapshot().readiness;
    shared.metrics.publish(&status, idle_max, readiness);
}
