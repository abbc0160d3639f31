//! Settings from environment variables.

use std::env;

use super::{PoolConfig, fault, given::Given, table};
use crate::error::Error;

impl PoolConfig {
    /// Reads the settings from environment variables.
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `DATABASE_URL` | a URL as in [`from_url`](Self::from_url); must be set |
    /// | `DATABASE_POOL_SIZE` | [`size`](field@Self::size) |
    /// | `DATABASE_MAX_OVERFLOW` | [`overflow`](field@Self::overflow) |
    /// | `DATABASE_POOL_<FIELD>` | every other field, except `prepare`, `init` and `credentials` |
    ///
    /// `DATABASE_POOL_OVERFLOW` works too. Durations are seconds (`1800`, `1.5`) or have units
    /// (`30m`, `1h30m`, `500ms`). For a duration that may be `None` (never), `-1` and `never` are
    /// accepted. A variable wins over the same setting in the URL. An empty variable counts as not
    /// set.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every fault in any of the variables: a missing URL, values that
    /// cannot be read or are out of range, unknown `DATABASE_POOL_` variables, and settings given
    /// twice.
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
            let [name, value] = [name, value].map(|text| text.to_string_lossy().into_owned());
            (name, value)
        });
        from_variables(prefix, variables)
    }
}

fn from_variables(
    prefix: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<PoolConfig, Error> {
    let url_name = format!("{prefix}_URL");
    let pool_prefix = format!("{prefix}_POOL_");
    // The name that SQLAlchemy services use.
    let overflow_name = format!("{prefix}_MAX_OVERFLOW");
    let mut given = Given::new(url_name.clone());
    for (name, value) in variables.filter(|(_, value)| !value.trim().is_empty()) {
        let value = value.trim().to_owned();
        if name == url_name {
            given.url = Some(value);
            continue;
        }
        let field = match name.strip_prefix(&pool_prefix) {
            Some(rest) => rest.to_lowercase(),
            None if name == overflow_name => "overflow".to_owned(),
            None => continue,
        };
        match table::find_one_value(&field) {
            Some(setting) => given.add(setting, name, value),
            None => {
                let names =
                    table::one_value_names(|name| pool_prefix.clone() + &name.to_uppercase());
                // The value is not quoted: it may be a password that was put in the wrong place.
                let unknown = fault(&name, "not understood", format!("one of {names}"));
                given.faults.push(unknown);
            }
        }
    }
    let config = given.read();
    given.check(&config);
    given.finish(config)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PoolConfig, from_variables};
    use crate::{config::tests::fields, error::Error};

    fn from_map(pairs: &[(&str, &str)]) -> Result<PoolConfig, Error> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
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
            ("DATABASE_POOL_SIZE", "0"),
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
            "DATABASE_POOL_SIZE is 0, allowed is 1 to",
            "DATABASE_POOL_PASSWORD is not understood",
            "DATABASE_POOL_OVERFLOW is 4, allowed is one of this and DATABASE_MAX_OVERFLOW",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
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
}
