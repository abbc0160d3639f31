//! Closes a connection and frees its slot, in this order.

use std::sync::Arc;

use crate::{connector::Connector, session::Reason, slot::Tending};

/// Closes a connection, with a goodbye where it is in a state to say one, and frees its slot.
pub(crate) async fn close(connector: &Arc<Connector>, mut tending: Tending, reason: Reason) {
    if let Some(session) = tending.take_session() {
        match reason {
            Reason::Asked
            | Reason::Closing
            | Reason::Retired
            | Reason::Surplus
            | Reason::ReadOnly
            | Reason::RoleChanged => session.say_goodbye().await,
            Reason::Cancelled
            | Reason::Lost
            | Reason::Misused
            | Reason::Unproved
            | Reason::TooMuchPending
            | Reason::RuntimeGone => session.sever(),
        }
    }
    drop(tending);
    connector.judge();
    connector.fill();
}
