//! What the tests and the benches stand on: real servers, a proxy to spoil the way to them, and conditions to wait for.
//!
//! | file | its one job |
//! |---|---|
//! | `server.rs` | a throwaway database server: start, kill, freeze, ask |
//! | `watchdog.sh` | runs the server's process and ends it with the tests, however they end |
//! | `proxy.rs` | a TCP proxy that delays, stalls, refuses, cuts and counts |
//! | `scripted.rs` | a server that speaks just enough of the protocol to misbehave on request |
//! | `speaker.rs` | a server in process, for what takes thousands of runs |
//! | `background.rs` | a runtime on its own thread, which no test can stall |
//! | `pools.rs` | pools as the tests make them |
//! | `ports.rs` | port numbers that nobody else is likely to take |
//! | `scratch.rs` | the folder for what the tests make |
//! | `seed.rs` | random choices that can be repeated |
//! | `skips.rs` | tests that are skipped, and say so where it is seen |
//! | `tls.rs` | certificates, and whether all is to go over TLS |
//! | `timing.rs` | work timed, alone or side by side |

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
mod pools;
mod ports;
mod proxy;
mod scratch;
pub mod scripted;
mod seed;
mod server;
mod skips;
mod speaker;
mod timing;
pub mod tls;

use std::time::{Duration, Instant};

pub use pools::{HANGING, config, pool, warm};
pub use ports::free_port;
pub use proxy::Proxy;
pub use seed::Seed;
pub use server::{Builder, Flavor, Frozen, Server};
pub use skips::{skip, skip_for_lack_of};
pub use speaker::Speaker;
pub use timing::{SideBySide, side_by_side, timed};

/// How long a test waits for what has to come: far longer than it takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `holds` every few milliseconds until it says true.
///
/// # Panics
///
/// With `what`, if it has not said true within [`PATIENCE`].
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, holds).await;
}

/// The same within a time of the caller's choice.
///
/// # Panics
///
/// With `what` and the time spent, if it has not said true by then.
pub async fn eventually_within(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    loop {
        let left = within.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, holds()).await {
            Ok(true) => return,
            Ok(false) if start.elapsed() < within => {}
            Ok(false) => panic!("not so after {:?}: {what}", start.elapsed()),
            Err(_) => panic!("no answer after {:?} to: {what}", start.elapsed()),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
