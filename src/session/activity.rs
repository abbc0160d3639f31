//! What the pool can see and do while a caller uses a connection: whether a statement is under way,
//! whether answers come, and how `close()` and `statement_timeout` cut it off.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;

use crate::time::Timestamp;

use super::{
    runtime::{Silence, SocketRuntime},
    statements::CacheCounts,
};

/// The activity on one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    runtime: Arc<SocketRuntime>,
    /// Of all connections together.
    cache_counts: Arc<CacheCounts>,
    /// Counts the beginning and the end of each statement: odd while one is under way. Only the
    /// holder of the connection writes it.
    steps: AtomicU64,
    is_cut: AtomicBool,
    /// How long a statement may be under way.
    limit: Option<Duration>,
    /// The step that was under way for longer, or 0: a later statement is not cut.
    overdue: AtomicU64,
    /// A statement was cut because it was overdue. Only the holder of the connection writes it.
    has_timed_out: AtomicBool,
    /// Wakes the task that waits for an answer, so that it notices the cut.
    waker: AtomicWaker,
}

/// Why a statement was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The pool was closed.
    Closed,
    /// It was under way for longer than `statement_timeout`.
    TimedOut(Duration),
    /// The runtime of its socket has ended, or is not driven.
    RuntimeStopped,
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

    /// Whether a statement was cut off because it was under way for too long.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.has_timed_out.load(Ordering::Relaxed)
    }

    pub(super) fn cache_counts(&self) -> Arc<CacheCounts> {
        Arc::clone(&self.cache_counts)
    }

    /// Whether the runtime of the socket has ended, so that nothing more is read from it.
    pub(crate) fn has_lost_runtime(&self) -> bool {
        self.runtime.has_ended()
    }

    /// Runs a statement to its end, or until it is cut off.
    ///
    /// Time-outs are counted from [`begin`](Self::begin): without it, none is noticed.
    pub(crate) async fn unless_cut<T>(
        &self,
        mut statement: impl Future<Output = T> + Unpin,
    ) -> Result<T, Cut> {
        let _guard = ClearWaker(self);
        let mut silence = Silence::default();
        poll_fn(|cx| match Pin::new(&mut statement).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_cut(&mut silence, cx).map(Err),
        })
        .await
    }

    /// Reads the rest of an answer that has begun, unless it is cut off.
    ///
    /// Costs nothing if the whole answer has arrived. Otherwise `record_wait` is called once, and it
    /// counts as a statement under way.
    pub(crate) async fn read<T>(
        &self,
        mut reading: impl Future<Output = T> + Unpin,
        mut record_wait: impl FnMut(),
    ) -> Result<T, Cut> {
        let mut waiting = None;
        let mut silence = Silence::default();
        poll_fn(|cx| match Pin::new(&mut reading).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => {
                waiting.get_or_insert_with(|| {
                    record_wait();
                    Waiting::begin(self)
                });
                self.poll_cut(&mut silence, cx).map(Err)
            }
        })
        .await
    }

    /// Registers the task as waiting for an answer. Ready once the statement is cut off.
    pub(crate) fn poll_cut(&self, silence: &mut Silence, cx: &mut Context<'_>) -> Poll<Cut> {
        self.waker.register(cx.waker());
        // Read after the waker is registered: a cut in between is not missed.
        if self.is_cut() {
            Poll::Ready(Cut::Closed)
        } else if let Some(limit) = self.limit.filter(|_| self.is_overdue()) {
            self.has_timed_out.store(true, Ordering::Relaxed);
            Poll::Ready(Cut::TimedOut(limit))
        } else {
            silence
                .poll(&self.runtime, cx)
                .map(|()| Cut::RuntimeStopped)
        }
    }

    /// Clears the waker, which would keep its task's memory.
    pub(crate) fn clear_waker(&self) {
        drop(self.waker.take());
    }

    fn is_overdue(&self) -> bool {
        let overdue = self.overdue.load(Ordering::Acquire);
        overdue != 0 && overdue == self.steps.load(Ordering::Relaxed)
    }

    /// Cuts off the statement under way at this step. If it has ended meanwhile, nothing happens.
    fn cut_overdue(&self, step: u64) {
        self.overdue.store(step, Ordering::Release);
        self.waker.wake();
    }
}

/// Clears the waker however the statement ends.
struct ClearWaker<'a>(&'a Activity);

impl Drop for ClearWaker<'_> {
    fn drop(&mut self) {
        self.0.clear_waker();
    }
}

/// Counts as a statement under way.
struct Waiting<'a>(ClearWaker<'a>);

impl<'a> Waiting<'a> {
    fn begin(activity: &'a Activity) -> Self {
        activity.begin();
        Self(ClearWaker(activity))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.end();
    }
}

/// The activities of all connections of a pool.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    /// `statement_timeout`
    limit: Option<Duration>,
    pub(crate) cache_counts: Arc<CacheCounts>,
    /// No other lock is taken while this one is held.
    all: Mutex<Vec<Watched>>,
}

/// An activity, and the statement last seen under way.
#[derive(Debug)]
struct Watched {
    activity: Weak<Activity>,
    step: u64,
    seen_at: Timestamp,
}

impl Watched {
    /// Cuts the statement under way if it was first seen too long ago. Otherwise returns when that
    /// will be.
    fn cut_overdue(&mut self, now: Timestamp) -> Option<Timestamp> {
        let activity = self.activity.upgrade()?;
        let step = activity.steps.load(Ordering::Relaxed);
        if step != self.step {
            (self.step, self.seen_at) = (step, now);
        }
        if step & 1 == 0 || activity.overdue.load(Ordering::Relaxed) == step {
            return None;
        }
        let overdue_at = self.seen_at.after(activity.limit?);
        if now < overdue_at {
            return Some(overdue_at);
        }
        activity.cut_overdue(step);
        None
    }
}

/// All activities at one moment. If two samples are equal, no answer came in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Connections with a statement under way.
    pub(crate) under_way: usize,
    steps: u64,
}

impl Activities {
    pub(crate) fn new(statement_timeout: Option<Duration>) -> Self {
        Self {
            limit: statement_timeout,
            cache_counts: Arc::default(),
            all: Mutex::default(),
        }
    }

    /// The activity of a new connection on this runtime.
    pub(crate) fn add(&self, runtime: &Arc<SocketRuntime>) -> Arc<Activity> {
        let activity = Arc::new(Activity {
            runtime: Arc::clone(runtime),
            cache_counts: Arc::clone(&self.cache_counts),
            steps: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            limit: self.limit,
            overdue: AtomicU64::new(0),
            has_timed_out: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut all = self.all();
        all.retain(|watched| watched.activity.strong_count() > 0);
        all.push(Watched {
            activity: Arc::downgrade(&activity),
            step: 0,
            seen_at: Timestamp::now(),
        });
        drop(all);
        activity
    }

    /// Ends all statements under way, and lets no other begin.
    pub(crate) fn cut_all(&self) {
        let all = self.upgraded();
        for activity in &all {
            activity.is_cut.store(true, Ordering::Release);
        }
        for activity in &all {
            activity.waker.wake();
        }
    }

    /// Ends the statements that were first seen under way `statement_timeout` ago. Must be called
    /// often, because only a call sees a statement for the first time. Returns when the next one
    /// will be overdue.
    pub(crate) fn cut_overdue(&self, now: Timestamp) -> Option<Timestamp> {
        self.limit?;
        let cut = |watched: &mut Watched| watched.cut_overdue(now);
        self.all().iter_mut().filter_map(cut).min()
    }

    pub(crate) fn sample(&self) -> Sample {
        let mut sample = Sample {
            under_way: 0,
            steps: 0,
        };
        for activity in self.upgraded() {
            let steps = activity.steps.load(Ordering::Relaxed);
            let is_under_way = usize::from(steps & 1 == 1);
            sample.under_way = sample.under_way.saturating_add(is_under_way);
            sample.steps = sample.steps.wrapping_add(steps);
        }
        sample
    }

    fn upgraded(&self) -> Vec<Arc<Activity>> {
        let upgrade = |watched: &Watched| watched.activity.upgrade();
        self.all().iter().filter_map(upgrade).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Watched>> {
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
        let activity = activities.add(&SocketRuntime::current());
        assert_eq!(activity.unless_cut(ready(1)).await, Ok(1));
        let statement = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.unless_cut(pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        activities.cut_all();
        assert_eq!(statement.await.expect("no panic"), Err(Cut::Closed));
        assert!(activity.waker.take().is_none(), "the task is kept alive");
        assert!(activity.is_cut());
        assert_eq!(activity.unless_cut(pending::<()>()).await, Err(Cut::Closed));
    }

    #[tokio::test]
    async fn only_the_statement_that_is_overdue_is_cut() {
        let (limit, runtime) = (Duration::from_secs(5), SocketRuntime::current());
        let (activities, start) = (Activities::new(Some(limit)), Timestamp::now());
        let at = |seconds| start.after(Duration::from_secs(seconds));
        let (slow, busy) = (activities.add(&runtime), activities.add(&runtime));
        slow.begin();
        busy.begin();
        assert_eq!(activities.cut_overdue(at(1)), Some(at(6)));
        busy.end();
        busy.begin();
        assert_eq!(activities.cut_overdue(at(5)), Some(at(6)));
        assert_eq!(activities.cut_overdue(at(6)), Some(at(10)));
        assert_eq!(
            slow.unless_cut(pending::<()>()).await,
            Err(Cut::TimedOut(limit))
        );
        assert!(slow.has_timed_out());
        // A statement that ends at that moment has its answer, and the next one is not cut.
        assert_eq!(activities.cut_overdue(at(10)), None);
        assert_eq!(busy.unless_cut(ready(1)).await, Ok(1));
        busy.end();
        busy.begin();
        assert!(!busy.is_overdue() && !busy.has_timed_out());
        assert_eq!(activities.cut_overdue(at(11)), Some(at(16)));
        busy.end();
        assert_eq!(activities.cut_overdue(at(99)), None);
    }

    #[tokio::test]
    async fn a_sample_shows_statements_under_way_and_answers() {
        let (activities, runtime) = (Activities::default(), SocketRuntime::current());
        let (one, other) = (activities.add(&runtime), activities.add(&runtime));
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
