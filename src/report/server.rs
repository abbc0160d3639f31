//! `ServerInfo`: the server's version and limits.

use std::{fmt, time::Duration};

/// The server's version and the settings that matter to a pool. Read while connections are opened,
/// usually at most once a second.
///
/// Whatever the server, or a proxy in front of it, refuses to report is missing: numbers and
/// durations are 0, switches are off, and the version is that of the greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServerInfo {
    /// The version as the server writes it (`@@version`).
    pub version: String,
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// Connections the server allows in total (`@@max_connections`).
    pub max_connections: u64,
    /// Connections the server allows this account (`@@max_user_connections`); 0 if the account has
    /// no limit of its own.
    pub max_user_connections: u64,
    /// Statements that all clients of the server together may keep prepared
    /// (`@@max_prepared_stmt_count`); `None` if it did not say.
    pub max_prepared_stmt_count: Option<u64>,
    /// How long a connection may idle before the server closes it (`@@wait_timeout`).
    pub wait_timeout: Duration,
    /// Whether the server refuses writes (`@@global.read_only` or `@@innodb_read_only`).
    pub read_only: bool,
    /// Whether a proxy that speaks the protocol stands in between: the version or the connection id
    /// in the greeting is not the server's own. Everything here then describes whichever server
    /// answered.
    pub behind_proxy: bool,
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavor, self.version)?;
        match (self.behind_proxy, self.read_only) {
            (true, _) => f.write_str(" (behind a proxy)"),
            (false, true) => f.write_str(" (read-only)"),
            (false, false) => Ok(()),
        }
    }
}

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Flavor {
    /// MySQL, or a compatible server that does not name itself.
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
