//! Settings from a file, by serde.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    PoolConfig, fault,
    given::Given,
    table::{self, SETTINGS},
};
use crate::error::Error;

/// Reads a map of `url`, as in [`from_url`](PoolConfig::from_url), and the fields of
/// [`PoolConfig`] except `on_connect` and `credentials`.
///
/// `prepare` and `init` are lists of statements, the other values are text or numbers. Durations
/// are seconds (`1800`, `1.5`) or text with units (`"30m"`, `"1h30m"`, `"500ms"`). For a duration
/// that may be `None` (never), `-1` and `"never"` are accepted. A field wins over the same setting
/// in the URL. A null counts as not set.
///
/// The error names every unknown key and every value that cannot be read.
/// [`Pool::new`](crate::Pool::new) checks the ranges.
///
/// Works with `#[serde(flatten)]`. Every key that is not a field of the outer struct is then read
/// as a setting, so no other field of that struct can be flattened.
impl<'de> Deserialize<'de> for PoolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_struct`, which hides unknown keys where the config is flattened.
        let values = deserializer.deserialize_map(MapVisitor)?;
        read(values).map_err(D::Error::custom)
    }
}

fn read(values: BTreeMap<String, Value>) -> Result<PoolConfig, Error> {
    let mut given = Given::new("url".to_owned());
    let (mut prepare, mut init) = (Vec::new(), Vec::new());
    for (key, value) in values {
        match (key.as_str(), value) {
            (name, Value::Null) if name == "url" || table::find(name).is_some() => {}
            ("url", Value::Text(text)) => given.url = Some(text),
            // Not text: read as an empty URL, which is reported as one that cannot be read.
            ("url", _) => given.url = Some(String::new()),
            ("prepare", Value::List(statements)) => prepare = statements,
            ("init", Value::List(statements)) => init = statements,
            (_, value) => match (table::find(&key), value) {
                (Some(setting), Value::Text(text)) if setting.is_one_value() => {
                    given.add(setting, key, text);
                }
                // The error names only the kind of the value: a statement may hold a secret.
                (Some(setting), value) => {
                    given.faults.push(fault(&key, value.kind(), setting.form()));
                }
                (None, _) => {
                    let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
                    let allowed = format!("one of url, {}", names.join(", "));
                    given.faults.push(fault(&key, "not understood", allowed));
                }
            },
        }
    }
    let mut config = given.read();
    config.prepare = prepare;
    config.init = init;
    if !given.faults.is_empty() {
        // Report values out of range too, so that one attempt shows every fault.
        given.check(&config);
    }
    given.finish(config)
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
    /// Text, a number or a bool, as text.
    Text(String),
    List(Vec<String>),
    /// A kind of value that no setting takes, named for the error.
    Other(&'static str),
}

impl Value {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "one value",
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
        Ok(Value::Text(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
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
                (Value::Text(text), Some(texts)) => texts.push(text),
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
        assert!(text.contains("tiemout is not understood"), "{text}");
        assert!(!text.contains("listen"), "{text}");
    }

    #[test]
    fn all_faults_are_reported_with_key_value_and_range() {
        let text = error(
            r#"{"url": "mysql://app:secret@db/shop?shape=round", "size": "x", "recycle": "y",
                "password": "secret", "colour": null, "max_connecting": 1.5, "timeout": "0s",
                "reset": true, "keepalive": [5], "name": {"a": 1}}"#,
        );
        for part in [
            "url parameter shape is not understood",
            "size is x, allowed is a whole number",
            "recycle is y, allowed is seconds (1800, 1.5) or a duration",
            "password is not understood, allowed is one of url, size, overflow,",
            "colour is not understood",
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
}
