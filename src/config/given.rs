//! Settings given one by one in addition to a URL, as environment variables and settings files do.

use std::collections::BTreeMap;

use mysql_async::OptsBuilder;

use super::{
    PoolConfig, fault,
    table::{SETTINGS, Setting},
    url,
};
use crate::error::{ConfigError, ConfigFault, Error};

/// A URL and separate settings, as a source gives them. A separate setting wins over the same one
/// in the URL.
pub(super) struct Given {
    url_name: String,
    pub(super) url: Option<String>,
    /// Keyed by the field's name: the source's name for the setting, and its text.
    settings: BTreeMap<&'static str, (String, String)>,
    pub(super) faults: Vec<ConfigFault>,
}

impl Given {
    /// Starts with nothing given. Faults of the URL are reported under the name `url_name`.
    pub(super) const fn new(url_name: String) -> Self {
        Self {
            url_name,
            url: None,
            settings: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Adds a setting under the source's `name` for it.
    pub(super) fn add(&mut self, setting: &Setting, name: String, text: String) {
        if let Some((other, _)) = self.settings.get(setting.name) {
            let allowed = format!("one of this and {other}");
            self.faults.push(fault(&name, &text, allowed));
        }
        self.settings.insert(setting.name, (name, text));
    }

    /// Reads the URL and the settings into a config, and records those that cannot be parsed.
    ///
    /// Reads the settings even if there is no URL, so that their faults are reported too.
    pub(super) fn read(&mut self) -> PoolConfig {
        let config = match &self.url {
            Some(text) => url::read(&self.url_name, text, &mut self.faults),
            None => {
                self.faults
                    .push(fault(&self.url_name, "not set", url::FORM));
                None
            }
        };
        let mut config = config.unwrap_or_else(|| PoolConfig::from_opts(OptsBuilder::default()));
        for setting in SETTINGS {
            if let Some((name, text)) = self.settings.get(setting.name)
                && let Err(found) = setting.set(&mut config, text)
            {
                self.faults.push(ConfigFault {
                    field: name.clone(),
                    ..found
                });
            }
        }
        config
    }

    /// Records values out of range, under the names and with the texts that the source uses.
    pub(super) fn check(&mut self, config: &PoolConfig) {
        for found in config.faults() {
            self.faults
                .push(match self.settings.get(found.field.as_str()) {
                    Some((name, text)) => fault(name, text, found.allowed),
                    None => found,
                });
        }
    }

    /// Returns the config, or all faults recorded.
    pub(super) fn finish(self, config: PoolConfig) -> Result<PoolConfig, Error> {
        if self.faults.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::new(self.faults).into())
        }
    }
}
