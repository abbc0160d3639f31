//! Undoes what a caller changed in its session, if all of it is known. This takes one round trip,
//! and the session keeps its prepared statements.

use crate::{
    report::{DiscardReason, Flavor},
    session::{Session, effect::changes::Change, verdict::Needs},
    shared::Shared,
};

use super::clean::{CHARSET, send_at_once, use_database};

/// Rolls back, whatever `completion_type` says.
const ROLLBACK: &str = "ROLLBACK AND NO CHAIN NO RELEASE";

/// Undoes all changes, rolls back, and restores the database, as needed. Returns false if the
/// session has to be reset instead.
pub(super) async fn undo(
    shared: &Shared,
    session: &mut Session,
    needs: Needs,
) -> Result<bool, DiscardReason> {
    let Some(statements) = statements(shared, session, needs) else {
        return Ok(false);
    };
    match send_at_once(shared, session, &statements).await {
        Ok(()) => {}
        Err(DiscardReason::Lost) => return Err(DiscardReason::Lost),
        // A reset does all of this too.
        Err(_) => return Ok(false),
    }
    if !statements.is_empty() && session.is_in_transaction() {
        return Ok(false);
    }
    session.follow.record_undone();
    if !statements.is_empty() {
        shared.metrics.undone.add_one();
    }
    if needs.rollback {
        shared.metrics.rollbacks.add_one();
    }
    if needs.database {
        shared.metrics.databases.add_one();
    }
    Ok(true)
}

/// Returns the statements that leave the session as a reset and a set-up would; `None` if it has to
/// be reset.
fn statements(shared: &Shared, session: &Session, needs: Needs) -> Option<Vec<String>> {
    let of_caller = session.follow.changes()?;
    // Even if no change is named: the caller may have dropped a temporary table that the set-up
    // created, and only a reset creates it again. What the settings assign is undone as well: a
    // setting that reads a variable must find what it would find after a reset.
    let of_set_up = shared.opener.set_up_changes()?;
    let settings = shared.opener.settings_to_repeat()?;
    let changes = || of_caller.iter().chain(&of_set_up);
    let has = |wanted: &Change| changes().any(|change| change == wanted);
    let mut statements = Vec::new();
    // Turning autocommit on would commit.
    if needs.rollback || has(&Change::Variable("autocommit")) {
        statements.push(ROLLBACK.to_owned());
    }
    // First mode and charset, because the server reads the other statements in them.
    if has(&Change::Variable("sql_mode")) {
        statements.push("SET @@session.sql_mode = @@global.sql_mode".to_owned());
    }
    let flavor = shared.opener.flavor();
    if has(&Change::Charset) {
        statements.push(charset(flavor).to_owned());
    }
    let assignments = changes().filter_map(|change| assignment(change, flavor));
    statements.extend(list("SET", assignments));
    if has(&Change::Locks) {
        statements.push("DO RELEASE_ALL_LOCKS()".to_owned());
    }
    let tables = changes().filter_map(temporary_table);
    statements.extend(list("DROP TEMPORARY TABLE IF EXISTS", tables));
    if needs.database {
        statements.push(use_database(shared.config.opts().db_name()?));
    }
    statements.extend(settings);
    Some(statements)
}

/// The statement with this beginning and these items; `None` if there are no items.
fn list(beginning: &str, items: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    let mut statement = String::new();
    for item in items {
        if statement.is_empty() {
            statement.push_str(beginning);
            statement.push(' ');
        } else {
            statement.push_str(", ");
        }
        statement.push_str(item.as_ref());
    }
    (!statement.is_empty()).then_some(statement)
}

/// The statement that restores the charset as a reset and what the pool sends after it do.
fn charset(flavor: Flavor) -> &'static str {
    match flavor {
        // As at the login, `character_set_collations` decides on the collation (from 11.3 on).
        Flavor::MariaDb => "SET NAMES utf8mb4",
        _ => CHARSET,
    }
}

/// The assignment that leaves what a reset leaves.
fn assignment(change: &Change, flavor: Flavor) -> Option<String> {
    let from_global = |name: &str| Some(format!("@@session.{name} = @@global.{name}"));
    match (change, flavor) {
        // `NULL` alone would keep the type of the value before it, which expressions take on. Each
        // server gets the type with which they are as with a variable that was never assigned.
        (Change::UserVariable(name), Flavor::MariaDb) => {
            Some(format!("@`{name}` = x'', @`{name}` = NULL"))
        }
        (Change::UserVariable(name), _) => Some(format!("@`{name}` = 0, @`{name}` = NULL")),
        (Change::Variable(name), _) => from_global(name),
        (Change::IsolationLevel, Flavor::MariaDb) => from_global("tx_isolation"),
        (Change::IsolationLevel, _) => from_global("transaction_isolation"),
        (Change::ReadOnly, Flavor::MariaDb) => from_global("tx_read_only"),
        (Change::ReadOnly, _) => from_global("transaction_read_only"),
        (Change::Charset | Change::Locks | Change::TemporaryTable { .. }, _) => None,
    }
}

fn temporary_table(change: &Change) -> Option<&str> {
    match change {
        Change::TemporaryTable { name, .. } => Some(name),
        _ => None,
    }
}
