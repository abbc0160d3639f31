//! The events in the order of a virtual clock, and their effects.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use crate::{
    engine::{
        backoff::Attempt as Begun,
        schedule::{COMING, HANGING},
    },
    error::ConnectError,
    pool::{OVERFLOW, Pool, SIZE},
    server::Server,
    time::Timestamp,
};

/// Nanoseconds since the simulation began.
pub(crate) type Nanos = u64;
pub(crate) type PoolId = usize;
pub(crate) type AttemptId = usize;

pub(crate) const SECOND: Nanos = 1_000_000_000;
pub(crate) const MS: Nanos = 1_000_000;
/// The way from a client to a server, or back.
const HOP: Nanos = MS / 4;
/// From the greeting to a validated connection: three round trips.
const LOGIN: Nanos = 6 * HOP;
/// The defaults of the pool's settings.
const CONNECT_TIMEOUT: Nanos = 10 * SECOND;
/// How often the pool checks whether a hanging attempt is still needed.
const AGAIN: Nanos = 50 * MS;
const OVERFLOW_LINGER: Nanos = 5 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The pool checks whether connections are missing.
    Fill(PoolId),
    /// The pool's connections are found dead.
    Lost(PoolId),
    /// A connection beyond `size` has idled for `overflow_linger`.
    Surplus(PoolId),
    /// The first packet of a connection, repeated n times, reaches the server.
    Syn(AttemptId, u32),
    /// The server has finished with the head of its queue, since its nth start.
    Served(usize, u64),
    Opened(AttemptId),
    Refused(AttemptId),
    Hangs(AttemptId),
    /// The pool checks whether a hanging attempt is still needed.
    Again(AttemptId),
    TimesOut(AttemptId),
    Down(usize),
    Up(usize),
    /// A replica has ended, and its server notices.
    Left(PoolId, usize),
}

#[derive(Debug)]
struct Attempt {
    pool: PoolId,
    began: Nanos,
    begun: Begun,
    is_hanging: bool,
    is_coming: bool,
    is_overdue: bool,
    /// The server's kernel has accepted it.
    is_accepted: bool,
    /// It has ended for the client.
    is_over: bool,
}

/// The state of the simulation.
pub(crate) struct World {
    now: Nanos,
    start: Timestamp,
    random: u64,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    scheduled: u64,
    pub(crate) pools: Vec<Pool>,
    pub(crate) servers: Vec<Server>,
    attempts: Vec<Attempt>,
    /// The pools that have become ready, and when.
    pub(crate) ready: Vec<(Nanos, PoolId)>,
    pub(crate) refused: u64,
    /// Those of them that a server refused because it was at its limit (error 1040).
    pub(crate) over_limit: u64,
    /// First packets of connections, in each tenth of a second.
    syns: BTreeMap<u64, u64>,
    /// Connections opened beyond `size`, and handshakes for clients that were gone.
    pub(crate) needless: u64,
}

impl World {
    pub(crate) fn new(seed: u64, servers: Vec<Server>) -> Self {
        Self {
            now: 0,
            start: Timestamp::now(),
            random: seed,
            events: BinaryHeap::new(),
            scheduled: 0,
            pools: Vec::new(),
            servers,
            attempts: Vec::new(),
            ready: Vec::new(),
            refused: 0,
            over_limit: 0,
            syns: BTreeMap::new(),
            needless: 0,
        }
    }

    pub(crate) const fn now(&self) -> Nanos {
        self.now
    }

    /// The most first packets that arrived within one second.
    pub(crate) fn peak(&self) -> u64 {
        let tenths = self.syns.keys();
        let within = tenths.map(|from| self.syns.range(from..&(from + 10)).map(|(_, n)| n).sum());
        within.max().unwrap_or(0)
    }

    /// A random number (SplitMix64).
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn timestamp(&self) -> Timestamp {
        self.start.after(Duration::from_nanos(self.now))
    }

    fn at(&mut self, at: Nanos, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn after(&mut self, delay: Nanos, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Adds a replica that begins to warm up at `at`.
    pub(crate) fn add(&mut self, server: usize, at: Nanos) -> PoolId {
        let id = self.pools.len();
        self.pools.push(Pool {
            server,
            ..Pool::default()
        });
        self.at(at, Event::Fill(id));
        id
    }

    /// Adds a replica that is warm already.
    pub(crate) fn add_warm(&mut self, server: usize) -> PoolId {
        let id = self.pools.len();
        self.pools.push(Pool {
            server,
            open: SIZE,
            is_ready: true,
            ..Pool::default()
        });
        for _ in 0..SIZE {
            assert!(self.servers[server].open(), "the limit is too low");
        }
        id
    }

    /// Ends a replica.
    pub(crate) fn close(&mut self, pool: PoolId) {
        let closed = &mut self.pools[pool];
        closed.is_closed = true;
        let open = std::mem::take(&mut closed.open);
        self.after(HOP, Event::Left(pool, open));
    }

    /// Stops a server at `from` and starts it again at `to`. All its connections are cut, and each
    /// pool notices at its callers' next statements, within a tenth of a second.
    pub(crate) fn restart(&mut self, server: usize, from: Nanos, to: Nanos) {
        self.at(from, Event::Down(server));
        self.at(to, Event::Up(server));
    }

    /// Handles the next event. Returns whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            return false;
        };
        self.now = at;
        match event {
            Event::Fill(pool) => self.fill(pool),
            Event::Lost(pool) => {
                let pool_state = &mut self.pools[pool];
                pool_state.open = 0;
                pool_state.is_ready = false;
                self.fill(pool);
            }
            Event::Surplus(pool) => self.close_surplus(pool),
            Event::Syn(attempt, nth) => self.syn(attempt, nth),
            Event::Served(server, starts) => self.served(server, starts),
            Event::Opened(attempt) => self.opened(attempt),
            Event::Refused(attempt) => self.failed(attempt),
            Event::Hangs(attempt) => self.hangs(attempt),
            Event::Again(attempt) => self.again(attempt),
            Event::TimesOut(attempt) => self.times_out(attempt),
            Event::Down(server) => self.down(server),
            Event::Up(server) => self.servers[server].is_up = true,
            Event::Left(pool, open) => {
                let server = &mut self.servers[self.pools[pool].server];
                server.open = server.open.saturating_sub(open);
            }
        }
        true
    }

    fn fill(&mut self, pool: PoolId) {
        let now = self.timestamp();
        while let Some(begun) = self.pools[pool].begin(now) {
            let id = self.attempts.len();
            self.attempts.push(Attempt {
                pool,
                began: self.now,
                begun,
                is_hanging: false,
                is_coming: false,
                is_overdue: false,
                is_accepted: false,
                is_over: false,
            });
            self.after(HOP, Event::Syn(id, 0));
            self.after(nanos(HANGING), Event::Hangs(id));
            self.after(CONNECT_TIMEOUT, Event::TimesOut(id));
        }
    }

    /// Schedules the maintenance's next look, at the end of the back-off's pause.
    fn fill_after_pause(&mut self, pool: PoolId) {
        let now = self.timestamp();
        let next = self.pools[pool].backoff.next_attempt(now);
        let delay = next.map_or(0, |at| nanos(at.since(now)));
        self.after(delay, Event::Fill(pool));
    }

    fn syn(&mut self, id: AttemptId, nth: u32) {
        if self.attempts[id].is_over {
            return;
        }
        *self.syns.entry(self.now / (SECOND / 10)).or_default() += 1;
        let server_id = self.pools[self.attempts[id].pool].server;
        let server = &mut self.servers[server_id];
        if !server.is_up {
            self.after(HOP, Event::Refused(id));
        } else if server.queue.len() >= server.conditions.back_log {
            // Linux sends it again after pauses of 1, 2, 4 s and so on.
            self.after(SECOND << nth.min(5), Event::Syn(id, nth + 1));
        } else {
            server.queue.push_back(id);
            self.attempts[id].is_accepted = true;
            self.serve(server_id);
        }
    }

    /// Takes the head of the queue, if the server is free.
    fn serve(&mut self, server_id: usize) {
        let server = &mut self.servers[server_id];
        let Some(next) = server.queue.front() else {
            return;
        };
        if std::mem::replace(&mut server.is_busy, true) {
            return;
        }
        let is_wanted = !self.attempts[*next].is_over && server.open < server.max_connections;
        let (takes, starts) = if is_wanted {
            (server.handshake(), server.starts)
        } else {
            (server.refusal(), server.starts)
        };
        self.after(takes, Event::Served(server_id, starts));
    }

    fn served(&mut self, server_id: usize, starts: u64) {
        let server = &mut self.servers[server_id];
        if server.starts != starts {
            return;
        }
        server.is_busy = false;
        if let Some(id) = server.queue.pop_front() {
            if self.attempts[id].is_over {
                self.needless += 1;
            } else if server.open() {
                self.after(LOGIN, Event::Opened(id));
            } else {
                self.over_limit += 1;
                self.after(HOP, Event::Refused(id));
            }
        }
        self.serve(server_id);
    }

    /// Records that an attempt is over. Returns its pool.
    fn end(&mut self, id: AttemptId) -> PoolId {
        let attempt = &mut self.attempts[id];
        attempt.is_over = true;
        let pool = &mut self.pools[attempt.pool];
        pool.connecting -= 1;
        if attempt.is_hanging {
            pool.backoff.hanging -= 1;
            pool.backoff.coming -= usize::from(attempt.is_coming);
        }
        if attempt.is_overdue {
            pool.backoff.overdue -= 1;
        }
        attempt.pool
    }

    fn opened(&mut self, id: AttemptId) {
        if self.attempts[id].is_over {
            return;
        }
        let took = Duration::from_nanos(self.now - self.attempts[id].began);
        let pool_id = self.end(id);
        let now = self.timestamp();
        let pool = &mut self.pools[pool_id];
        pool.backoff.succeeded(took, SIZE + OVERFLOW, now);
        if pool.is_closed {
            let server = &mut self.servers[pool.server];
            server.open -= 1;
            return;
        }
        pool.open += 1;
        let (open, is_ready) = (pool.open, pool.is_ready);
        if open >= SIZE && !is_ready {
            pool.is_ready = true;
            self.ready.push((self.now, pool_id));
        }
        if open > SIZE {
            self.needless += 1;
            self.after(OVERFLOW_LINGER, Event::Surplus(pool_id));
        }
        self.fill(pool_id);
    }

    /// Does what `until_needless` of `lifecycle/open.rs` does.
    fn again(&mut self, id: AttemptId) {
        let attempt = &mut self.attempts[id];
        if attempt.is_over || attempt.is_overdue {
            return;
        }
        let is_coming = attempt.is_accepted && self.now - attempt.began < nanos(COMING);
        let pool = &mut self.pools[attempt.pool];
        if attempt.is_coming != is_coming {
            attempt.is_coming = is_coming;
            if is_coming {
                pool.backoff.coming += 1;
            } else {
                pool.backoff.coming -= 1;
            }
        }
        if !attempt.is_accepted && pool.is_enough() {
            let pool = self.end(id);
            self.fill(pool);
        } else {
            self.after(AGAIN, Event::Again(id));
        }
    }

    fn failed(&mut self, id: AttemptId) {
        if self.attempts[id].is_over {
            return;
        }
        self.refused += 1;
        self.give_up(id);
    }

    fn give_up(&mut self, id: AttemptId) {
        let begun = self.attempts[id].begun;
        let pool = self.end(id);
        self.record_failure(pool, begun);
        self.fill_after_pause(pool);
    }

    fn record_failure(&mut self, pool: PoolId, begun: Begun) {
        let (now, chance) = (self.timestamp(), self.random());
        let backoff = &mut self.pools[pool].backoff;
        backoff.failed(begun, ConnectError, now, chance);
    }

    fn hangs(&mut self, id: AttemptId) {
        if self.attempts[id].is_over {
            return;
        }
        let (now, chance) = (self.timestamp(), self.random());
        let attempt = &mut self.attempts[id];
        attempt.is_hanging = true;
        let pool = attempt.pool;
        let backoff = &mut self.pools[pool].backoff;
        backoff.hangs(&mut attempt.begun, ConnectError, now, chance);
        self.fill_after_pause(pool);
        self.again(id);
    }

    fn times_out(&mut self, id: AttemptId) {
        let attempt = &mut self.attempts[id];
        if attempt.is_over {
            return;
        }
        if !attempt.is_accepted {
            self.give_up(id);
            return;
        }
        // The server has accepted the login, so the attempt goes on in its slot.
        attempt.is_overdue = true;
        if std::mem::take(&mut attempt.is_coming) {
            self.pools[attempt.pool].backoff.coming -= 1;
        }
        let (pool, begun) = (attempt.pool, attempt.begun);
        self.record_failure(pool, begun);
        let now = self.timestamp();
        let limit = Duration::from_nanos(CONNECT_TIMEOUT);
        self.pools[pool].backoff.begin_overdue(limit, now);
        self.fill_after_pause(pool);
    }

    fn close_surplus(&mut self, pool: PoolId) {
        let pool_state = &mut self.pools[pool];
        if pool_state.open > SIZE {
            pool_state.open -= 1;
            self.servers[pool_state.server].open -= 1;
        }
    }

    fn down(&mut self, server_id: usize) {
        let server = &mut self.servers[server_id];
        server.is_up = false;
        server.starts += 1;
        server.is_busy = false;
        server.open = 0;
        let queue = std::mem::take(&mut server.queue);
        for id in queue {
            self.after(HOP, Event::Refused(id));
        }
        let pools = (0..self.pools.len()).filter(|pool| self.pools[*pool].server == server_id);
        for pool in pools.collect::<Vec<_>>() {
            let noticed = self.random() % (SECOND / 10);
            self.after(HOP + noticed, Event::Lost(pool));
        }
    }
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}
