//! Simulates many replicas of a service and their servers, which complete a limited number of
//! handshakes a second and allow a limited number of connections: a cold start, a restart, a
//! failover, a rolling update.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --package fleet`
//!
//! `engine/backoff.rs` and `engine/schedule.rs` are the pool's own code: they decide whether another
//! attempt may begin, when one hangs, how long to pause after a failure. The rest is a model:
//!
//! - the servers: a queue of limited length for accepted connections, a rate of handshakes, error
//!   1040 beyond `max_connections`, TCP refused while a server is down;
//! - the network and the clock (minutes pass in seconds);
//! - the order of events in `lifecycle/open.rs` and `lifecycle/maintain.rs`, and how many
//!   connections are missing (`wanted` there), without waiting callers. An overdue login is never
//!   given up.
//!
//! The seed of the random numbers is printed; the same seed gives the same result.
//!
//! It prints a table and writes `docs/pictures/fleet.json`, which `scripts/draw-pictures` draws.

mod engine;
mod pool;
pub mod scenario;
pub mod server;
mod telemetry;
mod world;

/// The pool's own code.
#[path = "../../../src/time.rs"]
#[expect(dead_code, reason = "the simulation uses a part of it")]
mod time;
/// Stands in for the pool's error, whose content does not matter here.
mod error {
    #[derive(Clone, Debug)]
    pub(crate) struct ConnectError;

    impl ConnectError {
        pub(crate) const fn is_transient(&self) -> bool {
            true
        }
    }
}
