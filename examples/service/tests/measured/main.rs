//! Promises that are times, each measured with nothing else of the tests running.

#[path = "../driving/mod.rs"]
#[expect(dead_code, reason = "the other binary uses the rest")]
mod driving;

mod probing;
mod starting;

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// One measurement at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// The time that the share `of` of them does not exceed.
fn quantile(times: &mut [Duration], of: f64) -> Duration {
    times.sort_unstable();
    let last = times.len() - 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand, and a share of them"
    )]
    let place = (last as f64 * of).round() as usize;
    times[place]
}
