//! Port numbers that nothing else is likely to take.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use tokio::net::TcpStream;

/// Below the range Linux uses for outgoing connections (32768 and up). A port in that range, free
/// while its server is down, can be taken by any client's socket; a client dialling it can even
/// connect to itself.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// Whether something listens on this loopback port.
pub(crate) async fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_ok()
}

/// Returns a loopback port on which nothing listens now. Each call returns a different port.
pub fn free_port() -> u16 {
    // Starts at a different offset in each process, so that concurrent test runs seldom collide.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
        let nanos = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.subsec_nanos());
        AtomicU32::new(nanos.wrapping_add(process::id().wrapping_mul(7919)) % COUNT)
    });
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
