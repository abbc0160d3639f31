//! Fills vacant slots: when another connection is opened, and for whom; judges by how that goes whether the pool is ready.
//!
//! Every opening runs in a task of its own, in a slot that is occupied from before the TCP connect:
//! a caller who gives up wastes nothing, and waiting callers never multiply attempts.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::Location,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{Instrument, Span, debug, debug_span, field::Empty, info, warn};

use crate::{
    config::PoolConfig,
    engine::{
        backoff::{Gate, Mark, Pass, Since},
        deadlines::Deadlines,
        health::{Board, Facts, GRACE},
        opener::{NotOpened, Opener},
        schedule::{Age, Upkeep},
        slots::{Filled, Opening, Slots, Tending},
    },
    error::{ConnectError, ConnectPhase, Error},
    report::{Health, Holders, PoolStatus, Readiness, discard::DiscardReason},
    session::{
        Session, Victim,
        activity::{Look, Pulses},
        apart::Apart,
        random,
        signal::Signal,
    },
    telemetry::{PoolMetrics, metrics::Metrics, slow::SlowGets},
    time::{Timestamp, nanos},
};

/// An attempt that takes longer is not waited for: another is made beside it.
const HANGING: Duration = Duration::from_millis(300);
/// If none of the connections in use has come back for so long, the server is asked for a sign of life.
const QUIET: Duration = Duration::from_millis(300);
/// Connections that come back within so short a time are one sign of life.
const SIGNS_APART: Duration = Duration::from_millis(1);

/// What all parts of a pool share. Opens connections into vacant slots, and knows how that goes.
pub(crate) struct Connector {
    pub(crate) config: Arc<PoolConfig>,
    pub(crate) name: String,
    pub(crate) opener: Opener,
    pub(crate) slots: Arc<Slots>,
    pub(crate) upkeep: Upkeep,
    pub(crate) metrics: Apart<Metrics>,
    pub(crate) slow_gets: SlowGets,
    pub(crate) board: Board,
    /// What can be seen of connections while they are lent.
    pulses: Pulses,
    /// No more connections: the pool is closed, or its last handle is gone.
    pub(crate) closing: Signal,
    /// What is still in use is cut off.
    pub(crate) cut: Signal,
    /// Wakes the keeper, to look at what is due.
    pub(crate) wake: Arc<Notify>,
    /// Held by who ends an abandoned statement on the server: one at a time.
    pub(crate) killing: tokio::sync::Mutex<()>,
    /// Guards those that are closed and whose statements may still run. Taken before nothing else.
    abandoned: Mutex<Vec<Victim>>,
    /// Guards how opening goes. Taken before the slots' ledger.
    gate: Mutex<Gate>,
    /// How many attempts have ended: the gate's own count, for who has no time for its lock.
    ended: AtomicU64,
    /// Guards which runtime the pool lives on. Taken before nothing else.
    home: Mutex<Option<Home>>,
    /// Tells the runtime on which there is a keeper, for who has no time for the lock: 0 while there is none.
    kept_on: Arc<AtomicU64>,
    /// Tells warm-ups of attempts that have ended; callers are told by `deadlines`.
    progress: watch::Sender<u64>,
    /// Of callers who wait, and of what is being cleaned or proved.
    pub(crate) deadlines: Arc<Deadlines>,
    /// Connections last proved before this moment are suspect: the number of a [`Timestamp`].
    suspect_before: AtomicU64,
    signs: Apart<Signs>,
    /// Connections that have been asked for a proof and have not answered for long.
    pub(crate) doubtful: AtomicUsize,
    /// How many connections are to be replaced once a replacement is open.
    pub(crate) due: AtomicUsize,
    /// How often the connections were to be replaced.
    generation: AtomicU64,
    /// Connections beyond `size` are closed on return, or ones beyond a limit that was made smaller.
    pub(crate) trims_on_return: AtomicBool,
}

/// Signs of life: the number of a [`Timestamp`] each.
#[derive(Debug, Default)]
struct Signs {
    /// When the server last answered, as far as is known.
    last_sign: AtomicU64,
    /// When a connection that came back lately had its last answer.
    last_return: AtomicU64,
}

/// Whom connections are opened for, besides keeping `size`.
#[derive(Clone, Copy, Debug)]
enum Demand {
    /// Callers who will soon have one that is being cleaned.
    Patient,
    /// Callers for whom that takes too long.
    Impatient,
    /// The pool, to see whether the server answers.
    SignOfLife,
}

/// The runtime that the pool's tasks and sockets live on.
struct Home {
    runtime: Handle,
    /// Alive as long as the keeper, which ends with its runtime.
    keeper: Weak<Kept>,
}

/// Held by the keeper: says that there is one.
pub(crate) struct Kept {
    kept_on: Arc<AtomicU64>,
    runtime: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Unless that has changed already.
        let _changed =
            self.kept_on
                .compare_exchange(self.runtime, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A number for a runtime, and never 0.
fn number_of(runtime: &Handle) -> u64 {
    let mut hasher = DefaultHasher::new();
    runtime.id().hash(&mut hasher);
    hasher.finish().max(1)
}

impl Connector {
    pub(crate) fn new(config: PoolConfig) -> Arc<Self> {
        let config = Arc::new(config);
        let name = config.display_name();
        Arc::new(Self {
            metrics: Apart::new(Metrics::new(&name)),
            slow_gets: SlowGets::default(),
            name,
            opener: Opener::new(Arc::clone(&config)),
            slots: Slots::new(config.size, config.overflow),
            upkeep: Upkeep {
                recycle: config.recycle,
                keepalive: config.keepalive,
                overflow_linger: config.overflow_linger,
            },
            board: Board::new(),
            pulses: Pulses::default(),
            closing: Signal::default(),
            cut: Signal::default(),
            wake: Arc::default(),
            killing: tokio::sync::Mutex::default(),
            abandoned: Mutex::default(),
            gate: Mutex::default(),
            ended: AtomicU64::new(0),
            home: Mutex::default(),
            kept_on: Arc::default(),
            progress: watch::Sender::new(0),
            deadlines: Arc::default(),
            suspect_before: AtomicU64::new(0),
            signs: Apart::default(),
            doubtful: AtomicUsize::new(0),
            due: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            trims_on_return: AtomicBool::new(config.overflow_linger.is_zero()),
            config,
        })
    }

    /// Makes sure that the pool lives on the runtime this is called from.
    ///
    /// Returns what the keeper is to hold if there is none yet, so that it must be started.
    pub(crate) fn enter(&self) -> Result<Option<Arc<Kept>>, Error> {
        let Ok(here) = Handle::try_current() else {
            return Err(Error::NoRuntime);
        };
        let number = number_of(&here);
        if self.kept_on.load(Ordering::Relaxed) == number {
            return Ok(None);
        }
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = &*home {
            let alive = home.keeper.strong_count() > 0 || self.closing.is_given();
            if alive && home.runtime.id() == here.id() {
                return Ok(None);
            }
            if alive {
                return Err(Error::NoRuntime);
            }
        }
        let held_by_keeper = Arc::new(Kept {
            kept_on: Arc::clone(&self.kept_on),
            runtime: number,
        });
        self.kept_on.store(number, Ordering::Relaxed);
        *home = Some(Home {
            runtime: here.clone(),
            keeper: Arc::downgrade(&held_by_keeper),
        });
        drop(home);
        // The sockets of a runtime that is gone are of no use on this one.
        let mut ours = Vec::new();
        while let Some(filled) = self.slots.try_take() {
            if filled.birth.runtime.id() == here.id() {
                ours.push(filled);
            } else {
                drop(self.discard(filled, DiscardReason::RuntimeGone));
            }
        }
        drop(ours);
        Ok(Some(held_by_keeper))
    }

    /// Opens what is missing, as far as the gate allows: for waiting callers, and up to `size`.
    pub(crate) fn fill(self: &Arc<Self>) {
        self.fill_counting(Demand::Patient);
    }

    fn fill_counting(self: &Arc<Self>, demand: Demand) {
        let runtime = {
            let home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            match &*home {
                Some(home) => home.runtime.clone(),
                None => return,
            }
        };
        while let Some(attempt) = self.next_attempt(demand) {
            // All who wait share it, so it is nobody's.
            let span = debug_span!(parent: None, "connect", pool = self.name, connection = Empty);
            let attempt = runtime.spawn(attempt.run().instrument(span));
            if attempt.is_finished() {
                // On a runtime that is gone, or going, it was dropped at once; the next would be too, without end.
                return;
            }
        }
    }

    /// Opens for waiting callers even where connections are being cleaned: that takes too long.
    pub(crate) fn fill_for_waiting(self: &Arc<Self>) {
        self.fill_counting(Demand::Impatient);
    }

    fn next_attempt(self: &Arc<Self>, demand: Demand) -> Option<Attempt> {
        if self.closing.is_given() {
            return None;
        }
        let mut gate = self.gate();
        let most = gate.opens_for(self.config.max_connecting, Instant::now());
        let opening = self.slots.begin_opening(|status| {
            let for_waiting = match demand {
                // A connection being cleaned is about to serve a waiting caller.
                Demand::Patient => {
                    let doubtful = self.doubtful.load(Ordering::Relaxed);
                    status
                        .waiting
                        .saturating_sub(status.cleaning.saturating_sub(doubtful))
                }
                Demand::Impatient => status.waiting,
                Demand::SignOfLife => 1,
            };
            let to_keep = status.size.saturating_add(self.due.load(Ordering::Relaxed));
            let wanted = for_waiting.max(to_keep.saturating_sub(status.open));
            status.connecting.saturating_sub(gate.hanging) < most.min(wanted)
        })?;
        let pass = gate.pass();
        drop(gate);
        Some(Attempt {
            connector: Arc::clone(self),
            opening: Some(opening),
            started: Instant::now(),
            pass,
            generation: self.generation.load(Ordering::Relaxed),
            hanging: false,
        })
    }

    /// Notes that a first fill is under way, whether or not there is anything to open.
    pub(crate) fn begin(&self) {
        self.gate().begun = true;
        self.judge();
    }

    /// When the next attempt, or the next look at readiness, is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.gate().next_due(GRACE, Instant::now())
    }

    pub(crate) fn mark(&self) -> Mark {
        self.gate().mark()
    }

    /// How many attempts have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// The last failure after so many attempts had ended, if it is one that trying again does not mend.
    pub(crate) fn lasting_since(&self, ended: u64) -> Option<ConnectError> {
        self.gate().lasting_since(ended)
    }

    pub(crate) fn since(&self, mark: Mark) -> Since {
        self.gate().since(mark)
    }

    /// What the keeper goes by with this connection.
    pub(crate) fn age(&self, session: &Session) -> Age {
        Age {
            used_at: session.follow.used_at,
            proved_at: session.follow.proved_at,
            expires_at: session.birth.expires_at,
            outdated: self.is_outdated(session),
            suspect: self.is_suspect(session.follow.proved_at),
            chance: session.birth.chance,
        }
    }

    /// Tries whether the server answers, on a new connection if there is room for one.
    pub(crate) fn open_for_a_sign_of_life(self: &Arc<Self>) {
        self.fill_counting(Demand::SignOfLife);
    }

    /// Connections that are closed and whose statements are to be ended yet.
    pub(crate) fn abandoned(&self) -> MutexGuard<'_, Vec<Victim>> {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the attempts that ended, and the pool's closing; whoever subscribes misses none.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(crate) fn last_error(&self) -> Option<ConnectError> {
        self.gate().error().cloned()
    }

    pub(crate) fn health(&self) -> Health {
        let gate = self.gate();
        let standing = self.board.standing();
        let status = self.slots.status();
        Health {
            readiness: standing.readiness,
            since: standing.since,
            status,
            last_error: trouble(&gate, &status, Instant::now()),
        }
    }

    pub(crate) fn metrics(&self) -> PoolMetrics {
        self.metrics.read(self.board.standing().readiness)
    }

    /// Sets the exported gauges to what is so now.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish_metrics(&self) {
        let status = self.slots.status();
        let idle_max = if self.config.overflow_linger.is_zero() {
            status.size
        } else {
            status.limit()
        };
        let readiness = self.board.standing().readiness;
        self.metrics.publish(&status, idle_max, readiness);
    }

    /// Whether a connection must be proved before it is handed out at `now`.
    #[inline]
    pub(crate) fn needs_proof(&self, session: &Session, now: Timestamp) -> bool {
        let proved_at = session.follow.proved_at;
        now.since(proved_at) > self.config.validate_after_idle || self.is_suspect(proved_at)
    }

    /// Whether another connection was found dead since this moment.
    #[inline]
    pub(crate) fn is_suspect(&self, proved_at: Timestamp) -> bool {
        proved_at.nanos() < self.suspect_before.load(Ordering::Relaxed)
    }

    /// A connection does not answer: for as long as what is returned lives, it does not count as working.
    pub(crate) fn doubt(&self, proved_at: Timestamp) -> Doubt<'_> {
        self.doubtful.fetch_add(1, Ordering::Relaxed);
        if !self.is_suspect(proved_at) {
            self.suspect_all();
        }
        self.judge();
        Doubt { connector: self }
    }

    /// A connection was found dead: all that were not proved since are suspect.
    pub(crate) fn suspect_all(&self) {
        self.suspect_before
            .store(Timestamp::now().nanos(), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Replaces every connection opened before now, each once its replacement is open.
    pub(crate) fn refresh(&self) {
        let generation = self
            .generation
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        info!(pool = self.name, generation, "refresh");
        self.wake.notify_one();
    }

    /// A connection was told that the server is read-only: says whether it is to be replaced, with all others.
    pub(crate) fn refresh_for_read_only(&self, session: &Session) -> bool {
        if !self.is_outdated(session) && self.gate().may_refresh_for_read_only(Instant::now()) {
            warn!(
                pool = self.name,
                connection = session.conn.id(),
                "the server has become read-only"
            );
            self.refresh();
        }
        self.is_outdated(session)
    }

    /// Whether the connection is to be replaced, because of its age or a refresh.
    #[inline]
    pub(crate) fn is_due(&self, session: &Session) -> bool {
        // Its last answer stands for now: that needs no clock, and is early enough.
        self.is_outdated(session)
            || session
                .birth
                .due_at
                .is_some_and(|at| session.follow.used_at >= at)
    }

    /// Whether the connection was opened before the last refresh.
    #[inline]
    pub(crate) fn is_outdated(&self, session: &Session) -> bool {
        session.birth.generation < self.generation.load(Ordering::Relaxed)
    }

    /// Takes a connection out of use, for the given reason. Its slot is free when what is returned is dropped,
    /// after the connection in it was closed.
    pub(crate) fn discard(&self, filled: Filled, reason: DiscardReason) -> Tending {
        self.count_discarded(filled.conn.id(), reason, Some(filled.follow.proved_at));
        self.slots.tend(filled)
    }

    /// How many connections were discarded for this reason.
    pub(crate) fn discarded(&self, reason: DiscardReason) -> u64 {
        self.metrics.discarded(reason)
    }

    /// Counts a connection that is taken out of use; `proved_at` is when it was last known to be alive.
    pub(crate) fn count_discarded(
        &self,
        id: u32,
        reason: DiscardReason,
        proved_at: Option<Timestamp>,
    ) {
        self.metrics.record_discard(reason);
        debug!(
            pool = self.name,
            connection = id,
            reason = reason.name(),
            "connection discarded"
        );
        let dead = matches!(
            reason,
            DiscardReason::Lost | DiscardReason::ValidationFailed
        );
        // That a suspect is dead is no news of the others.
        if dead && proved_at.is_none_or(|at| !self.is_suspect(at)) {
            self.suspect_all();
        }
    }

    /// Judges readiness by what is so now, and tells of a change.
    pub(crate) fn judge(&self) {
        let now = Instant::now();
        let mut gate = self.gate();
        let status = self.slots.status();
        let ready_at = self.config.ready_threshold(status.size);
        // Nothing has come back for long, and new connections hang: what is in use hangs as well.
        let out_of_reach = if gate.hanging > 0 && self.is_quiet(Timestamp::now()) {
            status.in_use
        } else {
            0
        };
        let doubtful = self.doubtful.load(Ordering::Relaxed);
        let working = status
            .open
            .saturating_sub(doubtful)
            .saturating_sub(out_of_reach);
        let facts = Facts {
            begun: gate.begun,
            working,
            ready_at,
            failing: gate.is_failing(),
            silent: gate.note_silence(self.look(&status, doubtful), now),
            short_for: gate.note_short(working < ready_at, now),
        };
        // Under the gate's lock, so that changes are told in the order of the facts.
        let change = self.board.update(facts);
        let error = change.and_then(|_| trouble(&gate, &status, now));
        drop(gate);
        self.tell(change, error);
    }

    /// A look at the connections, if all of the limit is in use with commands under way and callers wait: then
    /// there is none to ask, and no slot to open another in, and what they answer is all there is to go by.
    fn look(&self, status: &PoolStatus, doubtful: usize) -> Option<Look> {
        let is_full = status.open >= status.limit() && status.connecting == 0;
        let none_to_ask = status.idle == 0 && status.cleaning <= doubtful;
        if status.waiting == 0 || !is_full || !none_to_ask {
            return None;
        }
        Some(self.pulses.look()).filter(|look| look.under_way >= status.in_use)
    }

    /// Whether connections are in use and none of them has come back for long.
    pub(crate) fn is_quiet(&self, now: Timestamp) -> bool {
        let sign = self.signs.last_sign.load(Ordering::Relaxed);
        now.nanos().saturating_sub(sign) > nanos(QUIET)
    }

    /// Whether connections in use are so quiet that the server is to be asked for a sign of life: at once when
    /// they fall quiet, then more and more rarely as long as none comes back.
    pub(crate) fn is_to_ask_for_a_sign(&self) -> bool {
        self.is_quiet(Timestamp::now())
            && self.gate().is_to_ask(
                self.signs.last_return.load(Ordering::Relaxed),
                Instant::now(),
            )
    }

    /// Notes that a caller holds the connection from now on.
    #[inline]
    pub(crate) fn note_lent(
        &self,
        lent: &Filled,
        now: Timestamp,
        got_at: &'static Location<'static>,
    ) {
        // Without `leak_after` nobody asks for the line.
        let got_at = self.config.leak_after.map(|_| got_at);
        lent.hold(now.nanos(), got_at);
    }

    /// Notes that its caller holds the connection no more.
    #[inline]
    pub(crate) fn note_let_go(&self, lent: &Filled) {
        let since = lent.let_go();
        if cfg!(feature = "metrics") || self.config.leak_after.is_some() {
            let held_for = Timestamp::now().nanos().saturating_sub(since);
            let held_for = Duration::from_nanos(held_for);
            self.metrics.use_time.record(held_for);
        }
    }

    /// Who holds connections now.
    pub(crate) fn holders(&self) -> Holders {
        let now = Timestamp::now().nanos();
        let held_for = |since| Duration::from_nanos(now.saturating_sub(since));
        let holds = self.slots.holds().into_iter();
        Holders::of(
            holds
                .map(|(since, got_at)| (held_for(since), got_at))
                .collect(),
        )
    }

    /// Notes a connection that came back, and when it last had an answer.
    #[inline]
    pub(crate) fn note_return(&self, session: &Session) {
        let at = session.follow.used_at.nanos();
        let known = self.signs.last_return.load(Ordering::Relaxed);
        // Written rarely, as all threads read it.
        // One that was used unseen comes back with an old answer, and has come back as well.
        if at.abs_diff(known) > nanos(SIGNS_APART) {
            self.signs.last_sign.fetch_max(at, Ordering::Relaxed);
            self.signs.last_return.store(at, Ordering::Relaxed);
        }
    }

    /// Notes that the server has just answered.
    pub(crate) fn note_sign(&self, now: Timestamp) {
        self.signs
            .last_sign
            .fetch_max(now.nanos(), Ordering::Relaxed);
    }

    fn tell(&self, change: Option<(Readiness, Readiness)>, error: Option<String>) {
        if let Some((was, now)) = change {
            info!(pool = self.name, %was, %now, error, "readiness changed");
        }
    }

    /// Gives the signal for closing; says whether this was the first time.
    pub(crate) fn begin_closing(&self) -> bool {
        let first = self.closing.give();
        if first {
            self.tell(self.board.close(), None);
            self.tell_progress();
            self.deadlines.end();
            self.wake.notify_one();
        }
        first
    }

    /// What is still in use is cut off, commands under way too.
    pub(crate) fn cut_off(&self) {
        self.cut.give();
        self.pulses.wake();
    }

    fn note_success(&self, took: Duration) {
        self.metrics.create_time.record(took);
        self.note_sign(Timestamp::now());
        let remember = self.slots.status().limit();
        let outage = self.note_attempt(|gate| gate.note_success(took, remember, Instant::now()));
        if let Some(outage) = outage {
            info!(
                pool = self.name,
                failures = outage.failures,
                lasted = outage.lasted.as_secs_f64(),
                "connections can be opened again"
            );
        }
    }

    fn note_failure(&self, pass: Pass, error: ConnectError) {
        self.metrics.failed_attempts.add_one();
        let outage = self
            .note_attempt(|gate| gate.note_failure(pass, error.clone(), Instant::now(), random()));
        self.tell_failure(outage, &error);
    }

    fn note_hanging(&self, pass: &mut Pass) {
        let error = ConnectError::timed_out(ConnectPhase::Connect, HANGING);
        let outage = self
            .note_attempt(|gate| gate.note_hanging(pass, error.clone(), Instant::now(), random()));
        self.tell_failure(outage, &error);
        self.judge();
    }

    /// Has the gate note how an attempt goes.
    fn note_attempt<T>(&self, note: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gate = self.gate();
        let noted = note(&mut gate);
        self.ended.store(gate.mark().ended, Ordering::Relaxed);
        drop(gate);
        noted
    }

    fn tell_failure(&self, outage: bool, error: &ConnectError) {
        if outage {
            warn!(pool = self.name, %error, "connections cannot be opened");
        } else {
            debug!(pool = self.name, %error, "connection not opened");
        }
        self.wake.notify_one();
    }

    fn note_end(&self) {
        self.judge();
        self.tell_progress();
    }

    fn tell_progress(&self) {
        self.progress.send_modify(|n| *n = n.wrapping_add(1));
        self.deadlines.tell_all();
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name)
            .field("readiness", &self.board.standing().readiness)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// A connection that has been asked for a proof and has not answered for long.
pub(crate) struct Doubt<'a> {
    connector: &'a Connector,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.connector.doubtful.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One opening of a connection, in the slot that is occupied for it.
struct Attempt {
    connector: Arc<Connector>,
    opening: Option<Opening>,
    started: Instant,
    pass: Pass,
    generation: u64,
    /// It has not answered for long, and the gate knows.
    hanging: bool,
}

impl Attempt {
    async fn run(mut self) {
        let connector = Arc::clone(&self.connector);
        // Dropped here by a closing pool, the slot becomes vacant.
        let Some(outcome) = connector.closing.unless(self.outcome()).await else {
            return;
        };
        let Some(opening) = self.opening.take() else {
            return;
        };
        match outcome {
            Ok(session) if connector.closing.is_given() => session.say_goodbye().await,
            Ok(session) => {
                let took = self.started.elapsed();
                let id = session.conn.id();
                Span::current().record("connection", id);
                debug!(
                    pool = connector.name,
                    connection = id,
                    took = took.as_secs_f64(),
                    "connection opened"
                );
                connector.note_success(took);
                if connector.is_outdated(&session) {
                    // Begun before a refresh: perhaps with credentials, or at an address, of before.
                    connector.count_discarded(id, DiscardReason::Retired, None);
                    session.say_goodbye().await;
                    drop(opening);
                } else {
                    drop(opening.fill(session));
                    if connector.due.load(Ordering::Relaxed) > 0
                        || connector.trims_on_return.load(Ordering::Relaxed)
                    {
                        // The one it replaces can go; or it can itself, the limit being smaller than when it was begun.
                        connector.wake.notify_one();
                    }
                }
                connector.note_end();
            }
            Err(not_opened) => {
                // Told before the goodbye, which a server may be slow to take, and in the slot until its socket is closed.
                connector.note_failure(self.pass, not_opened.error.clone());
                connector.note_end();
                let _closing = connector.closing.unless(not_opened.say_goodbye()).await;
                drop(opening);
                connector.note_end();
            }
        }
        drop(self);
        connector.fill();
    }

    /// Opens; meanwhile tells the gate if that takes so long that another attempt should be made beside it.
    async fn outcome(&mut self) -> Result<Session, NotOpened> {
        let connector = Arc::clone(&self.connector);
        let mut opening = pin!(connector.opener.open(&connector.pulses, self.generation));
        if let Ok(outcome) = timeout(HANGING, &mut opening).await {
            return outcome;
        }
        self.hanging = true;
        connector.note_hanging(&mut self.pass);
        opening.await
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.hanging {
            let mut gate = self.connector.gate();
            gate.hanging = gate.hanging.saturating_sub(1);
        }
        // A panic of the driver: without the back-off it would come again at once, for ever.
        if std::thread::panicking() {
            self.connector
                .note_failure(self.pass, ConnectError::panicked());
        }
    }
}

/// What is wrong, in words.
fn trouble(gate: &Gate, status: &PoolStatus, now: Instant) -> Option<String> {
    let error = gate.error().map(ToString::to_string);
    error.or_else(|| {
        let silence = gate.silence(now)?;
        Some(format!(
            "all {} connections are in use, and none has answered for {silence:.1?} while {} callers wait",
            status.in_use, status.waiting
        ))
    })
}
