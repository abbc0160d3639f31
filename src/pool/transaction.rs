//! Transactions begun on the pool: `begin`, and `transaction` around a closure.

use std::{borrow::Borrow, future::Future, panic::Location, time::Duration};

use mysql_async::{IsolationLevel, TxOpts};

use crate::{
    connection::{Attempt, OwnedTransaction},
    error::Error,
    lifecycle::get::CalledAt,
    session::{random, runtime::timer},
};

use super::Pool;

/// The longest pause before the first retry. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause before any retry.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How `transaction_with` of a [`Pool`](Pool::transaction_with) or a
/// [`Cluster`](crate::cluster::Cluster::transaction_with) begins a transaction, and how often it is
/// retried.
///
/// ```
/// use mysql_warm_pool::{TransactionOptions, mysql_async::IsolationLevel};
///
/// let options = TransactionOptions::new()
///     .isolation_level(IsolationLevel::Serializable)
///     .retries(3);
/// ```
///
/// The driver's [`TxOpts`] convert into it.
#[derive(Clone, Debug, Default)]
pub struct TransactionOptions {
    begin: TxOpts,
    retries: u32,
}

impl TransactionOptions {
    /// Creates options with the session's isolation level and no retries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the isolation level. Default: the session's.
    #[must_use]
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.begin.with_isolation_level(level);
        self
    }

    /// Sets whether the server refuses writes in the transaction. Default: the session's, which is
    /// `false` unless [`init`](field@crate::PoolConfig::init) or the like sets it.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.begin.with_readonly(read_only);
        self
    }

    /// Sets whether the transaction's snapshot is taken when it begins instead of at its first
    /// read. Default: `false`.
    ///
    /// The server ignores it at isolation levels other than `REPEATABLE READ`.
    #[must_use]
    pub fn consistent_snapshot(mut self, consistent_snapshot: bool) -> Self {
        self.begin.with_consistent_snapshot(consistent_snapshot);
        self
    }

    /// Sets the maximum number of times that the closure is run again after the server has rolled
    /// its transaction back. Any number; default 0.
    ///
    /// The server does so after a deadlock (1213), a conflict at commit in a cluster, or a lock
    /// timeout (1205) with `innodb_rollback_on_timeout`. A random pause precedes each retry: up to
    /// 10 ms before the first, twice as much before each further one, at most 500 ms.
    ///
    /// Do not set it if the closure calls a procedure that commits: the pool does not see that.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Runs a closure in a transaction, and repeats both up to [`retries`](Self::retries) times, as
    /// [`Pool::transaction_with`] does: on transactions that `begin` begins.
    ///
    /// For code that wraps a pool. `begin` is called for each attempt, with the options to begin
    /// with; [`OwnedTransaction::begin`] begins on a connection at hand.
    ///
    /// ```no_run
    /// use std::panic::Location;
    ///
    /// use mysql_warm_pool::{Error, OwnedTransaction, Pool, TransactionOptions};
    ///
    /// struct Orders(Pool);
    ///
    /// impl Orders {
    ///     /// Three retries, and errors that name the caller's line.
    ///     #[track_caller]
    ///     fn transaction<T, F, W>(&self, work: F) -> impl Future<Output = Result<T, Error>>
    ///     where
    ///         F: FnMut(OwnedTransaction) -> W,
    ///         W: Future<Output = Result<T, Error>>,
    ///     {
    ///         let called_at = Location::caller();
    ///         let begin = move |options| async move {
    ///             let conn = self.0.get_called_at(self.0.config().timeout, called_at).await?;
    ///             OwnedTransaction::begin(conn, options).await
    ///         };
    ///         TransactionOptions::new().retries(3).run(begin, work)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Pool::transaction_with`], with those of `begin`.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::transaction_with`]. If dropped while `begin` runs, it drops that future.
    pub async fn run<T, E, B, S, F, W>(self, mut begin: B, mut work: F) -> Result<T, E>
    where
        B: FnMut(TxOpts) -> S,
        S: Future<Output = Result<OwnedTransaction, Error>>,
        F: FnMut(OwnedTransaction) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let mut pause = FIRST_PAUSE;
        for _ in 0..self.retries {
            match begin(self.begin.clone()).await?.attempt(&mut work).await {
                Attempt::Done(outcome) => return outcome,
                Attempt::RolledBack(_) => {
                    // Without timers there is no pause.
                    if let Some(pause) = timer(at_random(pause)) {
                        pause.await;
                    }
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
            }
        }
        begin(self.begin).await?.run(work).await
    }
}

impl From<TxOpts> for TransactionOptions {
    fn from(begin: TxOpts) -> Self {
        Self { begin, retries: 0 }
    }
}

impl Pool {
    /// Gets a connection, as [`get`](Self::get) does, and begins a transaction on it.
    ///
    /// Dropped without [`commit`](OwnedTransaction::commit), it is rolled back;
    /// [`OwnedTransaction`] has an example. With a closure instead,
    /// [`transaction`](Self::transaction) commits by itself, and
    /// [`transaction_with`](Self::transaction_with) retries after a deadlock.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and the driver's errors as [`Error::Driver`].
    ///
    /// # Cancel safety
    ///
    /// Safe: no transaction stays open.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<OwnedTransaction, Error>> + Send {
        self.begin_at(Location::caller(), TxOpts::default())
    }

    /// Begins a transaction as [`begin`](Self::begin) does, with an isolation level, read-only, or
    /// with a consistent snapshot.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Error, Pool};
    /// use mysql_warm_pool::mysql_async::{IsolationLevel, TxOpts};
    ///
    /// # async fn run(pool: Pool) -> Result<(), Error> {
    /// let report = pool.begin_with(TxOpts::new().with_readonly(true)).await?;
    /// let level = IsolationLevel::Serializable;
    /// let transfer = pool.begin_with(TxOpts::new().with_isolation_level(level)).await?;
    /// # drop((report, transfer));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn begin_with<O: Borrow<TxOpts>>(
        &self,
        options: O,
    ) -> impl Future<Output = Result<OwnedTransaction, Error>> + Send {
        self.begin_at(Location::caller(), options.borrow().clone())
    }

    async fn begin_at(
        &self,
        called_at: CalledAt,
        options: TxOpts,
    ) -> Result<OwnedTransaction, Error> {
        let conn = self.get_called_at(self.config().timeout, called_at).await?;
        OwnedTransaction::begin(conn, options).await
    }

    /// Runs a closure in a transaction: commits it if the closure returns `Ok`, and rolls it back
    /// if the closure returns `Err`, panics, or is cancelled.
    ///
    /// The closure gets the [`OwnedTransaction`] by value. Before it returns, it must drop the
    /// transaction, or commit it or roll it back itself.
    ///
    /// The returned future is [`Send`] if what the closure captures and returns is.
    ///
    /// If the closure ignores a deadlock's error, the loss does not go unnoticed: the transaction
    /// refuses further statements, and this call returns [`Error::RolledBack`].
    ///
    /// # Errors
    ///
    /// The closure's error, or an error of this crate converted into the closure's:
    ///
    /// - those of [`begin`](Self::begin) and of [`commit`](OwnedTransaction::commit), of which only
    ///   [`Error::CommitUnknown`] leaves open whether the transaction was committed;
    /// - [`Error::TransactionInUse`] if the closure returns `Ok` and has moved the transaction
    ///   elsewhere.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the closure has returned, nothing is committed. If it is
    /// dropped later, the transaction may or may not be committed. No connection is lost.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, Executor, Pool};
    ///
    /// async fn debit(db: &mut impl Executor, id: u64, sum: i64) -> Result<(), Error> {
    ///     db.exec_drop("UPDATE account SET balance = balance - ? WHERE id = ?", (sum, id)).await
    /// }
    ///
    /// # #[derive(Debug)]
    /// # enum AppError { Db(Error), Poor }
    /// # impl From<Error> for AppError { fn from(error: Error) -> Self { Self::Db(error) } }
    /// async fn transfer(pool: &Pool, from: u64, to: u64, sum: i64) -> Result<i64, AppError> {
    ///     pool.transaction(async |mut transaction| {
    ///         debit(&mut transaction, from, sum).await?;
    ///         debit(&mut transaction, to, -sum).await?;
    ///         let select = "SELECT balance FROM account WHERE id = ?";
    ///         let balance: Option<i64> = transaction.exec_first(select, (from,)).await?;
    ///         match balance {
    ///             Some(balance) if balance >= 0 => Ok(balance), // commits
    ///             _ => Err(AppError::Poor),                     // rolls back
    ///         }
    ///     })
    ///     .await
    /// }
    ///
    /// # fn run(pool: Pool) {
    /// tokio::spawn(async move { transfer(&pool, 1, 2, 5).await });
    /// # }
    /// ```
    #[track_caller]
    pub fn transaction<T, E, F, W>(&self, work: F) -> impl Future<Output = Result<T, E>>
    where
        F: FnOnce(OwnedTransaction) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let called_at = Location::caller();
        async move {
            let transaction = self.begin_at(called_at, TxOpts::default()).await?;
            transaction.run(work).await
        }
    }

    /// Runs a closure in a transaction as [`transaction`](Self::transaction) does, with options. If
    /// the server rolls the transaction back, after a deadlock for example, it is repeated up to
    /// [`retries`](TransactionOptions::retries) times.
    ///
    /// Each retry is a transaction of its own, perhaps on another connection, and calls the
    /// closure again: what the closure does outside of the database happens again too. The pool
    /// retries only if the server has certainly rolled everything back, whatever error the closure
    /// makes of that. After a lost connection, or a `COMMIT` whose answer is lost, this call
    /// returns the error.
    ///
    /// The closure may be called several times, so its future can neither move nor change what the
    /// closure captures: clone it in the closure, or use a `Cell` or an atomic.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction), of the last attempt.
    ///
    /// # Cancel safety
    ///
    /// As [`transaction`](Self::transaction).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, Pool, TransactionOptions};
    ///
    /// async fn add(pool: &Pool, ids: &[u64]) -> Result<(), Error> {
    ///     let options = TransactionOptions::new().retries(3);
    ///     pool.transaction_with(options, async |mut transaction| {
    ///         for id in ids {
    ///             let update = "UPDATE item SET stock = stock + 1 WHERE id = ?";
    ///             transaction.exec_drop(update, (id,)).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .await
    /// }
    /// # drop(add);
    /// ```
    #[track_caller]
    pub fn transaction_with<T, E, F, W>(
        &self,
        options: impl Into<TransactionOptions>,
        work: F,
    ) -> impl Future<Output = Result<T, E>>
    where
        F: FnMut(OwnedTransaction) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let called_at = Location::caller();
        let begin = move |options| self.begin_at(called_at, options);
        options.into().run(begin, work)
    }
}

/// A random part of this time.
fn at_random(longest: Duration) -> Duration {
    let number = u32::try_from(random() >> 32).unwrap_or(0);
    longest.mul_f64(f64::from(number) / f64::from(u32::MAX))
}
