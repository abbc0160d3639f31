//! Tests that are skipped, and say so where it is seen.
//!
//! To the test runner a test that did nothing has passed. So it is written to standard error itself, past the runner, which
//! shows the output of failed tests only; and with `TESTS_SKIP_NOTHING` set, a test that lacks something fails.

use std::{
    env,
    io::{self, Write},
    thread,
};

/// Says that this test does not apply here, such as to the other of the two servers.
pub fn skip(reason: &str) {
    let current = thread::current();
    // The runner names each test's thread after it.
    let test = current.name().unwrap_or("a test");
    writeln!(io::stderr(), "SKIPPED {test}: {reason}").ok();
}

/// Says that this test cannot run for want of something that this machine could have.
///
/// # Panics
///
/// If nothing is to be skipped.
pub fn skip_for_lack_of(something: &str) {
    assert!(
        env::var_os("TESTS_SKIP_NOTHING").is_none(),
        "lacking here: {something}"
    );
    skip(&format!("lacking here: {something}"));
}
