//! The parts of a server's address and account that may be given without a URL or beside one.

use std::net::{IpAddr, Ipv6Addr};

use mysql_async::{Opts, OptsBuilder};

use super::{fault, given::Values, tls};
use crate::error::ConfigFault;

/// A part, by its names in a settings file and in an environment variable.
pub(super) struct Part {
    pub(super) key: &'static str,
    /// Follows the prefix and an underscore.
    pub(super) variable: &'static str,
    /// Whether errors must not quote it: it may hold a password, perhaps by mistake.
    pub(super) is_hidden: bool,
}

/// All parts. No setting of the pool has the same key.
pub(super) static PARTS: &[Part] = &[
    part("host", "HOST", true),
    part("port", "PORT", true),
    part("database", "NAME", true),
    part("user", "USER", true),
    part("password", "PASSWORD", true),
    part("ssl_mode", "SSL_MODE", false),
    part("ssl_ca", "SSL_CA", false),
    part("ssl_cert", "SSL_CERT", false),
    part("ssl_key", "SSL_KEY", false),
];

const fn part(key: &'static str, variable: &'static str, is_hidden: bool) -> Part {
    Part {
        key,
        variable,
        is_hidden,
    }
}

/// Finds a part by its key.
#[cfg(feature = "serde")]
pub(super) fn find(key: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.key == key)
}

/// Puts the parts into the driver's options.
pub(super) fn apply(values: &Values, opts: Opts, faults: &mut Vec<ConfigFault>) -> Opts {
    let tls = tls::options(values, &opts, faults);
    let mut builder = OptsBuilder::from_opts(opts);
    if let Some(value) = values.get("host") {
        match host(&value.text) {
            Ok(host) => builder = builder.ip_or_hostname(host),
            Err(allowed) => faults.push(fault(&value.name, value.shown(), allowed)),
        }
    }
    if let Some(value) = values.get("port") {
        let text = value.text.trim();
        match text.parse::<u16>().ok().filter(|port| *port > 0) {
            Some(port) => builder = builder.tcp_port(port),
            None => {
                let is_number = text.len() < 10 && text.chars().all(|c| c.is_ascii_digit());
                let shown = if is_number { text } else { value.shown() };
                faults.push(fault(&value.name, shown, "1 to 65535"));
            }
        }
    }
    let text_of = |key| values.get(key).map(|value| value.text.clone());
    if let Some(database) = text_of("database") {
        builder = builder.db_name(Some(database));
    }
    if let Some(user) = text_of("user") {
        builder = builder.user(Some(user));
    }
    if let Some(password) = text_of("password") {
        builder = builder.pass(Some(password));
    }
    if let Some(tls) = tls {
        builder = builder.ssl_opts(tls);
    }
    builder.into()
}

/// Reads a host name or an IP address, which may be in brackets. The error says what is allowed.
pub(super) fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some(bare) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        && bare.parse::<Ipv6Addr>().is_ok()
    {
        return Ok(bare.to_owned());
    }
    if text.contains(',') {
        return Err(ONE_HOST.to_owned());
    }
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.chars().all(is_name) || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("a host name or an IP address, without port, user or password".to_owned())
}

/// What is allowed instead of several hosts.
pub(super) const ONE_HOST: &str = "one host; several servers need a ClusterConfig";
