//! Classifies the driver's errors: may a retry help, is the connection lost, may others be lost
//! too.

use std::{error::Error as StdError, io};

use mysql_async::{DriverError, IoError, ServerError};

use super::Error;

/// Returns whether work that failed with this driver error may succeed if it is retried.
///
/// True for lost and refused connections, for a server that is full, starting or stopping, and for
/// transactions that lost a conflict over locks.
///
/// A transaction that ended with a transient error was not committed, and may be repeated as a
/// whole, from its start and on another connection; `examples/retry.rs` shows how. If the answer to
/// `COMMIT` is lost, the error is [`Error::CommitUnknown`], which is not transient. A statement
/// outside a transaction whose answer was lost may have been executed: repeat only one that may be
/// executed twice.
///
/// These answers of servers and proxies are classified; every other code is not transient. Codes
/// from 2000 on belong to client libraries: a proxy passes them on when it has lost its server.
///
/// | code | name | transient | reason |
/// |---|---|---|---|
/// | 1020 | `CHECKREAD` | yes | as 1213: another transaction changed the row (MariaDB) |
/// | 1037 | `OUTOFMEMORY` | yes | the server is short of memory |
/// | 1040 | `CON_COUNT_ERROR` | yes | all connections of the server are in use |
/// | 1041 | `OUT_OF_RESOURCES` | yes | the server is short of memory |
/// | 1043 | `HANDSHAKE_ERROR` | yes | the handshake was disturbed |
/// | 1053 | `SERVER_SHUTDOWN` | yes | the server is stopping, and may start again |
/// | 1135 | `CANT_CREATE_THREAD` | yes | the server is short of threads |
/// | 1152 | `ABORTING_CONNECTION` | yes | the connection was lost |
/// | 1154 | `NET_READ_ERROR_FROM_PIPE` | yes | the connection was lost |
/// | 1155 | `NET_FCNTL_ERROR` | yes | the connection was lost |
/// | 1156 | `NET_PACKETS_OUT_OF_ORDER` | yes | the connection was disturbed |
/// | 1157 | `NET_UNCOMPRESS_ERROR` | yes | the connection was disturbed |
/// | 1158 | `NET_READ_ERROR` | yes | the connection was lost |
/// | 1159 | `NET_READ_INTERRUPTED` | yes | the connection was lost |
/// | 1160 | `NET_ERROR_ON_WRITE` | yes | the connection was lost |
/// | 1161 | `NET_WRITE_INTERRUPTED` | yes | the connection was lost |
/// | 1184 | `NEW_ABORTING_CONNECTION` | yes | the connection was lost |
/// | 1203 | `TOO_MANY_USER_CONNECTIONS` | yes | all connections of the account are in use |
/// | 1205 | `LOCK_WAIT_TIMEOUT` | yes | another transaction held the lock; roll back first (a) |
/// | 1213 | `LOCK_DEADLOCK` | yes | a deadlock; the transaction was rolled back (b) |
/// | 1226 | `USER_LIMIT_REACHED` | yes | a limit of the account; an hourly one needs long pauses |
/// | 1290 | `OPTION_PREVENTS_STATEMENT` | by text | the server is read-only, or another option forbids it (d) |
/// | 1412 | `TABLE_DEF_CHANGED` | yes | a table was altered meanwhile; repeat the transaction |
/// | 1461 | `MAX_PREPARED_STMT_COUNT_REACHED` | yes | all prepared statements of the server are in use |
/// | 1615 | `NEED_REPREPARE` | yes | a table was altered meanwhile; prepare again |
/// | 1836 | `READ_ONLY_MODE` | yes | the server is read-only (d) |
/// | 1874 | `INNODB_READ_ONLY` | yes | the server is read-only (d) |
/// | 1927 | `CONNECTION_KILLED` | yes | the connection was killed, or a proxy lost its server |
/// | 2002 | `CR_CONNECTION_ERROR` | yes | a proxy cannot reach its server |
/// | 2003 | `CR_CONN_HOST_ERROR` | yes | a proxy cannot reach its server |
/// | 2005 | `CR_UNKNOWN_HOST` | yes | a proxy cannot resolve its server's name |
/// | 2006 | `CR_SERVER_GONE_ERROR` | yes | a proxy has lost its server |
/// | 2012 | `CR_SERVER_HANDSHAKE_ERR` | yes | a proxy cannot log in to its server |
/// | 2013 | `CR_SERVER_LOST` | yes | a proxy has lost its server |
/// | 2055 | `CR_SERVER_LOST_EXTENDED` | yes | a proxy has lost its server |
/// | 3032 | `SERVER_OFFLINE_MODE` | yes | the server is in offline mode |
/// | 3100 | `RUN_HOOK_ERROR` | yes | the server left its replication group; not executed (d) |
/// | 3101 | `TRANSACTION_ROLLBACK_DURING_COMMIT` | yes | a conflict in the group; it was rolled back |
/// | 3168 | `SERVER_ISNT_AVAILABLE` | yes | the server is not ready |
/// | 3169 | `SESSION_WAS_KILLED` | yes | the connection was killed |
/// | 4031 | `CLIENT_INTERACTION_TIMEOUT` | yes | the connection was idle for too long |
/// | 6399 | (Group Replication) | yes | the server asks to connect again |
/// | 6400 | (offline mode, with its reason) | yes | the server is in offline mode |
/// | 6401 | (offline mode, with its user) | yes | the server is in offline mode |
/// | 8002 | (TiDB) | yes | a write conflict; the transaction was rolled back |
/// | 8005 | (TiDB) | yes | a write conflict |
/// | 8022 | (TiDB) | yes | the commit failed; the transaction was rolled back |
/// | 8027 | (TiDB) | yes | the server has an old schema, and loads the new one |
/// | 8028 | (TiDB) | yes | a table was altered meanwhile; repeat the transaction |
/// | 8120 | (TiDB) | yes | the placement driver gave no timestamp |
/// | 9001 | (ProxySQL, TiDB) | by text | no server in time, or PD timed out (e) |
/// | 9002 | (ProxySQL, TiDB) | by text | no server, or TiKV timed out (e) |
/// | 9003 | (TiDB) | by text | TiKV is busy (e) |
/// | 9004 | (TiDB) | by text | resolving a lock timed out (e) |
/// | 9005 | (TiDB) | by text | a region is unavailable (e) |
/// | 9007 | (TiDB) | by text | a write conflict (e) |
/// | 9008 | (TiDB) | by text | too many requests to TiKV at once (e) |
/// | 9010 | (TiDB) | by text | TiKV dropped the request (e) |
/// | 9011 | (TiDB) | by text | TiKV is not synchronised yet (e) |
/// | 9012 | (TiDB) | by text | TiFlash timed out (e) |
/// | 9013 | (TiDB) | by text | TiFlash is busy (e) |
/// | 9501 | (RDS Proxy) | yes | no connection to its server in time |
/// | 1044 | `DBACCESS_DENIED_ERROR` | no | the account has no access to the database |
/// | 1045 | `ACCESS_DENIED_ERROR` | by text | wrong user or password (f) |
/// | 1047 | `UNKNOWN_COM_ERROR` | no | a Galera node outside its cluster, or an unknown command (c) |
/// | 1049 | `BAD_DB_ERROR` | no | no such database |
/// | 1064 | `PARSE_ERROR` | no | the statement is wrong, as with most errors of statements |
/// | 1105 | `UNKNOWN_ERROR` | by text | anything; in Vitess, no tablet can be reached (g) |
/// | 1129 | `HOST_IS_BLOCKED` | no | an administrator has to unblock this host |
/// | 1130 | `HOST_NOT_PRIVILEGED` | no | the account may not connect from this host |
/// | 1153 | `NET_PACKET_TOO_LARGE` | no | it will be as large again |
/// | 1251 | `NOT_SUPPORTED_AUTH_MODE` | no | the client lacks the authentication plugin |
/// | 1317 | `QUERY_INTERRUPTED` | by text | the statement was killed, most likely on purpose (g) |
/// | 1524 | `PLUGIN_IS_NOT_LOADED` | no | the server lacks the authentication plugin |
/// | 1698 | `ACCESS_DENIED_NO_PASSWORD_ERROR` | no | the account has no password login |
/// | 1820 | `MUST_CHANGE_PASSWORD` | no | the password has expired |
/// | 1862 | `MUST_CHANGE_PASSWORD_LOGIN` | no | the password has expired |
/// | 3118 | `ACCOUNT_HAS_BEEN_LOCKED` | no | the account is locked |
/// | 3159 | `SECURE_TRANSPORT_REQUIRED` | no | the server requires TLS |
/// | 4151 | `ACCOUNT_HAS_BEEN_LOCKED` | no | the account is locked (MariaDB) |
/// | 8501 | (TiDB) | no | it may have been committed |
/// | 9006 | (ProxySQL, TiDB) | no | locked to another host group; the transaction took too long |
/// | 1015 | `CANT_LOCK` | no | a file, or a table of a server whose tables are read-only (d) |
/// | 1036 | `OPEN_AS_READONLY` | no | the table, or all of InnoDB, is read-only (d) |
/// | 1180 | `ERROR_DURING_COMMIT` | by text | it may have been committed (h) |
/// | 1792 | `CANT_EXECUTE_IN_READ_ONLY_TRANSACTION` | no | the transaction is read-only (d) |
///
/// - (a) The server rolled back the statement but not the transaction, unless
///   `innodb_rollback_on_timeout` is on.
/// - (b) In a Galera cluster, any later command of the transaction may return it.
/// - (c) A Galera node ("WSREP has not yet prepared node") did nothing, except at `COMMIT`, where
///   it may have committed. While a connection is opened nothing can be committed, so there it is
///   [transient](super::ConnectError::is_transient), as are the errors under (d).
/// - (d) After a failover, the pool replaces its connections, and a retry may reach the new
///   primary. 1290 is transient if its text says that the server is read-only. 1792 is also the
///   error of the application's own read-only transactions, and 1036 that of a read-only table.
/// - (e) Transient, unless the text is that of another product's error with this code: the session
///   is locked to a host group (ProxySQL), or TLS is required (Azure).
/// - (f) Transient if a proxy's text says that it reached no server in time.
/// - (g) Vitess has no code of its own. Transient if the text names a gRPC code that is
///   (`code = Unavailable`, `ResourceExhausted`, `Aborted`, `Canceled`, `Code(17)`), unless it says
///   that a result or a message is too large. If it names none, 1105 is transient if the text says
///   so: that something, such as a tablet, is unavailable, not serving or cannot be reached, or that
///   a retry may help.
/// - (h) Transient if the text names error 149 as MySQL does (`Got error 149 - '...'`): in a
///   replication group, another member's transaction was faster, and this one was rolled back.
///
/// Of the other errors, these are transient:
///
/// - I/O errors, except those of the kinds `InvalidInput`, `InvalidData`, `PermissionDenied`,
///   `Unsupported`, `OutOfMemory` and `Other`, which mostly come from a wrong setting. A connection
///   that ends in the middle of a packet has the kind `Other`, but is transient;
/// - the driver's error for a closed connection;
/// - this crate's [`Error`], if its [`is_transient`](Error::is_transient) returns true.
#[must_use]
pub fn is_transient(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Io(IoError::Io(error)) => match error.kind() {
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported
            | io::ErrorKind::OutOfMemory => false,
            io::ErrorKind::Other => ended_in_a_packet(error),
            _ => true,
        },
        mysql_async::Error::Driver(DriverError::ConnectionClosed) => true,
        mysql_async::Error::Server(error) => is_transient_answer(error),
        mysql_async::Error::Other(error) => error
            .downcast_ref::<Error>()
            .is_some_and(Error::is_transient),
        _ => is_cut_in_tls(error),
    }
}

/// Whether the connection ended while TLS was set up, and nothing was found wrong with it. rustls
/// passes on the I/O error; OpenSSL's error has it as a source, or no more than this text.
fn is_cut_in_tls(error: &mysql_async::Error) -> bool {
    let mysql_async::Error::Io(error) = error else {
        return false;
    };
    let text = error.to_string().to_lowercase();
    if text.contains("unexpected eof") {
        return true;
    }
    let mut source = StdError::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::TimedOut
            );
        }
        source = error.source();
    }
    false
}

fn is_transient_answer(error: &ServerError) -> bool {
    let text = || error.message.to_lowercase();
    match error.code {
        1020 | 1037 | 1040 | 1041 | 1043 | 1053 | 1135 | 1152 | 1154..=1161 | 1184 => true,
        1203 | 1205 | 1213 | 1226 | 1412 | 1461 | 1615 | 1836 | 1874 | 1927 => true,
        2002 | 2003 | 2005 | 2006 | 2012 | 2013 | 2055 => true,
        3032 | 3100 | 3101 | 3168 | 3169 | 4031 | 6399..=6401 => true,
        8002 | 8005 | 8022 | 8027 | 8028 | 8120 | 9501 => true,
        9001..=9005 | 9007 | 9008 | 9010..=9013 => {
            let text = text();
            ![
                "locked on hg",
                "locked to hostgroup",
                "ssl connection is required",
            ]
            .iter()
            .any(|other| text.contains(other))
        }
        1045 => text().contains("max connect timeout reached"),
        1290 => says_read_only(error),
        1105 => {
            let text = text();
            !is_about_size(&text)
                && grpc_code(&text).map_or_else(|| promises_recovery(&text), is_transient_in_grpc)
        }
        1180 => is_lost_commit(error),
        1317 => {
            let text = text();
            !is_about_size(&text) && grpc_code(&text).is_some_and(is_transient_in_grpc)
        }
        _ => false,
    }
}

/// Whether a `COMMIT` failed because a transaction from another member of the group needed its
/// locks. MySQL's `InnoDB` has rolled the transaction back instead of preparing it.
fn is_lost_commit(error: &ServerError) -> bool {
    // MariaDB writes `149 "..."`, whatever its engine has done.
    error.code == 1180 && error.message.contains(" 149 - '")
}

/// The gRPC code that an error of Vitess names, in lower case: `... rpc error: code = Unavailable
/// desc = ...`.
fn grpc_code(text: &str) -> Option<&str> {
    // Apache Doris has an `errCode = ` of its own.
    let (_, code) = text.split_once(" code = ")?;
    code.split_whitespace().next()
}

fn is_transient_in_grpc(code: &str) -> bool {
    // Vitess' own code 17, `CLUSTER_EVENT`, has no name in gRPC.
    matches!(
        code,
        "unavailable" | "resourceexhausted" | "aborted" | "canceled" | "cluster_event" | "code(17)"
    )
}

/// Whether the text, in lower case, says that a result or a message is too large. Vitess answers
/// that with a gRPC code that is transient otherwise.
fn is_about_size(text: &str) -> bool {
    ["row count exceeded", "message larger than max"]
        .iter()
        .any(|words| text.contains(words))
}

/// Whether the text, in lower case, of an error without a code of its own says that it may go away.
fn promises_recovery(text: &str) -> bool {
    const WORDS: [&str; 23] = [
        "unavailable",
        "no available",
        "no backend available",
        "tablet",
        "retry",
        "try again",
        "temporarily",
        "server is busy",
        "starting up",
        "shutting down",
        "not serving",
        "not_serving",
        "reparent",
        "reshard",
        "cluster event",
        "cluster_event",
        "fails to connect",
        "failed to connect",
        "unable to connect",
        "could not connect",
        "can't connect",
        "connection refused",
        "connection reset",
    ];
    WORDS.iter().any(|word| text.contains(word))
}

/// Whether an answer that ends an attempt to open a connection may change by itself, beyond what
/// [`is_transient`] says: nothing can have been committed, and after a failover the next attempt
/// may reach another server.
pub(super) fn is_transient_at_login(error: &mysql_async::Error) -> bool {
    is_transient(error) || means_read_only(error, false)
}

/// Whether the connection ended in the middle of a packet. tokio's codec has no kind for it, only
/// this text.
fn ended_in_a_packet(error: &io::Error) -> bool {
    error.to_string() == "bytes remaining on stream"
}

/// Whether the connection that met this error is lost.
///
/// The driver's own `is_fatal` is false for every error of the server, though some of them are the
/// last thing the server sends on a connection. A client library's code is the last word of a proxy
/// that has lost its server.
pub(crate) fn ends_connection(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => matches!(
            error.code,
            1053 | 1077..=1080 | 1152..=1161 | 1184 | 1835 | 1927 | 2002 | 2003 | 2005 | 2006
                | 2012 | 2013 | 2026 | 2027 | 2055 | 3169 | 4031
        ),
        _ => true,
    }
}

/// Whether a packet was larger than the server, or the client's own settings, allow. The caller's
/// mistake ended the connection.
pub(crate) fn is_too_large(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => error.code == 1153,
        // The driver's codec has no kind for it, only this text.
        mysql_async::Error::Io(IoError::Io(error)) => {
            error.kind() == io::ErrorKind::Other
                && error.to_string() == "Packet is larger than max_allowed_packet"
        }
        _ => false,
    }
}

/// Whether the server or the network ended the connection, so that other connections may be dead
/// too.
pub(crate) fn means_loss(error: &mysql_async::Error) -> bool {
    match error {
        _ if is_too_large(error) => false,
        mysql_async::Error::Server(_) => ends_connection(error),
        mysql_async::Error::Io(_) | mysql_async::Error::Driver(DriverError::ConnectionClosed) => {
            true
        }
        _ => false,
    }
}

/// Whether the server does not know the id of a prepared statement: it has forgotten those of the
/// session. The statement was not executed.
///
/// The same code answers SQL's own `EXECUTE` with a name that is not prepared, in a procedure for
/// example; then the message names that statement.
pub(crate) fn forgets_statements(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) if error.code == 1243 => {
            !error.message.contains("EXECUTE") && !error.message.contains("DEALLOCATE")
        }
        _ => false,
    }
}

/// Whether the server rolls a transaction back when it returns this error, if it ends it at all:
/// deadlocks, conflicts between nodes or with a snapshot, and lock timeouts.
pub(crate) fn rolls_back(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => {
            matches!(
                error.code,
                1020 | 1205 | 1213 | 1317 | 1613 | 1614 | 3100 | 3101
            ) || is_lost_commit(error)
        }
        _ => false,
    }
}

/// Returns whether this driver error says that the server has rolled the whole transaction back,
/// because of a deadlock or another conflict.
///
/// True for the server's codes 1213 and 1614 (deadlock), 3101 and 1180 with error 149 (conflict in a
/// replication group), 8002 and 9007 (conflict in TiDB), and for this crate's
/// [`Error::RolledBack`].
///
/// Repeat the whole transaction, from its start. [`Error::is_deadlock`] is the same for this
/// crate's errors.
#[must_use]
pub fn is_deadlock(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => {
            matches!(error.code, 1213 | 1614 | 3101 | 8002)
                || error.code == 9007 && is_transient_answer(error)
                || is_lost_commit(error)
        }
        mysql_async::Error::Other(error) => error.downcast_ref().is_some_and(Error::is_deadlock),
        _ => false,
    }
}

/// Whether this error of a `COMMIT` says that nothing was committed. Any other one leaves it open.
pub(crate) fn refuses_commit(error: &mysql_async::Error) -> bool {
    match error {
        // It was not executed.
        mysql_async::Error::Other(error) => {
            matches!(error.downcast_ref(), Some(Error::SessionLost))
        }
        // Of these the server says that it has rolled back, or is not able to commit.
        mysql_async::Error::Server(error) => {
            matches!(
                error.code,
                1020 | 1064
                    | 1213
                    | 1290
                    | 1613
                    | 1614
                    | 1792
                    | 1836
                    | 1874
                    | 3100
                    | 3101
                    | 8002
                    | 8022
                    | 8028
            ) || error.code == 9007
                || is_lost_commit(error)
        }
        _ => false,
    }
}

/// Whether the server has become read-only, or has left its cluster or group.
///
/// `asked_read_only`: the caller asked for a read-only transaction or session, where error 1792 is
/// expected.
pub(crate) fn means_read_only(error: &mysql_async::Error, asked_read_only: bool) -> bool {
    match error {
        mysql_async::Error::Server(error) => match error.code {
            1290 => says_read_only(error),
            1836 | 1874 | 3100 => true,
            // Without this word, the server does not know the command.
            1047 => error.message.contains("WSREP"),
            1792 => !asked_read_only,
            _ => false,
        },
        _ => false,
    }
}

/// Whether error 1290, which many options of the server share, is about read-only mode.
fn says_read_only(error: &ServerError) -> bool {
    let text = error.message.to_lowercase();
    text.contains("read-only") || text.contains("read_only")
}

/// Whether a table is read-only, which may mean that all of the server is: with `innodb_read_only`
/// a write gets this answer.
pub(crate) fn is_read_only_table(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => match error.code {
            1036 => true,
            // MySQL's error: "Can't lock file (errno: 165 - Table is read only)".
            1015 => error.message.contains("read only"),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mysql_async::ServerError;

    use super::*;

    fn server_error(code: u16, message: &str) -> mysql_async::Error {
        mysql_async::Error::Server(ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        })
    }

    fn server(code: u16) -> mysql_async::Error {
        server_error(code, "an error")
    }

    #[test]
    fn the_table_in_the_docs_holds_for_every_code() {
        let documented: BTreeMap<u16, &str> = include_str!("classify.rs")
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("/// | ")?.split(" | ");
                Some((cells.next()?.parse().ok()?, cells.nth(1)?))
            })
            .collect();
        assert_eq!(documented.len(), 86);
        for code in 0..=u16::MAX {
            let examples = TEXTS.iter().filter(|(other, ..)| *other == code);
            let is_tested_both_ways =
                [true, false].map(|so| examples.clone().any(|(_, _, is)| *is == so));
            match documented.get(&code) {
                Some(&"by text") => assert_eq!(is_tested_both_ways, [true; 2], "{code}"),
                Some(&"yes") => assert!(is_transient(&server(code)), "{code}"),
                Some(&"no") | None => assert!(!is_transient(&server(code)), "{code}"),
                Some(other) => panic!("{code} is transient: {other:?}"),
            }
        }
    }

    /// Codes that mean different things, with texts as servers and proxies send them.
    const TEXTS: [(u16, &str, bool); 59] = [
        (1045, "Access denied for user 'app'@'%'", false),
        (
            1045,
            "Max connect timeout reached while reaching hostgroup 1 after 10001ms",
            true,
        ),
        (1105, "unknown error", false),
        (
            1105,
            "other error: unknown error Wire Error(InvalidEnumValue(4004))",
            false,
        ),
        (
            1105,
            "no healthy tablet available for 'keyspace:\"shop\" shard:\"0\"'",
            true,
        ),
        (
            1105,
            "target: shop.0.primary: primary is not serving, there may be a reparent",
            true,
        ),
        (1105, "current keyspace is being resharded", true),
        (1105, "inconsistent state detected, please retry", true),
        (1105, "KV error safe to retry [try again later]", true),
        (
            1105,
            "target: shop.0.primary: vttablet: rpc error: code = Unavailable desc = EOF",
            true,
        ),
        (
            1105,
            "target: shop.0.primary: vttablet: rpc error: code = Code(17) desc = gone",
            true,
        ),
        (
            1105,
            "vttablet: rpc error: code = Aborted desc = transaction 7: not found",
            true,
        ),
        (
            1105,
            "vttablet: rpc error: code = InvalidArgument desc = no such thing",
            false,
        ),
        (
            1105,
            "target: shop.0.primary: vttablet: rpc error: code = Unknown desc = x",
            false,
        ),
        (
            1105,
            "vttablet: rpc error: code = Aborted desc = Row count exceeded 10000",
            false,
        ),
        (
            1105,
            "rpc error: code = ResourceExhausted desc = grpc: trying to send message larger than max",
            false,
        ),
        (
            1105,
            "No available TiDB instances, please make sure TiDB is available",
            true,
        ),
        (
            1105,
            "TiProxy fails to connect to TiDB, please make sure TiDB is available",
            true,
        ),
        (
            1105,
            "errCode = 2, detailMessage = There is no backend available",
            true,
        ),
        (
            1105,
            "dial tcp 10.0.0.7:3306: connect: connection refused",
            true,
        ),
        (1105, "function 'f' not found", false),
        (1105, "this feature is not available in your edition", false),
        (
            1317,
            "vttablet: rpc error: code = Aborted desc = Row count exceeded 10000",
            false,
        ),
        (1317, "Query execution was interrupted", false),
        (
            1317,
            "vttablet: rpc error: code = DeadlineExceeded desc = too slow",
            false,
        ),
        (
            1317,
            "vttablet: rpc error: code = Canceled desc = context canceled",
            true,
        ),
        (
            1317,
            "vttablet: rpc error: code = Aborted desc = transaction 7: ended",
            true,
        ),
        (
            9001,
            "Max connect timeout reached while reaching hostgroup 0 after 10000ms",
            true,
        ),
        (9001, "PD Server Timeout", true),
        (
            9001,
            "SSL connection is required. Please specify SSL options and retry.",
            false,
        ),
        (9002, "Max connect failure while reaching hostgroup 0", true),
        (9002, "TiKV Server Timeout", true),
        (
            9002,
            "SSL connection is required. Please specify SSL options and retry.",
            false,
        ),
        (9003, "TiKV Server is Busy", true),
        (9003, "SSL connection is required.", false),
        (9004, "Resolve Lock Timeout", true),
        (9004, "SSL connection is required.", false),
        (9005, "Region is unavailable", true),
        (
            9005,
            "Session trying to reach HG 1 while locked on HG 0 . Rejecting query: x",
            false,
        ),
        (9007, "Write conflict, txnStartTS=1 [try again later]", true),
        (9007, "connection is locked to hostgroup 1", false),
        (9008, "Too many requests", true),
        (9008, "connection is locked to hostgroup 1", false),
        (9010, "TiKV server reports stale command", true),
        (9010, "connection is locked to hostgroup 1", false),
        (9011, "TiKV max timestamp is not synced", true),
        (9011, "connection is locked to hostgroup 1", false),
        (
            1180,
            "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT",
            true,
        ),
        (
            1180,
            "Got error 149 \"Lock deadlock; Retry transaction\" during COMMIT",
            false,
        ),
        (
            1180,
            "Got error 28 - 'No space left on device' during COMMIT",
            false,
        ),
        (9012, "TiFlash Server Timeout", true),
        (9012, "connection is locked to hostgroup 1", false),
        (9013, "TiFlash Server is Busy", true),
        (9013, "connection is locked to hostgroup 1", false),
        (1290, "running with the --read-only option", true),
        (1290, "running with the --super-read-only option", true),
        (1290, "running with the --read_only=NO_LOCK option", true),
        (1290, "running with the --secure-file-priv option", false),
        (1290, "running with the --skip-grant-tables option", false),
    ];

    #[test]
    fn where_the_code_is_not_enough_the_text_decides() {
        for (code, text, expected) in TEXTS {
            for text in [text.to_owned(), text.to_uppercase()] {
                let error = server_error(code, &text);
                assert_eq!(is_transient(&error), expected, "{code} {text}");
            }
        }
    }

    #[test]
    fn a_commit_that_lost_to_another_member_was_rolled_back() {
        let lost = "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT";
        let failed = "Got error 1149 - 'Unknown error' during COMMIT";
        for (text, expected) in [(lost, true), (failed, false)] {
            let error = server_error(1180, text);
            assert_eq!(is_deadlock(&error), expected, "{text}");
            assert_eq!(rolls_back(&error), expected, "{text}");
            assert_eq!(refuses_commit(&error), expected, "{text}");
        }
    }

    #[test]
    fn while_opening_a_server_that_takes_no_writes_is_waited_for() {
        for (code, text, expected) in [
            (
                1047,
                "WSREP has not yet prepared node for application use",
                true,
            ),
            (1047, "Unknown command", false),
            (1290, "running with the --read-only option", true),
            (1290, "running with the --skip-grant-tables option", false),
            (2003, "Can't connect to remote MySQL server", true),
            (1045, "Access denied", false),
        ] {
            let error = server_error(code, text);
            assert_eq!(is_transient_at_login(&error), expected, "{code} {text}");
        }
    }

    #[test]
    fn io_errors_are_transient_unless_a_setting_is_wrong() {
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
        ] {
            assert!(is_transient(&io::Error::from(kind).into()), "{kind}");
        }
        for kind in [
            io::ErrorKind::InvalidInput,
            io::ErrorKind::InvalidData,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::Unsupported,
            io::ErrorKind::OutOfMemory,
            io::ErrorKind::Other,
        ] {
            assert!(!is_transient(&io::Error::from(kind).into()), "{kind}");
        }
    }

    #[test]
    fn a_connection_that_ends_in_a_packet_is_transient() {
        let error = io::Error::other("bytes remaining on stream");
        assert!(is_transient(&error.into()));
    }

    #[test]
    fn some_server_errors_end_the_connection() {
        for code in [
            1053, 1077, 1080, 1152, 1161, 1184, 1835, 1927, 2002, 2003, 2006, 2013, 2055, 3169,
            4031,
        ] {
            assert!(ends_connection(&server(code)), "{code}");
            assert!(means_loss(&server(code)), "{code}");
        }
        // The caller's mistake.
        assert!(ends_connection(&server(1153)) && !means_loss(&server(1153)));
        for code in [1317, 1205, 1213, 1062, 1064, 1105, 3100, 9001] {
            assert!(!ends_connection(&server(code)), "{code}");
            assert!(!means_loss(&server(code)), "{code}");
        }
    }

    #[test]
    fn a_mistake_in_the_use_of_the_driver_is_no_loss() {
        let mistake = mysql_async::Error::Driver(DriverError::StmtParamsMismatch {
            required: 1,
            supplied: 2,
        });
        assert!(ends_connection(&mistake));
        assert!(!means_loss(&mistake));
        let closed = mysql_async::Error::Driver(DriverError::ConnectionClosed);
        assert!(means_loss(&closed));
    }

    #[test]
    fn a_read_only_server_is_known_by_code_and_message() {
        for code in [1836, 1874, 3100] {
            assert!(means_read_only(&server(code), true), "{code}");
        }
        for option in ["--read-only", "--super-read-only", "read_only=ON"] {
            let error = server_error(1290, &format!("running with the {option} option"));
            assert!(means_read_only(&error, true), "{option}");
        }
        let other = server_error(1290, "running with the --skip-grant-tables option");
        assert!(!means_read_only(&other, false));
        let lonely = server_error(1047, "WSREP has not yet prepared node for application use");
        assert!(means_read_only(&lonely, true));
        for code in [1036, 1045, 1047, 1205, 1213, 1317, 2006, 3098, 3101] {
            assert!(!means_read_only(&server(code), false), "{code}");
        }
    }

    #[test]
    fn a_read_only_table_is_known_by_code_and_message() {
        assert!(is_read_only_table(&server_error(
            1036,
            "Table 'entry' is read only"
        )));
        let text = "Can't lock file (errno: 165 - Table is read only)";
        assert!(is_read_only_table(&server_error(1015, text)));
        let text = "Can't lock file (errno: 77 - No locks available)";
        assert!(!is_read_only_table(&server_error(1015, text)));
        assert!(!is_read_only_table(&server(1290)));
    }

    #[test]
    fn a_callers_own_read_only_transaction_is_no_failover() {
        assert!(means_read_only(&server(1792), false));
        assert!(!means_read_only(&server(1792), true));
    }
}
