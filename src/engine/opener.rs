//! Opens one connection: credentials, login, `init`, `prepare`, validation. Keeps what the server
//! reports about itself.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use mysql_async::{Opts, OptsBuilder, Row, prelude::Queryable};
use tokio::time::timeout;

use crate::{
    config::{OnCancel, OnConnect, PoolConfig, password_file, tls_files},
    engine::schedule,
    error::{ConnectError, ConnectPhase, ends_connection, is_transient},
    report::{Flavor, ServerInfo},
    session::{
        Identity, Invalid, Origin, Session,
        activity::Activities,
        column,
        effect::{
            changes::{Change, changes_of_settings},
            effect_of,
        },
        random,
        runtime::SocketRuntime,
        sever::Severed,
    },
    time::Timestamp,
};

use super::{
    connect::{Addresses, Login},
    facts::{Answers, Fact, Greeting, KnownRights, Question, RefusedReset, ServerFacts},
    init_connect::InitConnect,
};

/// How long the pool's questions about the server may take: half of `connect_timeout`, or this if
/// it is less. If the server does not answer, later openings do not ask.
const QUESTIONS_TAKE: Duration = Duration::from_secs(2);

/// The `max_allowed_packet` that the driver assumes if the server refused its settings query:
/// MySQL's default.
const USUAL_PACKET: usize = 64 << 20;
/// The assumed `wait_timeout`, in seconds. The driver uses it only in its own pool.
const USUAL_WAIT_TIMEOUT: usize = 28_800;

/// Why abandoned statements cannot be killed.
const NOT_THE_SERVERS_ID: &str =
    "the connection's id is not the server's: a proxy stands in between";
const NO_SERVER_ID: &str = "the server does not say which one it is (server_uuid, server_uid)";
const NO_PORT: &str = "the server does not report the client's port";

/// What a connection about to be opened belongs to.
#[derive(Clone, Copy)]
pub(crate) struct NewConnection<'a> {
    pub(crate) activities: &'a Activities,
    /// The runtime that the attempt runs on.
    pub(crate) runtime: &'a Arc<SocketRuntime>,
    /// How many refreshes came before the attempt.
    pub(crate) generation: u64,
}

/// Opens connections as the settings say, one at each call.
pub(crate) struct Opener {
    config: Arc<PoolConfig>,
    /// The driver's `after_connect`.
    driver_hook: Option<OnConnect>,
    /// The driver's `init` and `setup`, then the pool's `init`.
    init: Vec<String>,
    /// What `init` changes, if it is settings that are known, and no hook sets up the session before
    /// them.
    init_changes: Option<Vec<Change>>,
    /// `init` makes sessions read-only.
    is_set_up_read_only: bool,
    /// Setting up a session may change its default database.
    pub(crate) set_up_changes_database: bool,
    addresses: Addresses,
    /// A login has succeeded, so the driver has read the files for TLS, and does not read them again.
    has_logged_in: AtomicBool,
    /// No other lock is taken while this one is held.
    facts: Mutex<ServerFacts>,
}

impl Opener {
    pub(crate) fn new(config: Arc<PoolConfig>) -> Self {
        let opts = config.opts();
        let init = [opts.init(), opts.setup(), config.init.as_slice()].concat();
        let driver_hook = config.driver_hook();
        let has_hook = driver_hook.is_some() || config.on_connect.is_some();
        Self {
            set_up_changes_database: has_hook
                || init.iter().any(|text| effect_of(text.as_bytes()).database),
            is_set_up_read_only: init.iter().any(|text| effect_of(text.as_bytes()).read_only),
            init_changes: changes_of_all(&init).filter(|_| driver_hook.is_none()),
            driver_hook,
            init,
            config,
            addresses: Addresses::default(),
            has_logged_in: AtomicBool::new(false),
            facts: Mutex::default(),
        }
    }

    /// The server's facts; `None` until a connection has been opened.
    pub(crate) fn server(&self) -> Option<ServerInfo> {
        self.facts().server.clone()
    }

    /// The rights that this connection was opened with, as far as they are known.
    pub(crate) fn rights(&self, origin: &Origin) -> KnownRights {
        match &origin.rights {
            Some(rights) => KnownRights::Known(rights.clone()),
            None => self.facts().rights.clone(),
        }
    }

    /// Whether the server's InnoDB tables are read-only, as far as is known.
    pub(crate) fn is_innodb_read_only(&self) -> bool {
        self.facts().innodb_read_only
    }

    /// Whether to log now that abandoned statements cannot be killed: once for each pool.
    pub(crate) fn warns_of_kill(&self) -> bool {
        !std::mem::replace(&mut self.facts().has_warned_of_kill, true)
    }

    /// Why abandoned statements cannot be killed on the server, if that is known.
    pub(crate) fn kill_obstacle(&self) -> Option<&'static str> {
        self.facts().kill_obstacle
    }

    /// What a reset has to do for the server's `init_connect`.
    pub(crate) fn init_connect(&self) -> InitConnect {
        self.facts().init_connect.clone()
    }

    /// What to select to find a caller's statements that outlast a reset: MySQL's last optimizer
    /// trace, MariaDB's profiles. `None` if the server refuses the question.
    pub(crate) fn leftovers(&self) -> Option<&'static str> {
        let facts = self.facts();
        if facts.refuses_leftovers {
            return None;
        }
        let is_mariadb = facts
            .server
            .as_ref()
            .is_some_and(|server| server.flavor == Flavor::MariaDb);
        Some(if is_mariadb {
            "(SELECT COUNT(*) FROM information_schema.PROFILING)"
        } else {
            "(SELECT COUNT(*) FROM information_schema.OPTIMIZER_TRACE)"
        })
    }

    /// The `init_connect` to repeat after a reset and `init`, if both are settings that are known.
    /// They can be sent in one text.
    pub(crate) fn settings_to_repeat(&self) -> Option<Vec<String>> {
        let mut settings = match self.init_connect() {
            InitConnect::Nothing => Vec::new(),
            InitConnect::Repeat(text) => vec![text],
            InitConnect::Replace => return None,
        };
        changes_of_all(&settings)?;
        self.init_changes.as_ref()?;
        settings.extend(self.init.iter().cloned());
        Some(settings)
    }

    /// What the [settings to repeat](Self::settings_to_repeat) change, if nothing else sets up a
    /// session, so that undoing them and repeating them is as good as a reset.
    pub(crate) fn set_up_changes(&self) -> Option<Vec<Change>> {
        if self.config.on_connect.is_some() {
            return None;
        }
        changes_of_all(&self.settings_to_repeat()?)
    }

    /// Records that the server refuses to answer [`leftovers`](Self::leftovers).
    pub(crate) fn record_no_leftovers(&self) {
        self.facts().refuses_leftovers = true;
    }

    /// Whether the server refuses several statements in one text, as some proxies do.
    pub(crate) fn takes_one_statement_at_a_time(&self) -> bool {
        self.facts().one_statement_at_a_time
    }

    pub(crate) fn record_one_statement_at_a_time(&self) {
        self.facts().one_statement_at_a_time = true;
    }

    /// What to do instead of a reset, if the server refuses resets.
    pub(crate) fn refused_reset(&self) -> Option<RefusedReset> {
        self.facts().refused_reset
    }

    /// Records that the server refuses resets. Returns whether that is new.
    pub(crate) fn record_refused_reset(&self, instead: RefusedReset) -> bool {
        self.facts().refused_reset.replace(instead).is_none()
    }

    /// Whether a reset changes the charset that the handshake set. MySQL's does; MariaDB's does
    /// not.
    pub(crate) fn reset_loses_charset(&self) -> bool {
        self.flavor() == Flavor::MySql
    }

    /// What the server is; MySQL if that is not known.
    pub(crate) fn flavor(&self) -> Flavor {
        self.facts()
            .server
            .as_ref()
            .map_or(Flavor::MySql, |server| server.flavor)
    }

    /// Makes one attempt, from credentials to validation. `phase` and `login` show its progress. A
    /// panic, of the driver or of the source of credentials, becomes an error.
    ///
    /// If dropped midway, it closes the socket.
    pub(crate) async fn open(
        &self,
        phase: &mut ConnectPhase,
        login: &Login,
        new: NewConnection<'_>,
    ) -> Result<Session, NotOpened> {
        let opening = self.attempt(phase, login, new);
        // Nothing of the attempt is used after a panic.
        match AssertUnwindSafe(opening).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => Err(ConnectError::panicked(*phase, &*panic).into()),
        }
    }

    async fn attempt(
        &self,
        phase: &mut ConnectPhase,
        login: &Login,
        new: NewConnection<'_>,
    ) -> Result<Session, NotOpened> {
        if !self.has_logged_in.load(Ordering::Relaxed) {
            tls_files::check(self.config.opts()).await?;
        }
        let (opts, asks_settings) = self.options().await?;
        // If this is dropped, at the deadline or because the pool closes, the half-open socket is
        // closed before its slot is freed, and the driver does not go on reading from it.
        Severed::new(async {
            let opened = self
                .open_with(opts.clone(), asks_settings, phase, login, new)
                .await;
            let session = match opened {
                Err(refused) if asks_settings && refused.error.may_refuse_settings() => {
                    // The server may accept the login without the driver's settings query.
                    let opts = without_settings_query(opts);
                    let session = self.open_with(opts, false, phase, login, new).await?;
                    self.facts().refuses_settings = true;
                    session
                }
                opened => opened?,
            };
            if self.agrees_on_packets(&session) {
                return Ok(session);
            }
            // The limit known from earlier connections no longer holds.
            session.quit().await;
            let (opts, asks_settings) = self.options().await?;
            self.open_with(opts, asks_settings, phase, login, new).await
        })
        .await
    }

    /// Whether the driver's limit for packets is the server's, or the settings' if that is smaller.
    /// Otherwise the connection would always refuse packets that the server accepts, or send
    /// packets that make the server close it.
    fn agrees_on_packets(&self, session: &Session) -> bool {
        let known = session.conn.opts().max_allowed_packet();
        let (Some(known), Some(allowed)) = (known, session.origin.max_allowed_packet) else {
            return true;
        };
        let wanted = self.config.opts().max_allowed_packet();
        known == wanted.map_or(allowed, |wanted| wanted.min(allowed))
    }

    async fn open_with(
        &self,
        opts: Opts,
        asks_settings: bool,
        phase: &mut ConnectPhase,
        login: &Login,
        new: NewConnection<'_>,
    ) -> Result<Session, NotOpened> {
        *phase = ConnectPhase::Connect;
        let reads_files = opts.ssl_opts().is_some() && !self.has_logged_in.load(Ordering::Relaxed);
        let conn = self
            .addresses
            .connect(opts, login, reads_files)
            .await
            .map_err(|error| ConnectError::driver(*phase, error))?;
        self.has_logged_in.store(true, Ordering::Relaxed);
        let opened_at = Timestamp::now();
        let expires_at = schedule::expires_at(opened_at, self.config.recycle, random());
        let origin = Origin {
            id: conn.id(),
            opts: conn.opts().clone(),
            runtime: Arc::clone(new.runtime),
            expires_at,
            due_at: schedule::due_at(expires_at, self.config.recycle),
            autocommit: true,
            generation: new.generation,
            chance: random(),
            identity: None,
            rights: None,
            max_allowed_packet: None,
        };
        let mut session = Session::new(conn, origin, new.activities.add(new.runtime));
        session.follow.is_set_up_read_only = self.is_set_up_read_only;
        match self.make_ready(&mut session, asks_settings, phase).await {
            Ok(()) => Ok(session),
            Err(error) => {
                // A server that answered with an error still takes a `COM_QUIT`.
                let session = if error.code().is_some() {
                    Some(Box::new(session))
                } else {
                    session.sever();
                    None
                };
                Err(NotOpened { error, session })
            }
        }
    }

    /// Runs `init` and `prepare`, and validates the connection.
    async fn make_ready(
        &self,
        session: &mut Session,
        asks_settings: bool,
        phase: &mut ConnectPhase,
    ) -> Result<(), ConnectError> {
        self.set_up(session, phase).await?;
        *phase = ConnectPhase::Validate;
        // If the driver's settings query was the last command, its answer is validation enough.
        let is_valid = asks_settings && !self.sets_up();
        // With a source of credentials, each connection may have a different account. With a limit
        // for packets in the settings, the driver has not asked for that of the server.
        let always = self.config.on_cancel == OnCancel::Kill
            || self.config.credentials.is_some()
            || self.config.opts().max_allowed_packet().is_some();
        let question = self.facts().claim(always, is_valid, Timestamp::now());
        match question {
            Some(question) => self.ask_within_limits(session, &question).await?,
            None if is_valid => {}
            None => session.validate().await.map_err(invalid)?,
        }
        session.origin.autocommit = session.is_autocommit();
        end_transaction(session, *phase).await?;
        session.follow.start_over();
        Ok(())
    }

    /// Whether anything is to be run or prepared on a new connection.
    fn sets_up(&self) -> bool {
        let hooks = [&self.driver_hook, &self.config.on_connect];
        !self.init.is_empty()
            || !self.config.prepare.is_empty()
            || hooks.into_iter().any(Option::is_some)
    }

    /// The driver's options for one opening, and whether it will query the server's settings.
    async fn options(&self) -> Result<(Opts, bool), ConnectError> {
        let base = self.config.opts();
        let (allowed, refuses_settings) = {
            let facts = self.facts();
            (facts.max_allowed_packet, facts.refuses_settings)
        };
        let wanted = base.max_allowed_packet();
        let known = match (wanted, allowed) {
            (Some(wanted), Some(allowed)) => Some(wanted.min(allowed)),
            _ => wanted.or(allowed),
        };
        // `set_up` runs these. The driver would run `setup` again after a reset, but not the
        // others, and before the charset is restored.
        let mut builder = OptsBuilder::from_opts(base.clone())
            .prefer_socket(false)
            .init(Vec::<String>::new())
            .setup(Vec::<String>::new());
        if base.after_connect().is_some() {
            builder = builder.after_connect(|_conn| Box::pin(async { Ok(()) }));
        }
        let opts = builder.max_allowed_packet(known).into();
        let mut builder = OptsBuilder::from_opts(if known.is_some() || refuses_settings {
            without_settings_query(opts)
        } else {
            opts
        });
        if let Some(source) = &self.config.credentials {
            let credentials = source.ask().await.map_err(ConnectError::credentials)?;
            builder = builder
                .user(Some(credentials.user))
                .pass(Some(credentials.password));
        } else if let Some(path) = &self.config.password_file {
            let password = password_file::read(path).await;
            builder = builder.pass(Some(
                password.map_err(|error| ConnectError::password_file(path, error))?,
            ));
        }
        let opts = Opts::from(builder);
        let asks_settings = opts.max_allowed_packet().is_none() || opts.wait_timeout().is_none();
        Ok((opts, asks_settings))
    }

    /// Runs the hooks, `init` and `prepare`: on a new connection, and after a reset. Leaves no
    /// transaction open.
    pub(crate) async fn set_up(
        &self,
        session: &mut Session,
        phase: &mut ConnectPhase,
    ) -> Result<(), ConnectError> {
        if let Some(hook) = &self.driver_hook {
            run_hook(hook, session, phase).await?;
        }
        for (n, statement) in (1..).zip(&self.init) {
            *phase = ConnectPhase::Init(n);
            let done = session.conn.query_drop(statement.as_str()).await;
            done.map_err(|error| ConnectError::driver(*phase, error))?;
        }
        self.set_up_after_init(session, phase).await
    }

    /// Runs the hook, and prepares statements. Leaves no transaction open.
    pub(crate) async fn set_up_after_init(
        &self,
        session: &mut Session,
        phase: &mut ConnectPhase,
    ) -> Result<(), ConnectError> {
        if let Some(hook) = &self.config.on_connect {
            run_hook(hook, session, phase).await?;
        }
        // The answers to `prepare` do not show whether a transaction is open.
        end_transaction(session, *phase).await?;
        for (n, statement) in (1..).zip(&self.config.prepare) {
            *phase = ConnectPhase::Prepare(n);
            session.follow.keep_status(&session.conn);
            let prepared = session.conn.prep(statement.as_str()).await;
            let prepared = prepared.map_err(|error| ConnectError::driver(*phase, error))?;
            session.follow.record_prepared(statement, &prepared);
        }
        Ok(())
    }

    /// Validates a new connection and reads the facts asked for.
    async fn ask_within_limits(
        &self,
        session: &mut Session,
        question: &Question,
    ) -> Result<(), ConnectError> {
        let half = self.config.connect_timeout.checked_div(2);
        let limit = half.map_or(QUESTIONS_TAKE, |half| half.min(QUESTIONS_TAKE));
        // If this is dropped at the deadline of the opening, the question hung.
        let mut silence = RecordSilence {
            opener: self,
            has_hung: Some(true),
        };
        let outcome = match timeout(limit, self.ask(session, question)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => return Err(ConnectError::timed_out(ConnectPhase::Validate, limit)),
        };
        match &outcome {
            Ok(()) => {
                silence.has_hung = None;
                self.facts().end_silence();
            }
            Err(error) if error.code().is_some() => {
                silence.has_hung = None;
                self.facts().unclaim();
            }
            Err(_) => silence.has_hung = Some(false),
        }
        outcome
    }

    async fn ask(&self, session: &mut Session, question: &Question) -> Result<(), ConnectError> {
        let greeting = Greeting::of(&session.conn);
        let answers = self.answers(session, &question.facts).await?;
        if answers.is_empty() {
            session.validate().await.map_err(invalid)?;
        }
        session.origin.max_allowed_packet = answers.packets_allowed();
        session.origin.rights = answers.rights();
        let is_proxied = self.facts().record(question, &answers, greeting);
        if question.is_of_server {
            let init_connect = match answers.init_connect() {
                Some(text) => self.judge_init_connect(session, &text).await?,
                None => InitConnect::Nothing,
            };
            self.facts().init_connect = init_connect;
        }
        if self.config.on_cancel == OnCancel::Kill {
            let identity = if is_proxied {
                Err(NOT_THE_SERVERS_ID)
            } else {
                self.identify(session).await?
            };
            self.facts().kill_obstacle = identity.as_ref().err().copied();
            session.origin.identity = identity.ok();
        }
        Ok(())
    }

    /// Finds out whether the server runs its `init_connect` for this account.
    async fn judge_init_connect(
        &self,
        session: &mut Session,
        text: &str,
    ) -> Result<InitConnect, ConnectError> {
        let flavor = if self.reset_loses_charset() {
            Flavor::MySql
        } else {
            Flavor::MariaDb
        };
        // Each connection may have another account.
        let is_one_account = self.config.credentials.is_none();
        if !is_one_account || InitConnect::of(text, Some(&[]), flavor) == InitConnect::Nothing {
            return Ok(InitConnect::of(text, None, flavor));
        }
        let asking = session.command(async |conn| {
            let answer: mysql_async::Result<Vec<Row>> = conn.query("SHOW GRANTS").await;
            match answer {
                Err(error @ mysql_async::Error::Server(_)) if !ends_connection(&error) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let answer = asking.await;
        let rows = answer.map_err(|error| ConnectError::driver(ConnectPhase::Validate, error))?;
        let grants: Option<Vec<String>> =
            rows.map(|rows| rows.iter().filter_map(|row| column(row, 0)).collect());
        Ok(InitConnect::of(text, grants.as_deref(), flavor))
    }

    /// Asks for all these facts at once. A compatible server or a proxy that lacks one of them
    /// refuses; then asks for each by itself, and remembers which were refused.
    async fn answers(
        &self,
        session: &mut Session,
        wanted: &[Fact],
    ) -> Result<Answers, ConnectError> {
        let mut answers = Answers::default();
        if wanted.is_empty() {
            return Ok(answers);
        }
        if let Ok(row) = select(session, wanted).await? {
            answers.add(wanted, &row);
            return Ok(answers);
        }
        for fact in wanted.iter().copied() {
            match select(session, &[fact]).await? {
                Ok(row) => answers.add(&[fact], &row),
                Err(code) => self.facts().record_refused(fact, code, Timestamp::now()),
            }
        }
        Ok(answers)
    }

    /// Reads what distinguishes the connection from all others on all servers; an error says why
    /// that is not possible.
    async fn identify(
        &self,
        session: &mut Session,
    ) -> Result<Result<Identity, &'static str>, ConnectError> {
        let is_mariadb = !self.reset_loses_charset();
        let variable = if is_mariadb {
            "server_uid"
        } else {
            "server_uuid"
        };
        let question = format!(
            "SELECT @@{variable}, HOST, ID FROM information_schema.PROCESSLIST \
             WHERE ID = CONNECTION_ID()"
        );
        let answer: mysql_async::Result<Option<Row>> = session
            .command(async |conn| conn.query_first(question).await)
            .await;
        let row = match answer {
            Ok(Some(row)) => row,
            // An older server, or a proxy, lacks these.
            Ok(None) => return Ok(Err(NO_SERVER_ID)),
            Err(error) if refusal(&error).is_some() => return Ok(Err(NO_SERVER_ID)),
            Err(error) => return Err(ConnectError::driver(ConnectPhase::Validate, error)),
        };
        let (Some(server), Some(host)) = (column::<String>(&row, 0), column::<String>(&row, 1))
        else {
            return Ok(Err(NO_SERVER_ID));
        };
        // The id to kill is that in the greeting.
        let is_own_id = column::<u64>(&row, 2) == Some(u64::from(session.origin.id));
        Ok(if !is_own_id {
            Err(NOT_THE_SERVERS_ID)
        } else if host.contains(':') {
            Ok(Identity { server, host })
        } else {
            // Without a port, the host may be the same for many connections.
            Err(NO_PORT)
        })
    }

    /// No code panics while holding this lock, so poisoning can be ignored.
    fn facts(&self) -> MutexGuard<'_, ServerFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What these texts change, if all of them are settings that are known, and can be joined.
fn changes_of_all(texts: &[String]) -> Option<Vec<Change>> {
    let changes = texts
        .iter()
        .map(|text| changes_of_settings(text.as_bytes()));
    let changes: Option<Vec<_>> = changes.collect();
    changes.map(|changes| changes.concat())
}

/// Why a connection was not opened.
pub(crate) struct NotOpened {
    pub(crate) error: ConnectError,
    /// The session, if the server answered with an error and still takes a `COM_QUIT`.
    session: Option<Box<Session>>,
}

impl NotOpened {
    /// Sends `COM_QUIT` if the server answered with an error.
    ///
    /// If dropped midway, it closes the socket.
    pub(crate) async fn quit(self) {
        if let Some(session) = self.session {
            Severed::new(session.quit()).await;
        }
    }
}

impl From<ConnectError> for NotOpened {
    fn from(error: ConnectError) -> Self {
        Self {
            error,
            session: None,
        }
    }
}

fn invalid(error: Invalid) -> ConnectError {
    match error {
        Invalid::Driver(error) => ConnectError::driver(ConnectPhase::Validate, error),
        Invalid::OutOfStep => ConnectError::out_of_step(),
    }
}

/// If both values are set, the driver queries neither.
fn without_settings_query(opts: Opts) -> Opts {
    let (packet, wait_timeout) = (opts.max_allowed_packet(), opts.wait_timeout());
    OptsBuilder::from_opts(opts)
        .max_allowed_packet(packet.or(Some(USUAL_PACKET)))
        .wait_timeout(wait_timeout.or(Some(USUAL_WAIT_TIMEOUT)))
        .into()
}

/// Validates a new connection and selects these facts; the code of the refusal if the server refuses
/// them.
async fn select(session: &mut Session, facts: &[Fact]) -> Result<Result<Row, u16>, ConnectError> {
    match session.validate_with(&Fact::columns(facts)).await {
        Ok(row) => Ok(Ok(row)),
        Err(Invalid::Driver(error)) => match refusal(&error) {
            Some(code) => Ok(Err(code)),
            None => Err(invalid(Invalid::Driver(error))),
        },
        Err(error) => Err(invalid(error)),
    }
}

/// The error code with which the server refused.
fn refusal(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(refusal) if !ends_connection(error) && !is_transient(error) => {
            Some(refusal.code)
        }
        _ => None,
    }
}

/// Records on drop that a question about the server was not answered.
struct RecordSilence<'a> {
    opener: &'a Opener,
    /// `None` if it was answered.
    has_hung: Option<bool>,
}

impl Drop for RecordSilence<'_> {
    fn drop(&mut self) {
        if let Some(has_hung) = self.has_hung {
            self.opener
                .facts()
                .record_silence(has_hung, Timestamp::now());
        }
    }
}

/// Runs a hook, then validates the connection: the hook may have cancelled a command, and the next
/// command would take that command's answer for its own.
async fn run_hook(
    hook: &OnConnect,
    session: &mut Session,
    phase: &mut ConnectPhase,
) -> Result<(), ConnectError> {
    *phase = ConnectPhase::OnConnect;
    let outcome = hook.run(&mut session.conn).await;
    let outcome = outcome.ok_or_else(ConnectError::hook_panicked)?;
    outcome.map_err(|error| ConnectError::driver(*phase, error))?;
    if session.conn.id() != session.origin.id || session.conn.is_disconnected() {
        return Err(ConnectError::out_of_step());
    }
    *phase = ConnectPhase::Validate;
    session.validate().await.map_err(invalid)
}

/// Rolls back the transaction that setting up the session, or the server's `init_connect`, may have
/// left open, so that no caller finds an old snapshot.
async fn end_transaction(session: &mut Session, phase: ConnectPhase) -> Result<(), ConnectError> {
    // The second `ROLLBACK` is for a session with `completion_type = CHAIN`.
    for rollback in ["ROLLBACK", "ROLLBACK AND NO CHAIN NO RELEASE"] {
        if session.is_in_transaction() {
            let done = session.conn.query_drop(rollback).await;
            done.map_err(|error| ConnectError::driver(phase, error))?;
        }
    }
    Ok(())
}
