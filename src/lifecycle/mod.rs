//! What happens to a connection, one verb a file.

pub(crate) mod assess;
mod clean;
pub(crate) mod close;
pub(crate) mod discard;
pub(crate) mod get;
pub(crate) mod give_back;
mod kill;
pub(crate) mod maintain;
pub(crate) mod open;
mod undo;
pub(crate) mod validate;
mod wait;
pub(crate) mod warm_up;
