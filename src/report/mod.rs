//! What the pool reports: its status and readiness now, and what a warm-up or a close did.

mod close;
mod cluster;
pub(crate) mod discard;
mod duration;
mod holders;
mod readiness;
mod server;
mod status;
mod warm_up;

pub use {
    close::CloseReport,
    cluster::{ClusterHealth, ClusterReport, ClusterWarning, Member, MemberReport, Role},
    holders::{HolderLine, Holders},
    readiness::{Health, Readiness, ReadinessWatch},
    server::{Flavor, ServerInfo},
    status::PoolStatus,
    warm_up::{ConnectTime, WarmUpReport, Warning},
};
pub(crate) use {discard::DiscardReason, duration::HumanDuration, readiness::ReadinessSnapshot};
