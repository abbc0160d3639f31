//! A closure in a transaction: what it returns decides whether the transaction is committed.

use std::future::Future;

use crate::error::Error;

use super::{OwnedTransaction, owned::Usage};

/// How an attempt at a transaction ended.
pub(crate) enum Attempt<T, E> {
    /// It is final: committed, or failed for a reason that a repetition does not help.
    Done(Result<T, E>),
    /// The server rolled all of it back because of a conflict, so it may be repeated.
    RolledBack(Result<T, E>),
}

impl OwnedTransaction {
    /// Runs a closure in the transaction: commits it if the closure returns `Ok`, and rolls it back
    /// if the closure returns `Err`, panics, or is cancelled.
    ///
    /// [`Pool::transaction`](crate::Pool::transaction) begins a transaction and calls this; its
    /// rules for the closure hold here too. To repeat the closure after a deadlock, use
    /// [`TransactionOptions::run`](crate::TransactionOptions::run).
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Error, Pool};
    /// use mysql_warm_pool::mysql_async::TxOpts;
    ///
    /// # async fn run(pool: Pool) -> Result<(), Error> {
    /// let transaction = pool.begin_with(TxOpts::new().with_readonly(true)).await?;
    /// let counts: (u64, u64) = transaction
    ///     .run(async |mut transaction| {
    ///         let orders = transaction.query_first("SELECT COUNT(*) FROM orders").await?;
    ///         let items = transaction.query_first("SELECT COUNT(*) FROM item").await?;
    ///         Ok::<_, Error>((orders.unwrap_or(0), items.unwrap_or(0)))
    ///     })
    ///     .await?;
    /// # drop(counts);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The closure's error, or one of these converted into the closure's:
    ///
    /// - those of [`commit`](Self::commit);
    /// - [`Error::TransactionInUse`] if the closure returns `Ok` and has moved the transaction
    ///   elsewhere.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the closure has returned, nothing is committed. If it is
    /// dropped later, the transaction may or may not be committed. No connection is lost.
    pub async fn run<T, E, F, W>(self, work: F) -> Result<T, E>
    where
        F: FnOnce(Self) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        match self.attempt(work).await {
            Attempt::Done(outcome) | Attempt::RolledBack(outcome) => outcome,
        }
    }

    /// Like [`run`](Self::run), but also returns whether the closure may be repeated.
    ///
    /// If dropped while the closure runs, the transaction is dropped with it, and rolled back.
    pub(crate) async fn attempt<T, E, F, W>(self, work: F) -> Attempt<T, E>
    where
        F: FnOnce(Self) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let (transaction, used_by) = self.for_closure();
        let outcome = work(transaction).await;
        match (used_by.end(), outcome) {
            (Usage::Dropped(transaction), Ok(value)) => match transaction.commit().await {
                Ok(()) => Attempt::Done(Ok(value)),
                Err(error) if error.is_deadlock() => Attempt::RolledBack(Err(error.into())),
                Err(error) => Attempt::Done(Err(error.into())),
            },
            (Usage::Dropped(mut transaction), Err(error)) => {
                let is_rolled_back = transaction.is_rolled_back().await;
                // If this fails, the return of the connection rolls back.
                drop(transaction.rollback().await);
                if is_rolled_back {
                    Attempt::RolledBack(Err(error))
                } else {
                    Attempt::Done(Err(error))
                }
            }
            (Usage::Ended { by_conflict: true }, Err(error)) => Attempt::RolledBack(Err(error)),
            (Usage::InUse, Ok(_)) => Attempt::Done(Err(Error::TransactionInUse.into())),
            (_, outcome) => Attempt::Done(outcome),
        }
    }
}
