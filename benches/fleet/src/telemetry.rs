//! The pool's own code.

#[path = "../../../src/telemetry/rate_limit.rs"]
mod rate_limit;

pub(crate) use rate_limit::RateLimit;
