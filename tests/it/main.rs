//! Tests against real servers, which the crate `test-support` starts for them.
//!
//! | folder | tests |
//! |---|---|
//! | `promises` | what the pool guarantees, a file for each subject |
//! | `servers` | what real, failing and hostile servers do, and what the driver does with them |
//! | `models` | the same promises against random sequences of steps |
//! | `surface` | what users see: events, metrics, readiness, the docs and the sources |
//!
//! A test is named `folder::file::sentence`, as the docs name it. Its servers are chosen from outside:
//!
//! | variable | value | does |
//! |---|---|---|
//! | `TEST_MYSQLD` | a path to `mysqld` | the servers are MySQL, as `scripts/with-database --mysql` sets it; else MariaDB |
//! | `TEST_TLS` | `required` | servers refuse connections without TLS, and pools check the certificate; needs the feature `rustls` or `native-tls` |
//!
//! ```sh
//! TEST_TLS=required scripts/with-database --mysql cargo test --features native-tls --test it
//! ```
//!
//! `servers::tls` makes sure that it is TLS. Scripted servers (`servers::hostile`, `models`, parts of
//! `servers::driver`) speak without.
//!
//! Nothing here fails because the machine is busy: a test asserts an outcome, an order or a count, and where it bounds
//! a time, the bound is ten times what is usual. The times themselves are measured by `benches/promises`.

mod models;
mod promises;
mod servers;
mod surface;
