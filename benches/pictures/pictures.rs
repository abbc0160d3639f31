//! Measures the data of the README's pictures and prints it as JSON for `scripts/draw-pictures`.
//!
//! `scripts/pictures` runs it. It starts its own server, as the tests do, behind the tests' proxy,
//! which delays each byte by 5 ms each way: a round trip of 10 ms.

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
