//! What can be measured of a pool: metrics, and the log of slow gets.

mod export;
mod histogram;
pub(crate) mod metrics;
pub(crate) mod rate_limit;
pub(crate) mod slow;

pub use {crate::report::discard::DiscardReason, histogram::Histogram, metrics::PoolMetrics};

pub(crate) use {
    metrics::Metrics,
    rate_limit::RateLimit,
    slow::{SlowGets, Stopwatch},
};
