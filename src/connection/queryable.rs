//! The driver's `Queryable` for everything that holds a connection.

use mysql_async::{
    BinaryProtocol, Params, QueryResult, Statement, TextProtocol,
    prelude::{AsQuery, FromRow, Queryable, StatementLike},
};

use crate::error::forgets_statements;

use super::{
    OwnedTransaction, PooledConn, Savepoint, Transaction,
    commands::{
        BoxFuture, Command, ExecUnseen, Query, execute_unseen, prepare_for_caller,
        query as query_text,
    },
    holder::Holder,
    read::{Nothing, all, first, folded, mapped},
    target::{Target as _, begin},
};

/// Implements the driver's trait by following each command from before it is sent until its future
/// has completed. A future dropped in between leaves the mark that `begin` made, and the mark means
/// discard.
macro_rules! follow_commands {
    ($type:ty $(, $parameter:ident: $bound:path)?) => {
        impl $(<$parameter: $bound>)? Queryable for $type {
            fn ping(&mut self) -> BoxFuture<'_, ()> {
                let (conn, follow, _) = self.parts();
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
                let (conn, follow, caller) = self.parts();
                Box::pin(query_text(conn, follow, caller, query))
            }

            fn prep<'a, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Statement>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow, _) = self.parts();
                Box::pin(prepare_for_caller(conn, follow, query))
            }

            fn close(&mut self, statement: Statement) -> BoxFuture<'_, ()> {
                let (conn, follow, _) = self.parts();
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
                let (conn, follow, caller) = self.parts();
                Box::pin(execute_unseen(conn, follow, caller, statement, params.into()))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(async move {
                    begin(conn, follow).await?;
                    let mut timing = caller.timing_of_unseen();
                    timing.start();
                    follow.record_unseen_execution(conn.conn());
                    let sent = follow
                        .unless_cut(conn.exec_batch(statement, params_iter))
                        .await;
                    let outcome = sent.and_then(|outcome| {
                        if let Err(error) = &outcome
                            && forgets_statements(error)
                        {
                            return Err(follow.lose_session());
                        }
                        follow.end(&outcome);
                        // Without rows nothing was executed, so that no status came.
                        follow.forget_status();
                        outcome
                    });
                    timing.end(follow.answer, outcome.map(|()| ((), None)))
                })
            }

            // The driver's own versions of the methods below read the rows where the pool cannot
            // cut them off.

            fn query<'a, T, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Vec<T>>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(Query(query).run(conn, follow, caller, all()))
            }

            fn query_first<'a, T, Q>(&'a mut self, query: Q) -> BoxFuture<'a, Option<T>>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(Query(query).run(conn, follow, caller, first()))
            }

            fn query_map<'a, T, F, Q, U>(&'a mut self, query: Q, map: F) -> BoxFuture<'a, Vec<U>>
            where
                Q: AsQuery + 'a,
                T: FromRow + Send + 'static,
                F: FnMut(T) -> U + Send + 'a,
                U: Send,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(Query(query).run(conn, follow, caller, mapped(map)))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(Query(query).run(conn, follow, caller, folded(init, fold)))
            }

            fn query_drop<'a, Q>(&'a mut self, query: Q) -> BoxFuture<'a, ()>
            where
                Q: AsQuery + 'a,
            {
                let (conn, follow, caller) = self.parts();
                Box::pin(Query(query).run(conn, follow, caller, Nothing))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(ExecUnseen(statement, params.into()).run(conn, follow, caller, all()))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(ExecUnseen(statement, params.into()).run(conn, follow, caller, first()))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(ExecUnseen(statement, params.into()).run(conn, follow, caller, mapped(map)))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(ExecUnseen(statement, params.into()).run(conn, follow, caller, folded(init, fold)))
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
                let (conn, follow, caller) = self.parts();
                Box::pin(ExecUnseen(statement, params.into()).run(conn, follow, caller, Nothing))
            }
        }
    };
}

follow_commands!(PooledConn);
follow_commands!(Transaction<'_>);
follow_commands!(OwnedTransaction);
follow_commands!(Savepoint<'_, H>, H: Holder);
