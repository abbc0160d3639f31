//! `ConfigError`: every invalid setting at once.

use std::{error::Error as StdError, fmt};

/// Settings that are invalid, each with its value and what is allowed.
///
/// ```
/// use mysql_warm_pool::{Error, Pool, PoolConfig};
///
/// let config = PoolConfig::from_url("mysql://app@db/shop")?.max_connecting(0).ready_at(50);
/// if let Err(Error::Config(error)) = Pool::new(config) {
///     for fault in error.faults() {
///         eprintln!("{fault}"); // max_connecting is 0, allowed is 1 to 1000 attempts
///     }
///     assert_eq!(error.faults().len(), 2);
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<ConfigFault>,
}

impl ConfigError {
    pub(crate) const fn new(faults: Vec<ConfigFault>) -> Self {
        Self { faults }
    }

    /// Returns all faults. Those of values out of range are in the order of the fields of
    /// [`PoolConfig`](crate::PoolConfig).
    #[must_use]
    pub fn faults(&self) -> &[ConfigFault] {
        &self.faults
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad settings: ")?;
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl StdError for ConfigError {}

/// A setting that is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFault {
    /// The setting by the name that its source uses: a field, a URL parameter or an environment
    /// variable.
    pub field: String,
    /// The value that was given; "(hidden)" if it may hold a password.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
    /// Whether another setting is in its way, and `allowed` is "only one of ... and ...".
    pub(crate) is_conflict: bool,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            allowed,
            is_conflict,
        } = self;
        if *is_conflict {
            // Names the field.
            write!(f, "set {allowed}")
        } else {
            write!(f, "{field} is {value}, allowed is {allowed}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_in_the_message() {
        let fault = |field: &str, value: &str, allowed: &str, is_conflict| ConfigFault {
            field: field.to_owned(),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
            is_conflict,
        };
        let error = ConfigError::new(vec![
            fault("size", "0", "1 to 100000", false),
            fault("pool", "6", "only one of pool and size", true),
            fault("DATABASE_URL", "(hidden)", "a URL", false),
        ]);
        assert_eq!(
            error.to_string(),
            "bad settings: size is 0, allowed is 1 to 100000; set only one of pool and size; \
             DATABASE_URL is (hidden), allowed is a URL"
        );
    }
}
