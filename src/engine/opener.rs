//! Opens one connection: credentials, login, `init`, `prepare`, validation. Keeps what the server
//! reports about itself.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mysql_async::{Conn, Opts, OptsBuilder, Row, prelude::Queryable};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    config::{OnCancel, OnConnect, PoolConfig},
    engine::schedule,
    error::{Brief, ConnectError, ConnectPhase, ends_connection},
    report::{Flavor, ServerInfo},
    session::{
        Identity, Invalid, Origin, Rights, Session, activity::Activities, column,
        effect::effect_of, random, sever::Severed,
    },
    time::Timestamp,
};

/// Server variables that are selected while a new connection is validated.
const FACTS: &str = "@@version, @@max_allowed_packet, @@wait_timeout, @@max_connections, \
                     @@max_user_connections, @@global.read_only";

/// The valid values of a server's `max_allowed_packet`, in bytes.
const PACKETS_ALLOWED: RangeInclusive<usize> = 1024..=1_073_741_824;

/// After this time, the next opening reads the server's facts again.
const FRESH: Duration = Duration::from_secs(1);

/// Opens connections as the settings say, one at each call.
pub(crate) struct Opener {
    config: Arc<PoolConfig>,
    /// The driver's `after_connect`.
    driver_hook: Option<OnConnect>,
    /// The driver's `init` and `setup`, then the pool's `init`.
    init: Vec<String>,
    /// Setting up a session may change its default database.
    pub(crate) set_up_changes_database: bool,
    /// No other lock is taken while this one is held.
    facts: Mutex<ServerFacts>,
}

/// What the server last reported about itself.
#[derive(Default)]
struct ServerFacts {
    server: Option<ServerInfo>,
    max_allowed_packet: Option<usize>,
    /// The rights of the last new connection on which they were read.
    rights: KnownRights,
    /// The server does not know the tables of [`Opener::remains`].
    refuses_remains: bool,
    /// The server refuses several statements in one text.
    one_statement_at_a_time: bool,
    /// When an opening last claimed the task of reading the facts.
    claimed_at: Option<Timestamp>,
}

/// What is known about the rights of a new connection.
#[derive(Clone, Debug, Default)]
pub(crate) enum KnownRights {
    #[default]
    NotAsked,
    /// The server has no roles.
    NoRoles,
    Known(Rights),
}

impl ServerFacts {
    /// Whether this opening has to read the facts: one of several does, if they are not fresh.
    fn claim(&mut self, now: Timestamp) -> bool {
        let is_fresh = self.claimed_at.is_some_and(|at| now.since(at) < FRESH);
        if !is_fresh {
            self.claimed_at = Some(now);
        }
        !is_fresh
    }

    /// Lets the next opening read the facts, because there was no answer.
    fn unclaim(&mut self) {
        self.claimed_at = None;
    }
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
            driver_hook,
            init,
            config,
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

    /// What to select to find statements of a caller that the server shows after a reset too:
    /// MySQL's last optimizer trace, MariaDB's profiles. `None` if the server refuses to be asked.
    pub(crate) fn remains(&self) -> Option<&'static str> {
        let facts = self.facts();
        if facts.refuses_remains {
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

    /// Records that the server refuses to answer [`remains`](Self::remains).
    pub(crate) fn record_no_remains(&self) {
        self.facts().refuses_remains = true;
    }

    /// Whether the server refuses several statements in one text, as some proxies do.
    pub(crate) fn takes_one_statement_at_a_time(&self) -> bool {
        self.facts().one_statement_at_a_time
    }

    pub(crate) fn record_one_statement_at_a_time(&self) {
        self.facts().one_statement_at_a_time = true;
    }

    /// Whether a reset changes the charset that the handshake set. MySQL's does; MariaDB's does
    /// not.
    pub(crate) fn reset_loses_charset(&self) -> bool {
        self.facts()
            .server
            .as_ref()
            .is_none_or(|server| server.flavor == Flavor::MySql)
    }

    /// Makes one attempt, from credentials to validation, within `connect_timeout`.
    ///
    /// If dropped midway, it closes the socket.
    pub(crate) async fn open(
        &self,
        activities: &Activities,
        generation: u64,
    ) -> Result<Session, NotOpened> {
        let mut phase = ConnectPhase::Credentials;
        let limit = self.config.connect_timeout;
        let opened = timeout(
            limit,
            self.open_in_phases(&mut phase, activities, generation),
        )
        .await;
        opened.unwrap_or_else(|_elapsed| Err(ConnectError::timed_out(phase, limit).into()))
    }

    async fn open_in_phases(
        &self,
        phase: &mut ConnectPhase,
        activities: &Activities,
        generation: u64,
    ) -> Result<Session, NotOpened> {
        let (opts, asks_settings) = self.options().await?;
        // If this is dropped, at the deadline or because the pool closes, the half-open socket is
        // closed before its slot is freed, and the driver does not go on reading from it.
        Severed::new(async {
            let session = self
                .open_with(opts, asks_settings, phase, activities, generation)
                .await?;
            if self.agrees_on_packets(&session) {
                return Ok(session);
            }
            // The limit that was known from earlier connections no longer holds.
            session.quit().await;
            let (opts, asks_settings) = self.options().await?;
            self.open_with(opts, asks_settings, phase, activities, generation)
                .await
        })
        .await
    }

    /// Whether the driver's limit for packets is the server's, or the settings' if that is smaller.
    /// Otherwise the connection would refuse for life what the server takes, or send what ends it.
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
        activities: &Activities,
        generation: u64,
    ) -> Result<Session, NotOpened> {
        *phase = ConnectPhase::Connect;
        let conn = Conn::new(opts)
            .await
            .map_err(|error| ConnectError::driver(*phase, error))?;
        let opened_at = Timestamp::now();
        let expires_at = schedule::expires_at(opened_at, self.config.recycle, random());
        let origin = Origin {
            id: conn.id(),
            opts: conn.opts().clone(),
            runtime: Handle::current(),
            expires_at,
            due_at: schedule::due_at(expires_at, self.config.recycle),
            autocommit: true,
            generation,
            chance: random(),
            identity: None,
            rights: None,
            max_allowed_packet: None,
        };
        let mut session = Session::new(conn, origin, activities.add());
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
        if self.config.on_cancel == OnCancel::Kill {
            self.validate_with_facts(session).await?;
            session.origin.identity = self.identify(session).await?;
        } else if self.config.credentials.is_some()
            || self.config.opts().max_allowed_packet().is_some()
            || self.facts().claim(Timestamp::now())
        {
            // With a source of credentials, each connection may have a different account. With a
            // limit for packets in the settings, the driver has not asked for the server's.
            self.validate_with_facts(session).await?;
        } else if !is_valid {
            self.validate_with_rights(session).await?;
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
        let mut builder = OptsBuilder::from_opts(base.clone())
            .prefer_socket(false)
            // `set_up` runs these. The driver would run `setup` again after a reset, but not the
            // others, and before the charset is restored.
            .after_connect(|_conn| Box::pin(async { Ok(()) }))
            .init(Vec::<String>::new())
            .setup(Vec::<String>::new());
        let (wanted, allowed) = (base.max_allowed_packet(), self.facts().max_allowed_packet);
        let known = match (wanted, allowed) {
            (Some(wanted), Some(allowed)) => Some(wanted.min(allowed)),
            _ => wanted.or(allowed),
        };
        if known.is_some() {
            // If both are set, the driver queries neither. It uses `wait_timeout` only in its own
            // pool.
            builder = builder
                .max_allowed_packet(known)
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
        if let Some(hook) = &self.config.on_connect {
            run_hook(hook, session, phase).await?;
        }
        // The answers to `prepare` do not show whether a transaction is open.
        end_transaction(session, *phase).await?;
        for (n, statement) in (1..).zip(&self.config.prepare) {
            *phase = ConnectPhase::Prepare(n);
            let prepared = session.conn.prep(statement.as_str()).await;
            let prepared = prepared.map_err(|error| ConnectError::driver(*phase, error))?;
            session.follow.record_prepared(statement, &prepared);
        }
        Ok(())
    }

    /// Validates a new connection, and reads the server's facts and the session's rights in the
    /// same round trip.
    async fn validate_with_facts(&self, session: &mut Session) -> Result<(), ConnectError> {
        let all = format!("{FACTS}, {}", Rights::COLUMNS);
        let known = match self.ask(session, &all).await? {
            Some(row) => {
                session.origin.max_allowed_packet = self.record_facts(&row);
                Some(Rights::read(&row, 7))
            }
            // A compatible server that lacks one of the variables, or roles, refused: ask for each
            // group.
            None => {
                if let Some(row) = self.ask(session, FACTS).await? {
                    session.origin.max_allowed_packet = self.record_facts(&row);
                }
                let row = self.ask(session, Rights::COLUMNS).await?;
                row.map(|row| Rights::read(&row, 1))
            }
        };
        if known.is_none() {
            session.validate().await.map_err(invalid)?;
        }
        let mut facts = self.facts();
        match (&known, &facts.rights) {
            (Some(rights), _) => facts.rights = KnownRights::Known(rights.clone()),
            (None, KnownRights::NotAsked) => facts.rights = KnownRights::NoRoles,
            // The server refused this time, but is known to have roles.
            (None, KnownRights::NoRoles | KnownRights::Known(_)) => {}
        }
        drop(facts);
        session.origin.rights = known;
        Ok(())
    }

    /// Validates a new connection. If the server is known to have roles, also reads the session's
    /// rights and its limit for packets in the same round trip.
    async fn validate_with_rights(&self, session: &mut Session) -> Result<(), ConnectError> {
        if matches!(self.facts().rights, KnownRights::Known(_)) {
            let columns = format!("@@max_allowed_packet, {}", Rights::COLUMNS);
            let row = session.validate_with(&columns).await.map_err(invalid)?;
            let allowed = packets_allowed(&row, 1);
            session.origin.max_allowed_packet = allowed;
            session.origin.rights = Some(Rights::read(&row, 2));
            self.facts().max_allowed_packet = allowed;
            Ok(())
        } else {
            session.validate().await.map_err(invalid)
        }
    }

    /// Validates a new connection and selects these columns; `None` if the server refuses them.
    async fn ask(&self, session: &mut Session, columns: &str) -> Result<Option<Row>, ConnectError> {
        match session.validate_with(columns).await {
            Ok(row) => Ok(Some(row)),
            Err(Invalid::Driver(error @ mysql_async::Error::Server(_)))
                if !ends_connection(&error) =>
            {
                Ok(None)
            }
            Err(error) => {
                self.facts().unclaim();
                Err(invalid(error))
            }
        }
    }

    /// Records the facts. Returns the server's limit for packets.
    fn record_facts(&self, row: &Row) -> Option<usize> {
        let server = server_info(row);
        let allowed = packets_allowed(row, 2);
        let mut facts = self.facts();
        facts.max_allowed_packet = allowed;
        facts.server = Some(server);
        drop(facts);
        allowed
    }

    /// Reads what distinguishes the connection from all others on all servers, if the server
    /// reports it.
    async fn identify(&self, session: &mut Session) -> Result<Option<Identity>, ConnectError> {
        let is_mariadb = !self.reset_loses_charset();
        let variable = if is_mariadb {
            "server_uid"
        } else {
            "server_uuid"
        };
        let question = format!(
            "SELECT @@{variable}, HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()"
        );
        let asking = session.command(async |conn| {
            let answer: mysql_async::Result<Option<Row>> = conn.query_first(question).await;
            match answer {
                // An older server, or a proxy, lacks these. Nothing is killed there.
                Err(error @ mysql_async::Error::Server(_)) if !ends_connection(&error) => Ok(None),
                answer => answer,
            }
        });
        let answer = asking.await;
        let row = answer.map_err(|error| ConnectError::driver(ConnectPhase::Validate, error))?;
        Ok(row.and_then(|row| {
            let (server, host): (String, String) = (column(&row, 0)?, column(&row, 1)?);
            // Without a port, the host may be the same for many connections.
            host.contains(':').then_some(Identity { server, host })
        }))
    }

    /// No code panics while holding this lock, so poisoning can be ignored.
    fn facts(&self) -> MutexGuard<'_, ServerFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// Runs a hook, and validates the connection after it: the hook may have cancelled a command of its
/// own, whose answer the next command would take for its own.
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
    // The second one is for a session with `completion_type = CHAIN`.
    for rollback in ["ROLLBACK", "ROLLBACK AND NO CHAIN NO RELEASE"] {
        if session.is_in_transaction() {
            let done = session.conn.query_drop(rollback).await;
            done.map_err(|error| ConnectError::driver(phase, error))?;
        }
    }
    Ok(())
}

fn invalid(error: Invalid) -> ConnectError {
    match error {
        Invalid::Driver(error) => ConnectError::driver(ConnectPhase::Validate, error),
        Invalid::OutOfStep => ConnectError::out_of_step(),
    }
}

/// The server's limit for packets. Values that are not valid are ignored: with 0, for example, no
/// further connection could be opened.
fn packets_allowed(row: &Row, index: usize) -> Option<usize> {
    column(row, index).filter(|bytes| PACKETS_ALLOWED.contains(bytes))
}

fn server_info(row: &Row) -> ServerInfo {
    let version: String = column(row, 1).unwrap_or_default();
    let version = Brief(version).to_string();
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
