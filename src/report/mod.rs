//! What the pool reports: its status now, its readiness, and what a warm-up or a close did.

pub(crate) mod discard;
mod holders;
mod readiness;
mod status;
mod warm_up;

pub use {
    holders::{HolderLine, Holders},
    readiness::{Health, Readiness, ReadinessWatch},
    status::PoolStatus,
    warm_up::{CloseReport, ConnectTime, Flavor, ServerInfo, WarmUpReport, Warning},
};
pub(crate) use {readiness::Standing, warm_up::Millis};
