//! The pool's settings: where they come from, what they mean, which values can work.

use std::{
    collections::BTreeMap, env, error::Error as StdError, fmt, future::Future, pin::Pin, sync::Arc,
    time::Duration,
};

use mysql_async::{Opts, OptsBuilder, UrlError};
use url::Url;

use crate::error::{ConfigError, ConfigFault, Error};

const MAX_CONNECTIONS: usize = 100_000;
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const ONE_MS: Duration = Duration::from_millis(1);

/// The settings of a [`Pool`](crate::Pool): a server, and how to keep connections to it.
///
/// Start with [`from_url`](Self::from_url), [`from_opts`](Self::from_opts) or
/// [`from_env`](Self::from_env), then chain setters. The values are checked as
/// a whole by [`Pool::new`](crate::Pool::new), which names every fault at once;
/// none is ever changed silently. `Debug` shows no password.
///
/// ```
/// use std::time::Duration;
/// use mysql_warm_pool::PoolConfig;
///
/// let config = PoolConfig::from_url("mysql+asyncmy://app:secret@db:3306/shop?size=20&recycle=30m")?
///     .overflow(30)
///     .timeout(Duration::from_secs(60));
/// assert_eq!(config.size, 20);
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "deserialize::Settings"))]
#[non_exhaustive]
pub struct PoolConfig {
    opts: Opts,

    /// Connections the pool keeps open: from its first use on it opens them in the background, and replaces those that
    /// are lost. 1 to 100,000; default 20.
    pub size: usize,

    /// Further connections that may be opened while callers wait. Each is closed again once it has been idle
    /// for [`overflow_linger`](Self::overflow_linger). 0 to 100,000; default 30.
    ///
    /// `size + overflow` is the limit: the server never sees more connections of this pool, those being opened or closed
    /// included.
    pub overflow: usize,

    /// How long one [`get()`](crate::Pool::get) may take in all: waiting, opening and proving together.
    /// 1 ms to 365 days; default 60 s.
    pub timeout: Duration,

    /// The maximum age of a connection, after which it is replaced; `None` is never. The replacement is opened
    /// first, and no caller waits for it. Each connection's own deadline lies up to 10 % earlier, at random, so that they
    /// are not all replaced together. 1 s to 365 days; default 30 min. Keep it below the server's `wait_timeout`.
    pub recycle: Option<Duration>,

    /// How long the whole of [`warm_up()`](crate::Pool::warm_up) may take, with all its attempts.
    /// 1 ms to 365 days; default 30 s.
    pub warm_up_timeout: Duration,

    /// How many connections must be open and proved for the pool to be [`Ready`](crate::Readiness::Ready); `None` is
    /// all of [`size`](Self::size). 1 to `size`; default `None`.
    ///
    /// Below it the pool is [`Degraded`](crate::Readiness::Degraded), which still serves. Where connections are often lost
    /// and replaced, set it below `size`, so that not every lost connection shows as a change of readiness.
    pub ready_at: Option<usize>,

    /// How long one attempt to open a connection may take: asking [`credentials`](Self::credentials), TCP, TLS, login,
    /// [`init`](Self::init), [`prepare`](Self::prepare) and the proof together. Also how long one proof or one cleaning of
    /// an open connection may take. 1 ms to 365 days; default 10 s.
    pub connect_timeout: Duration,

    /// Attempts to open a connection that may be in flight at once. More makes a pool
    /// ready sooner, and loads the server more while it starts. 1 to 1,000; default 8.
    pub max_connecting: usize,

    /// A connection whose last answer is older than this is proved before it is handed out: the pool asks the server for
    /// a number and compares the answer, one round trip. 0 (always prove) to 365 days; default 1 s.
    ///
    /// A connection that died since its last answer, and is handed out within this time of it, shows that to the caller:
    /// its first statement fails. With 0 that does not happen.
    pub validate_after_idle: Duration,

    /// Idle connections are proved this often in the background, so that neither the server nor a firewall closes them
    /// for being idle; `None` is never. 10 ms to 365 days; default 30 s. Keep it below the server's `wait_timeout`.
    pub keepalive: Option<Duration>,

    /// How long a connection beyond [`size`](Self::size) may be idle before it is closed;
    /// 0 closes it when it is returned and nobody waits. 0 to 365 days; default 5 s.
    pub overflow_linger: Duration,

    /// When a returned connection's session is reset. Default [`Reset::WhenChanged`].
    pub reset: Reset,

    /// What becomes of a statement whose caller was cancelled (its future dropped) before the answer was there.
    /// Default [`OnCancel::Close`].
    pub on_cancel: OnCancel,

    /// Statements prepared on every connection before it is handed out, and again after each reset, so that executing
    /// them costs one round trip from the first time on. At most as many as the driver's `stmt_cache_size` (32 unless set),
    /// none of them empty; default none.
    ///
    /// They are kept in the driver's cache of prepared statements. If other statements fill that, the ones used least
    /// recently are prepared again when they are next executed.
    pub prepare: Vec<String>,

    /// Statements run on every new connection, and again after each reset, in the order given. One statement in each
    /// text, none of them empty; default none.
    pub init: Vec<String>,

    /// Where user and password come from, asked each time a connection is opened; `None` takes those of
    /// the URL. Default `None`.
    pub credentials: Option<CredentialsSource>,

    /// A `get()` slower than this is logged, with what its time went on; `None` is never. A warning once a second at
    /// most, the others at level debug. 1 ms to 365 days; default 1 s.
    pub slow_get: Option<Duration>,

    /// A connection that its caller holds longer than this is logged once, with the source line that got it, and again
    /// when it comes back; `None` is never. It is not taken away. Costs a timer for each `get()`.
    /// 1 ms to 365 days; default `None`.
    pub leak_after: Option<Duration>,

    /// How long [`close()`](crate::Pool::close) waits for connections in use before it cuts them off.
    /// 0 to 365 days; default 10 s.
    pub close_timeout: Duration,

    /// The pool's name in metrics and log events; `None` is `host:port/database`.
    /// Not empty; default `None`.
    pub name: Option<String>,
}

/// When a returned connection's session is reset (`COM_RESET_CONNECTION`).
///
/// A reset clears user variables, temporary tables, session variables, named locks and
/// prepared statements; the pool then brings back the database, the charset, `init` and
/// `prepare`. Open transactions are rolled back and pending rows are dealt with in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reset {
    /// Resets if a statement was sent that may have changed the session.
    ///
    /// The pool reads each statement's text for that. Lookups, writes and transactions leave nothing behind and cause no
    /// reset; `SET`, `CREATE TEMPORARY TABLE`, `GET_LOCK()` and everything the pool is not sure of do. Where it does not
    /// see the text, it takes the session for changed:
    ///
    /// - what is sent on the bare [`Conn`](mysql_async::Conn), by `DerefMut` or as a
    ///   [`ToConnection`](mysql_async::prelude::ToConnection);
    /// - what code generic over the driver's [`Queryable`](mysql_async::prelude::Queryable) executes by `exec*`;
    ///   [`Executable`](crate::Executable) is a bound that shows the text. `query*` shows it anyway.
    ///
    /// A reset does not take back a role (`SET ROLE`). Where a statement may have taken one, the pool compares the session's
    /// account and role with those it was opened with, in one round trip, and discards the connection if they differ.
    ///
    /// No text shows what a trigger, a view or a column's default does. Where yours set user variables, take locks, or call
    /// functions that set a role with the rights of their caller (`SQL SECURITY INVOKER`), use [`Always`](Self::Always).
    ///
    /// `LAST_INSERT_ID()`, `ROW_COUNT()`, `FOUND_ROWS()` and warnings do not count as changes. They tell of the
    /// statement that set them last, which may be another borrower's: read them only after one of your own.
    #[default]
    WhenChanged,
    /// Resets at every return after which something was sent, and compares account and role each time.
    Always,
    /// Never resets: what one borrower sets, the next one finds, a handler for `LOAD DATA LOCAL INFILE` included. Only
    /// for services that are sure to send nothing but lookups, writes and transactions.
    Never,
}

/// What becomes of a statement on the server whose caller was cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnCancel {
    /// The connection is closed, so that the answer reaches nobody else. The server finishes the statement, and its
    /// changes happen.
    #[default]
    Close,
    /// The statement is ended on the server by `KILL`, then the connection is closed.
    ///
    /// `KILL` names a connection by its number, and behind a proxy the same number may be another connection on another
    /// server. So the pool kills only where it is certain of both, and otherwise closes as with [`Close`](Self::Close).
    /// To be able to tell, it asks one question more, and so needs one round trip more, whenever it opens a connection.
    Kill,
}

/// A user and a password, as a [`CredentialsSource`] gives them. `Debug` shows no password.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Credentials {
    /// A user and a password.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

type CredentialsFuture =
    Pin<Box<dyn Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send>>;

/// An async source of user and password, asked at every opening of a connection.
///
/// It runs under `connect_timeout`, inside the pool's own task, so a slow source slows
/// openings, never a caller that could have another connection.
#[derive(Clone)]
pub struct CredentialsSource {
    ask: Arc<dyn Fn() -> CredentialsFuture + Send + Sync>,
}

impl CredentialsSource {
    /// A source that calls `ask` at every opening.
    pub fn new<F, Fut, E>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self {
            ask: Arc::new(move || {
                let answer = ask();
                Box::pin(async move { answer.await.map_err(Into::into) })
            }),
        }
    }

    pub(crate) fn ask(&self) -> CredentialsFuture {
        (self.ask)()
    }
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsSource").finish_non_exhaustive()
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($arg:ident: $type:ty) => $value:expr;)*) => {$(
        #[doc = concat!("Sets [`", stringify!($name), "`](field@Self::", stringify!($name), ").")]
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $arg: $type) -> Self {
            self.$name = $value;
            self
        }
    )*};
}

impl PoolConfig {
    /// Reads a URL: `mysql://user:password@host:port/database?size=20&recycle=30m`.
    ///
    /// Also takes `mariadb://` and SQLAlchemy's `mysql+asyncmy://`, `mysql+aiomysql://`,
    /// `mysql+pymysql://` and the like. The query may hold the pool's settings by the names
    /// of the fields, and the driver's ([`Opts`]); `charset=utf8mb4` is understood, since it
    /// is what the driver speaks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of the URL. None quotes the URL itself.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let config = Self::read_url("url", url, &mut faults);
        Self::unless_faulty(config, faults)
    }

    /// Takes the driver's options: [`Opts`] or an [`OptsBuilder`].
    ///
    /// Its pool options, `conn_ttl` and `prefer_socket` are not used by this pool.
    pub fn from_opts(opts: impl Into<Opts>) -> Self {
        Self {
            opts: by_host_and_port(opts.into()),
            size: 20,
            overflow: 30,
            timeout: Duration::from_secs(60),
            recycle: Some(Duration::from_secs(30 * 60)),
            warm_up_timeout: Duration::from_secs(30),
            ready_at: None,
            connect_timeout: Duration::from_secs(10),
            max_connecting: 8,
            validate_after_idle: Duration::from_secs(1),
            keepalive: Some(Duration::from_secs(30)),
            overflow_linger: Duration::from_secs(5),
            reset: Reset::default(),
            on_cancel: OnCancel::default(),
            prepare: Vec::new(),
            init: Vec::new(),
            credentials: None,
            slow_get: Some(Duration::from_secs(1)),
            leak_after: None,
            close_timeout: Duration::from_secs(10),
            name: None,
        }
    }

    /// Reads `DATABASE_URL`, and the settings that are set among `DATABASE_POOL_SIZE`,
    /// `DATABASE_MAX_OVERFLOW` (or `DATABASE_POOL_OVERFLOW`), `DATABASE_POOL_TIMEOUT`, `DATABASE_POOL_RECYCLE` (`-1` is
    /// never) and `DATABASE_POOL_<FIELD>` for every other field that fits into one value
    /// (not `prepare`, `init`, `credentials`).
    ///
    /// Durations are seconds (`1800`) or human (`30m`, `1h30m`, `500ms`). A variable wins over
    /// the same setting in the URL. An empty variable counts as not set.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of all the variables: also values out of range, a
    /// `DATABASE_POOL_` variable that is no setting, and one that is set twice.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_env_prefixed("DATABASE")
    }

    /// Like [`from_env`](Self::from_env), with another word in place of `DATABASE`:
    /// `from_env_prefixed("ORDERS")` reads `ORDERS_URL`, `ORDERS_POOL_SIZE`, ...
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of all the variables.
    pub fn from_env_prefixed(prefix: &str) -> Result<Self, Error> {
        let variables = env::vars_os().map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        });
        Self::from_variables(prefix, variables)
    }

    fn from_variables(
        prefix: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let (url_name, ours) = (format!("{prefix}_URL"), format!("{prefix}_POOL_"));
        let overflow_name = format!("{prefix}_MAX_OVERFLOW");
        let mut url = None;
        // By field, so that faults come in its order: the variable and its value.
        let mut settings = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, value) in variables.filter(|(_, value)| !value.trim().is_empty()) {
            let value = value.trim().to_owned();
            if name == url_name {
                url = Some(value);
                continue;
            }
            let field = match name.strip_prefix(&ours) {
                Some(rest) => rest.to_lowercase(),
                // SQLAlchemy's name for it.
                None if name == overflow_name => "overflow".to_owned(),
                None => continue,
            };
            let Some(place) = FIELDS.iter().position(|known| **known == field) else {
                let names: Vec<_> = FIELDS
                    .iter()
                    .map(|field| format!("{ours}{}", field.to_uppercase()))
                    .collect();
                // Not the value: who takes this for the place of a password has put one there.
                let allowed = format!("one of {}", names.join(", "));
                faults.push(fault(&name, "not understood", allowed));
                continue;
            };
            if let Some((other, _)) = settings.insert(place, (name.clone(), value.clone())) {
                faults.push(fault(&name, value, format!("one of this and {other}")));
            }
        }

        let config = match &url {
            Some(url) => Self::read_url(&url_name, url, &mut faults),
            None => {
                faults.push(fault(&url_name, "not set", URL_FORM));
                None
            }
        };
        // Without a URL the other variables are still read, so that their faults show too.
        let has_url = config.is_some();
        let mut config = config.unwrap_or_else(|| Self::from_opts(OptsBuilder::default()));
        for (place, (name, value)) in &settings {
            let field = FIELDS.get(*place).copied().unwrap_or_default();
            if let Some(Err(allowed)) = config.set(field, value) {
                faults.push(fault(name, value, allowed));
            }
        }
        // What is out of range is told by the names and values that were given.
        for found in config.faults() {
            let given = FIELDS.iter().position(|field| *field == found.field);
            faults.push(match given.and_then(|place| settings.get(&place)) {
                Some((name, value)) => fault(name, value, found.allowed),
                None => found,
            });
        }
        if has_url && faults.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::new(faults).into())
        }
    }

    setters! {
        size(connections: usize) => connections;
        overflow(connections: usize) => connections;
        timeout(duration: Duration) => duration;
        /// Takes a `Duration`, or `None` for never.
        recycle(age: impl Into<Option<Duration>>) => age.into();
        warm_up_timeout(duration: Duration) => duration;
        /// Takes a number, or `None` for `size`.
        ready_at(connections: impl Into<Option<usize>>) => connections.into();
        connect_timeout(duration: Duration) => duration;
        max_connecting(attempts: usize) => attempts;
        validate_after_idle(duration: Duration) => duration;
        /// Takes a `Duration`, or `None` for never.
        keepalive(interval: impl Into<Option<Duration>>) => interval.into();
        overflow_linger(duration: Duration) => duration;
        reset(reset: Reset) => reset;
        on_cancel(on_cancel: OnCancel) => on_cancel;
        prepare(statements: impl IntoIterator<Item = impl Into<String>>) =>
            statements.into_iter().map(Into::into).collect();
        init(statements: impl IntoIterator<Item = impl Into<String>>) =>
            statements.into_iter().map(Into::into).collect();
        /// Takes a [`CredentialsSource`], or `None` for those of the URL.
        credentials(source: impl Into<Option<CredentialsSource>>) => source.into();
        /// Takes a `Duration`, or `None` for never.
        slow_get(duration: impl Into<Option<Duration>>) => duration.into();
        /// Takes a `Duration`, or `None` for never.
        leak_after(duration: impl Into<Option<Duration>>) => duration.into();
        close_timeout(duration: Duration) => duration;
        name(name: impl Into<String>) => Some(name.into());
    }

    /// The driver's options: host, account, TLS and the like. Do not print them: their `Debug` shows the password.
    #[must_use]
    pub const fn opts(&self) -> &Opts {
        &self.opts
    }

    /// Proved connections that make the pool ready: `ready_at`, or else `size`.
    pub(crate) fn ready_threshold(&self, size: usize) -> usize {
        self.ready_at.unwrap_or(size).min(size)
    }

    pub(crate) fn display_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let (host, port) = (self.opts.ip_or_hostname(), self.opts.tcp_port());
            format!("{host}:{port}/{}", self.opts.db_name().unwrap_or_default())
        })
    }

    /// Every fault, in the order of the fields.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let faults = self.faults();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::new(faults))
        }
    }

    /// The faults of a limit, as `resize()` gets it.
    pub(crate) fn check_limit(size: usize, overflow: usize) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if !(1..=MAX_CONNECTIONS).contains(&size) {
            faults.push(fault("size", size, "1 to 100000 connections"));
        }
        if overflow > MAX_CONNECTIONS {
            faults.push(fault("overflow", overflow, "0 to 100000 connections"));
        }
        faults
    }

    fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Self::check_limit(self.size, self.overflow);
        let mut duration = |field: &str, value: Option<Duration>, least: Duration| {
            if let Some(value) = value
                && !(least..=MAX_DURATION).contains(&value)
            {
                faults.push(fault(
                    field,
                    format!("{value:?}"),
                    format!("{least:?} to 365 days"),
                ));
            }
        };
        duration("timeout", Some(self.timeout), ONE_MS);
        duration("recycle", self.recycle, Duration::from_secs(1));
        duration("warm_up_timeout", Some(self.warm_up_timeout), ONE_MS);
        duration("connect_timeout", Some(self.connect_timeout), ONE_MS);
        duration(
            "validate_after_idle",
            Some(self.validate_after_idle),
            Duration::ZERO,
        );
        duration("keepalive", self.keepalive, Duration::from_millis(10));
        duration(
            "overflow_linger",
            Some(self.overflow_linger),
            Duration::ZERO,
        );
        duration("slow_get", self.slow_get, ONE_MS);
        duration("leak_after", self.leak_after, ONE_MS);
        duration("close_timeout", Some(self.close_timeout), Duration::ZERO);

        if let Some(ready_at) = self.ready_at
            && (ready_at == 0 || ready_at > self.size && self.size > 0)
        {
            faults.push(fault(
                "ready_at",
                ready_at,
                format!("1 to size ({})", self.size),
            ));
        }
        if !(1..=1000).contains(&self.max_connecting) {
            faults.push(fault(
                "max_connecting",
                self.max_connecting,
                "1 to 1000 attempts",
            ));
        }
        for (field, statements) in [("prepare", &self.prepare), ("init", &self.init)] {
            for (i, statement) in statements.iter().enumerate() {
                if statement.trim().is_empty() {
                    let number = i.saturating_add(1);
                    faults.push(fault(
                        field,
                        format!("empty in statement {number}"),
                        "one SQL statement each",
                    ));
                }
            }
        }
        if self.prepare.len() > self.opts.stmt_cache_size() {
            faults.push(fault(
                "prepare",
                format!("{} statements", self.prepare.len()),
                format!("0 to stmt_cache_size ({})", self.opts.stmt_cache_size()),
            ));
        }
        if self
            .name
            .as_deref()
            .is_some_and(|name| name.trim().is_empty())
        {
            faults.push(fault("name", "empty", "a name"));
        }
        faults
    }

    fn unless_faulty(config: Option<Self>, mut faults: Vec<ConfigFault>) -> Result<Self, Error> {
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            config => {
                // Said together with what could be read, so that one look mends all.
                faults.extend(config.iter().flat_map(Self::faults));
                Err(ConfigError::new(faults).into())
            }
        }
    }

    fn read_url(field: &str, text: &str, faults: &mut Vec<ConfigFault>) -> Option<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            faults.push(fault(field, format!("{HIDDEN}, without ://"), URL_FORM));
            return None;
        };
        if !SCHEMES.contains(&scheme) {
            let is_word = scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '+');
            let value = if is_word {
                format!("of scheme {scheme}")
            } else {
                HIDDEN.to_owned()
            };
            faults.push(fault(field, value, URL_FORM));
            return None;
        }
        let mut url = match Url::parse(&format!("mysql://{rest}")) {
            Ok(url) if url.fragment().is_none() => url,
            Ok(_) => {
                let value = format!("{HIDDEN}, with a # (%23 where it belongs to the password)");
                faults.push(fault(field, value, URL_FORM));
                return None;
            }
            // Says what is wrong, and quotes nothing.
            Err(error) => {
                faults.push(fault(field, format!("{HIDDEN}: {error}"), URL_FORM));
                return None;
            }
        };

        let (ours, mut theirs): (Vec<_>, Vec<_>) = url
            .query_pairs()
            .into_owned()
            .partition(|(key, _)| FIELDS.contains(&key.as_str()) || key == "charset");
        let opts = loop {
            url.set_query(None);
            if !theirs.is_empty() {
                url.query_pairs_mut().extend_pairs(&theirs);
            }
            let known = theirs.len();
            let (param, allowed) = match Opts::from_url(url.as_str()) {
                Ok(opts) => break opts,
                Err(UrlError::UnknownParameter { param }) => (
                    param,
                    format!(
                        "a field of PoolConfig ({}) or an option of the driver",
                        FIELDS.join(", ")
                    ),
                ),
                Err(UrlError::InvalidParamValue { param, .. }) => {
                    (param, "what the driver takes for it".to_owned())
                }
                Err(UrlError::FeatureRequired { param, feature }) => {
                    (param, format!("a build with the feature {feature}"))
                }
                Err(_) => {
                    faults.push(fault(field, HIDDEN, URL_FORM));
                    return None;
                }
            };
            // Not the value: an option of the driver may well be a secret.
            faults.push(fault(
                &format!("{field} parameter {param}"),
                "not understood",
                allowed,
            ));
            theirs.retain(|(key, _)| *key != param);
            if theirs.len() == known {
                return None;
            }
        };

        let mut config = Self::from_opts(opts);
        for (key, value) in ours {
            let outcome = match key.as_str() {
                "charset" if matches!(value.as_str(), "utf8mb4" | "utf8") => Some(Ok(())),
                "charset" => Some(Err("utf8mb4".to_owned())),
                key => config.set(key, &value),
            };
            if let Some(Err(allowed)) = outcome {
                faults.push(fault(&key, value, allowed));
            }
        }
        Some(config)
    }

    /// Sets a field from text. `None`: there is no such field; `Err`: what is allowed.
    fn set(&mut self, field: &str, text: &str) -> Option<Result<(), String>> {
        fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
            value.map(|value| *place = value)
        }
        Some(match field {
            "size" => put(&mut self.size, count(text)),
            "overflow" => put(&mut self.overflow, count(text)),
            "timeout" => put(&mut self.timeout, duration(text)),
            "recycle" => put(&mut self.recycle, duration_or_never(text)),
            "warm_up_timeout" => put(&mut self.warm_up_timeout, duration(text)),
            "ready_at" => put(&mut self.ready_at, count(text).map(Some)),
            "connect_timeout" => put(&mut self.connect_timeout, duration(text)),
            "max_connecting" => put(&mut self.max_connecting, count(text)),
            "validate_after_idle" => put(&mut self.validate_after_idle, duration(text)),
            "keepalive" => put(&mut self.keepalive, duration_or_never(text)),
            "overflow_linger" => put(&mut self.overflow_linger, duration(text)),
            "reset" => put(
                &mut self.reset,
                choice(
                    text,
                    &[
                        ("when_changed", Reset::WhenChanged),
                        ("always", Reset::Always),
                        ("never", Reset::Never),
                    ],
                ),
            ),
            "on_cancel" => put(
                &mut self.on_cancel,
                choice(
                    text,
                    &[("close", OnCancel::Close), ("kill", OnCancel::Kill)],
                ),
            ),
            "slow_get" => put(&mut self.slow_get, duration_or_never(text)),
            "leak_after" => put(&mut self.leak_after, duration_or_never(text)),
            "close_timeout" => put(&mut self.close_timeout, duration(text)),
            "name" => put(&mut self.name, Ok(Some(text.to_owned()))),
            _ => return None,
        })
    }
}

impl fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolConfig")
            .field("host", &self.opts.ip_or_hostname())
            .field("port", &self.opts.tcp_port())
            .field("user", &self.opts.user())
            .field("database", &self.opts.db_name())
            .field("size", &self.size)
            .field("overflow", &self.overflow)
            .field("timeout", &self.timeout)
            .field("recycle", &self.recycle)
            .field("warm_up_timeout", &self.warm_up_timeout)
            .field("ready_at", &self.ready_at)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_connecting", &self.max_connecting)
            .field("validate_after_idle", &self.validate_after_idle)
            .field("keepalive", &self.keepalive)
            .field("overflow_linger", &self.overflow_linger)
            .field("reset", &self.reset)
            .field("on_cancel", &self.on_cancel)
            // Statements may hold secrets (`SET @key = '...'`), so only their number shows.
            .field(
                "prepare",
                &format_args!("{} statements", self.prepare.len()),
            )
            .field("init", &format_args!("{} statements", self.init.len()))
            .field("credentials", &self.credentials)
            .field("slow_get", &self.slow_get)
            .field("leak_after", &self.leak_after)
            .field("close_timeout", &self.close_timeout)
            .field("name", &self.display_name())
            .finish_non_exhaustive()
    }
}

const SCHEMES: &[&str] = &[
    "mysql",
    "mariadb",
    "mysql+asyncmy",
    "mysql+aiomysql",
    "mysql+pymysql",
    "mysql+mysqldb",
    "mysql+mysqlconnector",
    "mariadb+asyncmy",
    "mariadb+aiomysql",
    "mariadb+pymysql",
    "mariadb+mysqldb",
    "mariadb+mysqlconnector",
    "mariadb+mariadbconnector",
];
const URL_FORM: &str =
    "mysql://user:password@host:port/database, also mariadb:// or SQLAlchemy's mysql+driver://";
const HIDDEN: &str = "(hidden)";

/// The fields that fit into one value.
const FIELDS: &[&str] = &[
    "size",
    "overflow",
    "timeout",
    "recycle",
    "warm_up_timeout",
    "ready_at",
    "connect_timeout",
    "max_connecting",
    "validate_after_idle",
    "keepalive",
    "overflow_linger",
    "reset",
    "on_cancel",
    "slow_get",
    "leak_after",
    "close_timeout",
    "name",
];

fn fault(field: &str, value: impl fmt::Display, allowed: impl Into<String>) -> ConfigFault {
    ConfigFault {
        field: field.to_owned(),
        value: value.to_string(),
        allowed: allowed.into(),
    }
}

/// The driver resolves the host of a URL with a blocking call, but not that of a host and port.
fn by_host_and_port(opts: Opts) -> Opts {
    let host = opts.ip_or_hostname();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .map(str::to_owned);
    let builder = OptsBuilder::from_opts(opts).prefer_socket(false);
    match bare {
        Some(address) => builder.ip_or_hostname(address).into(),
        None => builder.into(),
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_not_a_number| "a whole number".to_owned())
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let word = text.to_lowercase().replace('-', "_");
    choices
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            choices
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        })
}

fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text.to_lowercase().as_str() {
        "-1" | "never" | "none" => Ok(None),
        _ => duration(text)
            .map(Some)
            .map_err(|allowed| format!("{allowed}, or -1 or never")),
    }
}

/// Seconds (`1800`), or numbers with units (`1h30m`, `500ms`).
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| "seconds (1800) or a duration (30m, 1h30m, 500ms)".to_owned())
}

fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(tail.len()),
        );
        let millis: u64 = match unit {
            "ms" => 1,
            "s" | "sec" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let number = number.parse::<u64>().ok()?;
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = tail.trim_start();
    }
    Some(sum)
}

#[cfg(feature = "serde")]
mod deserialize {
    use serde::Deserialize;

    use super::{ConfigError, Error, PoolConfig, fault};

    /// What a settings file may hold; each value as text or as a number.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Settings {
        url: String,
        size: Option<Scalar>,
        overflow: Option<Scalar>,
        timeout: Option<Scalar>,
        recycle: Option<Scalar>,
        warm_up_timeout: Option<Scalar>,
        ready_at: Option<Scalar>,
        connect_timeout: Option<Scalar>,
        max_connecting: Option<Scalar>,
        validate_after_idle: Option<Scalar>,
        keepalive: Option<Scalar>,
        overflow_linger: Option<Scalar>,
        reset: Option<Scalar>,
        on_cancel: Option<Scalar>,
        #[serde(default)]
        prepare: Vec<String>,
        #[serde(default)]
        init: Vec<String>,
        slow_get: Option<Scalar>,
        leak_after: Option<Scalar>,
        close_timeout: Option<Scalar>,
        name: Option<Scalar>,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Number(i64),
        Text(String),
    }

    impl TryFrom<Settings> for PoolConfig {
        type Error = Error;

        fn try_from(settings: Settings) -> Result<Self, Error> {
            let mut faults = Vec::new();
            let mut config = Self::read_url("url", &settings.url, &mut faults);
            let fields = [
                ("size", settings.size),
                ("overflow", settings.overflow),
                ("timeout", settings.timeout),
                ("recycle", settings.recycle),
                ("warm_up_timeout", settings.warm_up_timeout),
                ("ready_at", settings.ready_at),
                ("connect_timeout", settings.connect_timeout),
                ("max_connecting", settings.max_connecting),
                ("validate_after_idle", settings.validate_after_idle),
                ("keepalive", settings.keepalive),
                ("overflow_linger", settings.overflow_linger),
                ("reset", settings.reset),
                ("on_cancel", settings.on_cancel),
                ("slow_get", settings.slow_get),
                ("leak_after", settings.leak_after),
                ("close_timeout", settings.close_timeout),
                ("name", settings.name),
            ];
            let mut spare = Self::from_opts(mysql_async::OptsBuilder::default());
            let target = config.as_mut().unwrap_or(&mut spare);
            for (field, value) in fields {
                let text = match value {
                    Some(Scalar::Number(number)) => number.to_string(),
                    Some(Scalar::Text(text)) => text,
                    None => continue,
                };
                if let Some(Err(allowed)) = target.set(field, &text) {
                    faults.push(fault(field, text, allowed));
                }
            }
            target.prepare = settings.prepare;
            target.init = settings.init;
            match config {
                Some(config) => Self::unless_faulty(Some(config), faults),
                None => Err(ConfigError::new(faults).into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Credentials, CredentialsSource, FIELDS, PoolConfig, Reset, parse_duration};
    use crate::error::Error;

    fn fields(error: &Error) -> Vec<String> {
        match error {
            Error::Config(error) => error.faults().iter().map(|f| f.field.clone()).collect(),
            other => panic!("not a config error: {other}"),
        }
    }

    fn from_map(pairs: &[(&str, &str)]) -> Result<PoolConfig, Error> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        PoolConfig::from_variables("DATABASE", pairs)
    }

    #[test]
    fn sqlalchemys_schemes_and_ours_name_the_same_server() {
        for scheme in [
            "mysql",
            "mariadb",
            "mysql+asyncmy",
            "mysql+aiomysql",
            "mysql+pymysql",
        ] {
            let config = PoolConfig::from_url(&format!(
                "{scheme}://app:s%40cret@db:3307/shop?charset=utf8mb4"
            ))
            .unwrap_or_else(|error| panic!("{scheme}: {error}"));
            assert_eq!(config.opts().ip_or_hostname(), "db");
            assert_eq!(config.opts().tcp_port(), 3307);
            assert_eq!(config.opts().pass(), Some("s@cret"));
            assert_eq!(config.opts().db_name(), Some("shop"));
            assert!(!config.opts().prefer_socket());
        }
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let config = PoolConfig::from_url("mysql://app@[::1]:3307/shop").expect("a good URL");
        assert_eq!(config.opts().ip_or_hostname(), "::1");
    }

    #[test]
    fn settings_ride_in_the_url_beside_the_drivers() {
        let config = PoolConfig::from_url(
            "mysql://app@db/shop?size=7&stmt_cache_size=50&recycle=-1&keepalive=10s&reset=always&name=x",
        )
        .expect("a good URL");
        assert_eq!((config.size, config.recycle), (7, None));
        assert_eq!(config.opts().stmt_cache_size(), 50);
        assert_eq!(config.keepalive, Some(Duration::from_secs(10)));
        assert_eq!(config.reset, Reset::Always);
        assert_eq!(config.display_name(), "x");
    }

    #[test]
    fn sqlalchemys_environment_keeps_its_meaning() {
        let config = from_map(&[
            ("DATABASE_URL", "mysql+asyncmy://app:secret@db:3306/shop"),
            ("DATABASE_POOL_SIZE", "21"),
            ("DATABASE_MAX_OVERFLOW", "31"),
            ("DATABASE_POOL_TIMEOUT", "61"),
            ("DATABASE_POOL_RECYCLE", "1800"),
            ("DATABASE_POOL_WARM_UP_TIMEOUT", "5s"),
            ("DATABASE_POOL_READY_AT", ""),
        ])
        .expect("good settings");
        assert_eq!((config.size, config.overflow), (21, 31));
        assert_eq!(config.timeout, Duration::from_secs(61));
        assert_eq!(config.recycle, Some(Duration::from_secs(1800)));
        assert_eq!(config.warm_up_timeout, Duration::from_secs(5));
        assert_eq!(config.ready_at, None);
    }

    #[test]
    fn every_fault_is_reported_at_once_with_field_value_and_range() {
        let error = from_map(&[
            ("DATABASE_POOL_SIZE", "many"),
            ("DATABASE_POOL_TIMEOUT", "soon"),
            ("DATABASE_POOL_RESET", "sometimes"),
        ])
        .expect_err("three bad values and no URL");
        assert_eq!(
            fields(&error),
            [
                "DATABASE_URL",
                "DATABASE_POOL_SIZE",
                "DATABASE_POOL_TIMEOUT",
                "DATABASE_POOL_RESET"
            ]
        );
        let text = error.to_string();
        assert!(
            text.contains(
                "DATABASE_POOL_RESET is sometimes, allowed is when_changed, always, never"
            )
        );

        let config = PoolConfig::from_url("mysql://app@db/shop")
            .expect("a good URL")
            .size(0)
            .overflow(100_001)
            .timeout(Duration::ZERO)
            .recycle(Duration::from_millis(1))
            .ready_at(0)
            .max_connecting(0)
            .init(["  "])
            .prepare(vec!["SELECT 1"; 33])
            .name(" ");
        let error = Error::from(config.check().expect_err("nine faults"));
        assert_eq!(
            fields(&error),
            [
                "size",
                "overflow",
                "timeout",
                "recycle",
                "ready_at",
                "max_connecting",
                "init",
                "prepare",
                "name"
            ]
        );
    }

    #[test]
    fn faults_of_variables_are_told_by_their_own_names_and_values() {
        let error = from_map(&[
            ("DATABASE_URL", "postgres://app:secret@db/shop"),
            ("DATABASE_POOL_SIZE", "0"),
            ("DATABASE_POOL_READY_AT", "30"),
            ("DATABASE_POOL_TIMEOUT", "0s"),
            ("DATABASE_POOL_PASSWORD", "s3cret"),
            ("DATABASE_MAX_OVERFLOW", "3"),
            ("DATABASE_POOL_OVERFLOW", "4"),
            ("OTHER_POOL_SIZE", "x"),
        ])
        .expect_err("five faults");
        let names = fields(&error);
        assert_eq!(
            names,
            [
                "DATABASE_POOL_PASSWORD",
                "DATABASE_POOL_OVERFLOW",
                "DATABASE_URL",
                "DATABASE_POOL_SIZE",
                "DATABASE_POOL_TIMEOUT"
            ]
        );
        let text = error.to_string();
        assert!(
            text.contains("DATABASE_POOL_TIMEOUT is 0s, allowed is 1ms to 365 days"),
            "{text}"
        );
        assert!(
            text.contains("DATABASE_POOL_SIZE is 0, allowed is 1 to"),
            "{text}"
        );
        assert!(
            text.contains("DATABASE_POOL_PASSWORD is not understood") && !text.contains("s3cret"),
            "{text}"
        );
    }

    #[test]
    fn faults_of_a_url_are_all_named_and_never_quote_it() {
        let error = PoolConfig::from_url(
            "mysql://app:secret@db/shop?size=x&colour=red&shape=round&timeout=y",
        )
        .expect_err("four faults");
        assert_eq!(
            fields(&error),
            [
                "url parameter colour",
                "url parameter shape",
                "size",
                "timeout"
            ]
        );
        for url in [
            "app:secret@db",
            "postgres://app:secret@db/shop",
            "mysql://app:secret@db:port/shop",
        ] {
            let error = PoolConfig::from_url(url).expect_err(url);
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn no_debug_text_holds_a_password() {
        let config = PoolConfig::from_url("mysql://app:secret@db/shop")
            .expect("a good URL")
            .init(["SET @key = 'secret'"])
            .credentials(CredentialsSource::new(|| async {
                Ok::<_, std::io::Error>(Credentials::new("app", "secret"))
            }));
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        assert!(!format!("{config:#?}").contains("secret"));
        assert!(!format!("{:?}", Credentials::new("app", "secret")).contains("secret"));
    }

    #[test]
    fn the_fields_that_fit_into_a_value_can_all_be_set() {
        let mut config = PoolConfig::from_url("mysql://app@db/shop").expect("a good URL");
        for field in FIELDS {
            assert!(config.set(field, "?").is_some(), "{field}");
        }
        assert!(config.set("colour", "?").is_none());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_settings_file_takes_human_durations_and_whole_seconds() {
        let config: PoolConfig = serde_json::from_str(
            r#"{"url": "mysql://app:secret@db/shop", "size": 5, "recycle": "30m", "timeout": 60, "keepalive": "never", "init": ["SET sql_mode = ''"]}"#,
        )
        .expect("good settings");
        assert_eq!((config.size, config.timeout), (5, Duration::from_secs(60)));
        assert_eq!(
            (config.recycle, config.keepalive),
            (Some(Duration::from_secs(1800)), None)
        );
        assert_eq!(config.init.len(), 1);

        let error = serde_json::from_str::<PoolConfig>(
            r#"{"url": "mysql://app:secret@db/shop", "size": "x", "recycle": "y"}"#,
        )
        .expect_err("two faults")
        .to_string();
        for part in ["size is x", "recycle is y"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn durations_read_back_what_they_say(h in 0u64..1000, m in 0u64..60, ms in 0u64..1000) {
            let text = format!("{h}h{m}m{ms}ms");
            let millis = (h * 60 + m) * 60_000 + ms;
            prop_assert_eq!(parse_duration(&text), Some(Duration::from_millis(millis)));
        }

        #[test]
        fn no_url_and_no_value_panics(url in ".{0,60}", value in ".{0,20}") {
            let _outcome = PoolConfig::from_url(&url);
            let _outcome = PoolConfig::from_url(&format!("mysql://a:b@c/d?size={url}&{value}"));
            let _outcome = parse_duration(&value);
        }
    }
}
