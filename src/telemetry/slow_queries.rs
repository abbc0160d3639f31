//! Decides which slow statements are logged as a warning: of each text at most one a second.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::time::Timestamp;

const INTERVAL: Duration = Duration::from_secs(1);

/// The most texts to remember.
const TEXTS: usize = 256;

/// Stands for all texts beyond [`TEXTS`].
const OTHERS: &str = "";

/// The texts of slow statements that were logged as warnings.
#[derive(Debug, Default)]
pub(super) struct SlowQueries {
    /// No other lock is taken while this one is held.
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts(HashMap<Box<str>, Seen>);

#[derive(Debug)]
struct Seen {
    warned_at: Timestamp,
    /// Slow statements since then, which were not logged as warnings.
    quiet: u64,
}

impl SlowQueries {
    /// Decides whether to log a slow statement at `now` as a warning. If so, returns how many with
    /// the same text were slow since the last warning. If more than [`TEXTS`] texts are slow within
    /// a second, the others share one warning.
    pub(super) fn allows(&self, text: &str, now: Timestamp) -> Option<u64> {
        self.texts().allows(text, now)
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Texts {
    fn allows(&mut self, text: &str, now: Timestamp) -> Option<u64> {
        let texts = &mut self.0;
        let is_full = texts.len() >= TEXTS && !texts.contains_key(text);
        if is_full {
            texts.retain(|_, seen| now.since(seen.warned_at) < INTERVAL);
        }
        let is_full = is_full && texts.len() >= TEXTS;
        let text = if is_full { OTHERS } else { text };
        let Some(seen) = texts.get_mut(text) else {
            let seen = Seen {
                warned_at: now,
                quiet: 0,
            };
            texts.insert(text.into(), seen);
            return Some(0);
        };
        if now.since(seen.warned_at) < INTERVAL {
            seen.quiet = seen.quiet.saturating_add(1);
            return None;
        }
        seen.warned_at = now;
        Some(std::mem::take(&mut seen.quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_warned_of_once_a_second_with_a_count() {
        let slow = SlowQueries::default();
        let start = Timestamp::now();
        let at = |ms| start.after(Duration::from_millis(ms));
        let outcomes = [
            ("a", 0),
            ("b", 1),
            ("a", 2),
            ("a", 999),
            ("a", 1000),
            ("b", 1000),
            ("b", 1001),
        ];
        let outcomes = outcomes.map(|(text, ms)| slow.allows(text, at(ms)));
        assert_eq!(
            outcomes,
            [Some(0), Some(0), None, None, Some(2), None, Some(1)]
        );
    }

    #[test]
    fn the_memory_is_bounded_and_the_rest_shares_a_warning() {
        let slow = SlowQueries::default();
        let start = Timestamp::now();
        let warned = |now| {
            let texts = (0..1000).map(|n| format!("SELECT a{n}"));
            texts.filter_map(|text| slow.allows(&text, now)).count()
        };
        assert_eq!(warned(start), TEXTS + 1);
        assert_eq!(slow.texts().0.len(), TEXTS + 1);
        let later = start.after(INTERVAL);
        assert_eq!(warned(later), TEXTS + 1);
        assert_eq!(slow.texts().0.len(), TEXTS + 1);
    }
}
