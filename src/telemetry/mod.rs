//! What a pool measures and logs: metrics, slow gets, and use of the bare `Conn`.

mod export;
mod histogram;
pub(crate) mod metrics;
pub(crate) mod rate_limit;
pub(crate) mod slow;
pub(crate) mod unfollowed;

pub use {crate::report::discard::DiscardReason, histogram::Histogram, metrics::PoolMetrics};

pub(crate) use {
    metrics::Metrics,
    rate_limit::RateLimit,
    slow::{SlowGets, Stopwatch},
    unfollowed::UnfollowedUses,
};
