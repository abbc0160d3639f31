//! A single-threaded runtime on a thread of its own, for pools and callers that live elsewhere than
//! the test.

use std::{future::Future, sync::mpsc};

use tokio::{runtime::Handle, task::JoinHandle};

use crate::background::Background;

/// A single-threaded runtime that is driven by its own thread. Dropping it ends both.
pub struct Elsewhere(Background);

impl Elsewhere {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self(Background::start("elsewhere"))
    }

    /// To spawn on it.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.0.handle()
    }

    /// Spawns a task on it.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.spawn(task)
    }

    /// Runs a future there, while this thread waits.
    ///
    /// # Panics
    ///
    /// If the future panics.
    pub fn block_on<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        let done = async move { sender.send(future.await) };
        drop(self.spawn(done));
        receiver.recv().expect("the future does not panic")
    }
}
