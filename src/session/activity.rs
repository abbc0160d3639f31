//! What the pool can see and do while a caller uses a connection: whether a statement is under way,
//! whether answers come, and how `close()` cuts it off.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use futures_util::task::AtomicWaker;

/// The activity on one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Counts the beginning and the end of each statement: odd while one is under way. Only the
    /// holder of the connection writes it.
    steps: AtomicU64,
    is_cut: AtomicBool,
    /// Wakes the task that waits for an answer, so that it notices the cut.
    waker: AtomicWaker,
}

impl Activity {
    #[inline]
    pub(crate) fn begin(&self) {
        let steps = self.steps.load(Ordering::Relaxed);
        self.steps.store(steps | 1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn end(&self) {
        let steps = self.steps.load(Ordering::Relaxed);
        let even = (steps | 1).wrapping_add(1);
        self.steps.store(even, Ordering::Relaxed);
    }

    /// Whether `close()` has cut the connection off, so that it may not be used any more.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Runs a statement to its end. Returns `None` if the connection is cut off first.
    pub(crate) async fn unless_cut<T>(
        &self,
        mut statement: impl Future<Output = T> + Unpin,
    ) -> Option<T> {
        let _guard = ClearWaker(&self.waker);
        poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut statement).poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.waker.register(cx.waker());
            // Read after the waker is registered: a cut in between is not missed.
            if self.is_cut() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

/// Clears the waker however the statement ends: a waker keeps its task's memory.
struct ClearWaker<'a>(&'a AtomicWaker);

impl Drop for ClearWaker<'_> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// The activities of all connections of a pool.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    /// No other lock is taken while this one is held.
    all: Mutex<Vec<Weak<Activity>>>,
}

/// All activities at one moment. If two samples are equal, no answer came in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Connections with a statement under way.
    pub(crate) under_way: usize,
    steps: u64,
}

impl Activities {
    /// The activity of a new connection.
    pub(crate) fn add(&self) -> Arc<Activity> {
        let activity = Arc::default();
        let mut all = self.all();
        all.retain(|activity| activity.strong_count() > 0);
        all.push(Arc::downgrade(&activity));
        drop(all);
        activity
    }

    /// Ends all statements under way, and lets no other begin.
    pub(crate) fn cut_all(&self) {
        let all: Vec<_> = self.all().iter().filter_map(Weak::upgrade).collect();
        for activity in &all {
            activity.is_cut.store(true, Ordering::Release);
        }
        for activity in &all {
            activity.waker.wake();
        }
    }

    pub(crate) fn sample(&self) -> Sample {
        let mut sample = Sample {
            under_way: 0,
            steps: 0,
        };
        for activity in self.all().iter().filter_map(Weak::upgrade) {
            let steps = activity.steps.load(Ordering::Relaxed);
            let is_under_way = usize::from(steps & 1 == 1);
            sample.under_way = sample.under_way.saturating_add(is_under_way);
            sample.steps = sample.steps.wrapping_add(steps);
        }
        sample
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<Activity>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_statement_ends_by_itself_or_is_cut() {
        let activities = Activities::default();
        let activity = activities.add();
        assert_eq!(activity.unless_cut(ready(1)).await, Some(1));
        let statement = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.unless_cut(pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        activities.cut_all();
        assert_eq!(statement.await.expect("no panic"), None);
        assert!(activity.waker.take().is_none(), "the task is kept alive");
        assert!(activity.is_cut());
        assert_eq!(activity.unless_cut(pending::<()>()).await, None);
    }

    #[test]
    fn a_sample_shows_statements_under_way_and_answers() {
        let activities = Activities::default();
        let (one, other) = (activities.add(), activities.add());
        assert_eq!(activities.sample().under_way, 0);
        one.begin();
        other.begin();
        let before = activities.sample();
        assert_eq!((before.under_way, activities.sample()), (2, before));
        one.end();
        assert_eq!(activities.sample().under_way, 1);
        one.begin();
        let after = activities.sample();
        assert_eq!(after.under_way, 2);
        assert_ne!(after, before);
        drop(one);
        assert_eq!(activities.sample().under_way, 1);
    }
}
