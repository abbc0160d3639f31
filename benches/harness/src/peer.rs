//! A peer: its names, and how it opens connections.

use std::fmt;

use futures_util::future::BoxFuture;
use mysql_warm_pool::mysql_async::Opts;

use crate::{Result, work::Connections};

pub type Opening = BoxFuture<'static, Result<Box<dyn Connections>>>;

/// A pool, or another way to get connections, that does the same work as the others.
#[derive(Clone, Copy)]
pub struct Peer {
    /// Its name as an argument and in data.
    pub name: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// Its name in the README.
    pub readme: &'static str,
    pub safety: Safety,
    pub open: fn(Opts, usize) -> Opening,
}

/// How far a caller is protected from what earlier callers did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Safety {
    NoPool,
    No,
    /// There is a reset, a rollback or a ping, but nothing detects a late answer.
    InPart,
    Yes,
}

impl Peer {
    /// Opens a number of connections.
    pub async fn open(&self, opts: &Opts, connections: usize) -> Result<Box<dyn Connections>> {
        (self.open)(opts.clone(), connections).await
    }

    /// Whether a caller may get a connection that is out of step or that another caller has
    /// changed.
    pub fn is_unsafe(&self) -> bool {
        self.safety == Safety::No
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Safety {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPool => "no pool",
            Self::No => "no",
            Self::InPart => "in part",
            Self::Yes => "yes",
        })
    }
}
