//! Skipped tests, reported where people see it.
//!
//! To the test runner, a test that did nothing has passed, and the runner shows the output of
//! failed tests only. So the reason is written directly to standard error; with
//! `TESTS_SKIP_NOTHING` set, a test that lacks something fails.

use std::{
    env,
    io::{self, Write},
    thread,
};

/// Reports that this test does not apply here, such as to the other kind of server.
pub fn skip(reason: &str) {
    let current = thread::current();
    // The runner names each test's thread after the test.
    let test = current.name().unwrap_or("a test");
    writeln!(io::stderr(), "SKIPPED {test}: {reason}").ok();
}

/// Reports that this test cannot run because something is missing that this machine could have.
///
/// # Panics
///
/// If `TESTS_SKIP_NOTHING` is set.
pub fn skip_for_lack_of(something: &str) {
    assert!(
        env::var_os("TESTS_SKIP_NOTHING").is_none(),
        "not installed: {something}"
    );
    skip(&format!("not installed: {something}"));
}
