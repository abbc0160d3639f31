//! Tests against real servers, which the crate `test-support` starts for them.
//!
//! | folder | tests |
//! |---|---|
//! | `promises` | the pool's guarantees, one file per subject |
//! | `servers` | real, failing and hostile servers, and how the driver handles them |
//! | `cluster` | several servers behind one handle |
//! | `models` | the same promises against random sequences of steps |
//! | `surface` | what users see: events, metrics, readiness, the docs and the sources |
//!
//! A test is named `folder::file::sentence`, as in the docs. The environment chooses the servers:
//!
//! | variable | value | effect |
//! |---|---|---|
//! | `TEST_SERVER` | a folder of `scripts/fetch-server` | that server; else the installed one |
//! | `TEST_TLS` | `required` | servers require TLS, and pools verify the certificate |
//!
//! `scripts/with-database --server NAME` sets `TEST_SERVER`. TLS needs the feature `rustls` or
//! `native-tls`.
//!
//! ```sh
//! TEST_TLS=required scripts/with-database --server mysql cargo test --features rustls --test it
//! ```
//!
//! `servers::tls` checks that connections do use TLS. Scripted servers (`servers::hostile`,
//! `models`, parts of `servers::driver`) never use it.
//!
//! No test fails because the machine is busy: tests assert outcomes, orders and counts. A bound on
//! a time is ten times the usual value. `benches/promises` measures the times themselves.

mod cluster;
mod models;
mod promises;
mod servers;
mod surface;
