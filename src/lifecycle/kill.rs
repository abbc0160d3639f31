//! Ends on the server what a cancelled caller left running there (`OnCancel::Kill`).

use std::{sync::Arc, time::Duration};

use mysql_async::{Row, prelude::Queryable};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    engine::slots::{Filled, Tending},
    lifecycle::goodbye,
    report::discard::DiscardReason,
    session::{Session, Victim, column},
    shared::Connector,
};

/// How long a victim's slot is held back while its turn has not come or there is no connection to kill it on.
const HELD_BACK: Duration = Duration::from_millis(20);
/// How long one is looked for after that.
const LOOKED_FOR: Duration = Duration::from_secs(1);

/// Ends what runs on the connection, then closes it. Its slot stays occupied until then, but not for long: the slots of
/// many victims are not to wait for each other while callers wait for them.
///
/// One victim at a time, on a connection that the pool has anyway: a burst of cancellations opens
/// no more than one waiting caller would.
pub(crate) async fn kill(connector: &Arc<Connector>, mut tending: Tending) {
    let victim = tending.session().and_then(|session| {
        Some(Victim {
            id: session.conn.id(),
            identity: session.birth.identity.clone()?,
        })
    });
    let Some(victim) = victim else {
        return goodbye::close(connector, tending, DiscardReason::Cancelled).await;
    };
    let at_once = timeout(HELD_BACK, async {
        let turn = connector.killing.lock().await;
        // Where every slot is a victim's, this one's is needed for the killer.
        let status = connector.slots.status();
        let others = status.idle > 0 || status.in_use > 0 || status.connecting > 0;
        if !others && status.open >= status.limit() {
            return None;
        }
        Some((turn, borrow(connector).await))
    });
    if let Ok(Some((turn, killer))) = at_once.await {
        let mut only = Some(victim);
        kill_on(connector, killer, || only.take()).await;
        drop(turn);
        return goodbye::close(connector, tending, DiscardReason::Cancelled).await;
    }
    goodbye::close(connector, tending, DiscardReason::Cancelled).await;
    connector.abandoned().push(victim.clone());
    // As long as the one before may take, at a server that does not answer.
    let patience = connector.config.connect_timeout.saturating_add(LOOKED_FOR);
    if let Ok(turn) = timeout(patience, connector.killing.lock()).await {
        // Who had its turn before may have taken this one along.
        while !connector.abandoned().is_empty() {
            let Ok(killer) = timeout(LOOKED_FOR, borrow(connector)).await else {
                break;
            };
            // A killer that turns out to be dead costs one of them; the others are for the next.
            kill_on(connector, killer, || connector.abandoned().pop()).await;
        }
        drop(turn);
    }
    connector.abandoned().retain(|other| *other != victim);
}

/// Dropped while it waits, it leaves the queue.
async fn borrow(connector: &Arc<Connector>) -> Filled {
    if let Some(filled) = connector.slots.try_take() {
        return filled;
    }
    let take = connector.slots.take(connector.slots.turn());
    tokio::pin!(take);
    // Counted among those who wait from its first poll on.
    if let Ok(filled) = timeout(Duration::ZERO, &mut take).await {
        return filled;
    }
    connector.fill_for_waiting();
    take.await
}

/// Kills one after the other, for as long as the killer lives.
async fn kill_on(
    connector: &Arc<Connector>,
    killer: Filled,
    mut next: impl FnMut() -> Option<Victim>,
) {
    let mut tending = connector.slots.tend(killer);
    while let Some(session) = tending.session()
        && let Some(victim) = next()
    {
        let killing = kill_if_certain(session, &victim);
        match timeout(connector.config.connect_timeout, killing).await {
            Ok(Ok(killed)) => {
                debug!(
                    pool = connector.name,
                    connection = victim.id,
                    killed,
                    "abandoned statement"
                );
            }
            Ok(Err(_)) | Err(_) => {
                connector.count_discarded(session.conn.id(), DiscardReason::ValidationFailed, None);
                return goodbye::close(connector, tending, DiscardReason::ValidationFailed).await;
            }
        }
    }
    drop(tending.done());
}

/// Kills the victim if it is certain that its number means that connection here: on the same server, coming from
/// the same address and port. Numbers are the same on every node of a cluster, and come again after a restart.
async fn kill_if_certain(killer: &mut Session, victim: &Victim) -> mysql_async::Result<bool> {
    let same_server = killer
        .birth
        .identity
        .as_ref()
        .is_some_and(|identity| identity.server == victim.identity.server);
    if !same_server {
        return Ok(false);
    }
    killer
        .maintain(async |conn| {
            let id = victim.id;
            let question =
                format!("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = {id}");
            let row: Option<Row> = conn.query_first(question).await?;
            let host: Option<String> = row.and_then(|row| column(&row, 0));
            if host.as_ref() != Some(&victim.identity.host) {
                return Ok(false);
            }
            match conn.query_drop(format!("KILL {id}")).await {
                // It has ended by itself.
                Err(mysql_async::Error::Server(error)) if error.code == 1094 => Ok(true),
                outcome => outcome.map(|()| true),
            }
        })
        .await
}
