//! An in-process server that speaks just enough of the protocol: it answers `SELECT <number>` with
//! the number, never answers `HANG`, and answers everything else with OK.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Quick to start, and cheap in any number. Tests that do not need thousands of runs use a real
/// server.
pub struct Speaker {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    refuses: AtomicBool,
    last_id: AtomicU32,
    /// Cuts each open connection.
    open: Mutex<Vec<(u32, Arc<Notify>)>>,
}

impl Speaker {
    /// Runs until its runtime ends.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<State>::default();
        let speaking = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !speaking.refuses.load(Ordering::Relaxed) {
                    tokio::spawn(serve(stream, Arc::clone(&speaking)));
                }
            }
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// With these options the driver need not query the server's settings.
    pub fn url(&self) -> String {
        let port = self.port;
        format!("mysql://app@127.0.0.1:{port}/shop?max_allowed_packet=1048576&wait_timeout=3600")
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.state.open.lock().expect("no panic").len()
    }

    /// Cuts one of the open connections.
    pub fn cut(&self, n: usize) {
        let open = self.state.open.lock().expect("no panic");
        if let Some(at) = n.checked_rem(open.len()) {
            open[at].1.notify_one();
        }
    }

    /// Whether every new connection is closed at once, without a greeting.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::Relaxed);
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let id = state.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    let cut = state.enter(id);
    tokio::select! {
        _ = speak(&mut stream, id) => {}
        () = cut.notified() => {}
    }
    state.leave(id);
}

impl State {
    fn enter(&self, id: u32) -> Arc<Notify> {
        let cut = Arc::<Notify>::default();
        let mut open = self.open.lock().expect("no panic");
        open.push((id, Arc::clone(&cut)));
        cut
    }

    fn leave(&self, id: u32) {
        let mut open = self.open.lock().expect("no panic");
        open.retain(|(other, _)| *other != id);
    }
}

async fn speak(stream: &mut TcpStream, id: u32) -> io::Result<()> {
    stream.set_nodelay(true)?;
    send(stream, 0, &[greeting(id)]).await?;
    receive(stream).await?;
    send(stream, 2, &[OK.to_vec()]).await?;
    loop {
        let command = receive(stream).await?;
        let text = String::from_utf8_lossy(command.get(1..).unwrap_or_default()).into_owned();
        match command.first() {
            Some(1) | None => return Ok(()),
            // Until the other side closes.
            Some(3) if text == "HANG" => while receive(stream).await.is_ok() {},
            Some(3) if text.starts_with("SELECT ") => {
                let asked = text.trim_start_matches("SELECT ");
                let answer = if asked.parse::<u64>().is_ok() {
                    number(asked)
                } else {
                    vec![unknown()]
                };
                send(stream, 1, &answer).await?;
            }
            Some(_) => send(stream, 1, &[OK.to_vec()]).await?,
        }
    }
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let mut payload = vec![0; usize::try_from(length).expect("24 bits")];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

async fn send(stream: &mut TcpStream, first: u8, payloads: &[Vec<u8>]) -> io::Result<()> {
    let mut all = Vec::new();
    for (sequence, payload) in (first..).zip(payloads) {
        let length = u32::try_from(payload.len()).expect("a short packet");
        all.extend_from_slice(&length.to_le_bytes()[..3]);
        all.push(sequence);
        all.extend_from_slice(payload);
    }
    stream.write_all(&all).await
}

/// No rows, no changes, autocommit.
const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];
const END: [u8; 5] = [0xfe, 0, 0, 2, 0];

fn greeting(id: u32) -> Vec<u8> {
    // CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
    let capabilities = 0x0008_a209_u32.to_le_bytes();
    let mut greeting = b"\x0a8.0.0-speaker\0".to_vec();
    greeting.extend_from_slice(&id.to_le_bytes());
    greeting.extend_from_slice(b"12345678\0");
    greeting.extend_from_slice(&capabilities[..2]);
    greeting.extend_from_slice(&[45, 2, 0]);
    greeting.extend_from_slice(&capabilities[2..]);
    greeting.push(21);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"123456789012\0mysql_native_password\0");
    greeting
}

/// A result of one column and one row.
fn number(text: &str) -> Vec<Vec<u8>> {
    let mut column = b"\x03def\0\0\0\x01n\0\x0c".to_vec();
    // Binary, 20 digits, BIGINT, unsigned.
    column.extend_from_slice(&[63, 0, 20, 0, 0, 0, 8, 0x20, 0, 0, 0, 0]);
    let mut row = vec![u8::try_from(text.len()).expect("20 digits")];
    row.extend_from_slice(text.as_bytes());
    vec![vec![1], column, END.to_vec(), row, END.to_vec()]
}

/// Unknown system variable.
fn unknown() -> Vec<u8> {
    let mut error = vec![0xff];
    error.extend_from_slice(&1193_u16.to_le_bytes());
    error.extend_from_slice(b"#HY000unknown");
    error
}
