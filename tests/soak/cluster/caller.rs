//! A caller: writes and reads through the cluster, and reports every outcome to the account.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error, PooledConn,
    cluster::{Cluster, Role},
    mysql_async::{self, Conn, TxOpts},
};
use test_support::Seed;
use tokio::time::{sleep, timeout};

use super::{
    Topology,
    ledger::{INSERT, Ledger, Rows, State, content},
    plan::{STATEMENT_TIMEOUT, TIMEOUT},
    truth::{HandOut, Truth},
};
use crate::account::{Account, Moment};

/// What a time-out may come late.
const SLACK: Duration = Duration::from_millis(500);

/// State shared by all callers.
pub(crate) struct Shared {
    pub(crate) topology: Topology,
    pub(crate) account: Account,
    pub(crate) ledger: Ledger,
    pub(crate) truth: Truth,
    /// When each member was the primary. Empty in Galera, where each takes writes.
    pub(crate) tenures: Mutex<Vec<Tenure>>,
    pub(crate) stop: AtomicBool,
    /// The port of each member's proxy, by which callers reach it, and of its server.
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) tokens: AtomicU64,
}

/// The time in which a server was the primary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenure {
    pub(crate) member: usize,
    /// When it ended; `None` while it lasts.
    pub(crate) to: Option<Instant>,
}

impl Shared {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The member that a connection leads to, and its server's port.
    fn member(&self, conn: &Conn) -> (usize, u16) {
        let port = conn.opts().tcp_port();
        let found = self.ports.iter().position(|(proxy, _)| *proxy == port);
        let member = found.expect("a member");
        (member, self.ports[member].1)
    }

    /// Checks that the member was the primary when it acknowledged a write.
    fn check_tenure(&self, member: usize, sent: Instant) {
        if self.topology == Topology::Galera {
            return;
        }
        let tenures = self.tenures.lock().unwrap_or_else(PoisonError::into_inner);
        let was_primary = tenures
            .iter()
            .any(|tenure| tenure.member == member && tenure.to.is_none_or(|to| to >= sent));
        drop(tenures);
        if !was_primary {
            self.account.violation(format!(
                "member {member} acknowledged a write, and was not the primary"
            ));
        }
    }

    fn check_time(&self, what: &str, begun: Moment, allowed: Duration) {
        let took = self.account.now().since(begun);
        if took > allowed + SLACK {
            self.account
                .violation(format!("{what} took {took:?}, and {allowed:?} is allowed"));
        }
    }
}

pub(crate) struct Caller {
    pub(crate) cluster: Cluster,
    pub(crate) seed: Seed,
    pub(crate) shared: Arc<Shared>,
    pub(crate) writes: bool,
}

type Done = mysql_async::Result<()>;

#[derive(Clone, Copy, Debug)]
enum Work {
    /// One row.
    Write,
    /// Two rows in a transaction.
    Pair,
    /// A row, some time after the connection was got.
    Hold(Duration),
    /// A row, which is then read from the writer.
    ReadBack,
    Read {
        times: u64,
        prepared: bool,
    },
}

impl Work {
    fn draw(seed: &mut Seed, writes: bool) -> Self {
        let number = seed.below(100);
        match (writes, number) {
            (true, 0..55) => Self::Write,
            (true, 55..75) => Self::Pair,
            (true, 75..80) => Self::Hold(seed.duration_below(Duration::from_millis(400))),
            (true, _) => Self::ReadBack,
            (false, _) => Self::Read {
                times: 1 + number % 3,
                prepared: number >= 50,
            },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Pair => "transaction",
            Self::Hold(_) => "hold, then write",
            Self::ReadBack => "write, then read",
            Self::Read { .. } => "read",
        }
    }
}

impl Caller {
    /// Works until it is stopped.
    pub(crate) async fn work(mut self) {
        while !self.shared.is_stopped() {
            let work = Work::draw(&mut self.seed, self.writes);
            let cut = self.seed.chance(5);
            let cut = cut.then(|| self.seed.duration_below(Duration::from_millis(6)));
            self.carry_out(work, cut).await;
            let longest = if self.writes { 100 } else { 60 };
            let pause = Duration::from_millis(5);
            sleep(pause + self.seed.duration_below(Duration::from_millis(longest))).await;
        }
    }

    async fn carry_out(&mut self, work: Work, cut: Option<Duration>) {
        let begun = Instant::now();
        let chance = self.seed.next();
        // Every step has a limit of its own, so this is longer than any sequence of them.
        let longest = Duration::from_secs(30);
        let outcome = timeout(cut.unwrap_or(longest), self.run(work, chance)).await;
        let account = &self.shared.account;
        let name = work.name();
        match outcome {
            Ok(Ok(())) => account.acknowledged(name),
            Ok(Err(error)) if self.writes => account.failed_write(name, &error, begun),
            Ok(Err(error)) => account.failed(name, &error, begun),
            Err(_) if cut.is_some() => account.cancelled(name),
            Err(_) => account.violation(format!("{work:?} hangs: {:?}", self.cluster.members())),
        }
    }

    async fn run(&self, work: Work, chance: u64) -> Done {
        match work {
            Work::Write => self.write(Duration::ZERO).await.map(drop),
            Work::Pair => self.pair().await,
            Work::Hold(time) => self.write(time).await.map(drop),
            Work::ReadBack => {
                let rows = self.write(Duration::ZERO).await?;
                self.read_back(rows).await
            }
            Work::Read { times, prepared } => self.read(times, prepared, chance).await,
        }
    }

    async fn write(&self, hold: Duration) -> mysql_async::Result<Rows> {
        let mut conn = self.writer().await?;
        sleep(hold).await;
        let (member, port) = self.shared.member(&conn);
        let ledger = &self.shared.ledger;
        let rows = ledger.enter(1);
        let sent = Instant::now();
        ledger.settle(rows, State::Unknown);
        let row = (rows.first, content(rows.first));
        match self.statement(conn.exec_drop(INSERT, row)).await {
            Ok(()) => {
                ledger.settle(rows, State::Done(port));
                self.shared.check_tenure(member, sent);
                Ok(rows)
            }
            Err(error) => {
                ledger.settle_failed(rows, &error);
                Err(error)
            }
        }
    }

    async fn pair(&self) -> Done {
        let mut conn = self.writer().await?;
        let (member, port) = self.shared.member(&conn);
        let ledger = &self.shared.ledger;
        let rows = ledger.enter(2);
        let begin = conn.start_transaction(TxOpts::default());
        let mut transaction = self.statement(begin).await?;
        for row in rows.params() {
            self.statement(transaction.exec_drop(INSERT, row)).await?;
        }
        let sent = Instant::now();
        ledger.settle(rows, State::Unknown);
        match self.statement(transaction.commit()).await {
            Ok(()) => {
                ledger.settle(rows, State::Done(port));
                self.shared.check_tenure(member, sent);
                Ok(())
            }
            Err(error) => {
                ledger.settle_failed(rows, &error);
                Err(error)
            }
        }
    }

    /// What the same caller has written is on the writer, unless that is another Galera node, which
    /// may still have to apply it.
    async fn read_back(&self, rows: Rows) -> Done {
        let mut conn = self.writer().await?;
        let found = self.ask(&mut conn, rows.first, true).await?;
        if !found && self.shared.topology == Topology::Replication {
            let text = format!(
                "row {} was acknowledged, and the writer lacks it",
                rows.first
            );
            self.shared.account.violation(text);
        }
        Ok(())
    }

    async fn read(&self, times: u64, prepared: bool, chance: u64) -> Done {
        let mut conn = self.reader().await?;
        for _ in 0..times {
            let id = self.shared.ledger.any(chance).unwrap_or_default();
            self.ask(&mut conn, id, prepared).await?;
        }
        Ok(())
    }

    /// Asks for a row, checks the answer, and returns whether the row is there.
    async fn ask(
        &self,
        conn: &mut PooledConn,
        id: u64,
        prepared: bool,
    ) -> mysql_async::Result<bool> {
        let token = self.shared.tokens.fetch_add(1, Ordering::Relaxed);
        let row: Option<(u64, u64, Option<u64>)> = if prepared {
            // A row even if there is none of this number.
            let select = "SELECT ?, ?, (SELECT content FROM entry WHERE id = ?)";
            let select = conn.exec_first(select, (token, id, id));
            self.statement(select).await?
        } else {
            let select =
                format!("SELECT {token}, {id}, (SELECT content FROM entry WHERE id = {id})");
            self.statement(conn.query_first(select)).await?
        };
        let account = &self.shared.account;
        match row {
            Some((answered, of, found))
                if (answered, of) == (token, id)
                    && found.is_none_or(|found| found == content(id)) =>
            {
                account.answered();
                Ok(found.is_some())
            }
            other => {
                account.wrong_answer(format!(
                    "{token} and row {id} were asked for, {other:?} came"
                ));
                Ok(false)
            }
        }
    }

    async fn writer(&self) -> Result<PooledConn, Error> {
        let known = (self.cluster.failovers(), self.known_writer());
        let called = self.shared.account.now();
        let outcome = self.cluster.writer().await;
        let got = Instant::now();
        self.shared.check_time("writer()", called, TIMEOUT);
        let conn = outcome?;
        let (member, _) = self.shared.member(&conn);
        let hand_out = HandOut {
            to_write: true,
            called,
            got,
            seen: self.seen(member),
        };
        self.shared
            .truth
            .judge(member, hand_out, &self.shared.account);
        let is_settled =
            known.1.is_some() && known == (self.cluster.failovers(), self.known_writer());
        if is_settled && known.1 != Some(member) {
            self.shared.account.violation(format!(
                "writer() led to member {member}, while {:?} was the writer",
                known.1
            ));
        }
        Ok(conn)
    }

    fn seen(&self, member: usize) -> String {
        let members = self.cluster.members();
        members
            .get(member)
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn known_writer(&self) -> Option<usize> {
        let members = self.cluster.members();
        let mut roles = members.iter().map(|member| member.role);
        roles.position(|role| role == Role::Writer)
    }

    async fn reader(&self) -> Result<PooledConn, Error> {
        let called = self.shared.account.now();
        let outcome = self.cluster.reader().await;
        let got = Instant::now();
        self.shared.check_time("reader()", called, TIMEOUT);
        let conn = outcome?;
        let (member, _) = self.shared.member(&conn);
        let hand_out = HandOut {
            to_write: false,
            called,
            got,
            seen: self.seen(member),
        };
        self.shared
            .truth
            .judge(member, hand_out, &self.shared.account);
        Ok(conn)
    }

    /// Checks that a statement ends in time.
    async fn statement<T>(&self, statement: impl Future<Output = T>) -> T {
        let begun = self.shared.account.now();
        let outcome = statement.await;
        self.shared
            .check_time("a statement", begun, STATEMENT_TIMEOUT);
        outcome
    }
}
