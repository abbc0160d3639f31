//! The service against real servers, which the library's `support` starts, and in a real browser.

#[path = "../driving/mod.rs"]
#[allow(
    dead_code,
    clippy::allow_attributes,
    reason = "the other binary uses the rest"
)]
mod driving;

mod api;
mod browser;
mod dashboard;
mod ending;
mod page;
