//! What can be measured of a pool: counters, times, gauges, and the log of slow gets.

pub(crate) mod export;
mod histogram;
pub(crate) mod metrics;
pub(crate) mod slow;

pub(crate) use histogram::Recording;
pub use {crate::report::discard::DiscardReason, histogram::Histogram, metrics::PoolMetrics};
