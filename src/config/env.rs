//! Settings from environment variables.

use std::env;

use super::{
    HIDDEN, PoolConfig, fault,
    given::{ChecksRanges, Given},
    parts::{PARTS, Part},
    password_file::without_line_breaks,
    similar::similar,
    table::{self, Setting},
    url::unquoted,
};
use crate::error::Error;

impl PoolConfig {
    /// Reads the settings from environment variables.
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `DATABASE_URL` | a URL as in [`from_url`](Self::from_url) |
    /// | `DATABASE_HOST`, `_PORT`, `_NAME` | the server, and the database on it |
    /// | `DATABASE_USER`, `DATABASE_PASSWORD` | the account, not percent-encoded |
    /// | `DATABASE_PASSWORD_FILE` | [`password_file`](field@Self::password_file) |
    /// | `DATABASE_SSL_MODE` | `DISABLED`, `REQUIRED`, `VERIFY_CA` or `VERIFY_IDENTITY` |
    /// | `DATABASE_SSL_CA`, `_SSL_CERT`, `_SSL_KEY` | PEM files: the authority to trust; the client's certificate and its key |
    /// | `DATABASE_POOL_SIZE` | [`size`](field@Self::size) |
    /// | `DATABASE_MAX_OVERFLOW` | [`overflow`](field@Self::overflow) |
    /// | `DATABASE_POOL_<FIELD>` | every other field, except `prepare`, `init`, `on_connect` and `credentials` |
    ///
    /// A URL or a host must be given; the port is 3306 unless set. A variable wins over the same
    /// setting in the URL, and a setter called on the result wins over both. Durations are seconds (`1800`, `1.5`) or have units (`30m`, `1h30m`,
    /// `500ms`). For a duration that may be `None` (never), `-1` and `never` are accepted.
    ///
    /// An empty variable counts as not set. White space and quotes around a value are removed,
    /// except in `DATABASE_PASSWORD`, of which only line breaks at the end are removed. Variables
    /// that Kubernetes sets for a service called `database` or `database-pool`
    /// (`DATABASE_PORT=tcp://10.0.0.1:3306`, `DATABASE_POOL_SERVICE_HOST`) are ignored.
    ///
    /// [Where settings come from](crate::guide::settings) has examples, with Kubernetes secrets.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every fault in any of the variables: no server, values that cannot be
    /// read or are out of range, unknown `DATABASE_POOL_` variables, and settings given twice. No
    /// fault quotes the URL, the host, the account or a variable that is not known.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Pool, PoolConfig};
    ///
    /// // DATABASE_URL=mysql://app@db/shop DATABASE_PASSWORD=12/s3cret DATABASE_POOL_SIZE=10
    /// // What does not differ between deployments is set in code, and wins.
    /// let config = PoolConfig::from_env()?.init(["SET time_zone = '+00:00'"]);
    /// let pool = Pool::new(config)?;
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    pub fn from_env() -> Result<Self, Error> {
        Self::from_env_prefixed("DATABASE")
    }

    /// Reads the settings as [`from_env`](Self::from_env) does, with another prefix instead of
    /// `DATABASE`.
    ///
    /// `from_env_prefixed("ORDERS")` reads `ORDERS_URL`, `ORDERS_POOL_SIZE` and so on.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_env_prefixed(prefix: &str) -> Result<Self, Error> {
        let variables = env::vars_os().map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name, value.into_string().ok())
        });
        from_variables(prefix, variables)
    }
}

/// Reads variables, whose values are `None` if they are not Unicode.
pub(crate) fn from_variables(
    prefix: &str,
    variables: impl Iterator<Item = (String, Option<String>)>,
) -> Result<PoolConfig, Error> {
    let start = format!("{}_", prefix.trim_end_matches('_'));
    let mut given = Given::new(format!("{start}URL"));
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(&start) else {
            continue;
        };
        let Some(meaning) = Meaning::of(rest) else {
            continue;
        };
        let Some(value) = value else {
            // `from_env` cannot know whether an unknown variable is meant for it.
            if !matches!(meaning, Meaning::Unknown) {
                given.faults.push(fault(&name, HIDDEN, "Unicode"));
            }
            continue;
        };
        // White space counts in a password only.
        let is_password = matches!(meaning, Meaning::Part(part) if part.key == "password");
        let text = if is_password {
            without_line_breaks(&value)
        } else {
            unquoted(&value)
        };
        if text.is_empty() || is_injected(rest, text) {
            continue;
        }
        let text = text.to_owned();
        match meaning {
            Meaning::Url => given.url = Some(text),
            Meaning::Part(part) => given.add_part(part, name, text),
            Meaning::Setting(setting) => given.add(setting, name, text),
            // The value is not quoted: it may be a password that was put in the wrong place.
            Meaning::Unknown => {
                let documented = |setting| format!("{start}{}", variable(setting));
                // As in `DATABASE_POOL_MAX_OVERFLOW`.
                let names = table::one_value_names().chain(["max_overflow"]);
                let meant = similar(rest.trim_start_matches("POOL_"), names).map(documented);
                given.add_unknown(&name, meant, || {
                    let names: Vec<_> = table::one_value_names().map(documented).collect();
                    format!("one of {}", names.join(", "))
                });
            }
        }
    }
    given.finish(|_config| {}, ChecksRanges::Always)
}

/// The documented name of a setting's variable, without the prefix.
fn variable(setting: &str) -> String {
    match setting {
        // The name that SQLAlchemy services use.
        "overflow" | "max_overflow" => "MAX_OVERFLOW".to_owned(),
        "password_file" => "PASSWORD_FILE".to_owned(),
        _ => format!("POOL_{}", setting.to_uppercase()),
    }
}

/// What a variable means.
enum Meaning {
    Url,
    Part(&'static Part),
    Setting(&'static Setting),
    /// It has the prefix of the pool's settings, but is not one of them.
    Unknown,
}

impl Meaning {
    /// Finds the meaning of a variable by its name without the prefix. `None` if it is not meant
    /// for the pool.
    fn of(rest: &str) -> Option<Self> {
        let part = PARTS.iter().find(|part| part.variable == rest);
        let setting = match rest {
            "MAX_OVERFLOW" => Some("overflow".to_owned()),
            "PASSWORD_FILE" => Some("password_file".to_owned()),
            _ => rest.strip_prefix("POOL_").map(str::to_lowercase),
        };
        match (rest, part, setting) {
            ("URL", ..) => Some(Self::Url),
            (_, Some(part), _) => Some(Self::Part(part)),
            (_, _, Some(setting)) => Some(match table::find_one_value(&setting) {
                Some(setting) => Self::Setting(setting),
                None => Self::Unknown,
            }),
            _ => None,
        }
    }
}

/// Whether Kubernetes set the variable for a service, or Docker for a link, called `database` or
/// `database-pool` or the like. `rest` is the name without the prefix.
pub(crate) fn is_injected(rest: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let is_part_of_address = |end: &str| {
        // 3306_TCP, 3306_TCP_ADDR
        let mut words = end.split('_');
        let is_port = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
        is_port
            && words
                .next()
                .is_some_and(|word| matches!(word, "TCP" | "UDP" | "SCTP"))
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest == "PORT" || rest.ends_with("_PORT")) && is_address
        || rest
            .split_once("_PORT_")
            .is_some_and(|(_, end)| is_part_of_address(end))
        || (rest == "NAME" || rest.ends_with("_NAME")) && value.starts_with('/')
        || rest.contains("_ENV_")
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::{PoolConfig, from_variables};
    use crate::{config::tests::fields, error::Error};

    fn from_map(pairs: &[(&str, &str)]) -> Result<PoolConfig, Error> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        from_variables("DATABASE", pairs)
    }

    #[test]
    fn the_variables_of_sqlalchemy_services_keep_their_meaning() {
        let config = from_map(&[
            ("DATABASE_URL", "mysql+asyncmy://app:secret@db:3306/shop"),
            ("DATABASE_POOL_SIZE", "21"),
            ("DATABASE_MAX_OVERFLOW", "31"),
            ("DATABASE_POOL_TIMEOUT", "61"),
            ("DATABASE_POOL_RECYCLE", "1800"),
            ("DATABASE_POOL_WARM_UP_TIMEOUT", "5s"),
            ("DATABASE_POOL_KEEPALIVE", "1.5"),
            ("DATABASE_POOL_READY_AT", ""),
        ])
        .expect("good settings");
        assert_eq!((config.size, config.overflow), (21, 31));
        assert_eq!(config.timeout, Duration::from_secs(61));
        assert_eq!(config.recycle, Some(Duration::from_secs(1800)));
        assert_eq!(config.warm_up_timeout, Duration::from_secs(5));
        assert_eq!(config.keepalive, Some(Duration::from_millis(1500)));
        assert_eq!(config.ready_at, None);
    }

    #[test]
    fn all_faults_are_reported_with_field_value_and_range() {
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
        let expected = "DATABASE_POOL_RESET is sometimes, allowed is when_changed, always, never";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn faults_have_the_names_and_values_of_the_variables() {
        let error = from_map(&[
            ("DATABASE_URL", "postgres://app:secret@db/shop"),
            ("DATABASE_POOL_SIZE", "100001"),
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
        for part in [
            "DATABASE_POOL_TIMEOUT is 0s, allowed is 1ms to 365 days",
            "DATABASE_POOL_SIZE is 100001, allowed is 1 to",
            "DATABASE_POOL_PASSWORD is not a known name",
            "set only one of DATABASE_POOL_OVERFLOW and DATABASE_MAX_OVERFLOW",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
        let Error::Config(error) = error else {
            panic!("{error}");
        };
        let conflict = error.faults().get(1).expect("the second fault");
        assert_eq!(conflict.value, "4");
        assert_eq!(
            conflict.allowed,
            "only one of DATABASE_POOL_OVERFLOW and DATABASE_MAX_OVERFLOW"
        );
    }

    #[test]
    fn a_list_of_statements_is_no_variable() {
        let error = from_map(&[
            ("DATABASE_URL", "mysql://app@db/shop"),
            ("DATABASE_POOL_INIT", "SET @key = 's3cret'"),
        ])
        .expect_err("not a setting of one value");
        assert_eq!(fields(&error), ["DATABASE_POOL_INIT"]);
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn the_parts_of_a_url_can_be_given_apart() {
        let config = from_map(&[
            ("DATABASE_HOST", "\"db\""),
            ("DATABASE_PORT", "3307"),
            ("DATABASE_NAME", "shop"),
            ("DATABASE_USER", "app"),
            ("DATABASE_PASSWORD", " \"12/s3cret?#@%41:\" \r\n"),
            ("DATABASE_SSL_CA", "/etc/ca.pem"),
            ("DATABASE_POOL_NAME", "orders"),
            ("DATABASE_POOL_SIZE", "'7'"),
        ])
        .expect("good settings");
        let opts = config.opts();
        assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("db", 3307));
        assert_eq!((opts.user(), opts.db_name()), (Some("app"), Some("shop")));
        assert_eq!(opts.pass(), Some(" \"12/s3cret?#@%41:\" "));
        assert_eq!((config.size, config.display_name().as_str()), (7, "orders"));
        let tls = opts.ssl_opts().expect("TLS");
        assert!(tls.disable_built_in_roots() && !tls.skip_domain_validation());
        assert_eq!(tls.root_certs().len(), 1);
    }

    #[test]
    fn what_is_given_apart_wins_over_the_url() {
        let url = "mysql://root:old@h:1/d?ssl-mode=DISABLED&password_file=/old&size=3";
        let config = from_map(&[
            ("DATABASE_URL", url),
            ("DATABASE_USER", "app"),
            ("DATABASE_PASSWORD", "new"),
            ("DATABASE_PORT", "3307"),
            ("DATABASE_SSL_MODE", "REQUIRED"),
        ])
        .expect("good settings");
        let opts = config.opts();
        assert_eq!((opts.user(), opts.pass()), (Some("app"), Some("new")));
        assert_eq!(config.display_name(), "h:3307/d");
        assert!(
            opts.ssl_opts()
                .is_some_and(|tls| tls.accept_invalid_certs())
        );
        assert_eq!((config.size, &config.password_file), (3, &None));

        let config = from_map(&[("DATABASE_URL", url), ("DATABASE_PASSWORD_FILE", "/new")]);
        let file = config.expect("good settings").password_file;
        assert_eq!(file.as_deref(), Some(Path::new("/new")));
    }

    #[test]
    fn tls_is_not_turned_off_beside_its_files() {
        // Turning it off apart from a URL that asks for it is a decision, as is any other value.
        let url = "mysql://app@db/shop?ssl-mode=VERIFY_CA&ssl-ca=/ca.pem";
        let config = from_map(&[("DATABASE_URL", url), ("DATABASE_SSL_MODE", "disabled")]);
        let config = config.expect("good settings");
        assert!(config.opts().ssl_opts().is_none());

        let error = from_map(&[
            ("DATABASE_URL", "mysql://app@db/shop?ssl-mode=DISABLED"),
            ("DATABASE_SSL_CA", "/ca.pem"),
        ]);
        let error = error.expect_err("a file for no TLS");
        assert_eq!(fields(&error), ["DATABASE_SSL_CA"]);
        let expected = "DATABASE_SSL_CA is /ca.pem, allowed is no file, because DATABASE_URL \
                        parameter ssl-mode turns TLS off";
        assert!(error.to_string().contains(expected), "{error}");

        let error = from_map(&[
            ("DATABASE_HOST", "db"),
            ("DATABASE_SSL_MODE", "DISABLED"),
            ("DATABASE_SSL_CERT", "/cert.pem"),
            ("DATABASE_SSL_KEY", "/key.pem"),
        ]);
        let error = error.expect_err("files for no TLS");
        assert_eq!(fields(&error), ["DATABASE_SSL_CERT", "DATABASE_SSL_KEY"]);
    }

    #[test]
    fn a_server_and_one_password_must_be_given() {
        let error = from_map(&[("DATABASE_NAME", "shop")]).expect_err("no server");
        assert_eq!(fields(&error), ["DATABASE_URL"]);
        assert!(
            error.to_string().contains("or the host given apart"),
            "{error}"
        );
        let error = from_map(&[
            ("DATABASE_HOST", "db"),
            ("DATABASE_PASSWORD", "s3cret"),
            ("DATABASE_PASSWORD_FILE", "/run/secrets/db"),
        ])
        .expect_err("two passwords");
        assert_eq!(fields(&error), ["DATABASE_PASSWORD_FILE"]);
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn parts_that_are_none_are_refused_and_hidden() {
        for host in [
            "app:s3cret@db",
            "mysql://app:s3cret@db/shop",
            "db:3306",
            "s3cret/",
            "s3cret db",
            "h1,s3cret",
        ] {
            let error = from_map(&[("DATABASE_HOST", host)]).expect_err(host);
            assert_eq!(fields(&error), ["DATABASE_HOST"]);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        for (port, part) in [
            ("s3cret", "is (hidden)"),
            ("0", "is 0"),
            ("65536", "is 65536"),
        ] {
            let error = from_map(&[("DATABASE_HOST", "db"), ("DATABASE_PORT", port)]);
            let error = error.expect_err(port).to_string();
            assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
        }
        let not_unicode = [("DATABASE_HOST", Some("db")), ("DATABASE_PASSWORD", None)];
        let variables =
            not_unicode.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        let error = from_variables("DATABASE", variables.into_iter()).expect_err("not Unicode");
        assert_eq!(fields(&error), ["DATABASE_PASSWORD"]);
    }

    /// As kubelet sets them for services called database, database-pool and database-pool-size, and
    /// Docker for links.
    #[test]
    fn variables_that_platforms_inject_are_ignored() {
        let mut variables = vec![(
            "DATABASE_URL".to_owned(),
            "mysql://app@db:3307/shop".to_owned(),
        )];
        for service in [
            "DATABASE",
            "DATABASE_POOL",
            "DATABASE_POOL_SIZE",
            "DATABASE_POOL_RESET",
        ] {
            for (name, value) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_PORT", "3306"),
                ("SERVICE_PORT_MYSQL", "3306"),
                ("PORT", "tcp://10.0.0.1:3306"),
                ("PORT_3306_TCP", "tcp://10.0.0.1:3306"),
                ("PORT_3306_TCP_PROTO", "tcp"),
                ("PORT_3306_TCP_PORT", "3306"),
                ("PORT_3306_TCP_ADDR", "10.0.0.1"),
                ("PORT_33060_UDP", "udp://10.0.0.1:33060"),
                ("NAME", "/web/database"),
                ("ENV_MYSQL_ROOT_PASSWORD", "s3cret"),
            ] {
                variables.push((format!("{service}_{name}"), value.to_owned()));
            }
        }
        let pairs: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let config = from_map(&pairs).expect("nothing else");
        assert_eq!(config.display_name(), "db:3307/shop");
        assert_eq!(config.size, 20);
    }

    #[test]
    fn known_names_are_listed_once() {
        let error = from_map(&[
            ("DATABASE_URL", "mysql://app@db/shop"),
            ("DATABASE_POOL_PORT", "3306"),
            ("DATABASE_POOL_SIZES", "5"),
            ("DATABASE_POOL_TIMEOUTS", "5"),
        ])
        .expect_err("three unknown names");
        assert_eq!(
            fields(&error),
            [
                "DATABASE_POOL_PORT",
                "DATABASE_POOL_SIZES",
                "DATABASE_POOL_TIMEOUTS"
            ]
        );
        let text = error.to_string();
        assert_eq!(
            text.matches("DATABASE_POOL_WARM_UP_TIMEOUT").count(),
            1,
            "{text}"
        );
    }

    #[test]
    fn documented_names_are_listed_and_suggested() {
        let error = from_map(&[
            ("DATABASE_URL", "mysql://app@db/shop"),
            ("DATABASE_POOL_COLOUR", "red"),
            ("DATABASE_POOL_MAX_OVERFLOW", "5"),
            ("DATABASE_POOL_OVERFLWO", "5"),
            ("DATABASE_POOL_PASSWORDFILE", "/run/s3cret"),
            ("DATABASE_POOL_RECYLCE", "5"),
        ])
        .expect_err("five unknown names");
        let text = error.to_string();
        for part in [
            "DATABASE_POOL_COLOUR is not a known name, allowed is one of DATABASE_POOL_SIZE, \
             DATABASE_MAX_OVERFLOW, DATABASE_POOL_TIMEOUT, ",
            ", DATABASE_PASSWORD_FILE, ",
            "DATABASE_POOL_NAME; DATABASE_POOL_MAX_OVERFLOW is not a known name, allowed is as \
             listed above (did you mean DATABASE_MAX_OVERFLOW?); ",
            "above (did you mean DATABASE_MAX_OVERFLOW?); DATABASE_POOL_PASSWORDFILE is",
            "(did you mean DATABASE_PASSWORD_FILE?)",
            "(did you mean DATABASE_POOL_RECYCLE?)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("DATABASE_POOL_OVERFLOW,"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn another_prefix_has_the_same_names() {
        let variables = [
            ("ORDERS_DB_HOST", "orders"),
            ("ORDERS_DB_PASSWORD_FILE", "/run/secrets/orders"),
            ("ORDERS_DB_MAX_OVERFLOW", "0"),
            ("ORDERS_DB_POOL_SERVICE_HOST", "10.0.0.1"),
            ("DATABASE_HOST", "another"),
            ("DATABASE_POOL_COLOUR", "red"),
        ];
        for prefix in ["ORDERS_DB", "ORDERS_DB_"] {
            let variables = variables
                .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
                .into_iter();
            let config = from_variables(prefix, variables).expect("good settings");
            assert_eq!(config.display_name(), "orders:3306/");
            assert_eq!(config.overflow, 0);
            assert!(config.password_file.is_some());
        }
    }
}
