//! What happens to a connection, one verb a file.

pub(crate) mod assess;
pub(crate) mod clean;
pub(crate) mod close;
pub(crate) mod discard;
pub(crate) mod get;
pub(crate) mod give_back;
pub(crate) mod kill;
pub(crate) mod maintain;
pub(crate) mod open;
pub(crate) mod validate;
pub(crate) mod wait;
pub(crate) mod warm_up;
