//! Many deadlines over one timer: those of callers who wait, and of connections that are being cleaned or proved.
//!
//! Almost none of them is ever reached. A timer of the runtime's for each is set up and taken down again, and costs more
//! than all the rest of waiting; a place in a list that is looked through at the earliest of them costs a fraction.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::{sync::Notify, time::sleep};

use crate::{session::apart::Apart, time::Timestamp};

/// Longer than looking at one place takes: of many deadlines at about the same time some are told a little late, so that
/// looking never takes more than a small part of a processor.
const LOOK_AT_ONE: Duration = Duration::from_nanos(100);

/// The deadlines of a pool. One task watches the earliest; it is begun by the first, and ends at a look that finds none.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Guards who is woken when. Taken alone.
    list: Apart<Mutex<List>>,
    /// Counts what all who wait are to look at.
    news: AtomicU64,
    /// Tells the watching task to look again.
    look: Notify,
}

#[derive(Debug, Default)]
struct List {
    /// Taken and given up by who waits.
    places: Slab<Place>,
    /// When the watching task looks next: no later than the earliest deadline. `None` while there is no such task.
    watched: Option<Timestamp>,
    /// The watching task is not to outlast the last deadline.
    ending: bool,
}

#[derive(Debug)]
struct Place {
    at: Timestamp,
    /// Until it is woken.
    waker: Option<Waker>,
}

impl Deadlines {
    /// The outcome of work, if it is there within this time from `now` on.
    ///
    /// Whenever all are [told](Self::tell_all), the work is polled again. Dropped, it leaves nothing behind.
    ///
    /// # Panics
    ///
    /// On a runtime without timers, if it has to wait.
    pub(crate) async fn timeout<T>(
        self: &Arc<Self>,
        now: Timestamp,
        limit: Duration,
        mut work: impl Future<Output = T> + Unpin,
    ) -> Result<T, Missed> {
        let mut waiter = Waiter {
            deadlines: self,
            at: now.after(limit),
            place: None,
        };
        poll_fn(|cx| {
            loop {
                let news = self.news();
                if let Poll::Ready(output) = Pin::new(&mut work).poll(cx) {
                    return Poll::Ready(Ok(output));
                }
                // Who waits for the first time needs no clock: the watching task has one.
                let is_over = match waiter.place {
                    None => limit.is_zero(),
                    Some(_) => Timestamp::now() >= waiter.at,
                };
                if is_over {
                    return Poll::Ready(Err(Missed::Over));
                }
                waiter.register(cx.waker())?;
                // Read after the waker is in the list: what was told in between is not missed.
                if self.news() == news {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// How often all were told of something. `signal` says why no wake-up is lost.
    #[inline]
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    /// Tells all who wait that there is something to look at.
    pub(crate) fn tell_all(&self) {
        self.news.fetch_add(1, Ordering::AcqRel);
        let woken = self.list().take_wakers(|_| true);
        wake(woken);
    }

    /// From now on the watching task ends with the last deadline.
    pub(crate) fn end(&self) {
        self.list().ending = true;
        self.look.notify_one();
    }

    /// Wakes those whose time is over; says when to look again, or `None` if there is nothing left to watch.
    fn wake_overdue(&self, now: Timestamp) -> Option<Timestamp> {
        let mut list = self.list();
        let overdue = list.take_wakers(|at| at <= now);
        let waiting = list.places.iter().filter(|(_, p)| p.waker.is_some());
        let next = waiting.map(|(_, place)| place.at).min();
        let crowd = u32::try_from(list.places.len()).unwrap_or(u32::MAX);
        let next = next.map(|at| at.max(now.after(LOOK_AT_ONE.saturating_mul(crowd))));
        list.watched = next;
        list.shrink();
        drop(list);
        wake(overdue);
        next
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn take_wakers(&mut self, of: impl Fn(Timestamp) -> bool) -> Vec<Waker> {
        let places = self.places.iter_mut().filter(|(_, place)| of(place.at));
        places.filter_map(|(_, place)| place.waker.take()).collect()
    }

    /// Gives back what a crowd took that has gone.
    fn shrink(&mut self) {
        if self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to_fit();
        }
    }
}

/// With no lock held: what a waker does, or is dropped with, may be anything. If one panics, the rest are woken all the same.
fn wake(wakers: Vec<Waker>) {
    struct Rest(std::vec::IntoIter<Waker>);

    impl Drop for Rest {
        fn drop(&mut self) {
            self.0.by_ref().for_each(Waker::wake);
        }
    }

    let mut rest = Rest(wakers.into_iter());
    for waker in rest.0.by_ref() {
        waker.wake();
    }
}

/// Why there is no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// The time is over.
    Over,
    /// The runtime is being shut down: nothing would tell that the time is over.
    Runtime,
}

/// One who waits.
struct Waiter<'a> {
    deadlines: &'a Arc<Deadlines>,
    at: Timestamp,
    /// Its place in the list, once it had to wait.
    place: Option<usize>,
}

impl Waiter<'_> {
    /// Puts the waker into the list, and has it watched.
    fn register(&mut self, waker: &Waker) -> Result<(), Missed> {
        let at = self.at;
        let mut list = self.deadlines.list();
        let known = self.place.and_then(|place| list.places.get_mut(place));
        let old = match known {
            None => {
                let waker = Some(waker.clone());
                self.place = Some(list.places.insert(Place { at, waker }));
                None
            }
            Some(Place { waker: there, .. }) => match there {
                Some(there) if there.will_wake(waker) => None,
                there => there.replace(waker.clone()),
            },
        };
        let watched = list.watched;
        let is_watched = watched.is_some_and(|watched| watched <= at);
        if !is_watched {
            list.watched = Some(at);
        }
        drop(list);
        drop(old);
        if is_watched {
            Ok(())
        } else {
            self.have_watched(watched.is_some())
        }
    }

    #[cold]
    fn have_watched(&self, is_there: bool) -> Result<(), Missed> {
        if is_there {
            self.deadlines.look.notify_one();
            return Ok(());
        }
        Lookout::begin(Arc::clone(self.deadlines))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut list = self.deadlines.list();
        let place = list.places.try_remove(place);
        let is_last = list.ending && list.places.is_empty();
        drop(list);
        drop(place);
        if is_last {
            self.deadlines.look.notify_one();
        }
    }
}

/// Held by the watching task.
struct Lookout {
    deadlines: Arc<Deadlines>,
    /// It has ended by itself, and the list says so.
    has_ended: bool,
}

impl Lookout {
    /// Begins to watch, on the runtime that this is called from.
    fn begin(deadlines: Arc<Deadlines>) -> Result<(), Missed> {
        let lookout = Self {
            deadlines,
            has_ended: false,
        };
        // Where there are no timers this panics here, in the task of who waits, and not in that which watches.
        drop(sleep(Duration::ZERO));
        let task = pin!(tokio::spawn(lookout.run()));
        if !task.is_finished() {
            return Ok(());
        }
        // It found nobody left to watch for, or it was dropped before it began.
        match task.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(_)) => Err(Missed::Runtime),
            _ => Ok(()),
        }
    }

    async fn run(mut self) {
        while let Some(next) = self.deadlines.wake_overdue(Timestamp::now()) {
            tokio::select! {
                () = sleep(next.since(Timestamp::now())) => {}
                () = self.deadlines.look.notified() => {}
            }
        }
        self.has_ended = true;
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Its runtime is gone. Who waits on another one has it watched there.
        let mut list = self.deadlines.list();
        list.watched = None;
        let woken = list.take_wakers(|_| true);
        drop(list);
        wake(woken);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        panic::{AssertUnwindSafe, catch_unwind},
        task::Wake,
        time::Instant,
    };

    use tokio::{
        runtime::{Builder, Handle, Runtime},
        task::{JoinHandle, yield_now},
        time::sleep,
    };

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Waits in a task of its own; what comes of it is how long that took, if the time was over.
    fn wait(deadlines: &Arc<Deadlines>, limit: Duration) -> JoinHandle<Option<Duration>> {
        let deadlines = Arc::clone(deadlines);
        tokio::spawn(async move {
            let begun = Timestamp::now();
            let never = pin!(pending::<()>());
            let outcome = deadlines.timeout(begun, limit, never).await;
            (outcome == Err(Missed::Over)).then(|| Timestamp::now().since(begun))
        })
    }

    async fn all_have_begun() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    fn places(deadlines: &Deadlines) -> usize {
        deadlines.list().places.len()
    }

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_woken_at_its_own_time_and_not_before() {
        let deadlines = Arc::<Deadlines>::default();
        let ms = Duration::from_millis;
        // Later ones first, earlier ones first, the same, and some who go before their time.
        let limits = [700, 5, 300, 300, 900, 1, 20, 700, 0].map(ms);
        let waiting = limits.map(|limit| (limit, wait(&deadlines, limit)));
        let given_up = [2, 600, 60_000].map(|limit| wait(&deadlines, ms(limit)));
        all_have_begun().await;
        given_up.iter().for_each(JoinHandle::abort);
        for (limit, waiting) in waiting {
            let took = waiting.await.expect("no panic").expect("its time is over");
            // The runtime's timers go by whole milliseconds, and never go off early.
            assert!(
                took >= limit && took <= limit + ms(2),
                "{took:?} of {limit:?}"
            );
        }
        assert_eq!(places(&deadlines), 0);
        // The next one begins anew.
        assert!(wait(&deadlines, ms(10)).await.expect("no panic").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_leaves_nothing_behind() {
        let deadlines = Arc::<Deadlines>::default();
        let now = Timestamp::now();
        let at_once = deadlines.timeout(now, Duration::ZERO, ready(1)).await;
        assert_eq!((at_once, tasks()), (Ok(1), 0));
        let soon = pin!(sleep(Duration::from_millis(10)));
        assert_eq!(deadlines.timeout(now, Duration::MAX, soon).await, Ok(()));
        assert_eq!(places(&deadlines), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_told() {
        let deadlines = Arc::<Deadlines>::default();
        let waiting = [(); 3].map(|()| {
            let deadlines = Arc::clone(&deadlines);
            tokio::spawn(async move {
                let told = poll_fn(|_| match deadlines.news() {
                    0 => Poll::Pending,
                    news => Poll::Ready(news),
                });
                deadlines.timeout(Timestamp::now(), HOUR, told).await
            })
        });
        all_have_begun().await;
        deadlines.tell_all();
        for waiting in waiting {
            assert_eq!(waiting.await.expect("no panic"), Ok(1));
        }
        // Who has been told of something that is not for it still has its deadline.
        let other = wait(&deadlines, HOUR);
        all_have_begun().await;
        deadlines.tell_all();
        assert!(
            other
                .await
                .expect("no panic")
                .is_some_and(|took| took >= HOUR)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_watches_once_nobody_waits() {
        let deadlines = Arc::<Deadlines>::default();
        let waiting = wait(&deadlines, HOUR);
        all_have_begun().await;
        assert_eq!(tasks(), 2, "one waits, one watches");
        waiting.abort();
        sleep(HOUR).await;
        all_have_begun().await;
        assert_eq!(tasks(), 0, "till the deadline, at the longest");
        let waiting = wait(&deadlines, HOUR);
        all_have_begun().await;
        deadlines.end();
        all_have_begun().await;
        assert_eq!(tasks(), 2, "that one still has its deadline");
        waiting.abort();
        all_have_begun().await;
        assert_eq!(tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_has_gone_leaves_no_memory() {
        let deadlines = Arc::<Deadlines>::default();
        let one = wait(&deadlines, HOUR);
        let crowd: Vec<_> = (0..1000).map(|_| wait(&deadlines, HOUR)).collect();
        all_have_begun().await;
        assert!(deadlines.list().places.capacity() > 1000);
        crowd.iter().for_each(JoinHandle::abort);
        assert!(one.await.expect("no panic").is_some());
        all_have_begun().await;
        assert!(deadlines.list().places.capacity() < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_that_panics_keeps_no_other_from_being_woken() {
        struct Panics;

        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("as it is asked to");
            }
        }

        let deadlines = Arc::<Deadlines>::default();
        let never = pin!(pending::<()>());
        let mut first = pin!(deadlines.timeout(Timestamp::now(), HOUR, never));
        let panics = Waker::from(Arc::new(Panics));
        let polled = first.as_mut().poll(&mut Context::from_waker(&panics));
        assert!(polled.is_pending());
        let told = poll_fn(|_| match deadlines.news() {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        });
        let mut second = pin!(deadlines.timeout(Timestamp::now(), HOUR, told));
        let polled = poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        let telling = AssertUnwindSafe(|| deadlines.tell_all());
        assert!(catch_unwind(telling).is_err());
        // Only after an hour, and then an error, if it was not woken.
        let begun = Timestamp::now();
        assert_eq!(second.await, Ok(()));
        assert!(Timestamp::now().since(begun) < HOUR);
    }

    #[test]
    fn without_timers_who_waits_panics() {
        let deadlines = Arc::<Deadlines>::default();
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        for _ in 0..2 {
            let outcome = runtime.block_on(async { wait(&deadlines, HOUR).await });
            assert!(outcome.is_err_and(|error| error.is_panic()));
        }
        assert_eq!(places(&deadlines), 0);
    }

    /// With a thread of its own.
    fn runtime() -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_ends_leaves_those_of_others_their_deadlines() {
        let deadlines = Arc::<Deadlines>::default();
        let other = runtime();
        let watched_there = {
            let _there = other.enter();
            wait(&deadlines, HOUR + HOUR)
        };
        while places(&deadlines) == 0 {
            yield_now().await;
        }
        let waiting = wait(&deadlines, HOUR);
        all_have_begun().await;
        assert_eq!(tasks(), 1, "it is watched there");
        other.shutdown_background();
        let took = waiting.await.expect("no panic");
        assert!(took.is_some_and(|took| took >= HOUR));
        assert!(watched_there.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(places(&deadlines), 0);
    }

    #[test]
    fn on_a_runtime_that_is_gone_the_time_is_over_at_once() {
        let deadlines = Arc::<Deadlines>::default();
        let runtime = runtime();
        let handle = runtime.handle().clone();
        drop(runtime);
        let begun = Instant::now();
        let never = pin!(pending::<()>());
        let outcome = handle.block_on(deadlines.timeout(Timestamp::now(), HOUR, never));
        assert_eq!(outcome, Err(Missed::Runtime));
        assert!(begun.elapsed() < HOUR);
    }
}
