//! Opens one connection: credentials, login, `init`, `prepare`, proof. Keeps what the server says of itself.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mysql_async::{Conn, Opts, OptsBuilder, Row, prelude::Queryable};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    config::{OnCancel, PoolConfig},
    engine::schedule,
    error::{Brief, ConnectError, ConnectPhase, ends_connection},
    report::{Flavor, ServerInfo},
    session::{
        Birth, Identity, ProofError, Rights, Session, activity::Pulses, column, random,
        sever::Severed,
    },
    time::Timestamp,
};

/// What the server is asked for when a connection is proved for the first time.
const FACTS: &str = "@@version, @@max_allowed_packet, @@wait_timeout, @@max_connections, \
                     @@max_user_connections, @@global.read_only";

/// What `max_allowed_packet` can be on a server.
const PACKETS_ALLOWED: RangeInclusive<usize> = 1024..=1_073_741_824;

/// What the server says of itself is read again by an opening after this time.
const FRESH: Duration = Duration::from_secs(1);

/// Opens connections as the settings say, one at each call.
pub(crate) struct Opener {
    config: Arc<PoolConfig>,
    /// Guards what the server said last. Taken before nothing else.
    told: Mutex<Told>,
}

/// What the server said of itself.
#[derive(Default)]
struct Told {
    server: Option<ServerInfo>,
    max_allowed_packet: Option<usize>,
    /// Whose rights a new connection has, by the last that was asked.
    rights: KnownRights,
    /// When an opening last took it upon itself to ask.
    claimed_at: Option<Instant>,
}

/// What is known of the rights of a new connection.
#[derive(Clone, Debug, Default)]
pub(crate) enum KnownRights {
    /// None was asked yet.
    #[default]
    NotAsked,
    /// The server has no roles.
    NoRoles,
    Are(Rights),
}

impl Told {
    /// Whether it falls to this opening to ask: one of many does, when the answers are not fresh.
    fn claim(&mut self, now: Instant) -> bool {
        let claimed = self.claimed_at;
        let fresh = claimed.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
        if !fresh {
            self.claimed_at = Some(now);
        }
        !fresh
    }

    /// There was no answer: the next opening is to ask.
    fn disclaim(&mut self) {
        self.claimed_at = None;
    }
}

impl Opener {
    pub(crate) fn new(config: Arc<PoolConfig>) -> Self {
        Self {
            config,
            told: Mutex::default(),
        }
    }

    /// What the server said of itself last; `None` until a connection was opened.
    pub(crate) fn server(&self) -> Option<ServerInfo> {
        self.told().server.clone()
    }

    /// The rights that this connection was opened with, as far as is known.
    pub(crate) fn rights(&self, birth: &Birth) -> KnownRights {
        match &birth.rights {
            Some(rights) => KnownRights::Are(rights.clone()),
            None => self.told().rights.clone(),
        }
    }

    /// Whether a reset leaves another charset than the handshake set: MySQL's does, MariaDB's does not.
    pub(crate) fn reset_loses_charset(&self) -> bool {
        self.told()
            .server
            .as_ref()
            .is_none_or(|server| server.flavor == Flavor::MySql)
    }

    /// One attempt, from credentials to proof, within `connect_timeout`.
    pub(crate) async fn open(
        &self,
        pulses: &Pulses,
        generation: u64,
    ) -> Result<Session, NotOpened> {
        let mut phase = ConnectPhase::Credentials;
        let limit = self.config.connect_timeout;
        let opened = timeout(limit, self.open_in_phases(&mut phase, pulses, generation)).await;
        opened.unwrap_or_else(|_elapsed| Err(ConnectError::timed_out(phase, limit).into()))
    }

    async fn open_in_phases(
        &self,
        phase: &mut ConnectPhase,
        pulses: &Pulses,
        generation: u64,
    ) -> Result<Session, NotOpened> {
        let (opts, asks_settings) = self.options().await?;
        // Dropped at the deadline, or by a closing pool, the half-open connection's socket is closed before the slot
        // is free, and the driver does not go on reading what a server has still to say.
        Severed::new(self.open_with(opts, asks_settings, phase, pulses, generation)).await
    }

    async fn open_with(
        &self,
        opts: Opts,
        asks_settings: bool,
        phase: &mut ConnectPhase,
        pulses: &Pulses,
        generation: u64,
    ) -> Result<Session, NotOpened> {
        *phase = ConnectPhase::Connect;
        let conn = Conn::new(opts)
            .await
            .map_err(|error| ConnectError::driver(*phase, error))?;
        let opened_at = Timestamp::now();
        let expires_at = schedule::expires_at(opened_at, self.config.recycle, random());
        let birth = Birth {
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
        };
        let mut session = Session::new(conn, birth, pulses.begin());
        match self.make_ready(&mut session, asks_settings, phase).await {
            Ok(()) => Ok(session),
            Err(error) => {
                // A server that answers with an error of its own is there to be said goodbye to.
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

    /// `init`, `prepare` and the proof.
    async fn make_ready(
        &self,
        session: &mut Session,
        asks_settings: bool,
        phase: &mut ConnectPhase,
    ) -> Result<(), ConnectError> {
        self.set_up(session, phase).await?;
        *phase = ConnectPhase::Validate;
        // A settings query that the driver asked for and had answered, as the last thing, is a proof too.
        let proved = asks_settings && self.config.init.is_empty() && self.config.prepare.is_empty();
        if self.config.on_cancel == OnCancel::Kill {
            self.prove_with_facts(session).await?;
            session.birth.identity = self.identify(session).await?;
        } else if self.config.credentials.is_some() || self.told().claim(Instant::now()) {
            // With a source of credentials each may be of another account.
            self.prove_with_facts(session).await?;
        } else if !proved {
            session.prove().await.map_err(unproved)?;
        }
        session.birth.autocommit = session.is_autocommit();
        session.follow.begin_borrower();
        Ok(())
    }

    /// The driver's options for one opening, and whether it will ask the server for its settings.
    async fn options(&self) -> Result<(Opts, bool), ConnectError> {
        let base = self.config.opts();
        let mut builder = OptsBuilder::from_opts(base.clone()).prefer_socket(false);
        let known = base
            .max_allowed_packet()
            .or_else(|| self.told().max_allowed_packet);
        if known.is_some() {
            // Both known, the driver asks for neither. It uses the second in its own pool only.
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

    /// Proves a new connection, and reads the server's facts and the session's rights in the same turn.
    async fn prove_with_facts(&self, session: &mut Session) -> Result<(), ConnectError> {
        let all = format!("{FACTS}, {}", Rights::COLUMNS);
        let known = match self.ask(session, &all).await? {
            Some(row) => {
                self.note_facts(&row);
                Some(Rights::read(&row, 7))
            }
            // Something that speaks the protocol and knows fewer variables, or no roles: one after the other.
            None => {
                if let Some(row) = self.ask(session, FACTS).await? {
                    self.note_facts(&row);
                }
                let row = self.ask(session, Rights::COLUMNS).await?;
                row.map(|row| Rights::read(&row, 1))
            }
        };
        if known.is_none() {
            session.prove().await.map_err(unproved)?;
        }
        self.told().rights = known.clone().map_or(KnownRights::NoRoles, KnownRights::Are);
        session.birth.rights = known;
        Ok(())
    }

    /// Proves a new connection, asking for these columns; `None` where the server refuses to tell them.
    async fn ask(&self, session: &mut Session, columns: &str) -> Result<Option<Row>, ConnectError> {
        match session.prove_with(columns).await {
            Ok(row) => Ok(Some(row)),
            Err(ProofError::Driver(error @ mysql_async::Error::Server(_)))
                if !ends_connection(&error) =>
            {
                Ok(None)
            }
            Err(error) => {
                self.told().disclaim();
                Err(unproved(error))
            }
        }
    }

    fn note_facts(&self, row: &Row) {
        let server = server_info(row);
        let mut told = self.told();
        // Anything else is no answer to go by: with 0, say, no connection could be opened any more.
        told.max_allowed_packet = column(row, 2).filter(|told| PACKETS_ALLOWED.contains(told));
        told.server = Some(server);
        drop(told);
    }

    /// What tells the connection from all others on all servers, where that can be known.
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
        let asking = session.maintain(async |conn| {
            let answer: mysql_async::Result<Option<Row>> = conn.query_first(question).await;
            match answer {
                // An older server, or something between that knows fewer variables: nothing is killed there.
                Err(error @ mysql_async::Error::Server(_)) if !ends_connection(&error) => Ok(None),
                answer => answer,
            }
        });
        let answer = asking.await;
        let row = answer.map_err(|error| ConnectError::driver(ConnectPhase::Validate, error))?;
        Ok(row.and_then(|row| {
            let (server, host): (String, String) = (column(&row, 0)?, column(&row, 1)?);
            // Without a port it is the same for many.
            host.contains(':').then_some(Identity { server, host })
        }))
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection was not opened, and what there is of it.
pub(crate) struct NotOpened {
    pub(crate) error: ConnectError,
    session: Option<Box<Session>>,
}

impl NotOpened {
    /// Says goodbye to a server that has answered with an error of its own. Dropped midway, the socket is closed.
    pub(crate) async fn say_goodbye(self) {
        if let Some(session) = self.session {
            Severed::new(session.say_goodbye()).await;
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

fn unproved(error: ProofError) -> ConnectError {
    match error {
        ProofError::Driver(error) => ConnectError::driver(ConnectPhase::Validate, error),
        ProofError::OutOfStep => ConnectError::out_of_step(),
    }
}

fn server_info(row: &Row) -> ServerInfo {
    let told: String = column(row, 1).unwrap_or_default();
    let version = Brief(told).to_string();
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
