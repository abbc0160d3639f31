//! Closes a connection and frees its slot, in this order.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{connector::Connector, session::Reason, slot::Tending};

/// How long a goodbye may take before the socket is closed without one.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// Closes a connection, with a goodbye where it is in a state to say one, and frees its slot.
pub(crate) async fn close(connector: &Arc<Connector>, mut tending: Tending, reason: Reason) {
    if let Some(session) = tending.take_session() {
        match reason {
            Reason::Asked
            | Reason::Closing
            | Reason::Retired
            | Reason::Surplus
            | Reason::ReadOnly => {
                drop(timeout(GOODBYE_TIME, session.say_goodbye()).await);
            }
            Reason::Cancelled
            | Reason::Lost
            | Reason::Misused
            | Reason::Unproved
            | Reason::TooMuchPending
            | Reason::RuntimeGone => {
                session.sever();
            }
        }
    }
    drop(tending);
    connector.judge();
    connector.fill();
}
