//! Shared by the benches: peers, the work they do, and the measuring.
//!
//! Each file imports only from files above it.
//!
//! | file | job |
//! |---|---|
//! | `measure.rs` | rounds, medians, ratios |
//! | `item.rs` | the lookup table |
//! | `work.rs` | the work, and tasks that do it over and over |
//! | `peer.rs` | a peer: its names, and how it opens connections |
//! | `pools.rs` | the peers that share the driver: bare, this pool, deadpool, the driver's pool |
//! | `opening.rs` | opening many connections, timed |
//! | `instructions.rs` | instructions per piece of work, counted by callgrind |
//! | `table.rs` | a table of figures, bounds and whether they are met |
//! | `counting.rs` | a proxy that counts connections and round trips |
//! | `bin/repeat.rs` | repeats one piece of work, for a profiler |

pub mod counting;
pub mod instructions;
pub mod item;
pub mod measure;
pub mod opening;
pub mod peer;
pub mod pools;
pub mod table;
pub mod work;

use std::env;

use mysql_warm_pool::mysql_async::{Opts, OptsBuilder};

pub use crate::{
    measure::{Length, Round},
    peer::{Peer, Safety},
    work::Work,
};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// The server's options, through a proxy at this local port.
pub fn via(opts: &Opts, port: u16) -> Opts {
    OptsBuilder::from_opts(opts.clone())
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .into()
}

/// The server that `DATABASE_URL` names, always over TCP: otherwise the driver would open a second
/// connection to the server's Unix socket, bypassing any proxy.
pub fn database() -> Result<Opts> {
    let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let opts = OptsBuilder::from_opts(Opts::from_url(&url)?).prefer_socket(false);
    Ok(opts.into())
}
