//! The commands that callers send: the `exec*` methods and the driver's `Queryable`, each followed
//! to its end.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use mysql_async::{
    BinaryProtocol, Params, QueryResult, Statement, TextProtocol,
    prelude::{AsQuery, FromRow, Protocol, Queryable, StatementLike},
};

use crate::{
    error::{Error, forgets_statements},
    session::{
        effect::control::{begins_transaction, is_rollback},
        follow::Follow,
        statement::{Executable, Text},
        statements::{Prepared, Unsure},
    },
};

use super::{
    PooledConn, Transaction,
    batch::Rows,
    stream::RowStream,
    target::{Target, begin},
};

/// The return type of the driver's trait methods. The driver's own alias for it is private.
pub(super) type BoxFuture<'a, T> =
    Pin<Box<dyn Future<Output = mysql_async::Result<T>> + Send + 'a>>;

/// Sends a text, and waits for the beginning of the answer.
async fn query<'a, C: Target, Q: AsQuery + 'a>(
    conn: &'a mut C,
    follow: &mut Follow,
    query: Q,
) -> mysql_async::Result<QueryResult<'a, 'static, TextProtocol>> {
    begin(conn, follow).await?;
    record_text::<C>(follow, &query.as_query())?;
    let outcome = follow.unless_cut(conn.query_iter(query)).await?;
    follow.end_with_status(&outcome);
    outcome
}

/// Records a text about to be sent, unless it would commit the transaction it is meant for to begin
/// another one.
fn record_text<C: Target>(follow: &mut Follow, text: &[u8]) -> mysql_async::Result<()> {
    if C::IS_TRANSACTION {
        if begins_transaction(text) {
            return Err(follow.refuse(Error::InTransaction));
        }
        if is_rollback(text) {
            follow.record_rollback();
        }
    }
    follow.record_text(text);
    Ok(())
}

/// Executes a statement, and waits for the beginning of the answer.
async fn execute<'a, C: Target>(
    conn: &'a mut C,
    follow: &mut Follow,
    text: Text<'_>,
    params: Params,
) -> mysql_async::Result<QueryResult<'a, 'static, BinaryProtocol>> {
    let statement = find(conn, follow, text).await?;
    let outcome = follow.unless_cut(conn.exec_iter(statement, params)).await?;
    finish(follow, outcome)
}

/// Executes a statement whose text the driver's trait does not show.
async fn execute_unseen<'a, C: Target>(
    conn: &'a mut C,
    follow: &mut Follow,
    statement: impl StatementLike,
    params: Params,
) -> mysql_async::Result<QueryResult<'a, 'static, BinaryProtocol>> {
    begin(conn, follow).await?;
    follow.record_unseen_execution(conn.conn());
    let outcome = follow.unless_cut(conn.exec_iter(statement, params)).await?;
    finish(follow, outcome)
}

/// Executes a statement for each row of parameters.
async fn execute_batch<C: Target, P: Into<Params>>(
    conn: &mut C,
    follow: &mut Follow,
    text: Text<'_>,
    rows: impl Iterator<Item = P> + Send,
) -> mysql_async::Result<()> {
    let statement = find(conn, follow, text).await?;
    let max_packet = conn.conn().opts().max_allowed_packet();
    let mut rows = Rows::new(rows, statement.num_params(), max_packet);
    let outcome = loop {
        let run = match rows.next_run() {
            Ok(Some(run)) => run,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        let sending = conn.exec_batch(&statement, run);
        let outcome = follow.unless_cut(sending).await?;
        if outcome.is_err() {
            break outcome;
        }
    };
    if rows.taken() == 0 {
        // Nothing was executed, so there is no answer with a status.
        follow.end(&outcome);
        return outcome;
    }
    finish(follow, outcome)
}

/// Marks an execution as followed to its end.
fn finish<T>(follow: &mut Follow, outcome: mysql_async::Result<T>) -> mysql_async::Result<T> {
    if let Err(error) = &outcome
        && forgets_statements(error)
    {
        return Err(follow.lose_session());
    }
    follow.end_with_status(&outcome);
    outcome
}

/// Begins the execution of a statement, and finds or prepares it.
///
/// A statement that a caller was given stands for its text: the driver may have closed it, and its
/// id may be another one's.
async fn find<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    text: Text<'_>,
) -> mysql_async::Result<Statement> {
    let given;
    let text = match text {
        Text::Sql(text) => text,
        Text::Prepared(statement) => {
            let is_foreign = statement.connection_id() != conn.conn().id();
            given = follow.statements.text_of(statement);
            match &given {
                Some(text) if !is_foreign => &**text,
                // Perhaps it was prepared on the bare `Conn`.
                None if !is_foreign && follow.is_unfollowed() => {
                    begin(conn, follow).await?;
                    if follow.statements.is_taken(statement) {
                        return Err(follow.lose_session());
                    }
                    follow.record_unseen();
                    return Ok(statement.clone());
                }
                _ => return Err(Error::ForeignStatement.into()),
            }
        }
    };
    begin(conn, follow).await?;
    let (statement, about) = match follow.statements.ready(text) {
        Some((statement, about)) => (statement.clone(), about),
        None => prepare(conn, follow, text).await?,
    };
    if C::IS_TRANSACTION && about.begins {
        return Err(follow.refuse(Error::InTransaction));
    }
    follow.record_effect(about.effect);
    Ok(statement)
}

/// Has the driver prepare a text, or look it up in its cache. If this fails, the command that was
/// begun has ended with this error.
async fn prepare<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    text: &[u8],
) -> mysql_async::Result<(Statement, Prepared)> {
    follow.record_prepare(conn.conn());
    let (outcome, is_cached) = {
        let mut preparing = conn.prep(text);
        // Only what comes from the driver's cache is there at once.
        let at_once = if follow.statements.is_in_doubt() {
            poll_fn(|cx| Poll::Ready(preparing.as_mut().poll(cx))).await
        } else {
            Poll::Pending
        };
        match at_once {
            Poll::Ready(outcome) => (outcome, true),
            Poll::Pending => (follow.unless_cut(preparing).await?, false),
        }
    };
    let statement = ended_by_error(follow, outcome)?;
    match follow.statements.record(text, &statement, is_cached) {
        Ok(about) => return Ok((statement, about)),
        Err(Unsure::Collision) => return Err(follow.lose_session()),
        Err(Unsure::InDoubt) => {}
    }
    let outcome = follow.unless_cut(conn.close(statement)).await?;
    ended_by_error(follow, outcome)?;
    let outcome = follow.unless_cut(conn.prep(text)).await?;
    let statement = ended_by_error(follow, outcome)?;
    match follow.statements.record(text, &statement, false) {
        Ok(about) => Ok((statement, about)),
        Err(_) => Err(follow.lose_session()),
    }
}

/// If this is an error, the command that was begun has ended with it.
fn ended_by_error<T>(
    follow: &mut Follow,
    outcome: mysql_async::Result<T>,
) -> mysql_async::Result<T> {
    if outcome.is_err() {
        follow.end(&outcome);
    }
    outcome
}

/// Prepares a text for a caller.
async fn prepare_for_caller<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    query: impl AsQuery,
) -> mysql_async::Result<Statement> {
    begin(conn, follow).await?;
    let text = query.as_query();
    let ready = follow.statements.ready(&text);
    let statement = match ready.map(|(statement, _)| statement.clone()) {
        Some(statement) => statement,
        None => prepare(conn, follow, &text).await?.0,
    };
    follow.end(&Ok(()));
    follow.statements.hand_out(&text, &statement);
    Ok(statement)
}

/// Reads the first row of a result, and skips the others.
async fn first<T, P>(mut result: QueryResult<'_, '_, P>) -> mysql_async::Result<Option<T>>
where
    T: FromRow + Send + 'static,
    P: Protocol,
{
    let row = if result.is_empty() {
        None
    } else {
        result.next().await?
    };
    result.drop_result().await?;
    Ok(row.map(mysql_async::from_row))
}

/// Reads and maps the rows of a result.
async fn map_all<T, P, U>(
    result: QueryResult<'_, '_, P>,
    mut map: impl FnMut(T) -> U + Send,
) -> mysql_async::Result<Vec<U>>
where
    T: FromRow + Send + 'static,
    P: Protocol,
{
    let collect = |mut all: Vec<U>, row: T| {
        all.push(map(row));
        all
    };
    result.reduce_and_drop(Vec::new(), collect).await
}

/// Streams the rows of a result.
async fn stream<'a, T, P>(
    result: QueryResult<'a, 'static, P>,
    follow: &'a mut Follow,
) -> mysql_async::Result<RowStream<'a, T, P>>
where
    T: Unpin + FromRow + Send + 'static,
    P: Protocol + Unpin,
{
    if result.columns_ref().is_empty() {
        follow.read(result.drop_result()).await?;
        return Err(Error::NoResultSet.into());
    }
    let rows = follow.read(result.stream_and_drop()).await?;
    match rows {
        Some(rows) => Ok(RowStream::new(rows, follow)),
        None => Err(Error::NoResultSet.into()),
    }
}

/// Implements `exec*` as methods of the type itself, which see the statement's text. They take
/// precedence over the methods of the driver's trait with the same names.
macro_rules! execute_statements {
    ($type:ident $(<$lifetime:lifetime>)?) => {
        /// Methods that execute statements. They take precedence over the methods of the same names
        /// in the driver's [`Queryable`]. Unlike those they see the statement's text, so that the
        /// pool knows whether to reset the session at the return ([`Reset`](crate::Reset)).
        ///
        /// If a call is cancelled, its statement may or may not have been executed. After that, and
        /// after the connection was lost, each of them returns an I/O error and sends nothing.
        /// These errors come inside a [`mysql_async::Error::Other`]: [`Error::ForeignStatement`] for
        /// a statement that was prepared on another connection, and [`Error::SessionLost`] if the
        /// server has forgotten the session's prepared statements. Nothing is executed then.
        impl $(<$lifetime>)? $type $(<$lifetime>)? {
            /// Executes a statement, and returns its result, to be read row by row.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_iter`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
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
                let (conn, follow) = self.parts();
                execute(conn, follow, statement.text(), params).await
            }

            /// Executes a statement once for each set of parameters, in order. Their types may
            /// differ from one to the next.
            ///
            /// On MariaDB, many of them go in one command, with the driver's `exec_batch`.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_batch`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_batch<S, P, I>(&mut self, statement: S, params_iter: I) -> mysql_async::Result<()>
            where
                S: Executable,
                I: IntoIterator<Item = P> + Send,
                I::IntoIter: Send,
                P: Into<Params> + Send,
            {
                let (conn, follow) = self.parts();
                execute_batch(conn, follow, statement.text(), params_iter.into_iter()).await
            }

            /// Executes a statement, and collects the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            ///
            /// # Panics
            ///
            /// If a row does not convert to `T`, as in the driver's method.
            pub async fn exec<T, S, P>(&mut self, statement: S, params: P) -> mysql_async::Result<Vec<T>>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
            {
                let params = params.into();
                let (conn, follow) = self.parts();
                let result = execute(conn, follow, statement.text(), params).await?;
                follow.read(result.collect_and_drop()).await
            }

            /// Executes a statement, and returns the first row of its first result set, if any.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_first`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            ///
            /// # Panics
            ///
            /// If a row does not convert to `T`, as in the driver's method.
            pub async fn exec_first<T, S, P>(&mut self, statement: S, params: P) -> mysql_async::Result<Option<T>>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
            {
                let params = params.into();
                let (conn, follow) = self.parts();
                let result = execute(conn, follow, statement.text(), params).await?;
                follow.read(first(result)).await
            }

            /// Executes a statement, and maps each row of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_map`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            ///
            /// # Panics
            ///
            /// If a row does not convert to `T`, as in the driver's method.
            pub async fn exec_map<T, S, P, U, F>(
                &mut self,
                statement: S,
                params: P,
                map: F,
            ) -> mysql_async::Result<Vec<U>>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send,
                U: Send,
            {
                let params = params.into();
                let (conn, follow) = self.parts();
                let result = execute(conn, follow, statement.text(), params).await?;
                follow.read(map_all(result, map)).await
            }

            /// Executes a statement, and folds the rows of its first result set into one value.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_fold`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            ///
            /// # Panics
            ///
            /// If a row does not convert to `T`, as in the driver's method.
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
                let params = params.into();
                let (conn, follow) = self.parts();
                let result = execute(conn, follow, statement.text(), params).await?;
                follow.read(result.reduce_and_drop(init, fold)).await
            }

            /// Executes a statement whose result is not needed.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_drop`].
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_drop<S, P>(&mut self, statement: S, params: P) -> mysql_async::Result<()>
            where
                S: Executable,
                P: Into<Params> + Send,
            {
                let params = params.into();
                let (conn, follow) = self.parts();
                let result = execute(conn, follow, statement.text(), params).await?;
                follow.read(result.drop_result()).await
            }

            /// Executes a statement, and streams the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_stream`]. Also [`Error::NoResultSet`], inside a
            /// [`mysql_async::Error::Other`], if the statement has no result set, for which the
            /// driver's method panics.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            /// The stream itself may be dropped at any time: at the return the pool reads the
            /// remaining rows, or closes the connection if there are too many.
            ///
            /// # Panics
            ///
            /// The stream panics if a row does not convert to `T`, as the driver's does.
            pub async fn exec_stream<T, Q, P>(
                &mut self,
                statement: Q,
                params: P,
            ) -> mysql_async::Result<RowStream<'_, T, BinaryProtocol>>
            where
                T: Unpin + FromRow + Send + 'static,
                Q: Executable,
                P: Into<Params> + Send,
            {
                let params = params.into();
                let (conn, follow) = self.parts();
                let result = execute(conn, follow, statement.text(), params).await?;
                stream(result, follow).await
            }

            /// Sends a text, and streams the rows of its first result set.
            ///
            /// It takes precedence over the driver's method of that name, whose stream the pool
            /// cannot cut off.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query_stream`]. Also [`Error::NoResultSet`], inside a
            /// [`mysql_async::Error::Other`], if the statement has no result set.
            ///
            /// # Cancel safety
            ///
            /// As [`exec_stream`](Self::exec_stream).
            ///
            /// # Panics
            ///
            /// The stream panics if a row does not convert to `T`, as the driver's does.
            pub async fn query_stream<'s, T, Q>(
                &'s mut self,
                query: Q,
            ) -> mysql_async::Result<RowStream<'s, T, TextProtocol>>
            where
                T: Unpin + FromRow + Send + 'static,
                Q: AsQuery + 's,
            {
                let (conn, follow) = self.parts();
                let result = self::query(conn, follow, query).await?;
                stream(result, follow).await
            }
        }
    };
}

execute_statements!(PooledConn);
execute_statements!(Transaction<'a>);

/// Implements the driver's trait by following each command from before it is sent until its future
/// has completed. A future dropped in between leaves the mark that `begin` made, and the mark means
/// discard.
macro_rules! follow_commands {
    ($type:ty) => {
        impl Queryable for $type {
            fn ping(&mut self) -> BoxFuture<'_, ()> {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    begin(conn, follow).await?;
                    let outcome = follow.unless_cut(conn.ping()).await?;
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
                let (conn, follow) = self.parts();
                Box::pin(self::query(conn, follow, query))
            }

            fn prep<'a, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Statement>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow) = self.parts();
                Box::pin(prepare_for_caller(conn, follow, query))
            }

            fn close(&mut self, statement: Statement) -> BoxFuture<'_, ()> {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    begin(conn, follow).await?;
                    follow.statements.record_closed(&statement);
                    let outcome = follow.unless_cut(conn.close(statement)).await?;
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
                let (conn, follow) = self.parts();
                Box::pin(execute_unseen(conn, follow, statement, params.into()))
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
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    begin(conn, follow).await?;
                    follow.record_unseen_execution(conn.conn());
                    let outcome = follow
                        .unless_cut(conn.exec_batch(statement, params_iter))
                        .await?;
                    if let Err(error) = &outcome
                        && forgets_statements(error)
                    {
                        return Err(follow.lose_session());
                    }
                    follow.end(&outcome);
                    outcome
                })
            }

            // The driver's own versions of the methods below read the rows where the pool cannot
            // cut them off.

            fn query<'a, T, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Vec<T>>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = self::query(conn, follow, query).await?;
                    follow.read(result.collect_and_drop()).await
                })
            }

            fn query_first<'a, T, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Option<T>>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = self::query(conn, follow, query).await?;
                    follow.read(first(result)).await
                })
            }

            fn query_map<'a, T, F, Q, U>(&'a mut self, query: Q, map: F) -> BoxFuture<'a, Vec<U>>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send + 'a,
                U: Send,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = self::query(conn, follow, query).await?;
                    follow.read(map_all(result, map)).await
                })
            }

            fn query_fold<'a, T, F, Q, U>(
                &'a mut self,
                query: Q,
                init: U,
                fold: F,
            ) -> BoxFuture<'a, U>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
                F: FnMut(U, T) -> U + Send + 'a,
                U: Send + 'a,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = self::query(conn, follow, query).await?;
                    follow.read(result.reduce_and_drop(init, fold)).await
                })
            }

            fn query_drop<'a, Q>(&'a mut self, query: Q) -> BoxFuture<'a, ()>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = self::query(conn, follow, query).await?;
                    follow.read(result.drop_result()).await
                })
            }

            fn exec<'a: 'b, 'b, T, S, P>(
                &'a mut self,
                statement: S,
                params: P,
            ) -> BoxFuture<'b, Vec<T>>
            where
                S: StatementLike + 'b,
                P: Into<Params> + Send + 'b,
                T: FromRow + Send + 'static,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = execute_unseen(conn, follow, statement, params.into()).await?;
                    follow.read(result.collect_and_drop()).await
                })
            }

            fn exec_first<'a: 'b, 'b, T, S, P>(
                &'a mut self,
                statement: S,
                params: P,
            ) -> BoxFuture<'b, Option<T>>
            where
                S: StatementLike + 'b,
                P: Into<Params> + Send + 'b,
                T: FromRow + Send + 'static,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = execute_unseen(conn, follow, statement, params.into()).await?;
                    follow.read(first(result)).await
                })
            }

            fn exec_map<'a: 'b, 'b, T, S, P, U, F>(
                &'a mut self,
                statement: S,
                params: P,
                map: F,
            ) -> BoxFuture<'b, Vec<U>>
            where
                S: StatementLike + 'b,
                P: Into<Params> + Send + 'b,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send + 'a,
                U: Send + 'a,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = execute_unseen(conn, follow, statement, params.into()).await?;
                    follow.read(map_all(result, map)).await
                })
            }

            fn exec_fold<'a: 'b, 'b, T, S, P, U, F>(
                &'a mut self,
                statement: S,
                params: P,
                init: U,
                fold: F,
            ) -> BoxFuture<'b, U>
            where
                S: StatementLike + 'b,
                P: Into<Params> + Send + 'b,
                T: FromRow + Send + 'static,
                F: FnMut(U, T) -> U + Send + 'a,
                U: Send + 'a,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = execute_unseen(conn, follow, statement, params.into()).await?;
                    follow.read(result.reduce_and_drop(init, fold)).await
                })
            }

            fn exec_drop<'a: 'b, 'b, S, P>(
                &'a mut self,
                statement: S,
                params: P,
            ) -> BoxFuture<'b, ()>
            where
                S: StatementLike + 'b,
                P: Into<Params> + Send + 'b,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    let result = execute_unseen(conn, follow, statement, params.into()).await?;
                    follow.read(result.drop_result()).await
                })
            }
        }
    };
}

follow_commands!(PooledConn);
follow_commands!(Transaction<'_>);
