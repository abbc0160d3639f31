//! Tests against real servers, which `support` starts for them.
//!
//! One binary, a module for each subject; the names are sentences.

mod accounting;
mod cleaned;
mod cluster;
mod differing;
mod driver;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod encrypted;
mod ending;
#[cfg(feature = "metrics")]
mod exported;
mod getting;
mod hostile;
mod in_step;
mod killing;
mod knowing;
mod naming;
mod outage;
mod session_state;
mod support;
mod support_works;
mod telling;
mod tidy;
mod upkeep;
mod waiting;
mod warming;
