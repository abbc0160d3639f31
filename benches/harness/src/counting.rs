//! A proxy that counts connections and round trips and records the commands.

use std::{
    io, mem,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mysql_warm_pool::mysql_async::Opts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{Result, via};

/// A proxy in front of one server. Dropping it ends it.
pub struct CountingProxy {
    port: u16,
    counts: Arc<Mutex<Counts>>,
    task: JoinHandle<()>,
}

/// The traffic through a proxy.
#[derive(Default, Debug)]
pub struct Counts {
    pub connections: u64,
    /// How often a client sent something and then had to wait for the server.
    pub round_trips: u64,
    /// The commands as sent, such as `QUERY ROLLBACK`; logins are not recorded.
    pub commands: Vec<String>,
}

impl CountingProxy {
    pub async fn start(server: &Opts) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let target = tokio::net::lookup_host((server.ip_or_hostname(), server.tcp_port()))
            .await?
            .next()
            .ok_or("the server has no address")?;
        let counts = Arc::<Mutex<Counts>>::default();
        let task = tokio::spawn(accept_all(listener, target, Arc::clone(&counts)));
        Ok(Self { port, counts, task })
    }

    /// The server's options, through the proxy.
    pub fn opts(&self, server: &Opts) -> Opts {
        via(server, self.port)
    }

    /// The traffic since the last call.
    pub fn take(&self) -> Counts {
        mem::take(&mut lock(&self.counts))
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(listener: TcpListener, target: SocketAddr, counts: Arc<Mutex<Counts>>) {
    while let Ok((client, _)) = listener.accept().await {
        lock(&counts).connections += 1;
        let counts = Arc::clone(&counts);
        // Both ends notice its errors themselves.
        tokio::spawn(async move { forward(client, target, &counts).await.ok() });
    }
}

/// Counts before forwarding, so the counts include everything an end has received.
async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    counts: &Mutex<Counts>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut is_waiting = false;
    let mut packets = Packets::default();
    let (mut up, mut down) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                {
                    let mut counts = lock(counts);
                    counts.round_trips += u64::from(!is_waiting);
                    packets.read(bytes, &mut counts.commands);
                }
                is_waiting = true;
                server.write_all(bytes).await?;
            }
            read = server.read(&mut down) => {
                let bytes = &down[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                is_waiting = false;
                client.write_all(bytes).await?;
            }
        }
    }
}

/// A client's bytes that do not form a whole packet yet.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    /// A packet with sequence number 0 is a command.
    fn read(&mut self, bytes: &[u8], commands: &mut Vec<String>) {
        self.0.extend_from_slice(bytes);
        while let [a, b, c, number, rest @ ..] = &self.0[..] {
            let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
            let Some(packet) = rest.get(..length) else {
                return;
            };
            if *number == 0 {
                commands.push(named(packet));
            }
            self.0.drain(..4 + length);
        }
    }
}

fn named(packet: &[u8]) -> String {
    let text = || String::from_utf8_lossy(&packet[1..]).into_owned();
    match packet.first() {
        Some(0x01) => "QUIT".to_owned(),
        Some(0x02) => format!("INIT_DB {}", text()),
        Some(0x03) => format!("QUERY {}", text()),
        Some(0x0e) => "PING".to_owned(),
        Some(0x16) => format!("PREPARE {}", text()),
        Some(0x17) => "EXECUTE".to_owned(),
        Some(0x19) => "CLOSE_STATEMENT".to_owned(),
        Some(0x1f) => "RESET_CONNECTION".to_owned(),
        other => format!("{other:?}"),
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
