//! What happens to a connection, one verb a file.

pub(crate) mod clean;
pub(crate) mod close;
pub(crate) mod get;
pub(crate) mod goodbye;
pub(crate) mod kill;
pub(crate) mod leak;
pub(crate) mod maintain;
pub(crate) mod warm_up;
