//! A warm, safe connection pool for MySQL and MariaDB.
#![cfg_attr(not(test), warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr
))]

mod config;
mod error;
mod report;
mod status;

pub use config::*;
pub use error::*;
pub use report::*;
pub use status::*;
