//! Statements whose text the pool can see.

use std::{borrow::Cow, sync::Arc};

use mysql_async::{Statement, prelude::StatementLike};

/// A statement to execute whose text the pool can see: text, bytes, or a prepared [`Statement`].
///
/// The pool reads the text to decide whether the session has to be reset at the return
/// ([`Reset::WhenChanged`](crate::Reset::WhenChanged)). The driver's own trait, [`StatementLike`],
/// does not show it. All types that implement that trait implement this one too. In functions
/// generic over the statement, use this bound instead of the driver's:
///
/// ```no_run
/// use mysql_warm_pool::{PooledConn, mysql_async, statement::Executable};
///
/// async fn run(conn: &mut PooledConn, statement: impl Executable) -> mysql_async::Result<()> {
///     conn.exec_drop(statement, ()).await
/// }
/// ```
pub trait Executable: StatementLike {
    /// Returns the text, or the prepared statement.
    fn text(&self) -> Text<'_>;
}

/// What an [`Executable`] shows of itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum Text<'a> {
    /// The text, placeholders included.
    Sql(&'a [u8]),
    /// A statement prepared earlier.
    Prepared(&'a Statement),
}

macro_rules! by_bytes {
    ($($type:ty),* $(,)?) => {$(
        impl Executable for $type {
            fn text(&self) -> Text<'_> {
                Text::Sql(<_ as AsRef<[u8]>>::as_ref(self))
            }
        }
    )*};
}

by_bytes!(&str, String, &[u8], Vec<u8>, Box<[u8]>, Arc<[u8]>);

macro_rules! by_str {
    ($($type:ty),* $(,)?) => {$(
        impl Executable for $type {
            fn text(&self) -> Text<'_> {
                Text::Sql(self.as_bytes())
            }
        }
    )*};
}

by_str!(Cow<'_, str>, Box<str>, Arc<str>);

impl Executable for Cow<'_, [u8]> {
    fn text(&self) -> Text<'_> {
        Text::Sql(self)
    }
}

impl Executable for Statement {
    fn text(&self) -> Text<'_> {
        Text::Prepared(self)
    }
}

impl<T: Executable + Clone> Executable for &T {
    fn text(&self) -> Text<'_> {
        T::text(self)
    }
}
