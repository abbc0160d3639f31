//! A simulated server: a queue of accepted connections, a rate of handshakes, a limit.

use std::collections::VecDeque;

use crate::world::{AttemptId, Nanos, SECOND};

/// What a server can do.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Handshakes a second.
    pub rate: u64,
    /// Connections that fit into the queue (`back_log`). If it is full, the kernel drops the first
    /// packet of a connection, and the client's kernel sends it again after 1, 3 and 7 s.
    pub back_log: usize,
}

/// A server with a few cores completes some 5,000 handshakes a second; opening and closing a
/// connection on loopback takes 78 us. MariaDB's queue has at most 900 places by default.
pub const USUAL: Conditions = Conditions {
    rate: 5_000,
    back_log: 900,
};
/// A handshake takes as long as this many refusals with 1040, or notices that a client is gone.
const REFUSAL: u64 = 5;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) is_up: bool,
    /// Grows whenever it goes down: its queue is lost then.
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
