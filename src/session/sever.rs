//! Closes a connection's socket at once, without reading from it or sending anything.
//!
//! The driver's `Conn` does not do that when it is dropped: it spawns a task that reads all pending
//! rows first, however many they are, and rolls back, again and again if the server refuses. It
//! spawns on the current runtime, so this module drops it while a runtime that has ended is the
//! current one.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::LazyLock,
    task::{Context, Poll},
};

use tokio::runtime::{Builder, Handle};

/// A runtime that has ended: tasks spawned on it are dropped at once.
static ENDED: LazyLock<Option<Handle>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().build().ok()?;
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    Some(handle)
});

/// Drops `holder`, and closes the sockets of the connections in it.
pub(crate) fn sever<T>(holder: T) {
    severing(|| drop(holder));
}

/// Drives a future that needs its runtime only to read and write. Connections dropped while it is
/// polled are [severed](sever), and so is the future if it is dropped before its end.
pub(crate) async fn severing_all<F: Future>(future: F) -> F::Output {
    let mut future = pin!(Severed::new(future));
    poll_fn(|cx| severing(|| future.as_mut().poll(cx))).await
}

/// Severs the connections that `work` drops.
pub(crate) fn severing<T>(work: impl FnOnce() -> T) -> T {
    // On a thread that is ending no runtime can be entered, and the driver cannot spawn either.
    let is_ending = Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed());
    let _entered = ENDED.as_ref().filter(|_| !is_ending).map(Handle::enter);
    work()
}

/// A future that is [severed](sever) when it is dropped before its end.
pub(crate) struct Severed<F> {
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Severed<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            future: Some(Box::pin(future)),
        }
    }
}

impl<F: Future> Future for Severed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match &mut self.future {
            Some(future) => future.as_mut().poll(cx),
            None => unreachable!("only `drop` takes it"),
        }
    }
}

impl<F> Drop for Severed<F> {
    fn drop(&mut self) {
        sever(self.future.take());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::{Severed, sever, severing_all};

    /// Spawns a task when it is dropped, as the driver's `Conn` does.
    struct SpawnsOnDrop(Arc<AtomicBool>);

    impl Drop for SpawnsOnDrop {
        fn drop(&mut self) {
            let ran = Arc::clone(&self.0);
            drop(tokio::spawn(
                async move { ran.store(true, Ordering::Relaxed) },
            ));
        }
    }

    #[tokio::test]
    async fn a_severed_holder_runs_no_task() {
        let ran = Arc::new(AtomicBool::new(false));
        sever(SpawnsOnDrop(Arc::clone(&ran)));
        let holder = SpawnsOnDrop(Arc::clone(&ran));
        let mut waiting = Severed::new(async move {
            pending::<()>().await;
            drop(holder);
        });
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        let holder = SpawnsOnDrop(Arc::clone(&ran));
        severing_all(async { drop(holder) }).await;
        // Whatever had been spawned here would run now.
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&ran), 1);
        assert!(!ran.load(Ordering::Relaxed));
    }
}
