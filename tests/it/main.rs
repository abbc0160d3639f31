//! Tests against real servers, which the crate `test-support` starts for them.
//!
//! One binary, a module for each subject; the names are sentences.
//!
//! Against what they run is said from outside, for all of them:
//!
//! | variable | value | does |
//! |---|---|---|
//! | `TEST_MYSQLD` | a path to `mysqld` | the servers are MySQL, as `scripts/with-database --mysql` has it; else MariaDB |
//! | `TEST_TLS` | `required` | the servers take nobody without TLS, and pools and connections check the certificate; needs the feature `rustls` or `native-tls` |
//!
//! ```sh
//! TEST_TLS=required scripts/with-database --mysql cargo test --features native-tls --test it
//! ```
//!
//! `encrypted` makes sure that it is TLS. Scripted servers (`hostile`, `accounting`, parts of `driver`) speak without.

mod accounting;
mod cleaned;
mod cluster;
mod differing;
mod driver;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod encrypted;
mod ending;
#[cfg(feature = "metrics")]
mod exported;
mod getting;
mod hostile;
mod in_step;
mod killing;
mod knowing;
mod naming;
mod outage;
mod session_state;
mod telling;
mod tidy;
mod upkeep;
mod waiting;
mod warming;
