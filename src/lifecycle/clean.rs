//! From returned to as good as new, or discarded. Always in the background, never in a caller's `get()`.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mysql_async::{QueryResult, TextProtocol, prelude::Queryable};
use tokio::time::timeout;
use tracing::{debug, trace};

use crate::{
    config::OnCancel,
    engine::{
        opener::KnownRights,
        slots::{Filled, Tending},
    },
    error::{Brief, ConnectPhase, ends_connection},
    lifecycle::{goodbye, kill as killing},
    report::discard::DiscardReason,
    session::{Needs, ProofError, Rights, Session, Verdict},
    shared::Connector,
    time::Timestamp,
};

/// Pending rows are read for so long; a connection with more of them is closed instead.
const DRAIN_TIME: Duration = Duration::from_millis(50);
/// A proof or a cleaning that takes longer puts the connection, and all others, in doubt.
const DOUBT: Duration = Duration::from_millis(300);

/// Takes back what a borrower had. Never blocks; works outside a runtime.
pub(crate) fn give_back(connector: &Arc<Connector>, mut filled: Filled) {
    connector.note_let_go(&filled);
    trace!(
        pool = connector.name,
        connection = filled.conn.id(),
        "connection returned"
    );
    connector.note_return(&filled);
    if filled.follow.read_only && connector.refresh_for_read_only(&filled) {
        return discard(connector, filled, DiscardReason::ReadOnly);
    }
    match filled.verdict(connector.config.reset) {
        Verdict::Good | Verdict::Clean(_) if connector.closing.is_given() => {
            discard(connector, filled, DiscardReason::Closing);
        }
        Verdict::Good => make_idle(connector, filled),
        Verdict::Clean(needs) => {
            let runtime = filled.birth.runtime.clone();
            let tending = connector.slots.tend(filled);
            // On a runtime that is gone the task is dropped at once, and closes the connection.
            // Boxed by itself: large memory that is aligned as the runtime aligns tasks is slow to come by.
            let cleaning = Box::pin(clean(Arc::clone(connector), tending, needs));
            drop(runtime.spawn(cleaning));
        }
        Verdict::Discard(reason) => discard(connector, filled, reason),
    }
}

/// Lends the connection to the first waiting caller, or lets it be idle, if it is still wanted.
pub(crate) fn make_idle(connector: &Arc<Connector>, filled: Filled) {
    if connector.closing.is_given() {
        return discard(connector, filled, DiscardReason::Closing);
    }
    if connector.trims_on_return.load(Ordering::Relaxed) {
        let status = connector.slots.status();
        let lingers_not = connector.config.overflow_linger.is_zero() && status.waiting == 0;
        if status.open > status.limit() || lingers_not && status.open > status.size {
            return discard(connector, filled, DiscardReason::Surplus);
        }
    }
    if connector.is_due(&filled) {
        return retire(connector, filled);
    }
    drop(filled);
}

/// Closes each connection as it becomes idle, until there is none.
pub(crate) async fn until_gone(connector: &Arc<Connector>) {
    let mut vacated = connector.slots.vacated();
    loop {
        let status = connector.slots.status();
        if status.open == 0 && status.connecting == 0 {
            return;
        }
        tokio::select! {
            filled = connector.slots.take(connector.slots.turn()) => discard(connector, filled, DiscardReason::Closing),
            _ = vacated.changed() => {}
        }
    }
}

/// Retires a connection that came back, if its replacement is open, or if there is no room for one.
fn retire(connector: &Arc<Connector>, filled: Filled) {
    let status = connector.slots.status();
    let at_rest = status.connecting == 0 && status.cleaning == 0;
    if status.open > status.size || at_rest && status.open >= status.limit() {
        return discard(connector, filled, DiscardReason::Retired);
    }
    // Lent or idle until there is one, which wakes the keeper. If none can be opened now, the gate says when
    // to try again: not at each return.
    drop(filled);
    // After that: a sweep that begins in between sees the connection itself, or this.
    if connector.due.fetch_max(1, Ordering::Relaxed) == 0 {
        connector.fill();
    }
}

/// Closes a connection in the background.
pub(crate) fn discard(connector: &Arc<Connector>, filled: Filled, reason: DiscardReason) {
    let runtime = filled.birth.runtime.clone();
    let tending = connector.discard(filled, reason);
    let connector = Arc::clone(connector);
    let kill = reason == DiscardReason::Cancelled && connector.config.on_cancel == OnCancel::Kill;
    drop(runtime.spawn(async move {
        if kill {
            killing::kill(&connector, tending).await;
        } else {
            goodbye::close(&connector, tending, reason).await;
        }
    }));
}

/// Proves an idle connection; it is discarded if it gives no proof.
pub(crate) async fn prove(connector: &Arc<Connector>, mut tending: Tending) -> Option<Filled> {
    let session = tending.session()?;
    let (id, proved_at) = (session.conn.id(), session.follow.proved_at);
    connector.metrics.validations.add_one();
    if connector.is_suspect(proved_at) {
        connector.metrics.suspects.add_one();
    }
    let outcome = with_patience(connector, id, proved_at, pin!(session.prove())).await;
    let error = match outcome {
        Some(Ok(())) => {
            connector.note_sign(Timestamp::now());
            return tending.done();
        }
        Some(Err(error)) => Brief(error).to_string(),
        None => format!("no answer within {:?}", connector.config.connect_timeout),
    };
    debug!(
        pool = connector.name,
        connection = id,
        error,
        "connection gave no proof"
    );
    connector.count_discarded(id, DiscardReason::ValidationFailed, Some(proved_at));
    // What is rare is boxed: it is large.
    Box::pin(goodbye::close(
        connector,
        tending,
        DiscardReason::ValidationFailed,
    ))
    .await;
    None
}

/// The outcome of work on a connection, within `connect_timeout`. If it takes long, the connection does not
/// count as working until it answers, and all others are asked too.
async fn with_patience<T>(
    connector: &Connector,
    id: u32,
    proved_at: Timestamp,
    mut work: impl Future<Output = T> + Unpin,
) -> Option<T> {
    let _panicking = CountPanic {
        connector,
        id,
        proved_at,
    };
    let limit = connector.config.connect_timeout;
    let deadlines = &connector.deadlines;
    let begun = Timestamp::now();
    let soon = deadlines.timeout(begun, DOUBT.min(limit), &mut work);
    let soon = soon.await;
    if soon.is_ok() || limit <= DOUBT {
        return soon.ok();
    }
    let doubt = connector.doubt(proved_at);
    let outcome = deadlines.timeout(begun, limit, work).await;
    drop(doubt);
    connector.judge();
    outcome.ok()
}

/// Counts the connection as lost if the driver panics over what it was answered. Its slot is freed by its `Tending`.
struct CountPanic<'a> {
    connector: &'a Connector,
    id: u32,
    proved_at: Timestamp,
}

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let proved_at = Some(self.proved_at);
            self.connector
                .count_discarded(self.id, DiscardReason::Lost, proved_at);
        }
    }
}

async fn clean(connector: Arc<Connector>, mut tending: Tending, needs: Needs) {
    let Some(session) = tending.session() else {
        return;
    };
    let (id, proved_at) = (session.conn.id(), session.follow.proved_at);
    // Pinned here, and what is rare boxed: the smaller the cheaper.
    let outcome = {
        let work = pin!(in_order(&connector, session, needs));
        with_patience(&connector, id, proved_at, work).await
    };
    let reason = match outcome {
        Some(Ok(())) => {
            session.follow.begin_borrower();
            session.follow.proved_at = Timestamp::now();
            connector.note_sign(session.follow.proved_at);
            connector.metrics.cleaned.add_one();
            let Some(filled) = tending.done() else { return };
            return make_idle(&connector, filled);
        }
        Some(Err(reason)) => reason,
        None => DiscardReason::ValidationFailed,
    };
    connector.count_discarded(id, reason, Some(proved_at));
    Box::pin(goodbye::close(&connector, tending, reason)).await;
}

async fn in_order(
    connector: &Connector,
    session: &mut Session,
    needs: Needs,
) -> Result<(), DiscardReason> {
    if needs.drain {
        Box::pin(drain(session)).await?;
        connector.metrics.drains.add_one();
    }
    if needs.proof || needs.role {
        prove_with_rights(connector, session, needs).await?;
    }
    let rollback = needs.rollback || (needs.drain || needs.proof) && session.is_in_transaction();
    if needs.reset {
        // Rolls back as well.
        reset(connector, session, needs.database).await
    } else {
        if rollback {
            driver(session.conn.query_drop("ROLLBACK").await)?;
            connector.metrics.rollbacks.add_one();
            if session.is_in_transaction() {
                // completion_type = CHAIN has begun another one.
                return reset(connector, session, needs.database).await;
            }
        }
        if needs.database {
            Box::pin(restore_database(connector, session)).await
        } else {
            Ok(())
        }
    }
}

/// Proves the connection, and compares its rights with those it was opened with in the same turn: a reset keeps a role that
/// a caller has taken, and the next one would have its rights.
async fn prove_with_rights(
    connector: &Connector,
    session: &mut Session,
    needs: Needs,
) -> Result<(), DiscardReason> {
    let unproved = |error| match error {
        ProofError::Driver(error) => lost_or_unproved(&error),
        ProofError::OutOfStep => DiscardReason::ValidationFailed,
    };
    match connector.opener.rights(&session.birth) {
        _ if !needs.role => session.prove().await.map_err(unproved)?,
        KnownRights::NoRoles if needs.proof => session.prove().await.map_err(unproved)?,
        KnownRights::NoRoles => return Ok(()),
        KnownRights::NotAsked => return Err(DiscardReason::RoleChanged),
        KnownRights::Are(rights) => {
            let row = session.prove_with(Rights::COLUMNS).await;
            if Rights::read(&row.map_err(unproved)?, 1) != rights {
                return Err(DiscardReason::RoleChanged);
            }
        }
    }
    connector.metrics.cleaning_validations.add_one();
    Ok(())
}

/// Reads what is pending, as long as that is not too much.
async fn drain(session: &mut Session) -> Result<(), DiscardReason> {
    let drained = timeout(DRAIN_TIME, async {
        while QueryResult::<TextProtocol>::new(&mut session.conn)
            .columns()
            .is_some()
        {
            match QueryResult::<TextProtocol>::new(&mut session.conn)
                .drop_result()
                .await
            {
                // The error of a later result set was for the borrower, who did not want it.
                Err(error) if ends_connection(&error) => return Err(DiscardReason::Lost),
                _ => {}
            }
        }
        Ok(())
    });
    match drained.await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(DiscardReason::TooManyRows),
    }
}

async fn reset(
    connector: &Connector,
    session: &mut Session,
    database: bool,
) -> Result<(), DiscardReason> {
    session.follow.forget_statements();
    if database && connector.config.opts().db_name().is_none() {
        // Only a change of user goes back to having no database.
        driver(Box::pin(session.conn.change_user(Default::default())).await)?;
        connector.metrics.databases.add_one();
    } else if driver(session.conn.reset().await)? {
        if connector.opener.reset_loses_charset() {
            driver(
                session
                    .conn
                    .query_drop("SET NAMES utf8mb4 COLLATE utf8mb4_general_ci")
                    .await,
            )?;
        }
        if database {
            Box::pin(restore_database(connector, session)).await?;
        }
    } else {
        // A server older than COM_RESET_CONNECTION.
        driver(Box::pin(session.conn.change_user(Default::default())).await)?;
    }
    let mut phase = ConnectPhase::Connect;
    connector
        .opener
        .set_up(session, &mut phase)
        .await
        .map_err(|error| {
            debug!(pool = connector.name, %error, "connection not set up again after a reset");
            DiscardReason::ValidationFailed
        })?;
    connector.metrics.resets.add_one();
    Ok(())
}

async fn restore_database(
    connector: &Connector,
    session: &mut Session,
) -> Result<(), DiscardReason> {
    match connector.config.opts().db_name() {
        Some(name) => {
            let name = name.replace('`', "``");
            driver(session.conn.query_drop(format!("USE `{name}`")).await)?;
        }
        None => {
            session.follow.forget_statements();
            driver(Box::pin(session.conn.change_user(Default::default())).await)?;
            let mut phase = ConnectPhase::Connect;
            connector
                .opener
                .set_up(session, &mut phase)
                .await
                .map_err(|_told_as_unproved| DiscardReason::ValidationFailed)?;
        }
    }
    connector.metrics.databases.add_one();
    Ok(())
}

fn driver<T>(outcome: mysql_async::Result<T>) -> Result<T, DiscardReason> {
    outcome.map_err(|error| lost_or_unproved(&error))
}

fn lost_or_unproved(error: &mysql_async::Error) -> DiscardReason {
    if ends_connection(error) {
        DiscardReason::Lost
    } else {
        DiscardReason::ValidationFailed
    }
}
