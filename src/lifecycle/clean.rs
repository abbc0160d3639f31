//! Makes a returned connection as good as new: drain, validate, roll back, reset, restore. Runs in
//! the background, never in a caller's `get()`.

use std::{pin::pin, sync::Arc, time::Duration};

use mysql_async::{QueryResult, Row, TextProtocol, prelude::Queryable};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    config::Reset,
    engine::{
        opener::KnownRights,
        slots::{Cleaning, Lease},
    },
    error::{ConnectPhase, ends_connection},
    report::DiscardReason,
    session::{Invalid, Rights, Session, column, verdict::Needs},
    shared::Shared,
    time::Timestamp,
};

use super::{
    discard::discard_cleaning,
    give_back::make_idle,
    validate::{Work, with_patience},
};

/// How long pending rows are read. A connection that has more of them is closed instead.
const DRAIN_TIME: Duration = Duration::from_millis(50);

/// Cleans a connection in a new task.
pub(super) fn clean_in_background(shared: &Arc<Shared>, lease: Lease, needs: Needs) {
    let runtime = lease.origin.runtime.clone();
    let cleaning = shared.slots.begin_cleaning(lease);
    // On a runtime that has ended the task is dropped at once, which closes the connection.
    drop(runtime.spawn(clean(Arc::clone(shared), cleaning, needs)));
}

async fn clean(shared: Arc<Shared>, mut cleaning: Cleaning, needs: Needs) {
    let Some(session) = cleaning.session() else {
        return;
    };
    let (id, validated_at) = (session.origin.id, session.follow.validated_at);
    let outcome = {
        let work = pin!(do_all(&shared, session, needs));
        with_patience(&shared, id, validated_at, Work::Cleaning, work).await
    };
    let reason = match outcome {
        Some(Ok(())) => {
            let now = Timestamp::now();
            session.follow.start_over();
            session.follow.validated_at = now;
            shared.liveness.record_answer(now);
            shared.metrics.cleaned.add_one();
            if let Some(lease) = cleaning.finish() {
                make_idle(&shared, lease);
            }
            return;
        }
        Some(Err(reason)) => reason,
        None => DiscardReason::ValidationFailed,
    };
    // Boxed, as it is rare and large.
    Box::pin(discard_cleaning(&shared, cleaning, reason)).await;
}

/// Does everything the connection needs. Later steps rely on earlier ones.
async fn do_all(shared: &Shared, session: &mut Session, needs: Needs) -> Result<(), DiscardReason> {
    if needs.drain {
        Box::pin(drain(session)).await?;
        shared.metrics.drains.add_one();
    }
    if needs.validation || needs.role {
        validate_and_compare_rights(shared, session, needs).await?;
    }
    let was_unknown = needs.drain || needs.validation;
    let rollback = needs.rollback || was_unknown && session.is_in_transaction();
    let resets_for_database = needs.database
        && shared.opener.set_up_changes_database
        && shared.config.reset != Reset::Never;
    // A reset rolls back as well, but does not report an XA transaction, which a `ROLLBACK` does.
    if (needs.reset || resets_for_database) && !(rollback && needs.role) {
        return reset(shared, session, needs.database).await;
    }
    if rollback {
        check(session.conn.query_drop("ROLLBACK").await)?;
        shared.metrics.rollbacks.add_one();
        // `completion_type = CHAIN` has begun another one.
        if needs.reset || session.is_in_transaction() {
            return reset(shared, session, needs.database).await;
        }
    }
    if needs.database {
        Box::pin(restore_database(shared, session)).await?;
        if shared.opener.set_up_changes_database {
            set_up(shared, session).await?;
        }
    }
    Ok(())
}

/// Reads the pending rows, if they are not too many.
async fn drain(session: &mut Session) -> Result<(), DiscardReason> {
    let drained = timeout(DRAIN_TIME, async {
        loop {
            let result = QueryResult::<TextProtocol>::new(&mut session.conn);
            if result.columns().is_none() {
                return Ok(());
            }
            match result.drop_result().await {
                Err(error) if ends_connection(&error) => return Err(DiscardReason::Lost),
                // An error in a later result set belongs to the caller that left it unread.
                _ => {}
            }
        }
    });
    drained.await.unwrap_or(Err(DiscardReason::TooManyRows))
}

/// Validates the connection. If a role may have been set, the same round trip looks for what a reset
/// does not clear: it compares the session's rights with those it was opened with, and counts the
/// statements that the server would still show.
async fn validate_and_compare_rights(
    shared: &Shared,
    session: &mut Session,
    needs: Needs,
) -> Result<(), DiscardReason> {
    let invalid = |error| match error {
        Invalid::Driver(error) => lost_or_refused(&error),
        Invalid::OutOfStep => DiscardReason::ValidationFailed,
    };
    match shared.opener.rights(&session.origin) {
        KnownRights::NoRoles if !needs.validation => return Ok(()),
        KnownRights::NotAsked if needs.role => return Err(DiscardReason::RoleChanged),
        KnownRights::Known(rights) if needs.role => {
            let row = rights_and_remains(shared, session).await.map_err(invalid)?;
            if Rights::read(&row, 1) != rights {
                return Err(DiscardReason::RoleChanged);
            }
            if column::<u64>(&row, 3).is_some_and(|count| count > 0) {
                return Err(DiscardReason::Unresettable);
            }
        }
        _ => session.validate().await.map_err(invalid)?,
    }
    shared.metrics.cleaning_validations.add_one();
    Ok(())
}

/// Selects the session's rights, and counts what remains of statements if the server can tell.
async fn rights_and_remains(shared: &Shared, session: &mut Session) -> Result<Row, Invalid> {
    if let Some(remains) = shared.opener.remains() {
        let columns = format!("{}, {remains}", Rights::COLUMNS);
        match session.validate_with(&columns).await {
            Err(Invalid::Driver(error)) if !ends_connection(&error) => {}
            answer => return answer,
        }
        // A relative of MySQL without these tables.
        let row = session.validate_with(Rights::COLUMNS).await?;
        shared.opener.record_no_remains();
        return Ok(row);
    }
    session.validate_with(Rights::COLUMNS).await
}

async fn reset(
    shared: &Shared,
    session: &mut Session,
    restores_database: bool,
) -> Result<(), DiscardReason> {
    let has_database = shared.config.opts().db_name().is_some();
    if restores_database && !has_database {
        // Only a change of user restores having no database.
        change_user(session).await?;
        shared.metrics.databases.add_one();
    } else {
        session.follow.forget_statements();
        if check(session.conn.reset().await)? {
            if shared.opener.reset_loses_charset() {
                let charset = "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci";
                check(session.conn.query_drop(charset).await)?;
            }
            if restores_database {
                Box::pin(restore_database(shared, session)).await?;
            }
        } else {
            // The server does not know `COM_RESET_CONNECTION`.
            change_user(session).await?;
        }
    }
    set_up(shared, session).await?;
    shared.metrics.resets.add_one();
    Ok(())
}

async fn restore_database(shared: &Shared, session: &mut Session) -> Result<(), DiscardReason> {
    if let Some(name) = shared.config.opts().db_name() {
        let name = name.replace('`', "``");
        check(session.conn.query_drop(format!("USE `{name}`")).await)?;
    } else {
        change_user(session).await?;
        set_up(shared, session).await?;
    }
    shared.metrics.databases.add_one();
    Ok(())
}

/// Logs in again on the same connection, which resets the session, and the database too.
async fn change_user(session: &mut Session) -> Result<(), DiscardReason> {
    session.follow.forget_statements();
    check(Box::pin(session.conn.change_user(Default::default())).await)
}

/// Runs `init` and `prepare` again.
async fn set_up(shared: &Shared, session: &mut Session) -> Result<(), DiscardReason> {
    let mut phase = ConnectPhase::Connect;
    let outcome = shared.opener.set_up(session, &mut phase).await;
    outcome.map_err(|error| {
        debug!(pool = shared.name, %error, "connection not set up again after a reset");
        match error.driver_error() {
            // A hook's own error says nothing about the connection.
            Some(mysql_async::Error::Other(_)) => DiscardReason::CleaningFailed,
            Some(error) => lost_or_refused(error),
            None => DiscardReason::CleaningFailed,
        }
    })
}

fn check<T>(outcome: mysql_async::Result<T>) -> Result<T, DiscardReason> {
    outcome.map_err(|error| lost_or_refused(&error))
}

fn lost_or_refused(error: &mysql_async::Error) -> DiscardReason {
    match error {
        _ if ends_connection(error) => DiscardReason::Lost,
        // `XAER_RMFAIL`: an XA transaction has not ended.
        mysql_async::Error::Server(error) if error.code == 1399 => DiscardReason::Unresettable,
        _ => DiscardReason::CleaningFailed,
    }
}
