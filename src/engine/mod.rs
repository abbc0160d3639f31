//! Passive parts that hold state and decide. Only `opener` and `connect` do I/O: they open one
//! connection.

pub(crate) mod backoff;
pub(crate) mod connect;
pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod init_connect;
pub(crate) mod opener;
pub(crate) mod runtime;
pub(crate) mod schedule;
pub(crate) mod slots;
