//! What commands are sent on, the driver's `Conn` or its `Transaction`, and what is checked before
//! they are sent.

use mysql_async::{
    Conn, QueryResult, TextProtocol, Transaction, consts::StatusFlags, prelude::Queryable,
};

use crate::{
    error::Error,
    session::follow::{Ending, Follow},
};

use super::commands::BoxFuture;

/// What a command is sent on.
pub(super) trait Target: Queryable {
    /// Whether its statements are to run in a transaction, and not otherwise.
    const IS_TRANSACTION: bool;

    fn conn(&self) -> &Conn;

    /// Whether rows of the last result are pending.
    fn has_rows(&mut self) -> bool;

    /// Reads the rest of the last result.
    fn settle(&mut self) -> BoxFuture<'_, ()>;
}

impl Target for Conn {
    const IS_TRANSACTION: bool = false;

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
    const IS_TRANSACTION: bool = true;

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

/// Begins a command, unless it would run outside of the transaction it was meant for.
pub(super) async fn begin<C: Target>(conn: &mut C, follow: &mut Follow) -> mysql_async::Result<()> {
    follow.begin(conn.conn())?;
    if C::IS_TRANSACTION {
        check_transaction(conn, follow).await?;
    }
    Ok(())
}

/// Ends the command that was begun, with an error, if its transaction has ended before.
async fn check_transaction<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
) -> mysql_async::Result<()> {
    // Only a server whose status has shown the transaction is believed to show its end.
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
    // The status comes after the rows. The driver would read them before the next command too.
    if conn.has_rows() {
        let outcome = follow.unless_cut(conn.settle()).await?;
        if outcome.is_err() {
            follow.end(&outcome);
            outcome?;
        }
    }
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
