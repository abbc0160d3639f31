//! `CloseReport`: what `close()` did.

use std::fmt;

/// What a [`close()`](crate::Pool::close) did with the pool's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CloseReport {
    /// Connections closed with `COM_QUIT` in time: they were idle, or were returned.
    pub drained: usize,
    /// Connections still open after `close_timeout`. Commands of those in use fail. Outside of a
    /// tokio runtime with timers nothing is awaited, so that idle ones count here too; they are
    /// closed all the same.
    pub cut: usize,
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections drained, {} cut", self.drained, self.cut)
    }
}
