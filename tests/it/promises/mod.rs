//! The pool's guarantees, one file per subject.

mod cleaning;
mod closing;
mod deadlines;
mod getting;
mod in_step;
mod killing;
mod maintenance;
mod mistakes;
mod runtimes;
mod session_state;
mod statement_timeout;
mod warming;
