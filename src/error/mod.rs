//! Errors: what failed, whether trying again may help, and what to do about it.

mod brief;
mod classify;
mod config;
mod connect;
mod convert;
mod kind;

use std::{fmt, time::Duration};

use self::convert::OnePrefix;
pub(crate) use self::{
    brief::Brief,
    classify::{
        ends_connection, forgets_statements, is_read_only_table, is_too_large, means_loss,
        means_read_only, refuses_commit, rolls_back,
    },
    connect::TlsFile,
    kind::ErrorType,
};
pub use self::{
    classify::{is_deadlock, is_transient},
    config::{ConfigError, ConfigFault},
    connect::{ConnectError, ConnectPhase},
};
use crate::report::{ClusterReport, Holders, HumanDuration, PoolStatus, WarmUpReport};

/// Every error of this crate.
///
/// `?` converts it into a [`mysql_async::Error`] and back: an error of the driver becomes
/// [`Driver`](Self::Driver), and an error of this crate goes through the driver's type, as `Other`,
/// and comes back as it was. [`Error::of`] finds it inside any other error. Neither its message,
/// its `Debug` nor its source holds a password.
///
/// ```no_run
/// use mysql_warm_pool::{Error, Pool, mysql_async};
///
/// /// `?` on both kinds of results, in a function that returns this crate's error.
/// async fn stock(pool: &Pool, id: u64) -> Result<Option<u32>, Error> {
///     let mut conn = pool.get().await?; // This crate's result.
///     let select = "SELECT stock FROM item WHERE id = ?";
///     let stock = conn.exec_first(select, (id,)).await?; // The driver's result.
///     Ok(stock)
/// }
///
/// /// And in one that returns the driver's. Your own error type needs `From<Error>`, and for the
/// /// driver's results `From<mysql_async::Error>` as well.
/// async fn stock_or_none(pool: &Pool, id: u64) -> mysql_async::Result<u32> {
///     Ok(stock(pool, id).await?.unwrap_or(0))
/// }
/// ```
///
/// # As the answer to an HTTP request
///
/// | error | status | because |
/// |---|---|---|
/// | [`Timeout`](Self::Timeout), [`Connect`](Self::Connect), [`WarmUp`](Self::WarmUp), [`Closed`](Self::Closed) | 503 | nothing was done; with `Retry-After: 1`, except for `Closed` |
/// | [`NoWriter`](Self::NoWriter), [`SeveralWriters`](Self::SeveralWriters), [`NoReplica`](Self::NoReplica), [`ClusterWarmUp`](Self::ClusterWarmUp) | 503 | nothing was done; with `Retry-After: 1` |
/// | [`StatementTimeout`](Self::StatementTimeout), [`RuntimeStopped`](Self::RuntimeStopped) | 504 | it may or may not have been executed |
/// | [`CommitUnknown`](Self::CommitUnknown) | 500 | it may or may not have been committed, so do not invite a retry |
/// | [`is_deadlock`](Self::is_deadlock), after the last retry | 409 or 503 | nothing was committed |
/// | `Driver` with the server's code 1062 (duplicate key), 1451 or 1452 (foreign key) | 409 | |
/// | `Driver` with the server's code 1264, 1366, 1406, 3819 or 4025 (value not allowed) | 422 | |
/// | other [transient](Self::is_transient) errors | 503 | |
/// | all others | 500 | a mistake in the program, its settings or its SQL |
///
/// ```
/// use mysql_warm_pool::{Error, mysql_async};
///
/// fn status(error: &Error) -> u16 {
///     let code = match error {
///         Error::Driver(mysql_async::Error::Server(error)) => error.code,
///         _ => 0,
///     };
///     match error {
///         _ if [1062, 1451, 1452].contains(&code) => 409,
///         _ if [1264, 1366, 1406, 3819, 4025].contains(&code) => 422,
///         Error::StatementTimeout { .. } | Error::RuntimeStopped => 504,
///         Error::Connect(_) | Error::WarmUp { .. } | Error::Closed => 503,
///         error if error.is_transient() => 503,
///         _ => 500,
///     }
/// }
/// # assert_eq!(status(&Error::Closed), 503);
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver's error: the server's answer to a statement
    /// ([`mysql_async::Error::Server`]), a lost connection ([`mysql_async::Error::Io`]), or a
    /// mistake in the use of the driver.
    ///
    /// Its text is the driver's, without repeated prefixes.
    #[error("{}", OnePrefix(.0))]
    Driver(#[source] mysql_async::Error),

    /// Settings are invalid. Names every fault at once.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A [`get()`](crate::Pool::get) obtained no connection within its timeout.
    #[error(
        "no connection within {}: {cause}; {status}{}{}",
        HumanDuration(*.waited),
        Suffix("; ", .holders.as_deref()),
        Suffix("; last error: ", .source.as_ref())
    )]
    Timeout {
        /// What the call was waiting for.
        cause: TimeoutCause,
        /// How long the call waited.
        waited: Duration,
        /// The pool's connections when the call gave up.
        status: PoolStatus,
        /// The callers that held connections then, if the cause is
        /// [`Exhausted`](TimeoutCause::Exhausted).
        holders: Option<Box<Holders>>,
        /// Why the last attempt to open a connection failed, if it did.
        source: Option<ConnectError>,
    },

    /// No connection is open, and opening one failed with a permanent error, such as a wrong
    /// password.
    #[error("cannot open a connection: {0}")]
    Connect(#[source] ConnectError),

    /// A warm-up ended with fewer connections than `ready_at`.
    #[error(
        "warm-up incomplete: {report}{}",
        Suffix("; last error: ", last_error(report, .source.as_ref()).as_ref())
    )]
    WarmUp {
        /// What the warm-up did and found.
        report: Box<WarmUpReport>,
        /// Why connections could not be opened.
        source: Option<ConnectError>,
    },

    /// The call was made outside of a tokio runtime, or on one that is shutting down or has no
    /// timers (`enable_all` gives it I/O and timers).
    ///
    /// Callers on any other runtime are served; see [`Pool`](crate::Pool#runtimes).
    #[error(
        "not called from a tokio runtime, or from one that is shutting down or has no timers \
         (enable_all)"
    )]
    NoRuntime,

    /// The pool's runtime, which drives the connection's socket, has ended, or has run nothing for
    /// some 5 seconds while a statement was under way on another runtime. The statement may or may
    /// not have been executed; one that began after that end was not sent. Another connection may
    /// work: once its runtime has ended, the pool moves to the next one that uses it.
    #[error(
        "the pool's runtime has ended or is not driven, so that the statement got no answer; \
         it may or may not have been executed"
    )]
    RuntimeStopped,

    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,

    /// A statement was under way for longer than
    /// [`statement_timeout`](field@crate::PoolConfig::statement_timeout), and was ended. It may or
    /// may not have been executed, and may still be running on the server.
    #[error("the statement was ended after {} (statement_timeout)", HumanDuration(*.after))]
    StatementTimeout {
        /// The `statement_timeout`.
        after: Duration,
    },

    /// A prepared statement was executed on another connection than the one that prepared it, or
    /// after that session was reset. Nothing was sent.
    #[error(
        "the statement was prepared on another connection or before a reset, \
         prepare it on this one"
    )]
    ForeignStatement,

    /// The server has forgotten the session's prepared statements while the connection lived on,
    /// for example because a proxy has switched to another server. The statement was not executed;
    /// of an `exec_batch`, earlier rows may have been.
    ///
    /// Whatever else the session had is gone too: a transaction, variables, temporary tables. So
    /// the connection refuses further statements with this error, and is discarded when it is
    /// returned.
    #[error(
        "the server has forgotten the session's prepared statements; the statement was not \
         executed, get another connection"
    )]
    SessionLost,

    /// A transaction was to be started while one is open: one begun by `BEGIN` or another
    /// statement, or by any statement while `autocommit` is off. Nothing was sent, because the
    /// server would commit the open one.
    #[error("a transaction is open on this connection, commit it or roll it back first")]
    InTransaction,

    /// The server has rolled back the [`Transaction`](crate::Transaction), because of a deadlock
    /// for example; an earlier statement in it has returned the error that says why. Nothing was
    /// sent: a further statement would not be part of any transaction.
    #[error("the server has rolled this transaction back, start another one")]
    RolledBack,

    /// The [`Transaction`](crate::Transaction) has ended before its `commit` or `rollback`: a
    /// statement in it has committed it or rolled it back, such as `COMMIT` or `CREATE TABLE`.
    /// Nothing was sent: a further statement would not be part of any transaction.
    #[error(
        "this transaction has ended already: a statement in it has committed it or rolled it back"
    )]
    TransactionEnded,

    /// The answer to `COMMIT` was lost, or does not show the outcome: the transaction may or may
    /// not have been committed. Never [transient](Self::is_transient).
    ///
    /// To find out, look for what the transaction has written, such as a key that the caller has
    /// chosen. A commit that was certainly refused or rolled back returns the error that says so
    /// instead.
    ///
    /// Other statements that commit return it too, sent or executed: `COMMIT` as text,
    /// `UPDATE ...; COMMIT`, and, if a transaction may be open, `CREATE TABLE` and the like. The
    /// last kind commits before it runs, so it returns this error after a transient answer too: a
    /// lock timeout may have come after the commit. Once such a statement was cancelled, the
    /// connection returns this error instead of [`ConnectionLost`](Self::ConnectionLost).
    #[error("the transaction may or may not have been committed: {}", OnePrefix(.source))]
    CommitUnknown {
        /// What came instead of the answer.
        source: mysql_async::Error,
    },

    /// The closure of [`Pool::transaction`](crate::Pool::transaction) has returned `Ok`, but its
    /// [`OwnedTransaction`](crate::OwnedTransaction) is still in use elsewhere. It was not
    /// committed, and is rolled back when it is dropped.
    #[error("the closure has returned before it dropped its transaction, which is not committed")]
    TransactionInUse,

    /// An earlier statement on this connection was cancelled, or the connection was lost. Nothing
    /// was sent: the answer to the earlier statement would be taken for the answer to this one.
    #[error(
        "nothing was sent: an earlier statement on this connection was cancelled or lost; get \
         another connection"
    )]
    ConnectionLost,

    /// The connection was closed because of an earlier mistake in its use, such as a packet that is
    /// too large. Nothing was sent.
    #[error(
        "nothing was sent: this connection was closed because of an earlier mistake in its use"
    )]
    ConnectionMisused,

    /// A row does not convert to the type that the caller asked for, such as `NULL` to a `String`
    /// in place of an `Option<String>`. The statement was executed, the rest of its answer was read,
    /// and the connection stays usable.
    ///
    /// Where the driver's own methods panic, those of this crate return this error. They convert
    /// rows by [`FromRow::from_row_opt`](mysql_async::prelude::FromRow::from_row_opt): an
    /// implementation of your own has to return an error there too, and must not panic.
    #[error("a row ({row}) does not convert to {target}; the statement was executed")]
    Conversion {
        /// The row's columns by place, those that are `NULL` first, with their types in the protocol
        /// and, if they belong to a table, their names; without their values.
        row: String,
        /// The Rust type that was asked for.
        target: &'static str,
    },

    /// A statement that was to be streamed has no result set. It was executed.
    #[error("the statement has no result set to stream")]
    NoResultSet,

    /// No member of the [`Cluster`](crate::cluster::Cluster) took writes within the timeout.
    #[error(
        "no member takes writes, after {}: {}",
        HumanDuration(*.waited),
        .members.join("; ")
    )]
    NoWriter {
        /// How long the call waited.
        waited: Duration,
        /// Each member with its role, and why it takes no writes.
        members: Vec<String>,
    },

    /// Several members of the [`Cluster`](crate::cluster::Cluster) take writes, though they belong
    /// to one replication topology, so that what is written to one may be lost to the other.
    /// [`writer()`](crate::cluster::Cluster::writer) fails until one is left.
    #[error("several members take writes, and only one may: {}", .members.join(", "))]
    SeveralWriters {
        /// Their addresses, `host:port`.
        members: Vec<String>,
    },

    /// No replica of the [`Cluster`](crate::cluster::Cluster) serves reads, and
    /// [`Reads::ReplicaOnly`](crate::cluster::Reads::ReplicaOnly) is set.
    #[error("no replica serves reads: {}", .members.join("; "))]
    NoReplica {
        /// Each member with its role, and why it serves no reads.
        members: Vec<String>,
    },

    /// A warm-up of a [`Cluster`](crate::cluster::Cluster) ended without a member that takes writes
    /// and whose pool is warm.
    #[error("warm-up of the cluster incomplete: {report}")]
    ClusterWarmUp {
        /// What the warm-up did and found.
        report: Box<ClusterReport>,
        /// Why a member's pool could not open connections, if that is permanent.
        source: Option<ConnectError>,
    },
}

impl Error {
    /// Finds the error of this crate in any other error: in the driver's, in an I/O error, or among
    /// the sources.
    ///
    /// It is not found inside a `transparent` variant of `thiserror`, whose `source` skips the
    /// error that the variant holds.
    ///
    /// ```
    /// use mysql_warm_pool::{Error, mysql_async};
    ///
    /// let error = mysql_async::Error::from(Error::Closed);
    /// assert!(matches!(Error::of(&error), Some(Error::Closed)));
    /// ```
    #[must_use]
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        convert::find(error)
    }

    /// Returns whether the same call may succeed later.
    ///
    /// True for [`Timeout`](Self::Timeout), [`StatementTimeout`](Self::StatementTimeout),
    /// [`RuntimeStopped`](Self::RuntimeStopped), [`SessionLost`](Self::SessionLost),
    /// [`ConnectionLost`](Self::ConnectionLost), [`NoWriter`](Self::NoWriter),
    /// [`SeveralWriters`](Self::SeveralWriters) and [`NoReplica`](Self::NoReplica); for
    /// [`RolledBack`](Self::RolledBack), after which
    /// the whole transaction may be tried again; for [`Connect`](Self::Connect),
    /// [`WarmUp`](Self::WarmUp) and [`ClusterWarmUp`](Self::ClusterWarmUp) if the connect error in
    /// them is [transient](ConnectError::is_transient), or if a warm-up has none; and for
    /// [`Driver`](Self::Driver) if the driver's error is [transient](is_transient).
    ///
    /// A transaction that ended with a transient error was not committed, so all of it may be
    /// repeated. A single statement outside of a transaction may have been executed.
    ///
    /// # Examples
    ///
    /// A read may be repeated. Each try may take [`timeout`](field@crate::PoolConfig::timeout), so
    /// set that lower. `examples/retry.rs` is a whole program, with the crate `backon`.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use mysql_warm_pool::{Error, Pool};
    ///
    /// async fn name(pool: &Pool, id: u64) -> Result<Option<String>, Error> {
    ///     let mut pause = Duration::from_millis(50);
    ///     loop {
    ///         match pool.exec_first("SELECT name FROM item WHERE id = ?", (id,)).await {
    ///             Err(error) if error.is_transient() && pause < Duration::from_secs(1) => {
    ///                 tokio::time::sleep(pause).await;
    ///                 pause *= 2;
    ///             }
    ///             outcome => return outcome,
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::StatementTimeout { .. }
            | Self::RuntimeStopped
            | Self::SessionLost
            | Self::RolledBack
            | Self::ConnectionLost
            | Self::NoWriter { .. }
            | Self::SeveralWriters { .. }
            | Self::NoReplica { .. } => true,
            Self::Driver(error) => is_transient(error),
            Self::Connect(error) => error.is_transient(),
            Self::WarmUp { source, .. } | Self::ClusterWarmUp { source, .. } => {
                source.as_ref().is_none_or(ConnectError::is_transient)
            }
            Self::Config(_)
            | Self::NoRuntime
            | Self::Closed
            | Self::ForeignStatement
            | Self::InTransaction
            | Self::TransactionEnded
            | Self::CommitUnknown { .. }
            | Self::TransactionInUse
            | Self::ConnectionMisused
            | Self::Conversion { .. }
            | Self::NoResultSet => false,
        }
    }

    /// Returns whether the server has rolled the whole transaction back, because of a deadlock or
    /// another conflict. If so, repeat the whole transaction, from its start;
    /// [`transaction_with`](crate::Pool::transaction_with) does that by itself.
    ///
    /// True for [`RolledBack`](Self::RolledBack), and for [`Driver`](Self::Driver) if the driver's
    /// error [is one](is_deadlock).
    #[must_use]
    pub fn is_deadlock(&self) -> bool {
        match self {
            Self::RolledBack => true,
            Self::Driver(error) => is_deadlock(error),
            _ => false,
        }
    }

    /// Returns whether a transaction may have been committed although its `commit` failed:
    /// [`CommitUnknown`](Self::CommitUnknown).
    #[must_use]
    pub fn is_commit_unknown(&self) -> bool {
        match self {
            Self::CommitUnknown { .. } => true,
            Self::Driver(error) => Self::of(error).is_some_and(Self::is_commit_unknown),
            _ => false,
        }
    }
}

/// The driver's errors are not [`Clone`], so a clone holds a copy that keeps the server's answer,
/// the kind of an I/O error, and of other errors the text.
impl Clone for Error {
    fn clone(&self) -> Self {
        match self {
            Self::Config(error) => Self::Config(error.clone()),
            Self::Driver(error) => Self::Driver(convert::copy(error)),
            Self::Timeout {
                cause,
                waited,
                status,
                holders,
                source,
            } => Self::Timeout {
                cause: *cause,
                waited: *waited,
                status: *status,
                holders: holders.clone(),
                source: source.clone(),
            },
            Self::Connect(error) => Self::Connect(error.clone()),
            Self::WarmUp { report, source } => Self::WarmUp {
                report: report.clone(),
                source: source.clone(),
            },
            Self::NoRuntime => Self::NoRuntime,
            Self::RuntimeStopped => Self::RuntimeStopped,
            Self::Closed => Self::Closed,
            Self::StatementTimeout { after } => Self::StatementTimeout { after: *after },
            Self::ForeignStatement => Self::ForeignStatement,
            Self::SessionLost => Self::SessionLost,
            Self::InTransaction => Self::InTransaction,
            Self::RolledBack => Self::RolledBack,
            Self::TransactionEnded => Self::TransactionEnded,
            Self::CommitUnknown { source } => Self::CommitUnknown {
                source: convert::copy(source),
            },
            Self::TransactionInUse => Self::TransactionInUse,
            Self::ConnectionLost => Self::ConnectionLost,
            Self::ConnectionMisused => Self::ConnectionMisused,
            Self::Conversion { row, target } => Self::Conversion {
                row: row.clone(),
                target,
            },
            Self::NoResultSet => Self::NoResultSet,
            Self::NoWriter { waited, members } => Self::NoWriter {
                waited: *waited,
                members: members.clone(),
            },
            Self::SeveralWriters { members } => Self::SeveralWriters {
                members: members.clone(),
            },
            Self::NoReplica { members } => Self::NoReplica {
                members: members.clone(),
            },
            Self::ClusterWarmUp { report, source } => Self::ClusterWarmUp {
                report: report.clone(),
                source: source.clone(),
            },
        }
    }
}

/// The same text as `Display`, because `unwrap` and `main` print `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a [`get()`](crate::Pool::get) was waiting for when it timed out.
///
/// ```
/// use std::time::Duration;
///
/// use mysql_warm_pool::{Error, Pool, PoolConfig, error::TimeoutCause};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// // No server is there.
/// let pool = Pool::new(PoolConfig::from_url("mysql://app@127.0.0.1:1/shop")?)?;
/// match pool.get_within(Duration::from_millis(100)).await {
///     Err(Error::Timeout { cause: TimeoutCause::Exhausted, holders: Some(holders), .. }) => {
///         println!("a larger pool, or shorter use: {holders}");
///     }
///     Err(Error::Timeout { cause, source: Some(error), .. }) => {
///         assert_eq!(cause, TimeoutCause::Unavailable);
///         println!("{}", error.advice());
///     }
///     Err(error) => println!("{error}"),
///     Ok(conn) => drop(conn),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutCause {
    /// Every connection that the limit allows was in use. The error's `holders` say for how long,
    /// and with [`leak_after`](field@crate::PoolConfig::leak_after) from which source lines.
    Exhausted,
    /// Connections were being opened, and the server had not answered yet.
    Connecting,
    /// Connections could not be opened. The error's source says why.
    Unavailable,
    /// An idle connection was being validated, and the server had not answered yet.
    Validating,
    /// The call was made on another runtime than the pool's, and the pool's runtime, which drives
    /// all its sockets, has run nothing meanwhile: its `block_on` has returned, or its threads are
    /// blocked.
    RuntimeNotDriven,
}

impl fmt::Display for TimeoutCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "exhausted, every connection is in use",
            Self::Connecting => "connecting, the server has not answered yet",
            Self::Unavailable => "unavailable, the server cannot be reached",
            Self::Validating => "validating, the server has not answered on an open connection",
            Self::RuntimeNotDriven => {
                "the pool's runtime is not driven: its block_on has returned, or its threads are \
                 blocked"
            }
        })
    }
}

/// Why connections could not be opened. Even if no attempt has failed there may be a reason: the
/// pool's runtime is not driven.
fn last_error(report: &WarmUpReport, source: Option<&ConnectError>) -> Option<String> {
    source
        .map(ToString::to_string)
        .or_else(|| report.last_error.clone())
}

/// Displays a prefix and a value, or nothing if there is no value.
struct Suffix<'a, T>(&'static str, Option<&'a T>);

impl<T: fmt::Display> fmt::Display for Suffix<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(value) => write!(f, "{}{value}", self.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    #[test]
    fn a_timeout_names_cause_status_and_last_error() {
        let denied = mysql_async::Error::Server(ServerError {
            code: 1045,
            message: "access denied".to_owned(),
            state: "28000".to_owned(),
        });
        let error = Error::Timeout {
            cause: TimeoutCause::Unavailable,
            waited: Duration::from_millis(200),
            status: PoolStatus {
                size: 2,
                overflow: 1,
                ..PoolStatus::default()
            },
            holders: None,
            source: Some(ConnectError::driver(ConnectPhase::Connect, denied)),
        };
        let text = error.to_string();
        for part in [
            "200 ms",
            "unavailable",
            "0 of 3 connections open",
            "1045",
            "check user and password",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert_eq!(format!("{error:?}"), text);
    }

    #[test]
    fn a_timeout_is_transient_also_as_an_error_of_the_driver() {
        let error = Error::Timeout {
            cause: TimeoutCause::Exhausted,
            waited: Duration::from_secs(60),
            status: PoolStatus::default(),
            holders: None,
            source: None,
        };
        assert!(error.is_transient());
        assert!(is_transient(&error.into()));
        assert!(!is_transient(&Error::Closed.into()));
    }
}
