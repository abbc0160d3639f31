//! Ends on the server what a cancelled caller left running there (`OnCancel::Kill`).

use std::{sync::Arc, time::Duration};

use mysql_async::{Row, prelude::Queryable};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    connector::Connector,
    goodbye,
    session::{Identity, Reason, Session, column},
    slot::{Filled, Tending},
};

/// How long a victim's slot is held back while there is no connection to kill it on.
const HELD_BACK: Duration = Duration::from_millis(20);
/// How long one is looked for in all.
const LOOKED_FOR: Duration = Duration::from_secs(1);

/// A connection whose statement is to be ended.
struct Victim {
    id: u32,
    identity: Identity,
}

/// Ends what runs on the connection, then closes it. Its slot stays occupied until then.
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
        return goodbye::close(connector, tending, Reason::Cancelled).await;
    };
    let turn = connector.killing.lock().await;
    // Where every slot is a victim's, this one's is needed for the killer.
    let status = connector.slots.status();
    let others = status.idle > 0 || status.in_use > 0 || status.connecting > 0;
    if (others || status.open < status.limit())
        && let Ok(killer) = timeout(HELD_BACK, borrow(connector)).await
    {
        kill_on(connector, killer, &victim).await;
        drop(turn);
        return goodbye::close(connector, tending, Reason::Cancelled).await;
    }
    goodbye::close(connector, tending, Reason::Cancelled).await;
    if let Ok(killer) = timeout(LOOKED_FOR, borrow(connector)).await {
        kill_on(connector, killer, &victim).await;
    }
}

/// Dropped while it waits, it leaves the queue.
async fn borrow(connector: &Arc<Connector>) -> Filled {
    if let Some(filled) = connector.slots.try_take() {
        return filled;
    }
    let take = connector.slots.take();
    tokio::pin!(take);
    // Counted among those who wait from its first poll on.
    if let Ok(filled) = timeout(Duration::ZERO, &mut take).await {
        return filled;
    }
    connector.fill_for_waiting();
    take.await
}

async fn kill_on(connector: &Arc<Connector>, killer: Filled, victim: &Victim) {
    let mut tending = connector.slots.tend(killer);
    let Some(session) = tending.session() else {
        return;
    };
    match timeout(
        connector.config.connect_timeout,
        kill_if_certain(session, victim),
    )
    .await
    {
        Ok(Ok(killed)) => {
            debug!(
                pool = connector.name,
                connection = victim.id,
                killed,
                "abandoned statement"
            );
            drop(tending.done());
        }
        Ok(Err(_)) | Err(_) => {
            connector.count_discarded(session.conn.id(), Reason::Unproved, None);
            goodbye::close(connector, tending, Reason::Unproved).await;
        }
    }
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
