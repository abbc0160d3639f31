//! Many replicas of a service against servers that make a limited number of handshakes a second and
//! allow a limited number of connections: a cold start, a restart, a failover, a rolling update.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --package fleet`
//!
//! The pool's own code, included below, are `engine/backoff.rs` and `engine/schedule.rs`: whether
//! another attempt may begin, when one hangs, how long to pause after a failure. The rest is a model:
//!
//! - a server: a queue of accepted connections of limited length, a rate of handshakes, refusals with
//!   1040 beyond `max_connections`, TCP refused while it is down;
//! - the network, and the time (a virtual clock; a run of minutes takes seconds);
//! - the order of events in `lifecycle/open.rs` and `lifecycle/maintain.rs`, and how many connections
//!   are missing (`wanted` there), without waiting callers. An overdue login is never given up.
//!
//! Random numbers come from a seed that is printed; the same seed gives the same result.
//!
//! It prints a table and writes `docs/pictures/fleet.json`, from which `scripts/draw-pictures` draws.

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
/// Stands in for the pool's error: here it is only known that there was one.
mod error {
    #[derive(Clone, Debug)]
    pub(crate) struct ConnectError;

    impl ConnectError {
        pub(crate) const fn is_transient(&self) -> bool {
            true
        }
    }
}
