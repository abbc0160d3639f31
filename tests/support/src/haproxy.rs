//! HAProxy in front of a server.

use std::ffi::OsString;
use std::fs;
use std::process;
use std::sync::Mutex;

use crate::eventually;
use crate::ports::{free_port, listens};
use crate::scratch::scratch;
use crate::server::{Server, installed};
use crate::watchdog::{Watchdog, lock};

/// A running HAProxy that leads to one server and checks its health twice a second. It is stopped
/// and removed when this is dropped, or when the test process ends in any way.
pub struct HaProxy {
    port: u16,
    watchdog: Mutex<Watchdog>,
}

impl HaProxy {
    /// `None` if it is not installed. The options are those of its backend, such as
    /// `on-marked-down shutdown-sessions`.
    pub async fn start(server: &Server, options: &str) -> Option<Self> {
        let program = installed("haproxy")?;
        let port = free_port();
        let folder = scratch().join(format!("haproxy-{}-{port}", process::id()));
        // Left over from a run that ended with its machine.
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("haproxy.cfg");
        let config = format!(
            "defaults\n\
             mode tcp\n\
             timeout connect 2s\n\
             timeout client 1h\n\
             timeout server 1h\n\
             listen database\n\
             bind 127.0.0.1:{port}\n\
             server only 127.0.0.1:{} check inter 500ms {options}\n",
            server.port()
        );
        fs::write(&file, config).expect("a file");
        let command: [OsString; 4] = [program.into(), "-db".into(), "-f".into(), file.into()];
        let mut watchdog = Watchdog::start(&folder, &command);
        watchdog.order("start");
        let proxy = Self {
            port,
            watchdog: Mutex::new(watchdog),
        };
        eventually("HAProxy listens", async || listens(port).await).await;
        Some(proxy)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        lock(&self.watchdog).end();
    }
}
