//! The pool's guarantees, one file per subject.

mod batches;
mod cleaning;
mod closing;
mod deadlines;
mod getting;
mod in_step;
mod killing;
mod maintenance;
mod mistakes;
mod own_text;
mod password_file;
mod reading;
mod runtimes;
mod session_state;
mod set_up;
mod statement_timeout;
mod transactions;
mod warming;
