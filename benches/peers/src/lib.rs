//! The peers, and the work that each of them does in its own way.
//!
//! | file | its one job |
//! |---|---|
//! | `pools.rs` | the peers: how each gets a connection, and what it does with it |
//! | `sqlalchemy.rs` | the peer that is a Python program |
//! | `item.rs` | the table that is looked up in |
//! | `measure.rs` | rounds, medians and ratios |

pub mod item;
pub mod measure;
mod pools;
mod sqlalchemy;

pub use crate::{
    measure::{Length, Round},
    pools::{Error, Name, Peer, Result, Work},
};
