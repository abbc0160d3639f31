//! The pool's settings: what they mean, which values are allowed, and where they come from.

// `table` has a row for each setting. `url`, `env` and `file` collect what a source gives, as
// text, in `given`, which reads it through the table; `parts` and `tls` turn the rest into the
// driver's options, and `spellings` knows the parameters of other tools. A new setting needs a
// row, a field of `PoolConfig`, a default in `PoolConfig::from_opts` and a setter.

mod credentials;
pub(crate) mod env;
#[cfg(feature = "serde")]
mod file;
mod given;
mod on_connect;
mod parts;
pub(crate) mod password_file;
#[cfg(test)]
mod secrecy_tests;
pub(crate) mod similar;
mod spellings;
mod table;
pub(crate) mod tls;
pub(crate) mod tls_files;
mod url;

use std::{fmt, future::Future, path::PathBuf, pin::Pin, time::Duration};

use mysql_async::{Conn, Opts, OptsBuilder};

use self::table::SETTINGS;
pub(crate) use self::table::{duration, duration_or_never};
pub use self::{
    credentials::{Credentials, CredentialsSource},
    on_connect::OnConnect,
};
use crate::error::{ConfigError, ConfigFault};

/// The settings of a [`Pool`](crate::Pool): a server, and how to keep connections to it.
///
/// Start with [`from_url`](Self::from_url), [`from_opts`](Self::from_opts) or
/// [`from_env`](Self::from_env), then chain setters: each field has one of the same name. With the
/// feature `serde` it implements `Deserialize`. [`Pool::new`](crate::Pool::new) checks all values
/// together, and its error names every fault. No value is ever changed silently. `Debug` shows no
/// password.
///
/// Most services set [`size`](field@Self::size), [`overflow`](field@Self::overflow) and
/// [`timeout`](field@Self::timeout), for which the guide to [sizing](crate::guide::sizing) has the
/// arithmetic, and [`statement_timeout`](field@Self::statement_timeout), which is off by default.
///
/// ```
/// use std::time::Duration;
/// use mysql_warm_pool::PoolConfig;
///
/// let url = "mysql+asyncmy://app:secret@db:3306/shop?size=20&recycle=30m";
/// let config = PoolConfig::from_url(url)?
///     .overflow(30)
///     .timeout(Duration::from_secs(60));
/// assert_eq!(config.size, 20);
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct PoolConfig {
    opts: Opts,

    /// The number of connections the pool keeps open. From its first use on it opens them in the
    /// background, and replaces those that are lost.
    ///
    /// 0 to 100,000, and at least 1 if [`overflow`](Self::overflow) is 0; default 20.
    ///
    /// With 0 no connection is kept, so that a serverless database can sleep.
    /// [`warm_up()`](crate::Pool::warm_up) opens one to validate the settings, which is closed
    /// after [`overflow_linger`](Self::overflow_linger) like any other. While nobody uses the pool,
    /// it sends the server nothing. Readiness follows the last attempt to open a connection: the
    /// pool is [`Ready`](crate::Readiness::Ready) after a success; after a failure it tries again,
    /// with back-off, until an attempt succeeds.
    pub size: usize,

    /// The number of further connections the pool may open while callers wait. Each is closed
    /// after it has been idle for [`overflow_linger`](Self::overflow_linger).
    ///
    /// 0 to 100,000; default 30.
    ///
    /// `size + overflow` is the limit. The server never sees more connections of this pool; those
    /// being opened or closed count. [`warm_up()`](crate::Pool::warm_up) warns if the server allows
    /// fewer. [`resize()`](crate::Pool::resize) changes both while the pool is in use.
    pub overflow: usize,

    /// The longest that one [`get()`](crate::Pool::get) may take, including waiting, opening and
    /// validating.
    ///
    /// 1 ms to 365 days; default 60 s. Keep it below the timeout of the service's own callers.
    ///
    /// When it expires, the call fails with [`Error::Timeout`](crate::Error::Timeout), which names
    /// the cause. A connection being opened for the call is still opened, within
    /// [`connect_timeout`](Self::connect_timeout), and serves the next caller. To set another
    /// timeout for a single call, use [`get_within()`](crate::Pool::get_within). The timeout does
    /// not limit statements: see [`statement_timeout`](Self::statement_timeout).
    pub timeout: Duration,

    /// The maximum age of a connection, after which the pool replaces it. `None` means never.
    ///
    /// 1 s to 365 days; default 30 min. Keep it below the server's `wait_timeout`;
    /// [`warm_up()`](crate::Pool::warm_up) warns if it is not.
    ///
    /// The pool opens the replacement first, and no caller waits for it. A connection in use is
    /// replaced when it is returned. Each connection's own deadline is up to 10 % earlier, at
    /// random, so that they are not all replaced together.
    pub recycle: Option<Duration>,

    /// The longest that [`warm_up()`](crate::Pool::warm_up) may take, including every retry.
    ///
    /// 1 ms to 365 days; default 30 s.
    ///
    /// If [`ready_at`](Self::ready_at) connections are open by then, the warm-up has succeeded,
    /// otherwise it fails with [`Error::WarmUp`](crate::Error::WarmUp). Either way the pool goes on
    /// opening the rest. Counted from the pool's first use, it also ends the state
    /// [`Warming`](crate::Readiness::Warming).
    pub warm_up_timeout: Duration,

    /// The number of validated connections that make the pool
    /// [`Ready`](crate::Readiness::Ready). `None` means all of [`size`](Self::size).
    ///
    /// 1 to `size`; default `None`. If `size` is 0, `None` is the only value. After a
    /// [`resize()`](crate::Pool::resize) to a `size` below it, that `size` counts.
    ///
    /// With fewer connections the pool is [`Degraded`](crate::Readiness::Degraded), and still
    /// serves. Set it below `size` if connections are often lost and replaced, so that not every
    /// loss changes the readiness.
    pub ready_at: Option<usize>,

    /// The longest that one attempt to open a connection may take, including
    /// [`credentials`](Self::credentials), TCP, TLS, login, [`init`](Self::init),
    /// [`prepare`](Self::prepare) and validation.
    ///
    /// 1 ms to 365 days; default 10 s.
    ///
    /// An attempt that takes longer has failed, and its connection is closed, unless the server has
    /// accepted the connection and not finished the login. A frozen server counts each login that
    /// is given up, and refuses this host after `max_connect_errors` of them. So such a login goes
    /// on beside later attempts, counts towards the limit, and is used if it succeeds after all.
    /// Only if such logins take up the whole limit is one given up for another attempt: after
    /// `connect_timeout`, and then after pauses that double, up to 5 minutes.
    ///
    /// If the host's name has several addresses, each has 300 ms to accept the connection, and
    /// three times as long in each further round. The one that accepts it has the rest of the time.
    /// Addresses that failed in the last minute are tried last.
    ///
    /// Each validation and each cleaning of an open connection has the same limit. It ends earlier
    /// if the connection is certainly dead, or if callers wait and the limit allows no other.
    pub connect_timeout: Duration,

    /// The number of attempts to open a connection that may run at once. More make a pool ready
    /// sooner, but load a server that is starting.
    ///
    /// 1 to 1,000; default 8.
    ///
    /// After an attempt has failed there is only one at a time, with growing pauses in between,
    /// until one succeeds.
    pub max_connecting: usize,

    /// How long after its last answer a connection may be handed out without validation. After
    /// that the pool first asks the server for a number and compares the answer, which takes one
    /// round trip.
    ///
    /// 0 (always validate) to 365 days; default 1 s.
    ///
    /// If a connection dies and is handed out within this time, its caller's first statement fails.
    /// With 0 that happens only if it dies after it was validated. After one connection was found
    /// dead, the others are validated even within this time.
    pub validate_after_idle: Duration,

    /// How often the pool validates idle connections in the background, so that neither the server
    /// nor a firewall closes them for being idle. `None` means never.
    ///
    /// 10 ms to 365 days; default 30 s. Keep it below the server's `wait_timeout`
    /// ([`warm_up()`](crate::Pool::warm_up) warns if it is not), and below the idle timeout of
    /// every proxy, load balancer and firewall in between.
    ///
    /// Each validation is one round trip. It counts as an answer for
    /// [`validate_after_idle`](Self::validate_after_idle).
    pub keepalive: Option<Duration>,

    /// How long a connection beyond [`size`](Self::size) may be idle before it is closed. With 0
    /// it is closed when it is returned, unless a caller waits.
    ///
    /// 0 to 365 days; default 5 s. Longer spares the next burst the time to open connections again;
    /// shorter frees them for other clients of the server sooner.
    pub overflow_linger: Duration,

    /// When the pool resets the session of a returned connection.
    ///
    /// `when_changed`, `always` or `never` in a URL, a variable or a file; default
    /// [`Reset::WhenChanged`]. With [`on_connect`](Self::on_connect), or an [`init`](Self::init)
    /// that does more than set variables, every change causes a reset and none is undone.
    pub reset: Reset,

    /// What happens on the server to a statement whose caller is cancelled (its future dropped)
    /// before the answer arrives.
    ///
    /// `close` or `kill` in a URL, a variable or a file; default [`OnCancel::Close`]. It also
    /// decides on a statement that [`statement_timeout`](Self::statement_timeout) has ended.
    pub on_cancel: OnCancel,

    /// The longest that a statement may be under way: from when it is sent until its answer begins,
    /// and again for each time its caller waits for more of the answer. A longer one is ended: its
    /// caller gets [`Error::StatementTimeout`](crate::Error::StatementTimeout) (from methods that
    /// return the driver's error, inside a [`mysql_async::Error::Other`]), and the connection is
    /// discarded. `None` means no limit.
    ///
    /// 1 ms to 365 days; default `None`.
    ///
    /// Maintenance enforces the limit, so it makes no statement slower. A statement is ended
    /// between this time and a tenth more (at least 10 ms more, at most 1 s more). With
    /// [`OnCancel::Kill`] it is also killed on the server; otherwise it goes on there, and may
    /// still change data, until the server's own limits (`max_execution_time`,
    /// `max_statement_time`) end it. The limit holds for `commit` too, which then returns
    /// [`Error::CommitUnknown`](crate::Error::CommitUnknown), and for `rollback`. It does not hold
    /// for what is sent on the bare [`Conn`].
    ///
    /// Without it, a statement whose connection the network has silently dropped waits until the
    /// kernel gives the connection up: about 15 minutes if the statement was not acknowledged, and
    /// otherwise for ever, unless the driver's `tcp_keepalive` is set.
    pub statement_timeout: Option<Duration>,

    /// Statements to prepare on every connection before it is handed out, and again after each
    /// reset, so that even the first execution takes one round trip.
    ///
    /// None of them empty, and at most as many as the driver's `stmt_cache_size` (32 unless set);
    /// default none.
    ///
    /// They are kept in the driver's cache of prepared statements. If other statements fill that
    /// cache, those least recently used are evicted, and prepared again when next executed. A list
    /// as long as the cache leaves no place for others:
    /// [`warm_up()`](crate::Pool::warm_up) warns of that.
    pub prepare: Vec<String>,

    /// Statements to run on every new connection, and again after each reset, in this order.
    ///
    /// One statement in each text, none of them empty; default none. They count towards
    /// [`connect_timeout`](Self::connect_timeout).
    ///
    /// ```
    /// use mysql_warm_pool::PoolConfig;
    ///
    /// let config = PoolConfig::from_url("mysql://app:secret@db/shop")?
    ///     .init(["SET time_zone = '+00:00'", "SET lock_wait_timeout = 10"])
    ///     .prepare(["SELECT name FROM item WHERE id = ?"]);
    /// assert_eq!(config.init.len(), 2);
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    ///
    /// If the server refuses one of them, the attempt to open a connection fails in the phase
    /// [`Init`](crate::error::ConnectPhase::Init), which gives the statement's number.
    ///
    /// A transaction that they leave open is rolled back before the connection is handed out. Locks
    /// of other kinds (`LOCK TABLES`, `GET_LOCK()`) are kept, and then every connection holds them.
    ///
    /// If they do more than set variables that can be undone (see [`Reset::WhenChanged`]), every
    /// change that a caller makes to its session causes a reset when the connection is returned.
    pub init: Vec<String>,

    /// An async hook that runs on every new connection after [`init`](Self::init), and again after
    /// each reset. `None` means none.
    ///
    /// For what fixed statements cannot do, such as values that are known only at run time:
    /// variables that row-level security reads, roles, attributes of the client.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{PoolConfig, mysql_async::prelude::*};
    ///
    /// # fn run(tenant: String) -> Result<(), mysql_warm_pool::Error> {
    /// let config = PoolConfig::from_url("mysql://app:secret@db/shop")?.on_connect(move |conn| {
    ///     let tenant = tenant.clone();
    ///     Box::pin(async move {
    ///         // Row-level security: the views filter by it. A caller who changes it changes it
    ///         // for itself only.
    ///         conn.exec_drop("SET @tenant = ?", (tenant,)).await?;
    ///         // A role that every caller has.
    ///         conn.query_drop("SET ROLE reporting").await?;
    ///         // An attribute that triggers record.
    ///         let host = std::env::var("HOSTNAME").unwrap_or_default();
    ///         conn.exec_drop("SET @service = ?", (format!("shop@{host}"),)).await
    ///     })
    /// });
    /// # drop(config);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// With this hook, every change that a caller makes to its session causes a reset at the
    /// return, because the pool does not know what the hook sets. So a variable that differs for
    /// each request (`SET @tenant = ?` after each [`get`](crate::Pool::get)) costs a reset each
    /// time. With `SET` statements in [`init`](Self::init) instead, it is undone in one round trip.
    ///
    /// Default `None`. It counts towards [`connect_timeout`](Self::connect_timeout).
    ///
    /// If it returns an error or panics, the connection is closed, and the attempt to open one has
    /// failed in the phase [`OnConnect`](crate::error::ConnectPhase::OnConnect). After the hook the
    /// pool validates the connection, drains pending rows and rolls back a transaction that is
    /// still open, so nothing that the hook began reaches a caller.
    pub on_connect: Option<OnConnect>,

    /// The source of user and password, asked each time a connection is opened, before it connects.
    /// `None` means those of the URL.
    ///
    /// Default `None`. Not together with [`password_file`](Self::password_file). It counts towards
    /// [`connect_timeout`](Self::connect_timeout).
    ///
    /// An error or a panic of the source is transient, and the attempt is repeated with back-off.
    /// Open connections stay open when a token or password expires. See [`CredentialsSource`] for
    /// how to cache a token.
    pub credentials: Option<CredentialsSource>,

    /// A file with the password, read each time a connection is opened, so that a changed password
    /// is followed without a restart. `None` means the password of the URL.
    ///
    /// Default `None`. A file, not a folder or a pipe, with at most 64 KiB of UTF-8. Line breaks at
    /// its end do not belong to the password. Not together with [`credentials`](Self::credentials).
    ///
    /// [`Pool::new`](crate::Pool::new) does not read it. If it cannot be read, or is empty, the
    /// attempt to open a connection has failed in the phase
    /// [`Credentials`](crate::error::ConnectPhase::Credentials). The error is
    /// [transient](crate::error::ConnectError::is_transient), because the file may be about to be
    /// replaced. Open connections stay open; [`refresh()`](crate::Pool::refresh) replaces them at
    /// once, [`recycle`](Self::recycle) in time.
    pub password_file: Option<PathBuf>,

    /// The pool logs each `get()` that takes longer than this, with what it spent its time on.
    /// `None` means never.
    ///
    /// 1 ms to 365 days; default 1 s.
    ///
    /// At most one a second is logged at WARN; the others are logged at DEBUG.
    pub slow_get: Option<Duration>,

    /// The pool logs each statement that takes longer than this, with its text, in which each
    /// literal is replaced by `?`. `None` means never.
    ///
    /// 1 ms to 365 days; default 1 s.
    ///
    /// The event says how long the server took until its answer began, how long reading the answer
    /// took, how many rows the caller got, and where it got its connection. Of each text at most
    /// one a second is logged at WARN, the others at DEBUG.
    ///
    /// [`query_time`](field@crate::metrics::PoolMetrics::query_time) documents which statements are
    /// timed. Unlike there, a slow statement that is cancelled counts too. The guide to
    /// [observability](crate::guide::observability#statements) says what is shown of the text.
    pub slow_query: Option<Duration>,

    /// The pool logs each connection that a caller holds longer than this, with the source line
    /// that got it. `None` means never.
    ///
    /// 1 ms to 365 days; default `None`.
    ///
    /// Such a connection is logged once, and again when it is returned. It is not taken away from
    /// its caller. If this is set, each `get()` also records its source line, which
    /// [`Error::Timeout`](crate::Error::Timeout) then names; and each return reads the clock, which
    /// records [`use_time`](field@crate::metrics::PoolMetrics::use_time) without the feature
    /// `metrics` too.
    pub leak_after: Option<Duration>,

    /// How long [`close()`](crate::Pool::close) waits for connections in use before it cuts them
    /// off.
    ///
    /// 0 to 365 days; default 10 s. Keep it below the platform's grace period between the stop
    /// signal and the kill (30 s in Kubernetes).
    pub close_timeout: Duration,

    /// The pool's name in metrics and log events. `None` means `host:port/database`.
    ///
    /// Not empty; default `None`. Give two pools of the same database different names, because
    /// metrics of the same name add up.
    pub name: Option<String>,
}

/// When the pool resets the session of a returned connection (`COM_RESET_CONNECTION`).
///
/// A reset clears user variables, temporary tables, session variables, named locks and prepared
/// statements. The pool then restores the database and the charset, and runs the server's
/// `init_connect` (unless the account is exempt), `init` and `on_connect`. Then it prepares the
/// statements of `prepare`. In every mode it rolls back open transactions and drains pending rows.
///
/// A reset does not clear a role (`SET ROLE`). In every mode, if a statement may have set one, the
/// pool compares the session's account and role with those it was opened with, in one round trip,
/// and discards the connection if they differ. Nor does it clear these, so a connection is
/// discarded in every mode after a statement whose text sets one of them:
///
/// - an XA transaction: on MariaDB a prepared one stays with the connection, which then refuses all
///   changes of rows;
/// - `SET profiling`: MariaDB goes on showing the statements (`SHOW PROFILES`);
/// - `SET optimizer_trace`: MySQL goes on showing the last statement and its trace;
/// - MySQL's `SET RESOURCE GROUP`, and an `UPDATE` of `performance_schema`, which may turn off the
///   instruments of its own connection.
///
/// If the pool did not see the text, or a procedure or function may have set one of the first
/// three, it asks the server, in the round trip that compares the role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reset {
    /// Resets the session if a statement may have changed it, unless all changes can be undone.
    ///
    /// To decide, the pool reads the text of each statement. Reads, writes and transactions leave
    /// nothing behind and cause no reset. If the pool knows all that a caller changed, it undoes
    /// just that, in one round trip, and the session keeps its prepared statements. It can undo
    ///
    /// - user variables, the charset and the isolation level;
    /// - the usual session variables, such as `sql_mode`, `time_zone`, `wait_timeout`,
    ///   `foreign_key_checks` and `group_concat_max_len`, which get their global values;
    /// - locks taken by `GET_LOCK()`, and temporary tables created by name.
    ///
    /// What [`init`](crate::PoolConfig::init) sets is undone as well, and `init` runs again.
    ///
    /// Any other change causes a reset, and so does every change in a pool with
    /// [`on_connect`](crate::PoolConfig::on_connect), with the driver's `after_connect`, or with an
    /// `init` that does more than set such variables. The
    /// [limits](crate::guide::limits#session-state) list all causes, the variables that can be
    /// undone, and what an undo leaves behind. Statements whose text the pool does not see also
    /// cause a reset:
    ///
    /// - those sent on the bare [`Conn`], through `DerefMut` or as a
    ///   [`ToConnection`](mysql_async::prelude::ToConnection);
    /// - those that code generic over the driver's [`Queryable`](mysql_async::prelude::Queryable)
    ///   executes with `exec*`. With the bound [`Executable`](crate::statement::Executable)
    ///   instead, the pool sees the text. It always sees the text of `query*`.
    ///
    /// The text does not show what a trigger, a view or a column's default does. Use
    /// [`Always`](Self::Always) if yours set user variables, take locks, or call functions that
    /// set a role with the rights of their caller (`SQL SECURITY INVOKER`).
    ///
    /// `LAST_INSERT_ID()`, `ROW_COUNT()`, `FOUND_ROWS()` and warnings do not count as changes. They
    /// belong to the last statement that set them, which may be another caller's. Read them only
    /// after your own statement.
    #[default]
    WhenChanged,
    /// Resets the session at every return of a connection on which something was sent, and compares
    /// account and role each time.
    Always,
    /// Never resets the session. What one caller sets, the next one finds, including a handler for
    /// `LOAD DATA LOCAL INFILE`.
    ///
    /// Only for services that send nothing but reads, writes and transactions. Account and role
    /// are compared as with [`WhenChanged`](Self::WhenChanged).
    Never,
}

/// What happens on the server to a statement whose caller is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnCancel {
    /// Closes the connection, so that no other caller can read the answer. The server finishes
    /// the statement, and its changes happen.
    #[default]
    Close,
    /// Ends the statement with `KILL`, then closes the connection.
    ///
    /// For services whose callers give up on long statements, which would otherwise keep loading
    /// the server.
    ///
    /// `KILL` names a connection by its number. Behind a proxy the same number may belong to
    /// another connection on another server, so the pool kills only if it is certain of both, and
    /// otherwise closes as with [`Close`](Self::Close). To be certain it sends one more query, and
    /// so needs one more round trip, for each connection it opens.
    Kill,
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
    /// Creates a config from the driver's options ([`Opts`] or an [`OptsBuilder`]), with the
    /// default of every setting.
    ///
    /// ```
    /// use mysql_warm_pool::{PoolConfig, mysql_async::OptsBuilder};
    ///
    /// let opts = OptsBuilder::default().ip_or_hostname("db").user(Some("app"));
    /// let config = PoolConfig::from_opts(opts).size(10);
    /// assert_eq!((config.size, config.overflow), (10, 30));
    /// ```
    ///
    /// The pool itself runs the driver's `after_connect`, `init` and `setup`: all three, in this
    /// order, before [`init`](Self::init) and [`on_connect`](Self::on_connect), on every new
    /// connection and again after each reset. The statements of a list run in the order given,
    /// which the driver alone would reverse.
    ///
    /// The pool ignores the driver's `PoolOpts`, `conn_ttl` and `prefer_socket`.
    pub fn from_opts(opts: impl Into<Opts>) -> Self {
        Self {
            opts: url::by_host_and_port(opts.into()),
            size: DEFAULT_SIZE,
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
            statement_timeout: None,
            prepare: Vec::new(),
            init: Vec::new(),
            on_connect: None,
            credentials: None,
            password_file: None,
            slow_get: Some(Duration::from_secs(1)),
            slow_query: Some(Duration::from_secs(1)),
            leak_after: None,
            close_timeout: Duration::from_secs(10),
            name: None,
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
        /// Takes a `Duration`, or `None` for no limit.
        statement_timeout(duration: impl Into<Option<Duration>>) => duration.into();
        prepare(statements: impl IntoIterator<Item = impl Into<String>>) =>
            statements.into_iter().map(Into::into).collect();
        init(statements: impl IntoIterator<Item = impl Into<String>>) =>
            statements.into_iter().map(Into::into).collect();
        /// Takes a [`CredentialsSource`], or `None` for those of the URL.
        credentials(source: impl Into<Option<CredentialsSource>>) => source.into();
        password_file(path: impl Into<PathBuf>) => Some(path.into());
        /// Takes a `Duration`, or `None` for never.
        slow_get(duration: impl Into<Option<Duration>>) => duration.into();
        /// Takes a `Duration`, or `None` for never.
        slow_query(duration: impl Into<Option<Duration>>) => duration.into();
        /// Takes a `Duration`, or `None` for never.
        leak_after(duration: impl Into<Option<Duration>>) => duration.into();
        close_timeout(duration: Duration) => duration;
        name(name: impl Into<String>) => Some(name.into());
    }

    /// Sets [`on_connect`](field@Self::on_connect) to a closure or function.
    ///
    /// ```
    /// use mysql_warm_pool::{PoolConfig, mysql_async::prelude::*};
    ///
    /// let config = PoolConfig::from_url("mysql://app:secret@db/shop")?.on_connect(|conn| {
    ///     Box::pin(async move {
    ///         let zones: Option<u64> = conn.query_first("SELECT COUNT(*) FROM zone").await?;
    ///         conn.exec_drop("SET @zones = ?", (zones,)).await
    ///     })
    /// });
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    #[must_use]
    pub fn on_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(
                &'a mut Conn,
            )
                -> Pin<Box<dyn Future<Output = mysql_async::Result<()>> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        self.on_connect = Some(OnConnect::new(hook));
        self
    }

    /// Changes the driver's options, and no other setting.
    ///
    /// For options that a URL does not have, such as certificates in memory, and for a user and
    /// password that need no encoding:
    ///
    /// ```
    /// use mysql_warm_pool::PoolConfig;
    ///
    /// let config = PoolConfig::from_url("mysql://db:3306/shop?size=5")?
    ///     .map_opts(|opts| opts.user(Some("app")).pass(Some("12/s3cret?")).stmt_cache_size(100));
    /// assert_eq!(config.size, 5);
    /// assert_eq!(config.opts().pass(), Some("12/s3cret?"));
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    ///
    /// [`credentials`](field@Self::credentials) and [`password_file`](field@Self::password_file)
    /// win over the options' user and password. `init`, `setup` and `after_connect` of the options
    /// run as with [`from_opts`](Self::from_opts).
    #[must_use]
    pub fn map_opts(mut self, change: impl FnOnce(OptsBuilder) -> OptsBuilder) -> Self {
        self.opts = url::by_host_and_port(change(OptsBuilder::from_opts(self.opts)).into());
        self
    }

    /// Returns the driver's options: host, account, TLS and so on. Do not print them: their `Debug`
    /// shows the password.
    #[must_use]
    pub const fn opts(&self) -> &Opts {
        &self.opts
    }

    /// The number of validated connections that make the pool ready: `ready_at` if it is set, but
    /// at most as many as the pool keeps now.
    pub(crate) fn ready_threshold(&self, kept: usize) -> usize {
        self.ready_at.unwrap_or(kept).min(kept)
    }

    /// The driver's `after_connect`, which the pool runs itself.
    pub(crate) fn driver_hook(&self) -> Option<OnConnect> {
        OnConnect::of_driver(&self.opts)
    }

    pub(crate) fn display_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let (host, port) = (self.opts.ip_or_hostname(), self.opts.tcp_port());
            format!(
                "{host}:{port}/{}",
                self.shown_database().unwrap_or_default()
            )
        })
    }

    /// The database's name, unless it may hold a part of a password: in a URL whose password has an
    /// unencoded `/`, the driver takes all that follows for the name.
    fn shown_database(&self) -> Option<&str> {
        let name = self.opts.db_name()?;
        Some(if name.contains('@') { HIDDEN } else { name })
    }

    /// Checks all values. The error has every fault, in the order of the fields, and then those of
    /// the driver's options.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let mut faults = self.faults();
        faults.extend(tls::faults(&self.opts));
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::new(faults))
        }
    }

    /// Checks the values given to `resize()`.
    pub(crate) fn check_limit(size: usize, overflow: usize) -> Vec<ConfigFault> {
        // The other settings have their defaults, which have no faults.
        let config = Self::from_opts(OptsBuilder::default());
        config.size(size).overflow(overflow).faults()
    }

    fn faults(&self) -> Vec<ConfigFault> {
        let faults = SETTINGS.iter().flat_map(|setting| setting.faults(self));
        faults.collect()
    }
}

impl fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PoolConfig");
        debug
            .field("host", &self.opts.ip_or_hostname())
            .field("port", &self.opts.tcp_port())
            .field("user", &self.opts.user())
            .field("database", &self.shown_database());
        for setting in SETTINGS {
            debug.field(setting.name, &format_args!("{}", setting.show(self)));
        }
        debug
            .field("on_connect", &self.on_connect)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

const DEFAULT_SIZE: usize = 20;

/// The settings of a `ClusterConfig` that a URL may hold too.
pub(crate) const CLUSTER_SETTINGS: [&str; 4] = ["check_every", "max_lag", "reads", "discover"];

/// Stands for a value that may hold a password.
const HIDDEN: &str = "(hidden)";

pub(crate) fn fault(
    field: &str,
    value: impl fmt::Display,
    allowed: impl Into<String>,
) -> ConfigFault {
    let value = value.to_string();
    ConfigFault {
        field: field.to_owned(),
        value: if value.is_empty() {
            "empty".to_owned()
        } else {
            value
        },
        allowed: allowed.into(),
        is_conflict: false,
    }
}

/// The fault of a setting that cannot be given beside `other`.
fn conflict(field: &str, value: impl fmt::Display, other: &str) -> ConfigFault {
    ConfigFault {
        is_conflict: true,
        ..fault(field, value, format!("only one of {field} and {other}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mysql_async::prelude::Queryable;

    use super::{Credentials, CredentialsSource, PoolConfig};
    use crate::error::Error;

    /// The fields that an error names.
    pub(super) fn fields(error: &Error) -> Vec<String> {
        match error {
            Error::Config(error) => error.faults().iter().map(|f| f.field.clone()).collect(),
            other => panic!("not a config error: {other}"),
        }
    }

    #[test]
    fn debug_shows_every_setting_but_no_secret() {
        let config = PoolConfig::from_url("mysql://app:secret@db/shop")
            .expect("a good URL")
            .init(["SET @key = 'secret'"])
            .prepare(["SELECT 'secret'"])
            .on_connect(|conn| Box::pin(async move { conn.query_drop("SET @a = 'secret'").await }))
            .credentials(CredentialsSource::new(|| async {
                Ok::<_, std::io::Error>(Credentials::new("app", "secret"))
            }));
        let text = format!("{config:?}");
        for part in [
            r#"host: "db""#,
            "size: 20",
            "recycle: Some(1800s)",
            "init: 1 statements",
            "name: None",
            "on_connect: Some",
            "credentials: Some",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
        assert!(!format!("{config:#?}").contains("secret"));
    }

    #[test]
    fn map_opts_changes_the_drivers_options_and_nothing_else() {
        let config = PoolConfig::from_url(
            "mysql://app:secret@[::1]:3307/shop?size=1&overflow=2&timeout=3&recycle=4\
             &warm_up_timeout=5&ready_at=1&connect_timeout=6&max_connecting=7\
             &validate_after_idle=8&keepalive=9&overflow_linger=10&reset=always&on_cancel=kill\
             &statement_timeout=11&password_file=/p&slow_get=12&slow_query=15&leak_after=13&close_timeout=14\
             &name=orders&tcp_keepalive=1000&ssl-mode=REQUIRED",
        )
        .expect("a good URL")
        .init(["SET @a = 1"])
        .prepare(["SELECT 1"])
        .on_connect(|_conn| Box::pin(async { Ok(()) }));
        let before = format!("{config:?}");
        let config = config.map_opts(|opts| opts.stmt_cache_size(5).prefer_socket(true));
        assert_eq!(format!("{config:?}"), before);
        let opts = config.opts();
        assert_eq!((opts.ip_or_hostname(), opts.stmt_cache_size()), ("::1", 5));
        assert_eq!((opts.user(), opts.pass()), (Some("app"), Some("secret")));
        assert_eq!(opts.tcp_keepalive(), Some(Duration::from_secs(1)));
        assert!(opts.ssl_opts().is_some() && !opts.prefer_socket());
        let config = config.map_opts(|opts| opts.ip_or_hostname("[::2]").tcp_port(1));
        assert_eq!(config.opts().ip_or_hostname(), "::2");
        assert_eq!(config.opts().stmt_cache_size(), 5);
    }

    #[test]
    fn a_password_comes_from_one_source() {
        let config = PoolConfig::from_url("mysql://app@db/shop").expect("a good URL");
        let source = CredentialsSource::new(|| async {
            Ok::<_, std::io::Error>(Credentials::new("app", "secret"))
        });
        let both = config.clone().password_file("/p").credentials(source);
        let error = Error::from(both.check().expect_err("two sources"));
        assert_eq!(fields(&error), ["password_file"]);
        let error = Error::from(config.password_file("").check().expect_err("no path"));
        assert_eq!(fields(&error), ["password_file"]);
    }

    /// The driver takes what follows the `/` for the database's name.
    #[test]
    fn options_that_the_driver_misread_show_no_password() {
        let opts = mysql_async::Opts::from_url("mysql://app:12/s3cret@db:3306/shop");
        let config = PoolConfig::from_opts(opts.expect("it is accepted"));
        assert_eq!(config.display_name(), "app:12/(hidden)");
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    }
}
