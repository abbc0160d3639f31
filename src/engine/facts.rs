//! What the pool asks new connections about their server, and what it knows from the answers.

use std::{ops::RangeInclusive, time::Duration};

use mysql_async::{Conn, Row, Value, from_value_opt, prelude::FromValue};

use crate::{
    error::Brief,
    report::{Flavor, ServerInfo},
    session::Rights,
    time::Timestamp,
};

use super::{init_connect::InitConnect, schedule::GrowingPause};

/// The valid values of a server's `max_allowed_packet`, in bytes.
const PACKETS_ALLOWED: RangeInclusive<usize> = 1024..=1_073_741_824;

/// After this time, the next opening reads the server's facts again.
const FRESH: Duration = Duration::from_secs(1);

/// After this time, facts that the server refused are asked again: it may be another server by
/// then.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The pause before the facts are asked again after no answer came.
const SILENCE: GrowingPause = GrowingPause::new(Duration::from_secs(1), Duration::from_secs(60));

/// How servers say that they have no function of that name: 1305, 1128, 1630; 1046 without a default
/// database; 1064 if only their own functions are callable; 1105 where that is the code for all.
const NO_SUCH_FUNCTION: [u16; 6] = [1046, 1064, 1105, 1128, 1305, 1630];

/// The words for a switch that is on.
const ON: [&str; 3] = ["ON", "NO_LOCK", "NO_LOCK_NO_ADMIN"];

/// One thing to select on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Version,
    MaxAllowedPacket,
    WaitTimeout,
    MaxConnections,
    MaxUserConnections,
    MaxPreparedStmtCount,
    ReadOnly,
    InnodbReadOnly,
    InitConnect,
    ConnectionId,
    Account,
    Role,
}

impl Fact {
    /// All of them. If the server refuses them together, each is asked by itself in this order, so
    /// the version comes first.
    const ALL: [Self; 12] = [
        Self::Version,
        Self::MaxAllowedPacket,
        Self::WaitTimeout,
        Self::MaxConnections,
        Self::MaxUserConnections,
        Self::MaxPreparedStmtCount,
        Self::ReadOnly,
        Self::InnodbReadOnly,
        Self::InitConnect,
        Self::ConnectionId,
        Self::Account,
        Self::Role,
    ];
    /// The facts that may differ from one connection to the next.
    const OF_CONNECTION: [Self; 3] = [Self::MaxAllowedPacket, Self::Account, Self::Role];

    const fn column(self) -> &'static str {
        match self {
            Self::Version => "@@version",
            Self::MaxAllowedPacket => "@@max_allowed_packet",
            Self::WaitTimeout => "@@wait_timeout",
            Self::MaxConnections => "@@max_connections",
            Self::MaxUserConnections => "@@max_user_connections",
            Self::MaxPreparedStmtCount => "@@max_prepared_stmt_count",
            Self::ReadOnly => "@@global.read_only",
            Self::InnodbReadOnly => "@@innodb_read_only",
            Self::InitConnect => "@@init_connect",
            Self::ConnectionId => "CONNECTION_ID()",
            Self::Account => Rights::ACCOUNT,
            Self::Role => Rights::ROLE,
        }
    }

    /// The columns that select these facts.
    pub(super) fn columns(facts: &[Self]) -> String {
        let columns: Vec<_> = facts.iter().map(|fact| fact.column()).collect();
        columns.join(", ")
    }
}

/// What an opening asks of its connection.
#[derive(Debug)]
pub(super) struct Question {
    /// Empty if nothing is to be asked.
    pub(super) facts: Vec<Fact>,
    /// Whether it asks about the server, and not only about this connection.
    pub(super) is_of_server: bool,
}

/// What a server answered.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<(Fact, Value)>);

impl Answers {
    /// Adds the answers in a row, which follow the number of the validation.
    pub(super) fn add(&mut self, facts: &[Fact], row: &Row) {
        for (index, fact) in (1..).zip(facts) {
            if let Some(value) = row.as_ref(index) {
                self.0.push((*fact, value.clone()));
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, fact: Fact) -> bool {
        self.0.iter().any(|(other, _)| *other == fact)
    }

    /// The answer, if there is one of this type.
    fn get<T: FromValue>(&self, fact: Fact) -> Option<T> {
        let (_, value) = self.0.iter().find(|(other, _)| *other == fact)?;
        from_value_opt(value.clone()).ok()
    }

    /// Whether a switch is on. Its value is a number or, since MariaDB 12, a word.
    fn is_on(&self, fact: Fact) -> bool {
        match self.get::<u64>(fact) {
            Some(flag) => flag != 0,
            None => self
                .get::<String>(fact)
                .is_some_and(|word| ON.iter().any(|on| word.eq_ignore_ascii_case(on))),
        }
    }

    /// The largest packet that the server takes, in bytes, if it is a valid value: with 0, for
    /// example, no further connection could be opened.
    pub(super) fn packets_allowed(&self) -> Option<usize> {
        self.get(Fact::MaxAllowedPacket)
            .filter(|bytes| PACKETS_ALLOWED.contains(bytes))
    }

    /// The server's `init_connect`, if it was asked for and has a text.
    pub(super) fn init_connect(&self) -> Option<String> {
        self.get(Fact::InitConnect)
    }

    /// The session's rights, if the server has roles.
    pub(super) fn rights(&self) -> Option<Rights> {
        let is_complete = self.has(Fact::Account) && self.has(Fact::Role);
        is_complete.then(|| Rights::new(self.get(Fact::Account), self.get(Fact::Role)))
    }

    /// The server's version and limits.
    fn server(&self, greeting: Greeting) -> ServerInfo {
        let version = self.get::<String>(Fact::Version);
        let version = version.map(|version| Brief(version).to_string());
        let is_mariadb = version.as_ref().map_or_else(
            // MySQL's numbers are below.
            || greeting.version >= (10, 0, 0),
            |version| version.contains("MariaDB"),
        );
        ServerInfo {
            behind_proxy: greeting.is_proxys(version.as_deref(), self.get(Fact::ConnectionId)),
            version: version.unwrap_or_else(|| greeting.version_text()),
            flavor: if is_mariadb {
                Flavor::MariaDb
            } else {
                Flavor::MySql
            },
            max_connections: self.get(Fact::MaxConnections).unwrap_or_default(),
            max_user_connections: self.get(Fact::MaxUserConnections).unwrap_or_default(),
            max_prepared_stmt_count: self.get(Fact::MaxPreparedStmtCount),
            wait_timeout: Duration::from_secs(self.get(Fact::WaitTimeout).unwrap_or_default()),
            read_only: self.is_on(Fact::ReadOnly) || self.is_on(Fact::InnodbReadOnly),
        }
    }
}

/// What the other end of a connection said in its greeting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    /// The version; all zero if the driver could not read it.
    version: (u16, u16, u16),
    id: u32,
}

impl Greeting {
    pub(super) fn of(conn: &Conn) -> Self {
        Self {
            version: conn.server_version(),
            id: conn.id(),
        }
    }

    /// Whether the greeting is a proxy's, because the server says something else about itself.
    fn is_proxys(self, version: Option<&str>, id: Option<u64>) -> bool {
        // The greeting only has room for the lower half of an id.
        let has_other_id = id.is_some_and(|id| id & u64::from(u32::MAX) != u64::from(self.id));
        let version = version.and_then(numbers);
        let has_other_version =
            self.version != (0, 0, 0) && version.is_some_and(|version| version != self.version);
        self.id == 0 || has_other_id || has_other_version
    }

    fn version_text(self) -> String {
        match self.version {
            (0, 0, 0) => String::new(),
            (major, minor, patch) => format!("{major}.{minor}.{patch}"),
        }
    }
}

/// The numbers at the beginning of a version.
fn numbers(version: &str) -> Option<(u16, u16, u16)> {
    // MariaDB's greeting, and that of a proxy that repeats it, begin like this.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = version.splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let end = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    let patch = rest.get(..end)?.parse().ok()?;
    Some((major, minor, patch))
}

/// What is known about the server.
#[derive(Debug, Default)]
pub(super) struct ServerFacts {
    pub(super) server: Option<ServerInfo>,
    pub(super) max_allowed_packet: Option<usize>,
    pub(super) innodb_read_only: bool,
    /// What a reset has to do for the server's `init_connect`.
    pub(super) init_connect: InitConnect,
    /// The rights of the last new connection on which they were read.
    pub(super) rights: KnownRights,
    /// Whether the server refused the driver's settings query.
    pub(super) refuses_settings: bool,
    /// Why abandoned statements cannot be killed on the last new connection.
    pub(super) kill_obstacle: Option<&'static str>,
    /// Whether that was logged.
    pub(super) has_warned_of_kill: bool,
    /// Whether the server lacks the tables of [`Opener::leftovers`](super::opener::Opener::leftovers).
    pub(super) refuses_leftovers: bool,
    /// What replaces a reset, if the server refuses resets.
    pub(super) refused_reset: Option<RefusedReset>,
    /// Whether the server refuses several statements in one text.
    pub(super) one_statement_at_a_time: bool,
    /// Facts that the server refused.
    refused: Vec<Fact>,
    /// When it refused the first of them.
    refused_at: Option<Timestamp>,
    /// When an opening last claimed the task of reading the facts.
    claimed_at: Option<Timestamp>,
    /// The pause before the next question, if the last one was not answered.
    silence: Option<GrowingPause>,
}

/// What the pool does instead if a server or proxy refuses `COM_RESET_CONNECTION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedReset {
    /// `COM_CHANGE_USER` is sent instead, which logs in again.
    ChangesUser,
    /// That is refused too, so the connection is replaced.
    Replaces,
}

/// What is known about the rights of a new connection.
#[derive(Clone, Debug, Default)]
pub(crate) enum KnownRights {
    /// They were not asked for, or the server would not say.
    #[default]
    Unknown,
    /// The server has no roles.
    NoRoles,
    Known(Rights),
}

impl ServerFacts {
    /// What to ask a new connection; `None` if nothing. If the facts are not fresh, one of several
    /// openings asks for all of them. With `always`, this one asks for all of them in any case.
    /// `is_valid` means that the connection needs no other round trip.
    pub(super) fn claim(
        &mut self,
        always: bool,
        is_valid: bool,
        now: Timestamp,
    ) -> Option<Question> {
        if self
            .silence
            .as_mut()
            .is_some_and(|silence| !silence.is_over(now))
        {
            return None;
        }
        let is_past = |at: Option<Timestamp>, age| at.is_some_and(|at| now.since(at) >= age);
        if is_past(self.refused_at, REFUSED_FOR) {
            self.refused.clear();
            self.refused_at = None;
        }
        let is_of_server = always || self.claimed_at.is_none() || is_past(self.claimed_at, FRESH);
        let wanted = if is_of_server {
            self.claimed_at = Some(now);
            &Fact::ALL[..]
        } else if !is_valid && matches!(self.rights, KnownRights::Known(_)) {
            &Fact::OF_CONNECTION[..]
        } else {
            return None;
        };
        let wanted = wanted.iter().copied();
        Some(Question {
            facts: wanted.filter(|fact| !self.refused.contains(fact)).collect(),
            is_of_server,
        })
    }

    /// Lets the next opening read the facts: the server answered with an error.
    pub(super) fn unclaim(&mut self) {
        self.claimed_at = None;
    }

    /// Records that every question was answered.
    pub(super) fn end_silence(&mut self) {
        self.silence = None;
    }

    /// Records that no answer came. The question itself may be the reason, so openings stop asking
    /// for a while: at once if this one hung, otherwise once one more has asked.
    pub(super) fn record_silence(&mut self, has_hung: bool, now: Timestamp) {
        self.claimed_at = None;
        let silence = self.silence.get_or_insert(SILENCE);
        if has_hung {
            silence.is_over(now);
        }
    }

    /// Records that the server refused to answer this question, with this code.
    pub(super) fn record_refused(&mut self, fact: Fact, code: u16, now: Timestamp) {
        // Any other refusal may come from a proxy in front of a server that has roles.
        let has_no_roles = fact == Fact::Role && NO_SUCH_FUNCTION.contains(&code);
        if has_no_roles && matches!(self.rights, KnownRights::Unknown) {
            self.rights = KnownRights::NoRoles;
        }
        if !self.refused.contains(&fact) {
            self.refused.push(fact);
        }
        self.refused_at.get_or_insert(now);
    }

    /// Records the answers. If the server was asked, returns whether a proxy stands in between.
    pub(super) fn record(
        &mut self,
        question: &Question,
        answers: &Answers,
        greeting: Greeting,
    ) -> bool {
        self.max_allowed_packet = answers.packets_allowed();
        if let Some(rights) = answers.rights() {
            self.rights = KnownRights::Known(rights);
        }
        if !question.is_of_server {
            return false;
        }
        let server = answers.server(greeting);
        let is_proxied = server.behind_proxy;
        self.innodb_read_only = answers.is_on(Fact::InnodbReadOnly);
        self.server = Some(server);
        is_proxied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_begins_with_its_numbers() {
        for (version, expected) in [
            ("10.11.6-MariaDB-0+deb12u1", Some((10, 11, 6))),
            ("5.5.5-10.11.6-MariaDB", Some((10, 11, 6))),
            ("9.7.0", Some((9, 7, 0))),
            ("5.7.44-48-log", Some((5, 7, 44))),
            ("8.0.11-TiDB-v7.5.1", Some((8, 0, 11))),
            ("8.0.mysql_aurora.3.04.0", None),
            ("99999999.1.1", None),
            ("the best", None),
            ("", None),
        ] {
            assert_eq!(numbers(version), expected, "{version}");
        }
    }

    #[test]
    fn a_proxy_is_known_by_its_greeting() {
        let greeting = |version, id| Greeting { version, id };
        let of_server = greeting((8, 0, 36), 7);
        for (greeting, version, id, expected) in [
            (of_server, Some("8.0.36-log"), Some(7), false),
            (of_server, None, None, false),
            // The greeting holds the lower half of a long id.
            (of_server, Some("8.0.36"), Some((1 << 40) + 7), false),
            (of_server, Some("8.0.36"), Some(8), true),
            (of_server, Some("8.0.35"), Some(7), true),
            (of_server, Some("8.0.mysql_aurora.3.04.0"), Some(7), false),
            (greeting((8, 0, 36), 0), Some("8.0.36"), None, true),
            (greeting((0, 0, 0), 7), Some("8.0.36"), Some(7), false),
            (
                greeting((10, 11, 6), 7),
                Some("10.11.6-MariaDB-log"),
                Some(7),
                false,
            ),
        ] {
            assert_eq!(
                greeting.is_proxys(version, id),
                expected,
                "{greeting:?} {version:?} {id:?}"
            );
        }
    }

    #[test]
    fn what_was_refused_is_asked_again_after_a_minute() {
        let start = Timestamp::now();
        let at = |s| start.after(Duration::from_secs(s));
        let mut facts = ServerFacts::default();
        let question = facts.claim(false, false, start).expect("the first");
        assert_eq!(question.facts, Fact::ALL);
        facts.record_refused(Fact::Role, 1305, start);
        assert!(
            facts.claim(false, false, start).is_none(),
            "one of several asks"
        );
        let again = facts.claim(false, false, at(2)).expect("no longer fresh");
        assert_eq!(again.facts, &Fact::ALL[..11]);
        let all = facts.claim(false, false, at(61)).expect("no longer fresh");
        assert_eq!(all.facts, Fact::ALL);
    }

    #[test]
    fn what_was_not_answered_is_asked_again_in_growing_pauses() {
        let start = Timestamp::now();
        let at = |ms| start.after(Duration::from_millis(ms));
        let mut facts = ServerFacts::default();
        let mut asked = Vec::new();
        for ms in (0..20_000).step_by(100) {
            if facts.claim(true, false, at(ms)).is_some() {
                asked.push(ms);
                facts.record_silence(false, at(ms));
            }
        }
        assert_eq!(asked, [0, 100, 1_100, 3_100, 7_100, 15_100]);
        // After a question that hung, the next opening does not ask.
        let mut facts = ServerFacts::default();
        assert!(facts.claim(true, false, start).is_some());
        facts.record_silence(true, at(2_000));
        assert!(facts.claim(true, false, at(2_100)).is_none());
        assert!(facts.claim(true, false, at(3_100)).is_some());
    }
}
