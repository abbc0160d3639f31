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

// Module map, top to bottom. Imports point down this list only (`tests/it/tidy.rs` holds it), no file but this
// one imports `pool`, and none but `slot` knows deadpool.
//
// | file | its one job |
// |---|---|
// | `pool` | the `Pool` handle: joins the parts, computes nothing |
// | `closing_down` | `close()`: goodbye, patience, the cut |
// | `warm_up` | the fill and its report |
// | `acquire` | from asking to having: one deadline over one loop |
// | `keeper` | the background task: replenish, retire, keep alive, let overflow go, notice outages |
// | `connection` | `PooledConn`, `Transaction`: follow what is sent; dropping returns |
// | `leak` | tells of connections held for too long |
// | `cleaning` | from returned to as good as new, or discarded |
// | `killing` | ends abandoned statements on the server |
// | `goodbye` | closes a connection and frees its slot |
// | `connector` | fills vacant slots; joins what the pool knows of its connections to judge readiness |
// | `opener` | opens one connection: credentials, login, init, prepare, proof |
// | `slot` | the slots and deadpool's `Manager`; the ledger that `PoolStatus` is counted from |
// | `session` | one physical connection: what was sent on it, its proof and its end |
// | `severing` | closes a connection's socket without the driver's reading on |
// | `statement` | statements whose text can be seen |
// | `sql` | pure: may this statement change the session? |
// | `gate` | pure: how opening goes, and what may be done when: attempts, refreshes, signs of life |
// | `pulse` | what can be seen of connections while they are lent, and how their commands are cut off |
// | `schedule` | pure: ages, jitter, due times, the keeper's plan |
// | `deadlines` | the deadlines of who waits and of what is being cleaned, over one timer |
// | `signal` | a signal that is given once: to close, to cut off |
// | `trail` | where the time of one `get()` goes; tells of slow ones |
// | `metrics` | what has happened: counters, times; the gauges beside them |
// | `histogram` | how long things took, recorded without a lock |
// | `export` | the `metrics` facade: names, handles |
// | `readiness` | states, their legal changes, who is told |
// | `config`, `error` | settings; errors, their classes and advice |
// | `holders` | who holds connections, and for how long |
// | `report`, `status` | what is told of a warm-up, a close, a moment |
// | `moment` | points in time as numbers |
// | `apart` | places in memory of their own, for what many threads write |
// | `guide` | guides, text only |
//
// Invariants, each with tests that hold it:
//
// - Limit. A connection occupies one of `size + overflow` slots from before its TCP connect until its socket is
//   closed; counts are derived from where the slots are. `getting::the_server_never_sees_more_connections_than_the_limit`,
//   `getting::status_is_consistent_in_every_snapshot_while_64_callers_hammer`,
//   `accounting::a_pool_keeps_its_accounts_whatever_happens_in_whatever_order`.
// - First come, first served. Who sleeps in the queue is overtaken by nobody, and does not sleep beside an idle
//   connection; who was given a dead one keeps its turn. `slot::tests::the_accounting_holds_whatever_happens_in_whatever_order`,
//   `accounting::a_pool_keeps_its_accounts_whatever_happens_in_whatever_order`.
// - Whichever comes first. A waiting caller takes a returned connection or a new one; opening and proving run in
//   tasks of their own. `getting::a_waiting_caller_takes_a_returned_connection_before_a_slow_new_one`,
//   `getting::a_caller_that_gives_up_wastes_no_connection`.
// - In step. A connection becomes idle only if every command was followed to its end, or it was proved since its
//   last unfollowed use. `in_step::*`.
// - As good as new. No transaction, no pending rows, session unchanged or reset, database as configured, listed
//   statements prepared; cleaning is never in a `get()`. `cleaned::*`, `session_state::*`.
// - No storm. One gate for all openings; after a failure one probe at a time, with back-off and full jitter.
//   `outage::two_hundred_callers_of_a_refusing_server_cost_it_at_most_thirty_attempts_in_two_seconds`.
// - No stale hand-out. A connection found dead makes all not proved since suspect; a suspect is proved before it is
//   lent. `upkeep::one_connection_found_dead_has_all_the_others_proved_and_replaced_at_once`.
// - One runtime. `ending::a_pool_in_use_on_another_runtime_says_so_and_never_hangs`.
// - Nothing lost at the end. `ending::the_last_handle_takes_idle_connections_and_tasks_with_it`.
//
// Locks. One is taken while another is held in these orders only: `connector.gate`, `slots.ledger`, deadpool's own or
// `holds`; `connector.gate`, `pulses.all`; and the readiness board's own last of all. Each of the others is taken while
// no other is held: `connector.home`, `connector.abandoned`, `opener.told`, a slot's `got_at`, a pulse's
// `waker`, the deadlines' `list`. `connector.killing` is tokio's, and is held across awaits.

mod acquire;
mod apart;
mod cleaning;
mod closing_down;
mod config;
mod connection;
mod connector;
mod deadlines;
mod error;
mod export;
mod gate;
mod goodbye;
pub mod guide;
mod histogram;
mod holders;
mod keeper;
mod killing;
mod leak;
mod metrics;
mod moment;
mod opener;
mod pool;
mod pulse;
mod readiness;
mod report;
mod schedule;
mod session;
mod severing;
mod signal;
mod slot;
mod sql;
mod statement;
mod status;
mod trail;
mod warm_up;

pub use mysql_async;

pub use crate::{
    config::{Credentials, CredentialsSource, OnCancel, PoolConfig, Reset},
    connection::{PooledConn, Transaction},
    error::{
        ConfigError, ConfigFault, ConnectError, ConnectPhase, Error, TimeoutCause, is_transient,
    },
    histogram::Histogram,
    holders::{HolderLine, Holders},
    metrics::PoolMetrics,
    pool::Pool,
    readiness::{Health, Readiness, ReadinessWatch},
    report::{CloseReport, ConnectTime, Flavor, ServerInfo, WarmUpReport, Warning},
    statement::{Executable, Text},
    status::PoolStatus,
};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
