//! The table of settings: how each is read from text, which values are allowed, and how `Debug`
//! shows it. All code that reads, checks or lists settings uses this table.

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

#[cfg(feature = "serde")]
use super::file::{Plain, ToPlain as _};
use super::{OnCancel, PoolConfig, Reset, fault};
use crate::error::ConfigFault;

const MAX_SIZE: usize = 100_000;
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const MS: Duration = Duration::from_millis(1);

macro_rules! settings {
    ($($name:ident: $form:ident, $faults:expr;)*) => {
        /// All settings but `on_connect` and `credentials`, in the order of the fields of
        /// [`PoolConfig`].
        pub(super) static SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            form: settings!(@form $name $form),
            show: settings!(@show $name $form),
            #[cfg(feature = "serde")]
            plain: settings!(@plain $name $form),
            faults: $faults,
        }),*];

        // Does not compile if a field has no row.
        const _: fn(PoolConfig) = |PoolConfig {
            opts: _, on_connect: _, credentials: _, $($name: _),*
        }| ();
    };
    (@form $name:ident list) => { Form::List };
    (@form $name:ident $parse:ident) => {
        Form::OneValue(|config, text| {
            config.$name = $parse(text)?;
            Ok(())
        })
    };
    // Statements may hold secrets (`SET @key = '...'`), so `Debug` shows only their number.
    (@show $name:ident list) => { |config| format!("{} statements", config.$name.len()) };
    (@plain $name:ident list) => { |_config| Plain::None };
    (@plain $name:ident $parse:ident) => { |config| config.$name.to_plain() };
    (@show $name:ident $parse:ident) => { |config| format!("{:?}", config.$name) };
}

settings! {
    // field             from text          faults of its value
    size:                count,             size_faults;
    overflow:            count,             |c| number(c.overflow, 0..=MAX_SIZE, "connections");
    timeout:             duration,          |c| at_least(MS, c.timeout);
    recycle:             duration_or_never, |c| at_least(Duration::from_secs(1), c.recycle);
    warm_up_timeout:     duration,          |c| at_least(MS, c.warm_up_timeout);
    ready_at:            some_count,        ready_at_faults;
    connect_timeout:     duration,          |c| at_least(MS, c.connect_timeout);
    max_connecting:      count,             |c| number(c.max_connecting, 1..=1000, "attempts");
    validate_after_idle: duration,          |c| at_least(Duration::ZERO, c.validate_after_idle);
    keepalive:           duration_or_never, |c| at_least(Duration::from_millis(10), c.keepalive);
    overflow_linger:     duration,          |c| at_least(Duration::ZERO, c.overflow_linger);
    reset:               reset,             |_| vec![];
    on_cancel:           on_cancel,         |_| vec![];
    statement_timeout:   duration_or_never, |c| at_least(MS, c.statement_timeout);
    prepare:             list,              prepare_faults;
    init:                list,              |c| statement_faults(&c.init);
    password_file:       some_path,         password_file_faults;
    slow_get:            duration_or_never, |c| at_least(MS, c.slow_get);
    slow_query:          duration_or_never, |c| at_least(MS, c.slow_query);
    leak_after:          duration_or_never, |c| at_least(MS, c.leak_after);
    close_timeout:       duration,          |c| at_least(Duration::ZERO, c.close_timeout);
    name:                some_text,         name_faults;
}

/// A row of the table.
pub(super) struct Setting {
    pub(super) name: &'static str,
    form: Form,
    show: fn(&PoolConfig) -> String,
    #[cfg(feature = "serde")]
    plain: fn(&PoolConfig) -> Plain,
    faults: fn(&PoolConfig) -> Vec<Fault>,
}

enum Form {
    /// Sets the field from text. The error describes what is allowed.
    OneValue(fn(&mut PoolConfig, &str) -> Result<(), String>),
    /// A list of statements, which cannot be set from one text.
    List,
}

/// A value that is not allowed, and a description of what is.
struct Fault {
    value: String,
    allowed: String,
}

impl Setting {
    /// Whether one value sets it, as in a URL or an environment variable.
    pub(super) const fn is_one_value(&self) -> bool {
        matches!(self.form, Form::OneValue(_))
    }

    /// What sets it, for an error's text.
    pub(super) const fn form(&self) -> &'static str {
        match self.form {
            Form::OneValue(_) => "one value",
            Form::List => "a list of statements",
        }
    }

    /// Sets the field from text. The error says what is allowed.
    pub(super) fn set(&self, config: &mut PoolConfig, text: &str) -> Result<(), String> {
        match self.form {
            Form::OneValue(set) => set(config, text),
            Form::List => Err(self.form().to_owned()),
        }
    }

    /// The faults of the field's value.
    pub(super) fn faults(&self, config: &PoolConfig) -> impl Iterator<Item = ConfigFault> {
        let found = (self.faults)(config).into_iter();
        found.map(|found| fault(self.name, found.value, found.allowed))
    }

    /// The field's value for a settings file. Statements are left out.
    #[cfg(feature = "serde")]
    pub(super) fn plain(&self, config: &PoolConfig) -> Plain {
        (self.plain)(config)
    }

    /// The field's value for `Debug`, without secrets.
    pub(super) fn show(&self, config: &PoolConfig) -> impl fmt::Display {
        (self.show)(config)
    }
}

/// Finds a setting by the name of its field.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Finds a setting that one value sets.
pub(super) fn find_one_value(name: &str) -> Option<&'static Setting> {
    find(name).filter(|setting| setting.is_one_value())
}

/// The names of all settings that one value sets.
pub(super) fn one_value_names() -> impl Iterator<Item = &'static str> + Clone {
    let settings = SETTINGS.iter().filter(|setting| setting.is_one_value());
    settings.map(|setting| setting.name)
}

fn number(value: usize, allowed: RangeInclusive<usize>, unit: &str) -> Vec<Fault> {
    if allowed.contains(&value) {
        return vec![];
    }
    let (least, most) = (allowed.start(), allowed.end());
    vec![Fault {
        value: value.to_string(),
        allowed: format!("{least} to {most} {unit}"),
    }]
}

fn size_faults(config: &PoolConfig) -> Vec<Fault> {
    if config.size == 0 && config.overflow > 0 {
        return vec![];
    }
    let mut faults = number(config.size, 1..=MAX_SIZE, "connections");
    for fault in &mut faults {
        fault.allowed.push_str(", or 0 if overflow is at least 1");
    }
    faults
}

fn at_least(least: Duration, value: impl Into<Option<Duration>>) -> Vec<Fault> {
    match value.into() {
        Some(value) if !(least..=MAX_DURATION).contains(&value) => vec![Fault {
            value: format!("{value:?}"),
            allowed: format!("{least:?} to 365 days"),
        }],
        _ => vec![],
    }
}

fn ready_at_faults(config: &PoolConfig) -> Vec<Fault> {
    match config.ready_at {
        Some(ready_at) if config.size == 0 => vec![Fault {
            value: ready_at.to_string(),
            allowed: "no number, because size is 0".into(),
        }],
        Some(ready_at) if ready_at == 0 || ready_at > config.size => vec![Fault {
            value: ready_at.to_string(),
            allowed: format!("1 to size ({})", config.size),
        }],
        _ => vec![],
    }
}

fn prepare_faults(config: &PoolConfig) -> Vec<Fault> {
    let mut faults = statement_faults(&config.prepare);
    let (count, most) = (config.prepare.len(), config.opts.stmt_cache_size());
    if count > most {
        faults.push(Fault {
            value: format!("{count} statements"),
            allowed: format!("0 to stmt_cache_size ({most})"),
        });
    }
    faults
}

fn statement_faults(statements: &[String]) -> Vec<Fault> {
    let numbered = (1..).zip(statements);
    let empty = numbered.filter(|(_, statement)| statement.trim().is_empty());
    let faults = empty.map(|(n, _)| Fault {
        value: format!("empty in statement {n}"),
        allowed: "one SQL statement each".to_owned(),
    });
    faults.collect()
}

fn name_faults(config: &PoolConfig) -> Vec<Fault> {
    match &config.name {
        Some(name) if name.trim().is_empty() => vec![Fault {
            value: "empty".to_owned(),
            allowed: "a name".to_owned(),
        }],
        _ => vec![],
    }
}

fn password_file_faults(config: &PoolConfig) -> Vec<Fault> {
    match &config.password_file {
        Some(path) if path.as_os_str().is_empty() => vec![Fault {
            value: "empty".to_owned(),
            allowed: "a path".to_owned(),
        }],
        Some(path) if config.credentials.is_some() => vec![Fault {
            value: path.display().to_string(),
            allowed: "no file, because credentials is set".to_owned(),
        }],
        _ => vec![],
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_not_a_number| "a whole number".to_owned())
}

fn some_count(text: &str) -> Result<Option<usize>, String> {
    count(text).map(Some)
}

fn some_text(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

fn some_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(PathBuf::from(text)))
}

fn reset(text: &str) -> Result<Reset, String> {
    let choices = [
        ("when_changed", Reset::WhenChanged),
        ("always", Reset::Always),
        ("never", Reset::Never),
    ];
    choice(text, &choices)
}

fn on_cancel(text: &str) -> Result<OnCancel, String> {
    choice(
        text,
        &[("close", OnCancel::Close), ("kill", OnCancel::Kill)],
    )
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let word = text.to_lowercase().replace('-', "_");
    match choices.iter().find(|(name, _)| *name == word) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            Err(names.join(", "))
        }
    }
}

pub(crate) fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text.to_lowercase().as_str() {
        "-1" | "never" | "none" => Ok(None),
        _ => duration(text)
            .map(Some)
            .map_err(|allowed| format!("{allowed}, or -1 or never")),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    seconds(text)
        .or_else(|| with_units(text))
        .ok_or_else(|| "seconds (1800, 1.5) or a duration (30m, 1h30m, 500ms)".to_owned())
}

/// Whole seconds (`1800`), or seconds with a fraction (`1.5`).
fn seconds(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // Rules out other texts that Rust parses as floats: `inf`, `1e3`, `-1.5`.
    let is_decimal = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let seconds = text.parse().ok().filter(|_| is_decimal)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Whole numbers with units, added up (`1h30m`, `500ms`).
fn with_units(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let (mut sum, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let millis: u64 = match unit {
            "ms" => 1,
            "s" | "sec" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let number = number.parse::<u64>().ok()?;
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = tail.trim_start();
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{SETTINGS, duration, duration_or_never, find_one_value};
    use crate::{PoolConfig, config::tests::fields, error::Error};

    #[test]
    fn a_check_reports_all_faults_in_the_order_of_the_fields() {
        let config = PoolConfig::from_url("mysql://app@db/shop")
            .expect("a good URL")
            .size(100_001)
            .overflow(100_001)
            .timeout(Duration::ZERO)
            .recycle(Duration::from_millis(1))
            .ready_at(0)
            .max_connecting(0)
            .init(["  "])
            .prepare(vec!["SELECT 1"; 33])
            .name(" ");
        let error = Error::from(config.check().expect_err("nine faults"));
        assert_eq!(
            fields(&error),
            [
                "size",
                "overflow",
                "timeout",
                "recycle",
                "ready_at",
                "max_connecting",
                "prepare",
                "init",
                "name"
            ]
        );
    }

    #[test]
    fn a_limit_is_checked_by_itself() {
        assert!(PoolConfig::check_limit(1, 0).is_empty());
        assert!(PoolConfig::check_limit(0, 1).is_empty());
        assert_eq!(PoolConfig::check_limit(0, 0).len(), 1);
        let faults = PoolConfig::check_limit(100_001, 100_001);
        let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "size is 100001, allowed is 1 to 100000 connections, or 0 if overflow is at least 1",
                "overflow is 100001, allowed is 0 to 100000 connections"
            ]
        );
    }

    #[test]
    fn every_setting_of_one_value_reads_text() {
        let mut config = PoolConfig::from_url("mysql://app@db/shop").expect("a good URL");
        for setting in SETTINGS {
            let outcome = setting.set(&mut config, "?");
            let takes_any_text = matches!(setting.name, "name" | "password_file");
            assert_eq!(outcome.is_ok(), takes_any_text, "{}", setting.name);
            assert!(setting.faults(&config).next().is_none(), "{}", setting.name);
        }
        assert!(find_one_value("size").is_some());
        for name in ["prepare", "on_connect", "credentials", "colour"] {
            assert!(find_one_value(name).is_none(), "{name}");
        }
    }

    #[test]
    fn durations_are_seconds_or_numbers_with_units() {
        for (text, millis) in [
            ("1800", 1_800_000),
            (" 60 ", 60_000),
            ("1.5", 1500),
            ("0.25", 250),
            ("60.0", 60_000),
            ("1h30m", 5_400_000),
            ("1m 500ms", 60_500),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", ".", "1.2.3", "inf", "NaN", "1e3", "-1.5", "-1", "soon", "1.5h", "5x",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        let huge = "9".repeat(400);
        for text in [format!("{huge}.5"), format!("{huge}d"), huge] {
            assert!(duration(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn never_is_a_word_or_minus_one() {
        for text in ["-1", "never", "Never", "none"] {
            assert_eq!(duration_or_never(text), Ok(None), "{text}");
        }
        let some = Some(Duration::from_millis(1500));
        assert_eq!(duration_or_never("1.5"), Ok(some));
        let allowed = duration_or_never("-2").expect_err("neither");
        assert!(allowed.ends_with("or -1 or never"), "{allowed}");
    }

    proptest! {
        #[test]
        fn durations_with_units_add_up(h in 0u64..1000, m in 0u64..60, ms in 0u64..1000) {
            let text = format!("{h}h{m}m{ms}ms");
            let millis = (h * 60 + m) * 60_000 + ms;
            prop_assert_eq!(duration(&text), Ok(Duration::from_millis(millis)));
        }

        #[test]
        fn decimal_seconds_keep_their_milliseconds(s in 0u64..100_000_000, ms in 0u64..1000) {
            let text = format!("{s}.{ms:03}");
            let read = duration(&text).expect("a duration");
            let meant = Duration::from_millis(s * 1000 + ms);
            prop_assert!(read.abs_diff(meant) < Duration::from_micros(1), "{text}: {read:?}");
        }

        #[test]
        fn no_text_panics_as_a_duration(text in ".{0,20}") {
            let _outcome = duration(&text);
        }
    }
}
