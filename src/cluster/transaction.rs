//! Transactions begun on the cluster's writer: `begin`, and `transaction` around a closure.

use std::{borrow::Borrow, future::Future, panic::Location};

use mysql_async::TxOpts;

use crate::{connection::OwnedTransaction, error::Error, pool::TransactionOptions};

use super::Cluster;

impl Cluster {
    /// Gets a connection to the member that takes writes now, as [`writer`](Self::writer) does, and
    /// begins a transaction on it.
    ///
    /// The transaction stays on that member.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, cluster::Cluster};
    ///
    /// async fn rename(cluster: &Cluster, id: u64, name: &str) -> Result<(), Error> {
    ///     let mut transaction = cluster.begin().await?;
    ///     transaction.exec_drop("UPDATE item SET name = ? WHERE id = ?", (name, id)).await?;
    ///     transaction.commit().await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer), and the driver's errors as [`Error::Driver`].
    ///
    /// # Cancel safety
    ///
    /// Safe: no transaction stays open.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<OwnedTransaction, Error>> + Send {
        self.begin_at(Location::caller(), TxOpts::default())
    }

    /// Like [`begin`](Self::begin), with an isolation level, read-only, or with a consistent
    /// snapshot. A read-only transaction runs on the writer too.
    ///
    /// To begin a transaction on a replica, pass a connection from [`reader`](Self::reader) to
    /// [`OwnedTransaction::begin`]:
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, OwnedTransaction, cluster::Cluster, mysql_async::TxOpts};
    ///
    /// async fn report(cluster: &Cluster) -> Result<(), Error> {
    ///     let mut options = TxOpts::new();
    ///     options.with_readonly(true);
    ///     let transaction = OwnedTransaction::begin(cluster.reader().await?, options).await?;
    ///     // ...
    ///     transaction.commit().await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    #[track_caller]
    pub fn begin_with<O: Borrow<TxOpts>>(
        &self,
        options: O,
    ) -> impl Future<Output = Result<OwnedTransaction, Error>> + Send {
        self.begin_at(Location::caller(), options.borrow().clone())
    }

    async fn begin_at(
        &self,
        called_at: &'static Location<'static>,
        options: TxOpts,
    ) -> Result<OwnedTransaction, Error> {
        let conn = self.get_writer(self.timeout(), called_at).await?;
        OwnedTransaction::begin(conn, options).await
    }

    /// Runs a closure in a transaction on the member that takes writes: commits it if the closure
    /// returns `Ok`, and rolls it back if the closure returns `Err`, panics, or is cancelled. As
    /// [`Pool::transaction`](crate::Pool::transaction), on [`writer()`](Self::writer).
    ///
    /// # Errors
    ///
    /// The closure's error, or an error of this crate converted into the closure's: those of
    /// [`begin`](Self::begin) and of [`OwnedTransaction::run`], of which only
    /// [`Error::CommitUnknown`] leaves open whether the transaction was committed.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::transaction`](crate::Pool::transaction).
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

    /// Like [`transaction`](Self::transaction), with options. If the server rolls the transaction
    /// back because of a conflict, it is repeated up to [`retries`](TransactionOptions::retries)
    /// times, as by [`Pool::transaction_with`](crate::Pool::transaction_with).
    ///
    /// On Galera and in a group with several primaries, a conflict with another member is often
    /// found only at `COMMIT` (errors 1213, 3101, and 1180 with error 149). Those are repeated too.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, TransactionOptions, cluster::Cluster};
    ///
    /// async fn order(cluster: &Cluster, id: u64) -> Result<(), Error> {
    ///     let options = TransactionOptions::new().retries(3);
    ///     cluster.transaction_with(options, async |mut transaction| {
    ///         let update = "UPDATE item SET stock = stock - 1 WHERE id = ?";
    ///         transaction.exec_drop(update, (id,)).await?;
    ///         let insert = "INSERT INTO orders (item) VALUES (?)";
    ///         transaction.exec_drop(insert, (id,)).await
    ///     })
    ///     .await
    /// }
    ///
    /// // Its future is `Send` if what the closure captures and returns is.
    /// # fn run(cluster: Cluster) {
    /// tokio::spawn(async move { order(&cluster, 7).await });
    /// # }
    /// ```
    ///
    /// Each attempt gets a connection from [`writer()`](Self::writer), within its own
    /// [`timeout`](field@crate::PoolConfig::timeout). If another member takes writes by then, it
    /// runs there. Only conflicts are repeated. After a refused write (1290) or a lost connection,
    /// this call returns the error.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction), of the last attempt.
    ///
    /// # Cancel safety
    ///
    /// As [`transaction`](Self::transaction).
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
