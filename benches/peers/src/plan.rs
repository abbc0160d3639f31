//! How much to measure, and which peers.

use std::time::Duration;

use harness::{Length, Peer, pools};

use crate::{others, sqlalchemy};

pub const CONNECTIONS: usize = 8;

/// All peers, in the order of the tables.
pub const ALL: [Peer; 10] = [
    pools::BARE,
    pools::OURS,
    pools::DEADPOOL,
    pools::DRIVER_UNRESET,
    pools::DRIVER,
    others::BB8,
    others::MOBC,
    others::SQLX,
    sqlalchemy::SQLALCHEMY,
    sqlalchemy::SQLALCHEMY_PING,
];

pub struct Plan {
    pub rounds: usize,
    pub length: Length,
    /// How many gets and returns make a batch, and how many batches a round.
    pub batch: u32,
    pub batches: usize,
    pub warm_ups: usize,
    pub peers: Vec<Peer>,
}

impl Plan {
    pub fn new(quick: bool, peers: Vec<Peer>) -> Self {
        let ms = Duration::from_millis;
        let (rounds, counted, batches, warm_ups) = if quick {
            (5, ms(200), 10, 5)
        } else {
            // Many short rounds, so that a disturbance affects few of them.
            (25, ms(300), 12, 21)
        };
        Self {
            rounds,
            length: Length {
                rehearsal: ms(50),
                counted,
            },
            batch: 2000,
            batches,
            warm_ups,
            peers,
        }
    }
}

/// Whether a peer can run on this machine.
pub fn is_at_hand(peer: Peer) -> bool {
    let needs_python = [sqlalchemy::SQLALCHEMY, sqlalchemy::SQLALCHEMY_PING].contains(&peer);
    !needs_python || sqlalchemy::is_at_hand()
}
