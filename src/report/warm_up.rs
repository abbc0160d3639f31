//! What `warm_up()` and `close()` tell: reports, the server's facts, typed warnings.

use std::{fmt, time::Duration};

/// What a [`warm_up()`](crate::Pool::warm_up) did and found.
///
/// Its `Display` is one line: `20 of 20 connections ready in 41 ms (each 0.9 ms to 2.4 ms), MariaDB 10.11.6`,
/// with failed attempts and warnings where there are any.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WarmUpReport {
    /// Connections the warm-up was to have open: the pool's `size`.
    pub target: usize,
    /// Connections open and proved when it ended.
    pub open: usize,
    /// Connections opened while it ran, for it or for callers. 0 on a pool that was warm already.
    pub opened: usize,
    /// Attempts to open a connection that ended while it ran.
    pub attempts: u64,
    /// How many of them failed.
    pub failed_attempts: u64,
    /// How long the warm-up took.
    pub elapsed: Duration,
    /// How long opening one connection took, from TCP connect to proof; `None` if none was opened.
    pub connect_time: Option<ConnectTime>,
    /// The last failure to open a connection while it ran.
    pub last_error: Option<String>,
    /// What the server says of itself; `None` until a connection was opened.
    pub server: Option<ServerInfo>,
    /// What was found that is likely to hurt later.
    pub warnings: Vec<Warning>,
}

impl WarmUpReport {
    /// Whether every connection of `size` is open and proved.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.open >= self.target
    }
}

impl fmt::Display for WarmUpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} connections ready in {}",
            self.open.min(self.target),
            self.target,
            Millis(self.elapsed)
        )?;
        if let Some(time) = self.connect_time {
            write!(f, " (each {} to {})", Millis(time.min), Millis(time.max))?;
        }
        if self.failed_attempts > 0 {
            write!(
                f,
                ", {} of {} attempts failed",
                self.failed_attempts, self.attempts
            )?;
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

/// How long opening one connection took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConnectTime {
    /// The fastest.
    pub min: Duration,
    /// The median.
    pub median: Duration,
    /// The slowest.
    pub max: Duration,
}

impl ConnectTime {
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        Some(Self {
            min: *times.first()?,
            median: *times.get(times.len() / 2)?,
            max: *times.last()?,
        })
    }
}

/// Which of the two servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Flavor {
    /// Oracle's MySQL, or a server that does not say otherwise.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// What the server says of itself, read on the connection opened last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServerInfo {
    /// `@@version`, as the server writes it.
    pub version: String,
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// `@@max_connections`: connections the server allows in all.
    pub max_connections: u64,
    /// `@@max_user_connections`: connections it allows this account; 0 means no limit of its own.
    pub max_user_connections: u64,
    /// `@@wait_timeout`: after so long without a command the server closes a connection.
    pub wait_timeout: Duration,
    /// Whether the server refuses writes (`@@global.read_only`).
    pub read_only: bool,
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavor, self.version)?;
        if self.read_only {
            f.write_str(" (read-only)")
        } else {
            Ok(())
        }
    }
}

/// Something found at warm-up that is likely to hurt later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Warning {
    /// The pool's limit is higher than what the server still allows: under load, openings will be refused.
    LimitTooHigh {
        /// `size + overflow` of this pool.
        limit: usize,
        /// Connections the server would still allow this pool, those it has included.
        allowed: u64,
        /// Which setting of the server says so: `max_connections` or `max_user_connections`.
        setting: &'static str,
    },
    /// `recycle` is not below the server's `wait_timeout`, or is never: the server may close a connection for being idle
    /// before the pool replaces it for its age.
    RecycleNotBelowWaitTimeout {
        /// The pool's `recycle`; `None` is never.
        recycle: Option<Duration>,
        /// The server's `wait_timeout`.
        wait_timeout: Duration,
    },
    /// `keepalive` is not below the server's `wait_timeout`, or is never: the server will close idle connections before
    /// the pool asks them for a sign of life.
    KeepaliveNotBelowWaitTimeout {
        /// The pool's `keepalive`; `None` is never.
        keepalive: Option<Duration>,
        /// The server's `wait_timeout`.
        wait_timeout: Duration,
    },
    /// The server is read-only: every write will fail.
    ReadOnly,
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
                "the pool may open {limit} connections, but the server's {setting} leaves it {allowed}"
            ),
            Self::RecycleNotBelowWaitTimeout {
                recycle,
                wait_timeout,
            } => write!(
                f,
                "recycle ({}) is not below the server's wait_timeout ({} s)",
                OrNever(*recycle),
                wait_timeout.as_secs()
            ),
            Self::KeepaliveNotBelowWaitTimeout {
                keepalive,
                wait_timeout,
            } => write!(
                f,
                "keepalive ({}) is not below the server's wait_timeout ({} s)",
                OrNever(*keepalive),
                wait_timeout.as_secs()
            ),
            Self::ReadOnly => f.write_str("the server is read-only"),
        }
    }
}

/// What [`close()`](crate::Pool::close) did with the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CloseReport {
    /// Connections that ended with a goodbye to the server: idle ones, and those returned in time.
    pub drained: usize,
    /// Connections still in use when `close_timeout` was over: their commands end with an error.
    pub cut: usize,
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections drained, {} cut", self.drained, self.cut)
    }
}

/// A duration as people read it in a log line.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros < 10_000 {
            write!(f, "{}.{} ms", micros / 1000, micros % 1000 / 100)
        } else if micros >= 10_000_000 {
            write!(f, "{} s", micros / 1_000_000)
        } else {
            write!(f, "{} ms", micros / 1000)
        }
    }
}

struct OrNever(Option<Duration>);

impl fmt::Display for OrNever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => write!(f, "{} s", duration.as_secs_f64()),
            None => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ConnectTime, WarmUpReport};

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
                Duration::from_micros(900),
                Duration::from_micros(2400),
            ]),
            last_error: None,
            server: None,
            warnings: Vec::new(),
        };
        assert_eq!(
            report.to_string(),
            "20 of 20 connections ready in 41 ms (each 0.9 ms to 2.4 ms), 3 of 23 attempts failed"
        );
        assert!(report.is_complete());
    }
}
