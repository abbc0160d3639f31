//! TLS as settings ask for it: the modes of the `mysql` client, and files.

use std::{net::IpAddr, path::PathBuf};

use mysql_async::{Opts, SslOpts};

use super::{
    fault,
    given::{Value, Values},
};
use crate::error::ConfigFault;

/// How much of the server is verified, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Disabled,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// The files that settings may name, by their keys: authority, client's certificate, its key.
pub(super) const FILES: [&str; 3] = ["ssl_ca", "ssl_cert", "ssl_key"];

const MODES: &str = "DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY";

impl Mode {
    /// Reads a mode by its name in the `mysql` client, libpq or MariaDB's connectors. The error
    /// says what is allowed.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let word = text.trim().to_lowercase().replace('_', "-");
        match word.as_str() {
            "disabled" | "disable" => Ok(Self::Disabled),
            "required" | "require" | "trust" => Ok(Self::Required),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-identity" | "verify-full" => Ok(Self::VerifyIdentity),
            "preferred" | "prefer" | "allow" => Err(format!(
                "{MODES} (the driver cannot fall back to a connection without TLS)"
            )),
            _ => Err(MODES.to_owned()),
        }
    }

    /// The mode of the driver's options; `None` without TLS.
    pub(super) fn of(opts: &Opts) -> Option<Self> {
        let tls = opts.ssl_opts()?;
        Some(if tls.accept_invalid_certs() {
            Self::Required
        } else if tls.skip_domain_validation() {
            Self::VerifyCa
        } else {
            Self::VerifyIdentity
        })
    }

    /// The name in the `mysql` client.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Required => "REQUIRED",
            Self::VerifyCa => "VERIFY_CA",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }
}

/// What is wrong with the driver's options: TLS that is not compiled in, or a password sent in the
/// clear.
pub(super) fn faults(opts: &Opts) -> impl Iterator<Item = ConfigFault> + use<> {
    const NOT_COMPILED_IN: &str = "DISABLED, as no TLS is compiled in; for TLS (`ssl-mode`, \
                                   `require_ssl`, `SslOpts`) turn on one of the features \
                                   `rustls`, `rustls-aws-lc-rs`, `native-tls`";
    let mode = Mode::of(opts).filter(|_| !is_compiled_in());
    let missing = mode.map(|mode| fault("ssl-mode", mode.name(), NOT_COMPILED_IN));
    let is_in_the_clear = opts.enable_cleartext_plugin() && !is_encrypted_or_local(opts);
    let readable = is_in_the_clear.then(|| {
        let allowed = "false without TLS (`ssl-mode`), except on loopback and a Unix socket: with \
                       it, the password is sent as it is";
        fault("enable_cleartext_plugin", true, allowed)
    });
    missing.into_iter().chain(readable)
}

/// Whether what is sent is encrypted, or does not leave this host.
pub(crate) fn is_encrypted_or_local(opts: &Opts) -> bool {
    let host = opts.ip_or_hostname();
    let is_loopback = host
        .trim_matches(['[', ']'])
        .parse::<IpAddr>()
        .map_or(host == "localhost", |address| address.is_loopback());
    opts.ssl_opts().is_some() || opts.socket().is_some() || is_loopback
}

/// Whether the driver has TLS, by this crate's features or by its own.
fn is_compiled_in() -> bool {
    // The driver's options have this field only with TLS.
    cfg!(any(
        feature = "rustls",
        feature = "rustls-aws-lc-rs",
        feature = "native-tls"
    )) || format!("{:?}", SslOpts::default()).contains("client_identity")
}

/// The driver's options for TLS, from the mode and the files given and those that it has already.
/// `None` if nothing is given.
#[expect(
    clippy::option_option,
    reason = "no TLS is a value, and differs from no change"
)]
pub(super) fn options(
    values: &Values,
    opts: &Opts,
    faults: &mut Vec<ConfigFault>,
) -> Option<Option<SslOpts>> {
    let mode = values.get("ssl_mode").and_then(|value| {
        let mode = Mode::read(&value.text);
        let refused = |allowed| faults.push(fault(&value.name, value.shown(), allowed));
        mode.map_err(refused).ok()
    });
    let [ca, cert, key] = FILES.map(|key| values.get(key));
    let mut options = match (mode, [ca, cert, key]) {
        (None, [None, None, None]) => return None,
        (Some(Mode::Disabled), files) => {
            // The `mysql` client ignores them, and sends everything in the clear.
            faults.extend(files.into_iter().flatten().map(|file| {
                let mode = values.get("ssl_mode").map_or("ssl-mode", |mode| &mode.name);
                let allowed = format!("no file, because {mode} turns TLS off");
                fault(&file.name, file.shown(), allowed)
            }));
            return Some(None);
        }
        // A file alone asks for TLS, as safe as the driver's.
        (None, _) => opts.ssl_opts().cloned().unwrap_or_default(),
        // An authority is named to be verified.
        (Some(Mode::Required), [None, ..]) => {
            SslOpts::default().with_danger_accept_invalid_certs(true)
        }
        (Some(Mode::Required | Mode::VerifyCa), _) => {
            SslOpts::default().with_danger_skip_domain_validation(true)
        }
        (Some(Mode::VerifyIdentity), _) => SslOpts::default(),
    };
    if let Some(ca) = ca {
        options = options
            .with_root_certs(vec![PathBuf::from(&ca.text).into()])
            .with_disable_built_in_roots(true);
    }
    match (cert, key) {
        (None, None) => Some(Some(options)),
        (Some(cert), Some(key)) => Some(Some(with_identity(options, cert, key, faults))),
        (Some(one), None) => {
            let allowed = "given with the key as ssl-key; for the server's authority, ssl-ca";
            faults.push(fault(&one.name, "not enough", allowed));
            None
        }
        (None, Some(one)) => {
            faults.push(fault(
                &one.name,
                "not enough",
                "given with the certificate as ssl-cert",
            ));
            None
        }
    }
}

/// Adds the certificate with which the client identifies itself.
#[cfg(any(feature = "rustls", feature = "rustls-aws-lc-rs"))]
fn with_identity(
    options: SslOpts,
    cert: &Value,
    key: &Value,
    _faults: &mut Vec<ConfigFault>,
) -> SslOpts {
    let [cert, key] = [cert, key].map(|file| PathBuf::from(&file.text));
    let identity = mysql_async::ClientIdentity::new(cert.into(), key.into());
    options.with_client_identity(Some(identity))
}

#[cfg(not(any(feature = "rustls", feature = "rustls-aws-lc-rs")))]
fn with_identity(
    options: SslOpts,
    cert: &Value,
    _key: &Value,
    faults: &mut Vec<ConfigFault>,
) -> SslOpts {
    let allowed = if cfg!(feature = "native-tls") {
        "a PKCS #12 archive with native-tls, by `map_opts` and `ClientIdentity`"
    } else {
        "a build with the feature rustls"
    };
    faults.push(fault(&cert.name, "a client certificate", allowed));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_this_host_need_no_encryption() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.0.0.7", true),
            ("[::1]", true),
            ("localhost", true),
            ("10.0.0.7", false),
            ("db", false),
            ("localhost.example.org", false),
        ] {
            let opts = Opts::from_url(&format!("mysql://app@{host}/shop")).expect("a URL");
            assert_eq!(is_encrypted_or_local(&opts), expected, "{host}");
        }
        let opts = Opts::from_url("mysql://app@db/shop?require_ssl=true").expect("a URL");
        assert!(is_encrypted_or_local(&opts));
    }

    /// With the driver's own feature and none of this crate's, TLS works as well.
    #[test]
    fn tls_is_refused_where_it_is_not_compiled_in() {
        let is_compiled_in = cfg!(any(
            feature = "rustls",
            feature = "rustls-aws-lc-rs",
            feature = "native-tls"
        ));
        assert_eq!(super::is_compiled_in(), is_compiled_in);
        for query in ["require_ssl=true", "require_ssl=true&verify_ca=false"] {
            let opts = Opts::from_url(&format!("mysql://app@db/shop?{query}")).expect("a URL");
            let faults: Vec<_> = faults(&opts).map(|fault| fault.to_string()).collect();
            assert_eq!(faults.len(), usize::from(!is_compiled_in), "{faults:?}");
            let names = ["`rustls`", "`rustls-aws-lc-rs`", "`native-tls`", "ssl-mode"];
            assert!(
                faults
                    .iter()
                    .all(|fault| names.iter().all(|name| fault.contains(name)))
            );
        }
    }

    #[test]
    fn a_password_is_not_sent_in_the_clear_to_another_host() {
        for (host_and_query, is_refused) in [
            ("db/shop?enable_cleartext_plugin=true", true),
            ("10.0.0.7/shop?enable_cleartext_plugin=true", true),
            ("db/shop?enable_cleartext_plugin=false", false),
            ("db/shop", false),
            ("127.0.0.1/shop?enable_cleartext_plugin=true", false),
            ("localhost/shop?enable_cleartext_plugin=true", false),
            (
                "db/shop?enable_cleartext_plugin=true&require_ssl=true",
                false,
            ),
            ("db/shop?enable_cleartext_plugin=true&socket=/run/db", false),
        ] {
            let url = format!("mysql://app@{host_and_query}");
            let opts = Opts::from_url(&url).expect("a URL");
            let refused = faults(&opts).any(|fault| fault.field == "enable_cleartext_plugin");
            assert_eq!(refused, is_refused, "{url}");
        }
    }
}
