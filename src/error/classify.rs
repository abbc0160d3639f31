//! Classifies the driver's errors: may a retry help, is the connection lost, may others be lost
//! too.

use std::io;

use mysql_async::{DriverError, IoError};

use super::Error;

/// Whether work that failed with this error of the driver may succeed if it is tried again.
///
/// True for lost and refused connections, for a server that is full, starting or stopping, and for
/// transactions that lost a conflict over locks. It does not say whether the work was done: after a
/// connection is lost at `COMMIT`, or at a write outside a transaction, it may have been. So retry
/// only work that may be done twice or was certainly not done. A transaction may be retried as a
/// whole, from its start and on another connection; `examples/retry.rs` shows how.
///
/// These errors of the server are classified; every other code is not transient:
///
/// | code | name | transient | reason |
/// |---|---|---|---|
/// | 1020 | `CHECKREAD` | yes | as 1213: another transaction changed the row (`MariaDB`) |
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
/// | 1927 | `CONNECTION_KILLED` | yes | the connection was killed |
/// | 3032 | `SERVER_OFFLINE_MODE` | yes | the server is in offline mode |
/// | 3168 | `SERVER_ISNT_AVAILABLE` | yes | the server is not ready |
/// | 3169 | `SESSION_WAS_KILLED` | yes | the connection was killed |
/// | 4031 | `CLIENT_INTERACTION_TIMEOUT` | yes | the connection was idle for too long |
/// | 1044 | `DBACCESS_DENIED_ERROR` | no | the account has no access to the database |
/// | 1045 | `ACCESS_DENIED_ERROR` | no | wrong user or password |
/// | 1049 | `BAD_DB_ERROR` | no | no such database |
/// | 1064 | `PARSE_ERROR` | no | the statement is wrong, as with most errors of statements |
/// | 1129 | `HOST_IS_BLOCKED` | no | an administrator has to unblock this host |
/// | 1130 | `HOST_NOT_PRIVILEGED` | no | the account may not connect from this host |
/// | 1153 | `NET_PACKET_TOO_LARGE` | no | it will be as large again |
/// | 1251 | `NOT_SUPPORTED_AUTH_MODE` | no | the client lacks the authentication plugin |
/// | 1317 | `QUERY_INTERRUPTED` | no | the statement was killed, most likely on purpose |
/// | 1524 | `PLUGIN_IS_NOT_LOADED` | no | the server lacks the authentication plugin |
/// | 1698 | `ACCESS_DENIED_NO_PASSWORD_ERROR` | no | the account has no password login |
/// | 1820 | `MUST_CHANGE_PASSWORD` | no | the password has expired |
/// | 1862 | `MUST_CHANGE_PASSWORD_LOGIN` | no | the password has expired |
/// | 3118 | `ACCOUNT_HAS_BEEN_LOCKED` | no | the account is locked |
/// | 3159 | `SECURE_TRANSPORT_REQUIRED` | no | the server requires TLS |
/// | 4151 | `ACCOUNT_HAS_BEEN_LOCKED` | no | the account is locked (`MariaDB`) |
/// | 1047 | `UNKNOWN_COM_ERROR` | no | a Galera node outside its cluster (c) |
/// | 1180 | `ERROR_DURING_COMMIT` | no | it may have been committed |
/// | 1290 | `OPTION_PREVENTS_STATEMENT` | no | the server may be read-only (d) |
/// | 1792 | `CANT_EXECUTE_IN_READ_ONLY_TRANSACTION` | no | the transaction is read-only (d) |
/// | 1836 | `READ_ONLY_MODE` | no | the server is read-only (d) |
/// | 1874 | `INNODB_READ_ONLY` | no | the server is read-only (d) |
///
/// - (a) The server rolled back the statement but not the transaction, unless
///   `innodb_rollback_on_timeout` is on.
/// - (b) In a Galera cluster, any later command of the transaction may return it.
/// - (c) The node did nothing, except at `COMMIT`, where it may have committed.
/// - (d) After a failover, the pool replaces its connections, and a retry may reach the new
///   primary. 1792 is also the error of the application's own read-only transactions.
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
        mysql_async::Error::Server(error) => matches!(
            error.code,
            1020 | 1037 | 1040 | 1041 | 1043 | 1053 | 1135 | 1152 | 1154
                ..=1161 | 1184 | 1203 | 1205 | 1213 | 1226 | 1927 | 3032 | 3168 | 3169 | 4031
        ),
        mysql_async::Error::Other(error) => error
            .downcast_ref::<Error>()
            .is_some_and(Error::is_transient),
        _ => false,
    }
}

/// Whether the connection ended in the middle of a packet. tokio's codec has no kind for it, only
/// this text.
fn ended_in_a_packet(error: &io::Error) -> bool {
    error.to_string() == "bytes remaining on stream"
}

/// Whether the connection that met this error is lost.
///
/// The driver's own `is_fatal` is false for every error of the server, though some of them are the
/// last thing the server sends on a connection.
pub(crate) fn ends_connection(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Server(error) => matches!(
            error.code,
            1053 | 1077..=1080 | 1152..=1161 | 1184 | 1835 | 1927 | 3169 | 4031
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

/// Whether the server has become read-only, or has left its Galera cluster.
///
/// `asked_read_only`: the caller asked for a read-only transaction or session, where error 1792 is
/// expected.
pub(crate) fn means_read_only(error: &mysql_async::Error, asked_read_only: bool) -> bool {
    match error {
        mysql_async::Error::Server(error) => match error.code {
            // Many options of the server share this code.
            1290 => error.message.contains("read-only") || error.message.contains("read_only"),
            1836 | 1874 | 1047 => true,
            1792 => !asked_read_only,
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
        let documented: BTreeMap<u16, bool> = include_str!("classify.rs")
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("/// | ")?.split(" | ");
                let code = cells.next()?.parse().ok()?;
                let is_transient = match cells.nth(1)? {
                    "yes" => true,
                    "no" => false,
                    other => panic!("{code} is transient: {other:?}"),
                };
                Some((code, is_transient))
            })
            .collect();
        assert_eq!(documented.len(), 48);
        for code in 0..=u16::MAX {
            let expected = documented.get(&code).copied().unwrap_or(false);
            assert_eq!(is_transient(&server(code)), expected, "{code}");
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
        for code in [1053, 1077, 1080, 1152, 1161, 1184, 1835, 1927, 3169, 4031] {
            assert!(ends_connection(&server(code)), "{code}");
            assert!(means_loss(&server(code)), "{code}");
        }
        // The caller's mistake.
        assert!(ends_connection(&server(1153)) && !means_loss(&server(1153)));
        for code in [1317, 1205, 1213, 1062, 1064] {
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
        for code in [1836, 1874, 1047] {
            assert!(means_read_only(&server(code), true), "{code}");
        }
        for option in ["--read-only", "--super-read-only", "read_only=ON"] {
            let error = server_error(1290, &format!("running with the {option} option"));
            assert!(means_read_only(&error, true), "{option}");
        }
        let other = server_error(1290, "running with the --skip-grant-tables option");
        assert!(!means_read_only(&other, false));
        for code in [1045, 1205, 1213, 1317, 2006] {
            assert!(!means_read_only(&server(code), false), "{code}");
        }
    }

    #[test]
    fn a_callers_own_read_only_transaction_is_no_failover() {
        assert!(means_read_only(&server(1792), false));
        assert!(!means_read_only(&server(1792), true));
    }
}
