//! From the driver's error to this crate's and back, and how to find this crate's in any other.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use mysql_async::{DriverError, IoError};

use super::Error;

/// An error of the driver becomes [`Error::Driver`]; an error of this crate inside it comes out as
/// it was.
impl From<mysql_async::Error> for Error {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Other(inner) => match inner.downcast() {
                Ok(own) => *own,
                Err(other) => Self::Driver(mysql_async::Error::Other(other)),
            },
            mysql_async::Error::Io(IoError::Io(outer)) => match outer.downcast::<Self>() {
                Ok(own) => own,
                Err(outer) => Self::Driver(outer.into()),
            },
            error => Self::Driver(error),
        }
    }
}

/// [`Error::Driver`] is unwrapped, every other error is wrapped as [`mysql_async::Error::Other`].
impl From<Error> for mysql_async::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Driver(error) => error,
            error => Self::Other(Box::new(error)),
        }
    }
}

/// A copy of an error of the driver, which cannot be cloned: the server's answers, and the kinds of
/// I/O errors, are kept, and of others the text.
pub(super) fn copy(error: &mysql_async::Error) -> mysql_async::Error {
    match error {
        mysql_async::Error::Server(error) => mysql_async::Error::Server(error.clone()),
        mysql_async::Error::Url(error) => mysql_async::Error::Url(error.clone()),
        mysql_async::Error::Io(IoError::Io(error)) => {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            copy.into()
        }
        mysql_async::Error::Driver(DriverError::ConnectionClosed) => {
            DriverError::ConnectionClosed.into()
        }
        mysql_async::Error::Other(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone().into(),
            None => mysql_async::Error::Other(inner.to_string().into()),
        },
        error => mysql_async::Error::Other(error.to_string().into()),
    }
}

/// The first error of this crate in this one or its sources.
pub(super) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(own) = downcast::<Error>(error) {
            // The driver's error may hold one of this crate's.
            return match own {
                Error::Driver(inner) => inside_driver(inner).and_then(find).or(Some(own)),
                own => Some(own),
            };
        }
        next = inside(error).or_else(|| error.source());
    }
    None
}

/// The error as this type, or as a pointer to it.
fn downcast<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    error
        .downcast_ref()
        .or_else(|| error.downcast_ref::<Box<T>>().map(|inner| &**inner))
        .or_else(|| error.downcast_ref::<Arc<T>>().map(|inner| &**inner))
}

/// The error inside of an I/O error, which its `source` leaves out, or inside the driver's.
fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(error) = downcast::<mysql_async::Error>(error) {
        inside_driver(error)
    } else {
        let error = downcast::<io::Error>(error)?;
        error
            .get_ref()
            .map(|inner| inner as &(dyn StdError + 'static))
    }
}

fn inside_driver(error: &mysql_async::Error) -> Option<&(dyn StdError + 'static)> {
    match error {
        mysql_async::Error::Other(inner) => Some(&**inner),
        mysql_async::Error::Io(IoError::Io(outer)) => outer
            .get_ref()
            .map(|inner| inner as &(dyn StdError + 'static)),
        _ => None,
    }
}

/// Displays an error of the driver with one prefix: "Input/output error: Input/output error: ..."
/// is the driver's own text.
pub(super) struct OnePrefix<'a>(pub(super) &'a mysql_async::Error);

impl fmt::Display for OnePrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            mysql_async::Error::Io(error) => error.fmt(f),
            mysql_async::Error::Server(error) => error.fmt(f),
            mysql_async::Error::Other(error) => error.fmt(f),
            error => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server(code: u16) -> mysql_async::Error {
        mysql_async::Error::Server(ServerError {
            code,
            message: "a message".to_owned(),
            state: "40001".to_owned(),
        })
    }

    fn reset() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, "gone")
    }

    #[test]
    fn an_error_comes_back_whole_from_the_drivers() {
        let through = Error::from(mysql_async::Error::from(Error::RolledBack));
        assert!(matches!(through, Error::RolledBack));
        let through = Error::from(mysql_async::Error::from(io::Error::other(Error::Closed)));
        assert!(matches!(through, Error::Closed));
        let through = mysql_async::Error::from(Error::from(server(1213)));
        assert!(matches!(through, mysql_async::Error::Server(error) if error.code == 1213));
        let through = Error::from(mysql_async::Error::from(reset()));
        assert!(through.is_transient());
        let foreign = mysql_async::Error::Other("another".into());
        assert!(matches!(
            Error::from(foreign),
            Error::Driver(mysql_async::Error::Other(_))
        ));
    }

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("ours")]
        Ours(#[source] Error),
        #[error("the driver's")]
        Driver(#[source] mysql_async::Error),
        #[error("any")]
        Any(#[source] Box<dyn StdError + Send + Sync>),
        #[error("shared")]
        Shared(#[source] Arc<Error>),
    }

    #[test]
    fn it_is_found_in_any_other_error() {
        let in_driver = || mysql_async::Error::from(Error::Closed);
        let found: [Box<dyn StdError>; 9] = [
            Box::new(Error::Closed),
            Box::new(in_driver()),
            Box::new(io::Error::other(Error::Closed)),
            Box::new(io::Error::other(in_driver())),
            Box::new(mysql_async::Error::from(io::Error::other(Error::Closed))),
            Box::new(Outer::Ours(Error::Closed)),
            Box::new(Outer::Driver(in_driver())),
            Box::new(Outer::Any(Box::new(Outer::Shared(Arc::new(Error::Closed))))),
            Box::new(Outer::Any(Box::new(io::Error::other(Outer::Driver(
                in_driver(),
            ))))),
        ];
        for error in found {
            assert!(
                matches!(Error::of(&*error), Some(Error::Closed)),
                "{error:?}"
            );
        }
        for other in [
            server(1213),
            reset().into(),
            mysql_async::Error::Other("another".into()),
        ] {
            assert!(Error::of(&other).is_none(), "{other}");
        }
        let driver = Outer::Ours(server(1213).into());
        assert!(Error::of(&driver).is_some_and(Error::is_deadlock));
    }

    #[test]
    fn each_text_has_one_prefix() {
        for (error, text) in [
            (server(1213), "ERROR 1213 (40001): a message"),
            (reset().into(), "Input/output error: gone"),
            (mysql_async::Error::Other("another".into()), "another"),
            (
                DriverError::PacketTooLarge.into(),
                "Driver error: `Packet too large.'",
            ),
        ] {
            assert_eq!(Error::from(error).to_string(), text);
        }
        let lost = mysql_async::Error::from(Error::ConnectionLost).to_string();
        assert!(lost.starts_with("Other error: nothing was sent"), "{lost}");
    }

    #[test]
    fn a_deadlock_is_known_in_both_types() {
        for (error, is) in [
            (server(1213), true),
            (server(3101), true),
            (Error::RolledBack.into(), true),
            (Error::from(server(1213)).into(), true),
            (server(1205), false),
            (Error::Closed.into(), false),
            (reset().into(), false),
        ] {
            assert_eq!(super::super::is_deadlock(&error), is, "{error}");
            assert_eq!(Error::from(error).is_deadlock(), is);
        }
    }

    #[test]
    fn a_clone_keeps_what_callers_decide_by() {
        for error in [
            server(1213),
            server(1064),
            reset().into(),
            Error::Closed.into(),
        ] {
            let error = Error::from(error);
            let clone = error.clone();
            assert_eq!(clone.to_string(), error.to_string());
            assert_eq!(clone.is_transient(), error.is_transient());
            assert_eq!(clone.is_deadlock(), error.is_deadlock());
        }
        let closed = Error::from(mysql_async::Error::from(DriverError::ConnectionClosed));
        let unknown = Error::CommitUnknown {
            source: reset().into(),
        };
        let copies = [closed, unknown].map(|error| [error.clone(), error]);
        for copy in &copies[0] {
            assert!(copy.is_transient(), "{copy}");
        }
        for copy in &copies[1] {
            assert!(copy.is_commit_unknown() && !copy.is_transient());
            assert!(
                copy.to_string().ends_with("Input/output error: gone"),
                "{copy}"
            );
        }
    }
}
