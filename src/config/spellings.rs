//! Parameters of a URL as other tools write them: what they mean here.

use super::tls::Mode;

/// What a parameter means.
pub(super) enum Meaning {
    /// Nothing to do: it is so in any case.
    Given,
    /// The setting or part of this name.
    Value(&'static str, String),
    /// The driver's parameter of this name.
    Driver(&'static str, String),
    /// At least this much TLS, or none at all.
    Tls(Mode),
    /// Exactly this many connections.
    Limit(String),
    /// At most this many connections.
    Most(String),
}

use Meaning::{Driver, Given, Limit, Most, Tls, Value};

/// Reads a parameter of another tool. `None` if it is not known. The error says what to write
/// instead.
///
/// Words may be joined by hyphens, underscores or capitals: `ssl-mode`, `ssl_mode`, `sslMode`.
pub(super) fn meaning(key: &str, value: &str) -> Option<Result<Meaning, String>> {
    let joined = key.chars().filter(|c| !matches!(c, '-' | '_'));
    let word: String = joined.flat_map(char::to_lowercase).collect();
    let text = || value.to_owned();
    Some(match (key, word.as_str()) {
        // The driver's, which verifies the certificate; JDBC's `requireSSL` does not.
        ("require_ssl", _) => return None,

        // JDBC.
        ("user", _) => Ok(Value("user", text())),
        ("password", _) => Ok(Value("password", text())),

        // TLS: the `mysql` client and libpq; JDBC; Go; Node; Prisma; Python.
        (_, "sslmode") => Mode::read(value).map(Tls),
        (_, "usessl") => switch(value, Tls(Mode::Required), Tls(Mode::Disabled)),
        (_, "requiressl") => switch(value, Tls(Mode::Required), Given),
        (_, "verifyservercertificate" | "sslverifycert") => {
            switch(value, Tls(Mode::VerifyCa), Given)
        }
        (_, "sslverifyservercert" | "sslverifyidentity" | "sslcheckhostname") => {
            switch(value, Tls(Mode::VerifyIdentity), Given)
        }
        (_, "ssldisabled" | "skipssl") => switch(value, Tls(Mode::Disabled), Given),
        (_, "tls") if value == "skip-verify" => Ok(Tls(Mode::Required)),
        (_, "ssl") if value.starts_with('{') => node_tls(value).map(Tls),
        (_, "tls" | "ssl") => switch(value, Tls(Mode::VerifyIdentity), Tls(Mode::Disabled))
            .map_err(|_not_a_switch| "ssl-mode=REQUIRED, VERIFY_CA or VERIFY_IDENTITY".to_owned()),
        (_, "sslaccept") => match value {
            "strict" => Ok(Tls(Mode::VerifyIdentity)),
            "accept_invalid_certs" => Ok(Tls(Mode::Required)),
            _ => Err("strict, accept_invalid_certs".to_owned()),
        },
        (_, "sslca" | "sslrootcert" | "serversslcert") => Ok(Value("ssl_ca", text())),
        (_, "sslcert") => Ok(Value("ssl_cert", text())),
        (_, "sslkey") => Ok(Value("ssl_key", text())),
        (_, "sslcapath" | "trustcertificatekeystoreurl") => instead("ssl-ca with a PEM file"),
        (_, "sslidentity" | "clientcertificatekeystoreurl") => {
            instead("ssl-cert and ssl-key with PEM files")
        }

        // The driver does not convert times, and always uses utf8mb4.
        (_, "charset" | "encoding" | "characterencoding") => {
            let is_utf8 = matches!(value.to_lowercase().as_str(), "utf8mb4" | "utf8" | "utf-8");
            is_utf8.then_some(Given).ok_or_else(|| "utf8mb4".to_owned())
        }
        (_, "servertimezone" | "connectiontimezone" | "timezone" | "loc") => {
            let is_utc = matches!(
                value.to_lowercase().as_str(),
                "utc" | "gmt" | "z" | "+00:00"
            );
            is_utc.then_some(Given).ok_or_else(|| {
                "UTC; for another one SET time_zone = '...' in `init` or `on_connect`".to_owned()
            })
        }
        (_, "collation" | "initcommand" | "sessionvariables" | "sqlmode") => {
            instead("a statement in `init`, such as SET SESSION name = value")
        }
        (_, "useunicode" | "parsetime" | "reconnect" | "autoreconnect") => {
            switch(value, Given, Given)
        }
        (
            _,
            "allowpublickeyretrieval"
            | "allownativepasswords"
            | "multistatements"
            | "allowmultiqueries"
            | "autocommit",
        ) => match switch(value, true, false) {
            Ok(true) => Ok(Given),
            _ => Err("true, as always with this driver".to_owned()),
        },

        // Time-outs. `connect_timeout` is a setting; JDBC's and Node's is in milliseconds.
        ("connectTimeout", _) => milliseconds(value).map(|text| Value("connect_timeout", text)),
        (_, "connecttimeout") => Ok(Value("connect_timeout", text())),
        (_, "pooltimeout" | "checkouttimeout") => Ok(Value("timeout", text())),
        (_, "sockettimeout" | "readtimeout" | "writetimeout") if value == "0" => Ok(Given),
        (_, "sockettimeout" | "readtimeout" | "writetimeout") => {
            instead("statement_timeout, in seconds")
        }

        // The pool: Prisma and Node; Rails; SQLAlchemy.
        (_, "connectionlimit" | "pool") => Ok(Limit(text())),
        (_, "poolsize") => Ok(Value("size", text())),
        (_, "maxoverflow") => Ok(Value("overflow", text())),
        (_, "poolrecycle") => Ok(Value("recycle", text())),
        (_, "poolpreping") => {
            let always = Value("validate_after_idle", "0".to_owned());
            switch(value, always, Given)
        }

        // The driver's own pool.
        (_, "poolmin") => Ok(Value("size", text())),
        (_, "poolmax") => Ok(Most(text())),
        (_, "inactiveconnectionttl") => Ok(Value("overflow_linger", text())),
        (_, "absconnttl") => Ok(Value("recycle", text())),
        (_, "resetconnection") => {
            let reset = |word: &str| Value("reset", word.to_owned());
            switch(value, reset("always"), reset("never"))
        }
        (_, "ttlcheckinterval" | "absconnttljitter" | "connttl") => instead(
            "to leave it out, as this pool keeps connections alive and replaces them in time",
        ),
        (_, "prefersocket") => match switch(value, true, false) {
            Ok(false) => Ok(Given),
            _ => Err("false, as always here; socket with a path to use one".to_owned()),
        },

        // The driver's, by other names.
        (_, "statementcachesize" | "statementcachecapacity") => {
            Ok(Driver("stmt_cache_size", text()))
        }
        (_, "clientfoundrows") => Ok(Driver("client_found_rows", text())),
        (_, "maxallowedpacket") => Ok(Driver("max_allowed_packet", text())),
        (_, "unixsocket") => Ok(Driver("socket", text())),
        (_, "compress" | "usecompression") => {
            switch(value, Driver("compression", "true".to_owned()), Given)
        }

        // Workings of JDBC and Go's client.
        (
            _,
            "cacheprepstmts"
            | "prepstmtcachesize"
            | "prepstmtcachesqllimit"
            | "useserverprepstmts"
            | "rewritebatchedstatements"
            | "uselocalsessionstate"
            | "uselegacydatetimecode"
            | "usejdbccomplianttimezoneshift"
            | "nullcatalogmeanscurrent"
            | "tinyint1isbit"
            | "zerodatetimebehavior"
            | "interpolateparams",
        ) => instead("to leave it out, as it has no meaning here"),
        _ => return None,
    })
}

fn instead(words: &str) -> Result<Meaning, String> {
    Err(words.to_owned())
}

/// Reads a switch, in the words of any tool.
fn switch<T>(value: &str, on: T, off: T) -> Result<T, String> {
    match value.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(on),
        "false" | "0" | "no" | "off" => Ok(off),
        _ => Err("true, false".to_owned()),
    }
}

/// Reads the object that Node's clients take. They verify the server unless it says otherwise.
fn node_tls(value: &str) -> Result<Mode, String> {
    let bare: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    let inside = bare
        .strip_prefix('{')
        .and_then(|bare| bare.strip_suffix('}'));
    let mut mode = Mode::VerifyIdentity;
    for entry in inside
        .unwrap_or("?")
        .split(',')
        .filter(|entry| !entry.is_empty())
    {
        match entry.replace(['"', '\''], "").split_once(':') {
            Some(("rejectUnauthorized", "true")) => {}
            Some(("rejectUnauthorized", "false")) => mode = Mode::Required,
            // rustls and current systems support no older version.
            Some(("minVersion", "TLSv1.2")) => {}
            _ => {
                return Err(
                    "{\"rejectUnauthorized\":true}, or ssl-mode, ssl-ca, ssl-cert, ssl-key"
                        .to_owned(),
                );
            }
        }
    }
    Ok(mode)
}

/// Whole milliseconds, as a duration of this crate.
fn milliseconds(value: &str) -> Result<String, String> {
    match value.parse::<u64>() {
        Ok(number) => Ok(format!("{number}ms")),
        Err(_not_a_number) => Err("whole milliseconds".to_owned()),
    }
}
