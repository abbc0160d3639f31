//! `ConnectError`: why an attempt to open a connection failed, and what to do about it.

use std::{
    any::Any,
    error::Error as StdError,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mysql_async::{DriverError, IoError};

use super::{brief::Brief, classify::is_transient_at_login};
use crate::report::HumanDuration;

/// Why an attempt to open a connection failed.
///
/// Its `Display` is one line: the step, the reason, and what to do about it. It is cheap to clone,
/// because every caller that waited for the attempt gets one. It comes inside
/// [`Error::Connect`](super::Error::Connect), [`Error::Timeout`](super::Error::Timeout) and
/// [`Error::WarmUp`](super::Error::WarmUp).
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
    PasswordFile(PathBuf, io::Error),
    /// Without a path if the contents were given.
    TlsFile(TlsFile, Option<String>, io::Error),
    OutOfStep,
    /// With the panic's message, if it had one.
    Panicked(Option<String>),
    /// The source of credentials, or the hook `on_connect`. The message is not shown, as it may
    /// contain anything.
    CodePanicked,
}

/// A file that the driver's options for TLS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    all(
        not(test),
        not(all(
            feature = "native-tls",
            any(feature = "rustls", feature = "rustls-aws-lc-rs")
        ))
    ),
    expect(dead_code, reason = "each TLS library takes other files")
)]
pub(crate) enum TlsFile {
    /// Certificates to trust.
    Authorities,
    /// The client's certificate, its key, or both in an archive.
    Certificate,
    Key,
    Archive,
}

/// A step of opening a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectPhase {
    /// Asking the source of [`credentials`](field@crate::PoolConfig::credentials), or reading the
    /// [`password_file`](field@crate::PoolConfig::password_file).
    Credentials,
    /// Name lookup, TCP, TLS, the server's greeting and authentication.
    Connect,
    /// Running the statement with this number in `init`, counted from 1. Statements of the driver's
    /// `init` and `setup` come first.
    Init(usize),
    /// Running the hook [`on_connect`](field@crate::PoolConfig::on_connect), or the driver's
    /// `after_connect`.
    OnConnect,
    /// Preparing the statement with this number in `prepare`, counted from 1.
    Prepare(usize),
    /// Validation: asking for a fresh random number and comparing the answer.
    Validate,
}

impl fmt::Display for ConnectPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("credentials"),
            Self::Connect => f.write_str("connect"),
            Self::Init(n) => write!(f, "init statement {n}"),
            Self::OnConnect => f.write_str("on_connect"),
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

    pub(crate) fn password_file(path: &Path, error: io::Error) -> Self {
        let cause = Cause::PasswordFile(path.to_owned(), error);
        Self::new(ConnectPhase::Credentials, cause)
    }

    pub(crate) fn tls_file(file: TlsFile, path: Option<String>, error: io::Error) -> Self {
        Self::new(ConnectPhase::Connect, Cause::TlsFile(file, path, error))
    }

    /// The answer to the validation was not the number it asked for.
    pub(crate) fn out_of_step() -> Self {
        Self::new(ConnectPhase::Validate, Cause::OutOfStep)
    }

    /// In this phase something panicked: the source of credentials, the hook, or else the driver.
    pub(crate) fn panicked(phase: ConnectPhase, panic: &(dyn Any + Send)) -> Self {
        let cause = match phase {
            ConnectPhase::Credentials | ConnectPhase::OnConnect => Cause::CodePanicked,
            _ => Cause::Panicked(message_of(panic)),
        };
        Self::new(phase, cause)
    }

    /// The hook `on_connect` panicked.
    pub(crate) fn hook_panicked() -> Self {
        Self::new(ConnectPhase::OnConnect, Cause::CodePanicked)
    }

    fn new(phase: ConnectPhase, cause: Cause) -> Self {
        Self {
            inner: Arc::new(Failure { phase, cause }),
        }
    }

    /// Returns the step that failed.
    #[must_use]
    pub fn phase(&self) -> ConnectPhase {
        self.inner.phase
    }

    /// Returns the server's error code, if the server answered with an error.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match &self.inner.cause {
            Cause::Driver(mysql_async::Error::Server(error)) => Some(error.code),
            _ => None,
        }
    }

    /// Returns the driver's error, if there is one.
    #[must_use]
    pub fn driver_error(&self) -> Option<&mysql_async::Error> {
        match &self.inner.cause {
            Cause::Driver(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the server may have refused the driver's query for its settings, which it sends
    /// after the login: the code is none that refuses the login itself.
    pub(crate) fn may_refuse_settings(&self) -> bool {
        let is_of_login = |code| {
            matches!(
                code,
                1044 | 1045
                    | 1047
                    | 1049
                    | 1105
                    | 1129
                    | 1130
                    | 1251
                    | 1275
                    | 1524
                    | 1698
                    | 1820
                    | 1862
                    | 3118
                    | 3159
                    | 4151
            )
        };
        self.inner.phase == ConnectPhase::Connect
            && !self.is_transient()
            && self.code().is_some_and(|code| !is_of_login(code))
    }

    /// Returns whether another attempt may succeed although nobody changes anything. The pool keeps
    /// trying either way.
    ///
    /// Of the driver's errors these are the [transient](super::is_transient) ones, and those of a
    /// server that takes no writes or has left its cluster: the next attempt may reach another. A
    /// panic of the driver is transient, except for rustls's about its provider.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.inner.cause {
            Cause::Driver(error) => is_transient_at_login(error),
            Cause::Panicked(message) => !is_about_provider(message.as_deref()),
            Cause::TlsFile(..) => false,
            // A file may be about to be replaced.
            Cause::PasswordFile(..)
            | Cause::TimedOut(_)
            | Cause::Credentials(_)
            | Cause::OutOfStep
            | Cause::CodePanicked => true,
        }
    }

    /// Returns what to do about it, in a few words.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match (self.inner.phase, &self.inner.cause) {
            (phase, Cause::Driver(mysql_async::Error::Server(error))) => match phase {
                // A transient error says nothing about the statement.
                ConnectPhase::Init(_) if !self.is_transient() => {
                    "check this statement of the pool's `init`"
                }
                ConnectPhase::OnConnect if !self.is_transient() => CHECK_HOOK,
                ConnectPhase::Prepare(_) if !self.is_transient() => {
                    "check this statement of the pool's `prepare`"
                }
                _ => advice_for_code(error.code),
            },
            (ConnectPhase::OnConnect, Cause::Driver(mysql_async::Error::Other(_))) => CHECK_HOOK,
            (_, Cause::CodePanicked) => "see the panic message",
            (_, Cause::Driver(error)) => advice_for(error),
            (_, Cause::TimedOut(_)) => {
                "look for a firewall or a frozen server, or raise `connect_timeout`"
            }
            (_, Cause::Credentials(_)) => "check the source of credentials",
            (_, Cause::PasswordFile(..)) => {
                "check the file that `password_file` names, and who may read it"
            }
            (_, Cause::TlsFile(file, ..)) => file.advice(),
            (_, Cause::OutOfStep) => "look for a proxy that mixes up connections",
            (_, Cause::Panicked(message)) if is_about_provider(message.as_deref()) => {
                "call `rustls::crypto::CryptoProvider::install_default` when the program starts, as \
                 in `ring::default_provider().install_default()`, or compile in only one of \
                 rustls's providers"
            }
            // Of what an honest server may ask for, only these two plugins make the driver panic.
            (_, Cause::Panicked(message)) if is_about_plugin(message.as_deref()) => {
                "see the panic message; an account with ed25519 or parsec authentication needs the \
                 driver's feature for it"
            }
            (_, Cause::Panicked(_)) => "see where it panicked, in the program's standard error",
        }
    }
}

impl TlsFile {
    const fn what(self) -> &'static str {
        match self {
            Self::Authorities => "trusted certificates",
            Self::Certificate => "client certificate",
            Self::Key => "client key",
            Self::Archive => "client archive",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Authorities => {
                "check the file that `ssl-ca` (`SslOpts::with_root_certs`) names, and who may read \
                 it: certificates in PEM or DER"
            }
            Self::Certificate => {
                "check the file that `ssl-cert` (`ClientIdentity`) names, and who may read it: \
                 certificates in PEM or DER"
            }
            Self::Key => {
                "check the file that `ssl-key` (`ClientIdentity`) names, and who may read it: a \
                 private key in PEM or DER, not encrypted"
            }
            Self::Archive => {
                "check the file that `ClientIdentity` names, and who may read it: a PKCS #12 archive"
            }
        }
    }
}

/// The message that a panic was given.
fn message_of(panic: &(dyn Any + Send)) -> Option<String> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// Whether rustls has no provider of cryptography: none or several are compiled in, and the program
/// has installed none. It panics at each use, until one is installed.
fn is_about_provider(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.contains("CryptoProvider"))
}

/// Whether the panic may be about an authentication plugin behind one of the driver's features.
fn is_about_plugin(message: Option<&str>) -> bool {
    message.is_none_or(|message| {
        ["ed25519", "parsec"]
            .iter()
            .any(|name| message.contains(name))
    })
}

const CHECK_HOOK: &str = "check the pool's `on_connect`";

fn advice_for(error: &mysql_async::Error) -> &'static str {
    if let Some(advice) = advice_for_tls(error) {
        return advice;
    }
    match error {
        mysql_async::Error::Io(IoError::Io(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                "start the server, or check host and port"
            }
            // A failed name lookup has no stable kind.
            _ if error.to_string().contains("lookup") => "check the host name in the URL, and DNS",
            _ => "check the network and the server's log",
        },
        mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            "turn TLS on at the server, or do not require it"
        }
        // For a user that does not exist, MySQL picks an authentication plugin by itself.
        mysql_async::Error::Driver(DriverError::UnknownAuthPlugin { .. }) => {
            "check the user's name, or give the account an authentication plugin that the driver \
             knows"
        }
        mysql_async::Error::Driver(DriverError::MysqlOldPasswordDisabled) => UNKNOWN_PLUGIN,
        mysql_async::Error::Driver(DriverError::CleartextPluginDisabled) => {
            "the account's password is to be sent as it is: set `enable_cleartext_plugin=true`, and \
             use TLS"
        }
        _ => "check the server's log",
    }
}

/// Each TLS library has its own errors; these words are common to several. rustls writes
/// `HandshakeFailure` where OpenSSL writes `handshake failure`.
fn advice_for_tls(error: &mysql_async::Error) -> Option<&'static str> {
    let mysql_async::Error::Io(error) = error else {
        return None;
    };
    let is_of_network =
        matches!(error, IoError::Io(error) if error.kind() != io::ErrorKind::InvalidData);
    if is_of_network {
        return None;
    }
    let text = error.to_string().to_lowercase();
    let words: String = text.split_whitespace().collect();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    Some(
        if has(&["alert"]) && has(&["certificate", "unknownca", "accessdenied"]) {
            "the server refused the client's certificate: check `ssl-cert` and `ssl-key` \
         (`ClientIdentity`), and the CAs the server trusts"
        } else if has(&[
            "keysmaynotbeconsistent",
            "inconsistentkeys",
            "keyvaluesmismatch",
        ]) {
            "the client's certificate and key (`ssl-cert`, `ssl-key`) do not belong together"
        } else if has(&["trustanchors"]) {
            "name certificates to trust with `ssl-ca` (`SslOpts::with_root_certs`), or keep the \
         built-in ones (`built_in_roots`)"
        } else if has(&["pkcs12", "macverify"]) {
            "check the client's PKCS #12 archive (`ClientIdentity`) and its password"
        } else if has(&["invaliddnsname"]) {
            "check the host name in the URL: no certificate can be valid for it"
        } else if has(&["certificate"]) {
            "check the names and dates of the server's certificate, and the CAs the client trusts \
         (`ssl-ca`)"
        } else if has(&[
            "protocolversion",
            "handshakefailure",
            "unsupportedprotocol",
            "incompatible",
        ]) {
            "the server and this build share no version or cipher of TLS: check the server's \
         `tls_version` and its certificate's key"
        } else if has(&["contenttype", "wrongversionnumber", "corruptmessage"]) {
            "what answered does not speak TLS: check host and port, or a proxy between"
        } else if matches!(error, IoError::Io(_)) {
            return None;
        } else {
            "check the certificates and keys for TLS (`ssl-ca`, `ssl-cert`, `ssl-key`), and the \
         server's log"
        },
    )
}

const UNKNOWN_PLUGIN: &str = "give the account an authentication plugin that the driver knows";

const PROXY: &str = "a proxy answered, but cannot reach its server: start the server, or check the \
                     proxy's settings";

fn advice_for_code(code: u16) -> &'static str {
    match code {
        1040 => "lower `size` and `overflow`, or raise the server's max_connections",
        1203 | 1226 => "lower `size` and `overflow`, or raise the account's limits",
        1044 => "check the database's name, or grant the account access to it",
        1045 => {
            "check user and password; an account that requires TLS is refused like this without it \
             (`ssl-mode`)"
        }
        1698 => "check user and password",
        1049 => "check the database's name, or create it",
        1129 => {
            "the server counted too many broken handshakes from this host: unblock it (TRUNCATE \
             TABLE performance_schema.host_cache, or mysqladmin flush-hosts), and raise \
             max_connect_errors"
        }
        1130 => "allow the account to connect from this host",
        1251 | 1275 | 1524 => UNKNOWN_PLUGIN,
        1820 | 1862 => "set a new password for the account: it has expired",
        1461 => {
            "the sum over all instances of connections times prepared statements (`prepare` and the \
             driver's cache) exceeds the server's max_prepared_stmt_count: lower it, or raise that"
        }
        1047 | 1290 | 1836 | 1874 | 3100 => {
            "the server takes no writes, or has left its cluster: check its state, or connect to \
             another"
        }
        2002 | 2003 | 2005 | 2006 | 2012 | 2013 | 2055 | 9501 => PROXY,
        3032 | 6400 | 6401 => "end the server's offline mode, or connect to another",
        1105 | 9001..=9013 => "check the state of the proxy or cluster that answered",
        3118 | 4151 => "unlock the account",
        3159 => "turn TLS on, with `ssl-mode=VERIFY_IDENTITY`: the server requires it",
        _ => "look the code up in the server's manual",
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.inner.phase)?;
        match &self.inner.cause {
            Cause::Driver(mysql_async::Error::Server(error)) => {
                let (state, message) = (Brief(&error.state), Brief(&error.message));
                write!(f, "server error {} ({state}): {message}", error.code)?;
            }
            Cause::Driver(mysql_async::Error::Io(IoError::Io(error))) => {
                write!(f, "{}", Brief(error))?;
            }
            Cause::Driver(error) => write!(f, "{}", Brief(error))?,
            Cause::TimedOut(after) => write!(f, "no answer within {}", HumanDuration(*after))?,
            Cause::Credentials(error) => write!(f, "{error}")?,
            Cause::PasswordFile(path, error) => {
                write!(
                    f,
                    "password file {}: {}",
                    Brief(path.display()),
                    Brief(error)
                )?;
            }
            Cause::TlsFile(file, path, error) => {
                let what = file.what();
                match path {
                    Some(path) => write!(f, "{what} {}: {}", Brief(path), Brief(error))?,
                    None => write!(f, "{what} in memory: {}", Brief(error))?,
                }
            }
            Cause::OutOfStep => f.write_str("the answer belonged to another statement")?,
            Cause::Panicked(None) => f.write_str("the driver panicked")?,
            Cause::Panicked(Some(message)) => write!(f, "the driver panicked: {}", Brief(message))?,
            Cause::CodePanicked if self.inner.phase == ConnectPhase::Credentials => {
                f.write_str("the source of credentials panicked")?;
            }
            Cause::CodePanicked => f.write_str("the hook panicked")?,
        }
        write!(f, " ({})", self.advice())
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectError")
            .field(&self.to_string())
            .finish()
    }
}

/// It has no source: its text contains the driver's error, which a report of the whole chain would
/// repeat.
impl StdError for ConnectError {}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server_error(message: &str) -> ConnectError {
        let error = mysql_async::Error::Server(ServerError {
            code: 1105,
            message: message.to_owned(),
            state: "HY\n00".to_owned(),
        });
        ConnectError::driver(ConnectPhase::Connect, error)
    }

    #[test]
    fn a_servers_message_is_shown_on_one_line_and_cut_off() {
        let text = server_error("two\nlines").to_string();
        assert!(text.contains(r"(HY\n00): two\nlines ("), "{text}");
        assert!(!text.contains('\n'), "{text}");
        let text = server_error(&"ä".repeat(1 << 20)).to_string();
        assert!(text.contains("ääää...") && text.len() < 2000, "{text}");
    }

    #[test]
    fn each_code_has_its_advice_in_every_phase() {
        let advice = |phase, code, message: &str| {
            let error = mysql_async::Error::Server(ServerError {
                code,
                message: message.to_owned(),
                state: "HY000".to_owned(),
            });
            ConnectError::driver(phase, error).advice()
        };
        for (code, part) in [
            (1129, "host_cache"),
            (1461, "max_prepared_stmt_count"),
            (2003, "a proxy answered"),
            (2013, "a proxy answered"),
            (6400, "offline mode"),
            (9001, "proxy or cluster"),
        ] {
            let text = advice(ConnectPhase::Connect, code, "an error");
            assert!(text.contains(part), "{code}: {text}");
        }
        for phase in [ConnectPhase::Init(1), ConnectPhase::Prepare(1)] {
            let text = advice(phase, 1461, "too many");
            assert!(text.contains("max_prepared_stmt_count"), "{text}");
            let text = advice(phase, 2003, "gone");
            assert!(text.contains("a proxy answered"), "{text}");
            let text = advice(phase, 1064, "wrong");
            assert!(text.contains("check this statement"), "{text}");
        }
    }

    /// The texts are those of rustls 0.23.46 and OpenSSL 3.0.
    #[test]
    fn each_error_of_a_tls_library_has_its_advice() {
        for (text, part) in [
            (
                "invalid peer certificate: certificate not valid for name \"127.0.0.1\"; \
                 certificate is only valid for DnsName(\"elsewhere.example\")",
                "dates of the server's certificate",
            ),
            (
                "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate \
                 verify failed:../ssl/statem/statem_clnt.c:1889: (IP address mismatch)",
                "dates of the server's certificate",
            ),
            ("received fatal alert: UnknownCA", "refused the client's"),
            (
                "received fatal alert: CertificateRequired",
                "refused the client's",
            ),
            ("tlsv1 alert unknown ca", "refused the client's"),
            (
                "keys may not be consistent: KeyMismatch",
                "do not belong together",
            ),
            ("key values mismatch", "do not belong together"),
            ("no trust anchors have been provided", "`ssl-ca`"),
            (
                "PKCS12 routines:PKCS12_parse:mac verify failure",
                "its password",
            ),
            ("invalid dns name", "host name in the URL"),
            (
                "received fatal alert: HandshakeFailure",
                "version or cipher",
            ),
            (
                "peer is incompatible: ServerDoesNotSupportTls12Or13",
                "version or cipher",
            ),
            ("sslv3 alert handshake failure", "version or cipher"),
            (
                "received corrupt message of type InvalidContentType",
                "does not speak TLS",
            ),
            (
                "SSL routines:ssl3_get_record:wrong version number",
                "does not speak TLS",
            ),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, text);
            let error = mysql_async::Error::Io(IoError::Io(error));
            let error = ConnectError::driver(ConnectPhase::Connect, error);
            assert!(error.advice().contains(part), "{error}");
        }
    }

    /// What rustls 0.23.46 says in `get_default_or_install_from_crate_features`, and what its first
    /// releases said.
    #[test]
    fn a_panic_about_rustls_providers_is_permanent() {
        for text in [
            "\nCould not automatically determine the process-level CryptoProvider from Rustls crate \
             features.\nCall CryptoProvider::install_default() before this point to select a \
             provider manually, or make sure exactly one of the 'aws-lc-rs' and 'ring' features is \
             enabled.\nSee the documentation of the CryptoProvider type for more information.\n    \
                     ",
            "no process-level CryptoProvider available -- call CryptoProvider::install_default() \
             before this point",
        ] {
            let payloads: [Box<dyn Any + Send>; 2] = [Box::new(text), Box::new(text.to_owned())];
            for panic in payloads {
                let error = ConnectError::panicked(ConnectPhase::Connect, &*panic);
                assert!(!error.is_transient(), "{error}");
                assert!(error.advice().contains("install_default"), "{error}");
                let text = error.to_string();
                assert!(!text.contains('\n') && !text.contains("ed25519"), "{text}");
            }
        }
    }

    #[test]
    fn other_panics_are_transient_and_shown_briefly() {
        let payloads: [(Box<dyn Any + Send>, &str); 6] = [
            (
                Box::new("two\nlines"),
                r"the driver panicked: two\nlines (see",
            ),
            (Box::new("ä".repeat(1 << 20)), "ä... (see"),
            (
                Box::new(7),
                "the driver panicked (see the panic message; an account with ed25519",
            ),
            (
                Box::new("`parsec` is disabled"),
                "an account with ed25519 or parsec",
            ),
            (Box::new("overflow"), "(see where it panicked"),
            (Box::new(""), "the driver panicked (see"),
        ];
        for (panic, part) in payloads {
            let error = ConnectError::panicked(ConnectPhase::Connect, &*panic);
            let text = error.to_string();
            assert!(error.is_transient() && text.len() < 2000, "{text}");
            assert!(text.contains(part), "{text}");
        }
        for phase in [ConnectPhase::Credentials, ConnectPhase::OnConnect] {
            let error = ConnectError::panicked(phase, &"the password is s3cret");
            let text = error.to_string();
            assert!(error.is_transient() && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn the_message_names_phase_reason_and_advice() {
        let error = ConnectError::timed_out(ConnectPhase::Init(2), Duration::from_secs(10));
        assert_eq!(
            error.to_string(),
            "init statement 2: no answer within 10 s (look for a firewall or a frozen server, or \
             raise `connect_timeout`)"
        );
    }
}
