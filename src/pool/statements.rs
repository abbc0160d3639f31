//! Statements on the pool itself: each on a connection of its own.

use std::{future::Future, panic::Location};

#[cfg(doc)]
use mysql_async::prelude::Queryable;
use mysql_async::{
    Params,
    prelude::{AsQuery, FromRow},
};

use crate::{
    connection::{
        Executor, Run,
        commands::{Command, Exec, Query},
        read::{Nothing, Read, all, first, folded, mapped},
    },
    error::Error,
    lifecycle::get::CalledAt,
    session::statement::Executable,
};

use super::Pool;

/// Statements on the pool itself. Each gets a connection, as [`get`](Self::get) does, and returns
/// it once the answer is complete. So a statement finds nothing of what an earlier one has left in
/// its session, such as a variable.
///
/// ```no_run
/// # use mysql_warm_pool::{Error, Pool};
/// # async fn run(pool: Pool) -> Result<(), Error> {
/// let name: Option<String> =
///     pool.exec_first("SELECT name FROM item WHERE id = ?", (7,)).await?;
/// let ids: Vec<u64> = pool.query("SELECT id FROM item").await?;
/// pool.exec_drop("UPDATE item SET name = ? WHERE id = ?", ("pear", 7)).await?;
/// # Ok(())
/// # }
/// ```
///
/// To read the number of affected rows or the last inserted id, or to stream rows, get a
/// connection.
impl Pool {
    /// Sends a text, and collects the rows of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn query<T, Q>(&self, query: Q) -> impl Future<Output = Result<Vec<T>, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
    {
        self.run_at(Location::caller(), Query(query), all())
    }

    /// Sends a text, and returns the first row of its first result set, if any.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_first`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn query_first<T, Q>(
        &self,
        query: Q,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
    {
        self.run_at(Location::caller(), Query(query), first())
    }

    /// Sends a text, and maps each row of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_map`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn query_map<T, F, Q, U>(
        &self,
        query: Q,
        map: F,
    ) -> impl Future<Output = Result<Vec<U>, Error>> + Send
    where
        Q: AsQuery,
        T: FromRow + Send + 'static,
        F: FnMut(T) -> U + Send,
        U: Send,
    {
        self.run_at(Location::caller(), Query(query), mapped(map))
    }

    /// Sends a text, and folds the rows of its first result set into one value.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_fold`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn query_fold<T, F, Q, U>(
        &self,
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
        self.run_at(Location::caller(), Query(query), folded(init, fold))
    }

    /// Sends a text whose result is not needed.
    ///
    /// # Errors
    ///
    /// As [`Queryable::query_drop`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn query_drop<Q>(&self, query: Q) -> impl Future<Output = Result<(), Error>> + Send
    where
        Q: AsQuery,
    {
        self.run_at(Location::caller(), Query(query), Nothing)
    }

    /// Executes a statement, and collects the rows of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn exec<T, S, P>(
        &self,
        statement: S,
        params: P,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        T: FromRow + Send + 'static,
    {
        self.run_at(Location::caller(), Exec(statement, params.into()), all())
    }

    /// Executes a statement, and returns the first row of its first result set, if any.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_first`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn exec_first<T, S, P>(
        &self,
        statement: S,
        params: P,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
        T: FromRow + Send + 'static,
    {
        self.run_at(Location::caller(), Exec(statement, params.into()), first())
    }

    /// Executes a statement, and maps each row of its first result set.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_map`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn exec_map<T, S, P, U, F>(
        &self,
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
        self.run_at(
            Location::caller(),
            Exec(statement, params.into()),
            mapped(map),
        )
    }

    /// Executes a statement, and folds the rows of its first result set into one value.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_fold`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn exec_fold<T, S, P, U, F>(
        &self,
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
        self.run_at(
            Location::caller(),
            Exec(statement, params.into()),
            folded(init, fold),
        )
    }

    /// Executes a statement whose result is not needed.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_drop`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn exec_drop<S, P>(
        &self,
        statement: S,
        params: P,
    ) -> impl Future<Output = Result<(), Error>> + Send
    where
        S: Executable,
        P: Into<Params> + Send,
    {
        self.run_at(Location::caller(), Exec(statement, params.into()), Nothing)
    }

    /// Executes a statement once for each set of parameters, in order. Their types may differ from
    /// one to the next.
    ///
    /// On MariaDB, many of them go in one command, with the driver's `exec_batch`.
    ///
    /// # Errors
    ///
    /// As [`Queryable::exec_batch`]; see [`Executor`](Executor#errors).
    ///
    /// # Cancel safety
    ///
    /// See [`Executor`](Executor#cancel-safety).
    #[track_caller]
    pub fn exec_batch<S, P, I>(
        &self,
        statement: S,
        params_iter: I,
    ) -> impl Future<Output = Result<(), Error>> + Send
    where
        S: Executable,
        I: IntoIterator<Item = P> + Send,
        I::IntoIter: Send,
        P: Into<Params> + Send,
    {
        self.run_batch_at(Location::caller(), statement, params_iter.into_iter())
    }

    async fn run_at<K, R>(
        &self,
        called_at: CalledAt,
        command: K,
        read: R,
    ) -> Result<R::Output, Error>
    where
        K: Command,
        R: Read<K::Protocol>,
    {
        let mut conn = self.get_called_at(self.config().timeout, called_at).await?;
        Run::run(&mut conn, command, read).await
    }

    async fn run_batch_at<S, P, I>(
        &self,
        called_at: CalledAt,
        statement: S,
        rows: I,
    ) -> Result<(), Error>
    where
        S: Executable,
        P: Into<Params> + Send,
        I: Iterator<Item = P> + Send,
    {
        let mut conn = self.get_called_at(self.config().timeout, called_at).await?;
        conn.run_batch(statement, rows).await
    }
}

macro_rules! run_on_pool {
    ($($type:ty),*) => {$(
        /// Each statement runs on a connection of its own.
        impl Executor for $type {}

        impl Run for $type {
            #[track_caller]
            fn run<K, R>(
                &mut self,
                command: K,
                read: R,
            ) -> impl Future<Output = Result<R::Output, Error>> + Send
            where
                K: Command,
                R: Read<K::Protocol>,
            {
                self.run_at(Location::caller(), command, read)
            }

            #[track_caller]
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
                self.run_batch_at(Location::caller(), statement, rows)
            }
        }
    )*};
}

run_on_pool!(Pool, &Pool);
