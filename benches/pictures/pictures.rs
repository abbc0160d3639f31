//! Measures what the README's pictures show, and prints it as JSON; `scripts/draw-pictures` draws
//! it.
//!
//! `scripts/pictures` runs it. The server is one of its own, started as the tests start theirs,
//! behind the tests' proxy, which delays each byte by 5 ms each way: a link with 10 ms there and
//! back.

mod first_seconds;
mod load;
mod maximum_age;

use std::{env, time::Duration};

const DELAY: Duration = Duration::from_millis(5);
const SIZE: usize = 20;

#[tokio::main]
async fn main() {
    let data = match env::args().nth(1).as_deref() {
        Some("first-seconds") => first_seconds::measure().await,
        Some("maximum-age") => maximum_age::measure().await,
        _ => {
            eprintln!("usage: pictures first-seconds | maximum-age");
            std::process::exit(2);
        }
    };
    println!("{data}");
}
