//! Tells of connections that are held for longer than `leak_after`, with the line that got them.

use std::{
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{task::AbortHandle, time::sleep};
use tracing::{info, warn};

use crate::{session::Session, shared::Connector};

/// Watches how long one caller holds a connection. Dropped as the connection is returned, it tells that it came back, if it
/// had told before that it was held for long.
pub(crate) struct LeakWatch {
    connector: Arc<Connector>,
    id: u32,
    got_at: &'static Location<'static>,
    since: Instant,
    told: Arc<AtomicBool>,
    timer: AbortHandle,
}

impl LeakWatch {
    /// Begins to watch, if the settings ask for it.
    pub(crate) fn begin(
        connector: &Arc<Connector>,
        session: &Session,
        got_at: &'static Location<'static>,
    ) -> Option<Self> {
        let after = connector.config.leak_after?;
        let id = session.conn.id();
        let told = Arc::new(AtomicBool::new(false));
        let timer = session.birth.runtime.spawn({
            let (pool, told) = (connector.name.clone(), Arc::clone(&told));
            async move {
                sleep(after).await;
                told.store(true, Ordering::Relaxed);
                warn!(pool, connection = id, held_for = after.as_secs_f64(), %got_at, "connection held for long");
            }
        });
        Some(Self {
            connector: Arc::clone(connector),
            id,
            got_at,
            since: Instant::now(),
            told,
            timer: timer.abort_handle(),
        })
    }
}

impl Drop for LeakWatch {
    fn drop(&mut self) {
        self.timer.abort();
        if self.told.load(Ordering::Relaxed) {
            let (pool, connection, got_at) = (&self.connector.name, self.id, self.got_at);
            let held_for = self.since.elapsed().as_secs_f64();
            info!(pool, connection, held_for, %got_at, "connection held for long came back");
        }
    }
}
