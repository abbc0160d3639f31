//! What the pool guarantees, a file for each subject.

mod cleaning;
mod closing;
mod deadlines;
mod getting;
mod in_step;
mod killing;
mod maintenance;
mod runtimes;
mod session_state;
mod warming;
