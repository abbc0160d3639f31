//! `Transaction`: a transaction on a pooled connection.

use std::{
    fmt,
    future::Future,
    ops::{Deref, DerefMut},
    pin::pin,
};

use mysql_async::{Conn, TxOpts};

use crate::session::follow::Follow;

/// A transaction on a [`PooledConn`](crate::PooledConn), started by
/// [`start_transaction`](crate::PooledConn::start_transaction).
///
/// Use it like the connection: it implements [`Queryable`](mysql_async::prelude::Queryable), and
/// `exec*` are inherent methods. It is this crate's type and not the driver's, so that its
/// statements are followed too. It does not implement
/// [`ToConnection`](mysql_async::prelude::ToConnection).
///
/// # Dropping
///
/// Without [`commit`](Self::commit) it is rolled back: before the next command on the connection,
/// or when the connection is returned.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction<'a> {
    inner: mysql_async::Transaction<'a>,
    follow: Guard<'a>,
}

impl<'a> Transaction<'a> {
    pub(super) async fn start(
        conn: &'a mut Conn,
        follow: &'a mut Follow,
        options: TxOpts,
    ) -> mysql_async::Result<Self> {
        follow.begin(conn)?;
        follow.record_transaction(true);
        if options.readonly() == Some(true) {
            follow.record_read_only_transaction();
        }
        let started = follow
            .unless_cut(pin!(conn.start_transaction(options)))
            .await?;
        follow.end_with_status(&started);
        Ok(Self {
            inner: started?,
            follow: Guard::new(follow),
        })
    }

    /// Commits the transaction.
    ///
    /// # Errors
    ///
    /// As [`mysql_async::Transaction::commit`]. If the connection is lost before the answer comes,
    /// the transaction may or may not have been committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the transaction may or may not be committed, and the
    /// connection is discarded.
    pub async fn commit(self) -> mysql_async::Result<()> {
        self.end_by(mysql_async::Transaction::commit).await
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    ///
    /// As [`mysql_async::Transaction::rollback`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded, which rolls back too.
    pub async fn rollback(self) -> mysql_async::Result<()> {
        self.end_by(mysql_async::Transaction::rollback).await
    }

    async fn end_by<F>(
        self,
        end: impl FnOnce(mysql_async::Transaction<'a>) -> F + Send,
    ) -> mysql_async::Result<()>
    where
        F: Future<Output = mysql_async::Result<()>> + Send,
    {
        let Self { inner, mut follow } = self;
        follow.begin(&inner)?;
        let done = follow.unless_cut(pin!(end(inner))).await?;
        follow.end_with_status(&done);
        // After a failed commit the driver rolls back; the server's status shows the outcome.
        follow.record_transaction(false);
        done
    }

    pub(super) fn parts(&mut self) -> (&mut mysql_async::Transaction<'a>, &mut Follow) {
        (&mut self.inner, &mut self.follow)
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

/// Marks the session for as long as the driver's own `Transaction` lives.
///
/// If that is leaked (`mem::forget`), the driver considers the transaction open for ever and
/// refuses to start another. The mark then stays too, so that the connection is discarded.
struct Guard<'a>(&'a mut Follow);

impl<'a> Guard<'a> {
    fn new(follow: &'a mut Follow) -> Self {
        follow.guard(true);
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
        self.0.guard(false);
    }
}
