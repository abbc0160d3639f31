//! Settings from a URL: the pool's own and the driver's, separated by name.

use mysql_async::{Opts, OptsBuilder, UrlError};
use url::Url;

use super::{PoolConfig, fault, table};
use crate::error::{ConfigError, ConfigFault, Error};

/// The form of a URL, for error texts.
pub(super) const FORM: &str =
    "mysql://user:password@host:port/database, also mariadb:// or SQLAlchemy's mysql+driver://";
/// Stands for a value that may hold a password.
const HIDDEN: &str = "(hidden)";

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

impl PoolConfig {
    /// Reads a URL: `mysql://user:password@host:port/database?size=20&recycle=30m`.
    ///
    /// Also takes `mariadb://` and SQLAlchemy's `mysql+asyncmy://`, `mysql+aiomysql://`,
    /// `mysql+pymysql://` and the like. The query may hold the pool's settings, by the names of
    /// the fields, and the driver's ([`Opts`]). `charset=utf8mb4` is accepted too: the driver
    /// always uses it.
    ///
    /// Durations are seconds (`1800`, `1.5`) or have units (`30m`, `1h30m`, `500ms`). For a
    /// duration that may be `None` (never), `-1` and `never` are accepted.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every fault of the URL. None of them quotes the URL itself.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let config = read("url", url, &mut faults);
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            config => {
                // Report values out of range too, so that one attempt shows every fault.
                faults.extend(config.iter().flat_map(Self::faults));
                Err(ConfigError::new(faults).into())
            }
        }
    }
}

/// Reads a URL. Faults of the URL as a whole are reported under the name `field`. Returns `None` if
/// a fault leaves no server to connect to.
pub(super) fn read(field: &str, text: &str, faults: &mut Vec<ConfigFault>) -> Option<PoolConfig> {
    let mut url = match parse(text) {
        Ok(url) => url,
        Err(value) => {
            faults.push(fault(field, value, FORM));
            return None;
        }
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = url
        .query_pairs()
        .into_owned()
        .partition(|(key, _)| key == "charset" || table::find_one_value(key).is_some());
    let opts = driver_opts(field, &mut url, theirs, faults)?;

    let mut config = PoolConfig::from_opts(opts);
    for (key, value) in ours {
        let outcome = match table::find_one_value(&key) {
            Some(setting) => setting.set(&mut config, &value),
            None if matches!(value.as_str(), "utf8mb4" | "utf8") => Ok(()),
            None => Err(fault(&key, value, "utf8mb4")),
        };
        faults.extend(outcome.err());
    }
    Some(config)
}

/// Parses a URL after replacing its scheme by the driver's. The error is the text to show in place
/// of the URL.
fn parse(text: &str) -> Result<Url, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{HIDDEN}, without ://"));
    };
    if !SCHEMES.contains(&scheme) {
        let is_word = scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '+');
        return Err(if is_word {
            format!("of scheme {scheme}")
        } else {
            HIDDEN.to_owned()
        });
    }
    match Url::parse(&format!("mysql://{rest}")) {
        Ok(url) if url.fragment().is_none() => Ok(url),
        Ok(_) => Err(format!(
            "{HIDDEN}, with a # (%23 where it belongs to the password)"
        )),
        // The parser's message quotes nothing.
        Err(error) => Err(format!("{HIDDEN}: {error}")),
    }
}

/// Reads the driver's options, with `params` as the URL's query.
///
/// The driver stops at the first parameter that it refuses, so this removes that one and tries
/// again until it has found all of them.
fn driver_opts(
    field: &str,
    url: &mut Url,
    mut params: Vec<(String, String)>,
    faults: &mut Vec<ConfigFault>,
) -> Option<Opts> {
    loop {
        url.set_query(None);
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(&params);
        }
        let (param, allowed) = match Opts::from_url(url.as_str()) {
            Ok(opts) => return Some(opts),
            Err(UrlError::UnknownParameter { param }) => {
                let names = table::one_value_names(str::to_owned);
                let allowed = format!("a field of PoolConfig ({names}) or an option of the driver");
                (param, allowed)
            }
            Err(UrlError::InvalidParamValue { param, .. }) => {
                (param, "what the driver takes for it".to_owned())
            }
            Err(UrlError::FeatureRequired { param, feature }) => {
                (param, format!("a build with the feature {feature}"))
            }
            Err(_) => {
                faults.push(fault(field, HIDDEN, FORM));
                return None;
            }
        };
        // The value is not quoted: an option of the driver may be a secret.
        let name = format!("{field} parameter {param}");
        faults.push(fault(&name, "not understood", allowed));
        let before = params.len();
        params.retain(|(key, _)| *key != param);
        if params.len() == before {
            return None;
        }
    }
}

/// Rebuilds options that were made from a URL as host and port. The driver resolves the host of a
/// URL with a blocking call, but not the host of a builder. Also removes the brackets around an
/// IPv6 address, and turns off `prefer_socket`.
pub(super) fn by_host_and_port(opts: Opts) -> Opts {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::PoolConfig;
    use crate::config::{Reset, tests::fields};

    #[test]
    fn sqlalchemy_schemes_name_the_same_server() {
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
    fn the_query_holds_settings_of_pool_and_driver() {
        let config = PoolConfig::from_url(
            "mysql://app@db/shop?size=7&stmt_cache_size=50&recycle=-1&keepalive=10s&timeout=1.5\
             &reset=always&name=x",
        )
        .expect("a good URL");
        assert_eq!((config.size, config.recycle), (7, None));
        assert_eq!(config.opts().stmt_cache_size(), 50);
        assert_eq!(config.keepalive, Some(Duration::from_secs(10)));
        assert_eq!(config.timeout, Duration::from_millis(1500));
        assert_eq!(config.reset, Reset::Always);
        assert_eq!(config.display_name(), "x");
    }

    #[test]
    fn all_faults_are_reported_and_none_quotes_the_url() {
        let error = PoolConfig::from_url(
            "mysql://app:secret@db/shop?size=x&colour=red&shape=round&timeout=y&init=SELECT+1",
        )
        .expect_err("five faults");
        assert_eq!(
            fields(&error),
            [
                "url parameter colour",
                "url parameter shape",
                "url parameter init",
                "size",
                "timeout"
            ]
        );
        for url in [
            "app:secret@db",
            "postgres://app:secret@db/shop",
            "mysql://app:secret@db:port/shop",
            "mysql://app:secret#@db/shop",
        ] {
            let error = PoolConfig::from_url(url).expect_err(url);
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_url_panics(url in ".{0,60}", value in ".{0,20}") {
            let _outcome = PoolConfig::from_url(&url);
            let _outcome = PoolConfig::from_url(&format!("mysql://a:b@c/d?size={url}&{value}"));
        }
    }
}
