//! The runtime that a pool's connections and tasks live on.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;

use crate::error::Error;

/// The runtime that a pool lives on: that of its first use, until that runtime ends.
#[derive(Debug, Default)]
pub(crate) struct PoolRuntime {
    /// No other lock is taken while this one is held.
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    runtime: Handle,
    /// Alive as long as the maintenance task, which ends with its runtime.
    maintenance: Weak<Alive>,
}

/// Held by the maintenance task while it runs.
#[derive(Debug)]
pub(crate) struct Alive;

impl PoolRuntime {
    /// Binds the pool to the current runtime, unless it still lives on another one.
    ///
    /// Returns a token if the maintenance task must be started; the task holds it while it runs. A
    /// closed pool stays on its runtime.
    pub(crate) fn enter(&self, is_closed: bool) -> Result<Option<Arc<Alive>>, Error> {
        let here = Handle::try_current().map_err(|_outside_of_any| Error::NoRuntime)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*current
            && (is_closed || current.maintenance.strong_count() > 0)
        {
            return if current.runtime.id() == here.id() {
                Ok(None)
            } else {
                Err(Error::NoRuntime)
            };
        }
        let alive = Arc::new(Alive);
        *current = Some(Current {
            runtime: here,
            maintenance: Arc::downgrade(&alive),
        });
        drop(current);
        Ok(Some(alive))
    }

    /// The runtime, once the pool has been used.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| current.runtime.clone())
    }
}
