//! The service against real servers, which the crate `test-support` starts, and in a real browser.

mod api;
mod browser;
mod dashboard;
mod driving;
mod ending;
mod page;
mod probing;
mod starting;
