//! Many replicas of a service against servers that make a limited number of handshakes a second and
//! allow a limited number of connections: a cold start, a restart, a failover, a rolling update.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --package fleet`
//!
//! The pool's decisions are its own code, the files of `src/` included below: when to begin an
//! attempt, when one hangs, how long to pause after a failure. What is simulated is around it: the
//! servers, the network, the time (a virtual clock; a run of minutes takes seconds), and the order of
//! events in `lifecycle/open.rs` and `lifecycle/maintain.rs`. Random numbers come from a seed that is
//! printed; the same seed gives the same result.
//!
//! It prints a table and writes `docs/pictures/fleet.json`, from which `scripts/draw-pictures` draws.

mod engine;
mod pool;
pub mod scenario;
mod server;
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
