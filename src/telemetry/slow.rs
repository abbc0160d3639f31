//! Measures what a `get()` spends its time on, and logs slow ones.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tracing::{debug, warn};

use crate::{
    error::{Error, TimeoutCause},
    report::PoolStatus,
    telemetry::rate_limit::RateLimit,
    time::Timestamp,
};

/// Measures the time that one `get()` spends waiting, by cause.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    cause: TimeoutCause,
    /// When the wait for `cause` began.
    since: Timestamp,
    waited: Waited,
}

impl Stopwatch {
    pub(crate) fn start(now: Timestamp, cause: TimeoutCause) -> Self {
        Self {
            cause,
            since: now,
            waited: Waited::default(),
        }
    }

    /// Sets what the caller waits for from now on. Reads the clock only if that has changed.
    #[inline]
    pub(crate) fn switch(&mut self, cause: TimeoutCause) {
        if cause != self.cause {
            self.switch_at(cause, Timestamp::now());
        }
    }

    pub(crate) fn stop(mut self, now: Timestamp) -> Waited {
        self.switch_at(self.cause, now);
        self.waited
    }

    fn switch_at(&mut self, cause: TimeoutCause, now: Timestamp) {
        let waited = match self.cause {
            TimeoutCause::Exhausted => &mut self.waited.exhausted,
            TimeoutCause::Connecting => &mut self.waited.connecting,
            TimeoutCause::Unavailable => &mut self.waited.unavailable,
            TimeoutCause::Validating => &mut self.waited.validating,
            TimeoutCause::RuntimeNotDriven => &mut self.waited.runtime,
        };
        *waited = waited.saturating_add(now.since(self.since));
        self.cause = cause;
        self.since = now;
    }
}

/// How long one `get()` waited, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waited {
    exhausted: Duration,
    connecting: Duration,
    unavailable: Duration,
    validating: Duration,
    /// For a sign of life of the pool's runtime.
    runtime: Duration,
}

impl Waited {
    pub(crate) fn total(&self) -> Duration {
        [
            self.connecting,
            self.unavailable,
            self.validating,
            self.runtime,
        ]
        .into_iter()
        .fold(self.exhausted, Duration::saturating_add)
    }
}

/// Logs slow gets: at most one a second at WARN, because an outage makes all of them slow, and the
/// others at DEBUG.
#[derive(Debug, Default)]
pub(crate) struct SlowGets {
    warnings: RateLimit,
    /// Slow gets logged at DEBUG since the last warning.
    quiet: AtomicU64,
}

impl SlowGets {
    /// Logs a slow get that ended at `now`, with the pool's status and the error it returned.
    pub(crate) fn log(
        &self,
        pool: &str,
        waited: &Waited,
        status: PoolStatus,
        error: Option<&Error>,
        now: Timestamp,
    ) {
        /// An event's level is a constant, so each level needs its own call.
        macro_rules! log {
            ($level:ident, $($more:tt)*) => {
                $level!(
                    pool,
                    waited = waited.total().as_secs_f64(),
                    exhausted = waited.exhausted.as_secs_f64(),
                    connecting = waited.connecting.as_secs_f64(),
                    unavailable = waited.unavailable.as_secs_f64(),
                    validating = waited.validating.as_secs_f64(),
                    runtime = waited.runtime.as_secs_f64(),
                    in_use = status.in_use,
                    idle = status.idle,
                    cleaning = status.cleaning,
                    opening = status.connecting,
                    limit = status.limit(),
                    callers_waiting = status.waiting,
                    error = error.map(tracing::field::display),
                    $($more)*
                    "slow get"
                )
            };
        }
        if self.warnings.allows(now) {
            let quiet = self.quiet.swap(0, Ordering::Relaxed);
            log!(warn, quiet,);
        } else {
            self.quiet.fetch_add(1, Ordering::Relaxed);
            log!(debug,);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_cause_has_its_own_time() {
        let mut now = Timestamp::now();
        let mut stopwatch = Stopwatch::start(now, TimeoutCause::Exhausted);
        for (after, cause) in [
            (1, TimeoutCause::Validating),
            (20, TimeoutCause::Exhausted),
            (300, TimeoutCause::Connecting),
            (4000, TimeoutCause::Unavailable),
            (50_000, TimeoutCause::RuntimeNotDriven),
            (7_000_000, TimeoutCause::Connecting),
        ] {
            now = now.after(ms(after));
            stopwatch.switch_at(cause, now);
        }
        let waited = stopwatch.stop(now.after(ms(600_000)));
        assert_eq!(
            waited,
            Waited {
                exhausted: ms(301),
                connecting: ms(604_000),
                unavailable: ms(50_000),
                validating: ms(20),
                runtime: ms(7_000_000),
            }
        );
        assert_eq!(waited.total(), ms(7_654_321));
    }

    #[test]
    fn switching_to_the_same_cause_changes_nothing() {
        let start = Timestamp::now().before(ms(1000));
        let mut stopwatch = Stopwatch::start(start, TimeoutCause::Connecting);
        stopwatch.switch(TimeoutCause::Connecting);
        assert_eq!(
            (stopwatch.since, stopwatch.waited),
            (start, Waited::default())
        );
        stopwatch.switch(TimeoutCause::Unavailable);
        assert_eq!(stopwatch.cause, TimeoutCause::Unavailable);
        assert!(stopwatch.waited.connecting >= ms(1000));
    }

    #[test]
    fn a_warning_counts_the_slow_gets_logged_at_debug() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer({
                let log = log.clone();
                move || log.clone()
            })
            .finish();
        let slow_gets = SlowGets::default();
        let start = Timestamp::now();
        let waited = Stopwatch::start(start, TimeoutCause::Connecting).stop(start.after(ms(1500)));
        tracing::subscriber::with_default(subscriber, || {
            for at in [0, 1, 2, 1000] {
                let error = (at == 0).then_some(&Error::Closed);
                let now = start.after(ms(at));
                slow_gets.log("shop", &waited, PoolStatus::default(), error, now);
            }
        });
        let text = log.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for (line, parts) in lines.into_iter().zip([
            ["WARN", "quiet=0", "error=the pool is closed"],
            ["DEBUG", "waited=1.5", "connecting=1.5"],
            ["DEBUG", "exhausted=0", "opening=0"],
            ["WARN", "quiet=2", "pool=\"shop\""],
        ]) {
            for part in parts {
                assert!(line.contains(part), "{part} is not in {line}");
            }
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn text(&self) -> String {
            let bytes = self.0.lock().expect("not poisoned").clone();
            String::from_utf8(bytes).expect("UTF-8")
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
