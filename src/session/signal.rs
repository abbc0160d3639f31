//! A signal that is given once. The pool has two: it is closing, and what is still in use is cut off.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
};

use tokio::sync::Notify;

/// A signal given once; asking costs one load.
///
/// This, and the count of news in `deadlines`, are the atomics in the crate that must agree with a wake-up. A lock that
/// both sides take makes them: that of `Notify`, of a pulse's waker, or of the list of deadlines. Whoever tells writes the
/// flag, or the count, before it takes that lock, and whoever waits reads it after it has had the lock. So if the teller has
/// the lock first, the other one sees what was written; and if the other one has it first, it is woken. All other atomics
/// are counts, marks and times that stand for themselves: one that is read late makes a look, a line of log or an opening
/// late, and never loses a wake-up.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    given: AtomicBool,
    waiting: Notify,
}

impl Signal {
    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// Gives the signal; says whether this was the first time.
    pub(crate) fn give(&self) -> bool {
        let first = !self.given.swap(true, Ordering::AcqRel);
        self.waiting.notify_waiters();
        first
    }

    /// Resolves when the signal is given, or has been.
    pub(crate) async fn wait(&self) {
        let mut told = pin!(self.waiting.notified());
        // Registered before the flag is read: a signal given in between is not missed.
        told.as_mut().enable();
        if !self.is_given() {
            told.await;
        }
    }

    /// The outcome of `work`, or `None` if the signal comes first.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        // Most work needs one poll to send, and one for the answer: it is polled no more often than it asks for.
        let mut given = pin!(None);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if given.is_none() {
                given.set(Some(self.wait()));
            }
            match given.as_mut().as_pin_mut() {
                Some(given) => given.poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use super::Signal;

    #[tokio::test]
    async fn work_ends_by_itself_or_by_the_signal() {
        let signal = Arc::new(Signal::default());
        assert_eq!(signal.unless(async { 1 }).await, Some(1));
        let waiting = tokio::spawn({
            let signal = Arc::clone(&signal);
            async move { signal.unless(pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        assert!(signal.give() && !signal.give());
        assert_eq!(waiting.await.expect("no panic"), None);
        assert_eq!(signal.unless(async { 1 }).await, Some(1));
        assert_eq!(signal.unless(pending::<()>()).await, None);
    }
}
