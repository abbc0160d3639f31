//! Asks a server what it does in its topology: one round trip, on the monitor's own connection.

use std::{collections::HashMap, time::Duration};

use mysql_async::{QueryResult, Row, TextProtocol, Value, prelude::Queryable};

use super::monitor::in_time;
use crate::{connection::PooledConn, error::ends_connection};

/// What a server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It must not be used now.
    Unusable {
        reason: String,
    },
    Usable(Usable),
}

/// A server that can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usable {
    /// It takes writes.
    pub(super) is_writable: bool,
    /// Others of its topology may take writes too: Galera, a multi-primary group.
    pub(super) shares_writes: bool,
    pub(super) lag: Option<Duration>,
    /// Names the server, wherever it is reached.
    pub(super) identity: Option<String>,
    /// The primary of its group, as it sees it.
    pub(super) primary_seen: Option<String>,
    /// The members of its cluster, as it sees them: `host:port`.
    pub(super) members_seen: Vec<String>,
}

/// Asks one server, and keeps what it has learnt about it.
#[derive(Debug, Default)]
pub(super) struct Asker {
    /// What holds for the connection with this id.
    learnt: Option<(u32, Learnt)>,
}

/// A row of Group Replication's table of members.
struct GroupMember {
    id: String,
    /// `host:port`; empty before it has joined for the first time.
    address: String,
    state: String,
    role: String,
}

/// What is asked once for each connection.
#[derive(Debug)]
struct Learnt {
    /// Those of [`VARIABLES`] that it has.
    variables: Vec<&'static str>,
    identity: Option<String>,
    /// The account as the server sees it, quoted.
    account: Option<String>,
    version: Version,
    is_galera: bool,
    /// The server is meant to be a member of a group.
    is_in_group: bool,
    may_ask: MayAsk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    MariaDb,
    MySql,
    /// MySQL before 8.0.22, which knows `SHOW SLAVE STATUS` only.
    OldMySql,
}

/// What the server has not refused so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MayAsk {
    lag: bool,
    group: bool,
}

/// The variables that show whether a server takes writes. Not every server has each of them.
const VARIABLES: [&str; 4] = [
    "read_only",
    "super_read_only",
    "innodb_read_only",
    "offline_mode",
];
/// Those that do not change while a connection lives.
const CONSTANTS: &str = "'version', 'server_uuid', 'server_uid', 'server_id', 'hostname', 'port', \
                         'wsrep_on', 'group_replication_group_name'";
const GALERA: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', \
                      'wsrep_cluster_status', 'wsrep_local_state', 'wsrep_local_state_comment', \
                      'wsrep_incoming_addresses', 'wsrep_gcomm_uuid')";
const GROUP: &str = "SELECT MEMBER_ID, IFNULL(CONCAT(MEMBER_HOST, ':', MEMBER_PORT), ''), \
                     MEMBER_STATE, MEMBER_ROLE FROM performance_schema.replication_group_members";
/// 0 if nothing waits to be applied; otherwise the age of what is being applied.
const GROUP_LAG: &str = "SELECT IF(COUNT_TRANSACTIONS_REMOTE_IN_APPLIER_QUEUE = 0, 0, \
                         (SELECT MAX(TIMESTAMPDIFF(SECOND, \
                         APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP, NOW(6))) \
                         FROM performance_schema.replication_applier_status_by_worker \
                         WHERE CHANNEL_NAME = 'group_replication_applier' \
                         AND APPLYING_TRANSACTION <> '')) \
                         FROM performance_schema.replication_group_member_stats \
                         WHERE MEMBER_ID = @@server_uuid";

/// `ER_TABLEACCESS_DENIED_ERROR` and `ER_SPECIFIC_ACCESS_DENIED_ERROR`.
const DENIED: [u16; 2] = [1142, 1227];
const PARSE_ERROR: u16 = 1064;

type Results<'a> = QueryResult<'a, 'static, TextProtocol>;

impl Asker {
    /// Asks the server. It takes one round trip, and one more on a new connection.
    pub(super) async fn ask(&mut self, conn: &mut PooledConn) -> mysql_async::Result<Answer> {
        let id = conn.id();
        let mut learnt = match self.learnt.take() {
            Some((known, learnt)) if known == id => learnt,
            _ => in_time(Learnt::of(conn)).await?,
        };
        let outcome = loop {
            let before = (learnt.may_ask, learnt.version);
            match in_time(learnt.ask(conn)).await {
                // Without what was refused.
                Err(_) if (learnt.may_ask, learnt.version) != before => {}
                outcome => break outcome,
            }
        };
        if !outcome.as_ref().is_err_and(ends_connection) {
            self.learnt = Some((id, learnt));
        }
        outcome
    }

    /// The statement that gives the account the right to ask for the lag, if it lacks it.
    pub(super) fn grant_for_lag(&self) -> Option<String> {
        let (_, learnt) = self.learnt.as_ref()?;
        let is_lacking = !learnt.may_ask.lag && !learnt.is_galera;
        let right = match learnt.version {
            Version::MariaDb => "SLAVE MONITOR ON *.*",
            _ if learnt.is_in_group => "SELECT ON performance_schema.*",
            _ => "REPLICATION CLIENT ON *.*",
        };
        is_lacking.then(|| learnt.grant(right))
    }

    /// The statement that gives the account the right to read the group's members, if it lacks it.
    pub(super) fn grant_for_group(&self) -> Option<String> {
        let (_, learnt) = self.learnt.as_ref()?;
        let is_lacking = learnt.is_in_group && !learnt.may_ask.group;
        let right = "SELECT ON performance_schema.replication_group_members";
        is_lacking.then(|| learnt.grant(right))
    }
}

impl Learnt {
    async fn of(conn: &mut PooledConn) -> mysql_async::Result<Self> {
        let changing = VARIABLES.map(|name| format!("'{name}'")).join(", ");
        let question =
            format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({changing}, {CONSTANTS})");
        let rows: Vec<Row> = conn.query(question).await?;
        let facts = pairs(rows);
        let variables = VARIABLES.iter().copied();
        let variables = variables.filter(|name| facts.contains_key(*name)).collect();
        let fact = |name| facts.get(name).map(String::as_str).unwrap_or_default();
        let named = |name| Some(fact(name)).filter(|value| !value.is_empty());
        Ok(Self {
            variables,
            account: None,
            identity: named("server_uuid").map(str::to_owned).or_else(|| {
                // It is made of the network card's address, which containers may share.
                let uid = named("server_uid")?;
                let rest = ["server_id", "hostname", "port"].map(fact).join(" ");
                Some(format!("{uid} {rest}"))
            }),
            version: version(fact("version")),
            is_galera: is_on(fact("wsrep_on")),
            is_in_group: named("group_replication_group_name").is_some(),
            may_ask: MayAsk {
                lag: true,
                group: true,
            },
        })
    }

    fn grant(&self, right: &str) -> String {
        let account = self.account.as_deref().unwrap_or("this account");
        format!("GRANT {right} TO {account}")
    }

    fn question(&self) -> String {
        let variables = self.variables.iter().map(|name| format!("@@global.{name}"));
        // A server that has none of them takes writes.
        let values: Vec<_> = ["CURRENT_USER()".to_owned()]
            .into_iter()
            .chain(variables)
            .collect();
        let mut question = format!("SELECT {}", values.join(", "));
        let mut add = |part: &str| {
            question.push_str("; ");
            question.push_str(part);
        };
        if self.is_galera {
            add(GALERA);
            return question;
        }
        if self.asks_group() {
            add(GROUP);
        }
        if self.may_ask.lag {
            add(match self.version {
                _ if self.asks_group() => GROUP_LAG,
                Version::MariaDb => "SHOW ALL SLAVES STATUS",
                Version::MySql => "SHOW REPLICA STATUS",
                Version::OldMySql => "SHOW SLAVE STATUS",
            });
        }
        question
    }

    const fn asks_group(&self) -> bool {
        self.is_in_group && self.may_ask.group
    }

    /// Asks the whole question. If a part is refused, that is recorded.
    async fn ask(&mut self, conn: &mut PooledConn) -> mysql_async::Result<Answer> {
        let question = self.question();
        let (is_galera, asks_group) = (self.is_galera, self.asks_group());
        let mut results = conn.query_iter(question).await?;
        let rows: Vec<Row> = next(&mut results).await?;
        let mut values = rows.into_iter().flat_map(values_of);
        self.account = values.next().map(|account| quoted(&text(&account)));
        let on = self
            .variables
            .iter()
            .zip(values)
            .filter(|(_, value)| is_on(&text(value)));
        let on: Vec<_> = on.map(|(name, _)| *name).collect();
        let usable = Usable {
            is_writable: on.is_empty(),
            identity: self.identity.clone(),
            ..Usable::default()
        };
        if is_galera {
            let status = next(&mut results).await?;
            return Ok(of_galera(usable, pairs(status)));
        }
        let mut answer = if on.contains(&"offline_mode") {
            unusable("in offline mode", "offline_mode is ON")
        } else {
            Answer::Usable(usable)
        };
        if asks_group {
            let members = next(&mut results).await;
            let members = members.inspect_err(|error| self.may_ask.group &= !is_denied(error))?;
            let members = members.into_iter().filter_map(group_member).collect();
            if let Answer::Usable(usable) = answer {
                answer = of_group(usable, self.identity.as_deref(), members);
            }
        }
        if self.may_ask.lag {
            let rows = next(&mut results).await;
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) if is_denied(&error) => {
                    self.may_ask.lag = false;
                    return Err(error);
                }
                Err(error)
                    if self.version == Version::MySql && code(&error) == Some(PARSE_ERROR) =>
                {
                    self.version = Version::OldMySql;
                    return Err(error);
                }
                Err(error) if ends_connection(&error) => return Err(error),
                // It does not know this question, or cannot answer it now.
                Err(_) => Vec::new(),
            };
            if let Answer::Usable(usable) = &mut answer {
                usable.lag = lag(&rows);
            }
        }
        if let Answer::Usable(usable) = &mut answer
            && usable.is_writable
            && !usable.shares_writes
        {
            usable.lag = Some(Duration::ZERO);
        }
        Ok(answer)
    }
}

/// Reads the next result set. Rows take any value, where other types panic.
async fn next(results: &mut Results<'_>) -> mysql_async::Result<Vec<Row>> {
    results.collect().await
}

/// The values of a row, in order. None has been taken out of it.
fn values_of(row: Row) -> impl Iterator<Item = Value> {
    row.unwrap_raw().into_iter().flatten()
}

/// Names in lower case, and their values.
fn pairs(rows: Vec<Row>) -> HashMap<String, String> {
    let pairs = rows.into_iter().filter_map(|row| {
        let mut values = values_of(row).map(|value| text(&value));
        Some((values.next()?.to_lowercase(), values.next()?))
    });
    pairs.collect()
}

fn group_member(row: Row) -> Option<GroupMember> {
    let mut values = values_of(row).map(|value| text(&value));
    Some(GroupMember {
        id: values.next()?,
        address: values.next()?,
        state: values.next()?,
        role: values.next()?,
    })
}

/// `app@%` as `'app'@'%'`.
fn quoted(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    let (user, host) = (user.replace('\'', "''"), host.replace('\'', "''"));
    format!("'{user}'@'{host}'")
}

fn version(text: &str) -> Version {
    if text.to_lowercase().contains("mariadb") {
        return Version::MariaDb;
    }
    Version::MySql
}

/// Reads a variable of a server: a number, or a word as `ON`.
fn is_on(text: &str) -> bool {
    !matches!(
        text.to_uppercase().as_str(),
        "" | "0" | "OFF" | "NO" | "FALSE"
    )
}

fn text(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::NULL => String::new(),
        other => other.as_sql(true),
    }
}

fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

fn is_denied(error: &mysql_async::Error) -> bool {
    code(error).is_some_and(|code| DENIED.contains(&code))
}

/// The longest lag of all channels; `None` if there is none, or if one of them does not know it.
fn lag(rows: &[Row]) -> Option<Duration> {
    const NAMES: [&[u8]; 2] = [b"Seconds_Behind_Source", b"Seconds_Behind_Master"];
    let lags = rows.iter().map(|row| {
        let columns = row.columns_ref();
        let by_name = columns
            .iter()
            .position(|column| NAMES.contains(&column.name_ref()));
        // The only column of a question about a group.
        let seconds = text(row.as_ref(by_name.unwrap_or(0))?);
        seconds.parse::<u64>().ok().map(Duration::from_secs)
    });
    let lags: Option<Vec<_>> = lags.collect();
    lags?.into_iter().max()
}

fn of_galera(usable: Usable, mut status: HashMap<String, String>) -> Answer {
    let mut take = |name: &str| status.remove(name).unwrap_or_default();
    let component = take("wsrep_cluster_status");
    let (state, comment) = (take("wsrep_local_state"), take("wsrep_local_state_comment"));
    if !component.eq_ignore_ascii_case("primary") {
        return unusable("no quorum in Galera", &component);
    }
    if !is_on(&take("wsrep_ready")) || state != "4" {
        return unusable("not synced in Galera", &comment);
    }
    Answer::Usable(Usable {
        shares_writes: true,
        lag: Some(Duration::ZERO),
        identity: Some(take("wsrep_gcomm_uuid")).filter(|id| !id.is_empty()),
        members_seen: addresses(&take("wsrep_incoming_addresses")),
        ..usable
    })
}

/// The addresses that clients can use: not `AUTO`, and none without a port.
fn addresses(list: &str) -> Vec<String> {
    let addresses = list.split(',').map(str::trim);
    let addresses = addresses.filter(|address| {
        let port = address.rsplit_once(':').map(|(_, port)| port);
        port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    });
    addresses.map(str::to_owned).collect()
}

fn of_group(usable: Usable, own_id: Option<&str>, members: Vec<GroupMember>) -> Answer {
    let is_own = |member: &&GroupMember| Some(member.id.as_str()) == own_id;
    let own_state = members.iter().find(is_own);
    let own_state = own_state.map_or("OFFLINE", |own| own.state.as_str());
    if own_state != "ONLINE" {
        return unusable("not online in its group", own_state);
    }
    let reachable = members
        .iter()
        .filter(|member| member.state != "UNREACHABLE");
    let (reachable, all) = (reachable.count(), members.len());
    if reachable.saturating_mul(2) <= all {
        let reason = format!("no quorum in its group: {reachable} of {all} members reachable");
        return Answer::Unusable { reason };
    }
    let is_primary = |member: &&GroupMember| member.state == "ONLINE" && member.role == "PRIMARY";
    let primaries: Vec<_> = members.iter().filter(is_primary).collect();
    let is_own_primary = primaries.iter().any(is_own);
    let primary_seen = primaries.first().map(|primary| primary.id.clone());
    Answer::Usable(Usable {
        is_writable: usable.is_writable && is_own_primary,
        shares_writes: primaries.len() > 1,
        primary_seen: primary_seen.filter(|_| primaries.len() == 1),
        members_seen: members
            .iter()
            .flat_map(|member| addresses(&member.address))
            .collect(),
        ..usable
    })
}

fn unusable(what: &str, state: &str) -> Answer {
    let state = if state.is_empty() { "unknown" } else { state };
    Answer::Unusable {
        reason: format!("{what}: {state}"),
    }
}
