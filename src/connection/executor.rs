//! `Executor`: the trait of everything that runs statements.

#![expect(
    unnameable_types,
    reason = "sealed: only types of this crate implement `Executor`"
)]

use std::future::Future;

#[cfg(doc)]
use mysql_async::prelude::Queryable;
use mysql_async::{
    Params,
    prelude::{AsQuery, FromRow},
};

use crate::{error::Error, session::statement::Executable};

use super::{
    OwnedTransaction, PooledConn, Savepoint, Transaction,
    commands::{Command, Exec, Query, execute_batch},
    holder::Holder,
    read::{Nothing, Read, all, first, folded, mapped},
};

/// Everything that runs statements: a [`PooledConn`], a [`Transaction`], an [`OwnedTransaction`], a
/// [`Savepoint`], and the [`Pool`](crate::Pool) itself.
///
/// For helpers that are written once. They cost no more than the methods of those types. With a
/// helper generic over the driver's [`Queryable`], each `exec*` costs a reset at the return,
/// because that trait does not show the pool the text of a statement to execute.
///
/// ```no_run
/// use mysql_warm_pool::{Error, Executor, Pool};
///
/// async fn find(db: &mut impl Executor, id: u64) -> Result<Option<String>, Error> {
///     db.exec_first("SELECT name FROM item WHERE id = ?", (id,)).await
/// }
///
/// # async fn run(pool: Pool) -> Result<(), Error> {
/// let name = find(&mut &pool, 7).await?; // on a connection of its own
///
/// let mut conn = pool.get().await?;
/// let name = find(&mut conn, 7).await?;
///
/// let mut transaction = pool.begin().await?;
/// let name = find(&mut transaction, 7).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// A helper that takes `mut db: impl Executor` is called with `&pool` and with `&mut conn`.
///
/// With a pool, each statement runs on a connection of its own, so a helper that relies on what an
/// earlier statement has left in the session needs a connection or a transaction.
///
/// The types have the same methods themselves, so calling them does not need the trait in scope.
/// Those of [`PooledConn`] and [`Transaction`] return the driver's error.
///
/// Only types of this crate implement it, and there is no `dyn Executor`: its methods are generic.
///
/// # Errors
///
/// Every method returns the driver's errors as [`Error::Driver`], and those of this crate as they
/// are:
///
/// - nothing was sent: [`Error::ConnectionLost`], [`Error::ConnectionMisused`],
///   [`Error::ForeignStatement`]; nothing was executed: [`Error::SessionLost`];
/// - the answer is missing: [`Error::StatementTimeout`], [`Error::RuntimeStopped`],
///   [`Error::Closed`] after [`Pool::close`](crate::Pool::close) has cut the connection off, and
///   [`Error::CommitUnknown`] for a statement that commits;
/// - a row does not convert to the type asked for: [`Error::Conversion`], where the driver's methods
///   panic. The statement was executed;
/// - in a transaction also [`Error::RolledBack`], [`Error::TransactionEnded`] and
///   [`Error::InTransaction`]: nothing was sent;
/// - on a pool also those of [`Pool::get`](crate::Pool::get): nothing was sent.
///
/// # Cancel safety
///
/// If the future of a method is dropped midway, the statement may or may not have been executed,
/// and the connection is discarded when it is returned.
pub trait Executor: Run {
    /// Sends a text, and collects the rows of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn query<T, Q>(&mut self, query: Q) -> impl Future<Output = Result<Vec<T>, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
    {
        self.run(Query(query), all())
    }

    /// Sends a text, and returns the first row of its first result set, if any.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_first`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn query_first<T, Q>(
        &mut self,
        query: Q,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
    {
        self.run(Query(query), first())
    }

    /// Sends a text, and maps each row of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_map`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn query_map<T, F, Q, U>(
        &mut self,
        query: Q,
        map: F,
    ) -> impl Future<Output = Result<Vec<U>, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
        F: FnMut(T) -> U + Send,
        U: Send,
    {
        self.run(Query(query), mapped(map))
    }

    /// Sends a text, and folds the rows of its first result set into one value.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_fold`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn query_fold<T, F, Q, U>(
        &mut self,
        query: Q,
        init: U,
        fold: F,
    ) -> impl Future<Output = Result<U, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
        F: FnMut(U, T) -> U + Send,
        U: Send,
    {
        self.run(Query(query), folded(init, fold))
    }

    /// Sends a text whose result is not needed.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_drop`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn query_drop<Q>(&mut self, query: Q) -> impl Future<Output = Result<(), Error>> + Send
    where
        Q: AsQuery,
    {
        self.run(Query(query), Nothing)
    }

    /// Executes a statement, and collects the rows of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn exec<T, S, P>(
        &mut self,
        statement: S,
        params: P,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        T: FromRow + Send + 'static,
    {
        self.run(Exec(statement, params.into()), all())
    }

    /// Executes a statement, and returns the first row of its first result set, if any.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_first`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn exec_first<T, S, P>(
        &mut self,
        statement: S,
        params: P,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        T: FromRow + Send + 'static,
    {
        self.run(Exec(statement, params.into()), first())
    }

    /// Executes a statement, and maps each row of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_map`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn exec_map<T, S, P, U, F>(
        &mut self,
        statement: S,
        params: P,
        map: F,
    ) -> impl Future<Output = Result<Vec<U>, Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        T: FromRow + Send + 'static,
        F: FnMut(T) -> U + Send,
        U: Send,
    {
        self.run(Exec(statement, params.into()), mapped(map))
    }

    /// Executes a statement, and folds the rows of its first result set into one value.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_fold`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn exec_fold<T, S, P, U, F>(
        &mut self,
        statement: S,
        params: P,
        init: U,
        fold: F,
    ) -> impl Future<Output = Result<U, Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        T: FromRow + Send + 'static,
        F: FnMut(U, T) -> U + Send,
        U: Send,
    {
        self.run(Exec(statement, params.into()), folded(init, fold))
    }

    /// Executes a statement whose result is not needed.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_drop`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    #[track_caller]
    fn exec_drop<S, P>(
        &mut self,
        statement: S,
        params: P,
    ) -> impl Future<Output = Result<(), Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
    {
        self.run(Exec(statement, params.into()), Nothing)
    }

    /// Executes a statement once for each set of parameters, in order. Their types may differ from
    /// one to the next.
    ///
    /// On MariaDB, many of them go in one command, with the driver's `exec_batch`.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_batch`]; see [this trait](Self#errors).
    ///
    /// # Cancel safety
    ///
    /// See [this trait](Self#cancel-safety).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, Executor, Pool};
    ///
    /// async fn add(pool: &Pool, items: &[(u64, String)]) -> Result<(), Error> {
    ///     // In a transaction: all of them or none.
    ///     pool.transaction(async |mut transaction| {
    ///         let insert = "INSERT INTO item (id, name) VALUES (?, ?)";
    ///         transaction.exec_batch(insert, items.iter().map(|(id, name)| (id, name))).await
    ///     })
    ///     .await
    /// }
    /// ```
    #[track_caller]
    fn exec_batch<S, P, I>(
        &mut self,
        statement: S,
        params_iter: I,
    ) -> impl Future<Output = Result<(), Error>> + Send
    where
        S: Executable,
        I: IntoIterator<Item = P> + Send,
        I::IntoIter: Send,
        P: Into<Params> + Send,
    {
        self.run_batch(statement, params_iter.into_iter())
    }
}

/// What [`Executor`] is built on: running one command and reading its answer.
pub trait Run: Send {
    #[track_caller]
    fn run<K, R>(
        &mut self,
        command: K,
        read: R,
    ) -> impl Future<Output = Result<R::Output, Error>> + Send
    where
        K: Command,
        R: Read<K::Protocol>;

    #[track_caller]
    fn run_batch<S, P, I>(
        &mut self,
        statement: S,
        rows: I,
    ) -> impl Future<Output = Result<(), Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        I: Iterator<Item = P> + Send;
}

macro_rules! run_on_connection {
    ($(impl $({$($parameters:tt)*})? $type:ty;)*) => {$(
        impl $(<$($parameters)*>)? Executor for $type {}

        impl $(<$($parameters)*>)? Run for $type {
            async fn run<K, R>(&mut self, command: K, read: R) -> Result<R::Output, Error>
            where
                K: Command,
                R: Read<K::Protocol>,
            {
                let (conn, follow, caller) = self.parts();
                Ok(command.run(conn, follow, caller, read).await?)
            }

            async fn run_batch<S, P, I>(&mut self, statement: S, rows: I) -> Result<(), Error>
            where
                S: Executable,
                P: Into<Params> + Send,
                I: Iterator<Item = P> + Send,
            {
                let (conn, follow, caller) = self.parts();
                Ok(execute_batch(conn, follow, caller, statement.text(), rows).await?)
            }
        }
    )*};
}

run_on_connection! {
    impl PooledConn;
    impl Transaction<'_>;
    impl OwnedTransaction;
    impl {H: Holder} Savepoint<'_, H>;
}

/// Lets a helper that takes an `impl Executor` by value be called with `&mut conn`.
impl<T: Executor> Executor for &mut T {}

impl<T: Executor> Run for &mut T {
    fn run<K, R>(
        &mut self,
        command: K,
        read: R,
    ) -> impl Future<Output = Result<R::Output, Error>> + Send
    where
        K: Command,
        R: Read<K::Protocol>,
    {
        T::run(self, command, read)
    }

    fn run_batch<S, P, I>(
        &mut self,
        statement: S,
        rows: I,
    ) -> impl Future<Output = Result<(), Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        I: Iterator<Item = P> + Send,
    {
        T::run_batch(self, statement, rows)
    }
}
