//! Settings from a URL: the pool's own, other tools' spellings of them, and the driver's.

use mysql_async::{Opts, OptsBuilder, UrlError};
use url::Url;

use super::{
    CLUSTER_SETTINGS, DEFAULT_SIZE, HIDDEN, PoolConfig, conflict, fault,
    given::{ChecksRanges, Given, Value, Values, add_unknown},
    parts,
    similar::similar,
    spellings::{self, Meaning},
    table,
    tls::Mode,
};
use crate::error::{ConfigFault, Error};

/// The form of a URL, for error texts.
pub(super) const FORM: &str =
    "mysql://user:password@host:port/database, also mariadb:// or SQLAlchemy's mysql+driver://";

/// What to do about a URL in which something is not encoded. `field` is the source's name for it.
fn encoded(field: &str) -> String {
    let apart = field.strip_suffix("_URL").map_or_else(
        || "as `user` and `password` of a settings file or by `map_opts`".to_owned(),
        |prefix| format!("as {prefix}_USER and {prefix}_PASSWORD"),
    );
    format!(
        "mysql://user:password@host:port/database with user and password percent-encoded (/ as \
         %2F, ? as %3F, # as %23, @ as %40, % as %25), or these two given apart, {apart}"
    )
}

const SCHEMES: &[&str] = &[
    "mysql",
    "mariadb",
    // Of Rails, of Django, of PHP.
    "mysql2",
    "mysqlgis",
    "mysqli",
    "pdo-mysql",
    // Of SQLAlchemy.
    "mysql+asyncmy",
    "mysql+aiomysql",
    "mysql+pymysql",
    "mysql+cymysql",
    "mysql+mysqldb",
    "mysql+mysqlconnector",
    "mysql+mariadbconnector",
    "mariadb+asyncmy",
    "mariadb+aiomysql",
    "mariadb+pymysql",
    "mariadb+cymysql",
    "mariadb+mysqldb",
    "mariadb+mysqlconnector",
    "mariadb+mariadbconnector",
];

/// Schemes that are named when they are refused. Another one may be part of a password.
const OTHER_SCHEMES: &[&str] = &[
    "http",
    "https",
    "mssql",
    "mysql+srv",
    "mysqlx",
    "mysqlx+srv",
    "postgres",
    "postgresql",
    "sqlite",
    "sqlserver",
];

/// The driver's parameters for TLS.
const DRIVER_TLS: &[&str] = &[
    "require_ssl",
    "verify_ca",
    "verify_identity",
    "built_in_roots",
];

/// The driver's other parameters, as far as they are used here.
const DRIVER_OPTIONS: &[&str] = &[
    "client_found_rows",
    "compression",
    "enable_cleartext_plugin",
    "max_allowed_packet",
    "secure_auth",
    "socket",
    "stmt_cache_size",
    "tcp_keepalive",
    "tcp_nodelay",
    "wait_timeout",
];

impl PoolConfig {
    /// Reads a URL: `mysql://user:password@host:port/database?size=20&recycle=30m`.
    ///
    /// Also takes `mariadb://`, SQLAlchemy's `mysql+asyncmy://` and the like, Rails' `mysql2://`,
    /// and `jdbc:mysql://host/database?user=app&password=secret`. White space and quotes around
    /// the URL do not count.
    ///
    /// The query may hold the pool's settings, by the names of the fields, the driver's ([`Opts`]),
    /// `ssl-mode`, `ssl-ca`, `ssl-cert` and `ssl-key` as of the `mysql` client, and many parameters
    /// of other tools: see [where settings come from](crate::guide::settings). What cannot be
    /// understood is refused, and the error says what to write instead.
    ///
    /// Durations are seconds (`1800`, `1.5`) or have units (`30m`, `1h30m`, `500ms`). For a
    /// duration that may be `None` (never), `-1` and `never` are accepted.
    ///
    /// In user and password `/`, `?`, `#` and `%` must be percent-encoded. To give them as they
    /// are, use [`map_opts`](Self::map_opts), [`password_file`](Self::password_file) or
    /// [`from_env`](Self::from_env).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every fault of the URL. None of them quotes the URL itself or any
    /// part of a password.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mysql_warm_pool::PoolConfig;
    ///
    /// let config = PoolConfig::from_url("mysql://app:12%2Fs3cret@db/shop?size=10&recycle=1h")?;
    /// assert_eq!(config.opts().pass(), Some("12/s3cret"));
    /// assert_eq!(config.recycle, Some(Duration::from_secs(3600)));
    ///
    /// let error = PoolConfig::from_url("mysql://db/shop?size=ten&recylce=1h").unwrap_err();
    /// assert!(error.to_string().contains("size is ten"));
    /// assert!(error.to_string().contains("did you mean recycle?"));
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut given = Given::new("url");
        given.url = Some(url.to_owned());
        given.finish(|_config| {}, ChecksRanges::WithOtherFaults)
    }
}

/// Reads a URL: the driver's options, and the other values in it. Faults of the URL as a whole are
/// reported under the name `field`. The options are `None` if a fault leaves no server to connect
/// to.
pub(super) fn read(
    field: &str,
    text: &str,
    faults: &mut Vec<ConfigFault>,
) -> (Option<Opts>, Values) {
    let mut url = match parse(text) {
        Ok(url) => url,
        Err(Refusal { reason, advice }) => {
            let allowed = match advice {
                Advice::Form => FORM.to_owned(),
                Advice::OneHost => parts::ONE_HOST.to_owned(),
                Advice::Encode => encoded(field),
            };
            faults.push(fault(field, format!("{HIDDEN}, {reason}"), allowed));
            return (None, Values::default());
        }
    };
    let mut query = Query {
        field,
        // Where a password was not encoded, what follows it looks like further parameters.
        is_hidden: url.query_pairs().any(|(key, _)| is_secret(&key)),
        values: Values::default(),
        theirs: Vec::new(),
        tls: Vec::new(),
        most: None,
        faults,
    };
    for (key, value) in url.query_pairs().into_owned().collect::<Vec<_>>() {
        // Copied from an XML file.
        let key = key.strip_prefix("amp;").unwrap_or(&key).to_owned();
        query.add(key, value);
    }
    query.add_tls();
    query.add_most();
    if query.values.get("user").is_some() && !url.username().is_empty() {
        let name = format!("{field} parameter user");
        query.faults.push(conflict(&name, HIDDEN, "user@host"));
    }
    if query.values.get("password").is_some() && url.password().is_some() {
        let name = format!("{field} parameter password");
        query
            .faults
            .push(conflict(&name, HIDDEN, "user:password@host"));
    }
    let opts = query.driver_opts(&mut url);
    let values = query.values;
    if let Some(opts) = &opts {
        let password = values.get("password").map(|value| value.text.as_str());
        let texts = [opts.user(), opts.pass(), opts.db_name(), password];
        if texts.iter().flatten().any(|text| text.contains('\u{fffd}')) {
            let reason = format!("{HIDDEN}, not UTF-8 when decoded");
            faults.push(fault(field, reason, encoded(field)));
        }
        // Perhaps all of `user:password` was encoded: then the user's name would show a password.
        let user = values.get("user").map(|value| value.text.as_str());
        if user
            .or_else(|| opts.user())
            .is_some_and(|user| user.contains(':'))
        {
            let reason = format!("{HIDDEN}, with a colon (%3A) in the user's name");
            faults.push(fault(field, reason, encoded(field)));
        }
    }
    (opts, values)
}

/// Why a URL is refused. Quotes nothing of the URL but a well-known scheme.
struct Refusal {
    reason: String,
    advice: Advice,
}

#[derive(Clone, Copy)]
enum Advice {
    Form,
    OneHost,
    Encode,
}

/// Parses a URL after replacing its scheme by the driver's.
fn parse(text: &str) -> Result<Url, Refusal> {
    let refusal = |reason: &str, advice| Refusal {
        reason: reason.to_owned(),
        advice,
    };
    let refused = |reason, advice| Err(refusal(reason, advice));
    let text = unquoted(text);
    let without_jdbc = text.strip_prefix("jdbc:").unwrap_or(text);
    let Some((scheme, rest)) = without_jdbc.split_once("://") else {
        let is_go = text.contains("@tcp(") || text.contains("@unix(");
        let reason = if is_go {
            "in the form of Go's user:password@tcp(host:port)/database"
        } else {
            "without ://"
        };
        return refused(reason, Advice::Form);
    };
    let scheme = scheme.to_lowercase();
    if !SCHEMES.contains(&scheme.as_str()) {
        let reason = if OTHER_SCHEMES.contains(&scheme.as_str()) {
            format!("of scheme {scheme}")
        } else {
            "of an unknown scheme".to_owned()
        };
        return refused(&reason, Advice::Form);
    }
    // The parser drops some of these silently.
    if rest.chars().any(char::is_control) {
        return refused(
            "with a line break, a tab or another control character",
            Advice::Encode,
        );
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') {
        return refused("with an @ after a /, ? or #", Advice::Encode);
    }
    if tail.contains('#') {
        return refused("with a #", Advice::Encode);
    }
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if host.is_empty() || host.starts_with(':') {
        return refused("without a host", Advice::Form);
    }
    if host.contains(',') {
        return refused("of several hosts", Advice::OneHost);
    }
    if host.contains('(') {
        return refused("of a host in parentheses", Advice::Form);
    }
    // The parser's message quotes nothing.
    let mut url = Url::parse(&format!("mysql://{rest}"))
        .map_err(|error| refusal(&error.to_string(), Advice::Encode))?;
    if url.port() == Some(0) {
        return refused("of port 0", Advice::Form);
    }
    if url.host_str().is_none_or(|host| parts::host(host).is_err()) {
        return refused("of a host that is no name or address", Advice::Encode);
    }
    // The driver drops what follows the database's name.
    let path = url
        .path()
        .trim_start_matches('/')
        .trim_end_matches('/')
        .to_owned();
    if path.contains('/') {
        return refused("with a / in the database's name", Advice::Encode);
    }
    url.set_path(&path);
    Ok(url)
}

/// Removes white space and quotes around a text, which env files may leave there.
pub(super) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inside = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).map_or(text, str::trim)
}

/// Whether a parameter's name announces a secret.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let ends = ["pass", "passwd", "password", "pwd", "secret", "token"];
    ends.iter().any(|end| key.ends_with(end))
}

/// The parameters of a URL.
struct Query<'a> {
    field: &'a str,
    /// Its names and values may hold a part of a password.
    is_hidden: bool,
    values: Values,
    /// The driver's parameters.
    theirs: Vec<(String, String)>,
    /// What the parameters say about TLS, each by its name.
    tls: Vec<(String, Mode)>,
    /// The most connections, and the name of the parameter.
    most: Option<(String, String)>,
    faults: &'a mut Vec<ConfigFault>,
}

impl Query<'_> {
    fn add(&mut self, key: String, value: String) {
        if let Some(setting) = table::find_one_value(&key) {
            return self.add_value(setting.name, setting.name.to_owned(), value);
        }
        let name = format!("{} parameter {key}", self.field);
        match spellings::meaning(&key, &value) {
            None => self.theirs.push((key, value)),
            Some(Ok(Meaning::Given)) => {}
            Some(Ok(Meaning::Value(setting, text))) => self.add_value(setting, name, text),
            Some(Ok(Meaning::Driver(param, text))) => self.theirs.push((param.to_owned(), text)),
            Some(Ok(Meaning::Tls(mode))) => self.tls.push((name, mode)),
            Some(Ok(Meaning::Limit(text))) => {
                self.add_value("size", name.clone(), text);
                self.add_value("overflow", name, "0".to_owned());
            }
            Some(Ok(Meaning::Most(text))) => self.most = Some((name, text)),
            Some(Err(allowed)) => {
                // A statement may hold a secret.
                let is_word = value
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-_./".contains(c));
                let is_shown = is_word && value.len() <= 32 && !self.is_hidden;
                let shown = if is_shown {
                    value.as_str()
                } else {
                    "not understood"
                };
                self.faults.push(fault(&name, shown, allowed));
            }
        }
    }

    fn add_value(&mut self, key: &'static str, name: String, text: String) {
        let value = Value {
            name,
            text,
            is_hidden: self.is_hidden,
        };
        self.faults.extend(self.values.add(key, value).err());
    }

    /// Sets the strictest mode that any of the parameters asks for.
    fn add_tls(&mut self) {
        let Some((name, mode)) = self.tls.iter().max_by_key(|(_, mode)| *mode).cloned() else {
            return;
        };
        let contradicts =
            |other: &&(String, Mode)| (other.1 == Mode::Disabled) != (mode == Mode::Disabled);
        if let Some((other, _)) = self.tls.iter().find(contradicts) {
            self.faults
                .push(fault(other, "no TLS", format!("to agree with {name}")));
        }
        let is_of_driver = |(key, _): &&(String, String)| DRIVER_TLS.contains(&key.as_str());
        if let Some((key, _)) = self.theirs.iter().find(is_of_driver) {
            self.faults.push(conflict(&name, mode.name(), key));
        }
        self.add_value("ssl_mode", name, mode.name().to_owned());
    }

    /// Computes `overflow` from the most connections and `size`.
    fn add_most(&mut self) {
        let Some((name, text)) = self.most.take() else {
            return;
        };
        let Ok(most) = text.parse::<usize>() else {
            return self.add_value("overflow", name, text);
        };
        let shown = if self.is_hidden { HIDDEN } else { &text };
        if let Some(overflow) = self.values.get("overflow") {
            return self.faults.push(conflict(&name, shown, &overflow.name));
        }
        let size = match self.values.get("size") {
            Some(value) => value.text.parse().unwrap_or(0),
            None => {
                let size = DEFAULT_SIZE.min(most);
                self.add_value("size", name.clone(), size.to_string());
                size
            }
        };
        match most.checked_sub(size) {
            Some(overflow) => self.add_value("overflow", name, overflow.to_string()),
            None => self.faults.push(fault(&name, shown, "size or more")),
        }
    }

    /// Reads the driver's options, with its parameters as the URL's query.
    ///
    /// The driver stops at the first parameter that it refuses, so this removes that one and tries
    /// again until it has found all of them.
    fn driver_opts(&mut self, url: &mut Url) -> Option<Opts> {
        loop {
            url.set_query(None);
            if !self.theirs.is_empty() {
                url.query_pairs_mut().extend_pairs(&self.theirs);
            }
            let error = match Opts::from_url(url.as_str()) {
                Ok(opts) => return Some(opts),
                Err(error) => error,
            };
            // The value is not quoted: an option of the driver may be a secret.
            let refused = match error {
                UrlError::UnknownParameter { param } => {
                    let name = self.name_of(&param);
                    // A part of a password is not repeated in other letters either.
                    let meant = name.ends_with(&param).then(|| meant(&param)).flatten();
                    add_unknown(self.faults, &name, meant, || {
                        let names: Vec<_> = table::one_value_names().collect();
                        let names = names.join(", ");
                        format!("a field of PoolConfig ({names}) or an option of the driver")
                    });
                    param
                }
                UrlError::InvalidParamValue { param, .. } => {
                    let name = self.name_of(&param);
                    let allowed = "what the driver takes for it";
                    self.faults.push(fault(&name, "not understood", allowed));
                    param
                }
                UrlError::FeatureRequired { param, feature } => {
                    let name = self.name_of(&param);
                    let allowed = format!("a build with the feature {feature}");
                    self.faults.push(fault(&name, "not understood", allowed));
                    param
                }
                _ => {
                    self.faults.push(fault(self.field, HIDDEN, FORM));
                    return None;
                }
            };
            let before = self.theirs.len();
            self.theirs.retain(|(key, _)| *key != refused);
            if self.theirs.len() == before {
                return None;
            }
        }
    }

    fn name_of(&self, param: &str) -> String {
        let is_word = param
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if self.is_hidden || !is_word {
            format!("{} parameter {HIDDEN}", self.field)
        } else {
            format!("{} parameter {param}", self.field)
        }
    }
}

/// The parameter that was probably meant by one that is unknown.
fn meant(param: &str) -> Option<String> {
    let names = table::one_value_names()
        .chain([
            "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "user", "password",
        ])
        .chain(DRIVER_TLS.iter().chain(DRIVER_OPTIONS).copied())
        .chain(CLUSTER_SETTINGS);
    let name = similar(param, names)?;
    Some(if CLUSTER_SETTINGS.contains(&name) {
        format!("{name}, of a ClusterConfig")
    } else {
        name.to_owned()
    })
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

    #[test]
    fn a_url_may_be_written_as_other_tools_write_it() {
        for url in [
            "\"mysql://app:secret@db:3306/shop\"",
            " 'mysql://app:secret@db/shop'\n",
            "MySQL://app:secret@db/shop/",
            "mysql2://app:secret@db/shop?pool=20&reconnect=true&encoding=utf8mb4",
            "jdbc:mysql://db:3306/shop?user=app&password=secret",
            "jdbc:mariadb://db/shop?user=app&password=secret&useUnicode=true\
             &characterEncoding=UTF-8&serverTimezone=UTC&allowPublicKeyRetrieval=true",
            "jdbc:mysql://db/shop?user=app&amp;password=secret&amp;useSSL=false",
            "mysql+mysqldb://app:secret@db/shop?charset=utf8mb4",
            "mysql://app:secret@db/shop?parseTime=true&loc=UTC&multiStatements=true",
        ] {
            let config = PoolConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(config.display_name(), "db:3306/shop");
            assert_eq!(
                (config.opts().user(), config.opts().pass()),
                (Some("app"), Some("secret"))
            );
            assert!(config.opts().ssl_opts().is_none());
        }
    }

    #[test]
    fn other_tools_settings_of_the_pool_are_understood() {
        let config = PoolConfig::from_url(
            "mysql://app@db/shop?connection_limit=5&pool_timeout=7&connectTimeout=1500\
             &statement_cache_size=50&useCompression=true&pool_pre_ping=True",
        )
        .expect("a good URL");
        assert_eq!((config.size, config.overflow), (5, 0));
        assert_eq!(config.timeout, Duration::from_secs(7));
        assert_eq!(config.connect_timeout, Duration::from_millis(1500));
        assert_eq!(config.validate_after_idle, Duration::ZERO);
        assert_eq!(config.opts().stmt_cache_size(), 50);
        assert!(config.opts().compression().is_some());
        let config =
            PoolConfig::from_url("mysql://db/d?connect-timeout=3&pool_recycle=-1&max_overflow=2")
                .expect("a good URL");
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert_eq!((config.recycle, config.overflow), (None, 2));
    }

    #[test]
    fn the_drivers_own_pool_is_understood() {
        let limit = |query: &str| {
            let url = format!("mysql://app@db/shop?{query}");
            let config = PoolConfig::from_url(&url).unwrap_or_else(|error| panic!("{error}"));
            (config.size, config.overflow)
        };
        for (query, expected) in [
            ("pool_min=5&pool_max=15", (5, 10)),
            ("pool_max=15&pool_min=0", (0, 15)),
            ("pool_max=15", (15, 0)),
            ("pool_max=100", (20, 80)),
            ("pool_max=15&size=4", (4, 11)),
            ("pool_min=5", (5, 30)),
        ] {
            assert_eq!(limit(query), expected, "{query}");
        }
        let config = PoolConfig::from_url(
            "mysql://app@db/shop?inactive_connection_ttl=60&abs_conn_ttl=3600\
             &reset_connection=false&prefer_socket=false",
        )
        .expect("a good URL");
        assert_eq!(config.overflow_linger, Duration::from_secs(60));
        assert_eq!(config.recycle, Some(Duration::from_secs(3600)));
        assert_eq!(config.reset, Reset::Never);
        for (query, expected) in [
            (
                "pool_min=5&pool_max=4",
                "pool_max is 4, allowed is size or more",
            ),
            (
                "pool_max=many",
                "pool_max is many, allowed is a whole number",
            ),
            (
                "pool_max=5&overflow=2",
                "set only one of url parameter pool_max and overflow",
            ),
            ("pool_max=0", "size is 0"),
            ("conn_ttl=5", "conn_ttl is 5, allowed is to leave it out"),
            (
                "prefer_socket=true",
                "prefer_socket is true, allowed is false",
            ),
        ] {
            let url = format!("mysql://app@db/shop?{query}");
            let outcome = PoolConfig::from_url(&url);
            let checked = outcome.and_then(|config| config.check().map_err(Into::into));
            let text = checked.expect_err(query).to_string();
            assert!(text.contains(expected), "{query}: {text}");
        }
    }

    #[test]
    fn a_parameter_of_nearly_a_known_name_is_recognised() {
        for (query, expected) in [
            (
                "recylce=30m",
                "recylce is not a known name, allowed is a field",
            ),
            ("recylce=30m", "(did you mean recycle?)"),
            ("ssl-mod=REQUIRED", "(did you mean ssl-mode?)"),
            ("stmt_cache_sice=5", "(did you mean stmt_cache_size?)"),
            ("max_lags=5s", "(did you mean max_lag, of a ClusterConfig?)"),
            ("max_lag=5s", "(did you mean max_lag, of a ClusterConfig?)"),
            // The list of known names follows the first unknown one, whatever else is wrong.
            (
                "stmt_cache_size=x&colour=red",
                "colour is not a known name, allowed is a field",
            ),
        ] {
            let error = PoolConfig::from_url(&format!("mysql://app:secret@db/shop?{query}"));
            let text = error.expect_err(query).to_string();
            assert!(text.contains(expected), "{query}: {text}");
        }
        // It may be a part of the password.
        let error = PoolConfig::from_url("mysql://app@db/shop?password=a&recylce=b");
        let text = error.expect_err("not encoded").to_string();
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[test]
    fn a_missing_value_is_called_empty() {
        let error = PoolConfig::from_url("mysql://app@db/shop?size=&ssl-mode=").expect_err("empty");
        let text = error.to_string();
        for part in ["size is empty, allowed", "ssl-mode is empty, allowed"] {
            assert!(text.contains(part), "{text}");
        }
        let error = PoolConfig::from_url("mysql://app@db:0/shop").expect_err("port 0");
        assert!(error.to_string().contains("of port 0"), "{error}");
    }

    /// Whether certificates and names are verified; `None` without TLS.
    fn verified(url: &str) -> Option<(bool, bool)> {
        let config = PoolConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let tls = config.opts().ssl_opts()?;
        Some((
            !tls.accept_invalid_certs(),
            !tls.accept_invalid_certs() && !tls.skip_domain_validation(),
        ))
    }

    #[test]
    fn tls_is_asked_for_in_the_words_of_any_tool() {
        let (none, unverified) = (None, Some((false, false)));
        let (authority, identity) = (Some((true, false)), Some((true, true)));
        for (query, expected) in [
            ("", none),
            ("ssl-mode=DISABLED", none),
            ("sslmode=disable", none),
            ("ssl-mode=REQUIRED", unverified),
            ("ssl_mode=required", unverified),
            ("sslMode=REQUIRED", unverified),
            ("sslmode=require", unverified),
            ("sslMode=trust", unverified),
            ("ssl-mode=VERIFY_CA", authority),
            ("sslmode=verify-ca", authority),
            ("ssl-mode=VERIFY_IDENTITY", identity),
            ("sslmode=verify-full", identity),
            ("useSSL=false", none),
            ("useSSL=false&verifyServerCertificate=false", none),
            ("useSSL=true", unverified),
            (
                "useSSL=true&requireSSL=true&verifyServerCertificate=false",
                unverified,
            ),
            (
                "useSSL=true&requireSSL=false&verifyServerCertificate=true",
                authority,
            ),
            ("tls=true", identity),
            ("tls=skip-verify", unverified),
            ("tls=false", none),
            ("ssl=true", identity),
            ("ssl={}", identity),
            ("ssl={\"rejectUnauthorized\":true}", identity),
            ("ssl=%7B%22rejectUnauthorized%22%3Afalse%7D", unverified),
            (
                "ssl={\"minVersion\":\"TLSv1.2\",\"rejectUnauthorized\":true}",
                identity,
            ),
            ("sslaccept=strict", identity),
            ("sslaccept=accept_invalid_certs", unverified),
            ("sslmode=require&sslaccept=strict", identity),
            ("ssl_verify_cert=true", authority),
            ("ssl_verify_cert=true&ssl_verify_identity=true", identity),
            ("ssl-ca=/ca.pem", identity),
            ("ssl-mode=REQUIRED&ssl-ca=/ca.pem", authority),
            ("ssl-mode=VERIFY_CA&sslrootcert=/ca.pem", authority),
            ("sslMode=verify-full&serverSslCert=/ca.pem", identity),
            ("require_ssl=true", identity),
            (
                "require_ssl=true&verify_ca=false&ssl-ca=/ca.pem",
                unverified,
            ),
        ] {
            let url = format!("mysql://app:secret@db/shop?{query}");
            assert_eq!(verified(&url), expected, "{query}");
            let has_ca = query.contains("ca.pem") && expected.is_some();
            let config = PoolConfig::from_url(&url).expect("a good URL");
            let tls = config.opts().ssl_opts();
            assert_eq!(tls.is_some_and(|tls| tls.root_certs().len() == 1), has_ca);
            assert_eq!(tls.is_some_and(|tls| tls.disable_built_in_roots()), has_ca);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_to_write() {
        for (query, field, allowed) in [
            (
                "ssl-mode=PREFERRED",
                "ssl-mode is PREFERRED",
                "DISABLED, REQUIRED, VERIFY_CA",
            ),
            ("sslmode=prefer", "sslmode is prefer", "cannot fall back"),
            ("tls=preferred", "tls is preferred", "ssl-mode=REQUIRED"),
            ("tls=custom", "tls is custom", "ssl-mode=REQUIRED"),
            (
                "ssl={\"ca\":1}",
                "ssl is not understood",
                "rejectUnauthorized",
            ),
            (
                "sslaccept=maybe",
                "sslaccept is maybe",
                "strict, accept_invalid_certs",
            ),
            ("ssl-cert=/c.pem", "ssl-cert is not enough", "ssl-key"),
            ("sslkey=/k.pem", "sslkey is not enough", "ssl-cert"),
            (
                "ssl-mode=DISABLED&ssl-ca=/ca.pem",
                "ssl-ca is /ca.pem",
                "no file, because url parameter ssl-mode turns TLS off",
            ),
            (
                "useSSL=false&serverSslCert=/ca.pem",
                "serverSslCert is /ca.pem",
                "no file, because url parameter useSSL turns TLS off",
            ),
            (
                "ssl-capath=/etc/ssl",
                "ssl-capath is /etc/ssl",
                "ssl-ca with a PEM file",
            ),
            (
                "ssl-mode=REQUIRED&require_ssl=true",
                "set only one of",
                "url parameter ssl-mode and require_ssl",
            ),
            (
                "useSSL=false&requireSSL=true",
                "useSSL is no TLS",
                "to agree with url parameter requireSSL",
            ),
            ("charset=latin1", "charset is latin1", "utf8mb4"),
            (
                "serverTimezone=Europe/Paris",
                "serverTimezone is Europe/Paris",
                "SET time_zone",
            ),
            (
                "collation=utf8mb4_bin",
                "collation is utf8mb4_bin",
                "`init`",
            ),
            (
                "init_command=SET+a='x y'",
                "init_command is not understood",
                "`init`",
            ),
            ("autocommit=false", "autocommit is false", "true, as always"),
            (
                "socketTimeout=5000",
                "socketTimeout is 5000",
                "statement_timeout",
            ),
            (
                "connectTimeout=5s",
                "connectTimeout is 5s",
                "whole milliseconds",
            ),
            (
                "size=5&pool=6",
                "set only one of",
                "url parameter pool and size",
            ),
            ("size=5&size=6", "size is 6", "to give it once"),
            (
                "user=root",
                "set only one of",
                "url parameter user and user@host",
            ),
        ] {
            let error = PoolConfig::from_url(&format!("mysql://app:secret@db/shop?{query}"));
            let text = error.expect_err(query).to_string();
            assert!(
                text.contains(field) && text.contains(allowed),
                "{query}: {text}"
            );
        }
        for (url, reason, allowed) in [
            (
                "mysql://a:b@h1:3306,h2:3306/d",
                "of several hosts",
                "a ClusterConfig",
            ),
            (
                "jdbc:mysql://h1,h2/d?user=a",
                "of several hosts",
                "a ClusterConfig",
            ),
            (
                "a:b@tcp(h:3306)/d?parseTime=true",
                "form of Go's",
                "mysql://user:password@host",
            ),
            (
                "mysql://a:b@tcp(h:3306)/d",
                "in parentheses",
                "mysql://user:password@host",
            ),
            (
                "postgres://a:b@h/d",
                "of scheme postgres",
                "mysql://user:password@host",
            ),
            (
                "mysql://a:b@/d",
                "without a host",
                "mysql://user:password@host",
            ),
            (
                "mysql://a:b@%2Ftmp%2Fmysql.sock/d",
                "no name or address",
                "%2F",
            ),
            ("mysql://a:12/b@h:3306/d", "with an @ after", "/ as %2F"),
            ("mysql://a:?b@h/d", "with an @ after", "? as %3F"),
            ("mysql://a:#b@h/d", "with an @ after", "# as %23"),
            ("mysql://a:b@h/d#e", "with a #", "# as %23"),
            ("mysql://a:b\tc@h/d", "with a line break", "given apart"),
            ("mysql://a:50%ff@h/d", "not UTF-8", "% as %25"),
            ("mysql://a%3Ab@h/d", "a colon (%3A)", "user:password"),
            ("mysql://h/d/e", "with a / in the database's name", "%2F"),
        ] {
            let text = PoolConfig::from_url(url).expect_err(url).to_string();
            assert!(
                text.contains(reason) && text.contains(allowed),
                "{url}: {text}"
            );
        }
    }

    #[test]
    fn known_names_are_listed_once() {
        let error = PoolConfig::from_url("mysql://db/d?colour=red&shape=round").expect_err("two");
        assert_eq!(
            error.to_string().matches("warm_up_timeout").count(),
            1,
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_url_panics(url in ".{0,60}", value in ".{0,20}") {
            let _outcome = PoolConfig::from_url(&url);
            let _outcome = PoolConfig::from_url(&format!("mysql://a:b@c/d?size={url}&{value}"));
        }
    }
}
