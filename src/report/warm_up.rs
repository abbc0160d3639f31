//! `WarmUpReport`: what `warm_up()` did and found.

use std::{fmt, time::Duration};

use super::{HumanDuration, ServerInfo};

/// What a [`warm_up()`](crate::Pool::warm_up) did and found.
///
/// Its `Display` is one line, which also names failed attempts and warnings if there are any: `20
/// of 20 connections ready in 41 ms (each 0.9 ms to 2.4 ms), MariaDB 10.11.6-MariaDB`.
///
/// ```no_run
/// use mysql_warm_pool::{Error, Pool, report::Warning};
///
/// /// In a test of the deployment: finds settings that do not fit the server.
/// async fn check(pool: &Pool) -> Result<(), Error> {
///     let report = pool.warm_up().await?;
///     for warning in &report.warnings {
///         match warning {
///             Warning::LimitTooHigh { limit, allowed, setting } => {
///                 panic!("size + overflow is {limit}, but {setting} leaves {allowed}");
///             }
///             other => eprintln!("{other}"),
///         }
///     }
///     assert!(report.is_complete());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WarmUpReport {
    /// Connections to be opened: the pool's `size`, or one if that is 0.
    pub target: usize,
    /// Validated connections that were open when the warm-up ended. With a `size` of 0, one that
    /// was closed again because [`overflow_linger`](field@crate::PoolConfig::overflow_linger) is 0
    /// counts too.
    pub open: usize,
    /// Connections opened during the warm-up, for it or for callers; 0 if the pool was warm.
    pub opened: usize,
    /// Attempts to open a connection that ended during the warm-up.
    pub attempts: u64,
    /// Those of [`attempts`](Self::attempts) that failed.
    pub failed_attempts: u64,
    /// Duration of the warm-up.
    pub elapsed: Duration,
    /// How long opening a connection took; `None` if none was opened.
    pub connect_time: Option<ConnectTime>,
    /// Why the last failed attempt during the warm-up failed.
    pub last_error: Option<String>,
    /// The server's version and limits; `None` until a connection has been opened.
    pub server: Option<ServerInfo>,
    /// Settings that are likely to cause trouble later.
    pub warnings: Vec<Warning>,
}

impl WarmUpReport {
    /// Returns whether every connection of [`target`](Self::target) is open and validated.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.open >= self.target
    }
}

impl fmt::Display for WarmUpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ready, target) = (self.open.min(self.target), self.target);
        let elapsed = HumanDuration(self.elapsed);
        write!(f, "{ready} of {target} connections ready in {elapsed}")?;
        if let Some(ConnectTime { min, max, .. }) = self.connect_time {
            let (min, max) = (HumanDuration(min), HumanDuration(max));
            write!(f, " (each {min} to {max})")?;
        }
        if self.failed_attempts > 0 {
            let (failed, attempts) = (self.failed_attempts, self.attempts);
            write!(f, ", {failed} of {attempts} attempts failed")?;
        }
        if let Some(server) = &self.server {
            write!(f, ", {server}")?;
        }
        for warning in &self.warnings {
            write!(f, "; warning: {warning}")?;
        }
        Ok(())
    }
}

/// How long opening one connection took, from asking for credentials to validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConnectTime {
    /// The shortest.
    pub min: Duration,
    /// The median.
    pub median: Duration,
    /// The longest.
    pub max: Duration,
}

impl ConnectTime {
    /// `None` if there are no times.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        Some(Self {
            min: *times.first()?,
            median: *times.get(times.len() / 2)?,
            max: *times.last()?,
        })
    }
}

/// A setting of the pool or the server that is likely to cause trouble later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Warning {
    /// The limit exceeds what the server still allows: under load it will refuse connections.
    LimitTooHigh {
        /// The pool's limit, `size + overflow`.
        limit: usize,
        /// Connections the server allows this pool, those already open included.
        allowed: u64,
        /// The server's setting: `max_connections` or `max_user_connections`.
        setting: &'static str,
    },
    /// `recycle` is not below the server's `wait_timeout`: the server may close an idle connection
    /// before the pool replaces it.
    RecycleNotBelowWaitTimeout {
        /// The pool's `recycle`; `None` means never.
        recycle: Option<Duration>,
        /// The server's `wait_timeout`.
        wait_timeout: Duration,
    },
    /// `keepalive` is not below the server's `wait_timeout`: the server will close idle connections
    /// before the pool validates them.
    KeepaliveNotBelowWaitTimeout {
        /// The pool's `keepalive`; `None` means never.
        keepalive: Option<Duration>,
        /// The server's `wait_timeout`.
        wait_timeout: Duration,
    },
    /// The pool's connections may together keep more statements prepared than the server allows all
    /// its clients; at that number, preparing a statement fails with error 1461. The pool may keep
    /// `limit * statements_each`. Other clients, and other instances of the service, add to that.
    TooManyStatements {
        /// The pool's limit, `size + overflow`.
        limit: usize,
        /// Statements that each connection may keep prepared: the driver's `stmt_cache_size`, 32
        /// unless set; `None` if that is 0, because the driver then closes none.
        statements_each: Option<usize>,
        /// The server's `max_prepared_stmt_count`.
        allowed: u64,
    },
    /// The statements in [`prepare`](field@crate::PoolConfig::prepare) fill the cache of each
    /// connection. So any other statement that is executed evicts one of them, which has to be
    /// prepared again when it is next executed.
    CacheFull {
        /// The driver's `stmt_cache_size`, which is also the length of the list.
        stmt_cache_size: usize,
    },
    /// The server is read-only: every write will fail. Not reported for the members of a
    /// cluster.
    ReadOnly,
    /// A proxy that speaks the protocol stands in between
    /// ([`behind_proxy`](ServerInfo::behind_proxy)). It may refuse some statements, and the facts
    /// reported are those of whichever server answered.
    Proxy {
        /// Whether the server that answered is read-only, which is harmless if the proxy sends
        /// writes to another one.
        reader_answered: bool,
    },
    /// The connections are not encrypted, and the server is not on this host.
    NotEncrypted,
    /// [`OnCancel::Kill`](crate::OnCancel::Kill) is set, but the pool cannot be certain whose
    /// statement it would kill, so abandoned statements run on. This is logged once for each pool.
    CannotKill {
        /// What is missing.
        reason: &'static str,
    },
    /// The server or a proxy refuses to reset sessions, so a changed session costs a new login
    /// (`COM_CHANGE_USER`) or, if that is refused too, a new connection. The pool learns this at
    /// the first return that needs a reset, and logs it once.
    ResetRefused,
    /// The server's `init_connect` does more than set variables, or the pool cannot tell whether
    /// the server runs it for this account. So it cannot be repeated after a reset, and a changed
    /// session costs a new connection.
    InitConnect,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LimitTooHigh {
                limit,
                allowed,
                setting,
            } => write!(
                f,
                "the pool may open {limit} connections, but the server's {setting} leaves it \
                 {allowed}"
            ),
            Self::RecycleNotBelowWaitTimeout {
                recycle,
                wait_timeout,
            } => not_below_wait_timeout(f, "recycle", *recycle, *wait_timeout),
            Self::KeepaliveNotBelowWaitTimeout {
                keepalive,
                wait_timeout,
            } => not_below_wait_timeout(f, "keepalive", *keepalive, *wait_timeout),
            Self::TooManyStatements {
                limit,
                statements_each: Some(each),
                allowed,
            } => {
                let sum = limit.saturating_mul(*each);
                write!(
                    f,
                    "the pool may keep {sum} statements prepared ({limit} connections, {each} \
                     each), but the server's max_prepared_stmt_count is {allowed}: lower \
                     stmt_cache_size, or raise that"
                )
            }
            Self::TooManyStatements {
                statements_each: None,
                allowed,
                ..
            } => write!(
                f,
                "with a stmt_cache_size of 0 the driver never closes a statement, so the server's \
                 max_prepared_stmt_count ({allowed}) will be reached: set one of 1 or more"
            ),
            Self::CacheFull { stmt_cache_size } => write!(
                f,
                "the statements in prepare take all {stmt_cache_size} places of each connection's \
                 cache: raise stmt_cache_size"
            ),
            Self::ReadOnly => f.write_str("the server is read-only"),
            Self::Proxy { reader_answered } => {
                f.write_str("a proxy stands in between")?;
                if *reader_answered {
                    f.write_str(", and a read-only server answered")?;
                }
                Ok(())
            }
            Self::ResetRefused => f.write_str("the server refuses to reset sessions"),
            Self::InitConnect => f.write_str(
                "the server's init_connect cannot be repeated after a reset, so changed \
                 connections are replaced",
            ),
            Self::NotEncrypted => {
                f.write_str("the connections are not encrypted, and the server is on another host")
            }
            Self::CannotKill { reason } => {
                write!(f, "abandoned statements cannot be killed: {reason}")
            }
        }
    }
}

fn not_below_wait_timeout(
    f: &mut fmt::Formatter<'_>,
    setting: &str,
    value: Option<Duration>,
    wait_timeout: Duration,
) -> fmt::Result {
    let value = value.map_or_else(
        || "never".to_owned(),
        |value| format!("{} s", value.as_secs_f64()),
    );
    let wait_timeout = wait_timeout.as_secs();
    write!(
        f,
        "{setting} ({value}) is not below the server's wait_timeout ({wait_timeout} s)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line() {
        let report = WarmUpReport {
            target: 20,
            open: 20,
            opened: 20,
            attempts: 23,
            failed_attempts: 3,
            elapsed: Duration::from_micros(41_300),
            connect_time: ConnectTime::of(vec![
                Duration::from_micros(2400),
                Duration::from_micros(900),
            ]),
            last_error: None,
            server: None,
            warnings: vec![Warning::ReadOnly],
        };
        assert_eq!(
            report.to_string(),
            "20 of 20 connections ready in 41 ms (each 0.9 ms to 2.4 ms), \
             3 of 23 attempts failed; warning: the server is read-only"
        );
        assert!(report.is_complete());
    }

    #[test]
    fn a_warning_names_both_settings() {
        let wait_timeout = Duration::from_secs(60);
        let recycle = Warning::RecycleNotBelowWaitTimeout {
            recycle: None,
            wait_timeout,
        };
        assert_eq!(
            recycle.to_string(),
            "recycle (never) is not below the server's wait_timeout (60 s)"
        );
        let keepalive = Warning::KeepaliveNotBelowWaitTimeout {
            keepalive: Some(Duration::from_millis(90_500)),
            wait_timeout,
        };
        assert_eq!(
            keepalive.to_string(),
            "keepalive (90.5 s) is not below the server's wait_timeout (60 s)"
        );
    }

    #[test]
    fn without_an_opened_connection_there_is_no_time() {
        assert_eq!(ConnectTime::of(Vec::new()), None);
    }
}
