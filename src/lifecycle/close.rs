//! `close()`: goodbye to what is idle, patience with what is in use, then the cut.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::{Instrument, info, info_span};

use crate::{
    lifecycle::clean as cleaning,
    report::{CloseReport, discard::DiscardReason},
    shared::Connector,
};

pub(crate) async fn close(connector: &Arc<Connector>) -> CloseReport {
    let span = info_span!("close", pool = connector.name);
    in_order(connector).instrument(span).await
}

async fn in_order(connector: &Arc<Connector>) -> CloseReport {
    let before = connector.discarded(DiscardReason::Closing);
    connector.begin_closing();
    let all_gone = timeout(
        connector.config.close_timeout,
        cleaning::until_gone(connector),
    )
    .await
    .is_ok();
    let cut = if all_gone {
        0
    } else {
        connector.slots.status().open
    };
    connector.cut_off();
    let drained = connector
        .discarded(DiscardReason::Closing)
        .saturating_sub(before);
    let report = CloseReport {
        drained: usize::try_from(drained).unwrap_or(usize::MAX),
        cut,
    };
    info!(pool = connector.name, drained, cut, "pool closed");
    report
}
