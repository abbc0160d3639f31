//! A TCP proxy on loopback that delays, stalls, refuses and cuts connections on request, and counts
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::background::Background;
use crate::ports::free_port;

/// Bytes read at once, and how many such pieces may be in flight in each direction: enough that a
/// delay does not limit the throughput a test needs, and few enough that a stalled reader is
/// noticed.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 256;

/// How long the end of one connection may arrive after the start of another that its client opened
/// later: the kernel keeps order only within a connection.
const GRACE: Duration = Duration::from_millis(20);

/// A proxy in front of one port at a time. It forwards by default; every change applies at once, to
/// open connections too where that makes sense. Dropping it closes everything.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: mpsc::Sender<Listen>,
    background: Background,
}

impl Proxy {
    /// Starts a proxy in front of this loopback port.
    pub async fn start(target: u16) -> Self {
        let background = Background::start("proxy");
        let shared = Arc::new(Shared {
            rules: watch::Sender::new(Rules::forwarding_to(target)),
            counts: watch::Sender::new(Counts::default()),
            connections: Mutex::default(),
        });
        let (listening, orders) = mpsc::channel(1);
        let listener = Arc::clone(&shared);
        let port = background
            .run(async move {
                let (port, listening) = loop {
                    let port = free_port();
                    if let Ok(socket) = listen(port) {
                        break (port, socket);
                    }
                };
                tokio::spawn(accept_all(port, listening, orders, listener));
                port
            })
            .await;
        Self {
            port,
            shared,
            listening,
            background,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Removes every rule: no delay, nothing stalled. Held-back bytes are delivered. Whether the
    /// proxy listens does not change.
    pub fn forward(&self) {
        self.change(|rules| *rules = Rules::forwarding_to(rules.target));
    }

    /// Delays every byte by `each_way` in each direction: latency without a limit on throughput.
    /// Accurate to a millisecond or two.
    pub fn delay(&self, each_way: Duration) {
        self.change(|rules| rules.delay = each_way);
    }

    /// Delays only the server's greeting: slow to open, fast afterwards.
    pub fn delay_opening(&self, greeting: Duration) {
        self.change(|rules| rules.greeting_delay = greeting);
    }

    /// Accepts new connections and closes them at once, as a proxy without a backend does.
    pub fn accept_and_close(&self) {
        self.change(|rules| rules.admission = Admission::Close);
    }

    /// Accepts new connections and sends nothing until [`Proxy::forward`] or [`Proxy::resume`].
    pub fn accept_and_stall(&self) {
        self.change(|rules| rules.admission = Admission::Stall);
    }

    /// Forwards this many of the server's bytes on each connection, counted from its opening, and
    /// then no more until [`Proxy::forward`] or [`Proxy::resume`].
    pub fn stall_after(&self, server_bytes: u64) {
        self.change(|rules| rules.server_bytes = server_bytes);
    }

    /// Holds back all bytes of the currently open connections, in both directions, until
    /// [`Proxy::forward`] or [`Proxy::resume`]. Nothing is lost. New connections are not affected.
    pub fn stall(&self) {
        let accepted = self.accepted();
        self.change(|rules| rules.stalled_up_to = accepted);
    }

    /// Releases everything that is stalled. Delays stay.
    pub fn resume(&self) {
        self.change(|rules| {
            if rules.admission == Admission::Stall {
                rules.admission = Admission::Forward;
            }
            rules.server_bytes = u64::MAX;
            rules.stalled_up_to = 0;
        });
    }

    /// Sends new connections to another port from now on.
    pub fn switch_to(&self, target: u16) {
        self.change(|rules| rules.target = target);
    }

    /// Connects to the server from another loopback address from now on, until [`Proxy::forward`].
    pub fn come_from(&self, address: Ipv4Addr) {
        self.change(|rules| rules.from = address);
    }

    /// Stops listening, so that new connections are refused. Open connections stay.
    pub async fn refuse(&self) {
        self.listen(false).await;
    }

    /// Listens again, on the same port.
    pub async fn accept_again(&self) {
        self.listen(true).await;
    }

    /// Resets every open connection (RST), and returns when that is done.
    pub async fn cut(&self) {
        self.end_all(Ending::Reset).await;
    }

    /// Closes every open connection cleanly (FIN), and returns when that is done.
    pub async fn hang_up(&self) {
        self.end_all(Ending::Close).await;
    }

    /// Connections accepted since the start, including those closed or stalled at once.
    pub fn accepted(&self) -> u64 {
        self.shared.counts.borrow().accepted
    }

    /// Commands that clients have sent since the start, each short enough for one piece.
    pub fn requests(&self) -> u64 {
        self.shared.counts.borrow().requests
    }

    /// Open connections whose client has not closed its end.
    pub fn open(&self) -> usize {
        self.shared.counts.borrow().open.len()
    }

    /// The most connections that were ever open at the same moment. A client that closes one
    /// connection and then opens another is never counted twice, however quick it is: two
    /// connections count together only if both are still open 20 ms after the later one was
    /// accepted. A connection that was cut is no longer open.
    pub async fn peak(&self) -> usize {
        self.shared
            .counts
            .subscribe()
            .wait_for(|counts| counts.checks == 0)
            .await
            .expect("the proxy runs")
            .peak
    }

    /// What each connection at the [peak](Self::peak) was doing.
    pub fn at_peak(&self) -> String {
        self.shared.counts.borrow().at_peak.join(", ")
    }

    /// When the first connection was accepted.
    pub fn first_accept(&self) -> Option<std::time::Instant> {
        self.shared.counts.borrow().first_accept
    }

    /// Waits until exactly `count` connections are open.
    pub async fn until_open(&self, count: usize) {
        self.until(format!("{count} open"), move |counts| {
            counts.open.len() == count
        })
        .await;
    }

    /// Waits until at least `count` connections have been accepted since the start.
    pub async fn until_accepted(&self, count: u64) {
        self.until(format!("{count} accepted"), move |counts| {
            counts.accepted >= count
        })
        .await;
    }

    async fn until(&self, what: String, holds: impl FnMut(&Counts) -> bool + Send + 'static) {
        let mut counts = self.shared.counts.subscribe();
        self.background
            .run(async move {
                let waiting = counts.wait_for(holds);
                let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
                assert!(
                    in_time,
                    "not so after {PATIENCE:?}: {what} ({:?})",
                    *counts.borrow()
                );
            })
            .await;
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }

    async fn listen(&self, accepting: bool) {
        let (done, when_done) = oneshot::channel();
        self.listening
            .send(Listen { accepting, done })
            .await
            .expect("the proxy runs");
        when_done.await.expect("the proxy listens again");
    }

    async fn end_all(&self, ending: Ending) {
        let connections = std::mem::take(&mut *self.shared.connections());
        let mut tasks = Vec::new();
        for connection in connections.into_values() {
            // A connection that is already closed needs no signal.
            connection.end.send(ending).ok();
            tasks.push(connection.task);
        }
        for task in tasks {
            task.await.expect("a connection's task ends well");
        }
    }
}

/// State shared by the proxy's parts. `connections` is locked only briefly, never across an await.
struct Shared {
    rules: watch::Sender<Rules>,
    counts: watch::Sender<Counts>,
    connections: Mutex<BTreeMap<u64, Connection>>,
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
struct Rules {
    from: Ipv4Addr,
    target: u16,
    admission: Admission,
    delay: Duration,
    greeting_delay: Duration,
    /// How many of the server's bytes are forwarded on each connection.
    server_bytes: u64,
    stalled_up_to: u64,
}

impl Rules {
    const fn forwarding_to(target: u16) -> Self {
        Self {
            from: Ipv4Addr::LOCALHOST,
            target,
            admission: Admission::Forward,
            delay: Duration::ZERO,
            greeting_delay: Duration::ZERO,
            server_bytes: u64::MAX,
            stalled_up_to: 0,
        }
    }

    /// How many more bytes may go this way now.
    const fn allowance(&self, way: Way, passed: u64) -> u64 {
        if way.connection <= self.stalled_up_to {
            return 0;
        }
        match way.from {
            Side::Client => u64::MAX,
            Side::Server => self.server_bytes.saturating_sub(passed),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Admission {
    Forward,
    Close,
    Stall,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    /// Keyed by number, from 1, in the order they were accepted.
    open: BTreeMap<u64, Seen>,
    peak: usize,
    at_peak: Vec<String>,
    /// Possible new peaks whose grace period is not over.
    checks: usize,
    first_accept: Option<std::time::Instant>,
    /// What clients sent, piece by piece.
    requests: u64,
}

/// What a client has done on a connection.
#[derive(Clone, Debug)]
struct Seen {
    accepted: Instant,
    pieces: u64,
    /// The server's id for it; 0 before the greeting.
    id: u32,
    /// The beginning of the last piece, without the header of its packet.
    last: (Instant, String),
}

impl Seen {
    fn now() -> Self {
        let now = Instant::now();
        Self {
            accepted: now,
            pieces: 0,
            id: 0,
            last: (now, String::new()),
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let start: Vec<_> = piece.iter().copied().skip(4).take(40).collect();
        self.pieces += 1;
        self.last = (Instant::now(), String::from_utf8_lossy(&start).into_owned());
    }

    /// Reads the connection's id from the server's greeting: it follows the version, which ends
    /// with a 0.
    fn greet(&mut self, greeting: &[u8]) {
        let mut parts = greeting.splitn(2, |byte| *byte == 0);
        let id = parts.nth(1).and_then(|rest| rest.first_chunk());
        self.id = id.copied().map_or(0, u32::from_le_bytes);
    }

    fn describe(&self) -> String {
        let (at, last) = &self.last;
        format!(
            "id {}, {:?} old, piece {} {:?} ago: {last:?}",
            self.id,
            self.accepted.elapsed(),
            self.pieces,
            at.elapsed(),
        )
    }
}

struct Listen {
    accepting: bool,
    done: oneshot::Sender<()>,
}

struct Connection {
    end: oneshot::Sender<Ending>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy)]
enum Ending {
    Reset,
    Close,
}

/// One direction of one connection.
#[derive(Clone, Copy)]
struct Way {
    connection: u64,
    from: Side,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Server,
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(loopback(port))?;
    socket.listen(1024)
}

/// Closing the socket is not enough: a process that another test is just spawning holds a copy of
/// it until it executes its program.
fn stop_listening(listener: TcpListener) {
    let listener = listener.into_std().expect("a socket of the runtime");
    std::net::TcpStream::from(OwnedFd::from(listener))
        .shutdown(Shutdown::Both)
        .expect("a listening socket can be shut down");
}

/// Binds to a reusable port: the same address may connect to several servers.
async fn connect(from: Ipv4Addr, target: u16) -> io::Result<TcpStream> {
    if from == Ipv4Addr::LOCALHOST {
        return TcpStream::connect(loopback(target)).await;
    }
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    socket.connect(loopback(target)).await
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn accept_all(
    port: u16,
    listener: TcpListener,
    mut orders: mpsc::Receiver<Listen>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    loop {
        let accepting = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some(Listen { accepting, done }) = order else { return };
                if accepting && listener.is_none() {
                    listener = Some(listen(port).expect("the port is still free"));
                }
                if !accepting && let Some(listener) = listener.take() {
                    stop_listening(listener);
                }
                // The test may have stopped waiting.
                done.send(()).ok();
            }
            accepted = accepting => {
                // An error means the client has already gone.
                if let Ok((client, _)) = accepted {
                    admit(client, &shared);
                }
            }
        }
    }
}

fn admit(client: TcpStream, shared: &Arc<Shared>) {
    let closing = shared.rules.borrow().admission == Admission::Close;
    let mut number = 0;
    let mut candidates = None;
    shared.counts.send_modify(|counts| {
        counts.accepted += 1;
        number = counts.accepted;
        counts
            .first_accept
            .get_or_insert_with(std::time::Instant::now);
        if !closing {
            counts.open.insert(number, Seen::now());
        }
        if counts.open.len() > counts.peak {
            candidates = Some(counts.open.keys().copied().collect());
            counts.checks += 1;
        }
    });
    if let Some(candidates) = candidates {
        let most = client.local_addr().map_or(usize::MAX, established);
        tokio::spawn(check_peak(candidates, most, Arc::clone(shared)));
    }
    if closing {
        return;
    }
    let (end, ended) = oneshot::channel();
    let open = Open {
        number,
        shared: Arc::clone(shared),
    };
    // Locked until the entry is inserted, so that the task cannot remove it first.
    let mut connections = shared.connections();
    let task = tokio::spawn(serve(client, open, ended));
    connections.insert(number, Connection { end, task });
}

/// How many connections to this address the kernel says are open at both ends now. On a busy machine
/// the task that reads a client's close may run later than the one that accepts its next connection.
fn established(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", address.port());
    let count = table.lines().filter(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next(), columns.nth(1));
        local.is_some_and(|local| local.ends_with(&port)) && state == Some("01")
    });
    count.count()
}

async fn check_peak(candidates: BTreeSet<u64>, most: usize, shared: Arc<Shared>) {
    tokio::time::sleep(GRACE).await;
    // Processes pending events first, however busy the machine is.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    shared.counts.send_modify(|counts| {
        counts.checks -= 1;
        let still = counts.open.iter();
        let still = still.filter(|(number, _)| candidates.contains(number));
        let still: Vec<_> = still.map(|(_, seen)| seen.describe()).collect();
        let peak = still.len().min(most);
        if peak > counts.peak {
            counts.peak = peak;
            counts.at_peak = still;
        }
    });
}

/// Counts a connection as open until its client closes its end or the connection ends.
struct Open {
    number: u64,
    shared: Arc<Shared>,
}

impl Open {
    fn over(&self) {
        self.shared
            .counts
            .send_if_modified(|counts| counts.open.remove(&self.number).is_some());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.over();
        self.shared.connections().remove(&self.number);
    }
}

async fn serve(mut client: TcpStream, open: Open, ended: oneshot::Receiver<Ending>) {
    let ending = {
        let relaying = pin!(relay(&mut client, &open));
        tokio::select! {
            ending = ended => ending.unwrap_or(Ending::Close),
            () = relaying => Ending::Close,
        }
    };
    // An error means the client has already closed. `shutdown` does not wait for other copies of
    // the socket.
    match ending {
        Ending::Reset => client.set_zero_linger().ok(),
        Ending::Close => client.shutdown().await.ok(),
    };
    drop(client);
    drop(open);
}

/// Forwards bytes both ways, until both sides have closed or one of them cannot be reached.
async fn relay(client: &mut TcpStream, open: &Open) {
    let rules = &open.shared.rules;
    let (upward, downward) = (
        Way {
            connection: open.number,
            from: Side::Client,
        },
        Way {
            connection: open.number,
            from: Side::Server,
        },
    );
    // An error means the client has already gone, which its reader will see.
    client.set_nodelay(true).ok();
    let (client_reads, client_writes) = client.split();
    let (up, from_client) = mpsc::channel(PIECES);
    // Reads from the start, so that the client's close is noticed whatever the rules are.
    let taking_up = take(client_reads, up, upward, rules, |piece| {
        if piece.is_empty() {
            open.over();
        } else {
            open.shared.counts.send_modify(|counts| {
                counts.requests += 1;
                if let Some(seen) = counts.open.get_mut(&open.number) {
                    seen.add(piece);
                }
            });
        }
    });
    let rest = async {
        let mut admission = rules.subscribe();
        admission
            .wait_for(|rules| rules.admission != Admission::Stall)
            .await
            .map_err(drop)?;
        let (from, target) = {
            let rules = rules.borrow();
            (rules.from, rules.target)
        };
        let mut server = connect(from, target).await.map_err(drop)?;
        server.set_nodelay(true).map_err(drop)?;
        let (server_reads, server_writes) = server.split();
        let (down, from_server) = mpsc::channel(PIECES);
        tokio::try_join!(
            async {
                // A server that accepts no more input may still have output to send.
                give(from_client, server_writes, upward, rules).await.ok();
                Ok(())
            },
            async {
                take(server_reads, down, downward, rules, |piece| {
                    open.shared.counts.send_if_modified(|counts| {
                        let seen = counts.open.get_mut(&open.number);
                        if let Some(seen) = seen.filter(|seen| seen.id == 0) {
                            seen.greet(piece.get(4..).unwrap_or_default());
                        }
                        false
                    });
                })
                .await;
                Ok(())
            },
            async {
                give(from_server, client_writes, downward, rules)
                    .await
                    .map_err(drop)
            },
        )
    };
    let taking_up = async {
        taking_up.await;
        Ok::<(), ()>(())
    };
    // An error means one side cannot be reached, so the other is closed.
    tokio::try_join!(taking_up, rest).ok();
}

/// Bytes to forward, or none for the end, and when they are due.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

/// Reads one side to its end and timestamps each piece. `record` is called for each piece; the
/// last one, at the end, is empty.
async fn take(
    mut side: ReadHalf<'_>,
    queue: mpsc::Sender<Piece>,
    way: Way,
    rules: &watch::Sender<Rules>,
    record: impl Fn(&[u8]),
) {
    let mut due = Instant::now();
    let mut greeting = way.from == Side::Server;
    loop {
        let mut bytes = Vec::with_capacity(PIECE);
        // An error ends a side as well.
        let end = !matches!(side.read_buf(&mut bytes).await, Ok(1..));
        let delay = {
            let rules = rules.borrow();
            rules.delay
                + if greeting {
                    rules.greeting_delay
                } else {
                    Duration::ZERO
                }
        };
        greeting = false;
        // Never before earlier pieces, even if the delay has become shorter.
        due = due.max(Instant::now() + delay);
        if end {
            bytes.clear();
        }
        record(&bytes);
        if end {
            // An error means the other side accepts no more.
            queue.send(Piece { due, bytes }).await.ok();
            return;
        }
        queue.send(Piece { due, bytes }).await.ok();
    }
}

/// Writes pieces to the other side once they are due and the rules allow it.
async fn give(
    mut queue: mpsc::Receiver<Piece>,
    mut side: WriteHalf<'_>,
    way: Way,
    rules: &watch::Sender<Rules>,
) -> io::Result<()> {
    let mut rules = rules.subscribe();
    let mut passed = 0;
    while let Some(Piece { due, bytes }) = queue.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        let mut rest = &bytes[..];
        loop {
            let allowance = rules
                .wait_for(|rules| rules.allowance(way, passed) > 0)
                .await
                .map_err(io::Error::other)?
                .allowance(way, passed);
            if rest.is_empty() {
                side.shutdown().await?;
                break;
            }
            let count = usize::try_from(allowance).map_or(rest.len(), |most| most.min(rest.len()));
            side.write_all(&rest[..count]).await?;
            passed += u64::try_from(count).expect("a length fits into 64 bits");
            rest = &rest[count..];
            if rest.is_empty() {
                break;
            }
        }
    }
    Ok(())
}
