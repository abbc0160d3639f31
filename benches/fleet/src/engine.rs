//! The pool's own code.

#[path = "../../../src/engine/backoff.rs"]
#[expect(dead_code, reason = "the simulation uses a part of it")]
pub(crate) mod backoff;
#[path = "../../../src/engine/schedule.rs"]
#[expect(dead_code, reason = "the simulation uses a part of it")]
pub(crate) mod schedule;
