//! The background task: replenishes, retires, keeps alive, lets overflow go, notices outages.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Instant,
};

use tokio::time::sleep_until;

use crate::{
    config::PoolConfig,
    engine::{schedule::Fate, slots::Filled},
    error::{ConfigError, Error},
    lifecycle::clean as cleaning,
    report::discard::DiscardReason,
    shared::{Connector, Kept},
    time::Timestamp,
};

/// Makes sure that the pool lives on this runtime and has its keeper there.
pub(crate) fn enter(connector: &Arc<Connector>) -> Result<(), Error> {
    if let Some(held) = connector.enter()? {
        drop(tokio::spawn(keep(Arc::downgrade(connector), held)));
    }
    Ok(())
}

/// Changes the limit; the sweep that follows closes what is too many.
pub(crate) fn resize(connector: &Connector, size: usize, overflow: usize) -> Result<(), Error> {
    if connector.closing.is_given() {
        return Err(Error::Closed);
    }
    let faults = PoolConfig::check_limit(size, overflow);
    if !faults.is_empty() {
        return Err(ConfigError::new(faults).into());
    }
    // Set before the limit: no connection in use comes back unseen.
    connector.trims_on_return.store(true, Ordering::Relaxed);
    connector.slots.resize(size, overflow);
    connector.wake.notify_one();
    Ok(())
}

/// Ends with the pool's last handle, or with its runtime; `_held` tells the connector.
async fn keep(pool: Weak<Connector>, _held: Arc<Kept>) {
    let Some((wake, mut vacated)) = pool
        .upgrade()
        .map(|connector| (Arc::clone(&connector.wake), connector.slots.vacated()))
    else {
        return;
    };
    let connector = loop {
        let due = {
            let Some(connector) = pool.upgrade() else {
                return;
            };
            if connector.closing.is_given() {
                break connector;
            }
            // Asked before it is looked at: what falls due in between is seen either way.
            let due = connector.next_due();
            let next = sweep(&connector);
            connector.fill();
            connector.judge();
            #[cfg(feature = "metrics")]
            connector.publish_metrics();
            due.map_or(next, |due| due.min(next))
        };
        // Dropped here, nothing is lost: each of them only says that it is time to look.
        tokio::select! {
            () = wake.notified() => {}
            changed = vacated.changed() => if changed.is_err() { return },
            () = sleep_until(due.into()) => {}
        }
    };
    // What was being cleaned, proved or opened becomes idle yet.
    cleaning::until_gone(&connector).await;
    #[cfg(feature = "metrics")]
    connector.publish_metrics();
}

/// Looks after the idle connections; says when to look again.
fn sweep(connector: &Arc<Connector>) -> Instant {
    let now = Instant::now();
    // Counted anew, from nothing, and from here on only raised: a connection that comes back during the sweep and is too
    // old raises it itself (`cleaning::retire`), and that must not be overwritten.
    connector.due.store(0, Ordering::Relaxed);
    let (aside, busy) = connector.slots.sweep(|pool, idle| {
        let ages: Vec<_> = idle.iter().map(|filled| connector.age(filled)).collect();
        let plan = connector.upkeep.plan(Timestamp::now(), pool, &ages);
        let mut aside = Vec::new();
        if plan.fates.iter().any(|fate| *fate != Fate::Keep) {
            let mut fates = plan.fates.into_iter();
            for filled in std::mem::take(idle) {
                match fates.next().unwrap_or(Fate::Keep) {
                    Fate::Keep => idle.push(filled),
                    fate => aside.push((fate, filled)),
                }
            }
        }
        let in_use = pool
            .open
            .saturating_sub(ages.len())
            .saturating_sub(pool.cleaning);
        // While the slots' lock is held: an opening that ends after the sweep sees that it is a replacement.
        connector.due.fetch_max(plan.due, Ordering::Relaxed);
        (aside, in_use > 0)
    });
    for (fate, filled) in aside {
        match fate {
            Fate::Prove => prove(connector, filled),
            Fate::Retire => cleaning::discard(connector, filled, DiscardReason::Retired),
            Fate::Close => cleaning::discard(connector, filled, DiscardReason::Surplus),
            Fate::Keep => drop(filled),
        }
    }
    if busy && connector.is_to_ask_for_a_sign() {
        ask_for_a_sign_of_life(connector);
    }
    let tick = connector.upkeep.tick(busy);
    now.checked_add(tick).unwrap_or(now)
}

/// Connections are in use, and none has come back for long: is the server busy, or gone?
fn ask_for_a_sign_of_life(connector: &Arc<Connector>) {
    let status = connector.slots.status();
    if status.connecting > 0 || status.cleaning > 0 {
        // Those will tell.
        return;
    }
    match connector.slots.try_take() {
        Some(filled) => prove(connector, filled),
        None => connector.open_for_a_sign_of_life(),
    }
}

/// Proves a connection in the background: idle again, or gone, nobody waits for the outcome.
fn prove(connector: &Arc<Connector>, filled: Filled) {
    let runtime = filled.birth.runtime.clone();
    let tending = connector.slots.tend(filled);
    let connector = Arc::clone(connector);
    drop(runtime.spawn(async move {
        if let Some(filled) = cleaning::prove(&connector, tending).await {
            cleaning::make_idle(&connector, filled);
        }
    }));
}
