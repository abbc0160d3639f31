//! The state of a session, from every list that the server keeps of it.
//!
//! The lists cover *all* of the session's variables, user variables, locks, prepared statements and
//! temporary tables, not just names that a test happens to know. What no list shows is queried: the
//! last value of a sequence, and tables that a temporary one of the same name may hide.
//!
//! `LAST_INSERT_ID()` is checked separately. A reset would clear it, yet it does not count as
//! state: only an `INSERT` or a `REPLACE` may change it, which is checked for every text predicted
//! neutral. A caller that reads it without having inserted anything has a bug that no pool can fix.
//! `ROW_COUNT()`, `FOUND_ROWS()`, warnings and errors describe the previous statement, which is
//! always the fingerprint's own.

use std::{collections::BTreeSet, fmt::Write, fs, path::PathBuf};

use mysql_warm_pool::mysql_async::{
    Conn, Error, Row, Value, consts::StatusFlags, prelude::Queryable,
};
use test_support::{Flavor, Server};

use super::effect::Effect;

/// What a server can be asked about a session.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The questions as one text, since a round trip for each would take most of the time.
    text: String,
    labels: Vec<&'static str>,
    /// Where `MariaDB` keeps a file for each temporary table, named after its connection.
    folder: Option<PathBuf>,
}

/// Session variables that describe the last statement or the time.
const PER_STATEMENT: [(&str, &str); 10] = [
    ("timestamp", "the time"),
    ("error_count", "of the last statement"),
    ("warning_count", "of the last statement"),
    ("last_insert_id", "checked separately"),
    ("identity", "another name for it"),
    ("last_gtid", "of the last change, in the binary log"),
    ("in_transaction", "the server's status flags say the same"),
    ("rand_seed1", "the state of RAND()"),
    ("rand_seed2", "the state of RAND()"),
    ("statement_id", "the number of the last statement"),
];

/// How often the session ran each command, as counted by the server.
const COMMAND: &str = "command";
/// Commands that leave nothing behind. Any other command in a text predicted neutral was missed by
/// the `effect` module.
const NEUTRAL_COMMANDS: [&str; 14] = [
    "com_analyze",
    "com_delete",
    "com_delete_multi",
    "com_do",
    "com_empty_query",
    "com_explain_other",
    "com_insert",
    "com_insert_select",
    "com_replace",
    "com_replace_select",
    "com_select",
    "com_truncate",
    "com_update",
    "com_update_multi",
];
const DATABASE: &str = "database: ";
/// These follow the default database; a reset would restore them without restoring the database.
const WITH_DATABASE: [&str; 2] = [
    "variable: character_set_database=",
    "variable: collation_database=",
];
/// The state of a transaction.
const OF_TRANSACTION: &str = "transaction: ";
/// The rights of the session.
const OF_ROLE: [&str; 2] = ["account: ", "role: "];
const USER_VARIABLE: &str = "user variable: ";
/// The only line that differs from one connection to the next.
const OF_CONNECTION: &str = "variable: pseudo_thread_id=";

/// The id of the session's thread in the performance schema.
const THREAD: &str =
    "(SELECT THREAD_ID FROM performance_schema.threads WHERE PROCESSLIST_ID = CONNECTION_ID())";

impl Listing {
    /// For a server that was started with [`OPTIONS`], and the tables of a database there.
    pub(super) fn new(server: &Server, database: &str) -> Self {
        let flavor = server.flavor();
        let per_statement = PER_STATEMENT.map(|(name, _)| name).join("', '");
        let of_all = |item: &str, table: &str, which: &str| {
            format!("SELECT GROUP_CONCAT({item} SEPARATOR '\n') FROM {table} WHERE {which}")
        };
        let of_thread = |item: &str, table: &str, thread: &str| {
            of_all(
                item,
                &format!("performance_schema.{table}"),
                &format!("{thread} = {THREAD}"),
            )
        };
        let locks = |which: &str| {
            let item = "CONCAT_WS(' ', OBJECT_TYPE, OBJECT_SCHEMA, OBJECT_NAME, LOCK_TYPE)";
            let own = format!(
                "OWNER_THREAD_ID = {THREAD} AND LOCK_DURATION {which} 'TRANSACTION'
                 AND COALESCE(OBJECT_SCHEMA, '') <> 'performance_schema'"
            );
            of_all(item, "performance_schema.metadata_locks", &own)
        };
        let variables = |table: &str| {
            let item = "LOWER(VARIABLE_NAME), '=', COALESCE(VARIABLE_VALUE, 'NULL')";
            of_all(
                item,
                table,
                &format!("VARIABLE_NAME NOT IN ('{per_statement}')"),
            )
        };
        let user_variable = "VARIABLE_NAME, '=', COALESCE(HEX(VARIABLE_VALUE), 'NULL')";
        let status = match flavor {
            Flavor::MariaDb => "information_schema.SESSION_STATUS",
            Flavor::MySql => "performance_schema.session_status",
        };
        let commands = of_all(
            "LOWER(VARIABLE_NAME), '=', VARIABLE_VALUE",
            status,
            "LEFT(VARIABLE_NAME, 4) = 'Com_' AND VARIABLE_VALUE <> '0'",
        );
        let transactions = "events_transactions_current";
        let mut questions = vec![
            ("last insert id", "SELECT LAST_INSERT_ID()".to_owned()),
            (COMMAND, commands),
            ("database", "SELECT DATABASE()".to_owned()),
            (
                "account",
                "SELECT CURRENT_USER(), CURRENT_ROLE()".to_owned(),
            ),
            (
                "prepared statement",
                of_thread(
                    "CONCAT_WS(' ', STATEMENT_NAME, SQL_TEXT)",
                    "prepared_statements_instances",
                    "OWNER_THREAD_ID",
                ),
            ),
            ("lock", locks("<>")),
            ("transaction", locks("=")),
            (
                "transaction",
                of_thread(
                    "ISOLATION_LEVEL, ' ', ACCESS_MODE",
                    transactions,
                    "THREAD_ID",
                ) + " AND STATE = 'ACTIVE' AND AUTOCOMMIT = 'NO'",
            ),
            (
                "profiles",
                "SELECT COUNT(*) > 0 FROM information_schema.PROFILING".to_owned(),
            ),
            (
                "trace",
                of_all("QUERY", "information_schema.OPTIMIZER_TRACE", "1"),
            ),
            (
                "hidden table",
                format!("SHOW CREATE TABLE {database}.bystander"),
            ),
            (
                "hidden table",
                format!("SHOW CREATE TABLE {database}.temporary_one"),
            ),
        ];
        questions.extend(match flavor {
            Flavor::MariaDb => [
                (
                    "variable",
                    variables("information_schema.SESSION_VARIABLES"),
                ),
                (
                    "user variable",
                    of_all(user_variable, "information_schema.USER_VARIABLES", "1"),
                ),
                (
                    "role",
                    of_all(
                        "COALESCE(ROLE_NAME, '')",
                        "information_schema.ENABLED_ROLES",
                        "1",
                    ),
                ),
                (
                    "sequence",
                    format!("SELECT PREVIOUS VALUE FOR {database}.numbers"),
                ),
            ],
            Flavor::MySql => [
                (
                    "variable",
                    variables("performance_schema.session_variables"),
                ),
                (
                    "user variable",
                    of_thread(user_variable, "user_variables_by_thread", "THREAD_ID"),
                ),
                (
                    "thread",
                    of_thread("RESOURCE_GROUP, ' ', INSTRUMENTED", "threads", "THREAD_ID"),
                ),
                (
                    "temporary table",
                    of_all("NAME", "information_schema.INNODB_TEMP_TABLE_INFO", "1"),
                ),
            ],
        });
        let (labels, questions): (_, Vec<_>) = questions.into_iter().unzip();
        Self {
            text: questions.join(";\n"),
            labels,
            folder: (flavor == Flavor::MariaDb).then(|| server.folder().join("data")),
        }
    }

    /// The questions as they are sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// One line per item. An error counts as an answer.
    async fn of(&self, conn: &mut impl Queryable) -> Result<String, Error> {
        let mut lines = String::new();
        let mut labels = self.labels.iter();
        let listed = async {
            let mut answers = conn.query_iter(&self.text).await?;
            while !answers.is_empty() {
                let label = labels.next().unwrap_or(&"more");
                for row in answers.collect::<Row>().await? {
                    for item in text_of(&row).lines() {
                        writeln!(lines, "{label}: {item}").expect("a string can be written to");
                    }
                }
            }
            // Otherwise the error of a later answer would surface with the next query.
            answers.drop_result().await
        };
        if let Err(error) = listed.await {
            let code = server_code(&error).ok_or(error)?;
            let next = labels.next().unwrap_or(&"more");
            writeln!(lines, "not shown from {next} on: error {code}")
                .expect("a string can be written to");
        }
        Ok(lines)
    }

    /// The temporary tables that have a file.
    fn files(&self, connection: u32) -> String {
        let Some(folder) = &self.folder else {
            return String::new();
        };
        let of_connection = format!("-{connection:x}-");
        let names = fs::read_dir(folder).expect("a folder").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let tables = names
            .filter(|name| name.starts_with("#sql-temptable") && name.contains(&of_connection));
        tables
            .map(|name| format!("temporary table: {name}\n"))
            .collect()
    }
}

/// Server options that enable these lists.
pub(super) const OPTIONS: [&str; 5] = [
    "--performance-schema=ON",
    "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON",
    "--performance-schema-instrument=transaction=ON",
    "--performance-schema-instrument=statement/%=ON",
    "--performance-schema-consumer-events-transactions-current=ON",
];

/// The state of a session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    lines: String,
    in_transaction: bool,
    last_insert_id: String,
    commands: BTreeSet<String>,
}

impl Fingerprint {
    pub(super) async fn of(conn: &mut Conn, listing: &Listing) -> Result<Self, Error> {
        conn.query_drop("SELECT 1").await?;
        let flags = flags(conn);
        let lines = listing.of(conn).await?;
        Ok(Self::new(flags, lines, &listing.files(conn.id())))
    }

    /// The fingerprint of a session seen through a pool; it sends only neutral statements. A user
    /// variable that is `NULL` is the same as none.
    pub(super) async fn through_pool(
        conn: &mut mysql_warm_pool::PooledConn,
        listing: &Listing,
    ) -> Result<Self, Error> {
        conn.query_drop("SELECT 1").await?;
        let flags = flags(conn);
        let lines = listing.of(conn).await?;
        let files = listing.files(conn.id());
        let lines = lines
            .lines()
            .filter(|line| !line.starts_with(OF_CONNECTION))
            .filter(|line| !line.starts_with(USER_VARIABLE) || !is_null(line));
        let lines = lines.fold(String::new(), |lines, line| lines + line + "\n");
        Ok(Self::new(flags, lines, &files))
    }

    fn new(flags: StatusFlags, lines: String, files: &str) -> Self {
        let is_command = |line: &&str| line.starts_with(COMMAND);
        let (commands, mut others): (Vec<_>, Vec<_>) = lines.lines().partition(is_command);
        let last_insert_id = others.remove(0).to_owned();
        Self {
            last_insert_id,
            lines: others.join("\n") + "\n" + files,
            in_transaction: flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS),
            commands: commands.into_iter().map(ToOwned::to_owned).collect(),
        }
    }

    pub(super) fn has(&self, start: &str) -> bool {
        self.lines.lines().any(|line| line.starts_with(start))
    }
}

/// Whether the line shows a user variable that is `NULL`, or that there is none.
fn is_null(line: &str) -> bool {
    line.ends_with("=NULL") || line.ends_with(": Null")
}

fn flags(conn: &Conn) -> StatusFlags {
    let flags = conn.last_ok_packet().map(|packet| packet.status_flags());
    flags.expect("an answer with flags")
}

fn text_of(row: &Row) -> String {
    let values = (0..row.len()).filter_map(|column| row.as_ref(column));
    let values: Vec<_> = values
        .map(|value| match value {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    values.join(" | ")
}

/// The number of the error with which the server answered.
pub(super) fn server_code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// What a statement changed, as the fingerprints show it.
#[derive(Debug)]
pub(super) struct Changes {
    /// Lines found in only one of the two fingerprints.
    session: Vec<String>,
    /// Lines that follow the default database.
    with_database: Vec<String>,
    /// Lines of the default database itself.
    database: Vec<String>,
    /// Lines of a transaction, and whether one began or ended.
    transaction: Vec<String>,
    /// Lines of the account and its roles.
    role: Vec<String>,
    last_insert_id: bool,
    /// The commands the server counted in between, with their counts.
    commands: Vec<String>,
}

impl Changes {
    /// The changes between two fingerprints; a lost connection has lost everything.
    pub(super) fn between(before: &Fingerprint, after: Option<&Fingerprint>) -> Self {
        let lost = Fingerprint {
            lines: "lost".to_owned(),
            in_transaction: !before.in_transaction,
            last_insert_id: before.last_insert_id.clone(),
            commands: before.commands.clone(),
        };
        let after = after.unwrap_or(&lost);
        let differing = if before.lines == after.lines {
            Vec::new()
        } else {
            let [from, to] = [before, after].map(|one| one.lines.lines().collect());
            let differing = BTreeSet::symmetric_difference(&from, &to);
            differing.map(|line| (*line).to_owned()).collect()
        };
        let mut session = differing;
        let mut take = |starts: &[&str]| {
            let of_that_kind =
                |line: &mut String| starts.iter().any(|start| line.starts_with(start));
            session.extract_if(.., of_that_kind).collect::<Vec<_>>()
        };
        let database = take(&[DATABASE]);
        let with_database = take(&WITH_DATABASE);
        let mut transaction = take(&[OF_TRANSACTION]);
        let role = take(&OF_ROLE);
        if before.in_transaction != after.in_transaction {
            transaction.push(format!("in a transaction: {}", after.in_transaction));
        }
        Self {
            session,
            with_database,
            database,
            transaction,
            role,
            last_insert_id: before.last_insert_id != after.last_insert_id,
            commands: after
                .commands
                .difference(&before.commands)
                .cloned()
                .collect(),
        }
    }

    /// The differences, one line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = &String> {
        let all = [
            &self.session,
            &self.with_database,
            &self.database,
            &self.transaction,
            &self.role,
            &self.commands,
        ];
        all.into_iter().flatten()
    }

    pub(super) fn any(&self) -> bool {
        !self.predicted_by(Effect::NEUTRAL)
    }

    pub(super) fn predicted_by(&self, effect: Effect) -> bool {
        (self.session.is_empty() || effect.session)
            && (self.with_database.is_empty() || effect.session || effect.database)
            && (self.database.is_empty() || effect.database)
            && (self.transaction.is_empty() || effect.transaction)
            && (self.role.is_empty() || effect.role)
    }

    /// A changing command that the server counted although the text was predicted neutral.
    pub(super) fn unseen_command(&self, effect: Effect) -> Option<&str> {
        let names = self.commands.iter().filter_map(|line| {
            let (name, _count) = line.split_once(": ")?.1.split_once('=')?;
            Some(name)
        });
        let mut changing =
            names.filter(|name| !NEUTRAL_COMMANDS.contains(name) && !name.starts_with("com_show_"));
        changing.next().filter(|_| effect == Effect::NEUTRAL)
    }

    /// Whether a text predicted neutral changed `LAST_INSERT_ID()` without inserting anything.
    pub(super) fn moves_last_insert_id(&self, effect: Effect, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text).to_uppercase();
        let inserts = ["INSERT", "REPLACE"].iter().any(|verb| text.contains(verb));
        self.last_insert_id && effect == Effect::NEUTRAL && !inserts
    }
}
