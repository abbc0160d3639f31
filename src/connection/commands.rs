//! The commands that callers send: the `exec*` methods and the driver's `Queryable`, each followed
//! to its end.

use std::{future::Future, pin::Pin};

use mysql_async::{
    BinaryProtocol, Conn, Params, QueryResult, ResultSetStream, Statement, TextProtocol,
    prelude::{AsQuery, FromRow, Queryable, StatementLike},
};

use crate::{
    error::Error,
    session::{
        effect::effect_of,
        statement::{Executable, Text},
    },
};

use super::{PooledConn, Transaction};

/// Refuses a statement that was prepared on another connection: its id means another statement
/// here, or none.
fn refuse_foreign(statement: &impl Executable, conn: &Conn) -> mysql_async::Result<()> {
    match statement.text() {
        Text::Prepared(prepared) if prepared.connection_id() != conn.id() => {
            Err(Error::ForeignStatement.into())
        }
        _ => Ok(()),
    }
}

/// The return type of the driver's trait methods. The driver's own alias for it is private.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = mysql_async::Result<T>> + Send + 'a>>;

/// Implements `exec*` as methods of the type itself, which see the statement's text. They take
/// precedence over the methods of the driver's trait with the same names.
macro_rules! execute_statements {
    ($type:ident $(<$lifetime:lifetime>)?) => {
        /// Methods that execute statements. They take precedence over the methods of the same names
        /// in the driver's [`Queryable`]. Unlike those they see the statement's text, so that the
        /// pool knows whether to reset the session at the return ([`Reset`](crate::Reset)).
        ///
        /// If a call is cancelled, its statement may or may not have been executed. After that, and
        /// after the connection was lost, each of them returns an I/O error and sends nothing. A
        /// statement that was prepared on another connection is refused with
        /// [`Error::ForeignStatement`], inside a [`mysql_async::Error::Other`].
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
                refuse_foreign(&statement, conn)?;
                follow.begin(conn)?;
                follow.record_executed(statement.text());
                let outcome = follow.unless_cut(conn.exec_iter(statement, params)).await?;
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
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_batch<S, P, I>(&mut self, statement: S, params_iter: I) -> mysql_async::Result<()>
            where
                S: Executable,
                I: IntoIterator<Item = P> + Send,
                I::IntoIter: Send,
                P: Into<Params> + Send,
            {
                let (conn, follow) = self.parts();
                refuse_foreign(&statement, conn)?;
                follow.begin(conn)?;
                follow.record_executed(statement.text());
                let outcome = follow.unless_cut(conn.exec_batch(statement, params_iter)).await?;
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
                self.exec_iter(statement, params).await?.collect_and_drop().await
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
            /// If the future is dropped midway, the connection is discarded when it is returned.
            ///
            /// # Panics
            ///
            /// If a row does not convert to `T`, as in the driver's method.
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
            /// If the future is dropped midway, the connection is discarded when it is returned.
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

/// Implements the driver's trait by following each command from before it is sent until its future
/// has completed. A future dropped in between leaves the mark that `begin` made, and the mark means
/// discard.
macro_rules! follow_commands {
    ($type:ty) => {
        impl Queryable for $type {
            fn ping(&mut self) -> BoxFuture<'_, ()> {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    follow.begin(conn)?;
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
                Box::pin(async move {
                    follow.begin(conn)?;
                    follow.record_text(&query.as_query());
                    let outcome = follow.unless_cut(conn.query_iter(query)).await?;
                    follow.end_with_status(&outcome);
                    outcome
                })
            }

            fn prep<'a, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Statement>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    follow.begin(conn)?;
                    follow.record_prepare();
                    let effect = effect_of(&query.as_query());
                    let outcome = follow.unless_cut(conn.prep(query)).await?;
                    follow.end(&outcome);
                    if let Ok(statement) = &outcome {
                        follow.remember(statement, effect);
                    }
                    outcome
                })
            }

            fn close(&mut self, statement: Statement) -> BoxFuture<'_, ()> {
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    follow.begin(conn)?;
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
                let params = params.into();
                Box::pin(async move {
                    follow.begin(conn)?;
                    // The driver's trait does not show the text.
                    follow.record_unseen();
                    follow.record_prepare();
                    let outcome = follow.unless_cut(conn.exec_iter(statement, params)).await?;
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
                let (conn, follow) = self.parts();
                Box::pin(async move {
                    follow.begin(conn)?;
                    // The driver's trait does not show the text.
                    follow.record_unseen();
                    follow.record_prepare();
                    let outcome = follow
                        .unless_cut(conn.exec_batch(statement, params_iter))
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
