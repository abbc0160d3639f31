//! `PoolStatus`: the pool's connections now.

use std::fmt;

/// The pool's connections now, in one consistent snapshot; returned by
/// [`Pool::status`](crate::Pool::status).
///
/// In every snapshot `open == idle + in_use + cleaning`, and `open + connecting <= size +
/// overflow`. Only after a [`resize()`](crate::Pool::resize) to a smaller limit may there be more,
/// until those in use are returned.
///
/// Its `Display` is the sentence that errors contain.
///
/// ```
/// use mysql_warm_pool::{Pool, PoolConfig};
///
/// let pool = Pool::new(PoolConfig::from_url("mysql://app:secret@db/shop")?)?;
/// let status = pool.status();
/// assert_eq!((status.open, status.limit()), (0, 50));
/// assert_eq!(
///     status.to_string(),
///     "0 of 50 connections open (0 in use, 0 idle, 0 being cleaned), 0 opening, 0 waiting",
/// );
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolStatus {
    /// The setting `size` now: connections kept open.
    pub size: usize,
    /// The setting `overflow` now: further connections allowed under load.
    pub overflow: usize,
    /// Connections open now: `idle + in_use + cleaning`.
    pub open: usize,
    /// Open connections that are ready to be handed out now.
    pub idle: usize,
    /// Connections that callers hold now.
    pub in_use: usize,
    /// Connections being cleaned, validated, replaced or closed by the pool now.
    pub cleaning: usize,
    /// Connections being opened now.
    pub connecting: usize,
    /// Callers waiting for a connection now.
    pub waiting: usize,
}

impl PoolStatus {
    /// Returns the most connections the server may see, `size + overflow`.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.size.saturating_add(self.overflow)
    }
}

impl fmt::Display for PoolStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} connections open ({} in use, {} idle, {} being cleaned), \
             {} opening, {} waiting",
            self.open,
            self.limit(),
            self.in_use,
            self.idle,
            self.cleaning,
            self.connecting,
            self.waiting,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::PoolStatus;

    #[test]
    fn the_sentence_names_every_number() {
        let status = PoolStatus {
            size: 20,
            overflow: 30,
            open: 12,
            idle: 3,
            in_use: 8,
            cleaning: 1,
            connecting: 2,
            waiting: 5,
        };
        assert_eq!(
            status.to_string(),
            "12 of 50 connections open (8 in use, 3 idle, 1 being cleaned), 2 opening, 5 waiting"
        );
    }
}
