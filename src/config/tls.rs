//! TLS as a URL or the environment asks for it: the modes of the `mysql` client, and files.

use std::path::PathBuf;

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

const MODES: &str = "DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY";

impl Mode {
    /// Reads a mode by its name in the `mysql` client, libpq or MariaDB's connectors. The error is
    /// what is allowed.
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
    #[cfg(feature = "serde")]
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
    let [ca, cert, key] = ["ssl_ca", "ssl_cert", "ssl_key"].map(|key| values.get(key));
    let mut options = match (mode, [ca, cert, key]) {
        (None, [None, None, None]) => return None,
        (Some(Mode::Disabled), _) => return Some(None),
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
