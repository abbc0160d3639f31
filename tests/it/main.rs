//! Tests against real servers, which `support` starts for them.
//!
//! One binary, a module for each subject; the names are sentences.

mod getting;
mod in_step;
mod support;
mod support_works;
mod warming;
