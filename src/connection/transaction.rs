//! `Transaction`: a transaction on a pooled connection.

use std::{
    fmt,
    future::Future,
    ops::{Deref, DerefMut},
    pin::pin,
};

use mysql_async::{Conn, TxOpts, consts::StatusFlags};

use crate::{
    error::Error,
    session::follow::{Ending, Follow},
    telemetry::{Caller, Timing},
};

use super::{
    commands::commit_error,
    target::{begin, refuse_nested},
};

/// A transaction on a [`PooledConn`](crate::PooledConn), started by
/// [`start_transaction`](crate::PooledConn::start_transaction).
///
/// ```no_run
/// use mysql_warm_pool::{Error, Pool, mysql_async::TxOpts};
///
/// /// Takes one of an item from the stock. Returns whether there was one.
/// async fn take(pool: &Pool, id: u64) -> Result<bool, Error> {
///     let mut conn = pool.get().await?;
///     let mut transaction = conn.start_transaction(TxOpts::default()).await?;
///     let select = "SELECT stock FROM item WHERE id = ? FOR UPDATE";
///     let stock: Option<u32> = transaction.exec_first(select, (id,)).await?;
///     if stock.unwrap_or(0) == 0 {
///         return Ok(false); // Rolls back.
///     }
///     transaction.exec_drop("UPDATE item SET stock = stock - 1 WHERE id = ?", (id,)).await?;
///     transaction.commit().await?;
///     Ok(true)
/// }
/// ```
///
/// It borrows the connection, which can run further statements after it. An
/// [`OwnedTransaction`](crate::OwnedTransaction) borrows nothing.
///
/// Use it like the connection: `exec*` and `query*` are methods of its own, it is an
/// [`Executor`](crate::Executor), and it implements the driver's
/// [`Queryable`](mysql_async::prelude::Queryable), but not
/// [`ToConnection`](mysql_async::prelude::ToConnection). It is this crate's type and not the
/// driver's, so that its statements are followed too.
///
/// # When it has ended
///
/// The server may roll a transaction back by itself, after a deadlock for example, and some
/// statements commit it, such as `CREATE TABLE`. Every command of this type then returns
/// [`Error::RolledBack`] or [`Error::TransactionEnded`], inside a [`mysql_async::Error::Other`],
/// and sends nothing. A statement that begins another transaction is refused with
/// [`Error::InTransaction`], because the server would commit this one.
///
/// # Dropping
///
/// Without [`commit`](Self::commit) it is rolled back: before the next command on the connection,
/// or when the connection is returned.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction<'a> {
    inner: mysql_async::Transaction<'a>,
    follow: Guard<'a>,
    caller: Caller<'a>,
}

impl<'a> Transaction<'a> {
    pub(super) async fn start(
        conn: &'a mut Conn,
        follow: &'a mut Follow,
        caller: Caller<'a>,
        options: TxOpts,
    ) -> mysql_async::Result<Self> {
        let was_used = follow.is_used();
        follow.begin(conn)?;
        if was_used {
            refuse_nested(conn, follow).await?;
        }
        follow.record_transaction(true);
        if options.readonly() == Some(true) {
            follow.record_read_only_transaction();
        }
        let sets_next = options.isolation_level().is_some() || options.readonly().is_some();
        let mut timing = caller.timing(b"START TRANSACTION");
        timing.start();
        let sent = follow
            .unless_cut(pin!(conn.start_transaction(options)))
            .await;
        let started = sent.and_then(|started| {
            follow.end_with_status(&started);
            if started.is_err() && sets_next {
                follow.record_pending_level();
            }
            started
        });
        let inner = timing.end(follow.answer, started.map(|inner| (inner, None)))?;
        let status = inner.last_ok_packet().map(|ok| ok.status_flags());
        Ok(Self {
            inner,
            follow: Guard::new(follow, status),
            caller,
        })
    }

    /// Commits the transaction.
    ///
    /// If the last statement has committed the transaction by itself, such as `CREATE TABLE`, there
    /// is nothing left to do, and that is no error.
    ///
    /// # Errors
    ///
    /// As [`mysql_async::Transaction::commit`] if the server refuses to commit: nothing was
    /// committed. Inside a [`mysql_async::Error::Other`], where [`Error::of`] finds them:
    ///
    /// - [`Error::CommitUnknown`] if the answer is lost: it may or may not have been committed;
    /// - [`Error::RolledBack`] if the server has rolled the transaction back before;
    ///   [`Error::TransactionEnded`] if a statement has ended it before, and it is not known how;
    /// - [`Error::ConnectionLost`] if an earlier statement was cancelled or the connection is lost:
    ///   nothing was committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the transaction may or may not be committed, and the
    /// connection is discarded.
    pub async fn commit(mut self) -> mysql_async::Result<()> {
        let (conn, follow, _) = self.parts();
        let Err(error) = begin(conn, follow).await else {
            follow.record_commit();
            let timing = self.caller.timing(b"COMMIT");
            let (outcome, _) = self.end_by(mysql_async::Transaction::commit, timing).await;
            return outcome.map_err(commit_error);
        };
        let is_committed = has_ended(&error) && follow.ending().is_some_and(Ending::is_commit);
        // As the driver does after a commit that fails. If this fails too, the return rolls back.
        drop(self.roll_back().await);
        if is_committed { Ok(()) } else { Err(error) }
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    ///
    /// As [`mysql_async::Transaction::rollback`]. [`Error::TransactionEnded`], inside a
    /// [`mysql_async::Error::Other`], if a statement has ended the transaction before, and may have
    /// committed it. If the server or a statement has rolled it back, that is no error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded, which rolls back too.
    pub async fn rollback(mut self) -> mysql_async::Result<()> {
        let (conn, follow, _) = self.parts();
        follow.forget_savepoints();
        let Err(error) = begin(conn, follow).await else {
            let timing = self.caller.timing(b"ROLLBACK");
            return self.end_by_rollback(timing).await;
        };
        if !has_ended(&error) {
            // See `end_by_rollback`.
            let is_rolled_back = self.follow.is_deadlocked();
            return if is_rolled_back {
                self.roll_back().await
            } else {
                Err(error)
            };
        }
        let is_rolled_back = matches!(
            self.follow.ending(),
            Some(Ending::ByServer | Ending::ByRollback)
        );
        self.roll_back().await?;
        if is_rolled_back { Ok(()) } else { Err(error) }
    }

    /// Makes sure that nothing stays open.
    async fn roll_back(mut self) -> mysql_async::Result<()> {
        let (conn, follow, _) = self.parts();
        follow.begin(conn)?;
        let timing = self.caller.timing(b"ROLLBACK");
        self.end_by_rollback(timing).await
    }

    /// A Galera node that rolls back an idle transaction, because another node's write was first,
    /// says so in place of the next answer, which may be that to the `ROLLBACK`.
    async fn end_by_rollback(self, timing: Timing<'a>) -> mysql_async::Result<()> {
        match self
            .end_by(mysql_async::Transaction::rollback, timing)
            .await
        {
            (Err(_), true) => Ok(()),
            (outcome, _) => outcome,
        }
    }

    /// Ends the transaction by the command that was begun. Returns also whether the server has
    /// certainly rolled it back because of a conflict.
    async fn end_by<F>(
        self,
        end: impl FnOnce(mysql_async::Transaction<'a>) -> F + Send,
        mut timing: Timing<'a>,
    ) -> (mysql_async::Result<()>, bool)
    where
        F: Future<Output = mysql_async::Result<()>> + Send,
    {
        let Self {
            inner, mut follow, ..
        } = self;
        timing.start();
        let sent = follow.unless_cut(pin!(end(inner))).await;
        let done = sent.and_then(|done| {
            follow.end_with_status(&done);
            // After a failed commit the driver rolls back; the server's status shows the outcome.
            follow.record_transaction(false);
            done
        });
        let outcome = timing.end(follow.answer, done.map(|()| ((), None)));
        (outcome, follow.is_deadlocked())
    }

    pub(super) fn parts(&mut self) -> (&mut mysql_async::Transaction<'a>, &mut Follow, Caller<'_>) {
        self.follow.at_savepoint(0);
        (&mut self.inner, &mut self.follow, self.caller)
    }
}

impl Deref for Transaction<'_> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.inner
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("id", &self.inner.id())
            .finish_non_exhaustive()
    }
}

/// Whether this error says that the transaction had ended already.
pub(super) fn has_ended(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Other(error) => matches!(
            error.downcast_ref(),
            Some(Error::RolledBack | Error::TransactionEnded)
        ),
        _ => false,
    }
}

/// Marks the session for as long as the driver's own `Transaction` lives.
///
/// If that is leaked (`mem::forget`), the driver considers the transaction open for ever and
/// refuses to start another. The mark then stays too, so the connection is discarded.
struct Guard<'a>(&'a mut Follow);

impl<'a> Guard<'a> {
    fn new(follow: &'a mut Follow, status: Option<StatusFlags>) -> Self {
        follow.guard(status);
        Self(follow)
    }
}

impl Deref for Guard<'_> {
    type Target = Follow;

    fn deref(&self) -> &Follow {
        self.0
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Follow {
        self.0
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.end_guard();
    }
}
