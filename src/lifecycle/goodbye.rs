//! Closes a connection and frees its slot, in this order.

use std::sync::Arc;

use crate::{engine::slots::Tending, report::discard::DiscardReason, shared::Connector};

/// Closes a connection, with a goodbye where it is in a state to say one, and frees its slot.
pub(crate) async fn close(connector: &Arc<Connector>, mut tending: Tending, reason: DiscardReason) {
    if let Some(session) = tending.take_session() {
        match reason {
            DiscardReason::Requested
            | DiscardReason::Closing
            | DiscardReason::Retired
            | DiscardReason::Surplus
            | DiscardReason::ReadOnly
            | DiscardReason::RoleChanged => session.say_goodbye().await,
            DiscardReason::Cancelled
            | DiscardReason::Lost
            | DiscardReason::Misused
            | DiscardReason::ValidationFailed
            | DiscardReason::TooManyRows
            | DiscardReason::RuntimeGone => session.sever(),
        }
    }
    drop(tending);
    connector.judge();
    connector.fill();
}
