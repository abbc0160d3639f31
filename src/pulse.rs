//! What can be seen of connections while they are lent: whether commands are under way, and whether answers come.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

/// Beats at the beginning and at the end of each of a borrower's commands: odd while one is under way.
///
/// Only whoever has the connection beats; others look.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
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
    use super::Pulses;

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
