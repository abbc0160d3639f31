//! Errors, their classes (worth another try? is the connection lost?) and what to do about them.

use std::{
    error::Error as StdError,
    fmt::{self, Write as _},
    io,
    sync::Arc,
    time::Duration,
};

use mysql_async::{DriverError, IoError};

use crate::report::{Holders, HumanDuration, PoolStatus, WarmUpReport};

/// Everything that can go wrong in this crate.
///
/// [`is_transient`](Self::is_transient) says whether trying again may help. It turns into a [`mysql_async::Error`] (as
/// `Other`), so that a function which returns the driver's result can use `?` on [`Pool::get`](crate::Pool::get).
/// Neither message, `Debug` nor source holds a password.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings that cannot work. Names every fault at once.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A [`get()`](crate::Pool::get) had no connection when its time was over.
    #[error("no connection within {}: {cause}; {status}{}{}", HumanDuration(*.waited), HeldBy(.holders.as_deref()), Because(.source.as_ref()))]
    Timeout {
        /// What the time went on.
        cause: TimeoutCause,
        /// How long the call waited.
        waited: Duration,
        /// The pool's connections at that moment.
        status: PoolStatus,
        /// Who held the connections at that moment, where the cause is [`Exhausted`](TimeoutCause::Exhausted).
        holders: Option<Box<Holders>>,
        /// Why connections cannot be opened, if the last attempt failed.
        source: Option<ConnectError>,
    },

    /// No connection could be opened, for a reason that does not pass by itself, such as a wrong password; and none was
    /// open.
    #[error("cannot open a connection: {0}")]
    Connect(#[source] ConnectError),

    /// The warm-up ended with fewer connections than `ready_at`.
    #[error("not warm: {report}{}", Because(.source.as_ref()))]
    WarmUp {
        /// How far it came.
        report: Box<WarmUpReport>,
        /// Why connections could not be opened.
        source: Option<ConnectError>,
    },

    /// The pool is in use on another tokio runtime, or this was called outside of any.
    ///
    /// A pool belongs to the runtime of its first use for as long as that lives.
    #[error(
        "no tokio runtime: the pool is in use on another tokio runtime, or this is not called from one; use one pool for each runtime"
    )]
    NoRuntime,

    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,

    /// A prepared statement was to be executed on another connection than it was prepared on. Nothing was sent.
    #[error("the statement was prepared on another connection, prepare it on this one")]
    ForeignStatement,

    /// `exec_stream` was called with a statement that returns no rows.
    #[error("the statement has no result set to stream")]
    NoResultSet,
}

impl Error {
    /// Whether the same call may succeed when it is tried again later.
    ///
    /// True for [`Timeout`](Self::Timeout), and for [`Connect`](Self::Connect) and [`WarmUp`](Self::WarmUp) if the reason
    /// that they name may pass by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Connect(error) => error.is_transient(),
            Self::WarmUp { source, .. } => source.as_ref().is_none_or(ConnectError::is_transient),
            Self::Config(_)
            | Self::NoRuntime
            | Self::Closed
            | Self::ForeignStatement
            | Self::NoResultSet => false,
        }
    }
}

/// As `Display`: what `main` and `unwrap` print is meant for people.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Error> for mysql_async::Error {
    fn from(error: Error) -> Self {
        Self::Other(Box::new(error))
    }
}

/// What a [`get()`](crate::Pool::get) that ran out of time was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutCause {
    /// Every connection that the limit allows was in use.
    Exhausted,
    /// Connections were being opened, and the server had not answered yet.
    Connecting,
    /// Connections could not be opened. The source of the error says why.
    Unavailable,
    /// An idle connection had to be proved before it could be handed out, and the server had not answered on it.
    Validating,
}

impl fmt::Display for TimeoutCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "exhausted, every connection is in use",
            Self::Connecting => "connecting, the server has not answered yet",
            Self::Unavailable => "unavailable, the server cannot be reached",
            Self::Validating => "validating, the server has not answered on an open connection",
        })
    }
}

struct HeldBy<'a>(Option<&'a Holders>);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holders) => write!(f, "; {holders}"),
            None => Ok(()),
        }
    }
}

struct Because<'a>(Option<&'a ConnectError>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => write!(f, "; last error: {error}"),
            None => Ok(()),
        }
    }
}

/// Settings that cannot work, each named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<ConfigFault>,
}

impl ConfigError {
    pub(crate) const fn new(faults: Vec<ConfigFault>) -> Self {
        Self { faults }
    }

    /// Every fault that was found, in the order of the fields.
    #[must_use]
    pub fn faults(&self) -> &[ConfigFault] {
        &self.faults
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad settings: ")?;
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl StdError for ConfigError {}

/// One setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFault {
    /// The setting, as it was given: a field's name, or that of an environment variable.
    pub field: String,
    /// The value that was given; "(hidden)" where it may hold a password.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {}, allowed is {}",
            self.field, self.value, self.allowed
        )
    }
}

/// Why an attempt to open a connection failed. Prints as one line: the step, the reason, and what to do about it.
///
/// Cheap to clone: all callers who waited for the same attempt are told by it.
#[derive(Clone)]
pub struct ConnectError {
    inner: Arc<Failure>,
}

struct Failure {
    phase: ConnectPhase,
    cause: Cause,
}

enum Cause {
    Driver(mysql_async::Error),
    TimedOut(Duration),
    Credentials(Box<dyn StdError + Send + Sync>),
    OutOfStep,
    Panicked,
}

/// The step of opening a connection that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectPhase {
    /// Asking the source of [`credentials`](field@crate::PoolConfig::credentials).
    Credentials,
    /// Looking up the name, TCP, TLS, the server's greeting and the login.
    Connect,
    /// Running the statement of this number in `init`, counted from 1.
    Init(usize),
    /// Preparing the statement of this number in `prepare`, counted from 1.
    Prepare(usize),
    /// The proof: asking for a number by a round trip, and comparing the answer.
    Validate,
}

impl fmt::Display for ConnectPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("credentials"),
            Self::Connect => f.write_str("connect"),
            Self::Init(n) => write!(f, "init statement {n}"),
            Self::Prepare(n) => write!(f, "prepare statement {n}"),
            Self::Validate => f.write_str("validate"),
        }
    }
}

impl ConnectError {
    pub(crate) fn driver(phase: ConnectPhase, error: mysql_async::Error) -> Self {
        Self::new(phase, Cause::Driver(error))
    }

    pub(crate) fn timed_out(phase: ConnectPhase, after: Duration) -> Self {
        Self::new(phase, Cause::TimedOut(after))
    }

    pub(crate) fn credentials(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self::new(ConnectPhase::Credentials, Cause::Credentials(error))
    }

    pub(crate) fn out_of_step() -> Self {
        Self::new(ConnectPhase::Validate, Cause::OutOfStep)
    }

    pub(crate) fn panicked() -> Self {
        Self::new(ConnectPhase::Connect, Cause::Panicked)
    }

    fn new(phase: ConnectPhase, cause: Cause) -> Self {
        Self {
            inner: Arc::new(Failure { phase, cause }),
        }
    }

    /// The step that failed.
    #[must_use]
    pub fn phase(&self) -> ConnectPhase {
        self.inner.phase
    }

    /// The server's error code, if the server answered with one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match &self.inner.cause {
            Cause::Driver(mysql_async::Error::Server(error)) => Some(error.code),
            _ => None,
        }
    }

    /// The driver's error, if it was one.
    #[must_use]
    pub fn driver_error(&self) -> Option<&mysql_async::Error> {
        match &self.inner.cause {
            Cause::Driver(error) => Some(error),
            _ => None,
        }
    }

    /// Whether another attempt may succeed without anybody changing anything. The pool then tries again by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.inner.cause {
            Cause::Driver(error) => is_transient(error),
            Cause::TimedOut(_) | Cause::Credentials(_) | Cause::OutOfStep | Cause::Panicked => true,
        }
    }

    /// What to do about it, in a few words.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        if matches!(self.inner.phase, ConnectPhase::Init(_)) && self.code().is_some() {
            return "check this statement of the pool's `init`";
        }
        if matches!(self.inner.phase, ConnectPhase::Prepare(_)) && self.code().is_some() {
            return "check this statement of the pool's `prepare`";
        }
        match &self.inner.cause {
            Cause::Credentials(_) => "look at the source of credentials",
            Cause::TimedOut(_) => {
                "look for a firewall or a frozen server, or raise `connect_timeout`"
            }
            Cause::OutOfStep => "look for a proxy that mixes up connections",
            Cause::Driver(mysql_async::Error::Server(error)) => advice_for_code(error.code),
            // Each kind of TLS has an error of its own for this; the word is common to all.
            Cause::Driver(mysql_async::Error::Io(error))
                if error.to_string().contains("certificate") =>
            {
                "check the name and the dates of the server's certificate, and whom the client trusts"
            }
            Cause::Driver(mysql_async::Error::Io(IoError::Io(error))) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    "start the server, or check host and port"
                }
                // The kind for this has no name yet.
                _ if error.to_string().contains("lookup") => {
                    "check the host's name in the URL, and DNS"
                }
                _ => "look at the network and at the server's log",
            },
            Cause::Driver(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer)) => {
                "turn TLS on at the server, or do not require it"
            }
            Cause::Driver(mysql_async::Error::Driver(DriverError::UnknownAuthPlugin {
                ..
            })) => {
                // MySQL asks in ways of its own choice for the password of a user that does not exist.
                "check the user's name, or give the account an authentication plugin that the driver knows"
            }
            Cause::Driver(mysql_async::Error::Driver(DriverError::MysqlOldPasswordDisabled)) => {
                UNKNOWN_PLUGIN
            }
            Cause::Driver(_) => "look at the server's log",
            // Of what an honest server may ask for, only these two ways to log in make it panic.
            Cause::Panicked => {
                "look at what it printed; an account that logs in by ed25519 or parsec needs the driver's feature for it"
            }
        }
    }
}

const UNKNOWN_PLUGIN: &str = "give the account an authentication plugin that the driver knows";

fn advice_for_code(code: u16) -> &'static str {
    match code {
        1040 => "lower `size` and `overflow`, or raise the server's max_connections",
        1203 | 1226 => "lower `size` and `overflow`, or raise the account's limits",
        1044 => "check the database's name, or grant the account access to it",
        1045 | 1698 => "check user and password",
        1049 => "check the database's name, or create it",
        1129 => "unblock this host on the server (FLUSH HOSTS)",
        1130 => "allow the account to connect from this host",
        1251 | 1275 | 1524 => UNKNOWN_PLUGIN,
        1820 | 1862 => "set a new password for the account: it has expired",
        3118 | 4151 => "unlock the account",
        3159 => "turn TLS on: the server requires it (`require_ssl=true`)",
        _ => "look the code up in the server's manual",
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.inner.phase)?;
        match &self.inner.cause {
            Cause::Driver(mysql_async::Error::Server(error)) => {
                write!(
                    f,
                    "server error {} ({}): {}",
                    error.code,
                    Brief(&error.state),
                    Brief(&error.message)
                )?;
            }
            Cause::Driver(mysql_async::Error::Io(IoError::Io(error))) => {
                write!(f, "{}", Brief(error))?;
            }
            Cause::Driver(error) => write!(f, "{}", Brief(error))?,
            Cause::TimedOut(after) => write!(f, "no answer within {}", HumanDuration(*after))?,
            Cause::Credentials(error) => write!(f, "{error}")?,
            Cause::OutOfStep => f.write_str("the answer belonged to another question")?,
            Cause::Panicked => f.write_str("the driver panicked")?,
        }
        write!(f, " ({})", self.advice())
    }
}

/// What a server said, to be shown: on one line, and no longer than servers' messages are.
pub(crate) struct Brief<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Brief<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cut = Cut {
            f,
            left: LONGEST_TOLD,
            is_over: false,
        };
        write!(cut, "{}", self.0)
    }
}

/// Both servers cut their messages off at 512 bytes.
const LONGEST_TOLD: usize = 512;

struct Cut<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    /// So many characters may follow.
    left: usize,
    /// More came than that.
    is_over: bool,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(left) = self.left.checked_sub(1) else {
                if !std::mem::replace(&mut self.is_over, true) {
                    self.f.write_str("...")?;
                }
                return Ok(());
            };
            self.left = left;
            if character.is_control() {
                write!(self.f, "{}", character.escape_default())?;
            } else {
                self.f.write_char(character)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectError")
            .field(&self.to_string())
            .finish()
    }
}

/// The driver's error is told in the text, and is not its source: what prints the chain prints it once.
impl StdError for ConnectError {}

/// Whether the work that met this error of the driver may succeed when it is tried again.
///
/// True for lost and refused connections, for a server that is full, starting or stopping, and for transactions that
/// lost against another one. It says nothing about whether the work was done: only work that may be done twice, or
/// that was certainly not done, should be tried again. The whole of a transaction is, from its start, on another
/// connection; `examples/retry.rs` shows it.
///
/// Of the server's errors:
///
/// | code | name | counts | because |
/// |---|---|---|---|
/// | 1037 | `OUTOFMEMORY` | yes | the server is short of memory now |
/// | 1040 | `CON_COUNT_ERROR` | yes | all of the server's connections are in use |
/// | 1041 | `OUT_OF_RESOURCES` | yes | the server is short of memory now |
/// | 1043 | `HANDSHAKE_ERROR` | yes | the handshake was disturbed |
/// | 1053 | `SERVER_SHUTDOWN` | yes | the server is stopping, and perhaps starts again |
/// | 1135 | `CANT_CREATE_THREAD` | yes | the server is short of threads now |
/// | 1152 | `ABORTING_CONNECTION` | yes | the connection was lost |
/// | 1154 | `NET_READ_ERROR_FROM_PIPE` | yes | the connection was lost |
/// | 1155 | `NET_FCNTL_ERROR` | yes | the connection was lost |
/// | 1156 | `NET_PACKETS_OUT_OF_ORDER` | yes | the connection was disturbed |
/// | 1157 | `NET_UNCOMPRESS_ERROR` | yes | the connection was disturbed |
/// | 1158 | `NET_READ_ERROR` | yes | the connection was lost |
/// | 1159 | `NET_READ_INTERRUPTED` | yes | the connection was lost |
/// | 1160 | `NET_ERROR_ON_WRITE` | yes | the connection was lost |
/// | 1161 | `NET_WRITE_INTERRUPTED` | yes | the connection was lost |
/// | 1184 | `NEW_ABORTING_CONNECTION` | yes | the connection was lost |
/// | 1203 | `TOO_MANY_USER_CONNECTIONS` | yes | all of the account's connections are in use |
/// | 1205 | `LOCK_WAIT_TIMEOUT` | yes | another transaction held the lock; the statement is undone, the transaction is not, unless `innodb_rollback_on_timeout` is on: roll it back first |
/// | 1213 | `LOCK_DEADLOCK` | yes | lost against another transaction, and was rolled back; in a Galera cluster any later command may say so |
/// | 1226 | `USER_LIMIT_REACHED` | yes | the account's limit for a time: limits by the hour need long pauses |
/// | 1927 | `CONNECTION_KILLED` | yes | the connection was killed |
/// | 3032 | `SERVER_OFFLINE_MODE` | yes | the server is offline for now |
/// | 3168 | `SERVER_ISNT_AVAILABLE` | yes | the server is not ready |
/// | 3169 | `SESSION_WAS_KILLED` | yes | the connection was killed |
/// | 4031 | `CLIENT_INTERACTION_TIMEOUT` | yes | the connection was idle for too long |
/// | 1044 | `DBACCESS_DENIED_ERROR` | no | somebody has to grant it |
/// | 1045 | `ACCESS_DENIED_ERROR` | no | wrong user or password |
/// | 1049 | `BAD_DB_ERROR` | no | no such database |
/// | 1064 | `PARSE_ERROR` | no | the statement is wrong; so are all other errors of a statement |
/// | 1129 | `HOST_IS_BLOCKED` | no | somebody has to unblock this host |
/// | 1130 | `HOST_NOT_PRIVILEGED` | no | somebody has to allow this host |
/// | 1153 | `NET_PACKET_TOO_LARGE` | no | it will be as large again |
/// | 1251 | `NOT_SUPPORTED_AUTH_MODE` | no | the account's way to log in is not known here |
/// | 1317 | `QUERY_INTERRUPTED` | no | somebody ended the statement, most likely for a reason |
/// | 1524 | `PLUGIN_IS_NOT_LOADED` | no | the account's way to log in is not known there |
/// | 1698 | `ACCESS_DENIED_NO_PASSWORD_ERROR` | no | the account may not log in with a password |
/// | 1820 | `MUST_CHANGE_PASSWORD` | no | the password has expired |
/// | 1862 | `MUST_CHANGE_PASSWORD_LOGIN` | no | the password has expired |
/// | 3118 | `ACCOUNT_HAS_BEEN_LOCKED` | no | somebody has to unlock the account |
/// | 3159 | `SECURE_TRANSPORT_REQUIRED` | no | the server asks for TLS |
/// | 4151 | `ACCOUNT_HAS_BEEN_LOCKED` | no | `MariaDB`'s number for it |
/// | 1047 | `UNKNOWN_COM_ERROR` | no | it depends: a Galera node outside of its cluster did nothing, except at `COMMIT`, where it may have |
/// | 1180 | `ERROR_DURING_COMMIT` | no | it depends: perhaps committed |
/// | 1290 | `OPTION_PREVENTS_STATEMENT` | no | it depends: at a server that has become read-only, the pool replaces its connections, and another try may reach the new primary |
/// | 1792 | `CANT_EXECUTE_IN_READ_ONLY_TRANSACTION` | no | as 1290, or the application's own read-only transaction |
/// | 1836 | `READ_ONLY_MODE` | no | as 1290 |
/// | 1874 | `INNODB_READ_ONLY` | no | as 1290 |
///
/// Every other code of the server: no.
///
/// Of the errors that are not the server's, these count:
///
/// - I/O errors, except for those of the kinds `InvalidInput`, `InvalidData`, `PermissionDenied`, `Unsupported`,
///   `OutOfMemory` and `Other`, which mostly come of a wrong setting. A connection that ends in the middle of a packet is
///   of kind `Other` and counts nevertheless;
/// - the driver's finding that a connection was closed;
/// - this crate's own [`Error`], if its [`is_transient`](Error::is_transient) says so.
///
/// A connection lost at `COMMIT`, or at a write outside of a transaction, counts as well, and leaves open whether the
/// change was made: try again only what may be done twice, or look first.
#[must_use]
pub fn is_transient(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Io(IoError::Io(error)) => match error.kind() {
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported
            | io::ErrorKind::OutOfMemory => false,
            io::ErrorKind::Other => ended_in_a_packet(error),
            _ => true,
        },
        mysql_async::Error::Driver(DriverError::ConnectionClosed) => true,
        mysql_async::Error::Server(error) => matches!(
            error.code,
            1037 | 1040 | 1041 | 1043 | 1053 | 1135 | 1152 | 1154
                ..=1161 | 1184 | 1203 | 1205 | 1213 | 1226 | 1927 | 3032 | 3168 | 3169 | 4031
        ),
        mysql_async::Error::Other(error) => error
            .downcast_ref::<Error>()
            .is_some_and(Error::is_transient),
        _ => false,
    }
}

/// Whether the connection ended in the middle of a packet: the codec below the driver has no kind of its own for it.
fn ended_in_a_packet(error: &io::Error) -> bool {
    error.to_string() == "bytes remaining on stream"
}

/// Whether the connection that met this error is of no more use.
///
/// The driver's own `is_fatal` calls every error of the server harmless, though
/// some are its last words on the connection.
pub(crate) fn ends_connection(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => matches!(
            error.code,
            1053 | 1077..=1080 | 1152..=1161 | 1184 | 1835 | 1927 | 3169 | 4031
        ),
        _ => true,
    }
}

/// Whether this error says that the server or the way to it is gone, so that other connections may be too.
pub(crate) fn tells_of_loss(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(_) => ends_connection(error),
        mysql_async::Error::Io(_) | mysql_async::Error::Driver(DriverError::ConnectionClosed) => {
            true
        }
        _ => false,
    }
}

/// Whether this error says that the server has become read-only, or has lost its cluster.
pub(crate) fn tells_read_only(error: &mysql_async::Error, asked_for: bool) -> bool {
    match error {
        mysql_async::Error::Server(error) => match error.code {
            // Many options are told by this number.
            1290 => error.message.contains("read-only") || error.message.contains("read_only"),
            1836 | 1874 | 1047 => true,
            1792 => !asked_for,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io, time::Duration};

    use mysql_async::ServerError;

    use super::{
        ConnectError, ConnectPhase, Error, TimeoutCause, ends_connection, is_transient,
        tells_read_only,
    };
    use crate::report::PoolStatus;

    fn server(code: u16) -> mysql_async::Error {
        mysql_async::Error::Server(ServerError {
            code,
            message: "said so".to_owned(),
            state: "HY000".to_owned(),
        })
    }

    #[test]
    fn a_read_only_server_is_known_by_its_codes_and_words() {
        for code in [1836, 1874, 1047] {
            assert!(tells_read_only(&server(code), true), "{code}");
        }
        assert!(tells_read_only(&server(1792), false));
        assert!(
            !tells_read_only(&server(1792), true),
            "the borrower's own transaction"
        );
        let option = |text: &str| {
            mysql_async::Error::Server(ServerError {
                code: 1290,
                message: format!("running with the {text} option"),
                state: "HY000".to_owned(),
            })
        };
        for text in ["--read-only", "--super-read-only", "read_only=ON"] {
            assert!(tells_read_only(&option(text), true), "{text}");
        }
        assert!(!tells_read_only(&option("--skip-grant-tables"), false));
        for code in [1045, 1205, 1213, 1317, 2006] {
            assert!(!tells_read_only(&server(code), false), "{code}");
        }
    }

    #[test]
    fn what_is_transient_is_what_the_docs_say() {
        // What the docs say of each code, and no of all others.
        let docs = include_str!("mod.rs");
        let told: BTreeMap<u16, bool> = docs
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("/// | ")?.split(" | ");
                let code = cells.next()?.parse().ok()?;
                let counts = match cells.nth(1)? {
                    "yes" => true,
                    "no" => false,
                    other => panic!("{code} counts {other:?}"),
                };
                Some((code, counts))
            })
            .collect();
        assert!(told.values().any(|counts| *counts) && told.values().any(|counts| !counts));
        for code in 0..=u16::MAX {
            let told = told.get(&code).copied().unwrap_or(false);
            assert_eq!(is_transient(&server(code)), told, "{code}");
        }
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
        ] {
            assert!(is_transient(&io::Error::from(kind).into()), "{kind}");
        }
        // As tokio's codec says it.
        assert!(is_transient(
            &io::Error::other("bytes remaining on stream").into()
        ));
        for kind in [
            io::ErrorKind::InvalidInput,
            io::ErrorKind::InvalidData,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::Unsupported,
            io::ErrorKind::OutOfMemory,
            io::ErrorKind::Other,
        ] {
            assert!(!is_transient(&io::Error::from(kind).into()), "{kind}");
        }
    }

    #[test]
    fn the_servers_last_words_end_the_connection_and_other_errors_do_not() {
        for code in [1053, 1077, 1080, 1152, 1161, 1184, 1835, 1927, 3169, 4031] {
            assert!(ends_connection(&server(code)), "{code}");
        }
        for code in [1317, 1205, 1213, 1062, 1064] {
            assert!(!ends_connection(&server(code)), "{code}");
        }
    }

    #[test]
    fn what_a_server_says_is_shown_on_one_line_and_not_at_any_length() {
        let said = |message: String| {
            let error = mysql_async::Error::Server(ServerError {
                code: 1105,
                message,
                state: "HY\n00".to_owned(),
            });
            ConnectError::driver(ConnectPhase::Connect, error).to_string()
        };
        let text = said("two\nlines and \u{1b}[2J".to_owned());
        assert!(text.contains(r"two\nlines and \u{1b}[2J"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        let text = said("ä".repeat(1 << 20));
        assert!(text.contains("ääää...") && text.len() < 2000, "{text}");
    }

    #[test]
    fn a_timeout_names_cause_status_and_last_error() {
        let error = Error::Timeout {
            cause: TimeoutCause::Unavailable,
            waited: Duration::from_millis(200),
            status: PoolStatus {
                size: 2,
                overflow: 1,
                ..PoolStatus::default()
            },
            holders: None,
            source: Some(ConnectError::driver(ConnectPhase::Connect, server(1045))),
        };
        let text = error.to_string();
        for part in [
            "200 ms",
            "unavailable",
            "0 of 3 connections open",
            "1045",
            "check user and password",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(error.is_transient());
        let as_driver: mysql_async::Error = error.into();
        assert!(is_transient(&as_driver));
    }
}
