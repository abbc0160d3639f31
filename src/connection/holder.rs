//! What all types that hold a connection for a caller have in common.

#![expect(
    private_interfaces,
    unnameable_types,
    reason = "sealed: only types of this crate implement `Executor`"
)]

use mysql_async::Conn;

use crate::{session::follow::Follow, telemetry::Caller};

use super::{OwnedTransaction, PooledConn, Savepoint, Transaction, target::Target};

/// A type that holds a connection for a caller.
pub trait Holder: Send {
    type Target: Target;

    /// What commands are sent on, what follows them, and what times them.
    fn parts(&mut self) -> (&mut Self::Target, &mut Follow, Caller<'_>);
}

impl Holder for PooledConn {
    type Target = Conn;

    fn parts(&mut self) -> (&mut Conn, &mut Follow, Caller<'_>) {
        Self::parts(self)
    }
}

impl<'a> Holder for Transaction<'a> {
    type Target = mysql_async::Transaction<'a>;

    fn parts(&mut self) -> (&mut mysql_async::Transaction<'a>, &mut Follow, Caller<'_>) {
        Self::parts(self)
    }
}

impl Holder for OwnedTransaction {
    type Target = Conn;

    fn parts(&mut self) -> (&mut Conn, &mut Follow, Caller<'_>) {
        Self::parts(self)
    }
}

impl<T: Holder> Holder for Savepoint<'_, T> {
    type Target = T::Target;

    fn parts(&mut self) -> (&mut T::Target, &mut Follow, Caller<'_>) {
        Self::parts(self)
    }
}
