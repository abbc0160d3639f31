//! Settings from the environment: address, timeouts, and the pool's settings.

use std::{
    env, fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mysql_warm_pool::PoolConfig;

/// The settings of the service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `LISTEN`: address and port, by default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// `REQUEST_TIMEOUT`: the time limit for one whole request, by default 10 s.
    pub request_timeout: Duration,
    /// `SHUTDOWN_DELAY`: how long requests are still accepted after SIGTERM while readiness already
    /// returns 503; by default 5 s. It is the time that a load balancer takes to notice.
    pub shutdown_delay: Duration,
    /// `DATABASE_URL`, `DATABASE_POOL_SIZE` and the like: see [`PoolConfig::from_env`].
    pub pool: PoolConfig,
}

impl Config {
    /// The defaults of the service, with these settings of the pool.
    #[must_use]
    pub fn new(pool: PoolConfig) -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            request_timeout: Duration::from_secs(10),
            shutdown_delay: Duration::from_secs(5),
            pool,
        }
    }

    /// Reads the environment.
    ///
    /// # Errors
    ///
    /// [`BadSettings`], with every fault of all the variables.
    pub fn from_env() -> Result<Self, BadSettings> {
        Self::read(PoolConfig::from_env(), |name| env::var(name).ok())
    }

    fn read(
        pool: Result<PoolConfig, mysql_warm_pool::Error>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BadSettings> {
        let mut faults = Vec::new();
        let given = |name| variable(name).filter(|value| !value.trim().is_empty());
        let listen = given("LISTEN").map(|value| {
            let allowed = "an address and a port, such as 0.0.0.0:8080";
            value.trim().parse().map_err(|_unparsed| (value, allowed))
        });
        let seconds = |name, from| {
            let value = given(name)?;
            let seconds = value.trim().parse().ok().filter(|s| *s >= from);
            let duration = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
            let in_range = duration.filter(|duration| *duration <= Duration::from_secs(3600));
            let allowed = if from > 0.0 {
                "seconds, 0.1 to 3600"
            } else {
                "seconds, 0 to 3600"
            };
            Some(in_range.ok_or((value, allowed)))
        };
        let request_timeout = seconds("REQUEST_TIMEOUT", 0.1);
        let shutdown_delay = seconds("SHUTDOWN_DELAY", 0.0);
        let pool = pool.map_err(|error| faults.push(error.to_string())).ok();
        let listen = taken("LISTEN", listen, &mut faults);
        let request_timeout = taken("REQUEST_TIMEOUT", request_timeout, &mut faults);
        let shutdown_delay = taken("SHUTDOWN_DELAY", shutdown_delay, &mut faults);
        let Some(pool) = pool.filter(|_| faults.is_empty()) else {
            return Err(BadSettings { faults });
        };
        let defaults = Self::new(pool);
        Ok(Self {
            listen: listen.unwrap_or(defaults.listen),
            request_timeout: request_timeout.unwrap_or(defaults.request_timeout),
            shutdown_delay: shutdown_delay.unwrap_or(defaults.shutdown_delay),
            ..defaults
        })
    }
}

/// The value of a variable, if it is set and valid. A fault is added to `faults`.
fn taken<T>(
    name: &str,
    given: Option<Result<T, (String, &str)>>,
    faults: &mut Vec<String>,
) -> Option<T> {
    match given? {
        Ok(value) => Some(value),
        Err((value, allowed)) => {
            faults.push(format!("{name} is {value}, allowed is {allowed}"));
            None
        }
    }
}

/// Variables with invalid values, each named.
#[derive(Debug)]
pub struct BadSettings {
    faults: Vec<String>,
}

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults.join("; "))
    }
}

impl std::error::Error for BadSettings {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, BadSettings> {
        let pool = PoolConfig::from_url("mysql://app@db/shop");
        Config::read(pool, |name| {
            let mut found = variables.iter().filter(|(known, _)| *known == name);
            found.next().map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let config = read(&[("LISTEN", " ")]).expect("good settings");
        assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.request_timeout, Duration::from_secs(10));
        assert_eq!(config.shutdown_delay, Duration::from_secs(5));
    }

    #[test]
    fn what_is_set_is_taken() {
        let config = read(&[
            ("LISTEN", "[::1]:80"),
            ("REQUEST_TIMEOUT", "2.5"),
            ("SHUTDOWN_DELAY", "0"),
        ])
        .expect("good settings");
        assert_eq!(config.listen.to_string(), "[::1]:80");
        assert_eq!(config.request_timeout, Duration::from_millis(2500));
        assert_eq!(config.shutdown_delay, Duration::ZERO);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = read(&[
            ("LISTEN", "here"),
            ("REQUEST_TIMEOUT", "0"),
            ("SHUTDOWN_DELAY", "NaN"),
        ])
        .expect_err("bad settings")
        .to_string();
        for fault in [
            "LISTEN is here",
            "REQUEST_TIMEOUT is 0",
            "SHUTDOWN_DELAY is NaN",
        ] {
            assert!(text.contains(fault), "{text}");
        }
    }
}
