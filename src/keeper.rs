//! The background task: replenishes, tries again after failures, and notices what nobody asks about.

use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Instant,
};

use tokio::time::sleep_until;

use crate::{connector::Connector, error::Error};

/// Makes sure that the pool lives on this runtime and has its keeper there.
pub(crate) fn enter(connector: &Arc<Connector>) -> Result<(), Error> {
    if let Some(held) = connector.enter()? {
        drop(tokio::spawn(keep(Arc::downgrade(connector), held)));
    }
    Ok(())
}

/// Ends with the pool's last handle, or with its runtime; `_held` tells the connector.
async fn keep(pool: Weak<Connector>, _held: Arc<()>) {
    let Some((wake, mut vacated)) = pool
        .upgrade()
        .map(|connector| (Arc::clone(&connector.wake), connector.slots.vacated()))
    else {
        return;
    };
    loop {
        let due = {
            let Some(connector) = pool.upgrade() else {
                return;
            };
            if connector.closing.is_given() {
                return;
            }
            // Asked before it is looked at: what falls due in between is seen either way.
            let due = connector.next_due();
            connector.fill();
            connector.judge();
            due
        };
        // Dropped here, nothing is lost: each of them only says that it is time to look.
        tokio::select! {
            () = wake.notified() => {}
            changed = vacated.changed() => if changed.is_err() { return },
            () = until(due) => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
