//! A warm, safe connection pool for MySQL and MariaDB: deadpool's managed pool around
//! [`mysql_async`], with an explicit warm-up and a readiness that costs no I/O.
//!
//! - **Warm.** [`Pool::warm_up`] opens and validates all connections before the first request needs
//!   one, and the pool replaces them before they grow old. A caller never opens a connection
//!   itself.
//! - **Readiness.** [`Pool::readiness`] tells a probe whether the pool can serve, without asking
//!   the server.
//! - **Safe.** A connection is handed out again only if nothing of its last caller is left on it:
//!   no answer still on its way, no open transaction, no changed session, no other role.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use mysql_warm_pool::{Pool, PoolConfig, mysql_async::prelude::*};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = PoolConfig::from_url("mysql://app:secret@db:3306/shop")?
//!     .size(20)
//!     .overflow(30)
//!     .timeout(Duration::from_secs(60))
//!     .recycle(Duration::from_secs(1800));
//! let pool = Pool::new(config)?; // no I/O, needs no runtime
//! println!("{}", pool.warm_up().await?); // 20 of 20 connections ready in 41 ms
//! let mut conn = pool.get().await?;
//! let name: Option<String> = conn.exec_first("SELECT name FROM item WHERE id = ?", (7,)).await?;
//! # drop(name);
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! |---|---|
//! | choose settings | [`PoolConfig`], and [where settings come from](guide::settings) |
//! | run a statement | [`Pool::exec_first`] and its neighbours: each call gets a connection and returns it |
//! | run several on one connection | [`Pool::get`], which returns a [`PooledConn`] |
//! | run a transaction | [`Pool::transaction`] around a closure, or [`Pool::begin`] |
//! | write a helper that takes any of these | [`Executor`] |
//! | answer a readiness probe | [`Pool::readiness`] |
//! | know what can go wrong, and which HTTP status it is | [`Error`] |
//! | know what one caller may leave to the next | [`Reset`] |
//! | see what the pool does | [`Pool::status`], [`Pool::metrics`], [observability](guide::observability) |
//! | shut down | [`Pool::close`] |
//! | use several servers | [`cluster`] |
//!
//! The [guides](guide) cover guarantees, sizing, what happens when something goes wrong, threats,
//! and migrating from SQLAlchemy, `mysql_async`'s pool, sqlx or deadpool.
//!
//! # Features
//!
//! No feature is on by default, and none changes a default.
//!
//! | feature | adds |
//! |---|---|
//! | `rustls` | TLS by rustls with ring, used if the settings [ask for it](guide::settings#tls) |
//! | `rustls-aws-lc-rs` | the same with aws-lc-rs |
//! | `native-tls` | the same by the system's TLS library; not together with rustls |
//! | `metrics` | export through the [`metrics`](https://docs.rs/metrics) facade |
//! | `serde` | `Deserialize` and `Serialize` for [`PoolConfig`], `Serialize` for status, health, metrics and reports |
//!
//! # Words
//!
//! These words have one meaning throughout:
//!
//! | word | meaning |
//! |---|---|
//! | size, overflow | connections kept open; further ones allowed under load |
//! | limit | `size + overflow`: all that the server may see, those being opened or closed included |
//! | get, return; caller | obtain a connection, drop it; the code that does so |
//! | idle, in use | the two states of an open connection |
//! | validate | ask a connection for a fresh random number and compare the answer: one round trip |
//! | clean | make a returned connection as good as new, in the background |
//! | discard, retire | close a connection instead of keeping it; replace one because of its age |
//! | suspect | last validated before another connection was found dead |
//! | warm up | open, initialise and validate `size` connections |
//! | transient, permanent | an error that may go away by itself; one that will not |

// Marks in the docs what needs a feature. docs.rs sets `docsrs`.
#![cfg_attr(docsrs, feature(doc_cfg))]
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

// Folders import downwards only: pool, connection, lifecycle, shared, engine, telemetry, session,
// config, error, report, time. docs/architecture.md has the map, the invariants and the locks.
mod connection;
mod engine;
mod lifecycle;
mod pool;
mod session;
mod shared;
mod telemetry;
mod time;

pub mod cluster;
pub mod config;
pub mod error;
pub mod guide;
pub mod report;

/// Counters and histograms since a pool was created, as returned by [`Pool::metrics`].
pub mod metrics {
    pub use crate::telemetry::{DiscardReason, Histogram, PoolMetrics};
}

/// Statements whose text the pool can see.
pub mod statement {
    pub use crate::session::statement::{Executable, Text};
}

pub use mysql_async;

pub use crate::{
    config::{OnCancel, PoolConfig, Reset},
    connection::{Executor, OwnedTransaction, PooledConn, RowStream, Savepoint, Transaction},
    error::Error,
    pool::{Pool, TransactionOptions},
    report::Readiness,
};

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
