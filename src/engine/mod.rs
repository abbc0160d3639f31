//! Passive parts that hold state and decide. Only `opener` does I/O: it opens one connection.

pub(crate) mod backoff;
pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod opener;
pub(crate) mod runtime;
pub(crate) mod schedule;
pub(crate) mod slots;
