//! A warm, safe connection pool for MySQL and MariaDB: deadpool's managed pool around
//! [`mysql_async`], with an explicit warm-up, and readiness as a fact.
//!
//! - **Warm.** [`Pool::warm_up`] opens and checks all connections before the first request needs one, and the pool
//!   replaces them before they grow old. A caller never opens a connection itself.
//! - **Readiness.** [`Pool::readiness`] says, without asking the server, whether the pool can serve.
//! - **Safe.** A connection is lent again only if nothing of its last borrower is left on it: no answer that is still on
//!   its way, no open transaction, no changed session.
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
//! Start at [`PoolConfig`] for the settings, [`Pool`] for all that a pool does, [`PooledConn`] for what a
//! caller holds, [`Readiness`] for probes, [`Error`] for what can go wrong, [`Reset`] for what one borrower
//! may leave to the next. The [guides](guide) tell of sizing, of what happens when
//! something goes wrong, of threats, and of coming from SQLAlchemy, `mysql_async`'s pool, sqlx or deadpool.
//!
//! These words have one meaning throughout:
//!
//! | word | meaning |
//! |---|---|
//! | size, overflow | connections kept open; further ones allowed while callers wait |
//! | limit | `size + overflow`: what the server sees at most, connections being opened or closed included |
//! | get, return | a caller (the borrower) takes a connection; it drops it |
//! | idle, in use | an open connection that nobody holds; one that a caller holds |
//! | clean | make a returned connection as good as new, in the background: read what is pending, roll back, reset |
//! | prove | learn by a round trip that a connection is alive and its answers in order: ask for a random number, and compare |
//! | suspect | not proved since another connection was found dead; proved before it is lent |
//! | discard, retire | close a connection instead of keeping it; replace one because of its age |
// Marks in the docs what needs a feature; docs.rs sets it.
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

mod connection;
mod engine;
mod lifecycle;
mod pool;
mod session;
mod shared;
mod telemetry;
mod time;

pub mod config;
pub mod error;
pub mod guide;
pub mod report;

/// What has happened since a pool was made, in numbers; read by [`Pool::metrics`].
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
    connection::{PooledConn, Transaction},
    error::Error,
    pool::Pool,
    report::Readiness,
};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
