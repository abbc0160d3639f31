//! The pool's guarantees, one file per subject.

mod any_runtime;
mod batches;
mod cleaning;
mod closing;
mod closures;
mod commits;
mod deadlines;
mod getting;
mod in_step;
mod killing;
mod maintenance;
mod mistakes;
mod own_text;
mod password_file;
mod pool_statements;
mod reading;
mod runtimes;
mod savepoints;
mod session_state;
mod set_up;
mod size_zero;
mod statement_timeout;
mod transactions;
mod undo;
mod warming;
mod wrapping;
