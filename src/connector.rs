//! Fills vacant slots: gate, back-off, deadline, credentials, init, prepare, proof.
//!
//! Every opening runs in a task of its own, in a slot that is occupied from before the TCP connect:
//! a caller who gives up wastes nothing, and waiting callers never multiply attempts.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_async::{
    Conn, Opts, OptsBuilder, Row, from_value_opt,
    prelude::{FromValue, Queryable},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{
    closing::Signal,
    config::PoolConfig,
    error::{ConnectError, ConnectPhase, Error},
    metrics::{Counter, Metrics, PoolMetrics},
    readiness::{Board, Facts, GRACE, Health, Readiness},
    report::{Flavor, ServerInfo},
    schedule,
    session::{Birth, ProofError, Reason, Session, random},
    slot::{Filled, Opening, Slots, Tending},
};

/// What the server is asked for when a connection is proved for the first time.
const FACTS: &str = "@@version, @@max_allowed_packet, @@wait_timeout, @@max_connections, \
                     @@max_user_connections, @@global.read_only";

/// The server's facts are read again by an opening after this time.
const FACTS_FRESH: Duration = Duration::from_secs(1);

/// Opens connections into slots, and knows how that goes.
pub(crate) struct Connector {
    pub(crate) config: PoolConfig,
    pub(crate) name: String,
    pub(crate) slots: Arc<Slots>,
    pub(crate) metrics: Metrics,
    pub(crate) board: Board,
    /// No more connections: the pool is closed, or its last handle is gone.
    pub(crate) closing: Signal,
    /// What is still in use is cut off.
    pub(crate) cut: Signal,
    /// Wakes the keeper, to look at what is due.
    pub(crate) wake: Arc<Notify>,
    /// Guards how opening goes. Taken before the slots' ledger.
    gate: Mutex<Gate>,
    /// Guards which runtime the pool lives on. Taken before nothing else.
    home: Mutex<Option<Home>>,
    /// Counts the attempts that have ended.
    progress: watch::Sender<u64>,
    /// Connections last proved before this moment are suspect: nanoseconds since `epoch`.
    suspect_before: AtomicU64,
    epoch: Instant,
    discarded: [Counter; Reason::ALL.len()],
}

/// How opening connections goes.
#[derive(Default)]
struct Gate {
    /// A first fill was asked for.
    begun: bool,
    /// Failures in a row.
    failures: u32,
    /// When the first of them was.
    failing_since: Option<Instant>,
    /// No attempt before this.
    retry_at: Option<Instant>,
    /// The last failure, with its number among `ended`.
    last_failure: Option<(u64, ConnectError)>,
    /// Attempts that have ended, and how many of them failed.
    ended: u64,
    failed: u64,
    /// How long the last openings took, each with its number among `ended`.
    times: VecDeque<(u64, Duration)>,
    /// What the server said of itself last.
    server: Option<ServerInfo>,
    max_allowed_packet: Option<usize>,
    /// When an opening last took it upon itself to read that.
    facts_claimed_at: Option<Instant>,
    /// Since when fewer connections than `ready_at` are open.
    short_since: Option<Instant>,
    /// How often `refresh()` was called.
    generation: u64,
}

impl Gate {
    /// Why connections cannot be opened now; `None` when the last attempt succeeded.
    fn error(&self) -> Option<&ConnectError> {
        let failing = self.failures > 0;
        self.last_failure
            .as_ref()
            .filter(|_| failing)
            .map(|(_, error)| error)
    }

    /// The last failure after the attempt of this number.
    fn failure_after(&self, number: u64) -> Option<&ConnectError> {
        self.last_failure
            .as_ref()
            .filter(|(n, _)| *n > number)
            .map(|(_, error)| error)
    }
}

/// The runtime that the pool's tasks and sockets live on.
struct Home {
    runtime: Handle,
    /// Alive as long as the keeper, which ends with its runtime.
    keeper: Weak<()>,
}

/// How far attempts had come at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) ended: u64,
    pub(crate) failed: u64,
}

/// What happened since a [`Mark`].
pub(crate) struct Since {
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) times: Vec<Duration>,
    pub(crate) last_error: Option<ConnectError>,
    /// The last failure that trying again does not mend.
    pub(crate) lasting: Option<ConnectError>,
    pub(crate) server: Option<ServerInfo>,
}

impl Connector {
    pub(crate) fn new(config: PoolConfig) -> Arc<Self> {
        Arc::new(Self {
            name: config.display_name(),
            slots: Slots::new(config.size, config.overflow),
            metrics: Metrics::default(),
            board: Board::new(),
            closing: Signal::default(),
            cut: Signal::default(),
            wake: Arc::default(),
            gate: Mutex::default(),
            home: Mutex::default(),
            progress: watch::Sender::new(0),
            suspect_before: AtomicU64::new(0),
            epoch: Instant::now(),
            discarded: Default::default(),
            config,
        })
    }

    /// Makes sure that the pool lives on the runtime this is called from.
    ///
    /// Returns what the keeper is to hold if there is none yet, so that it must be started.
    pub(crate) fn enter(&self) -> Result<Option<Arc<()>>, Error> {
        let Ok(here) = Handle::try_current() else {
            return Err(Error::WrongRuntime);
        };
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = &*home {
            let alive = home.keeper.strong_count() > 0 || self.closing.is_given();
            if alive && home.runtime.id() == here.id() {
                return Ok(None);
            }
            if alive {
                return Err(Error::WrongRuntime);
            }
        }
        let held_by_keeper = Arc::new(());
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
                drop(self.discard(filled, Reason::RuntimeGone));
            }
        }
        drop(ours);
        Ok(Some(held_by_keeper))
    }

    /// Opens what is missing, as far as the gate allows: for waiting callers, and up to `size`.
    pub(crate) fn fill(self: &Arc<Self>) {
        self.fill_counting(true);
    }

    fn fill_counting(self: &Arc<Self>, cleaning: bool) {
        let runtime = {
            let home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            match &*home {
                Some(home) => home.runtime.clone(),
                None => return,
            }
        };
        while let Some(attempt) = self.next_attempt(cleaning) {
            runtime.spawn(attempt.run());
        }
    }

    /// Opens for waiting callers even where connections are being cleaned: that takes too long.
    pub(crate) fn fill_for_waiting(self: &Arc<Self>) {
        self.fill_counting(false);
    }

    fn next_attempt(self: &Arc<Self>, count_cleaning: bool) -> Option<Attempt> {
        if self.closing.is_given() {
            return None;
        }
        let mut gate = self.gate();
        let most = if gate.failures == 0 {
            self.config.max_connecting
        } else {
            1
        };
        if gate.retry_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let opening = self.slots.begin_opening(|status| {
            // A connection being cleaned is about to serve a waiting caller.
            let coming = if count_cleaning { status.cleaning } else { 0 };
            let for_waiting = status.waiting.saturating_sub(coming);
            let wanted = for_waiting.max(status.size.saturating_sub(status.open));
            status.connecting < most.min(wanted)
        })?;
        gate.begun = true;
        Some(Attempt {
            connector: Arc::clone(self),
            opening: Some(opening),
            started: Instant::now(),
            failures_before: gate.failures,
            generation: gate.generation,
        })
    }

    /// Notes that a first fill is under way, whether or not there is anything to open.
    pub(crate) fn begin(&self) {
        self.gate().begun = true;
        self.judge();
    }

    /// When the next attempt, or the next look at readiness, is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let gate = self.gate();
        let now = Instant::now();
        let grace_ends = gate
            .short_since
            .and_then(|since| since.checked_add(GRACE))
            .filter(|at| *at > now);
        [gate.retry_at, grace_ends].into_iter().flatten().min()
    }

    pub(crate) fn mark(&self) -> Mark {
        let gate = self.gate();
        Mark {
            ended: gate.ended,
            failed: gate.failed,
        }
    }

    pub(crate) fn since(&self, mark: Mark) -> Since {
        let gate = self.gate();
        let failed = gate.failed.saturating_sub(mark.failed);
        Since {
            attempts: gate.ended.saturating_sub(mark.ended),
            failed,
            times: gate
                .times
                .iter()
                .filter(|(n, _)| *n > mark.ended)
                .map(|(_, time)| *time)
                .collect(),
            last_error: gate.failure_after(mark.ended).cloned(),
            lasting: gate
                .failure_after(mark.ended)
                .filter(|error| !error.is_transient())
                .cloned(),
            server: gate.server.clone(),
        }
    }

    /// Counts the attempts that ended, and the pool's closing; whoever subscribes misses none.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(crate) fn last_error(&self) -> Option<ConnectError> {
        self.gate().error().cloned()
    }

    /// Whether a reset leaves another charset than the handshake set: MySQL's does, MariaDB's does not.
    pub(crate) fn reset_loses_charset(&self) -> bool {
        self.gate()
            .server
            .as_ref()
            .is_none_or(|server| server.flavor == Flavor::MySql)
    }

    pub(crate) fn health(&self) -> Health {
        let standing = self.board.standing();
        Health {
            readiness: standing.readiness,
            since: standing.since,
            status: self.slots.status(),
            last_error: self.last_error().map(|error| error.to_string()),
        }
    }

    pub(crate) fn metrics(&self) -> PoolMetrics {
        let discarded = Reason::ALL.iter().zip(&self.discarded);
        self.metrics.read(
            discarded
                .map(|(reason, count)| (reason.name(), count.get()))
                .collect(),
        )
    }

    /// Whether a connection must be proved before it is handed out at `now`.
    #[inline]
    pub(crate) fn needs_proof(&self, session: &Session, now: Instant) -> bool {
        let proved_at = session.follow.proved_at;
        now.saturating_duration_since(proved_at) > self.config.prove_after_idle
            || self.nanos(proved_at) < self.suspect_before.load(Ordering::Relaxed)
    }

    /// A connection was found dead: all that were not proved since are suspect.
    pub(crate) fn suspect_all(&self) {
        self.suspect_before
            .store(self.nanos(Instant::now()), Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a connection out of use, for the given reason. Its slot is free when what is returned is dropped,
    /// after the connection in it was closed.
    pub(crate) fn discard(&self, filled: Filled, reason: Reason) -> Tending {
        self.count_discarded(filled.conn.id(), reason);
        self.slots.tend(filled)
    }

    /// How many connections were discarded for this reason.
    pub(crate) fn discarded(&self, reason: Reason) -> u64 {
        let counts = Reason::ALL.iter().zip(&self.discarded);
        counts
            .filter(|(of, _)| **of == reason)
            .map(|(_, count)| count.get())
            .sum()
    }

    pub(crate) fn count_discarded(&self, id: u32, reason: Reason) {
        if let Some((_, count)) = Reason::ALL
            .iter()
            .zip(&self.discarded)
            .find(|(r, _)| **r == reason)
        {
            count.add_one();
        }
        debug!(
            pool = self.name,
            connection = id,
            reason = reason.name(),
            "connection discarded"
        );
        if reason == Reason::Lost || reason == Reason::Unproved {
            self.suspect_all();
        }
    }

    /// Judges readiness by what is so now, and tells of a change.
    pub(crate) fn judge(&self) {
        let mut gate = self.gate();
        let status = self.slots.status();
        let ready_at = self.config.ready_threshold(status.size);
        let now = Instant::now();
        if status.open >= ready_at {
            gate.short_since = None;
        } else if gate.short_since.is_none() {
            gate.short_since = Some(now);
            self.wake.notify_one();
        }
        let facts = Facts {
            begun: gate.begun,
            working: status.open,
            ready_at,
            failing: gate.failures > 0,
            short_for: gate
                .short_since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        };
        // Under the gate's lock, so that changes are told in the order of the facts.
        let change = self.board.update(facts);
        let error = gate.error().cloned();
        drop(gate);
        self.tell(change, error.as_ref());
    }

    fn tell(&self, change: Option<(Readiness, Readiness)>, error: Option<&ConnectError>) {
        if let Some((was, now)) = change {
            let error = error.map(tracing::field::display);
            info!(pool = self.name, %was, %now, error, "readiness changed");
        }
    }

    /// Gives the signal for closing; says whether this was the first time.
    pub(crate) fn begin_closing(&self) -> bool {
        let first = self.closing.give();
        if first {
            self.tell(self.board.close(), None);
            self.progress.send_modify(|n| *n = n.wrapping_add(1));
            self.wake.notify_one();
        }
        first
    }

    /// One attempt, with nothing around it.
    async fn open(&self, generation: u64) -> Result<Session, ConnectError> {
        let mut phase = ConnectPhase::Credentials;
        // A deadline passed drops the driver's half-open connection, whose socket the driver closes in a
        // moment of its own: the back-off is longer than that.
        match timeout(
            self.config.connect_timeout,
            self.open_in_phases(&mut phase, generation),
        )
        .await
        {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(ConnectError::timed_out(phase, self.config.connect_timeout)),
        }
    }

    async fn open_in_phases(
        &self,
        phase: &mut ConnectPhase,
        generation: u64,
    ) -> Result<Session, ConnectError> {
        let (opts, asks_settings) = self.options().await?;
        *phase = ConnectPhase::Connect;
        let conn = Conn::new(opts)
            .await
            .map_err(|error| ConnectError::driver(*phase, error))?;
        let opened_at = Instant::now();
        let birth = Birth {
            runtime: Handle::current(),
            expires_at: schedule::expires_at(opened_at, self.config.recycle, random()),
            autocommit: true,
            generation,
        };
        let mut session = Session::new(conn, birth);
        self.set_up(&mut session, phase).await?;
        *phase = ConnectPhase::Prove;
        // A settings query that the driver asked for and had answered, as the last thing, is a proof too.
        let proved = asks_settings && self.config.init.is_empty() && self.config.prepare.is_empty();
        if self.claim_facts() {
            self.prove_with_facts(&mut session).await?;
        } else if !proved {
            session.prove().await.map_err(unproved)?;
        }
        session.birth.autocommit = session.is_autocommit();
        session.follow.turn();
        Ok(session)
    }

    /// The driver's options for one opening, and whether it will ask the server for its settings.
    async fn options(&self) -> Result<(Opts, bool), ConnectError> {
        let base = self.config.opts();
        let mut builder = OptsBuilder::from_opts(base.clone()).prefer_socket(false);
        let known = self.gate().max_allowed_packet;
        if let Some(known) = known {
            // Both known, the driver asks for neither. It uses the second in its own pool only.
            builder = builder
                .max_allowed_packet(base.max_allowed_packet().or(Some(known)))
                .wait_timeout(base.wait_timeout().or(Some(28_800)));
        }
        if let Some(source) = &self.config.credentials {
            let credentials = source.ask().await.map_err(ConnectError::credentials)?;
            builder = builder
                .user(Some(credentials.user))
                .pass(Some(credentials.password));
        }
        let opts = Opts::from(builder);
        let asks_settings = opts.max_allowed_packet().is_none() || opts.wait_timeout().is_none();
        Ok((opts, asks_settings))
    }

    /// Runs `init` and `prepare`: on a new connection, and after a reset.
    pub(crate) async fn set_up(
        &self,
        session: &mut Session,
        phase: &mut ConnectPhase,
    ) -> Result<(), ConnectError> {
        for (n, statement) in (1..).zip(&self.config.init) {
            *phase = ConnectPhase::Init(n);
            let done = session.conn.query_drop(statement.as_str()).await;
            done.map_err(|error| ConnectError::driver(*phase, error))?;
        }
        for (n, statement) in (1..).zip(&self.config.prepare) {
            *phase = ConnectPhase::Prepare(n);
            let prepared = session.conn.prep(statement.as_str()).await;
            drop(prepared.map_err(|error| ConnectError::driver(*phase, error))?);
        }
        Ok(())
    }

    /// Whether it falls to this opening to read the server's facts: they are read again when they are not fresh.
    fn claim_facts(&self) -> bool {
        let now = Instant::now();
        let mut gate = self.gate();
        let fresh = gate
            .facts_claimed_at
            .is_some_and(|at| now.saturating_duration_since(at) < FACTS_FRESH);
        if !fresh {
            gate.facts_claimed_at = Some(now);
        }
        !fresh
    }

    /// Proves a new connection, and reads the server's facts in the same turn.
    async fn prove_with_facts(&self, session: &mut Session) -> Result<(), ConnectError> {
        let row = match session.prove_with(FACTS).await {
            Ok(row) => row,
            // Something that speaks the protocol and knows fewer variables.
            Err(ProofError::Driver(mysql_async::Error::Server(_))) => {
                return session.prove().await.map_err(unproved);
            }
            Err(error) => {
                self.gate().facts_claimed_at = None;
                return Err(unproved(error));
            }
        };
        let server = server_info(&row);
        let mut gate = self.gate();
        gate.max_allowed_packet = column(&row, 2);
        gate.server = Some(server);
        drop(gate);
        Ok(())
    }

    fn note_success(&self, took: Duration) {
        let mut gate = self.gate();
        gate.ended = gate.ended.saturating_add(1);
        let number = gate.ended;
        gate.times.push_back((number, took));
        if gate.times.len() > self.slots.status().limit().max(1) {
            gate.times.pop_front();
        }
        let outage = gate.failing_since.take();
        let failures = std::mem::take(&mut gate.failures);
        gate.retry_at = None;
        drop(gate);
        if let Some(since) = outage {
            let seconds = since.elapsed().as_secs_f64();
            info!(
                pool = self.name,
                failures, seconds, "connections can be opened again"
            );
        }
    }

    fn note_failure(&self, failures_before: u32, error: ConnectError) {
        let now = Instant::now();
        let mut gate = self.gate();
        gate.ended = gate.ended.saturating_add(1);
        gate.failed = gate.failed.saturating_add(1);
        let first = gate.failures == 0;
        // Attempts that were in flight together are one step of the back-off.
        if gate.failures == failures_before {
            gate.failures = gate.failures.saturating_add(1);
            let since = *gate.failing_since.get_or_insert(now);
            let delay = schedule::back_off(
                gate.failures,
                now.saturating_duration_since(since),
                random(),
            );
            gate.retry_at = now.checked_add(delay);
        }
        gate.last_failure = Some((gate.ended, error.clone()));
        drop(gate);
        self.metrics.failed_attempts.add_one();
        if first {
            warn!(pool = self.name, %error, "connections cannot be opened");
        } else {
            debug!(pool = self.name, %error, "connection not opened");
        }
        self.wake.notify_one();
    }

    fn note_end(&self) {
        self.judge();
        self.progress.send_modify(|n| *n = n.wrapping_add(1));
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

/// One opening of a connection, in the slot that is occupied for it.
struct Attempt {
    connector: Arc<Connector>,
    opening: Option<Opening>,
    started: Instant,
    failures_before: u32,
    generation: u64,
}

impl Attempt {
    async fn run(mut self) {
        let connector = Arc::clone(&self.connector);
        // Dropped here by a closing pool, the slot becomes vacant.
        let Some(outcome) = connector
            .closing
            .unless(connector.open(self.generation))
            .await
        else {
            return;
        };
        let Some(opening) = self.opening.take() else {
            return;
        };
        match outcome {
            Ok(session) if connector.closing.is_given() => session.say_goodbye().await,
            Ok(session) => {
                let took = self.started.elapsed();
                connector.metrics.opened.add_one();
                debug!(
                    pool = connector.name,
                    connection = session.conn.id(),
                    ?took,
                    "connection opened"
                );
                connector.note_success(took);
                drop(opening.fill(Box::new(session)));
                connector.note_end();
            }
            Err(error) => {
                connector.note_failure(self.failures_before, error);
                drop(opening);
                connector.note_end();
            }
        }
        connector.fill();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // A panic of the driver: without the back-off it would come again at once, for ever.
        if std::thread::panicking() {
            let error = ConnectError::panicked();
            self.connector.note_failure(self.failures_before, error);
        }
    }
}

fn unproved(error: ProofError) -> ConnectError {
    match error {
        ProofError::Driver(error) => ConnectError::driver(ConnectPhase::Prove, error),
        ProofError::OutOfStep => ConnectError::out_of_step(),
    }
}

fn column<T: FromValue>(row: &Row, index: usize) -> Option<T> {
    row.as_ref(index)
        .cloned()
        .and_then(|value| from_value_opt(value).ok())
}

fn server_info(row: &Row) -> ServerInfo {
    let version: String = column(row, 1).unwrap_or_default();
    let flavor = if version.contains("MariaDB") {
        Flavor::MariaDb
    } else {
        Flavor::MySql
    };
    // A number, or since MariaDB 12 a word.
    let read_only = column::<u64>(row, 6).map_or_else(
        || column::<String>(row, 6).is_some_and(|word| !word.eq_ignore_ascii_case("OFF")),
        |flag| flag != 0,
    );
    ServerInfo {
        version,
        flavor,
        max_connections: column(row, 4).unwrap_or_default(),
        max_user_connections: column(row, 5).unwrap_or_default(),
        wait_timeout: Duration::from_secs(column(row, 3).unwrap_or_default()),
        read_only,
    }
}
