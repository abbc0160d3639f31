//! Passive parts: they hold state and decide. None does I/O but `opener`, which opens one connection.

pub(crate) mod backoff;
pub(crate) mod health;
pub(crate) mod opener;
pub(crate) mod runtime;
pub(crate) mod schedule;
pub(crate) mod slots;
