//! A server that speaks just enough of the protocol to misbehave on request.
//!
//! It accepts any password, answers the pool's own queries as a server would, and everything else
//! with OK. A script can replace that behaviour.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::panic;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::background::Background;

/// Dropping it closes everything.
pub struct Scripted {
    port: u16,
    shared: Arc<Shared>,
    _background: Background,
}

struct Shared {
    /// For connections accepted from now on.
    script: Mutex<Arc<dyn Script>>,
    accepted: AtomicU64,
    open: AtomicUsize,
    asked: Mutex<Vec<String>>,
    /// Bytes that clients sent after the server asked for a file.
    sent: AtomicUsize,
}

/// What the server does on each connection.
trait Script: Send + Sync {
    fn play(&self, wire: Wire) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
}

impl<F, P> Script for F
where
    F: Fn(Wire) -> P + Send + Sync,
    P: Future<Output = io::Result<()>> + Send + 'static,
{
    fn play(&self, wire: Wire) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
        Box::pin(self(wire))
    }
}

/// With `RUST_BACKTRACE` set, the first backtrace can take seconds to print on a busy machine, which
/// the pool under test sees as time that its server took.
fn print_no_backtraces_of_the_driver() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_of_the_driver = info.location().is_some_and(|location| {
                // The last is where an absurd length panics.
                ["/mysql_async-", "/mysql_common-", "/alloc/src/raw_vec"]
                    .iter()
                    .any(|path| location.file().contains(path))
            });
            if is_of_the_driver {
                eprintln!("{info}");
            } else {
                usual(info);
            }
        }));
    });
}

impl Scripted {
    /// Starts a server that behaves correctly.
    pub async fn start() -> Self {
        print_no_backtraces_of_the_driver();
        let background = Background::start("scripted");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(Wire::behave)),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            asked: Mutex::default(),
            sent: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        let port = background
            .run(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .await
                    .expect("a port of loopback");
                let port = listener.local_addr().expect("its own address").port();
                tokio::spawn(accept_all(listener, accepting));
                port
            })
            .await;
        Self {
            port,
            shared,
            _background: background,
        }
    }

    /// Sets what the server does on connections accepted from now on. When the script ends, its
    /// connection closes.
    pub fn play<F, P>(&self, script: F)
    where
        F: Fn(Wire) -> P + Send + Sync + 'static,
        P: Future<Output = io::Result<()>> + Send + 'static,
    {
        *lock(&self.shared.script) = Arc::new(script);
    }

    pub fn behave(&self) {
        self.play(Wire::behave);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("mysql://app:secret@127.0.0.1:{}/shop", self.port)
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections that neither side has closed yet, as far as the scripts have read.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// What clients have sent, in order.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared.asked).clone()
    }

    /// Bytes that clients sent after the server asked for a file.
    pub fn sent_when_asked_for_a_file(&self) -> usize {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        stream.set_nodelay(true).ok();
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        shared.open.fetch_add(1, Ordering::Relaxed);
        let script = Arc::clone(&lock(&shared.script));
        let wire = Wire {
            stream: Box::new(stream),
            shared: Arc::clone(&shared),
            id: u32::try_from(shared.accepted.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            spoil: None,
        };
        tokio::spawn(async move {
            // It usually ends because the client has gone.
            script.play(wire).await.ok();
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, seen from the server.
pub struct Wire {
    stream: Box<dyn Stream>,
    shared: Arc<Shared>,
    id: u32,
    spoil: Option<Box<dyn Spoil>>,
}

/// TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Transforms the bytes to send, and decides whether the connection stays open.
trait Spoil: Send {
    fn spoil(&mut self, sent: &[u8]) -> (Vec<u8>, bool);
}

impl<F: FnMut(&[u8]) -> (Vec<u8>, bool) + Send> Spoil for F {
    fn spoil(&mut self, sent: &[u8]) -> (Vec<u8>, bool) {
        self(sent)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wire {
    /// What a correct server does, from the greeting to the end.
    pub async fn behave(mut self) -> io::Result<()> {
        self.log_in().await?;
        self.serve().await
    }

    /// Sends a greeting and accepts any login.
    pub async fn log_in(&mut self) -> io::Result<()> {
        self.greet().await?;
        self.packet(2, &ok()).await
    }

    /// Sends a greeting and reads the client's login packet.
    pub async fn greet(&mut self) -> io::Result<()> {
        let greeting = Greeting {
            id: self.id,
            ..Greeting::default()
        };
        self.packet(0, &greeting.payload()).await?;
        self.read_packet().await.map(drop)
    }

    /// Sends a greeting that offers TLS, sets it up with this certificate, and reads the client's
    /// login packet. The next packet has the number 3.
    #[cfg(feature = "tls-server")]
    pub async fn greet_over_tls(&mut self, certificate: &str) -> io::Result<()> {
        let greeting = Greeting {
            id: self.id,
            capabilities: Greeting::CAPABILITIES | Greeting::TLS,
            ..Greeting::default()
        };
        self.packet(0, &greeting.payload()).await?;
        self.read_packet().await?;
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        self.stream = Box::new(crate::tls_server::accept(plain, certificate).await?);
        self.read_packet().await.map(drop)
    }

    /// Answers every question correctly.
    pub async fn serve(&mut self) -> io::Result<()> {
        loop {
            let question = self.question().await?;
            self.raw(&question.answer()).await?;
        }
    }

    /// The client's next question. An error once the client has sent `COM_QUIT` or disconnected.
    pub async fn question(&mut self) -> io::Result<Question> {
        let packet = self.read_packet().await?;
        let (&command, text) = packet
            .split_first()
            .ok_or_else(|| io::Error::other("an empty command"))?;
        let question = Question {
            command,
            text: String::from_utf8_lossy(text).into_owned(),
        };
        let shown = match command {
            COM_QUIT => "quit",
            COM_PING => "ping",
            COM_RESET => "reset",
            _ => &question.text,
        };
        lock(&self.shared.asked).push(shown.to_owned());
        if command == COM_QUIT {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(question)
    }

    /// The payload of the client's next packet.
    pub async fn read_packet(&mut self) -> io::Result<Vec<u8>> {
        self.read_numbered().await.map(|(_, payload)| payload)
    }

    async fn read_numbered(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut payload = Vec::new();
        loop {
            let head = self.stream.read_u32_le().await?;
            let length = usize::try_from(head & 0x00FF_FFFF).map_err(io::Error::other)?;
            let before = payload.len();
            payload.resize(before + length, 0);
            self.stream.read_exact(&mut payload[before..]).await?;
            if length < LONGEST {
                return Ok((head >> 24, payload));
            }
        }
    }

    pub async fn packet(&mut self, number: u8, payload: &[u8]) -> io::Result<()> {
        self.raw(&packet(number, payload)).await
    }

    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(spoil) = &mut self.spoil else {
            self.stream.write_all(bytes).await?;
            return self.stream.flush().await;
        };
        let (spoiled, goes_on) = spoil.spoil(bytes);
        self.stream.write_all(&spoiled).await?;
        self.stream.flush().await?;
        if goes_on {
            Ok(())
        } else {
            Err(io::Error::other("the script ends here"))
        }
    }

    /// From now on sends what `spoil` returns, and closes the connection when it returns false.
    pub fn spoil(&mut self, spoil: impl FnMut(&[u8]) -> (Vec<u8>, bool) + Send + 'static) {
        self.spoil = Some(Box::new(spoil));
    }

    /// Closes the connection after this many more bytes.
    pub fn close_after(&mut self, bytes: usize) {
        let mut left = bytes;
        self.spoil(move |sent| {
            let now = left.min(sent.len());
            left -= now;
            (sent[..now].to_vec(), left > 0)
        });
    }

    /// Sends the same bytes over and over until the client disconnects.
    pub async fn endlessly(&mut self, bytes: &[u8]) -> io::Result<()> {
        let many = bytes.repeat((64 * 1024 / bytes.len()).max(1));
        loop {
            self.raw(&many).await?;
        }
    }

    /// Sends byte by byte, with a pause after each.
    pub async fn trickle(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.raw(&[*byte]).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Sends nothing more until the client disconnects.
    pub async fn hang(&mut self) -> io::Result<()> {
        let mut ignored = [0; 1024];
        while self.stream.read(&mut ignored).await? > 0 {}
        Ok(())
    }

    /// Asks for a file, and counts what the client then sends.
    pub async fn ask_for_a_file(&mut self, number: u8) -> io::Result<()> {
        self.packet(number, b"\xFB/etc/passwd").await?;
        loop {
            let (number, payload) = self.read_numbered().await?;
            // Sequence number 0 starts another command; the packets of a file continue the
            // numbering.
            if number > 0 {
                let length = payload.len().max(1);
                self.shared.sent.fetch_add(length, Ordering::Relaxed);
            }
        }
    }
}

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_PING: u8 = 0x0E;
const COM_PREPARE: u8 = 0x16;
const COM_RESET: u8 = 0x1F;

/// The status flag of an answer after which another follows.
pub const MORE_RESULTS: u8 = 8;

/// A packet with a payload this long continues in the next one.
const LONGEST: usize = 0x00FF_FFFF;

/// What the client sends.
#[derive(Clone, Debug)]
pub struct Question {
    pub command: u8,
    pub text: String,
}

/// What kind of question the pool, its driver or a caller sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// The driver's query for the server's settings.
    Settings,
    /// The first validation, which also reads the server's version and limits.
    FirstValidation,
    /// An `init` statement, recognised by its `@init`.
    Init,
    /// Any other validation.
    Validation,
    /// `COM_RESET_CONNECTION`.
    Reset,
    /// Anything else.
    Caller,
}

impl Question {
    pub fn kind(&self) -> QuestionKind {
        let selected = self
            .statements()
            .last()
            .and_then(|last| last.strip_prefix("SELECT "));
        // With its number, a validation may select other columns.
        let is_validation = |text: &str| {
            let number = text.split(',').next().unwrap_or_default();
            number.bytes().all(|byte| byte.is_ascii_digit()) && !text.contains("@@version")
        };
        match selected {
            _ if self.command == COM_RESET => QuestionKind::Reset,
            _ if self.text.contains("@init") => QuestionKind::Init,
            Some(text) if text.starts_with("@@max_allowed") || text.starts_with("@@wait") => {
                QuestionKind::Settings
            }
            Some(text) if is_validation(text) => QuestionKind::Validation,
            Some(text) if text.contains("@@version") => QuestionKind::FirstValidation,
            _ => QuestionKind::Caller,
        }
    }

    /// The statements of the text; the pool sends several only with this between them.
    pub fn statements(&self) -> Vec<&str> {
        self.text.split("; ").collect()
    }

    /// A correct server's answer, with packet headers.
    pub fn answer(&self) -> Vec<u8> {
        let mut statements = self.statements();
        let last = statements.pop().unwrap_or_default();
        let mut bytes = Vec::new();
        let mut number = 1;
        for _ in statements {
            bytes.extend(packet(number, &ok_with(MORE_RESULTS)));
            number += 1;
        }
        bytes.extend(match (self.command, last.strip_prefix("SELECT ")) {
            (COM_QUERY, Some(columns)) => {
                let row: Vec<_> = columns.split(',').map(value_of).collect();
                rows_from(number, &[&row])
            }
            (COM_PREPARE, _) => packet(number, &error(1295, "no prepared statements here")),
            _ => packet(number, &ok()),
        });
        bytes
    }
}

fn value_of(expression: &str) -> &str {
    match expression.trim() {
        "@@version" => "8.0.0-scripted",
        "@@max_allowed_packet" => "16777216",
        "@@wait_timeout" => "28800",
        "@@max_connections" => "151",
        "@@max_user_connections" | "@@global.read_only" => "0",
        "@@init_connect" => "",
        literal => literal.trim_matches('\''),
    }
}

/// The first packet, in which the server introduces itself.
pub struct Greeting {
    pub protocol: u8,
    pub version: Vec<u8>,
    pub id: u32,
    pub capabilities: u32,
    /// The length as announced; the scramble itself has 20 bytes.
    pub scramble_length: u8,
    pub plugin: Vec<u8>,
}

impl Greeting {
    /// `LONG_PASSWORD`, `CONNECT_WITH_DB`, `LOCAL_FILES`, `PROTOCOL_41`, `TRANSACTIONS`,
    /// `SECURE_CONNECTION`, `MULTI_STATEMENTS`, `MULTI_RESULTS`, `PS_MULTI_RESULTS`, `PLUGIN_AUTH`,
    /// `DEPRECATE_EOF`.
    pub const CAPABILITIES: u32 = 1
        | 1 << 3
        | 1 << 7
        | 1 << 9
        | 1 << 13
        | 1 << 15
        | 1 << 16
        | 1 << 17
        | 1 << 18
        | 1 << 19
        | 1 << 24;
    /// `SSL`: the server offers TLS.
    pub const TLS: u32 = 1 << 11;

    pub fn payload(&self) -> Vec<u8> {
        let capabilities = self.capabilities.to_le_bytes();
        let mut payload = vec![self.protocol];
        payload.extend_from_slice(&self.version);
        payload.push(0);
        payload.extend_from_slice(&self.id.to_le_bytes());
        payload.extend_from_slice(b"12345678\0");
        payload.extend_from_slice(&capabilities[..2]);
        payload.extend_from_slice(&[45, 2, 0]);
        payload.extend_from_slice(&capabilities[2..]);
        payload.push(self.scramble_length);
        payload.extend_from_slice(&[0; 10]);
        payload.extend_from_slice(b"901234567890\0");
        payload.extend_from_slice(&self.plugin);
        payload.push(0);
        payload
    }
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            protocol: 10,
            version: b"8.0.0-scripted".to_vec(),
            id: 1,
            capabilities: Self::CAPABILITIES,
            scramble_length: 21,
            plugin: b"mysql_native_password".to_vec(),
        }
    }
}

/// A packet with this sequence number, or several if the payload is that long.
pub fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut number = number;
    let ends_with = payload.len().is_multiple_of(LONGEST).then_some(&[][..]);
    for piece in payload.chunks(LONGEST).chain(ends_with) {
        let length = u32::try_from(piece.len()).expect("at most 16 MB");
        bytes.extend_from_slice(&length.to_le_bytes()[..3]);
        bytes.push(number);
        bytes.extend_from_slice(piece);
        number = number.wrapping_add(1);
    }
    bytes
}

/// The status flags sent with OK: autocommit.
const STATUS: u8 = 2;
/// More results follow.
pub const MORE: u8 = 8;

pub fn ok() -> Vec<u8> {
    ok_with(0)
}

/// OK, with additional status flags.
pub fn ok_with(flags: u8) -> Vec<u8> {
    vec![0, 0, 0, STATUS | flags, 0, 0, 0]
}

/// The packet after the last row.
pub fn end_of_rows(flags: u8) -> Vec<u8> {
    vec![0xFE, 0, 0, STATUS | flags, 0, 0, 0]
}

pub fn error(code: u16, message: &str) -> Vec<u8> {
    let mut payload = vec![0xFF];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.extend_from_slice(b"#HY000");
    payload.extend_from_slice(message.as_bytes());
    payload
}

/// An error before the client has sent its capabilities: without an SQL state.
pub fn early_error(code: u16, message: &str) -> Vec<u8> {
    let mut payload = vec![0xFF];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.extend_from_slice(message.as_bytes());
    payload
}

/// The definition of a text column.
pub fn column() -> Vec<u8> {
    let mut payload = Vec::new();
    for text in ["def", "", "", "", "c", ""] {
        payload.extend(short_text(text));
    }
    payload.extend_from_slice(&[0x0C, 45, 0, 0xFF, 0, 0, 0, 253, 0, 0, 0, 0, 0]);
    payload
}

fn short_text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    let mut bytes = vec![length];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A row of short texts.
pub fn row(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(|value| short_text(value)).collect()
}

/// A whole result set of short texts.
pub fn rows(rows: &[&[&str]]) -> Vec<u8> {
    rows_from(1, rows)
}

/// The same, from the packet with this number on.
fn rows_from(mut number: u8, rows: &[&[&str]]) -> Vec<u8> {
    let width = rows.first().map_or(1, |row| row.len());
    let mut bytes = Vec::new();
    let mut add = |payload: &[u8]| {
        bytes.extend(packet(number, payload));
        number = number.wrapping_add(1);
    };
    add(&[u8::try_from(width).expect("few columns")]);
    for _ in 0..width {
        add(&column());
    }
    for values in rows {
        add(&row(values));
    }
    add(&end_of_rows(0));
    bytes
}
