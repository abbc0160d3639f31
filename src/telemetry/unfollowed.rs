//! Logs where callers use the driver's bare `Conn`, once for each place in their sources.

use std::{
    collections::HashSet,
    panic::Location,
    sync::{Mutex, PoisonError},
};

use tracing::{Level, debug, enabled};

/// The places that were logged.
#[derive(Debug, Default)]
pub(crate) struct UnfollowedUses {
    /// No other lock is taken while this one is held.
    logged: Mutex<HashSet<Location<'static>>>,
}

impl UnfollowedUses {
    /// Logs at DEBUG that a connection was used without being followed, unless this place was
    /// logged before.
    pub(crate) fn log(&self, pool: &str, place: &'static Location<'static>) {
        if enabled!(Level::DEBUG) && self.is_new(place) {
            debug!(pool, %place, "bare connection used, which costs a reset at its return");
        }
    }

    fn is_new(&self, place: &'static Location<'static>) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.insert(*place)
    }
}
