//! What a pool measures and logs: metrics, statements, slow gets, and use of the bare `Conn`.

mod export;
mod histogram;
pub(crate) mod metrics;
#[cfg(feature = "metrics")]
mod operations;
pub(crate) mod queries;
pub(crate) mod rate_limit;
pub(crate) mod slow;
mod slow_queries;
pub(crate) mod unfollowed;

pub use {crate::report::discard::DiscardReason, histogram::Histogram, metrics::PoolMetrics};

pub(crate) use {
    export::Exporter,
    metrics::Metrics,
    queries::{Caller, Queries, Timing},
    rate_limit::RateLimit,
    slow::{SlowGets, Stopwatch},
    unfollowed::UnfollowedUses,
};
