//! What commands are sent on, the driver's `Conn` or its `Transaction`, and what is checked before
//! they are sent.

#![expect(
    unnameable_types,
    reason = "sealed: only types of this crate implement `Executor`"
)]

use mysql_async::{
    Conn, QueryResult, TextProtocol, Transaction, consts::StatusFlags, prelude::Queryable,
};

use crate::{
    error::Error,
    session::follow::{Ending, Follow},
};

use super::{commands::BoxFuture, savepoint};

/// What a command is sent on.
pub trait Target: Queryable {
    fn conn(&self) -> &Conn;

    /// Whether rows of the last result are pending.
    fn has_rows(&mut self) -> bool;

    /// Reads the rest of the last result, as if its rows were text, which those of a prepared
    /// statement are not. Fails at a row that does not parse, once it has been read.
    fn settle(&mut self) -> BoxFuture<'_, ()>;
}

impl Target for Conn {
    fn conn(&self) -> &Conn {
        self
    }

    fn has_rows(&mut self) -> bool {
        QueryResult::<TextProtocol>::new(self).columns().is_some()
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(QueryResult::<TextProtocol>::new(self).drop_result())
    }
}

impl Target for Transaction<'_> {
    fn conn(&self) -> &Conn {
        self
    }

    fn has_rows(&mut self) -> bool {
        QueryResult::<TextProtocol>::new(self).columns().is_some()
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(QueryResult::<TextProtocol>::new(self).drop_result())
    }
}

/// Begins a command, unless it would run outside the transaction it is meant for.
pub(super) async fn begin<C: Target>(conn: &mut C, follow: &mut Follow) -> mysql_async::Result<()> {
    follow.begin(conn.conn())?;
    read_rest(conn, follow).await?;
    if follow.is_guarded() {
        check_transaction(conn, follow).await?;
        if let Some(savepoint) = follow.dropped_savepoint() {
            roll_back_to(conn, follow, savepoint).await?;
        }
    }
    Ok(())
}

/// Reads the rest of the last result, which ends with the server's status. The driver would read it
/// before the next command too.
///
/// If this fails, the command that was begun has ended with this error.
async fn read_rest<C: Target>(conn: &mut C, follow: &mut Follow) -> mysql_async::Result<()> {
    while conn.has_rows() {
        let outcome = follow.unless_cut(conn.settle()).await?;
        // With rows left, the error is only that of a row that does not parse as text.
        if outcome.is_err() && !conn.has_rows() {
            follow.end(&outcome);
            return outcome;
        }
    }
    Ok(())
}

/// Rolls back to a savepoint whose handle was dropped, which also ends those in it.
///
/// If this fails, the command that was begun has ended with this error.
async fn roll_back_to<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    savepoint: u32,
) -> mysql_async::Result<()> {
    let text = savepoint::roll_back_to(savepoint);
    let outcome = follow.unless_cut(conn.query_drop(text)).await?;
    if outcome.is_err() {
        follow.end(&outcome);
        return outcome;
    }
    follow.record_status();
    follow.record_savepoints(savepoint.saturating_sub(1));
    Ok(())
}

/// Ends the command that was begun, with an error, if its transaction has ended before.
async fn check_transaction<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
) -> mysql_async::Result<()> {
    // A status without a transaction shows its end only if an earlier status has shown the
    // transaction.
    if follow.ending().is_none() || is_in_transaction(conn, follow).await? {
        return Ok(());
    }
    Err(match follow.ending() {
        Some(Ending::ByServer) => follow.refuse(Error::RolledBack),
        _ => follow.refuse(Error::TransactionEnded),
    })
}

/// Refuses to begin a transaction while one is open, which the server would commit.
pub(super) async fn refuse_nested(conn: &mut Conn, follow: &mut Follow) -> mysql_async::Result<()> {
    read_rest(conn, follow).await?;
    if is_in_transaction(conn, follow).await? {
        return Err(follow.refuse(Error::InTransaction));
    }
    Ok(())
}

/// Whether the server's status shows an open transaction. Asks the server if it is not known, as
/// after an error.
///
/// If this fails, the command that was begun has ended with this error.
async fn is_in_transaction<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
) -> mysql_async::Result<bool> {
    let status = match follow.known_status(conn.conn()) {
        Some(status) => status,
        None => {
            let outcome = follow.unless_cut(conn.ping()).await?;
            if outcome.is_err() {
                follow.end(&outcome);
                outcome?;
            }
            follow.record_status();
            let status = conn.conn().last_ok_packet().map(|ok| ok.status_flags());
            status.unwrap_or(StatusFlags::empty())
        }
    };
    Ok(status.contains(StatusFlags::SERVER_STATUS_IN_TRANS))
}
