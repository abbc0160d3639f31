//! `OwnedTransaction`: a transaction that holds its connection.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mysql_async::{Conn, TxOpts, prelude::Queryable as _};

use crate::{
    error::Error,
    session::follow::{Ending, Follow},
    telemetry::Caller,
};

use super::{
    PooledConn,
    commands::commit_error,
    target::{begin, refuse_nested},
    transaction::has_ended,
};

/// A transaction that holds its connection, begun by [`Pool::begin`](crate::Pool::begin),
/// [`Cluster::begin`](crate::cluster::Cluster::begin) or [`begin`](Self::begin).
///
/// It is `'static` and [`Send`]: it may be kept in a struct, returned from a function, or moved
/// into a task. Use it like a connection: `exec*` and `query*` are methods of its own, it is an
/// [`Executor`](crate::Executor), and it implements the driver's
/// [`Queryable`](mysql_async::prelude::Queryable).
///
/// ```no_run
/// # use mysql_warm_pool::{Error, Pool};
/// # async fn run(pool: Pool) -> Result<(), Error> {
/// let mut transaction = pool.begin().await?;
/// transaction.exec_drop("UPDATE account SET balance = balance - 5 WHERE id = ?", (1,)).await?;
/// transaction.exec_drop("UPDATE account SET balance = balance + 5 WHERE id = ?", (2,)).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # When it has ended
///
/// As in a [`Transaction`](crate::Transaction): after the server has rolled it back, or a statement
/// has committed it, every command returns [`Error::RolledBack`] or [`Error::TransactionEnded`] and
/// sends nothing, and a statement that begins another transaction is refused with
/// [`Error::InTransaction`].
///
/// # The bare `Conn`
///
/// As in a [`PooledConn`](crate::PooledConn#the-bare-conn). Once it was used, every command first
/// asks the server whether the transaction is still open.
///
/// # Dropping
///
/// Without [`commit`](Self::commit) it is rolled back, in the background, and the connection is
/// returned. That never blocks and never panics, and works outside a runtime.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct OwnedTransaction {
    /// `None` once it has ended.
    conn: Option<PooledConn>,
    /// The closures that hold it, the innermost last: it goes there when it is dropped.
    used_by: Vec<ClosureUse>,
}

impl OwnedTransaction {
    /// Begins a transaction on this connection, and takes it.
    ///
    /// [`Pool::begin`](crate::Pool::begin) gets the connection too. Use this if the connection
    /// comes from elsewhere, such as [`get_within`](crate::Pool::get_within) or your own wrapper:
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use mysql_warm_pool::{Error, OwnedTransaction, Pool, mysql_async::TxOpts};
    ///
    /// async fn begin_soon(pool: &Pool) -> Result<OwnedTransaction, Error> {
    ///     let conn = pool.get_within(Duration::from_millis(100)).await?;
    ///     OwnedTransaction::begin(conn, TxOpts::default()).await
    /// }
    /// # drop(begin_soon);
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::InTransaction`] if a transaction is open that was begun by a statement, because the
    ///   server would commit it. A [`Transaction`](crate::Transaction) that was dropped is rolled
    ///   back first.
    /// - [`Error::ConnectionLost`] if an earlier statement was cancelled or the connection is lost;
    /// - [`Error::Driver`] with the driver's error or the server's answer.
    ///
    /// The connection is returned, which rolls back what is open.
    ///
    /// # Cancel safety
    ///
    /// Safe: no transaction stays open. If the future is dropped midway, the connection is
    /// discarded.
    pub async fn begin(mut conn: PooledConn, options: TxOpts) -> Result<Self, Error> {
        let (bare, follow, caller) = conn.parts();
        let was_used = follow.is_used();
        follow.begin(bare)?;
        if follow.is_guarded() {
            // The handle of a `Transaction` was leaked.
            return Err(follow.refuse(Error::InTransaction).into());
        }
        if was_used {
            refuse_nested(bare, follow).await?;
        }
        follow.record_transaction(true);
        if options.readonly() == Some(true) {
            follow.record_read_only_transaction();
        }
        let level = options.isolation_level();
        let sending = async {
            if let Some(level) = level {
                bare.query_drop(format!("SET TRANSACTION ISOLATION LEVEL {level}"))
                    .await?;
            }
            bare.query_drop(start_text(&options)).await
        };
        let mut timing = caller.timing(b"START TRANSACTION");
        timing.start();
        let sent = follow.unless_cut(pin!(sending)).await;
        let outcome = sent.and_then(|outcome| {
            follow.end_with_status(&outcome);
            if outcome.is_err() && level.is_some() {
                follow.record_pending_level();
            }
            outcome
        });
        timing.end(follow.answer, outcome.map(|()| ((), None)))?;
        let status = bare.last_ok_packet().map(|ok| ok.status_flags());
        follow.guard(status);
        Ok(Self {
            conn: Some(conn),
            used_by: Vec::new(),
        })
    }

    /// Commits the transaction, and returns the connection.
    ///
    /// If the last statement has committed the transaction by itself, such as `CREATE TABLE`, there
    /// is nothing left to do, and that is no error.
    ///
    /// # Errors
    ///
    /// - [`Error::CommitUnknown`] if the answer is lost: it may or may not have been committed;
    /// - [`Error::RolledBack`] if the server has rolled it back before; [`Error::TransactionEnded`]
    ///   if a statement has ended it before, and it is not known how;
    /// - [`Error::ConnectionLost`] if an earlier statement was cancelled or the connection is lost:
    ///   nothing was committed;
    /// - [`Error::Driver`] with the server's answer if it refuses to commit: nothing was committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the transaction may or may not be committed, and the
    /// connection is discarded.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mysql_warm_pool::{Error, Pool};
    /// async fn pay(pool: &Pool, id: &str, sum: i64) -> Result<(), Error> {
    ///     let mut transaction = pool.begin().await?;
    ///     transaction.exec_drop("INSERT INTO payment (id, sum) VALUES (?, ?)", (id, sum)).await?;
    ///     match transaction.commit().await {
    ///         Err(error) if error.is_commit_unknown() => {
    ///             // The caller has chosen the key, so it can be looked up.
    ///             let select = "SELECT 1 FROM payment WHERE id = ?";
    ///             let found: Option<u8> = pool.exec_first(select, (id,)).await?;
    ///             found.map(|_| ()).ok_or(error)
    ///         }
    ///         outcome => outcome,
    ///     }
    /// }
    /// ```
    pub async fn commit(mut self) -> Result<(), Error> {
        let (conn, follow, caller) = self.parts();
        if let Err(error) = begin(conn, follow).await {
            let is_committed = has_ended(&error) && follow.ending().is_some_and(Ending::is_commit);
            let error = Error::from(error);
            self.settle(error.is_deadlock());
            return if is_committed { Ok(()) } else { Err(error) };
        }
        follow.record_commit();
        let mut timing = caller.timing(b"COMMIT");
        timing.start();
        let sent = follow.unless_cut(conn.query_drop("COMMIT")).await;
        let sent = sent.map_err(|error| timing.fail(follow.answer, error));
        let outcome = sent.map_err(commit_error)?;
        follow.end_with_status(&outcome);
        // After a refused commit the transaction may be open: then the return rolls back.
        follow.record_transaction(outcome.is_err());
        let outcome = timing.end(follow.answer, outcome.map(|()| ((), None)));
        let outcome = outcome.map_err(|error| Error::from(commit_error(error)));
        self.settle(outcome.as_ref().is_err_and(Error::is_deadlock));
        outcome
    }

    /// Rolls the transaction back, and returns the connection.
    ///
    /// # Errors
    ///
    /// - [`Error::ConnectionLost`] or [`Error::Driver`] if the connection is lost, which rolls back
    ///   too;
    /// - [`Error::TransactionEnded`] if a statement has ended the transaction before, and may have
    ///   committed it. If the server or a statement has rolled it back, that is no error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped midway, the connection is discarded, which rolls back too.
    pub async fn rollback(mut self) -> Result<(), Error> {
        let (conn, follow, caller) = self.parts();
        follow.forget_savepoints();
        if let Err(error) = begin(conn, follow).await {
            let ending = follow.ending().filter(|_| has_ended(&error));
            let by_server = ending == Some(Ending::ByServer) || follow.is_deadlocked();
            let is_rolled_back = by_server || ending == Some(Ending::ByRollback);
            self.settle(by_server);
            return if is_rolled_back {
                Ok(())
            } else {
                Err(error.into())
            };
        }
        let mut timing = caller.timing(b"ROLLBACK");
        timing.start();
        let sent = follow.unless_cut(conn.query_drop("ROLLBACK")).await;
        let outcome = sent.map_err(|error| timing.fail(follow.answer, error))?;
        follow.end_with_status(&outcome);
        follow.record_transaction(outcome.is_err());
        let is_deadlocked = follow.is_deadlocked();
        let outcome = timing.end(follow.answer, outcome.map(|()| ((), None)));
        self.settle(is_deadlocked);
        // See `Transaction::rollback`.
        if is_deadlocked { Ok(()) } else { Ok(outcome?) }
    }

    /// Whether the server has rolled all of it back, because of a conflict or a timeout.
    pub(super) async fn is_rolled_back(&mut self) -> bool {
        let (conn, follow, _) = self.parts();
        if follow.is_deadlocked() {
            return true;
        }
        follow.forget_savepoints();
        match begin(conn, follow).await {
            Ok(()) => {
                follow.withdraw();
                false
            }
            Err(error) => follow.is_deadlocked() || matches!(error.into(), Error::RolledBack),
        }
    }

    /// Splits it into the transaction for a closure, and a value that gets the transaction back
    /// when the closure drops it.
    pub(super) fn for_closure(mut self) -> (Self, ClosureUse) {
        let used_by = ClosureUse {
            usage: Arc::new(Mutex::new(Usage::InUse)),
            outer: self.used_by.clone(),
        };
        self.used_by.push(used_by.clone());
        (self, used_by)
    }

    /// Returns the connection: the transaction has ended.
    fn settle(&mut self, by_conflict: bool) {
        for used_by in self.used_by.drain(..) {
            *used_by.lock() = Usage::Ended { by_conflict };
        }
        self.give_back();
    }

    /// Returns the connection. What is open is rolled back.
    fn give_back(&mut self) {
        if let Some(mut conn) = self.conn.take() {
            let (_, follow, _) = conn.parts();
            follow.end_guard();
        }
    }

    pub(super) fn parts(&mut self) -> (&mut Conn, &mut Follow, Caller<'_>) {
        let (conn, follow, caller) = self.conn_mut().parts();
        follow.at_savepoint(0);
        (conn, follow, caller)
    }

    fn conn_mut(&mut self) -> &mut PooledConn {
        match &mut self.conn {
            Some(conn) => conn,
            None => unreachable!("only consuming functions take the connection"),
        }
    }
}

fn start_text(options: &TxOpts) -> String {
    let access = match options.readonly() {
        Some(true) => Some("READ ONLY"),
        Some(false) => Some("READ WRITE"),
        None => None,
    };
    let snapshot = options
        .consistent_snapshot()
        .then_some("WITH CONSISTENT SNAPSHOT");
    let characteristics: Vec<_> = snapshot.into_iter().chain(access).collect();
    format!("START TRANSACTION {}", characteristics.join(", "))
}

impl Drop for OwnedTransaction {
    fn drop(&mut self) {
        let Some(used_by) = self.used_by.pop() else {
            return self.give_back();
        };
        let mut usage = used_by.lock();
        if matches!(*usage, Usage::InUse) {
            // Without the outer closures: if the inner one is cancelled, it is rolled back.
            *usage = Usage::Dropped(Self {
                conn: self.conn.take(),
                used_by: Vec::new(),
            });
        } else {
            drop(usage);
            self.give_back();
        }
    }
}

impl Deref for OwnedTransaction {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match &self.conn {
            Some(conn) => conn,
            None => unreachable!("only consuming functions take the connection"),
        }
    }
}

impl DerefMut for OwnedTransaction {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn_mut()
    }
}

impl fmt::Debug for OwnedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedTransaction")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// How a closure uses the transaction that it was given.
#[derive(Clone)]
pub(super) struct ClosureUse {
    usage: Arc<Mutex<Usage>>,
    /// The closures around it, the outermost first.
    outer: Vec<Self>,
}

pub(super) enum Usage {
    InUse,
    /// The closure has dropped it.
    Dropped(OwnedTransaction),
    /// The closure has committed it or rolled it back.
    Ended {
        /// Whether the server had rolled it back, because of a conflict.
        by_conflict: bool,
    },
    /// The closure has returned, and the transaction is still in use elsewhere.
    InUseElsewhere,
}

impl ClosureUse {
    /// Ends the use, now that the closure has returned. What it dropped belongs to the closures
    /// around it again.
    pub(super) fn end(self) -> Usage {
        let mut usage = std::mem::replace(&mut *self.lock(), Usage::InUseElsewhere);
        if let Usage::Dropped(transaction) = &mut usage {
            transaction.used_by = self.outer;
        }
        usage
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
