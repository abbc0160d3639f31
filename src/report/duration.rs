//! `HumanDuration`: durations in messages.

use std::{fmt, time::Duration};

/// Displays a duration for people: `0.9 ms`, `41 ms`, `60 s`. Rounds down.
pub(crate) struct HumanDuration(pub(crate) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros < 10_000 {
            write!(f, "{}.{} ms", micros / 1000, micros % 1000 / 100)
        } else if micros >= 10_000_000 {
            write!(f, "{} s", micros / 1_000_000)
        } else {
            write!(f, "{} ms", micros / 1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_follows_the_length() {
        for (micros, text) in [
            (0, "0.0 ms"),
            (940, "0.9 ms"),
            (9_999, "9.9 ms"),
            (10_000, "10 ms"),
            (9_999_999, "9999 ms"),
            (10_000_000, "10 s"),
        ] {
            let duration = HumanDuration(Duration::from_micros(micros));
            assert_eq!(duration.to_string(), text);
        }
    }
}
