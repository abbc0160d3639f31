//! Errors: what failed, whether trying again may help, and what to do about it.

mod brief;
mod classify;
mod config;
mod connect;

use std::{fmt, time::Duration};

pub(crate) use self::{
    brief::Brief,
    classify::{
        ends_connection, forgets_statements, is_read_only_table, is_too_large, means_loss,
        means_read_only, rolls_back,
    },
};
pub use self::{
    classify::is_transient,
    config::{ConfigError, ConfigFault},
    connect::{ConnectError, ConnectPhase},
};
use crate::report::{Holders, HumanDuration, PoolStatus, WarmUpReport};

/// Every error of this crate.
///
/// It converts into a [`mysql_async::Error`], as `Other`, so a function that returns the driver's
/// result can use `?` on [`Pool::get`](crate::Pool::get). Neither its message, its `Debug` nor its
/// source holds a password.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    #[error("warm-up incomplete: {report}{}", Suffix("; last error: ", .source.as_ref()))]
    WarmUp {
        /// What the warm-up did and found.
        report: Box<WarmUpReport>,
        /// Why connections could not be opened.
        source: Option<ConnectError>,
    },

    /// The call was not made from a tokio runtime, or the pool is in use on another runtime.
    ///
    /// A pool lives on the runtime of its first use until that runtime ends.
    #[error(
        "not called from a tokio runtime, or the pool is in use on another runtime; \
         use one pool for each runtime"
    )]
    NoRuntime,

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

    /// The server has forgotten the session's prepared statements while the connection lived on, as
    /// a proxy does that changes the server behind it. The statement was not executed; of an
    /// `exec_batch`, earlier rows may have been.
    ///
    /// Whatever else the session had is gone too: a transaction, variables, temporary tables. So
    /// the connection refuses further statements with this error, and is replaced at its return.
    #[error(
        "the server has forgotten the session's prepared statements; the statement was not \
         executed, get another connection"
    )]
    SessionLost,

    /// A transaction was to be started while one is open: one begun by `BEGIN` or another statement,
    /// or by any statement while `autocommit` is off. Nothing was sent, because the server would
    /// commit the open one.
    #[error("a transaction is open on this connection, commit it or roll it back first")]
    InTransaction,

    /// The server has rolled back the [`Transaction`](crate::Transaction), because of a deadlock for
    /// example; an earlier statement of it has returned the error that says why. Nothing was sent:
    /// a further statement would not be part of any transaction.
    #[error("the server has rolled this transaction back, start another one")]
    RolledBack,

    /// The [`Transaction`](crate::Transaction) has ended before its `commit` or `rollback`: a
    /// statement in it has committed it or rolled it back, such as `COMMIT` or `CREATE TABLE`.
    /// Nothing was sent: a further statement would not be part of any transaction.
    #[error(
        "this transaction has ended already: a statement in it has committed it or rolled it back"
    )]
    TransactionEnded,

    /// A statement that was to be streamed returns no rows. It was executed.
    #[error("the statement has no result set to stream")]
    NoResultSet,
}

impl Error {
    /// Whether the same call may succeed later.
    ///
    /// True for [`Timeout`](Self::Timeout), [`StatementTimeout`](Self::StatementTimeout) and
    /// [`SessionLost`](Self::SessionLost); for [`RolledBack`](Self::RolledBack), after which the
    /// whole transaction may be tried again; and for [`Connect`](Self::Connect) and
    /// [`WarmUp`](Self::WarmUp) if the connect error that they contain is
    /// [transient](ConnectError::is_transient).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::StatementTimeout { .. }
            | Self::SessionLost
            | Self::RolledBack => true,
            Self::Connect(error) => error.is_transient(),
            Self::WarmUp { source, .. } => source.as_ref().is_none_or(ConnectError::is_transient),
            Self::Config(_)
            | Self::NoRuntime
            | Self::Closed
            | Self::ForeignStatement
            | Self::InTransaction
            | Self::TransactionEnded
            | Self::NoResultSet => false,
        }
    }
}

/// The same text as `Display`, because `unwrap` and `main` print `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Error> for mysql_async::Error {
    fn from(error: Error) -> Self {
        Self::Other(Box::new(error))
    }
}

/// What a [`get()`](crate::Pool::get) was waiting for when it timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutCause {
    /// Every connection that the limit allows was in use.
    Exhausted,
    /// Connections were being opened, and the server had not answered yet.
    Connecting,
    /// Connections could not be opened. The error's source says why.
    Unavailable,
    /// An idle connection was being validated, and the server had not answered yet.
    Validating,
}

impl fmt::Display for TimeoutCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "exhausted, every connection is in use",
            Self::Connecting => "connecting, the server has not answered yet",
            Self::Unavailable => "unavailable, the server cannot be reached",
            Self::Validating => "validating, the server has not answered on an open connection",
        })
    }
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
