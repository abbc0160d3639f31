//! Support for the tests and benches: real servers, a proxy that degrades the network, and helpers
//! that await conditions.
//!
//! | file | job |
//! |---|---|
//! | `server.rs` | a throwaway database server: start, kill, freeze, query |
//! | `watchdog.rs`, `.sh` | runs a server process and ends it with the tests, however they end |
//! | `galera.rs`, `wsrep_sst_cached.sh` | a Galera cluster |
//! | `replication.rs` | a primary with replicas |
//! | `group.rs` | a group of MySQL servers (Group Replication) |
//! | `haproxy.rs` | HAProxy in front of a server |
//! | `router.rs`, `.sql` | MySQL Router in front of a server or a group |
//! | `proxy.rs` | a TCP proxy that delays, stalls, refuses, cuts and counts |
//! | `scripted.rs` | a server that speaks just enough of the protocol to misbehave on request |
//! | `speaker.rs` | an in-process server, for tests that need thousands of runs |
//! | `background.rs` | a runtime on its own thread, which no test can stall |
//! | `elsewhere.rs` | a runtime on its own thread, for pools and callers |
//! | `pools.rs` | pools with the tests' settings |
//! | `mute.rs` | an address that does not answer a `SYN` |
//! | `ports.rs` | port numbers that nothing else is likely to take |
//! | `scratch.rs` | the folder for files the tests create |
//! | `seed.rs` | repeatable random choices |
//! | `skips.rs` | skipped tests, reported where people see it |
//! | `swap.rs` | a proxy that changes the server's session behind a living connection |
//! | `tls.rs` | certificates, and whether everything goes over TLS |
//! | `tls_server.rs` | TLS for `scripted.rs`; behind a feature, for the time it takes to build |

#![expect(
    missing_docs,
    missing_debug_implementations,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::return_self_not_must_use,
    clippy::should_implement_trait,
    reason = "only the tests and benches of this repository use it, and a panic is a failed test"
)]

mod background;
mod elsewhere;
mod galera;
mod group;
mod haproxy;
mod mute;
mod pools;
mod ports;
mod proxy;
mod replication;
mod router;
mod scratch;
pub mod scripted;
mod seed;
mod server;
mod skips;
mod speaker;
mod swap;
pub mod tls;
#[cfg(feature = "tls-server")]
mod tls_server;
mod watchdog;

use std::time::{Duration, Instant};

pub use elsewhere::Elsewhere;
pub use galera::Galera;
pub use group::Group;
pub use haproxy::HaProxy;
pub use mute::Mute;
pub use pools::{HANGING, config, pool, warm};
pub use ports::free_port;
pub use proxy::Proxy;
pub use replication::Replication;
pub use router::Router;
pub use seed::Seed;
pub use server::{Builder, Flavor, Frozen, Server, copy_folder, galera};
pub use skips::{skip, skip_for_lack_of};
pub use speaker::Speaker;
pub use swap::SwappingProxy;

/// How long a test waits for something that must happen: far longer than it takes, even on a busy
/// machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `holds` every few milliseconds until it returns true.
///
/// # Panics
///
/// With `what`, if the condition does not hold within [`PATIENCE`].
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, holds).await;
}

/// Like [`eventually`], with the caller's own time limit.
///
/// # Panics
///
/// With `what` and the elapsed time, if the condition does not hold in time.
pub async fn eventually_within(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    loop {
        let left = within.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, holds()).await {
            Ok(true) => return,
            Ok(false) if start.elapsed() < within => {}
            Ok(false) => panic!("not true after {:?}: {what}", start.elapsed()),
            Err(_) => panic!("still checking after {:?}: {what}", start.elapsed()),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Awaits the future and returns its output and how long it took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = work.await;
    (value, start.elapsed())
}
