//! `Savepoint`: a part of a transaction that can be undone by itself.

use std::{fmt, ops::Deref};

use mysql_async::{Conn, prelude::Queryable as _};

use crate::{error::Error, session::follow::Follow, telemetry::Caller};

use super::{OwnedTransaction, Transaction, holder::Holder, target::begin};

/// A savepoint in a [`Transaction`] or an [`OwnedTransaction`]: what runs on it can be undone
/// without the rest of the transaction.
///
/// ```no_run
/// # use mysql_warm_pool::{Error, Pool};
/// # async fn run(pool: Pool) -> Result<(), Error> {
/// let mut transaction = pool.begin().await?;
/// transaction.exec_drop("INSERT INTO orders (id) VALUES (?)", (7,)).await?;
/// let mut coupon = transaction.savepoint().await?;
/// match coupon.exec_drop("INSERT INTO coupon (code) VALUES (?)", ("X",)).await {
///     Ok(()) => coupon.release().await?,
///     Err(_) => coupon.rollback().await?, // the order stays
/// }
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// It borrows the transaction: until the savepoint ends, run statements on it. It may have
/// savepoints of its own. The pool chooses their names.
///
/// If the server rolls the whole transaction back, after a deadlock for example, or a statement
/// commits it, every method returns [`Error::RolledBack`] or [`Error::TransactionEnded`], as those
/// of the transaction do.
///
/// # Dropping
///
/// Without [`release`](Self::release), what ran on it is rolled back, before the next command of
/// the transaction. That needs no runtime and cannot fail unseen: if it fails, that command fails.
#[must_use = "a savepoint that is not released is rolled back"]
pub struct Savepoint<'t, T> {
    transaction: &'t mut T,
    /// How many savepoints are open with this one.
    level: u32,
}

impl Transaction<'_> {
    /// Sets a savepoint.
    ///
    /// # Errors
    ///
    /// The server's answer as [`Error::Driver`]; [`Error::RolledBack`] and
    /// [`Error::TransactionEnded`] if the transaction has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded when it is returned.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_, Self>, Error> {
        Savepoint::set(self, 1).await
    }
}

impl OwnedTransaction {
    /// Sets a savepoint.
    ///
    /// # Errors
    ///
    /// The server's answer as [`Error::Driver`]; [`Error::RolledBack`] and
    /// [`Error::TransactionEnded`] if the transaction has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded when it is returned.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_, Self>, Error> {
        Savepoint::set(self, 1).await
    }
}

impl<'t, T: Holder> Savepoint<'t, T> {
    async fn set(transaction: &'t mut T, level: u32) -> Result<Self, Error> {
        let mut this = Self { transaction, level };
        // Sent at the level of the enclosing savepoint.
        this.send_at(level.saturating_sub(1), set(level), level)
            .await?;
        Ok(this)
    }

    /// Sets a savepoint inside this one.
    ///
    /// # Errors
    ///
    /// The server's answer as [`Error::Driver`]; [`Error::RolledBack`] and
    /// [`Error::TransactionEnded`] if the transaction has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded when it is returned.
    pub async fn savepoint(&mut self) -> Result<Savepoint<'_, T>, Error> {
        Savepoint::set(&mut *self.transaction, self.level.saturating_add(1)).await
    }

    /// Keeps what ran on it as part of the transaction, to be committed with it.
    ///
    /// # Errors
    ///
    /// The server's answer as [`Error::Driver`]; [`Error::RolledBack`] and
    /// [`Error::TransactionEnded`] if the transaction has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded, which rolls all of the
    /// transaction back.
    pub async fn release(mut self) -> Result<(), Error> {
        let around = self.level.saturating_sub(1);
        self.send_at(self.level, release(self.level), around).await
    }

    /// Rolls back what ran on it. The rest of the transaction stays.
    ///
    /// # Errors
    ///
    /// The server's answer as [`Error::Driver`]; [`Error::RolledBack`] and
    /// [`Error::TransactionEnded`] if all of the transaction has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded, which rolls all of the
    /// transaction back.
    pub async fn rollback(mut self) -> Result<(), Error> {
        let around = self.level.saturating_sub(1);
        self.send_at(self.level, roll_back_to(self.level), around)
            .await
    }

    /// Sends a text at this level, after which `open` savepoints are open.
    async fn send_at(&mut self, level: u32, text: String, open: u32) -> Result<(), Error> {
        let (conn, follow, caller) = self.transaction.parts();
        follow.at_savepoint(level);
        begin(conn, follow).await?;
        let mut timing = caller.timing(text.as_bytes());
        timing.start();
        let sent = follow.unless_cut(conn.query_drop(&*text)).await;
        let outcome = sent.and_then(|outcome| {
            follow.end_with_status(&outcome);
            if outcome.is_ok() {
                follow.record_savepoints(open);
            }
            outcome
        });
        Ok(timing.end(follow.answer, outcome.map(|()| ((), None)))?)
    }

    pub(super) fn parts(&mut self) -> (&mut T::Target, &mut Follow, Caller<'_>) {
        let (conn, follow, caller) = self.transaction.parts();
        follow.at_savepoint(self.level);
        (conn, follow, caller)
    }
}

impl<T: Deref<Target = Conn>> Deref for Savepoint<'_, T> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.transaction
    }
}

impl<T> fmt::Debug for Savepoint<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

fn set(level: u32) -> String {
    format!("SAVEPOINT `{PREFIX}{level}`")
}

/// The text that rolls back to a savepoint. That stays set; the next one of its level replaces it.
pub(super) fn roll_back_to(level: u32) -> String {
    format!("ROLLBACK TO SAVEPOINT `{PREFIX}{level}`")
}

fn release(level: u32) -> String {
    format!("RELEASE SAVEPOINT `{PREFIX}{level}`")
}

/// The names of the pool's savepoints begin with it, so that none is a caller's.
const PREFIX: &str = "mysql_warm_pool_";
