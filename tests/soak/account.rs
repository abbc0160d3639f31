//! The account of every request, and of everything that must not have happened.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error,
    error::TimeoutCause,
    mysql_async::{self, DriverError, IoError},
};

/// How long a fault may show after its end: as long as a connection that died in it may be idle and
/// still pass for validated, plus what the machine needs, plus this process's worst lateness.
const SYMPTOMS_LAST: Duration = Duration::from_millis(1_300);
/// How often lateness is measured.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// A tick that is this late means that the process did not run.
const STANDS_STILL: Duration = Duration::from_millis(50);
/// How many violations are kept; the rest are only counted.
const KEPT: usize = 40;

/// The outcomes of all requests.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Locked only briefly.
    state: Mutex<State>,
    answers: AtomicU64,
    successes: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct State {
    requests: BTreeMap<&'static str, Outcomes>,
    errors: BTreeMap<&'static str, u64>,
    /// Recent faults, for the last minute.
    troubles: Vec<Trouble>,
    faults: BTreeMap<&'static str, Faults>,
    recoveries: Vec<Duration>,
    last_tick: Option<Instant>,
    late_at_worst: Duration,
    /// The time in all in which this process did not run.
    stood_still: Duration,
    wrong_answers: u64,
    traces: u64,
    violations: Vec<String>,
    more_violations: u64,
}

impl State {
    fn record_lateness(&mut self) {
        if let Some(last) = self.last_tick {
            let late = last.elapsed().saturating_sub(TICK);
            self.late_at_worst = self.late_at_worst.max(late);
        }
    }

    /// The last faults, and how many milliseconds ago they began and ended.
    fn lately(&self) -> String {
        let now = Instant::now();
        let ago = |at: Instant| (now.saturating_duration_since(at)).as_millis();
        let lately = self.troubles.iter().rev().take(5).map(|trouble| {
            let ended = trouble
                .to
                .map_or_else(|| "now".to_owned(), |to| ago(to).to_string());
            format!("{} {}-{ended} ms ago", trouble.name, ago(trouble.from))
        });
        lately.collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    acknowledged: u64,
    failed: u64,
    cancelled: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    times: u64,
    recovered: u64,
    total: Duration,
    longest: Duration,
}

/// What callers may notice of a fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Symptoms {
    /// Connections end in the middle of anything.
    pub(crate) losses: bool,
    /// New connections cannot be obtained, or open ones do not answer.
    pub(crate) waits: bool,
    /// The account is refused.
    pub(crate) denials: bool,
    /// Writes are refused.
    pub(crate) read_only: bool,
    /// No member of a cluster takes writes, or none serves reads.
    pub(crate) no_member: bool,
    /// Two members of a cluster take writes.
    pub(crate) split: bool,
    /// Writes fail too, not only reads.
    pub(crate) writes: bool,
}

impl Symptoms {
    const fn covers(self, other: Self) -> bool {
        (self.losses || !other.losses)
            && (self.waits || !other.waits)
            && (self.denials || !other.denials)
            && (self.read_only || !other.read_only)
            && (self.no_member || !other.no_member)
            && (self.split || !other.split)
            && (self.writes || !other.writes)
    }
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    name: &'static str,
    symptoms: Symptoms,
    from: Instant,
    to: Option<Instant>,
}

/// A fault that has begun. Pass it to [`Account::over`] when it has ended.
#[must_use]
#[derive(Debug)]
pub(crate) struct Begun(Instant);

/// A moment, and for how long this process had not run until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    stood_still: Duration,
}

impl Moment {
    /// How long this process has run since then.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let all = self.at.saturating_duration_since(earlier.at);
        all.saturating_sub(self.stood_still.saturating_sub(earlier.stood_still))
    }
}

/// How much of the time since the last tick this process did not run.
fn stood_still(since_tick: Duration) -> Duration {
    let late = since_tick.saturating_sub(TICK);
    if late < STANDS_STILL {
        Duration::ZERO
    } else {
        late
    }
}

impl Account {
    /// A fault begins.
    pub(crate) fn begin(&self, name: &'static str, symptoms: Symptoms) -> Begun {
        let now = Instant::now();
        let mut state = self.state();
        state.troubles.retain(|trouble| {
            trouble
                .to
                .is_none_or(|to| now - to < Duration::from_secs(60))
        });
        // Two that begin at the same moment would be confused.
        let mut from = now;
        while state.troubles.iter().any(|trouble| trouble.from == from) {
            from += Duration::from_nanos(1);
        }
        state.troubles.push(Trouble {
            name,
            symptoms,
            from,
            to: None,
        });
        state.faults.entry(name).or_default().times += 1;
        drop(state);
        Begun(from)
    }

    /// The fault is over; its last consequences are still to come.
    pub(crate) fn over(&self, begun: Begun) {
        let mut state = self.state();
        for trouble in &mut state.troubles {
            if trouble.from == begun.0 {
                trouble.to = Some(Instant::now());
            }
        }
    }

    pub(crate) fn recovered(&self, name: &'static str, after: Duration) {
        let mut state = self.state();
        let faults = state.faults.entry(name).or_default();
        faults.recovered += 1;
        faults.total += after;
        faults.longest = faults.longest.max(after);
        state.recoveries.push(after);
        drop(state);
    }

    /// The median of all recoveries.
    pub(crate) fn median_recovery(&self) -> Option<Duration> {
        let mut recoveries = self.state().recoveries.clone();
        recoveries.sort_unstable();
        recoveries.get(recoveries.len() / 2).copied()
    }

    /// Call this every [`TICK`].
    pub(crate) fn tick(&self) {
        let mut state = self.state();
        state.record_lateness();
        if let Some(last) = state.last_tick {
            state.stood_still += stood_still(last.elapsed());
        }
        state.last_tick = Some(Instant::now());
    }

    pub(crate) fn acknowledged(&self, name: &'static str) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        self.state().requests.entry(name).or_default().acknowledged += 1;
    }

    pub(crate) fn cancelled(&self, name: &'static str) {
        self.state().requests.entry(name).or_default().cancelled += 1;
    }

    /// Counts a failed request; it is a violation if no fault can have caused it.
    pub(crate) fn failed(&self, name: &'static str, error: &mysql_async::Error, begun: Instant) {
        let (label, needs) = class_of(error);
        self.failed_as(name, error, begun, label, needs);
    }

    /// The same for a write through a cluster: the fault must be one that writes may notice.
    pub(crate) fn failed_write(
        &self,
        name: &'static str,
        error: &mysql_async::Error,
        begun: Instant,
    ) {
        let (label, needs) = class_of(error);
        let needs = needs.map(|needs| Symptoms {
            writes: needs.causes_needed(),
            ..needs
        });
        self.failed_as(name, error, begun, label, needs);
    }

    fn failed_as(
        &self,
        name: &'static str,
        error: &mysql_async::Error,
        begun: Instant,
        label: &'static str,
        needs: Option<Symptoms>,
    ) {
        let now = Instant::now();
        let mut state = self.state();
        state.requests.entry(name).or_default().failed += 1;
        *state.errors.entry(label).or_default() += 1;
        // Includes a tick that is overdue right now.
        state.record_lateness();
        let symptoms_last = SYMPTOMS_LAST + state.late_at_worst;
        let cause = needs.is_some_and(|needs| {
            let may_show = |trouble: &Trouble| {
                trouble.from <= now && trouble.to.is_none_or(|to| begun <= to + symptoms_last)
            };
            !needs.causes_needed()
                || state
                    .troubles
                    .iter()
                    .any(|trouble| may_show(trouble) && trouble.symptoms.covers(needs))
        });
        drop(state);
        if !cause {
            self.violation(format!(
                "{name}: an error without a cause, {:?} after its beginning: {error}",
                begun.elapsed()
            ));
        }
    }

    /// Counts a correct answer.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wrong_answer(&self, what: impl Display) {
        self.state().wrong_answers += 1;
        self.violation(format!("an answer to another question: {what}"));
    }

    pub(crate) fn trace(&self, what: impl Display) {
        self.state().traces += 1;
        self.violation(format!("something an earlier caller left: {what}"));
    }

    pub(crate) fn violation(&self, what: String) {
        let mut state = self.state();
        let what = format!("{what} [{}]", state.lately());
        if state.violations.len() < KEPT {
            println!("VIOLATION: {what}");
            state.violations.push(what);
        } else {
            state.more_violations += 1;
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let state = self.state();
        let (mut violations, more) = (state.violations.clone(), state.more_violations);
        drop(state);
        if more > 0 {
            violations.push(format!("and {more} more"));
        }
        violations
    }

    /// Now, for times that leave out those in which this process did not run.
    pub(crate) fn now(&self) -> Moment {
        let state = self.state();
        let overdue = state.last_tick.map(|last| stood_still(last.elapsed()));
        Moment {
            at: Instant::now(),
            stood_still: state.stood_still + overdue.unwrap_or_default(),
        }
    }

    /// Requests acknowledged so far.
    pub(crate) fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Symptoms {
    const fn causes_needed(self) -> bool {
        self.losses || self.waits || self.denials || self.read_only || self.no_member || self.split
    }
}

/// The summary.
impl Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state().clone();
        writeln!(
            f,
            "{:<26} {:>12} {:>8} {:>9}",
            "requests", "acknowledged", "failed", "cancelled"
        )?;
        let mut all = Outcomes::default();
        for (name, outcomes) in &state.requests {
            all.acknowledged += outcomes.acknowledged;
            all.failed += outcomes.failed;
            all.cancelled += outcomes.cancelled;
            outcomes.write(f, name)?;
        }
        all.write(f, "all")?;
        writeln!(f, "\n{:<26} {:>12}", "errors", "times")?;
        for (label, times) in &state.errors {
            writeln!(f, "{label:<26} {times:>12}")?;
        }
        writeln!(
            f,
            "\n{:<26} {:>12}   until ready and serving again (mean, longest)",
            "faults", "times"
        )?;
        for (name, faults) in &state.faults {
            write!(f, "{name:<26} {:>12}", faults.times)?;
            match u32::try_from(faults.recovered) {
                Ok(recovered @ 1..) => writeln!(
                    f,
                    "   {:.0?}, {:.0?}",
                    faults.total / recovered,
                    faults.longest
                )?,
                _ => writeln!(f)?,
            }
        }
        writeln!(
            f,
            "\nright answers {}, wrong answers {}, traces of earlier callers {}; at worst {:.0?} late",
            self.answers.load(Ordering::Relaxed),
            state.wrong_answers,
            state.traces,
            state.late_at_worst
        )
    }
}

impl Outcomes {
    fn write(self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        writeln!(
            f,
            "{name:<26} {:>12} {:>8} {:>9}",
            self.acknowledged, self.failed, self.cancelled
        )
    }
}

/// The error's label, and what callers must have noticed for it to be acceptable; `None` if it
/// never is.
fn class_of(error: &mysql_async::Error) -> (&'static str, Option<Symptoms>) {
    let nothing = Symptoms::default();
    let losses = Symptoms {
        losses: true,
        ..nothing
    };
    let waits = Symptoms {
        waits: true,
        ..nothing
    };
    let denials = Symptoms {
        denials: true,
        ..nothing
    };
    let read_only = Symptoms {
        read_only: true,
        ..nothing
    };
    let no_member = Symptoms {
        no_member: true,
        ..nothing
    };
    let split = Symptoms {
        split: true,
        ..nothing
    };
    match error {
        mysql_async::Error::Io(IoError::Io(_)) => ("connection lost", Some(losses)),
        mysql_async::Error::Driver(DriverError::ConnectionClosed) => {
            ("connection lost", Some(losses))
        }
        mysql_async::Error::Server(error) => match error.code {
            1020 => ("1020 row changed", Some(nothing)),
            1205 => ("1205 lock wait timeout", Some(nothing)),
            1213 => ("1213 deadlock", Some(nothing)),
            1053 | 1927 | 3169 | 1152..=1161 => ("killed or shut down", Some(losses)),
            1317 => ("1317 interrupted", Some(losses)),
            1290 | 1836 => ("read-only", Some(read_only)),
            // 1180 is the answer to a commit.
            1047 | 1180 => ("no quorum", Some(no_member)),
            _ => ("another of the server", None),
        },
        mysql_async::Error::Other(error) => match error.downcast_ref::<Error>() {
            Some(Error::Timeout { cause, .. }) => match cause {
                TimeoutCause::Exhausted => ("time-out: exhausted", Some(waits)),
                TimeoutCause::Connecting => ("time-out: connecting", Some(waits)),
                TimeoutCause::Unavailable => ("time-out: unavailable", Some(waits)),
                TimeoutCause::Validating => ("time-out: proving", Some(waits)),
                _ => ("time-out: another", None),
            },
            Some(Error::StatementTimeout { .. }) => ("statement time-out", Some(waits)),
            Some(Error::NoWriter { .. }) => ("no writer", Some(no_member)),
            Some(Error::SeveralWriters { .. }) => ("several writers", Some(split)),
            Some(Error::NoReplica { .. }) => ("no replica", Some(no_member)),
            Some(Error::Connect(_)) => ("connect, lasting", Some(denials)),
            Some(Error::ConnectionLost) => ("refused after a loss", Some(losses)),
            Some(Error::CommitUnknown { source }) => class_of(source),
            _ => ("another of the pool", None),
        },
        _ => ("another of the driver", None),
    }
}
