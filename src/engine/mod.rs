//! Passive parts: they hold state and decide, and do no I/O but the opening of one connection.

pub(crate) mod backoff;
pub(crate) mod deadlines;
pub(crate) mod health;
pub(crate) mod opener;
pub(crate) mod schedule;
pub(crate) mod slots;
