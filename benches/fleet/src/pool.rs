//! A simulated pool: the real back-off and decisions, with counts in place of connections.

use crate::{
    engine::{
        backoff::{Attempt, Backoff},
        schedule::UnderWay,
    },
    time::Timestamp,
};

pub(crate) const SIZE: usize = 10;
pub(crate) const OVERFLOW: usize = 10;
/// The defaults of the pool's settings.
const MAX_CONNECTING: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) server: usize,
    pub(crate) backoff: Backoff,
    pub(crate) open: usize,
    pub(crate) connecting: usize,
    pub(crate) is_closed: bool,
    pub(crate) is_ready: bool,
}

impl Pool {
    /// Decides as `next_task` of `lifecycle/open.rs` does when no caller waits.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Option<Attempt> {
        let has_room = self.open + self.connecting < SIZE + OVERFLOW;
        let allowed = self.backoff.allows(MAX_CONNECTING, now);
        if self.is_closed || !has_room || !self.under_way().may_begin(self.wanted(), allowed) {
            return None;
        }
        self.connecting += 1;
        Some(self.backoff.begin())
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.under_way().is_enough(self.wanted())
    }

    const fn wanted(&self) -> usize {
        SIZE.saturating_sub(self.open)
    }

    const fn under_way(&self) -> UnderWay {
        UnderWay {
            all: self.connecting,
            hanging: self.backoff.hanging,
            coming: self.backoff.coming,
        }
    }
}
