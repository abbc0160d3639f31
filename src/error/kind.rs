//! `ErrorType`: the class of a statement's error, for metrics, spans and logs.

use std::fmt;

use mysql_async::DriverError;

use super::{Error, is_too_large};

/// The class of an error, OpenTelemetry's `error.type`. Unlike an error's text, it holds no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ErrorType {
    /// The server's code.
    Server(u16),
    /// One of a closed set of names.
    Named(&'static str),
}

impl ErrorType {
    /// OpenTelemetry's name for an error that has no other.
    pub(crate) const OTHER: Self = Self::Named("_OTHER");

    /// The error of a statement whose future was dropped.
    pub(crate) const CANCELLED: Self = Self::Named("cancelled");

    pub(crate) fn of(error: &mysql_async::Error) -> Self {
        Self::Named(match error {
            mysql_async::Error::Server(error) => return Self::Server(error.code),
            mysql_async::Error::Other(inner) => match inner.downcast_ref() {
                Some(Error::CommitUnknown { source }) => return Self::of(source),
                Some(Error::StatementTimeout { .. }) => "timeout",
                Some(Error::SessionLost) => "session_lost",
                Some(Error::RuntimeStopped) => "runtime_stopped",
                Some(Error::Closed) => "pool_closed",
                _ => return Self::OTHER,
            },
            error if is_too_large(error) => "packet_too_large",
            mysql_async::Error::Io(_)
            | mysql_async::Error::Driver(DriverError::ConnectionClosed) => "connection_lost",
            mysql_async::Error::Driver(_) => "driver",
            _ => return Self::OTHER,
        })
    }

    /// The server's code.
    pub(crate) const fn code(self) -> Option<u16> {
        match self {
            Self::Server(code) => Some(code),
            Self::Named(_) => None,
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(code) => code.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use mysql_async::ServerError;

    use super::*;

    #[test]
    fn the_type_of_an_error_is_its_code_or_a_name() {
        let server = |code| {
            mysql_async::Error::Server(ServerError {
                code,
                message: "Duplicate entry 'secret' for key 'name'".into(),
                state: "23000".into(),
            })
        };
        let unknown = |source| mysql_async::Error::from(Error::CommitUnknown { source });
        let after = Duration::from_secs(1);
        for (error, shown) in [
            (server(1062), "1062"),
            (unknown(server(1053)), "1053"),
            (Error::StatementTimeout { after }.into(), "timeout"),
            (Error::Closed.into(), "pool_closed"),
            (
                io::Error::from(io::ErrorKind::BrokenPipe).into(),
                "connection_lost",
            ),
            (
                unknown(DriverError::ConnectionClosed.into()),
                "connection_lost",
            ),
            (DriverError::PacketTooLarge.into(), "driver"),
            (Error::NoResultSet.into(), "_OTHER"),
            (mysql_async::Error::Other("secret".into()), "_OTHER"),
        ] {
            let found = ErrorType::of(&error);
            assert_eq!(found.to_string(), shown);
            assert_eq!(found.code().is_some(), shown.parse::<u16>().is_ok());
        }
    }
}
