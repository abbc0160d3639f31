//! What can be seen of connections while they are lent: whether commands are under way, and whether answers come;
//! and how those commands are cut off.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use crate::session::signal::Signal;

/// Beats at the beginning and at the end of each of a borrower's commands: odd while one is under way.
///
/// Only whoever has the connection beats; others look.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    /// Wakes the task whose command is under way. Taken alone.
    waker: Mutex<Option<Waker>>,
}

impl Pulse {
    #[inline]
    pub(crate) fn begin(&self) {
        let beats = self.beats.load(Ordering::Relaxed);
        self.beats.store(beats | 1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn end(&self) {
        let beats = self.beats.load(Ordering::Relaxed);
        self.beats
            .store((beats | 1).wrapping_add(1), Ordering::Relaxed);
    }

    /// The outcome of a borrower's command, or `None` if the connection is cut off first.
    ///
    /// Whoever gives the signal then wakes all pulses: a place of its own for each connection costs a fraction of one in
    /// a list that all share.
    pub(crate) async fn unless_cut<T>(
        &self,
        cut: &Signal,
        mut command: impl Future<Output = T> + Unpin,
    ) -> Option<T> {
        // However it ends: a waker keeps its task's memory.
        let _forgetting = Forgetting(self);
        poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut command).poll(cx) {
                return Poll::Ready(Some(output));
            }
            let mut waker = self.waker();
            let is_there = matches!(&*waker, Some(waker) if waker.will_wake(cx.waker()));
            let old = if is_there {
                None
            } else {
                waker.replace(cx.waker().clone())
            };
            drop(waker);
            drop(old);
            // Read after the waker is there: a signal given in between is not missed.
            if cut.is_given() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a pulse forget whom it wakes.
struct Forgetting<'a>(&'a Pulse);

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        let waker = self.0.waker().take();
        // With no lock held: what is dropped with a task may be anything.
        drop(waker);
    }
}

/// The pulses of a pool's connections.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    /// Guards who is looked at. Taken before nothing else.
    all: Mutex<Vec<Weak<Pulse>>>,
}

/// All pulses at a moment. Two looks that are equal have had no answer in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Connections with a borrower's command under way.
    pub(crate) under_way: usize,
    beats: u64,
}

impl Pulses {
    /// A pulse for a new connection.
    pub(crate) fn begin(&self) -> Arc<Pulse> {
        let pulse = Arc::default();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pulse| pulse.strong_count() > 0);
        all.push(Arc::downgrade(&pulse));
        drop(all);
        pulse
    }

    /// Wakes those whose commands are under way, to see that they are cut off.
    pub(crate) fn wake(&self) {
        let all = self
            .all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for pulse in all.iter().filter_map(Weak::upgrade) {
            let waker = pulse.waker().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    pub(crate) fn look(&self) -> Look {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = Look {
            under_way: 0,
            beats: 0,
        };
        for pulse in all.iter().filter_map(Weak::upgrade) {
            let beats = pulse.beats.load(Ordering::Relaxed);
            let is_under_way = usize::from(beats & 1 == 1);
            look.under_way = look.under_way.saturating_add(is_under_way);
            look.beats = look.beats.wrapping_add(beats);
        }
        drop(all);
        look
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::Arc,
    };

    use super::{Pulses, Signal};

    #[tokio::test]
    async fn a_command_ends_by_itself_or_is_cut_off() {
        let (pulses, cut) = (Pulses::default(), Arc::new(Signal::default()));
        let pulse = pulses.begin();
        assert_eq!(pulse.unless_cut(&cut, ready(1)).await, Some(1));
        let command = tokio::spawn({
            let (pulse, cut) = (Arc::clone(&pulse), Arc::clone(&cut));
            async move { pulse.unless_cut(&cut, pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        assert!(cut.give());
        pulses.wake();
        assert_eq!(command.await.expect("no panic"), None);
        assert!(pulse.waker().is_none(), "a task is kept");
        assert_eq!(pulse.unless_cut(&cut, ready(1)).await, Some(1));
        assert_eq!(pulse.unless_cut(&cut, pending::<()>()).await, None);
    }

    #[test]
    fn a_look_tells_commands_under_way_and_whether_any_was_answered() {
        let pulses = Pulses::default();
        let (one, other) = (pulses.begin(), pulses.begin());
        assert_eq!(pulses.look().under_way, 0);
        one.begin();
        other.begin();
        let before = pulses.look();
        assert_eq!((before.under_way, pulses.look()), (2, before));
        one.end();
        assert_eq!(pulses.look().under_way, 1);
        one.begin();
        let after = pulses.look();
        assert_eq!(after.under_way, 2);
        assert_ne!(after, before);
        drop(one);
        assert_eq!(pulses.look().under_way, 1);
    }
}
