//! A caller: does its work piece by piece, and reports every outcome to the account.

use std::{
    future::{Future, poll_fn},
    panic::panic_any,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use mysql_warm_pool::{
    Error, Pool, PooledConn, Transaction,
    mysql_async::{self, Conn, IsolationLevel, TxOpts, Value, prelude::*},
};
use test_support::{Flavor, Seed};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    account::Account,
    bank::{self, ACCOUNTS, NUMBERS, Table, WriteLog, WriteState, content},
    plan::{Begin, Change, Cut, End, Forgotten, Kind, Mistake, PanicAt, Transfer, Way, Work},
};

/// Longer than any fault and its consequences.
const HANGS: Duration = Duration::from_secs(30);
/// A caller compares its writes with the server's tables whenever it has this many.
const COMPARED_AT: usize = 200;
/// How many connections, which the pool does not count, may be detached at a time.
pub(crate) const DETACHED_AT_ONCE: usize = 2;
/// Leaked futures never free their memory, so their number is limited.
const FUTURES_LEAKED: u64 = 40;

const QUESTION: &str = "SELECT ?, @mark, id FROM account WHERE id = ?";
const STREAM: &str = "SELECT ?, n FROM number WHERE n <= ?";

/// State shared by all callers.
pub(crate) struct Shared {
    pub(crate) account: Account,
    pub(crate) flavor: Flavor,
    /// The answer about a session that nobody has changed.
    pub(crate) as_new: Vec<Value>,
    pub(crate) detaching: Semaphore,
    pub(crate) stop: AtomicBool,
    tokens: AtomicU64,
    leaked: AtomicU64,
}

/// The payload of deliberate panics.
pub(crate) struct Deliberate;

impl Shared {
    pub(crate) fn new(flavor: Flavor, as_new: Vec<Value>) -> Arc<Self> {
        Arc::new(Self {
            account: Account::default(),
            flavor,
            as_new,
            detaching: Semaphore::new(DETACHED_AT_ONCE),
            stop: AtomicBool::new(false),
            tokens: AtomicU64::new(1_000_000_000),
            leaked: AtomicU64::new(0),
        })
    }

    /// A number that no other question uses.
    fn token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    fn check(&self, token: u64, answer: Option<&Value>) {
        if answer.and_then(number) == Some(token) {
            self.account.answered();
        } else {
            self.account
                .wrong_answer(format!("{token} was asked for, {answer:?} came"));
        }
    }
}

pub(crate) struct Caller {
    pool: Pool,
    seed: Seed,
    log: WriteLog,
    shared: Arc<Shared>,
}

impl Caller {
    pub(crate) fn new(number: u64, pool: Pool, seed: &Seed, shared: Arc<Shared>) -> Self {
        Self {
            pool,
            seed: seed.fork(number),
            log: WriteLog::new(number),
            shared,
        }
    }

    /// Works until it is stopped; returns its write log, fully compared.
    pub(crate) async fn work(mut self) -> WriteLog {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let work = Work::draw(&mut self.seed);
            self.carry_out(&work).await;
            if self.log.len() >= COMPARED_AT {
                self.compare().await;
            }
            sleep(work.pause).await;
        }
        // The consequences of the last faults are over soon.
        let deadline = Instant::now() + HANGS;
        while self.log.len() > 0 && Instant::now() < deadline {
            self.compare().await;
        }
        if self.log.len() > 0 {
            let text = format!("caller {} cannot compare its writes", self.log.caller());
            self.shared.account.violation(text);
        }
        self.log
    }

    async fn carry_out(&mut self, work: &Work) {
        let name = work.kind.name();
        let begun = Instant::now();
        let request = Request {
            pool: &self.pool,
            shared: &self.shared,
            log: &mut self.log,
        };
        let outcome = timeout(
            HANGS,
            cut_short(work.cut, Box::pin(request.run(&work.kind))),
        )
        .await;
        let account = &self.shared.account;
        match outcome {
            Ok(Some(Ok(()))) => account.acknowledged(name),
            Ok(Some(Err(error))) => account.failed(name, &error, begun),
            Ok(None) => account.cancelled(name),
            Err(_) => account.violation(format!("{:?} hangs; {}", work.kind, self.pool.status())),
        }
    }

    async fn compare(&mut self) {
        let begun = Instant::now();
        let Self {
            pool, log, shared, ..
        } = self;
        let outcome = async {
            let mut conn = pool.get().await?;
            log.compare(&mut conn, &shared.account).await
        };
        match outcome.await {
            Ok(()) => shared.account.acknowledged("audit"),
            Err(error) => shared.account.failed("audit", &error, begun),
        }
    }
}

/// One request of one caller.
struct Request<'a> {
    pool: &'a Pool,
    shared: &'a Arc<Shared>,
    log: &'a mut WriteLog,
}

type Done = mysql_async::Result<()>;

impl Request<'_> {
    async fn run(self, kind: &Kind) -> Done {
        let shared = self.shared;
        match kind {
            Kind::Lookup { how, times } => {
                let mut conn = self.pool.get().await?;
                for _ in 0..*times {
                    ask(&mut conn, *how, shared).await?;
                }
                Ok(())
            }
            Kind::Sum => self.sum().await,
            Kind::Look => self.look().await,
            Kind::Note { how } => self.note(*how).await,
            Kind::Notes { rows, raw } => self.notes(*rows, *raw).await,
            Kind::Transfer(transfer) => self.transfer(transfer).await,
            Kind::Stream { rows, read, text } => self.stream(*rows, *read, *text).await,
            Kind::Results { read, error } => self.results(*read, *error).await,
            Kind::Mistake(mistake) => self.mistake(*mistake).await,
            Kind::Change(changes) => self.change(changes).await,
            Kind::CancelThenAsk { how, cut } => self.cancel_then_ask(*how, *cut).await,
            Kind::Hold(time) => {
                let mut conn = self.pool.get().await?;
                sleep(*time).await;
                ask(&mut conn, Way::Text, shared).await
            }
            Kind::Forget(forgotten) => self.forget(*forgotten).await,
            Kind::Detach => self.detach().await,
            Kind::Discard => {
                let mut conn = self.pool.get().await?;
                ask(&mut conn, Way::Text, shared).await?;
                PooledConn::discard(conn);
                Ok(())
            }
            Kind::Panic(at) => self.panic(*at).await,
            Kind::TryGet => match self.pool.try_get() {
                Some(mut conn) => ask(&mut conn, Way::Text, shared).await,
                None => Ok(()),
            },
            Kind::GetWithin(time) => match self.pool.get_within(*time).await {
                Ok(mut conn) => ask(&mut conn, Way::Exec, shared).await,
                // The time may be too short at any moment.
                Err(Error::Timeout { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn sum(self) -> Done {
        let token = self.shared.token();
        let mut conn = self.pool.get().await?;
        let row: Option<(Value, i64)> = conn
            .query_first(format!(
                "SELECT {token}, CAST(SUM(balance) AS SIGNED) FROM account"
            ))
            .await?;
        self.shared
            .check(token, row.as_ref().map(|(value, _)| value));
        if let Some((_, sum)) = row
            && sum != bank::total()
        {
            let text = format!("the accounts hold {sum} of {}", bank::total());
            self.shared.account.violation(text);
        }
        Ok(())
    }

    async fn look(self) -> Done {
        let token = self.shared.token();
        let mut conn = self.pool.get().await?;
        let row: Option<mysql_async::Row> = conn
            .query_first(bank::session_question(token, self.shared.flavor))
            .await?;
        let mut values = row.map(mysql_async::Row::unwrap).unwrap_or_default();
        if values.is_empty() {
            self.shared.check(token, None);
            return Ok(());
        }
        let number = values.remove(0);
        self.shared.check(token, Some(&number));
        if values != self.shared.as_new {
            let text = format!("{values:?}, as new {:?}", self.shared.as_new);
            self.shared.account.trace(text);
        }
        if token.is_multiple_of(8) {
            match conn.query_drop("EXECUTE left_over").await {
                Err(mysql_async::Error::Server(error)) if error.code == 1243 => {}
                Err(error) => return Err(error),
                Ok(()) => self
                    .shared
                    .account
                    .trace("a statement prepared by its text"),
            }
        }
        Ok(())
    }

    async fn note(self, how: Way) -> Done {
        let mut conn = self.pool.get().await?;
        let (caller, n) = (
            self.log.caller(),
            self.log.enter(Table::Note, WriteState::Unknown),
        );
        let row = (caller, n, content(caller, n));
        let outcome = write(&mut conn, how, row).await;
        match &outcome {
            Ok(()) => self.log.settle(n, WriteState::Done),
            Err(error) => self.log.settle_failed(n, error),
        }
        outcome
    }

    async fn notes(self, rows: u64, raw: bool) -> Done {
        let mut conn = self.pool.get().await?;
        let caller = self.log.caller();
        let all: Vec<_> = (0..rows)
            .map(|_| self.log.enter(Table::Note, WriteState::Undone))
            .collect();
        let params: Vec<_> = all
            .iter()
            .map(|n| (caller, *n, content(caller, *n)))
            .collect();
        let settle = |log: &mut WriteLog, state| all.iter().for_each(|n| log.settle(*n, state));
        let outcome = if raw {
            conn.query_drop("BEGIN").await?;
            conn.exec_batch(INSERT, params).await?;
            settle(self.log, WriteState::Unknown);
            conn.query_drop("COMMIT").await
        } else {
            let mut transaction = conn.start_transaction(TxOpts::default()).await?;
            transaction.exec_batch(INSERT, params).await?;
            settle(self.log, WriteState::Unknown);
            transaction.commit().await
        };
        match &outcome {
            Ok(()) => settle(self.log, WriteState::Done),
            Err(error) => all.iter().for_each(|n| self.log.settle_failed(*n, error)),
        }
        outcome
    }

    async fn transfer(self, transfer: &Transfer) -> Done {
        let mut conn = self.pool.get().await?;
        // Until the commit is sent, the transfer is certainly not there.
        let n = self.log.enter(Table::Transfer, WriteState::Undone);
        let moving = Moving {
            transfer,
            caller: self.log.caller(),
            n,
        };
        let committed = match transfer.how {
            Begin::Api | Begin::ApiSerializable | Begin::ApiExec => {
                let mut options = TxOpts::default();
                if matches!(transfer.how, Begin::ApiSerializable) {
                    options.with_isolation_level(IsolationLevel::Serializable);
                }
                let mut transaction = conn.start_transaction(options).await?;
                if matches!(transfer.how, Begin::ApiExec) {
                    for (statement, params) in moving.executed() {
                        transaction.exec_drop(statement, params).await?;
                        moving.think().await;
                    }
                } else {
                    moving.run(&mut transaction).await?;
                }
                match transfer.end {
                    End::Commit => {
                        self.log.settle(n, WriteState::Unknown);
                        Some(transaction.commit().await)
                    }
                    End::Rollback => {
                        transaction.rollback().await?;
                        None
                    }
                    End::Leave => {
                        drop(transaction);
                        None
                    }
                    End::Forget => {
                        forget(transaction);
                        None
                    }
                }
            }
            Begin::Raw | Begin::RawBare | Begin::AutocommitOff => {
                let begin = if matches!(transfer.how, Begin::AutocommitOff) {
                    "SET autocommit = 0"
                } else {
                    "BEGIN"
                };
                if matches!(transfer.how, Begin::RawBare) {
                    let bare: &mut Conn = &mut conn;
                    bare.query_drop(begin).await?;
                    moving.run(bare).await?;
                } else {
                    conn.query_drop(begin).await?;
                    moving.run(&mut conn).await?;
                }
                match transfer.end {
                    End::Commit => {
                        self.log.settle(n, WriteState::Unknown);
                        Some(conn.query_drop("COMMIT").await)
                    }
                    End::Rollback => {
                        conn.query_drop("ROLLBACK").await?;
                        None
                    }
                    End::Leave | End::Forget => return Ok(()),
                }
            }
        };
        match &committed {
            Some(Ok(())) => self.log.settle(n, WriteState::Done),
            Some(Err(error)) => self.log.settle_failed(n, error),
            None => {}
        }
        committed.unwrap_or(Ok(()))?;
        if transfer.amount.is_multiple_of(2) {
            // The same caller continues, whatever became of the transaction.
            ask(&mut conn, Way::Text, self.shared).await?;
        }
        Ok(())
    }

    async fn stream(self, rows: u64, read: u64, text: bool) -> Done {
        let token = self.shared.token();
        let rows = rows.min(NUMBERS);
        let mut conn = self.pool.get().await?;
        let mut next = 0;
        let mut see = |row: (Value, Value)| {
            next += 1;
            self.shared.check(token, Some(&row.0));
            if number(&row.1) != Some(next) {
                self.shared
                    .account
                    .wrong_answer(format!("row {:?} of a stream, for {next}", row.1));
            }
            next
        };
        let question = format!("SELECT {token}, n FROM number WHERE n <= {rows}");
        let mut seen = 0;
        // A read to the very end is seen as such only when nothing is left.
        let most = if read >= rows { u64::MAX } else { read };
        if text {
            let mut stream = conn.query_stream::<(Value, Value), _>(question).await?;
            while seen < most
                && let Some(row) = stream.next().await
            {
                seen = see(row?);
            }
        } else {
            let mut stream = conn.exec_stream(STREAM, (token, rows)).await?;
            while seen < most
                && let Some(row) = stream.next().await
            {
                seen = see(row?);
            }
        }
        if seen != read.min(rows) {
            self.shared
                .account
                .wrong_answer(format!("{seen} rows of {}", read.min(rows)));
        }
        Ok(())
    }

    async fn results(self, read: u64, error: bool) -> Done {
        let token = self.shared.token();
        let mut conn = self.pool.get().await?;
        let last = if error { "no_such_table" } else { "trace" };
        let text = format!("SELECT {token}, 0; SELECT {token}, 1; SELECT {token}, 2 FROM {last}");
        let mut result = conn.query_iter(text).await?;
        for n in 0..read.min(3) {
            let rows = match result.collect::<(Value, Value)>().await {
                // Reported with the result before it, or in its place.
                Err(mysql_async::Error::Server(later)) if error && later.code == 1146 => {
                    return Ok(());
                }
                rows => rows?,
            };
            let row = rows.first();
            self.shared.check(token, row.map(|(value, _)| value));
            if row.and_then(|(_, value)| number(value)) != Some(n) {
                self.shared
                    .account
                    .wrong_answer(format!("{row:?} for result {n}"));
            }
        }
        Ok(())
    }

    async fn mistake(self, mistake: Mistake) -> Done {
        let mut conn = self.pool.get().await?;
        let (outcome, expected) = match mistake {
            Mistake::Syntax => (conn.query_drop("SELECT FROM WHERE").await, 1064),
            Mistake::MissingTable => (
                conn.exec_drop("SELECT * FROM no_such_table", ()).await,
                1146,
            ),
            Mistake::DuplicateKey => (conn.query_drop("INSERT INTO trace VALUES (0)").await, 1062),
            Mistake::ParameterCount => {
                return match conn.exec_drop("SELECT ?", ()).await {
                    Err(mysql_async::Error::Driver(
                        mysql_async::DriverError::StmtParamsMismatch { .. },
                    )) => Ok(()),
                    other => self.unexpected(mistake, other),
                };
            }
            Mistake::KillsItself => {
                return match conn.query_drop("KILL CONNECTION_ID()").await {
                    Err(mysql_async::Error::Io(_)) => Ok(()),
                    Err(mysql_async::Error::Server(error))
                        if matches!(error.code, 1317 | 1927 | 3169) =>
                    {
                        Ok(())
                    }
                    other => self.unexpected(mistake, other),
                };
            }
        };
        match outcome {
            Err(mysql_async::Error::Server(error)) if error.code == expected => {
                ask(&mut conn, Way::Exec, self.shared).await
            }
            other => self.unexpected(mistake, other),
        }
    }

    fn unexpected(self, mistake: Mistake, outcome: Done) -> Done {
        if outcome.is_ok() {
            let text = format!("no error for {mistake:?}");
            self.shared.account.violation(text);
        }
        outcome
    }

    async fn change(self, changes: &[Change]) -> Done {
        let token = self.shared.token();
        let mut conn = self.pool.get().await?;
        // Later changes would commit the transaction.
        let is_last = |change: &&Change| matches!(change, Change::OpenTransaction);
        let last = changes.iter().find(is_last);
        let changes = changes.iter().filter(|change| !is_last(change));
        for change in changes.chain(last) {
            for statement in statements_of(*change, token) {
                match conn.query_drop(statement).await {
                    // One change may conflict with another.
                    Err(mysql_async::Error::Server(error))
                        if matches!(error.code, 1050 | 1099 | 1100 | 1192) => {}
                    outcome => outcome?,
                }
            }
        }
        Ok(())
    }

    async fn cancel_then_ask(self, how: Way, cut: Cut) -> Done {
        let shared = self.shared;
        let mut conn = self.pool.get().await?;
        let slow = async {
            let token = shared.token();
            let row: Option<(Value, Value)> = if matches!(how, Way::Text) {
                conn.query_first(format!("SELECT {token}, SLEEP(0.002)"))
                    .await?
            } else {
                conn.exec_first("SELECT ?, SLEEP(0.002)", (token,)).await?
            };
            shared.check(token, row.as_ref().map(|(value, _)| value));
            Ok::<_, mysql_async::Error>(())
        };
        let first = cut_short(Some(cut), slow).await;
        let is_cancelled = first.is_none();
        first.unwrap_or(Ok(()))?;
        match ask(&mut conn, how, shared).await {
            Err(error)
                if is_cancelled && matches!(Error::of(&error), Some(Error::ConnectionLost)) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn forget(self, forgotten: Forgotten) -> Done {
        let token = self.shared.token();
        let mut conn = self.pool.get().await?;
        match forgotten {
            Forgotten::Result => {
                let text = format!("SELECT {token}, n FROM number WHERE n <= 50");
                forget(conn.query_iter(text).await?);
            }
            Forgotten::Transaction => {
                let mut transaction = conn.start_transaction(TxOpts::default()).await?;
                take_one(&mut transaction, token).await?;
                forget(transaction);
            }
            Forgotten::Command => {
                if self.shared.leaked.fetch_add(1, Ordering::Relaxed) < FUTURES_LEAKED {
                    let mut command = conn.query_drop(format!("DO {token}"));
                    let first = poll_fn(|cx| Poll::Ready(command.as_mut().poll(cx))).await;
                    if let Poll::Ready(outcome) = first {
                        outcome?;
                    }
                    forget(command);
                }
            }
        }
        Ok(())
    }

    async fn detach(self) -> Done {
        let Ok(permit) = self.shared.detaching.acquire().await else {
            return Ok(());
        };
        let conn = self.pool.get().await?;
        let mut bare = PooledConn::detach(conn);
        let token = self.shared.token();
        let outcome = bare.query_first(format!("SELECT {token}")).await;
        let outcome = match outcome {
            Ok(answer) => {
                self.shared.check(token, answer.as_ref());
                bare.disconnect().await
            }
            Err(error) => {
                drop(bare);
                // The driver closes it shortly afterwards.
                sleep(Duration::from_millis(50)).await;
                Err(error)
            }
        };
        drop(permit);
        outcome
    }

    async fn panic(self, at: PanicAt) -> Done {
        let (pool, shared) = (self.pool.clone(), Arc::clone(self.shared));
        let panics = tokio::spawn(async move {
            let token = shared.token();
            let mut conn = pool.get().await?;
            match at {
                PanicAt::Rest => ask(&mut conn, Way::Text, &shared).await?,
                PanicAt::InTransaction => {
                    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
                    take_one(&mut transaction, token).await?;
                    panic_any(Deliberate);
                }
                PanicAt::InCommand => {
                    let mut command = conn.query_drop(format!("SELECT {token}, SLEEP(0.001)"));
                    let first = poll_fn(|cx| Poll::Ready(command.as_mut().poll(cx))).await;
                    if let Poll::Ready(outcome) = first {
                        outcome?;
                    }
                    panic_any(Deliberate);
                }
                PanicAt::HalfRead => {
                    let text = format!("SELECT {token}, n FROM number WHERE n <= 100");
                    let mut stream = conn.query_stream::<(Value, Value), _>(text).await?;
                    if let Some(row) = stream.next().await {
                        shared.check(token, Some(&row?.0));
                    }
                    panic_any(Deliberate);
                }
            }
            panic_any(Deliberate)
        });
        match panics.await {
            Ok(outcome) => outcome,
            Err(error) => {
                let reason = error.into_panic();
                if !reason.is::<Deliberate>() {
                    let text = reason
                        .downcast_ref::<String>()
                        .map_or("of another kind", String::as_str);
                    self.shared
                        .account
                        .violation(format!("a panic that was not meant: {text}"));
                }
                Ok(())
            }
        }
    }
}

/// A transfer in progress.
struct Moving<'a> {
    transfer: &'a Transfer,
    caller: u64,
    n: u64,
}

impl Moving<'_> {
    fn steps(&self) -> [(&'static str, Vec<u64>); 3] {
        let Transfer {
            from, to, amount, ..
        } = *self.transfer;
        [
            (
                "UPDATE account SET balance = balance - ? WHERE id = ?",
                vec![amount, from],
            ),
            (
                "UPDATE account SET balance = balance + ? WHERE id = ?",
                vec![amount, to],
            ),
            (
                "INSERT INTO transfer VALUES (?, ?, ?, ?, ?)",
                vec![self.caller, self.n, from, to, amount],
            ),
        ]
    }

    fn executed(&self) -> [(&'static str, mysql_async::Params); 3] {
        self.steps().map(|(statement, params)| {
            let params = params.into_iter().map(Value::from).collect();
            (statement, mysql_async::Params::Positional(params))
        })
    }

    /// As text queries.
    async fn run(&self, conn: &mut impl Queryable) -> Done {
        for (statement, params) in self.steps() {
            let mut text = statement.to_owned();
            for param in params {
                text = text.replacen('?', &param.to_string(), 1);
            }
            conn.query_drop(text).await?;
            self.think().await;
        }
        Ok(())
    }

    async fn think(&self) {
        if !self.transfer.thinking.is_zero() {
            sleep(self.transfer.thinking).await;
        }
    }
}

/// Asks a question with its own number and checks the answer.
async fn ask(conn: &mut PooledConn, how: Way, shared: &Shared) -> Done {
    let token = shared.token();
    let id = token % ACCOUNTS;
    let text = format!("SELECT {token}, @mark, id FROM account WHERE id = {id}");
    let row: Option<(Value, Value, Value)> = match how {
        Way::Text => conn.query_first(text).await?,
        Way::Exec => conn.exec_first(QUESTION, (token, id)).await?,
        Way::Prepared => {
            let statement = conn.prep(QUESTION).await?;
            let row = conn.exec_first(&statement, (token, id)).await?;
            if token.is_multiple_of(2) {
                conn.close(statement).await?;
            }
            row
        }
        Way::Generic => generic(conn, token, id).await?,
        Way::Bare => {
            let bare: &mut Conn = conn;
            bare.query_first(text).await?
        }
        Way::Lent => text.first(&mut *conn).await?,
    };
    shared.check(token, row.as_ref().map(|row| &row.0));
    if let Some((_, mark, found)) = row {
        if mark != Value::NULL {
            shared.account.trace(format!("a user variable, {mark:?}"));
        }
        if number(&found) != Some(id) {
            shared
                .account
                .wrong_answer(format!("account {found:?} for {id}"));
        }
    }
    Ok(())
}

async fn generic<T: FromRow + Send + 'static>(
    conn: &mut impl Queryable,
    token: u64,
    id: u64,
) -> mysql_async::Result<Option<T>> {
    conn.exec_first(QUESTION, (token, id)).await
}

const INSERT: &str = "INSERT INTO note VALUES (?, ?, ?)";

async fn write(conn: &mut PooledConn, how: Way, row: (u64, u64, u64)) -> Done {
    let text = format!("INSERT INTO note VALUES ({}, {}, {})", row.0, row.1, row.2);
    match how {
        Way::Text => conn.query_drop(text).await,
        Way::Exec => conn.exec_drop(INSERT, row).await,
        Way::Prepared => {
            let statement = conn.prep(INSERT).await?;
            conn.exec_drop(&statement, row).await
        }
        Way::Generic => Queryable::exec_drop(conn, INSERT, row).await,
        Way::Bare => {
            let bare: &mut Conn = conn;
            bare.exec_drop(INSERT, row).await
        }
        Way::Lent => text.ignore(conn).await,
    }
}

fn statements_of(change: Change, token: u64) -> Vec<String> {
    let id = token % ACCOUNTS;
    let texts: &[&str] = match change {
        Change::UserVariable => &[&format!("SET @mark = {token}")],
        Change::TimeZone => &["SET time_zone = '-07:00'"],
        Change::SqlMode => &["SET SESSION sql_mode = 'ANSI_QUOTES'"],
        Change::Isolation => &["SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        Change::Charset => &["SET NAMES latin1"],
        Change::Autocommit => &["SET autocommit = 0"],
        Change::TemporaryTable => &[
            "CREATE TEMPORARY TABLE test.trace (v INT)",
            "INSERT INTO test.trace VALUES (7)",
        ],
        Change::Database => &["USE other"],
        Change::NamedLock => &["SELECT GET_LOCK('soak', 0)"],
        Change::LockedTable => &["LOCK TABLES test.trace READ"],
        Change::OpenTransaction => &[
            "BEGIN",
            &format!("UPDATE test.account SET balance = balance - 1 WHERE id = {id}"),
        ],
        Change::PreparedByText => &["PREPARE left_over FROM 'SELECT 1'"],
    };
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// A change that must never become visible: its callers do not commit.
async fn take_one(transaction: &mut Transaction<'_>, token: u64) -> Done {
    let id = token % ACCOUNTS;
    let text = format!("UPDATE account SET balance = balance - 1 WHERE id = {id}");
    transaction.query_drop(text).await
}

/// The future's output, unless it is dropped first.
async fn cut_short<F: Future>(cut: Option<Cut>, future: F) -> Option<F::Output> {
    match cut {
        None => Some(future.await),
        Some(Cut::After(time)) => timeout(time, future).await.ok(),
        Some(Cut::AfterPolls { polls, woken }) => {
            let mut future = pin!(future);
            let mut left = polls;
            poll_fn(move |cx| {
                if left == 0 {
                    return Poll::Ready(None);
                }
                left -= 1;
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => Poll::Ready(Some(output)),
                    Poll::Pending if left == 0 && !woken => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    mysql_async::from_value_opt(value.clone()).ok()
}

#[expect(clippy::mem_forget, reason = "the pool must bear it")]
fn forget<T>(held: T) {
    std::mem::forget(held);
}
