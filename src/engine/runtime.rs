//! The runtime that a pool's connections and tasks live on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Timeout, timeout},
};

use crate::{
    error::Error,
    session::runtime::{SocketRuntime, timer},
};

/// The pool's runtime: that of its first use, until it ends; then that of the next use.
#[derive(Debug)]
pub(crate) struct PoolRuntime {
    /// No other lock is taken while this one is held.
    current: Mutex<Option<Arc<SocketRuntime>>>,
    /// Notified when the runtime ends: waiting callers and warm-ups move the pool to theirs.
    attempts: watch::Sender<()>,
}

/// Limits the time of a caller's work, by a timer of its own runtime.
///
/// `NoRuntime` outside of a runtime, or on one without timers, where tokio panics.
pub(crate) fn within<F: Future>(limit: Duration, work: F) -> Result<Timeout<F>, Error> {
    // After a panic neither `limit` nor `work` is used any more.
    let limited = catch_unwind(AssertUnwindSafe(|| timeout(limit, work)));
    limited.map_err(|_panic| Error::NoRuntime)
}

/// Held by the maintenance task while it runs. Dropping it records that the runtime has ended.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) runtime: Arc<SocketRuntime>,
    attempts: watch::Sender<()>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.runtime.record_end();
        self.attempts.send_replace(());
    }
}

/// The outcome of [`PoolRuntime::enter`].
pub(crate) enum Entered {
    /// The pool lives on this runtime, the current one or another.
    Runs(Arc<SocketRuntime>),
    /// The pool has moved to the current runtime, and its maintenance is to be started there.
    Moved(Alive),
}

impl PoolRuntime {
    pub(crate) fn new(attempts: watch::Sender<()>) -> Self {
        Self {
            current: Mutex::default(),
            attempts,
        }
    }

    /// Moves the pool to the current runtime, unless it lives on one that has not ended. A closed
    /// pool stays where it is.
    pub(crate) fn enter(&self, is_closed: bool) -> Result<Entered, Error> {
        let here = Handle::try_current().map_err(|_outside_of_any| Error::NoRuntime)?;
        let mut current = self.lock();
        if let Some(runtime) = &*current
            && (is_closed || !runtime.has_ended())
        {
            return Ok(Entered::Runs(Arc::clone(runtime)));
        }
        if timer(Duration::ZERO).is_none() {
            return Err(Error::NoRuntime);
        }
        let runtime = Arc::new(SocketRuntime::new(here));
        *current = Some(Arc::clone(&runtime));
        drop(current);
        let attempts = self.attempts.clone();
        Ok(Entered::Moved(Alive { runtime, attempts }))
    }

    /// The runtime, once the pool has been used.
    pub(crate) fn current(&self) -> Option<Arc<SocketRuntime>> {
        self.lock().clone()
    }

    /// No code panics while holding this lock, so poisoning can be ignored.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<SocketRuntime>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
