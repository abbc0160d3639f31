//! Promises that are ratios and times, each measured with nothing else of the tests running.
//!
//! Cargo runs one test binary after the other, and these take turns among themselves.

mod deadlines;
mod hostile;
mod killing;
mod scale;
mod spike;
mod upkeep;
mod warming;

use tokio::sync::{Mutex, MutexGuard};

/// One measurement at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
