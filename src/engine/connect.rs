//! Connects to one of the addresses of a name, and logs in.
//!
//! The driver tries the addresses in turn, each for as long as the kernel does, which is minutes if
//! packets are dropped. Here each address has a share of the time. The first address reached keeps
//! the attempt, however slow its login is.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    mem,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Result};
use tokio::{net::lookup_host, task::coop::consume_budget, time::timeout};

use crate::{
    session::sever::{sever, severing},
    time::Timestamp,
};

/// How long each of several addresses may take to be reached, in the first round.
const FIRST_SHARE: Duration = Duration::from_millis(300);
/// The factor by which that time grows in each further round.
const GROWTH: u32 = 3;
/// More operations than tokio lets a task do in one poll.
const MOST_OPERATIONS: usize = 1024;
/// How long an address that was not reached is tried after the others.
const AVOIDED: Duration = Duration::from_secs(60);

/// What is known about the addresses of the server's name.
#[derive(Default)]
pub(crate) struct Addresses {
    /// The addresses that failed the last time they were tried, and when. No other lock is taken
    /// while this one is held.
    failed: Mutex<HashMap<IpAddr, Timestamp>>,
    /// The options for one address that were last used. Equal ones share their memory, which is
    /// 3 % of an idle connection's.
    last_used: Mutex<Option<Opts>>,
}

/// The progress of a login.
#[derive(Debug, Default)]
pub(crate) struct Login {
    is_under_way: AtomicBool,
    answers: AtomicU64,
}

impl Login {
    /// Whether the server was reached, and the login has not ended. A connection closed at this
    /// point counts towards the server's `max_connect_errors`.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_under_way.load(Ordering::Relaxed)
    }

    /// Changes whenever something arrives from the server, and when the login ends.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn record(&self, is_under_way: bool) {
        self.is_under_way.store(is_under_way, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// How an attempt on one address ended.
enum Outcome {
    Opened(Conn),
    Failed(Error),
    /// The address refused, or did not answer in its share of the time.
    NotReached(Option<Error>),
}

impl Addresses {
    /// Connects and logs in. Addresses that failed recently are tried last. `reads_files` says that
    /// the driver may still read files for TLS.
    ///
    /// If this is dropped midway, the driver closes the socket.
    pub(crate) async fn connect(
        &self,
        opts: Opts,
        login: &Login,
        reads_files: bool,
    ) -> Result<Conn> {
        let addresses = look_up(&opts).await?;
        match addresses.as_slice() {
            [] => return Conn::new(opts).await,
            [address] => {
                let opts = self.at(&opts, *address);
                return Connecting::begin(opts, login, reads_files).await.await;
            }
            _ => {}
        }
        let addresses = self.sort(addresses, Timestamp::now());
        let mut share = FIRST_SHARE;
        loop {
            let mut last_error = None;
            let mut is_silent = false;
            for address in &addresses {
                let opts = self.at(&opts, *address);
                let connecting = Connecting::begin(opts, login, reads_files).await;
                match self.try_address(*address, share, connecting).await {
                    Outcome::Opened(conn) => return Ok(conn),
                    Outcome::Failed(error) => return Err(error),
                    Outcome::NotReached(Some(error)) => last_error = Some(error),
                    Outcome::NotReached(None) => is_silent = true,
                }
            }
            if let Some(error) = last_error.filter(|_| !is_silent) {
                return Err(error);
            }
            share = share.saturating_mul(GROWTH);
        }
    }

    async fn try_address(
        &self,
        address: IpAddr,
        share: Duration,
        mut connecting: Connecting<'_>,
    ) -> Outcome {
        let outcome = match timeout(share, &mut connecting).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                // Other attempts try another address first, though this one may only be slow.
                self.record(address, false);
                if !connecting.is_reached {
                    sever(connecting);
                    return Outcome::NotReached(None);
                }
                (&mut connecting).await
            }
        };
        match outcome {
            Ok(conn) => {
                self.record(address, true);
                Outcome::Opened(conn)
            }
            Err(error @ Error::Io(_)) => {
                self.record(address, false);
                if connecting.is_reached {
                    Outcome::Failed(error)
                } else {
                    Outcome::NotReached(Some(error))
                }
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// The options for one address. They keep the name, which TLS needs.
    fn at(&self, opts: &Opts, address: IpAddr) -> Opts {
        let builder = OptsBuilder::from_opts(opts.clone());
        let new: Opts = builder.resolved_ips(Some(vec![address])).into();
        let mut last_used = self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*last_used {
            Some(last_used) if *last_used == new => last_used.clone(),
            _ => last_used.insert(new).clone(),
        }
    }

    /// Moves the addresses that failed recently behind the others.
    fn sort(&self, mut addresses: Vec<IpAddr>, now: Timestamp) -> Vec<IpAddr> {
        let mut failed = self.failed();
        failed.retain(|_, at| now.since(*at) < AVOIDED);
        addresses.sort_by_key(|address| failed.contains_key(address));
        drop(failed);
        addresses
    }

    fn record(&self, address: IpAddr, has_worked: bool) {
        let mut failed = self.failed();
        if has_worked {
            failed.remove(&address);
        } else {
            failed.insert(address, Timestamp::now());
        }
    }

    /// No code panics while holding this lock, so poisoning can be ignored.
    fn failed(&self) -> MutexGuard<'_, HashMap<IpAddr, Timestamp>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses to try; empty if the driver is to choose.
async fn look_up(opts: &Opts) -> Result<Vec<IpAddr>> {
    if opts.socket().is_some() {
        return Ok(Vec::new());
    }
    let mut addresses = match (opts.resolved_ips(), opts.ip_or_hostname().parse()) {
        (Some(addresses), _) => addresses.clone(),
        (None, Ok(address)) => vec![address],
        (None, Err(_)) => {
            let found = lookup_host((opts.ip_or_hostname(), opts.tcp_port())).await?;
            let found: Vec<_> = found.collect();
            if found.iter().any(has_scope) {
                return Ok(Vec::new());
            }
            found.iter().map(SocketAddr::ip).collect()
        }
    };
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
    Ok(addresses)
}

/// Whether the address is only valid on one network interface, which the driver's options cannot
/// name.
fn has_scope(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}

/// The driver's opening of a connection to one address, which shows whether it was reached.
///
/// The driver first waits for the TCP connect, then for the server's greeting. So once it has been
/// woken and waits again, the connection is established. For this to hold, the driver is polled
/// only when it was woken itself. A nearby server may be reached within the first poll; so tokio's
/// budget limits that poll to one operation, and the driver has to be woken before it waits for the
/// greeting.
///
/// If the server refuses the login, the driver drops its connection, which is then severed: a task
/// of the driver would read from it for as long as the server sends, beside the pool's limit.
struct Connecting<'a> {
    opening: Pin<Box<dyn Future<Output = Result<Conn>> + Send>>,
    signal: Arc<Signal>,
    has_begun: bool,
    is_reached: bool,
    /// The driver may still read files for TLS, on the runtime's threads.
    reads_files: bool,
    login: &'a Login,
}

#[derive(Default)]
struct Signal {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<'a> Connecting<'a> {
    /// The returned future must be polled in the same poll of the task, before anything else.
    async fn begin(opts: Opts, login: &'a Login, reads_files: bool) -> Self {
        leave_one_operation().await;
        Self {
            opening: Box::pin(Conn::new(opts)),
            signal: Arc::default(),
            has_begun: false,
            is_reached: false,
            reads_files,
            login,
        }
    }
}

/// Uses up all but one operation of the task's budget, in the current poll.
async fn leave_one_operation() {
    use_up(MOST_OPERATIONS).await;
    // Yields, and takes one operation of a fresh budget.
    consume_budget().await;
    let left = use_up(MOST_OPERATIONS).await;
    consume_budget().await;
    use_up(left.saturating_sub(1)).await;
}

/// Uses up to `most` operations of the task's budget without yielding, and returns how many.
async fn use_up(most: usize) -> usize {
    poll_fn(|cx| {
        let is_left = |_: &usize| pin!(consume_budget()).poll(cx).is_ready();
        Poll::Ready((0..most).take_while(is_left).count())
    })
    .await
}

impl Future for Connecting<'_> {
    type Output = Result<Conn>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.signal.task.register(cx.waker());
        // Read after the waker is registered: a wake-up in between is not missed.
        let is_woken = self.signal.is_woken.swap(false, Ordering::Acquire);
        let is_first = !mem::replace(&mut self.has_begun, true);
        if !is_woken && !is_first {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.signal));
        let mut cx = Context::from_waker(&waker);
        // The first poll registers the socket with the runtime.
        let outcome = if is_first || self.reads_files {
            self.opening.as_mut().poll(&mut cx)
        } else {
            severing(|| self.opening.as_mut().poll(&mut cx))
        };
        if outcome.is_pending() && !is_first {
            self.is_reached = true;
        }
        self.login.record(self.is_reached && outcome.is_pending());
        outcome
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.login.record(false);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_that_failed_is_tried_last_for_a_while() {
        let [one, two, three] = [1, 2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
        let addresses = Addresses::default();
        let sorted = |now| addresses.sort(vec![one, two, three], now);
        let now = Timestamp::now();
        assert_eq!(sorted(now), [one, two, three]);
        addresses.record(one, false);
        addresses.record(two, false);
        assert_eq!(sorted(now), [three, one, two]);
        addresses.record(two, true);
        assert_eq!(sorted(now), [two, three, one]);
        assert_eq!(sorted(now.after(2 * AVOIDED)), [one, two, three]);
    }

    /// Also if the connection is established before the driver first waits for it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_login_is_under_way_once_the_server_is_reached() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = server.local_addr().expect("an address").port();
        let opts: Opts = OptsBuilder::default().tcp_port(port).into();
        for n in 0..100 {
            let opts = opts.clone();
            let is_under_way = tokio::spawn(async move {
                let (addresses, login) = (Addresses::default(), Login::default());
                let mut connecting = pin!(addresses.connect(opts, &login, false));
                let patience = Duration::from_secs(10);
                let waiting = timeout(patience, async {
                    while !login.is_under_way() {
                        let soon = Duration::from_millis(2);
                        assert!(timeout(soon, &mut connecting).await.is_err());
                    }
                });
                waiting.await.is_ok()
            });
            assert!(is_under_way.await.expect("no panic"), "{n}");
        }
    }
}
