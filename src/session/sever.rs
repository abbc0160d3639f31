//! Drops what holds a connection so that its socket is closed at once, without a word read from or sent to the server.
//!
//! The driver's `Conn`, dropped as it is, goes on in a task of its own: it reads all that is pending, however much
//! that is, before it closes the socket. It spawns that task on the runtime at hand; here that is one that is gone.

use std::{
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use tokio::runtime::{Builder, Handle};

/// A runtime that is gone: what is spawned on it is dropped at once.
static NOWHERE: LazyLock<Option<Handle>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().build().ok()?;
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    Some(handle)
});

/// Drops it, and closes the sockets of the connections in it.
pub(crate) fn sever<T>(holder: T) {
    // Where a thread is ending, no runtime can be entered; nor is there one for the driver to spawn on.
    let is_ending = Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed());
    let _nowhere = NOWHERE.as_ref().filter(|_| !is_ending).map(Handle::enter);
    drop(holder);
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
            None => unreachable!("only dropping takes it"),
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

    use super::{Severed, sever};

    /// As the driver's `Conn`: dropped, it goes on in a task.
    struct GoesOn(Arc<AtomicBool>);

    impl Drop for GoesOn {
        fn drop(&mut self) {
            let ran = Arc::clone(&self.0);
            drop(tokio::spawn(
                async move { ran.store(true, Ordering::Relaxed) },
            ));
        }
    }

    #[tokio::test]
    async fn what_is_severed_does_not_go_on_in_a_task() {
        let ran = Arc::new(AtomicBool::new(false));
        sever(GoesOn(Arc::clone(&ran)));
        let holder = GoesOn(Arc::clone(&ran));
        let mut waiting = Severed::new(async move {
            pending::<()>().await;
            drop(holder);
        });
        let first_poll = std::future::poll_fn(|cx| {
            let poll = std::pin::Pin::new(&mut waiting).poll(cx);
            std::task::Poll::Ready(poll)
        });
        assert!(first_poll.await.is_pending());
        drop(waiting);
        // All that was spawned here would have its turn now.
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&ran), 1);
        assert!(!ran.load(Ordering::Relaxed));
    }
}
