//! A simulated server: a queue of accepted connections, a rate of handshakes, a limit.

use std::collections::VecDeque;

use crate::world::{AttemptId, Nanos, SECOND};

/// What a server can do.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Handshakes a second.
    pub rate: u64,
    /// Connections in the queue (`back_log`). The kernel drops the first packet of any other one, and
    /// the client's kernel repeats it after 1, 3 and 7 s.
    pub back_log: usize,
}

/// A server on a few cores makes some 5,000 handshakes a second; opening and closing a connection on
/// loopback takes 78 us of one. MariaDB's queue has 900 places at most by default.
pub const USUAL: Conditions = Conditions {
    rate: 5_000,
    back_log: 900,
};
/// What answering 1040, or noticing that a client is gone, costs beside a handshake.
const REFUSAL: u64 = 5;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) is_up: bool,
    /// Grows when it goes down: what was queued before is lost.
    pub(crate) starts: u64,
    pub(crate) queue: VecDeque<AttemptId>,
    pub(crate) is_busy: bool,
    pub(crate) open: usize,
    pub(crate) most_open: usize,
    pub(crate) max_connections: usize,
    pub(crate) conditions: Conditions,
}

impl Server {
    pub(crate) const fn new(max_connections: usize, conditions: Conditions) -> Self {
        Self {
            is_up: true,
            starts: 0,
            queue: VecDeque::new(),
            is_busy: false,
            open: 0,
            most_open: 0,
            max_connections,
            conditions,
        }
    }

    pub(crate) const fn handshake(&self) -> Nanos {
        SECOND / self.conditions.rate
    }

    pub(crate) const fn refusal(&self) -> Nanos {
        self.handshake() / REFUSAL
    }

    /// Opens a connection, if the limit allows it.
    pub(crate) fn open(&mut self) -> bool {
        if self.open >= self.max_connections {
            return false;
        }
        self.open += 1;
        self.most_open = self.most_open.max(self.open);
        true
    }
}
