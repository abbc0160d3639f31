//! What a caller holds: `PooledConn` and `Transaction` follow what is sent; dropping returns.

use std::{
    fmt,
    future::Future,
    ops::{Deref, DerefMut},
    panic::Location,
    pin::{Pin, pin},
    sync::Arc,
};

use mysql_async::{
    BinaryProtocol, Conn, Params, QueryResult, ResultSetStream, Statement, TextProtocol,
    ToConnectionResult, TxOpts,
    prelude::{AsQuery, FromRow, Queryable, StatementLike, ToConnection},
};

use crate::{
    engine::slots::Filled,
    error::Error,
    lifecycle::{clean as cleaning, leak::LeakWatch},
    report::discard::DiscardReason,
    session::{
        Follow, effect as sql,
        signal::Signal,
        statement::{Executable, Text},
    },
    shared::Connector,
    time::Timestamp,
};

/// A connection lent by the pool. Dropping it returns it.
///
/// Use it as the driver's [`Conn`]: it is a [`Queryable`]. `exec*` are methods of its own; for `query*`, `prep` and
/// `ping` import [`mysql_async::prelude`]. Where a function takes `&mut impl Queryable`, pass `&mut conn`; `&mut *conn` is
/// the driver's bare [`Conn`], see below.
///
/// # Cancelling
///
/// The pool follows every statement that is sent by these methods until its answer is there. If the future of one is
/// dropped before that (a time-out, `select!`, a client that has gone), the old answer is still on its way, and would
/// be taken for the answer to the next question. So this handle then refuses further commands, with an I/O error of kind
/// `ConnectionAborted` and without sending anything, and dropping it closes the connection instead of returning it. Rows
/// that are left of an answer that has begun are read by the next command, or at the return.
///
/// # The bare `Conn`
///
/// It dereferences to [`Conn`], and `&mut PooledConn` is a [`ToConnection`](mysql_async::prelude::ToConnection). What is
/// sent on the bare `Conn` is not followed. The next borrower is safe from it: such a connection is proved by a round trip
/// and reset before it is idle again. But a command that you cancel there yourself may answer your own next one.
///
/// # Dropping
///
/// Returns the connection. That never blocks and never panics, and works outside a runtime. What is left on it is put in
/// order in the background: pending rows, an open transaction, a changed session. Only then is it idle.
pub struct PooledConn {
    /// Taken by `drop` and the associated functions that consume the handle.
    filled: Option<Filled>,
    connector: Arc<Connector>,
    /// Dropped after the return.
    _leak_watch: Option<LeakWatch>,
}

impl PooledConn {
    pub(crate) fn new(
        filled: Filled,
        connector: Arc<Connector>,
        now: Timestamp,
        got_at: &'static Location<'static>,
    ) -> Self {
        connector.note_lent(&filled, now, got_at);
        Self {
            _leak_watch: LeakWatch::begin(&connector, &filled, got_at),
            filled: Some(filled),
            connector,
        }
    }

    /// Starts a transaction. Dropped without [`commit`](Transaction::commit), it is rolled back.
    ///
    /// # Errors
    ///
    /// As [`Conn::start_transaction`].
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped midway, the connection is discarded when it is returned.
    pub async fn start_transaction(
        &mut self,
        options: TxOpts,
    ) -> mysql_async::Result<Transaction<'_>> {
        let (conn, follow, cut) = self.parts();
        follow.begin(conn, cut)?;
        follow.note_transaction(true);
        if options.readonly() == Some(true) {
            follow.note_read_only_transaction();
        }
        let started = follow
            .unless_cut(cut, pin!(conn.start_transaction(options)))
            .await?;
        follow.end_with_status(&started);
        Ok(Transaction {
            inner: started?,
            follow: Guarded::begin(follow),
            cut,
        })
    }

    /// Takes the connection out of the pool for good. The pool opens another in its place.
    ///
    /// It is yours then, as it is: nothing is cleaned, and the limit does not count it any more. Do not detach a
    /// connection after a command on it was cancelled: the driver would take the old answer for that of the next command.
    #[must_use]
    pub fn detach(mut this: Self) -> Conn {
        match this.filled.take() {
            Some(filled) => {
                this.connector.note_let_go(&filled);
                let id = filled.conn.id();
                let mut tending = this.connector.slots.tend(filled);
                let session = tending.take_session();
                drop(tending);
                this.connector
                    .count_discarded(id, DiscardReason::Requested, None);
                this.connector.fill();
                match session {
                    Some(session) => session.conn,
                    None => unreachable!("a lent slot is filled"),
                }
            }
            None => unreachable!("only consuming functions take it"),
        }
    }

    /// Closes the connection instead of returning it. The pool opens another in its place.
    pub fn discard(mut this: Self) {
        if let Some(filled) = this.filled.take() {
            this.connector.note_let_go(&filled);
            cleaning::discard(&this.connector, filled, DiscardReason::Requested);
        }
    }

    fn parts(&mut self) -> (&mut Conn, &mut Follow, &Signal) {
        match &mut self.filled {
            Some(filled) => {
                let session = &mut **filled;
                (&mut session.conn, &mut session.follow, &self.connector.cut)
            }
            None => unreachable!("only consuming functions take it"),
        }
    }
}

impl Drop for PooledConn {
    fn drop(&mut self) {
        if let Some(filled) = self.filled.take() {
            cleaning::give_back(&self.connector, filled);
        }
    }
}

impl Deref for PooledConn {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match &self.filled {
            Some(filled) => &filled.conn,
            None => unreachable!("only consuming functions take it"),
        }
    }
}

impl DerefMut for PooledConn {
    fn deref_mut(&mut self) -> &mut Conn {
        let (conn, follow, _) = self.parts();
        follow.note_unfollowed(conn);
        conn
    }
}

/// Lends the driver's bare `Conn`. After a command that was cancelled it is an error instead.
impl<'a> ToConnection<'a, 'static> for &'a mut PooledConn {
    fn to_connection(self) -> ToConnectionResult<'a, 'static> {
        let (conn, follow, cut) = self.parts();
        match follow.lend(conn, cut) {
            Ok(()) => ToConnectionResult::Immediate(conn.into()),
            Err(error) => ToConnectionResult::Mediate(Box::pin(async { Err(error) })),
        }
    }
}

/// Shows the pool's name and the server's number for the connection. The driver's `Debug` would show the password.
impl fmt::Debug for PooledConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConn")
            .field("pool", &self.connector.name)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// A transaction on a [`PooledConn`], made by [`start_transaction`](PooledConn::start_transaction).
///
/// Use it like the connection: it is a [`Queryable`], with `exec*` as methods of its own. It is not the driver's type, so
/// that its statements are followed too, and it is no [`ToConnection`](mysql_async::prelude::ToConnection).
///
/// # Dropping
///
/// Without [`commit`](Self::commit) it is rolled back: with the next command on the connection, or when the connection
/// is returned.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction<'a> {
    inner: mysql_async::Transaction<'a>,
    follow: Guarded<'a>,
    cut: &'a Signal,
}

/// Marks the session for as long as the driver's own `Transaction` lives.
///
/// If that is leaked (`mem::forget`), the driver believes for ever that the transaction is open, and refuses to start
/// another. This mark stays then as well, and tells that the connection must not be lent again.
struct Guarded<'a>(&'a mut Follow);

impl<'a> Guarded<'a> {
    fn begin(follow: &'a mut Follow) -> Self {
        follow.guarded = true;
        Self(follow)
    }
}

impl Deref for Guarded<'_> {
    type Target = Follow;

    fn deref(&self) -> &Follow {
        self.0
    }
}

impl DerefMut for Guarded<'_> {
    fn deref_mut(&mut self) -> &mut Follow {
        self.0
    }
}

impl Drop for Guarded<'_> {
    fn drop(&mut self) {
        self.0.guarded = false;
    }
}

impl<'a> Transaction<'a> {
    /// Commits the transaction.
    ///
    /// # Errors
    ///
    /// As [`mysql_async::Transaction::commit`]. If the connection was lost before the answer came, the transaction may
    /// have been committed or not.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, the transaction may be committed or not; the connection is discarded.
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
    /// Dropped midway, the connection is discarded, which rolls back too.
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
        let Self {
            inner,
            mut follow,
            cut,
        } = self;
        follow.begin(&inner, cut)?;
        let done = follow.unless_cut(cut, pin!(end(inner))).await?;
        follow.end_with_status(&done);
        // After a failed commit the driver rolls back; the server's status tells how that went.
        follow.note_transaction(false);
        done
    }

    fn parts(&mut self) -> (&mut mysql_async::Transaction<'a>, &mut Follow, &Signal) {
        (&mut self.inner, &mut self.follow, self.cut)
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

/// Refuses a statement that was prepared on another connection: its number means another statement here, or none.
fn refuse_foreign(statement: &impl Executable, conn: &Conn) -> mysql_async::Result<()> {
    match statement.text() {
        Text::Prepared(prepared) if prepared.connection_id() != conn.id() => {
            Err(Error::ForeignStatement.into())
        }
        _ => Ok(()),
    }
}

/// What the driver's trait returns; its own name for it is private.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = mysql_async::Result<T>> + Send + 'a>>;

/// Executes statements whose text can be seen. An inherent method takes precedence over that of the driver's trait with
/// the same name, so that callers need not know of these.
macro_rules! execute_statements {
    ($type:ident $(<$lifetime:lifetime>)?) => {
        /// Executing statements: the `exec*` methods of the driver's [`Queryable`], which take precedence over those,
        /// and which see the statement's text, to judge whether it changes the session ([`Reset`](crate::Reset)).
        ///
        /// If one is cancelled, its statement may have been executed or not.
        impl $(<$lifetime>)? $type $(<$lifetime>)? {
            /// Executes a statement, and returns its result, to be read row by row.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_iter`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec_iter<Q, P>(
                &mut self,
                statement: Q,
                params: P,
            ) -> mysql_async::Result<QueryResult<'_, 'static, BinaryProtocol>>
            where
                Q: Executable,
                P: Into<Params>,
            {
                let params = params.into();
                let (conn, follow, cut) = self.parts();
                refuse_foreign(&statement, conn)?;
                follow.begin(conn, cut)?;
                follow.note_executed(statement.text());
                follow.note_prepare();
                let outcome = follow.unless_cut(cut, conn.exec_iter(statement, params)).await?;
                follow.end_with_status(&outcome);
                outcome
            }

            /// Executes a statement once for each set of parameters.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_batch`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec_batch<S, P, I>(&mut self, statement: S, params_iter: I) -> mysql_async::Result<()>
            where
                S: Executable,
                I: IntoIterator<Item = P> + Send,
                I::IntoIter: Send,
                P: Into<Params> + Send,
            {
                let (conn, follow, cut) = self.parts();
                refuse_foreign(&statement, conn)?;
                follow.begin(conn, cut)?;
                follow.note_executed(statement.text());
                follow.note_prepare();
                let outcome = follow.unless_cut(cut, conn.exec_batch(statement, params_iter)).await?;
                follow.end(&outcome);
                outcome
            }

            /// Executes a statement, and collects the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec<T, S, P>(&mut self, statement: S, params: P) -> mysql_async::Result<Vec<T>>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
            {
                self.exec_iter(statement, params).await?.collect_and_drop().await
            }

            /// Executes a statement, and returns the first row of its first result set, if there is one.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_first`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec_first<T, S, P>(&mut self, statement: S, params: P) -> mysql_async::Result<Option<T>>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
            {
                let mut result = self.exec_iter(statement, params).await?;
                let row = if result.is_empty() { None } else { result.next().await? };
                result.drop_result().await?;
                Ok(row.map(mysql_async::from_row))
            }

            /// Executes a statement, and maps each row of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_map`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec_map<T, S, P, U, F>(
                &mut self,
                statement: S,
                params: P,
                mut map: F,
            ) -> mysql_async::Result<Vec<U>>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send,
                U: Send,
            {
                let collect = |mut all: Vec<U>, row: T| {
                    all.push(map(row));
                    all
                };
                self.exec_iter(statement, params).await?.reduce_and_drop(Vec::new(), collect).await
            }

            /// Executes a statement, and folds the rows of its first result set into one value.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_fold`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec_fold<T, S, P, U, F>(
                &mut self,
                statement: S,
                params: P,
                init: U,
                fold: F,
            ) -> mysql_async::Result<U>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
                F: FnMut(U, T) -> U + Send,
                U: Send,
            {
                self.exec_iter(statement, params).await?.reduce_and_drop(init, fold).await
            }

            /// Executes a statement whose result is not needed.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_drop`].
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned.
            pub async fn exec_drop<S, P>(&mut self, statement: S, params: P) -> mysql_async::Result<()>
            where
                S: Executable,
                P: Into<Params> + Send,
            {
                self.exec_iter(statement, params).await?.drop_result().await
            }

            /// Executes a statement, and streams the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_stream`]; and [`Error::NoResultSet`], as a [`mysql_async::Error::Other`], where the
            /// statement has no result set: the driver's method panics there.
            ///
            /// # Cancel safety
            ///
            /// Dropped midway, the connection is discarded when it is returned. The stream itself may be dropped
            /// at any time: at the return the pool reads what is left of it, or closes the connection if that is much.
            pub async fn exec_stream<T, Q, P>(
                &mut self,
                statement: Q,
                params: P,
            ) -> mysql_async::Result<ResultSetStream<'_, '_, 'static, T, BinaryProtocol>>
            where
                T: Unpin + FromRow + Send + 'static,
                Q: Executable,
                P: Into<Params> + Send,
            {
                let stream = self.exec_iter(statement, params).await?.stream_and_drop().await?;
                stream.ok_or_else(|| Error::NoResultSet.into())
            }
        }
    };
}

execute_statements!(PooledConn);
execute_statements!(Transaction<'a>);

/// Follows each command from before it is sent until its future has completed. A future dropped
/// in between leaves the mark `begin` made, and the mark means discard.
macro_rules! follow_commands {
    ($type:ty) => {
        impl Queryable for $type {
            fn ping(&mut self) -> BoxFuture<'_, ()> {
                let (conn, follow, cut) = self.parts();
                Box::pin(async move {
                    follow.begin(conn, cut)?;
                    let outcome = follow.unless_cut(cut, conn.ping()).await?;
                    follow.end_with_status(&outcome);
                    outcome
                })
            }

            fn query_iter<'a, Q>(
                &'a mut self,
                query: Q,
            ) -> BoxFuture<'a, QueryResult<'a, 'static, TextProtocol>>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow, cut) = self.parts();
                Box::pin(async move {
                    follow.begin(conn, cut)?;
                    follow.note_text(&query.as_query());
                    let outcome = follow.unless_cut(cut, conn.query_iter(query)).await?;
                    follow.end_with_status(&outcome);
                    outcome
                })
            }

            fn prep<'a, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Statement>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow, cut) = self.parts();
                Box::pin(async move {
                    follow.begin(conn, cut)?;
                    follow.note_prepare();
                    let effect = sql::effect_of(&query.as_query());
                    let outcome = follow.unless_cut(cut, conn.prep(query)).await?;
                    follow.end(&outcome);
                    if let Ok(statement) = &outcome {
                        follow.remember(statement, effect);
                    }
                    outcome
                })
            }

            fn close(&mut self, statement: Statement) -> BoxFuture<'_, ()> {
                let (conn, follow, cut) = self.parts();
                Box::pin(async move {
                    follow.begin(conn, cut)?;
                    let outcome = follow.unless_cut(cut, conn.close(statement)).await?;
                    follow.end(&outcome);
                    outcome
                })
            }

            fn exec_iter<'a: 's, 's, Q, P>(
                &'a mut self,
                statement: Q,
                params: P,
            ) -> BoxFuture<'s, QueryResult<'a, 'static, BinaryProtocol>>
            where
                Q: StatementLike + 's,
                P: Into<Params>,
            {
                let (conn, follow, cut) = self.parts();
                let params = params.into();
                Box::pin(async move {
                    follow.begin(conn, cut)?;
                    // The driver's trait does not show what it is.
                    follow.note_unseen();
                    follow.note_prepare();
                    let outcome = follow
                        .unless_cut(cut, conn.exec_iter(statement, params))
                        .await?;
                    follow.end_with_status(&outcome);
                    outcome
                })
            }

            fn exec_batch<'a: 'b, 'b, S, P, I>(
                &'a mut self,
                statement: S,
                params_iter: I,
            ) -> BoxFuture<'b, ()>
            where
                S: StatementLike + 'b,
                I: IntoIterator<Item = P> + Send + 'b,
                I::IntoIter: Send,
                P: Into<Params> + Send,
            {
                let (conn, follow, cut) = self.parts();
                Box::pin(async move {
                    follow.begin(conn, cut)?;
                    // The driver's trait does not show what it is.
                    follow.note_unseen();
                    follow.note_prepare();
                    let outcome = follow
                        .unless_cut(cut, conn.exec_batch(statement, params_iter))
                        .await?;
                    follow.end(&outcome);
                    outcome
                })
            }
        }
    };
}

follow_commands!(PooledConn);
follow_commands!(Transaction<'_>);
