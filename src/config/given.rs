//! Settings as a source gives them, as text: a URL, and values apart from it.

use std::{collections::BTreeMap, mem};

use mysql_async::OptsBuilder;

use super::{
    HIDDEN, PoolConfig, conflict, fault,
    parts::{self, Part},
    similar::or_similar,
    table::{SETTINGS, Setting},
    tls::{self, Mode},
    url,
};
use crate::error::{ConfigError, ConfigFault, Error};

/// What a source gives. A setting apart from the URL wins over the same one in the URL.
pub(super) struct Given {
    url_name: String,
    pub(super) url: Option<String>,
    apart: Values,
    pub(super) faults: Vec<ConfigFault>,
}

/// Texts by the name of the setting or part of the server's address.
#[derive(Default)]
pub(super) struct Values {
    texts: BTreeMap<&'static str, Value>,
}

#[derive(Clone)]
pub(super) struct Value {
    /// The source's name for it.
    pub(super) name: String,
    pub(super) text: String,
    /// The text may hold a part of a password.
    pub(super) is_hidden: bool,
}

impl Value {
    /// The text to quote in an error.
    pub(super) fn shown(&self) -> &str {
        if self.is_hidden { HIDDEN } else { &self.text }
    }
}

impl Values {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.texts.get(key)
    }

    /// Adds a value. The error: it was given before, by this or another name.
    pub(super) fn add(&mut self, key: &'static str, value: Value) -> Result<(), ConfigFault> {
        let (name, shown) = (value.name.clone(), value.shown().to_owned());
        match self.texts.insert(key, value) {
            None => Ok(()),
            Some(other) if other.name == name => Err(fault(&name, shown, "to give it once")),
            Some(other) => Err(conflict(&name, shown, &other.name)),
        }
    }

    /// Adds all of the others, which win over those here.
    fn override_with(&mut self, others: Self) {
        // A password from one place wins over a file named in the other, and the other way round.
        for (this, other) in [("password", "password_file"), ("password_file", "password")] {
            if others.texts.contains_key(this) {
                self.texts.remove(other);
            }
        }
        // TLS turned off from one place turns off that of the other, with its files.
        let mode = others.get("ssl_mode").map(|value| Mode::read(&value.text));
        if mode == Some(Ok(Mode::Disabled)) {
            for file in tls::FILES {
                self.texts.remove(file);
            }
        }
        self.texts.extend(others.texts);
    }
}

impl Given {
    /// Starts with nothing given. Faults of the URL are reported under the name `url_name`.
    pub(super) fn new(url_name: impl Into<String>) -> Self {
        Self {
            url_name: url_name.into(),
            url: None,
            apart: Values::default(),
            faults: Vec::new(),
        }
    }

    /// Adds a setting under the source's `name` for it.
    pub(super) fn add(&mut self, setting: &Setting, name: String, text: String) {
        let value = Value {
            name,
            text,
            is_hidden: false,
        };
        self.faults
            .extend(self.apart.add(setting.name, value).err());
    }

    /// Adds a part of the server's address or account.
    pub(super) fn add_part(&mut self, part: &Part, name: String, text: String) {
        let value = Value {
            name,
            text,
            is_hidden: part.is_hidden,
        };
        self.faults.extend(self.apart.add(part.key, value).err());
    }

    /// See [`add_unknown`].
    pub(super) fn add_unknown(
        &mut self,
        name: &str,
        meant: Option<String>,
        known: impl FnOnce() -> String,
    ) {
        add_unknown(&mut self.faults, name, meant, known);
    }

    /// Reads the URL and the settings into a config, and records those that cannot be parsed.
    ///
    /// Reads the settings even if there is no server, so that their faults are reported too.
    /// `further` sets what is not one text, such as a list.
    pub(super) fn finish(
        mut self,
        further: impl FnOnce(&mut PoolConfig),
        checks_ranges: ChecksRanges,
    ) -> Result<PoolConfig, Error> {
        let mut faults = mem::take(&mut self.faults);
        let (opts, mut values) = match &self.url {
            Some(text) => url::read(&self.url_name, text, &mut faults),
            None => (None, Values::default()),
        };
        if self.url.is_none() && self.apart.get("host").is_none() {
            let allowed = format!("{}, or the host given apart", url::FORM);
            faults.push(fault(&self.url_name, "not set", allowed));
        }
        if let (Some(file), Some(password)) =
            (self.apart.get("password_file"), self.apart.get("password"))
        {
            faults.push(conflict(&file.name, file.shown(), &password.name));
        }
        values.override_with(self.apart);

        let opts = opts.unwrap_or_else(|| OptsBuilder::default().into());
        let mut config = PoolConfig::from_opts(parts::apply(&values, opts, &mut faults));
        for setting in SETTINGS {
            if let Some(value) = values.get(setting.name)
                && let Err(allowed) = setting.set(&mut config, &value.text)
            {
                faults.push(fault(&value.name, value.shown(), allowed));
            }
        }
        further(&mut config);
        // With any fault, report values out of range too, so that one attempt shows every fault.
        if checks_ranges == ChecksRanges::Always || !faults.is_empty() {
            let found = config.faults().into_iter();
            faults.extend(found.map(|found| match values.get(&found.field) {
                Some(value) => fault(&value.name, value.shown(), found.allowed),
                None => found,
            }));
        }
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::new(faults).into())
        }
    }
}

/// Whether values out of range are reported even if all values can be read. `Pool::new` checks
/// ranges in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChecksRanges {
    Always,
    WithOtherFaults,
}

/// Records that a name is unknown, and which one was probably meant. Only the first such fault
/// lists the known ones.
pub(super) fn add_unknown(
    faults: &mut Vec<ConfigFault>,
    name: &str,
    meant: Option<String>,
    known: impl FnOnce() -> String,
) {
    let is_first = faults.iter().all(|fault| fault.value != UNKNOWN);
    let allowed = if is_first {
        known()
    } else {
        "as listed above".to_owned()
    };
    faults.push(fault(name, UNKNOWN, or_similar(allowed, meant)));
}

const UNKNOWN: &str = "not a known name";
