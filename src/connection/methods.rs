//! The methods that run statements on everything that holds a connection.

use std::{future::Future, pin::Pin};

#[cfg(doc)]
use mysql_async::prelude::Queryable;
use mysql_async::{
    BinaryProtocol, Params, QueryResult, TextProtocol,
    prelude::{AsQuery, FromRow},
};

use crate::{error::Error, session::statement::Executable};

use super::{
    OwnedTransaction, PooledConn, RowStream, Savepoint, Transaction,
    commands::{Command, Exec, Query, execute, execute_batch, query as query_text, stream},
    holder::Holder,
    read::{Nothing, all, first, folded, mapped},
};

/// Implements `exec*` and `query*` as methods of the type itself. They take precedence over the
/// methods of the driver's trait with the same names, and `exec*` see the statement's text.
macro_rules! statements {
    ($(#[$docs:meta])* impl $({$($parameters:tt)*})? $type:ty, $error:ty) => {
        /// Methods that run statements. They take precedence over the methods of the same names in
        /// the driver's [`Queryable`] and in [`Executor`](crate::Executor). Unlike the driver's,
        /// `exec*` see the text of the statement to execute, so the pool knows whether to reset
        /// the session at the return ([`Reset`](crate::Reset)).
        ///
        /// If a call is cancelled, its statement may or may not have been executed. After that, and
        /// after the connection was lost, each of them returns [`Error::ConnectionLost`] and sends
        /// nothing. [`Error::ForeignStatement`] is returned for a statement that was prepared on
        /// another connection, and [`Error::SessionLost`] if the server has forgotten the session's
        /// prepared statements. Nothing is executed then.
        $(#[$docs])*
        impl $(<$($parameters)*>)? $type {
            /// Executes a statement, and returns its result, to be read row by row.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_iter`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_iter<Q, P>(
                &mut self,
                statement: Q,
                params: P,
            ) -> Result<QueryResult<'_, 'static, BinaryProtocol>, $error>
            where
                Q: Executable,
                P: Into<Params>,
            {
                let params = params.into();
                let (conn, follow, caller) = self.parts();
                execute(conn, follow, caller, statement.text(), params).await.map_err(<$error>::from)
            }

            /// Executes a statement once for each set of parameters, in order. Their types may
            /// differ from one to the next.
            ///
            /// On MariaDB, many of them go in one command, with the driver's `exec_batch`.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_batch`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors). Earlier sets of parameters may have been
            /// executed.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_batch<S, P, I>(&mut self, statement: S, params_iter: I) -> Result<(), $error>
            where
                S: Executable,
                I: IntoIterator<Item = P> + Send,
                I::IntoIter: Send,
                P: Into<Params> + Send,
            {
                let (conn, follow, caller) = self.parts();
                let rows = params_iter.into_iter();
                execute_batch(conn, follow, caller, statement.text(), rows).await.map_err(<$error>::from)
            }

            /// Executes a statement, and collects the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec<T, S, P>(&mut self, statement: S, params: P) -> Result<Vec<T>, $error>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
            {
                let command = Exec(statement, params.into());
                let (conn, follow, caller) = self.parts();
                command.run(conn, follow, caller, all()).await.map_err(<$error>::from)
            }

            /// Executes a statement, and returns the first row of its first result set, if any.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_first`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_first<T, S, P>(&mut self, statement: S, params: P) -> Result<Option<T>, $error>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
            {
                let command = Exec(statement, params.into());
                let (conn, follow, caller) = self.parts();
                command.run(conn, follow, caller, first()).await.map_err(<$error>::from)
            }

            /// Executes a statement, and maps each row of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_map`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_map<T, S, P, U, F>(
                &mut self,
                statement: S,
                params: P,
                map: F,
            ) -> Result<Vec<U>, $error>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send,
                U: Send,
            {
                let command = Exec(statement, params.into());
                let (conn, follow, caller) = self.parts();
                command.run(conn, follow, caller, mapped(map)).await.map_err(<$error>::from)
            }

            /// Executes a statement, and folds the rows of its first result set into one value.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_fold`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_fold<T, S, P, U, F>(
                &mut self,
                statement: S,
                params: P,
                init: U,
                fold: F,
            ) -> Result<U, $error>
            where
                S: Executable,
                P: Into<Params> + Send,
                T: FromRow + Send + 'static,
                F: FnMut(U, T) -> U + Send,
                U: Send,
            {
                let command = Exec(statement, params.into());
                let (conn, follow, caller) = self.parts();
                command.run(conn, follow, caller, folded(init, fold)).await.map_err(<$error>::from)
            }

            /// Executes a statement whose result is not needed.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_drop`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub async fn exec_drop<S, P>(&mut self, statement: S, params: P) -> Result<(), $error>
            where
                S: Executable,
                P: Into<Params> + Send,
            {
                let command = Exec(statement, params.into());
                let (conn, follow, caller) = self.parts();
                command.run(conn, follow, caller, Nothing).await.map_err(<$error>::from)
            }

            /// Executes a statement, and streams the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::exec_stream`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors). Also [`Error::NoResultSet`] if the statement
            /// has no result set, for which the driver's method panics. A row that does not convert
            /// to `T` is an error of the stream, which goes on with the next row.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            /// The stream itself may be dropped at any time: at the return the pool reads the
            /// remaining rows, or closes the connection if there are too many.
            pub async fn exec_stream<T, Q, P>(
                &mut self,
                statement: Q,
                params: P,
            ) -> Result<RowStream<'_, T, BinaryProtocol>, $error>
            where
                T: Unpin + FromRow + Send + 'static,
                Q: Executable,
                P: Into<Params> + Send,
            {
                let params = params.into();
                let (conn, follow, caller) = self.parts();
                let result = execute(conn, follow, caller, statement.text(), params).await?;
                stream(result, follow).await.map_err(<$error>::from)
            }

            /// Sends a text, and streams the rows of its first result set.
            ///
            /// It takes precedence over the driver's method of that name, whose stream the pool
            /// cannot cut off.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query_stream`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors). Also [`Error::NoResultSet`] if the statement
            /// has no result set. A row that does not convert to `T` is an error of the stream,
            /// which goes on with the next row.
            ///
            /// # Cancel safety
            ///
            /// As [`exec_stream`](Self::exec_stream).
            pub async fn query_stream<'s, T, Q>(
                &'s mut self,
                query: Q,
            ) -> Result<RowStream<'s, T, TextProtocol>, $error>
            where
                T: Unpin + FromRow + Send + 'static,
                Q: AsQuery + 's,
            {
                let (conn, follow, caller) = self.parts();
                let result = query_text(conn, follow, caller, query).await?;
                stream(result, follow).await.map_err(<$error>::from)
            }

            /// Sends a text, and collects the rows of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub fn query<'s, T, Q>(
                &'s mut self,
                query: Q,
            ) -> Pin<Box<dyn Future<Output = Result<Vec<T>, $error>> + Send + 's>>
            where
                Q: AsQuery + 's,
                T: FromRow + Send + 'static,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(async move { Query(query).run(conn, follow, caller, all()).await.map_err(<$error>::from) })
            }

            /// Sends a text, and returns the first row of its first result set, if any.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query_first`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub fn query_first<'s, T, Q>(
                &'s mut self,
                query: Q,
            ) -> Pin<Box<dyn Future<Output = Result<Option<T>, $error>> + Send + 's>>
            where
                Q: AsQuery + 's,
                T: FromRow + Send + 'static,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(async move { Query(query).run(conn, follow, caller, first()).await.map_err(<$error>::from) })
            }

            /// Sends a text, and maps each row of its first result set.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query_map`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub fn query_map<'s, T, F, Q, U>(
                &'s mut self,
                query: Q,
                map: F,
            ) -> Pin<Box<dyn Future<Output = Result<Vec<U>, $error>> + Send + 's>>
            where
                Q: AsQuery + 's,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send + 's,
                U: Send + 's,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(async move { Query(query).run(conn, follow, caller, mapped(map)).await.map_err(<$error>::from) })
            }

            /// Sends a text, and folds the rows of its first result set into one value.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query_fold`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub fn query_fold<'s, T, F, Q, U>(
                &'s mut self,
                query: Q,
                init: U,
                fold: F,
            ) -> Pin<Box<dyn Future<Output = Result<U, $error>> + Send + 's>>
            where
                Q: AsQuery + 's,
                T: FromRow + Send + 'static,
                F: FnMut(U, T) -> U + Send + 's,
                U: Send + 's,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(async move { Query(query).run(conn, follow, caller, folded(init, fold)).await.map_err(<$error>::from) })
            }

            /// Sends a text whose result is not needed.
            ///
            /// # Errors
            ///
            /// As [`Queryable::query_drop`]; for those of this crate see
            /// [`Executor`](crate::Executor#errors).
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped midway, the connection is discarded when it is returned.
            pub fn query_drop<'s, Q>(
                &'s mut self,
                query: Q,
            ) -> Pin<Box<dyn Future<Output = Result<(), $error>> + Send + 's>>
            where
                Q: AsQuery + 's,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(async move { Query(query).run(conn, follow, caller, Nothing).await.map_err(<$error>::from) })
            }
        }
    };
}

statements! {
    ///
    /// These errors come inside a [`mysql_async::Error::Other`]; [`Error::of`] finds them.
    impl PooledConn, mysql_async::Error
}
statements! {
    ///
    /// These errors come inside a [`mysql_async::Error::Other`]; [`Error::of`] finds them.
    impl Transaction<'_>, mysql_async::Error
}
statements! { impl OwnedTransaction, Error }
statements! { impl {H: Holder} Savepoint<'_, H>, Error }
