//! `PooledConn`, which a caller holds: it follows each command to its end, and dropping it returns
//! the connection.

mod batch;
mod closure;
pub(crate) mod commands;
mod executor;
mod holder;
mod methods;
mod owned;
mod queryable;
pub(crate) mod read;
mod savepoint;
mod stream;
mod target;
mod transaction;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    panic::Location,
    sync::Arc,
};

use mysql_async::{Conn, ToConnectionResult, TxOpts, prelude::ToConnection};

use crate::{
    engine::slots::Lease,
    lifecycle::{discard, get::CalledAt, give_back},
    report::DiscardReason,
    session::follow::Follow,
    shared::Shared,
    telemetry::Caller,
};

pub(crate) use self::{closure::Attempt, executor::Run};
pub use self::{
    executor::Executor, owned::OwnedTransaction, savepoint::Savepoint, stream::RowStream,
    transaction::Transaction,
};

/// A connection from the pool. Dropping it returns it.
///
/// ```no_run
/// use mysql_warm_pool::mysql_async::params;
///
/// # async fn run(pool: mysql_warm_pool::Pool) -> Result<(), mysql_warm_pool::Error> {
/// let mut conn = pool.get().await?;
/// conn.exec_drop("INSERT INTO item (name) VALUES (:name)", params! {"name" => "pear"}).await?;
/// let id = conn.last_insert_id(); // Of this caller's own statement, so before the return.
/// let items: Vec<(u64, String)> = conn.query("SELECT id, name FROM item").await?;
/// drop(conn); // Do not hold it while waiting for anything else.
/// println!("{id:?}: one of {}", items.len());
/// # Ok(())
/// # }
/// ```
///
/// Use it like the driver's [`Conn`]: it implements [`Queryable`](mysql_async::prelude::Queryable).
/// `exec*` and `query*` are methods of its own; for `prep` and `ping` import
/// [`mysql_async::prelude`]. In functions for both connections and transactions, take
/// `&mut impl` [`Executor`]. Where a function takes `&mut impl Queryable`, pass `&mut conn`;
/// `&mut *conn` is the driver's bare [`Conn`], see below.
///
/// # Cancelling
///
/// The pool follows every statement sent by these methods until its answer has arrived. If the
/// future of one is dropped before that (a timeout, `select!`, a client that has gone), the old
/// answer is still on its way, and would be taken for the answer to the next statement. So this
/// handle then refuses further statements with
/// [`Error::ConnectionLost`](crate::Error::ConnectionLost) and sends nothing, and dropping it
/// closes the connection instead of returning it. If the answer has begun, the next statement or
/// the return reads the rest of its rows.
///
/// The setting [`on_cancel`](field@crate::PoolConfig::on_cancel) decides what happens to the
/// statement on the server.
///
/// ```no_run
/// use std::time::Duration;
///
/// use tokio::time::timeout;
///
/// # async fn run(pool: mysql_warm_pool::Pool) -> Result<(), mysql_warm_pool::Error> {
/// let mut conn = pool.get().await?;
/// let count = conn.query_first::<u64, _>("SELECT COUNT(*) FROM orders");
/// if timeout(Duration::from_secs(1), count).await.is_err() {
///     drop(conn); // Closes it: it would refuse further statements.
///     conn = pool.get().await?;
/// }
/// conn.query_drop("INSERT INTO report () VALUES ()").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Prepared statements
///
/// A [`Statement`](mysql_async::Statement) that `prep` returned stands for its text, for as long as
/// you hold the connection: if the driver has closed it meanwhile, it is prepared again. If the
/// server has forgotten the session's statements, nothing is executed, and the connection returns
/// [`Error::SessionLost`](crate::Error::SessionLost) from then on.
///
/// # The bare `Conn`
///
/// It dereferences to [`Conn`], and `&mut PooledConn` is a
/// [`ToConnection`](mysql_async::prelude::ToConnection). What is sent on the bare `Conn` is not
/// followed. The next caller is safe: such a connection is reset and validated before it is idle
/// again, which takes two round trips in the background (more if a transaction is open, or for
/// `init`, `prepare` and `on_connect`). The pool counts such returns
/// ([`cleanings`](crate::metrics::PoolMetrics::cleanings), `unfollowed`), and logs each place once
/// at DEBUG. But if you cancel a statement on the bare `Conn`, your own next statement may get the
/// old answer.
///
/// The bare `Conn` is used by functions that take `&mut Conn`, and by the driver's fluent style,
/// `"SELECT ..".with((1,)).first(&mut conn)`. It is not used by `query*` and `exec*`, neither by
/// those of this type nor by those of [`Queryable`](mysql_async::prelude::Queryable) on `&mut
/// conn`.
///
/// # Dropping
///
/// Returns the connection. That never blocks and never panics, and works outside a runtime. Pending
/// rows, an open transaction or a changed session are cleaned in the background, before the
/// connection becomes idle.
pub struct PooledConn {
    /// Taken by `drop` and by the associated functions that consume the handle.
    lease: Option<Lease>,
    shared: Arc<Shared>,
    /// Where the caller got it.
    got_at: CalledAt,
}

impl PooledConn {
    pub(crate) fn new(lease: Lease, shared: Arc<Shared>, got_at: CalledAt) -> Self {
        Self {
            lease: Some(lease),
            shared,
            got_at,
        }
    }

    /// Starts a transaction. Dropped without [`commit`](Transaction::commit), it is rolled back.
    ///
    /// The options are an isolation level, read-only, or a consistent snapshot;
    /// `TxOpts::default()` takes those of the session.
    ///
    /// # Errors
    ///
    /// As [`Conn::start_transaction`]. Inside a [`mysql_async::Error::Other`], where
    /// [`Error::of`](crate::Error::of) finds them:
    ///
    /// - [`Error::InTransaction`](crate::Error::InTransaction) if a transaction is open that was
    ///   begun by a statement, because the server would commit it. One that was dropped is rolled
    ///   back first;
    /// - [`Error::ConnectionLost`](crate::Error::ConnectionLost) if an earlier statement was
    ///   cancelled or the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded when it is returned.
    pub async fn start_transaction(
        &mut self,
        options: TxOpts,
    ) -> mysql_async::Result<Transaction<'_>> {
        let (conn, follow, caller) = self.parts();
        Transaction::start(conn, follow, caller, options).await
    }

    /// Takes the connection out of the pool for good. The pool opens another in its place.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, Pool, PooledConn};
    ///
    /// # async fn take(pool: &Pool) -> Result<(), Error> {
    /// let conn = PooledConn::detach(pool.get().await?);
    /// // ... and at the end:
    /// conn.disconnect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For uses that take over the connection, such as reading the binlog. The connection is handed
    /// over as it is: nothing is cleaned, and it no longer counts towards the limit. Its socket
    /// stays on the pool's runtime, and works as long as that is driven. Do not detach a connection
    /// after cancelling a statement on it: the driver would take the old answer for the answer to
    /// the next statement. Do not detach one on which a [`Transaction`] was dropped either: if the
    /// server refuses the rollback, the driver repeats it without end once the `Conn` is dropped.
    #[must_use]
    pub fn detach(mut this: Self) -> Conn {
        match this.lease.take() {
            Some(lease) => {
                give_back::end_hold(&this.shared, &lease);
                discard::detach(&this.shared, lease)
            }
            None => unreachable!("only consuming functions take the lease"),
        }
    }

    /// Closes the connection instead of returning it, as in `PooledConn::discard(conn)`. The pool
    /// opens another in its place.
    ///
    /// For a connection whose session you no longer trust. After an error or a cancelled statement
    /// there is no need: the pool decides by itself what it keeps.
    pub fn discard(mut this: Self) {
        if let Some(lease) = this.lease.take() {
            give_back::end_hold(&this.shared, &lease);
            discard::discard(&this.shared, lease, DiscardReason::Requested);
        }
    }

    fn parts(&mut self) -> (&mut Conn, &mut Follow, Caller<'_>) {
        match &mut self.lease {
            Some(lease) => {
                let session = &mut **lease;
                let caller = Caller {
                    queries: &self.shared.queries,
                    got_at: self.got_at,
                    connection: session.origin.id,
                };
                (&mut session.conn, &mut session.follow, caller)
            }
            None => unreachable!("only consuming functions take the lease"),
        }
    }
}

impl Drop for PooledConn {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            give_back::give_back(&self.shared, lease);
        }
    }
}

impl Deref for PooledConn {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match &self.lease {
            Some(lease) => &lease.conn,
            None => unreachable!("only consuming functions take the lease"),
        }
    }
}

impl DerefMut for PooledConn {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut Conn {
        let used_at = Location::caller();
        self.shared.unfollowed_uses.log(&self.shared.name, used_at);
        let (conn, follow, _) = self.parts();
        follow.record_unfollowed(conn);
        conn
    }
}

/// Hands out the driver's bare `Conn`, or an error if a statement on it was cancelled.
impl<'a> ToConnection<'a, 'static> for &'a mut PooledConn {
    fn to_connection(self) -> ToConnectionResult<'a, 'static> {
        // It is the driver that calls this.
        let got_at = self.got_at;
        self.shared.unfollowed_uses.log(&self.shared.name, got_at);
        let (conn, follow, _) = self.parts();
        match follow.unfollow(conn) {
            Ok(()) => ToConnectionResult::Immediate(conn.into()),
            Err(error) => ToConnectionResult::Mediate(Box::pin(async { Err(error) })),
        }
    }
}

/// Shows the pool's name and the server's connection id. The driver's `Debug` would show the
/// password.
impl fmt::Debug for PooledConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConn")
            .field("pool", &self.shared.name)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
