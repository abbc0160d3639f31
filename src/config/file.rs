//! Settings from a file, read by serde.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};

use super::{
    OnCancel, PoolConfig, Reset, fault,
    given::{ChecksRanges, Given},
    parts::{self, PARTS},
    similar::similar,
    table::{self, SETTINGS},
    tls::Mode,
};
use crate::error::Error;

/// Reads a map with the keys `url`, as in [`from_url`](PoolConfig::from_url), or its parts `host`,
/// `port`, `database`, `user`, `password`, `ssl_mode`, `ssl_ca`, `ssl_cert` and `ssl_key`, and the
/// fields of [`PoolConfig`] except `on_connect` and `credentials`.
///
/// `prepare` and `init` are lists of statements, `user` and `password` are text and not
/// percent-encoded, the other values are text or numbers. Durations are seconds (`1800`, `1.5`) or
/// text with units (`"30m"`, `"1h30m"`, `"500ms"`). For a duration that may be `None` (never), `-1`
/// and `"never"` are accepted. A value wins over the same setting in the URL. A null counts as not
/// set.
///
/// The error names every unknown key and every value that cannot be read.
/// [`Pool::new`](crate::Pool::new) checks the ranges.
///
/// Works with `#[serde(flatten)]`. Every key that is not a field of the outer struct is then read
/// as a setting, so no other field of that struct can be flattened.
///
/// ```
/// use std::time::Duration;
///
/// use mysql_warm_pool::PoolConfig;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     listen: String,
///     database: PoolConfig,
/// }
///
/// let settings: Settings = serde_json::from_str(
///     r#"{
///         "listen": "[::]:8080",
///         "database": {"url": "mysql://app@db/shop", "size": 10, "recycle": "1h", "timeout": 1.5}
///     }"#,
/// )?;
/// assert_eq!(settings.database.size, 10);
/// assert_eq!(settings.database.timeout, Duration::from_millis(1500));
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for PoolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_struct`, which hides unknown keys where the config is flattened.
        let values = deserializer.deserialize_map(MapVisitor)?;
        read(values).map_err(D::Error::custom)
    }
}

/// Writes a map that can be read again: `host`, `port`, `database`, `user`, how far TLS verifies
/// the server (`ssl_mode`), and the settings. Durations are seconds, or `"never"`.
///
/// Leaves out the password and what may hold a secret or is code: `prepare`, `init`,
/// `credentials`, `on_connect`. Also leaves out certificates, the driver's other options, and what
/// is not set. Set these again after reading.
impl Serialize for PoolConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("host", self.opts.ip_or_hostname())?;
        map.serialize_entry("port", &self.opts.tcp_port())?;
        if let Some(database) = self.shown_database() {
            map.serialize_entry("database", database)?;
        }
        if let Some(user) = self.opts.user() {
            map.serialize_entry("user", user)?;
        }
        if let Some(mode) = Mode::of(&self.opts) {
            map.serialize_entry("ssl_mode", mode.name())?;
        }
        for setting in SETTINGS {
            match setting.plain(self) {
                Plain::None => {}
                Plain::Whole(number) => map.serialize_entry(setting.name, &number)?,
                Plain::Fraction(number) => map.serialize_entry(setting.name, &number)?,
                Plain::Text(text) => map.serialize_entry(setting.name, &text)?,
            }
        }
        map.end()
    }
}

/// A setting as it is written to a file.
pub(super) enum Plain {
    None,
    Whole(u64),
    Fraction(f64),
    Text(String),
}

pub(super) trait ToPlain {
    fn to_plain(&self) -> Plain;
}

impl ToPlain for usize {
    fn to_plain(&self) -> Plain {
        u64::try_from(*self).map_or(Plain::None, Plain::Whole)
    }
}

impl ToPlain for Option<usize> {
    fn to_plain(&self) -> Plain {
        self.as_ref().map_or(Plain::None, ToPlain::to_plain)
    }
}

impl ToPlain for Duration {
    fn to_plain(&self) -> Plain {
        if self.subsec_nanos() == 0 {
            Plain::Whole(self.as_secs())
        } else {
            Plain::Fraction(self.as_secs_f64())
        }
    }
}

impl ToPlain for Option<Duration> {
    fn to_plain(&self) -> Plain {
        self.as_ref()
            .map_or_else(|| Plain::Text("never".to_owned()), ToPlain::to_plain)
    }
}

impl ToPlain for Option<String> {
    fn to_plain(&self) -> Plain {
        self.clone().map_or(Plain::None, Plain::Text)
    }
}

impl ToPlain for Option<PathBuf> {
    fn to_plain(&self) -> Plain {
        let path = self.as_ref().map(|path| path.display().to_string());
        path.to_plain()
    }
}

impl ToPlain for Reset {
    fn to_plain(&self) -> Plain {
        let word = match self {
            Self::WhenChanged => "when_changed",
            Self::Always => "always",
            Self::Never => "never",
        };
        Plain::Text(word.to_owned())
    }
}

impl ToPlain for OnCancel {
    fn to_plain(&self) -> Plain {
        let word = match self {
            Self::Close => "close",
            Self::Kill => "kill",
        };
        Plain::Text(word.to_owned())
    }
}

fn read(values: BTreeMap<String, Value>) -> Result<PoolConfig, Error> {
    let mut given = Given::new("url");
    let (mut prepare, mut init) = (Vec::new(), Vec::new());
    for (key, value) in values {
        let (setting, part) = (table::find(&key), parts::find(&key));
        match (key.as_str(), value) {
            (name, Value::Null) if name == "url" || setting.is_some() || part.is_some() => {}
            ("url", Value::Text(text)) => given.url = Some(text),
            // Not text: taken as an empty URL, which is reported as one that cannot be read.
            ("url", _) => given.url = Some(String::new()),
            // As a number it may have lost zeros at its start or end.
            ("user" | "password", Value::Plain(_)) => {
                given
                    .faults
                    .push(fault(&key, "not text", "text, in quotes"));
            }
            ("prepare", Value::List(statements)) => prepare = statements,
            ("init", Value::List(statements)) => init = statements,
            (_, value) => match (setting, part, value) {
                (Some(setting), _, Value::Text(text) | Value::Plain(text))
                    if setting.is_one_value() =>
                {
                    given.add(setting, key, text);
                }
                (_, Some(part), Value::Text(text) | Value::Plain(text)) => {
                    given.add_part(part, key, text);
                }
                // The error names only the kind of the value: a statement may hold a secret.
                (Some(setting), _, value) => {
                    given.faults.push(fault(&key, value.kind(), setting.form()));
                }
                (_, Some(_), value) => {
                    given.faults.push(fault(&key, value.kind(), "one value"));
                }
                (None, None, _) => {
                    let parts = PARTS.iter().map(|part| part.key);
                    let names = parts.chain(SETTINGS.iter().map(|setting| setting.name));
                    let meant = similar(&key, names.clone()).map(str::to_owned);
                    given.add_unknown(&key, meant, || {
                        let names: Vec<_> = names.collect();
                        format!("one of url, {}", names.join(", "))
                    });
                }
            },
        }
    }
    let lists = |config: &mut PoolConfig| {
        config.prepare = prepare;
        config.init = init;
    };
    given.finish(lists, ChecksRanges::WithOtherFaults)
}

struct MapVisitor;

impl<'de> Visitor<'de> for MapVisitor {
    type Value = BTreeMap<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of the pool's settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            values.insert(key, value);
        }
        Ok(values)
    }
}

/// A value in a settings file.
enum Value {
    Null,
    Text(String),
    /// A number or a bool, as text.
    Plain(String),
    List(Vec<String>),
    /// A kind of value that no setting takes, named for the error.
    Other(&'static str),
}

impl Value {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) | Self::Plain(_) => "one value",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number or a list of statements")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Plain(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Plain(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Plain(number.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Plain(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut texts = Some(Vec::new());
        while let Some(item) = seq.next_element()? {
            match (item, &mut texts) {
                (Value::Text(text) | Value::Plain(text), Some(texts)) => texts.push(text),
                _ => texts = None,
            }
        }
        Ok(texts.map_or(Value::Other("a list with more than texts"), Value::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("a map"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::PoolConfig;

    fn read(json: &str) -> Result<PoolConfig, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn error(json: &str) -> String {
        read(json).expect_err(json).to_string()
    }

    #[test]
    fn values_are_text_numbers_and_lists() {
        let config = read(
            r#"{"url": "mysql://app:secret@db/shop", "size": 5, "recycle": "30m", "timeout": 60,
                "keepalive": "never", "leak_after": null, "overflow": "7", "reset": "always",
                "slow_get": -1, "prepare": [], "init": ["SET sql_mode = ''"]}"#,
        )
        .expect("good settings");
        assert_eq!((config.size, config.overflow), (5, 7));
        assert_eq!(config.timeout, Duration::from_secs(60));
        assert_eq!(config.recycle, Some(Duration::from_secs(1800)));
        assert_eq!((config.keepalive, config.leak_after), (None, None));
        assert_eq!(config.reset, crate::Reset::Always);
        assert_eq!(config.slow_get, None);
        assert_eq!(config.init, ["SET sql_mode = ''"]);
    }

    #[test]
    fn the_parts_of_a_url_can_be_given_apart() {
        let config = read(
            r#"{"host": "db", "port": 3307, "database": "shop", "user": "app", "name": "orders",
                "password": "12/s3cret@%41 ", "ssl_mode": "verify_ca", "ssl_ca": "/ca.pem"}"#,
        )
        .expect("good settings");
        let opts = config.opts();
        assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("db", 3307));
        assert_eq!((opts.user(), opts.db_name()), (Some("app"), Some("shop")));
        assert_eq!(opts.pass(), Some("12/s3cret@%41 "));
        assert_eq!(config.display_name(), "orders");
        let tls = opts.ssl_opts().expect("TLS");
        assert!(tls.skip_domain_validation() && !tls.accept_invalid_certs());

        let config = read(
            r#"{"url": "mysql://a:b@c:1/d?ssl-mode=REQUIRED&password_file=/e", "host": "::1",
                "port": "3307", "user": "app", "password": "secret", "ssl_mode": "disabled"}"#,
        )
        .expect("good settings");
        let opts = config.opts();
        assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("::1", 3307));
        assert_eq!((opts.user(), opts.pass()), (Some("app"), Some("secret")));
        assert_eq!(opts.db_name(), Some("d"));
        assert!(opts.ssl_opts().is_none() && config.password_file.is_none());
    }

    #[test]
    fn a_password_that_is_no_text_is_refused() {
        for value in ["12345", "true", "[\"12345\"]", "{\"12345\": 1}"] {
            let text = error(&format!(r#"{{"host": "db", "password": {value}}}"#));
            assert!(text.contains("password is "), "{text}");
            assert!(!text.contains("12345"), "{text}");
        }
    }

    #[test]
    fn fractions_of_seconds_are_durations() {
        let config = read(
            r#"{"url": "mysql://app@db/shop", "timeout": 1.5, "keepalive": "0.25", "recycle": 60.0,
                "size": 5.0}"#,
        )
        .expect("good settings");
        assert_eq!(config.timeout, Duration::from_millis(1500));
        assert_eq!(config.keepalive, Some(Duration::from_millis(250)));
        assert_eq!(
            (config.recycle, config.size),
            (Some(Duration::from_secs(60)), 5)
        );
    }

    #[test]
    fn a_field_wins_over_the_url() {
        let config = read(r#"{"size": 5, "url": "mysql://app@db/shop?size=7&overflow=8"}"#)
            .expect("good settings");
        assert_eq!((config.size, config.overflow), (5, 8));
    }

    #[derive(Debug, Deserialize)]
    struct Service {
        listen: String,
        #[serde(flatten)]
        pool: PoolConfig,
    }

    #[test]
    fn a_flattened_config_reads_what_a_config_reads() {
        let service: Service = serde_json::from_str(
            r#"{"url": "mysql://app@db/shop", "size": 5, "listen": "[::]:80", "timeout": 1.5,
                "recycle": "30m", "keepalive": -1, "init": ["SET sql_mode = ''"]}"#,
        )
        .expect("good settings");
        assert_eq!(service.listen, "[::]:80");
        assert_eq!((service.pool.size, service.pool.keepalive), (5, None));
        assert_eq!(service.pool.timeout, Duration::from_millis(1500));
        assert_eq!(service.pool.init.len(), 1);
    }

    #[test]
    fn a_flattened_config_names_unknown_keys() {
        let json = r#"{"url": "mysql://app@db/shop", "listen": "[::]:80", "tiemout": 5}"#;
        let error = serde_json::from_str::<Service>(json).expect_err("an unknown key");
        let text = error.to_string();
        assert!(text.contains("tiemout is not a known name"), "{text}");
        assert!(!text.contains("listen"), "{text}");
    }

    #[test]
    fn all_faults_are_reported_with_key_value_and_range() {
        let text = error(
            r#"{"url": "mysql://app:secret@db/shop?shape=round", "size": "x", "recycle": "y",
                "passwrod": "secret", "colour": null, "max_connecting": 1.5, "timeout": "0s",
                "reset": true, "keepalive": [5], "name": {"a": 1}}"#,
        );
        for part in [
            "url parameter shape is not a known name",
            "size is x, allowed is a whole number",
            "recycle is y, allowed is seconds (1800, 1.5) or a duration",
            "colour is not a known name, allowed is one of url, host, port,",
            "passwrod is not a known name, allowed is as listed above (did you mean password?)",
            "max_connecting is 1.5, allowed is a whole number",
            "timeout is 0s, allowed is 1ms to 365 days",
            "reset is true, allowed is when_changed, always, never",
            "keepalive is a list, allowed is one value",
            "name is a map, allowed is one value",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn statements_must_be_lists_and_are_not_quoted() {
        for (init, kind) in [
            (r#""SET @key = 'secret'""#, "one value"),
            (
                r#"["SET @key = 'secret'", null]"#,
                "a list with more than texts",
            ),
            (r#"{"secret": "secret"}"#, "a map"),
        ] {
            let text = error(&format!(
                r#"{{"url": "mysql://app@db/shop", "init": {init}}}"#
            ));
            let expected = format!("init is {kind}, allowed is a list of statements");
            assert!(text.contains(&expected), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_url_is_required_and_never_quoted() {
        let text = error(r#"{"size": 5}"#);
        assert!(
            text.contains("url is not set, allowed is mysql://"),
            "{text}"
        );
        let text = error(r#"{"url": ["mysql://app:secret@db/shop"]}"#);
        assert!(
            text.contains("url is (hidden), without ://, allowed is mysql://"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        let text = error(r#"{"url": "mysql://app@db/shop", "size": 5, "size": 6}"#);
        assert!(text.contains("duplicate field `size`"), "{text}");
    }

    #[test]
    fn a_syntax_error_stays_one() {
        let error = read(r#"{"url": "mysql://app@db/shop", "size": "#).expect_err("half a map");
        assert!(error.is_eof(), "{error}");
    }

    #[test]
    fn ranges_are_left_to_the_pool() {
        let config = read(r#"{"url": "mysql://app@db/shop", "size": 0}"#).expect("readable");
        assert!(config.size(5).check().is_ok());
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let config = PoolConfig::from_url(
            "mysql://app:secret@db:3307/shop?ssl-mode=VERIFY_CA&size=5&recycle=never&timeout=1.234\
             &keepalive=500ms&reset=never&on_cancel=kill&name=orders&ready_at=3\
             &statement_timeout=1h",
        )
        .expect("a good URL")
        .init(["SET @key = 'secret'"])
        .prepare(["SELECT 'secret'"])
        .password_file("/run/secrets/db");
        let json = serde_json::to_string_pretty(&config).expect("JSON");
        assert!(
            !json.contains("secret\"") && !json.contains("SELECT"),
            "{json}"
        );
        let again = read(&json).expect("it can be read");
        assert_eq!(serde_json::to_string_pretty(&again).expect("JSON"), json);
        let without_lists = config
            .init(Vec::<String>::new())
            .prepare(Vec::<String>::new());
        assert_eq!(format!("{again:?}"), format!("{without_lists:?}"));
    }
}
