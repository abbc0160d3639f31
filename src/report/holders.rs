//! `Holders`: how many connections callers hold, for how long, and where they called `get()`.

use std::{cmp::Reverse, fmt, panic::Location, time::Duration};

use super::HumanDuration;

/// The callers that hold a pool's connections, at the time of an
/// [`Error::Timeout`](crate::Error::Timeout).
///
/// Its `Display` is a part of that error's message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holders {
    /// Connections that callers hold now.
    pub count: usize,
    /// The longest time that one of them has been held; `None` if none is held.
    pub longest: Option<Duration>,
    /// The source lines whose connections have been held longest: at most three, longest first.
    ///
    /// Empty unless [`leak_after`](field@crate::PoolConfig::leak_after) is set, because recording
    /// the line costs a little at each get.
    pub lines: Vec<HolderLine>,
    /// Connections that wait for a `get()` that has not been polled since its turn came.
    ///
    /// Usually 0, except for moments. A `get()` future that was polled once, and is then neither
    /// polled nor dropped, keeps its place in the queue and the connection that it was given. See
    /// [`get`](crate::Pool::get).
    pub not_polled: usize,
}

/// A source line that obtained connections which are still held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HolderLine {
    /// Where `get()`, `get_within()` or `try_get()` was called.
    pub got_at: &'static Location<'static>,
    /// Connections obtained there that are held now.
    pub count: usize,
    /// The longest time that one of them has been held.
    pub longest: Duration,
}

impl Holders {
    const LINES: usize = 3;

    /// Summarises all holds: how long each has lasted, and its source line. `in_use`: how many
    /// connections are not idle.
    pub(crate) fn of(
        mut holds: Vec<(Duration, Option<&'static Location<'static>>)>,
        in_use: usize,
    ) -> Self {
        holds.sort_unstable_by_key(|(held_for, _)| Reverse(*held_for));
        let mut lines: Vec<HolderLine> = Vec::new();
        for (held_for, got_at) in &holds {
            let Some(got_at) = *got_at else { continue };
            match lines.iter_mut().find(|line| line.got_at == got_at) {
                Some(line) => line.count = line.count.saturating_add(1),
                None => lines.push(HolderLine {
                    got_at,
                    count: 1,
                    longest: *held_for,
                }),
            }
        }
        lines.truncate(Self::LINES);
        Self {
            count: holds.len(),
            longest: holds.first().map(|(held_for, _)| *held_for),
            lines,
            not_polled: in_use.saturating_sub(holds.len()),
        }
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.longest {
            Some(longest) => {
                write!(f, "{} held by callers, the longest for ", self.count)?;
                write!(f, "{}", HumanDuration(longest))?;
            }
            None => f.write_str("held by no caller")?,
        }
        for (n, line) in (0..).zip(&self.lines) {
            f.write_str(if n == 0 { ": " } else { ", " })?;
            write!(f, "{} for {}", line.got_at, HumanDuration(line.longest))?;
            if line.count > 1 {
                write!(f, " ({} of them)", line.count)?;
            }
        }
        if self.not_polled > 0 {
            let count = self.not_polled;
            write!(
                f,
                "; {count} kept by a `get()` that is not polled: poll or drop it"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;

    #[track_caller]
    const fn here() -> &'static Location<'static> {
        Location::caller()
    }

    #[test]
    fn the_longest_holders_are_listed_by_line() {
        let lines = [here(), here(), here(), here()];
        let held = |seconds, line: usize| (Duration::from_secs(seconds), Some(lines[line]));
        let holds = vec![held(1, 0), held(4, 1), held(20, 2), held(3, 1), held(2, 3)];
        let holders = Holders::of(holds, 5);
        assert_eq!(holders.count, 5);
        assert_eq!(holders.longest, Some(Duration::from_secs(20)));
        let listed: Vec<_> = holders
            .lines
            .iter()
            .map(|line| (line.got_at, line.count))
            .collect();
        assert_eq!(listed, [(lines[2], 1), (lines[1], 2), (lines[3], 1)]);
        assert_eq!(
            holders.to_string(),
            format!(
                "5 held by callers, the longest for 20 s: {} for 20 s, \
                 {} for 4000 ms (2 of them), {} for 2000 ms",
                lines[2], lines[1], lines[3]
            )
        );
    }

    #[test]
    fn without_lines_the_count_and_the_longest_are_listed() {
        let holds = vec![(Duration::from_millis(40), None), (Duration::ZERO, None)];
        let holders = Holders::of(holds, 2);
        assert_eq!(
            holders.to_string(),
            "2 held by callers, the longest for 40 ms"
        );
        let none = Holders::of(Vec::new(), 0).to_string();
        assert_eq!(none, "held by no caller");
        let not_polled = Holders::of(Vec::new(), 1).to_string();
        assert_eq!(
            not_polled,
            "held by no caller; 1 kept by a `get()` that is not polled: poll or drop it"
        );
    }
}
