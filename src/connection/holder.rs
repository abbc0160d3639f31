//! What all types have in common that hold a connection for a caller.

#![expect(
    private_interfaces,
    unnameable_types,
    reason = "sealed: only types of this crate implement `Executor`"
)]

use mysql_async::Conn;

use crate::session::follow::Follow;

use super::{OwnedTransaction, PooledConn, Savepoint, Transaction, target::Target};

/// A type that holds a connection for a caller.
pub trait Holder: Send {
    type Target: Target;

    /// What commands are sent on, and what follows them.
    fn parts(&mut self) -> (&mut Self::Target, &mut Follow);
}

impl Holder for PooledConn {
    type Target = Conn;

    fn parts(&mut self) -> (&mut Conn, &mut Follow) {
        Self::parts(self)
    }
}

impl<'a> Holder for Transaction<'a> {
    type Target = mysql_async::Transaction<'a>;

    fn parts(&mut self) -> (&mut mysql_async::Transaction<'a>, &mut Follow) {
        Self::parts(self)
    }
}

impl Holder for OwnedTransaction {
    type Target = Conn;

    fn parts(&mut self) -> (&mut Conn, &mut Follow) {
        Self::parts(self)
    }
}

impl<T: Holder> Holder for Savepoint<'_, T> {
    type Target = T::Target;

    fn parts(&mut self) -> (&mut T::Target, &mut Follow) {
        Self::parts(self)
    }
}
