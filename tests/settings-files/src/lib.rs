//! Reads the pool's settings by the crates that services read theirs by: `toml`, `figment` and
//! `config`, from a file and from environment variables, which are text.

#![cfg(test)]

use std::{collections::HashMap, path::Path, time::Duration};

use config::{Config, Environment, File, FileFormat};
use figment::{
    Figment, Jail,
    providers::{Env, Format, Serialized, Toml},
};
use mysql_warm_pool::{OnCancel, PoolConfig, Reset};
use serde::{Deserialize, Serialize};

/// A service whose settings of the pool have a section of their own.
#[derive(Debug, Deserialize, Serialize)]
struct Nested {
    listen: String,
    database: PoolConfig,
}

/// A service whose settings of the pool stand among its own.
#[derive(Debug, Deserialize, Serialize)]
struct Flat {
    listen: String,
    #[serde(flatten)]
    pool: PoolConfig,
}

const FILE: &str = r#"
    listen = "[::]:80"

    [database]
    host = "db"
    port = 3307
    database = "shop"
    user = "app"
    password = "12/s3cret"
    size = 5
    timeout = 1.5
    connect_timeout = "1500ms"
    recycle = "30m"
    keepalive = "never"
    reset = "always"
    init = ["SET time_zone = '+00:00'", "SET @a = 1"]
"#;

fn assert_is_as_in_the_file(config: &PoolConfig) {
    let opts = config.opts();
    assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("db", 3307));
    assert_eq!((opts.user(), opts.db_name()), (Some("app"), Some("shop")));
    assert_eq!(opts.pass(), Some("12/s3cret"));
    assert_eq!(config.size, 5);
    assert_eq!(config.timeout, Duration::from_millis(1500));
    assert_eq!(config.connect_timeout, Duration::from_millis(1500));
    assert_eq!(config.recycle, Some(Duration::from_secs(1800)));
    assert_eq!((config.keepalive, config.reset), (None, Reset::Always));
    assert_eq!(config.init, ["SET time_zone = '+00:00'", "SET @a = 1"]);
}

/// The same without a section.
fn flat() -> String {
    FILE.replace("[database]\n", "")
}

#[test]
fn toml_is_read_nested_and_flat() {
    let nested: Nested = toml::from_str(FILE).expect("good settings");
    assert_eq!(nested.listen, "[::]:80");
    assert_is_as_in_the_file(&nested.database);
    let flat: Flat = toml::from_str(&flat()).expect("good settings");
    assert_eq!(flat.listen, "[::]:80");
    assert_is_as_in_the_file(&flat.pool);
}

#[test]
fn figment_and_config_read_it_nested_and_flat() {
    let figment = |text: &str| Figment::from(Toml::string(text));
    let nested: Nested = figment(FILE).extract().expect("good settings");
    assert_is_as_in_the_file(&nested.database);
    let section: PoolConfig = figment(FILE).extract_inner("database").expect("a section");
    assert_is_as_in_the_file(&section);
    let flat_one: Flat = figment(&flat()).extract().expect("good settings");
    assert_is_as_in_the_file(&flat_one.pool);

    let config = |text: &str| {
        let file = File::from_str(text, FileFormat::Toml);
        Config::builder().add_source(file).build().expect("TOML")
    };
    let nested: Nested = config(FILE).try_deserialize().expect("good settings");
    assert_is_as_in_the_file(&nested.database);
    let section: PoolConfig = config(FILE).get("database").expect("a section");
    assert_is_as_in_the_file(&section);
    let flat: Flat = config(&flat()).try_deserialize().expect("good settings");
    assert_is_as_in_the_file(&flat.pool);
}

const VARIABLES: [(&str, &str); 9] = [
    ("DATABASE__SIZE", "20"),
    ("DATABASE__TIMEOUT", "2.5"),
    ("DATABASE__RECYCLE", "-1"),
    ("DATABASE__KEEPALIVE", "10s"),
    ("DATABASE__ON_CANCEL", "kill"),
    ("DATABASE__PORT", "3308"),
    ("DATABASE__PASSWORD_FILE", "/run/secrets/db"),
    ("DATABASE__READY_AT", "3"),
    ("DATABASE__PREPARE", "[\"SELECT 1\", \"SELECT 2\"]"),
];

fn assert_is_as_in_the_variables(config: &PoolConfig) {
    assert_eq!((config.size, config.ready_at), (20, Some(3)));
    assert_eq!(config.timeout, Duration::from_millis(2500));
    assert_eq!(config.recycle, None);
    assert_eq!(config.keepalive, Some(Duration::from_secs(10)));
    assert_eq!(config.on_cancel, OnCancel::Kill);
    assert_eq!(config.opts().tcp_port(), 3308);
    assert_eq!(
        config.password_file.as_deref(),
        Some(Path::new("/run/secrets/db"))
    );
    // From the file.
    assert_eq!(config.opts().ip_or_hostname(), "db");
    assert_eq!(config.init.len(), 2);
}

/// The file without its password, as the variables name another source.
fn file_without_password() -> String {
    FILE.replace("password =", "# password =")
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail's own type")]
fn figment_merges_a_file_and_variables() {
    Jail::expect_with(|jail| {
        for (name, value) in VARIABLES {
            jail.set_env(name, value);
        }
        let settings: Nested = Figment::from(Toml::string(&file_without_password()))
            .merge(Env::raw().split("__"))
            .extract()?;
        assert_is_as_in_the_variables(&settings.database);
        assert_eq!(settings.database.prepare, ["SELECT 1", "SELECT 2"]);
        Ok(())
    });
}

/// `figment` reads them as numbers, without the zeros.
#[test]
#[expect(clippy::result_large_err, reason = "the jail's own type")]
fn a_password_that_figment_changed_is_refused() {
    Jail::expect_with(|jail| {
        let read = || Figment::from(Env::prefixed("SHOP_")).extract::<PoolConfig>();
        jail.set_env("SHOP_HOST", "db");
        jail.set_env("SHOP_PASSWORD", "007");
        let text = read().expect_err("a number").to_string();
        assert!(
            text.contains("password is not text, allowed is text, in quotes"),
            "{text}"
        );
        jail.set_env("SHOP_PASSWORD", "\"007\"");
        assert_eq!(read()?.opts().pass(), Some("007"));
        jail.set_env("SHOP_PASSWORD", "s3cret");
        assert_eq!(read()?.opts().pass(), Some("s3cret"));
        Ok(())
    });
}

#[test]
fn config_merges_a_file_and_variables() {
    for parses in [false, true] {
        let variables: HashMap<_, _> = VARIABLES
            .into_iter()
            .filter(|(name, _)| !name.ends_with("PREPARE"))
            .map(|(name, value)| (format!("APP__{name}"), value.to_owned()))
            .collect();
        let environment = Environment::with_prefix("APP")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(parses)
            .source(Some(variables));
        let file = File::from_str(&file_without_password(), FileFormat::Toml);
        let settings = Config::builder()
            .add_source(file)
            .add_source(environment)
            .build();
        let settings: Nested = settings
            .expect("both can be read")
            .try_deserialize()
            .expect("good settings");
        assert_is_as_in_the_variables(&settings.database);
    }
}

#[test]
fn an_unknown_key_and_a_bad_value_are_named() {
    let bad = "listen = 'x'\nhost = 'db'\nsise = 5\ntimeout = 'soon'\npassword = 's3cret'\n";
    let nested = format!(
        "listen = 'x'\n[database]\n{}",
        bad.replace("listen = 'x'\n", "")
    );
    let errors = [
        toml::from_str::<Flat>(bad)
            .expect_err("two faults")
            .to_string(),
        toml::from_str::<Nested>(&nested)
            .expect_err("two faults")
            .message()
            .to_owned(),
        Figment::from(Toml::string(bad))
            .extract::<Flat>()
            .expect_err("two faults")
            .to_string(),
        Config::builder()
            .add_source(File::from_str(&nested, FileFormat::Toml))
            .build()
            .and_then(Config::try_deserialize::<Nested>)
            .expect_err("two faults")
            .to_string(),
    ];
    for text in errors {
        for part in [
            "sise is not a known name, allowed is one of url, host,",
            "timeout is soon, allowed is seconds",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            !text.contains("listen is") && !text.contains("s3cret"),
            "{text}"
        );
    }
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail's own type")]
fn what_is_written_can_be_read_and_merged() {
    let nested: Nested = toml::from_str(FILE).expect("good settings");
    let written = toml::to_string(&nested).expect("TOML");
    assert!(
        !written.contains("s3cret") && !written.contains("SET @a"),
        "{written}"
    );
    let again: Nested = toml::from_str(&written).expect("good settings");
    assert_eq!(toml::to_string(&again).expect("TOML"), written);
    // Defaults in code, the secret from a variable.
    Jail::expect_with(|jail| {
        jail.set_env("DATABASE_PASSWORD", "s3cret");
        jail.set_env("DATABASE_SIZE", "6");
        let defaults = Serialized::defaults(&nested.database);
        let merged: PoolConfig = Figment::from(defaults)
            .merge(Env::prefixed("DATABASE_"))
            .extract()?;
        assert_eq!((merged.size, merged.reset), (6, Reset::Always));
        assert_eq!(merged.opts().pass(), Some("s3cret"));
        assert_eq!(merged.timeout, Duration::from_millis(1500));
        Ok(())
    });
}
