//! A warm, safe connection pool for MySQL and MariaDB.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod acquire;
mod cleaning;
mod closing;
mod closing_down;
mod config;
mod connection;
mod connector;
mod error;
mod gate;
mod goodbye;
mod keeper;
mod killing;
mod leak;
mod metrics;
mod pool;
mod readiness;
mod report;
mod schedule;
mod session;
mod slot;
mod sql;
mod statement;
mod status;
mod warm_up;

pub use mysql_async;

pub use crate::{
    config::{Credentials, CredentialsSource, OnCancel, PoolConfig, Reset},
    connection::{PooledConn, Transaction},
    error::{
        ConfigError, ConfigFault, ConnectError, ConnectPhase, Error, TimeoutCause, is_transient,
    },
    metrics::PoolMetrics,
    pool::Pool,
    readiness::{Health, Readiness, ReadinessWatch},
    report::{CloseReport, ConnectTime, Flavor, ServerInfo, WarmUpReport, Warning},
    statement::{Executable, Text},
    status::PoolStatus,
};
