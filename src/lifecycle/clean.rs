//! Makes a returned connection as good as new: drain, validate, roll back, undo or reset, restore.
//! Runs in the background, never in a caller's `get()`.

use std::{pin::pin, sync::Arc, time::Duration};

use mysql_async::{Row, prelude::Queryable};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::{
    config::Reset,
    engine::{
        facts::{KnownRights, RefusedReset},
        init_connect::InitConnect,
        slots::{Cleaning, Lease},
    },
    error::{
        Brief, ConnectError, ConnectPhase, ends_connection, is_deadlock, is_transient, means_loss,
        means_read_only,
    },
    report::{DiscardReason, Warning},
    session::{Invalid, Rights, Session, column, in_one_text, verdict::Needs},
    shared::Shared,
    time::Timestamp,
};

use super::{
    discard::discard_cleaning,
    give_back::make_idle,
    undo::undo,
    validate::{Work, with_patience},
};

/// How long pending rows are read. A connection that has more of them is closed instead.
const DRAIN_TIME: Duration = Duration::from_millis(50);

/// The charset that the driver asks for in the handshake.
pub(super) const CHARSET: &str = "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci";

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
            if needs.validation {
                shared.metrics.unfollowed.add_one();
            }
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
    session.follow.forget_status();
    if needs.drain {
        Box::pin(drain(session)).await?;
        shared.metrics.drains.add_one();
    }
    let resets_for_database = needs.database
        && shared.opener.set_up_changes_database
        && shared.config.reset != Reset::Never;
    let resets = needs.reset || resets_for_database;
    let changes_user = needs.database && shared.config.opts().db_name().is_none();
    if resets || changes_user {
        if shared.opener.init_connect() == InitConnect::Replace {
            return Err(DiscardReason::Unresettable);
        }
        // A reset takes autocommit from the server's setting, which may have changed since the
        // connection was opened. MySQL's status does not show that.
        session.origin.autocommit = false;
    }
    // After a reset the connection is validated together with what else is to be done then. If the
    // reset got the answer to an earlier command, the validation gets the reset's.
    if !resets && (needs.validation || needs.role) {
        validate(shared, session, needs, &[]).await?;
    }
    let rollback = needs.rollback || needs.drain && session.is_in_transaction();
    if needs.undo && !needs.role && !resets_for_database {
        let needs = Needs { rollback, ..needs };
        if Box::pin(undo(shared, session, needs)).await? {
            return Ok(());
        }
    }
    // A reset rolls back as well, but does not report an XA transaction, which a `ROLLBACK` does.
    if resets && !(rollback && needs.role) {
        return reset(shared, session, needs).await;
    }
    if rollback || !resets && needs.validation && session.is_in_transaction() {
        roll_back(session).await?;
        shared.metrics.rollbacks.add_one();
        // `completion_type = CHAIN` has begun another one.
        if resets || session.is_in_transaction() {
            return reset(shared, session, needs).await;
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

/// Rolls back. A Galera node that rolls back an idle transaction, because another node's write was
/// first, reports that in place of the next answer, whatever was asked. So a deadlock is no answer to
/// what was sent, and it is sent again.
async fn roll_back(session: &mut Session) -> Result<(), DiscardReason> {
    let done = session.conn.query_drop("ROLLBACK").await;
    check(match done {
        Err(error) if is_deadlock(&error) => session.conn.query_drop("ROLLBACK").await,
        done => done,
    })
}

/// Reads the pending rows, if they are not too many.
async fn drain(session: &mut Session) -> Result<(), DiscardReason> {
    match timeout(DRAIN_TIME, session.read_rest()).await {
        Err(_elapsed) => Err(DiscardReason::TooManyRows),
        Ok(Err(error)) if ends_connection(&error) => Err(DiscardReason::Lost),
        // An error in a later result set belongs to the caller that left it unread.
        Ok(_) => Ok(()),
    }
}

/// Validates the connection, unless it needs that only for roles and the server has none. If the
/// pool did not see what was sent, the same round trip looks for what a reset does not clear: it
/// compares the session's rights with those it was opened with, and counts the statements that the
/// server would still show.
///
/// The statements in `restore` are sent first. Returns whether the session has a default database;
/// `None` if that was not asked.
async fn validate(
    shared: &Shared,
    session: &mut Session,
    needs: Needs,
    restore: &[String],
) -> Result<Option<bool>, DiscardReason> {
    let rights = match shared.opener.rights(&session.origin) {
        KnownRights::Unknown if needs.role => return Err(DiscardReason::RoleChanged),
        KnownRights::Known(rights) if needs.role => rights,
        KnownRights::NoRoles if !needs.validation => {
            send_all(session, restore).await?;
            return Ok(None);
        }
        _ => {
            send_all(session, restore).await?;
            session.validate().await.map_err(invalid)?;
            shared.metrics.cleaning_validations.add_one();
            return Ok(None);
        }
    };
    let leftovers = shared.opener.leftovers();
    let row = match ask_at_once(shared, session, restore).await {
        Err(Invalid::Driver(error)) if !ends_connection(&error) && !is_transient(&error) => {
            send_all(session, restore).await?;
            let row = ask(shared, session).await.map_err(invalid)?;
            // Otherwise the server refused what `leftovers` selects, not the several statements.
            if !restore.is_empty() && shared.opener.leftovers() == leftovers {
                record_refused_text(shared, &error);
            }
            row
        }
        answer => answer.map_err(invalid)?,
    };
    shared.metrics.cleaning_validations.add_one();
    if Rights::read(&row, 2) != rights {
        return Err(DiscardReason::RoleChanged);
    }
    if column::<u64>(&row, 4).is_some_and(|count| count > 0) {
        return Err(DiscardReason::Unresettable);
    }
    Ok(Some(column::<Vec<u8>>(&row, 1).is_some()))
}

/// Sends the statements and asks the question of [`ask`] in one round trip, if the server takes
/// several statements in one text.
async fn ask_at_once(
    shared: &Shared,
    session: &mut Session,
    restore: &[String],
) -> Result<Row, Invalid> {
    if !restore.is_empty() && shared.opener.takes_one_statement_at_a_time() {
        for statement in restore {
            session.conn.query_drop(statement).await?;
        }
        return ask(shared, session).await;
    }
    let columns = columns(shared.opener.leftovers());
    session.validate_after(restore, &columns).await
}

/// Selects the default database and the session's rights, and counts the earlier statements that
/// the server still shows, if it can be asked.
async fn ask(shared: &Shared, session: &mut Session) -> Result<Row, Invalid> {
    let leftovers = shared.opener.leftovers();
    match session.validate_with(&columns(leftovers)).await {
        Err(Invalid::Driver(error)) if leftovers.is_some() && !ends_connection(&error) => {}
        answer => return answer,
    }
    // A server derived from MySQL may lack these tables.
    let row = session.validate_with(&columns(None)).await?;
    shared.opener.record_no_leftovers();
    Ok(row)
}

fn columns(leftovers: Option<&str>) -> String {
    let rights = Rights::COLUMNS;
    match leftovers {
        Some(leftovers) => format!("DATABASE(), {rights}, {leftovers}"),
        None => format!("DATABASE(), {rights}"),
    }
}

/// Sends the statements in one round trip, if the server takes several in one text.
pub(super) async fn send_at_once(
    shared: &Shared,
    session: &mut Session,
    statements: &[String],
) -> Result<(), DiscardReason> {
    if statements.len() > 1 && !shared.opener.takes_one_statement_at_a_time() {
        match session.conn.query_drop(in_one_text(statements)).await {
            Err(error) if !ends_connection(&error) => {
                send_all(session, statements).await?;
                record_refused_text(shared, &error);
                return Ok(());
            }
            answer => return check(answer),
        }
    }
    send_all(session, statements).await
}

/// Records that the server refused several statements in one text with this error, and took them
/// one at a time.
fn record_refused_text(shared: &Shared, error: &mysql_async::Error) {
    if !is_transient(error) && !means_read_only(error, true) {
        shared.opener.record_one_statement_at_a_time();
    }
}

async fn send_all(session: &mut Session, statements: &[String]) -> Result<(), DiscardReason> {
    for statement in statements {
        check(session.conn.query_drop(statement).await)?;
    }
    Ok(())
}

/// Resets the session. Then restores charset and database, runs `init` and validates: in one round
/// trip, if the server takes several statements in one text and `init` only sets what is known.
///
/// The connection may still be out of step: then the validation finds it, because it gets the
/// answer to the reset.
async fn reset(shared: &Shared, session: &mut Session, needs: Needs) -> Result<(), DiscardReason> {
    let database = shared.config.opts().db_name();
    let asks = needs.validation || needs.role;
    let mut restore = Vec::new();
    // Only a change of user leaves the session without a database.
    let has_moved = needs.database && database.is_none() && !asks;
    let done = if has_moved {
        change_user(session).await?;
        Done::ChangeOfUser
    } else {
        reset_session(shared, session).await?
    };
    if done == Done::Reset {
        let loses_charset = shared.opener.reset_loses_charset();
        if loses_charset {
            restore.push(CHARSET.to_owned());
        }
        // Some servers derived from MySQL lose the database too. Sent with the charset, this costs
        // nothing.
        if (needs.database || loses_charset)
            && let Some(name) = database
        {
            restore.push(use_database(name));
        }
    }
    // A change of user would undo them.
    let may_change_user = asks && done == Done::Reset && database.is_none();
    let settings = shared
        .opener
        .settings_to_repeat()
        .filter(|_| !may_change_user && !shared.opener.takes_one_statement_at_a_time());
    if asks {
        restore.extend(settings.iter().flatten().cloned());
        let has_database = validate(shared, session, needs, &restore).await?;
        if may_change_user && has_database != Some(false) {
            change_user(session).await?;
        }
        if settings.is_some() {
            set_up_rest(shared, session).await?;
        } else {
            set_up_again(shared, session).await?;
        }
    } else {
        restore_and_set_up(shared, session, restore, settings).await?;
    }
    if done == Done::InsteadOfReset {
        // Only now is it certain that the refusal was the answer to the reset.
        record_refused_reset(shared, RefusedReset::ChangesUser);
    }
    if needs.database {
        shared.metrics.databases.add_one();
    }
    shared.metrics.resets.add_one();
    Ok(())
}

/// Sends these statements and sets the session up again. The settings to repeat, if known, go in
/// the same round trip, if the server takes several statements in one text.
async fn restore_and_set_up(
    shared: &Shared,
    session: &mut Session,
    mut restore: Vec<String>,
    settings: Option<Vec<String>>,
) -> Result<(), DiscardReason> {
    let restored = restore.len();
    let mut refusal = None;
    if let Some(settings) = settings {
        restore.extend(settings);
        if restore.len() > 1 {
            match session.conn.query_drop(in_one_text(&restore)).await {
                // After a transient error some of the text has run, and `init` must not run twice.
                Err(error) if !ends_connection(&error) && !is_transient(&error) => {
                    refusal = Some(error);
                }
                answer => {
                    check(answer)?;
                    return set_up_rest(shared, session).await;
                }
            }
        }
        restore.truncate(restored);
    }
    if refusal.is_some() {
        send_all(session, &restore).await?;
    } else {
        send_at_once(shared, session, &restore).await?;
    }
    set_up_again(shared, session).await?;
    if let Some(error) = refusal {
        record_refused_text(shared, &error);
    }
    Ok(())
}

/// How a session was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Reset,
    ChangeOfUser,
    /// By a change of user, because the server has just refused the reset.
    InsteadOfReset,
}

/// Resets the session, or changes the user if the server refuses resets.
async fn reset_session(shared: &Shared, session: &mut Session) -> Result<Done, DiscardReason> {
    match shared.opener.refused_reset() {
        None => {}
        Some(RefusedReset::ChangesUser) => {
            change_user(session).await?;
            return Ok(Done::ChangeOfUser);
        }
        Some(RefusedReset::Replaces) => return Err(DiscardReason::CleaningFailed),
    }
    session.follow.forget_statements();
    let mut answer = session.conn.reset().await;
    if answer.as_ref().is_err_and(is_deadlock) {
        // As for [`roll_back`].
        answer = session.conn.reset().await;
    }
    let refusal = match answer {
        Ok(true) => return Ok(Done::Reset),
        // The driver knows that this version has no `COM_RESET_CONNECTION`.
        Ok(false) => {
            change_user(session).await?;
            return Ok(Done::ChangeOfUser);
        }
        // These may be answers to the `ROLLBACK` that the driver sends first.
        Err(error)
            if ends_connection(&error) || means_read_only(&error, true) || is_transient(&error) =>
        {
            return Err(lost_or_refused(&error));
        }
        Err(error) => error,
    };
    debug!(pool = shared.name, error = %Brief(refusal), "reset refused");
    let changed = Box::pin(session.conn.change_user(Default::default())).await;
    match changed {
        Ok(()) => Ok(Done::InsteadOfReset),
        Err(error) if means_loss(&error) => Err(DiscardReason::Lost),
        Err(_) => {
            // Learnt only from a connection that is in step: otherwise these may be answers to
            // earlier commands.
            if session.validate().await.is_ok() {
                record_refused_reset(shared, RefusedReset::Replaces);
            }
            Err(DiscardReason::CleaningFailed)
        }
    }
}

fn record_refused_reset(shared: &Shared, instead: RefusedReset) {
    if shared.opener.record_refused_reset(instead) {
        let warning = Warning::ResetRefused;
        warn!(pool = shared.name, %warning, "configuration warning");
    }
}

async fn restore_database(shared: &Shared, session: &mut Session) -> Result<(), DiscardReason> {
    if let Some(name) = shared.config.opts().db_name() {
        check(session.conn.query_drop(use_database(name)).await)?;
    } else {
        change_user(session).await?;
        set_up_again(shared, session).await?;
    }
    shared.metrics.databases.add_one();
    Ok(())
}

pub(super) fn use_database(name: &str) -> String {
    format!("USE `{}`", name.replace('`', "``"))
}

/// Logs in again on the same connection, which resets the session, and the database too.
async fn change_user(session: &mut Session) -> Result<(), DiscardReason> {
    session.follow.forget_statements();
    let mut changed = Box::pin(session.conn.change_user(Default::default())).await;
    if changed.as_ref().is_err_and(is_deadlock) {
        // As for [`roll_back`].
        changed = Box::pin(session.conn.change_user(Default::default())).await;
    }
    check(changed)
}

/// Does what a login does after authentication, `init_connect` included.
async fn set_up_again(shared: &Shared, session: &mut Session) -> Result<(), DiscardReason> {
    if let InitConnect::Repeat(text) = shared.opener.init_connect() {
        check(session.conn.query_drop(text).await)?;
    }
    set_up(shared, session).await
}

/// Runs the hooks, `init` and `prepare` again.
async fn set_up(shared: &Shared, session: &mut Session) -> Result<(), DiscardReason> {
    let mut phase = ConnectPhase::Connect;
    let outcome = shared.opener.set_up(session, &mut phase).await;
    outcome.map_err(|error| not_set_up(shared, &error))
}

/// Runs again what comes after `init`.
async fn set_up_rest(shared: &Shared, session: &mut Session) -> Result<(), DiscardReason> {
    let mut phase = ConnectPhase::Connect;
    let outcome = shared.opener.set_up_after_init(session, &mut phase).await;
    outcome.map_err(|error| not_set_up(shared, &error))
}

fn not_set_up(shared: &Shared, error: &ConnectError) -> DiscardReason {
    debug!(pool = shared.name, %error, "connection not set up again after a reset");
    match error.driver_error() {
        // An error that the hook made up says nothing about the connection.
        Some(mysql_async::Error::Other(_)) => DiscardReason::CleaningFailed,
        Some(error) => lost_or_refused(error),
        None => DiscardReason::CleaningFailed,
    }
}

fn invalid(error: Invalid) -> DiscardReason {
    match error {
        Invalid::Driver(error) => lost_or_refused(&error),
        Invalid::OutOfStep => DiscardReason::ValidationFailed,
    }
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
