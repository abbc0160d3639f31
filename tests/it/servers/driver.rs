//! How `mysql_async` and deadpool behave where the pool relies on it: an update that changes such
//! behaviour fails the test named after it.
//!
//! Other such tests stand beside what relies on them: the flag that a nested command clears,
//! `promises::in_step::a_nested_command_that_clears_the_drivers_flag_hides_nothing`; a connection
//! on a runtime other than its own,
//! `promises::any_runtime::four_single_threaded_runtimes_are_served_by_a_fifth`; column counts,
//! `servers::hostile::a_number_of_columns_beyond_all_memory_ends_the_process`; no file is sent
//! without a handler, `hostile::*`.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleResult, Timeouts,
};
use mysql_warm_pool::mysql_async::{
    Conn, DriverError, Error, Opts, OptsBuilder, QueryResult, Row, ServerError, TextProtocol,
    TxOpts, consts::StatusFlags, prelude::Queryable,
};
use test_support::{
    Server, eventually,
    scripted::{Scripted, Wire, column, end_of_rows, packet, row},
};
use tokio::time::timeout;

async fn connection() -> Conn {
    let server = Server::shared().await;
    let opts = OptsBuilder::from_opts(server.opts()).prefer_socket(false);
    Conn::new(opts).await.expect("a connection")
}

/// Polls the future once, with a waker that does nothing.
fn once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// mysql_async: cancelling

/// Why a session tracks cancelled commands itself (`session::follow`): the driver has a flag, and
/// does not check it.
#[tokio::test]
async fn a_cancelled_query_leaves_its_answer_and_a_flag_to_the_next() {
    let mut conn = connection().await;
    assert!(!conn.is_disconnected());
    let cancelled = timeout(
        Duration::from_millis(20),
        conn.query_first::<u8, _>("SELECT 7 + SLEEP(1)"),
    );
    cancelled.await.expect_err("cancelled");
    assert!(conn.is_disconnected(), "the driver's flag is set");
    let answer: Option<u8> = conn.query_first("SELECT 8").await.expect("an answer");
    assert_eq!(answer, Some(7), "an answer to another question");
    assert!(!conn.is_disconnected(), "nothing shows it any more");
}

/// Why `Session::validate` asks a question of its own rather than sending a ping.
#[tokio::test]
async fn a_ping_does_not_notice_that_answers_are_out_of_step() {
    let mut conn = connection().await;
    let cancelled = timeout(Duration::from_millis(20), conn.query_drop("DO SLEEP(1)"));
    cancelled.await.expect_err("cancelled");
    conn.ping().await.expect("taken for its own answer");
    assert!(!conn.is_disconnected());
}

/// How `Session::verdict` detects pending rows without a round trip.
#[tokio::test]
async fn columns_are_there_only_while_rows_are_pending() {
    let mut conn = connection().await;
    let pending = |conn: &mut Conn| QueryResult::<TextProtocol>::new(conn).columns().is_some();
    assert!(!pending(&mut conn));
    drop(conn.query_iter("SELECT 1").await.expect("rows"));
    assert!(pending(&mut conn));
    QueryResult::<TextProtocol>::new(&mut conn)
        .drop_result()
        .await
        .expect("read");
    assert!(!pending(&mut conn));
}

/// How `Session::verdict` takes the error of a later result in one poll.
#[tokio::test]
async fn the_error_of_a_later_result_waits_for_the_next_command() {
    let mut conn = connection().await;
    let mut result = conn
        .query_iter("DO 1; SELECT FROM nothing")
        .await
        .expect("the first");
    result.next().await.expect("steps over to the second");
    drop(result);
    assert!(conn.last_ok_packet().is_none());
    let taken = once(pin!(
        QueryResult::<TextProtocol>::new(&mut conn).drop_result()
    ));
    assert!(
        matches!(taken, Poll::Ready(Err(Error::Server(_)))),
        "{taken:?}"
    );
    conn.ping().await.expect("nothing is left of it");
}

/// Why `Session::validate` reads untyped rows: the pool's own tasks must not panic.
#[tokio::test]
async fn a_row_of_another_type_than_asked_for_is_a_panic() {
    let mut conn = connection().await;
    let asked = tokio::spawn(async move { conn.query_first::<u64, _>("SELECT 'no number'").await });
    assert!(asked.await.is_err_and(|error| error.is_panic()));
}

// mysql_async: the session

/// Why `Session::status_flags` and `Follow` record which commands refresh the status.
#[tokio::test]
async fn selects_and_pings_carry_the_status_and_errors_do_not() {
    let mut conn = connection().await;
    let in_transaction = |conn: &Conn| {
        let ok = conn.last_ok_packet()?;
        Some(
            ok.status_flags()
                .contains(StatusFlags::SERVER_STATUS_IN_TRANS),
        )
    };
    conn.query_drop("BEGIN").await.expect("begun");
    conn.query_drop("SELECT 1").await.expect("an answer");
    assert_eq!(in_transaction(&conn), Some(true));
    conn.ping().await.expect("an answer");
    assert_eq!(in_transaction(&conn), Some(true));
    conn.prep("SELECT ?").await.expect("prepared");
    assert_ne!(
        in_transaction(&conn),
        Some(true),
        "a prepare's answer carries no status"
    );
    conn.query_drop("SELECT FROM nothing")
        .await
        .expect_err("bad SQL");
    assert_eq!(in_transaction(&conn), None);
    assert!(
        !conn.is_disconnected(),
        "an error of the server's clears the flag"
    );
    conn.query_drop("ROLLBACK").await.expect("rolled back");
    assert_eq!(in_transaction(&conn), Some(false));
    let flags = conn.last_ok_packet().expect("OK").status_flags();
    assert!(flags.contains(StatusFlags::SERVER_STATUS_AUTOCOMMIT));
}

/// Why `Session::verdict` does not leave the driver's pending rollback to the next command.
#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_with_the_next_command() {
    let mut conn = connection().await;
    let id = conn.id();
    drop(
        conn.start_transaction(TxOpts::default())
            .await
            .expect("begun"),
    );
    assert!(!conn.is_disconnected());
    let flags = conn.last_ok_packet().expect("OK").status_flags();
    assert!(
        flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS),
        "nothing was sent"
    );
    conn.ping().await.expect("an answer");
    let flags = conn.last_ok_packet().expect("OK").status_flags();
    assert!(!flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS));
    assert_eq!(conn.id(), id);
}

/// Why the cleaning restores the database, runs `init` and prepares again after a reset: the driver
/// does none of it.
#[tokio::test]
async fn a_reset_keeps_the_database_and_runs_setup_without_init() {
    let server = Server::shared().await;
    let opts = OptsBuilder::from_opts(server.opts())
        .prefer_socket(false)
        .init(vec!["SET @init = 1"])
        .setup(vec!["SET @setup = 1"]);
    let mut conn = Conn::new(opts).await.expect("a connection");
    conn.query_drop("SET @a = 1").await.expect("set");
    conn.query_drop("USE information_schema")
        .await
        .expect("used");
    let prepared = conn.prep("SELECT 1 + ?").await.expect("prepared");
    assert_eq!(
        conn.prep("SELECT 1 + ?").await.expect("cached").id(),
        prepared.id()
    );
    assert!(conn.reset().await.expect("reset"));
    let left: Option<String> = conn
        .query_first(
            "SELECT CONCAT_WS(' ', IFNULL(@a, '-'), IFNULL(@init, '-'), @setup, LOWER(DATABASE()))",
        )
        .await
        .expect("an answer");
    assert_eq!(left.as_deref(), Some("- - 1 information_schema"));
    let gone = conn.exec_drop(&prepared, (1,)).await.expect_err("gone");
    assert!(
        matches!(&gone, Error::Server(error) if error.code == 1243),
        "{gone}"
    );
    let before = statements_prepared(&mut conn).await;
    conn.exec_drop("SELECT 1 + ?", (1,))
        .await
        .expect("prepared anew");
    assert_eq!(statements_prepared(&mut conn).await, before + 1);
    conn.exec_drop("SELECT 1 + ?", (1,)).await.expect("cached");
    assert_eq!(statements_prepared(&mut conn).await, before + 1);
}

async fn statements_prepared(conn: &mut Conn) -> u64 {
    let row: Option<(String, u64)> = conn
        .query_first("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'")
        .await
        .expect("an answer");
    row.expect("a row").1
}

/// How the cleaning goes back to having no default database (`restore_database`).
#[tokio::test]
async fn a_change_of_user_without_options_restores_the_database() {
    let mut conn = connection().await;
    let database = conn.opts().db_name().map(str::to_owned);
    conn.query_drop("USE information_schema")
        .await
        .expect("used");
    conn.query_drop("SET @a = 1").await.expect("set");
    conn.change_user(Default::default()).await.expect("changed");
    let left: Option<(Option<String>, Option<u8>)> = conn
        .query_first("SELECT DATABASE(), @a")
        .await
        .expect("an answer");
    assert_eq!(left, Some((database, None)));
}

/// How `connection` recognises and refuses another connection's statements.
#[tokio::test]
async fn a_prepared_statement_knows_its_connection() {
    let mut conn = connection().await;
    let prepared = conn.prep("SELECT ?").await.expect("prepared");
    assert_eq!(prepared.connection_id(), conn.id());
}

// mysql_async: opening

/// How `Opener::options` saves a round trip. The driver uses the `wait_timeout` given there only in
/// its own pool.
#[tokio::test]
async fn the_settings_query_is_sent_unless_both_answers_are_given() {
    let server = Scripted::start().await;
    let base = Opts::from_url(&server.url()).expect("a good URL");
    let base = OptsBuilder::from_opts(base).prefer_socket(false);
    let both = base
        .clone()
        .max_allowed_packet(Some(1 << 20))
        .wait_timeout(Some(28_800));
    let conn = Conn::new(both).await.expect("a connection");
    assert_eq!(server.asked(), [""; 0]);
    drop(conn);
    let one = base.clone().max_allowed_packet(Some(1 << 20));
    drop(Conn::new(one).await.expect("a connection"));
    assert_eq!(server.asked(), ["SELECT @@wait_timeout"]);
    drop(Conn::new(base).await.expect("a connection"));
    assert_eq!(
        server.asked().last().map(String::as_str),
        Some("SELECT @@max_allowed_packet,@@wait_timeout")
    );
}

/// Why `Opener::options` turns it off: the driver would connect to a path that the server names,
/// bypassing every proxy.
#[tokio::test]
async fn a_unix_socket_is_preferred_unless_that_is_turned_off() {
    let server = Scripted::start().await;
    let opts = Opts::from_url(&server.url()).expect("a good URL");
    assert!(opts.prefer_socket(), "on by default");
    drop(Conn::new(opts).await.expect("a connection"));
    assert_eq!(
        server.asked(),
        ["SELECT @@max_allowed_packet,@@wait_timeout,@@socket"]
    );
}

/// Why `Opener::open` has a deadline.
#[tokio::test(start_paused = true)]
async fn opening_has_no_deadline_of_its_own() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let url = format!("mysql://app@127.0.0.1:{port}/test");
    let opening = Conn::new(Opts::from_url(&url).expect("a good URL"));
    let a_day = Duration::from_secs(86_400);
    timeout(a_day, opening)
        .await
        .expect_err("it waits without end");
}

// mysql_async: errors and the end

/// Why `error::classify` has its own list in `ends_connection`.
#[tokio::test]
async fn the_servers_last_error_does_not_mark_the_connection_closed() {
    let mut conn = connection().await;
    let mut killer = connection().await;
    killer
        .query_drop(format!("KILL {}", conn.id()))
        .await
        .expect("killed");
    assert!(
        !conn.is_disconnected(),
        "nothing shows before the next command"
    );
    // The first is not fatal; the others are a server's last errors, or the end of the stream.
    let error = Error::Server(ServerError {
        code: 4031,
        message: String::new(),
        state: String::new(),
    });
    assert!(!error.is_fatal());
    conn.ping().await.expect_err("dead");
}

/// Why `Follow::end` takes it for the caller's mistake (`is_misused`), not for a lost connection.
#[tokio::test]
async fn a_wrong_number_of_parameters_marks_the_connection_closed() {
    let mut conn = connection().await;
    let error = conn
        .exec_drop("DO ?", (1, 2))
        .await
        .expect_err("one too many");
    assert!(
        matches!(error, Error::Driver(DriverError::StmtParamsMismatch { .. })),
        "{error}"
    );
    assert!(conn.is_disconnected());
}

/// Why `Session::quit` sends it.
#[tokio::test]
async fn disconnecting_says_goodbye_and_dropping_does_not() {
    let server = Scripted::start().await;
    let opts = Opts::from_url(&server.url()).expect("a good URL");
    let opts = Opts::from(OptsBuilder::from_opts(opts).prefer_socket(false));
    drop(Conn::new(opts.clone()).await.expect("a connection"));
    eventually("it is closed", async || server.open() == 0).await;
    assert!(!server.asked().contains(&"quit".to_owned()));
    let conn = Conn::new(opts).await.expect("a connection");
    conn.disconnect().await.expect("said");
    eventually("it is closed", async || server.open() == 0).await;
    assert!(server.asked().contains(&"quit".to_owned()));
}

/// More than fits into the sockets' buffers.
const MUCH: usize = 64 << 20;

/// Opens a connection with `MUCH` pending. The flag is set once all of it has been read.
async fn with_much_pending(server: &Scripted) -> (Conn, Arc<AtomicBool>) {
    let all_read = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&all_read);
    server.play(move |mut wire: Wire| {
        let done = Arc::clone(&done);
        async move {
            wire.log_in().await?;
            loop {
                let question = wire.question().await?;
                if question.text != "SELECT 'much'" {
                    wire.raw(&question.answer()).await?;
                    continue;
                }
                wire.packet(1, &[1]).await?;
                wire.packet(2, &column()).await?;
                let one = row(&[&"x".repeat(200)]);
                let mut some = Vec::new();
                for number in (3..=255).chain(0..3) {
                    some.extend(packet(number, &one));
                }
                for _ in 0..MUCH / some.len() {
                    wire.raw(&some).await?;
                }
                wire.packet(3, &end_of_rows(0)).await?;
                done.store(true, Ordering::Relaxed);
                wire.hang().await?;
            }
        }
    });
    let opts = Opts::from_url(&server.url()).expect("a good URL");
    let mut conn = Conn::new(OptsBuilder::from_opts(opts).prefer_socket(false))
        .await
        .expect("a connection");
    let mut result = conn.query_iter("SELECT 'much'").await.expect("rows");
    let first: Option<Row> = result.next().await.expect("a row");
    assert!(first.is_some());
    drop(result);
    (conn, all_read)
}

/// Why `session::sever` exists.
#[tokio::test]
async fn a_dropped_connection_reads_all_pending_rows_in_a_task() {
    let server = Scripted::start().await;
    let (conn, all_read) = with_much_pending(&server).await;
    drop(conn);
    eventually("all is read", async || all_read.load(Ordering::Relaxed)).await;
}

/// How `session::sever` closes a connection.
#[tokio::test]
async fn a_connection_dropped_after_its_runtime_is_closed_at_once() {
    let server = Scripted::start().await;
    let (conn, all_read) = with_much_pending(&server).await;
    let gone = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let handle = gone.handle().clone();
    gone.shutdown_background();
    {
        let _inside = handle.enter();
        drop(conn);
    }
    eventually("it is closed", async || server.open() == 0).await;
    assert!(!all_read.load(Ordering::Relaxed));
}

/// Why the pool's types implement `Debug` by hand.
#[tokio::test]
async fn the_drivers_debug_texts_show_the_password() {
    let server = Scripted::start().await;
    let opts = Opts::from_url(&server.url()).expect("a good URL");
    assert!(format!("{opts:?}").contains("secret"));
    let conn = Conn::new(OptsBuilder::from_opts(opts).prefer_socket(false));
    let conn = conn.await.expect("a connection");
    assert!(format!("{conn:?}").contains("secret"));
}

// deadpool

/// The kind of manager that `engine::slots` gives deadpool: creating an object does nothing.
#[derive(Default)]
struct Numbers {
    made: AtomicUsize,
}

impl Manager for Numbers {
    type Type = usize;
    type Error = Infallible;

    async fn create(&self) -> Result<usize, Infallible> {
        Ok(self.made.fetch_add(1, Ordering::Relaxed))
    }

    async fn recycle(&self, _: &mut usize, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

const AT_ONCE: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};
const WITHOUT_END: Timeouts = Timeouts {
    wait: None,
    create: None,
    recycle: None,
};

/// A pool like that of `Slots::new`, with everything checked out.
fn all_of(limit: usize) -> (Pool<Numbers>, Vec<Object<Numbers>>) {
    let config = PoolConfig {
        max_size: limit,
        timeouts: WITHOUT_END,
        queue_mode: QueueMode::Lifo,
    };
    let pool = Pool::builder(Numbers::default()).config(config).build();
    let pool = pool.expect("it needs no runtime");
    let all = (0..limit).map(|_| at_once(&pool).expect("one more"));
    let all = all.collect();
    (pool, all)
}

/// Takes one, like `Slots::checkout`.
fn at_once(pool: &Pool<Numbers>) -> Option<Object<Numbers>> {
    match once(pin!(pool.timeout_get(&AT_ONCE))) {
        Poll::Ready(Ok(object)) => Some(object),
        Poll::Ready(Err(PoolError::Timeout(_))) => None,
        other => panic!("neither one nor none: {}", other.is_pending()),
    }
}

/// `Slots::new` creates a pool anywhere, and `Slots::try_take` works without a runtime.
#[test]
fn deadpool_needs_no_runtime_and_is_ready_at_the_first_poll() {
    let (pool, mut all) = all_of(3);
    assert_eq!(all.len(), 3);
    assert!(at_once(&pool).is_none());
    let status = pool.status();
    assert_eq!(
        (
            status.size,
            status.max_size,
            status.available,
            status.waiting
        ),
        (3, 3, 0, 0)
    );
    drop(all.pop());
    // Idle at once: `PoolStatus` is computed from these numbers.
    assert_eq!((pool.status().size, pool.status().available), (3, 1));
    assert!(at_once(&pool).is_some());
    assert_eq!(
        pool.manager().made.load(Ordering::Relaxed),
        3,
        "no object was created again"
    );
}

/// `Slots::sweep` takes all idle connections this way, the one used last first.
#[test]
fn deadpool_hands_out_first_what_came_back_last() {
    let (pool, all) = all_of(3);
    for object in all {
        drop(object);
    }
    let order: Vec<_> = (0..3).map(|_| at_once(&pool).expect("one")).collect();
    assert_eq!(
        order.iter().map(|object| **object).collect::<Vec<_>>(),
        [2, 1, 0]
    );
}

/// `Slots::take` relies on it: one fair, counted queue, which a cancelled caller leaves.
#[tokio::test]
async fn deadpool_serves_waiters_in_order_and_forgets_the_cancelled() {
    let (pool, mut all) = all_of(1);
    let mut first = Box::pin(pool.timeout_get(&WITHOUT_END));
    let mut second = Box::pin(pool.timeout_get(&WITHOUT_END));
    let mut third = Box::pin(pool.timeout_get(&WITHOUT_END));
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(once(waiting.as_mut()).is_pending());
    }
    assert_eq!(pool.status().waiting, 3);
    drop(first);
    assert_eq!(pool.status().waiting, 2);
    drop(all.pop());
    // Later callers do not overtake them.
    assert!(at_once(&pool).is_none());
    assert!(once(third.as_mut()).is_pending());
    let Poll::Ready(Ok(object)) = once(second.as_mut()) else {
        panic!("the turn of the second")
    };
    drop(object);
    // Dropped after it was given one, before it looked: the next caller gets that one.
    let mut fourth = Box::pin(pool.timeout_get(&WITHOUT_END));
    assert!(once(fourth.as_mut()).is_pending());
    drop(third);
    assert!(poll_fn(|cx| Poll::Ready(fourth.as_mut().poll(cx).is_ready())).await);
}

/// Why `Slots::resize` grows that way, and shelves slots itself to shrink.
#[test]
fn deadpool_can_grow_too_far_after_shrinking_while_in_use() {
    let (pool, all) = all_of(2);
    pool.resize(4);
    let more = (at_once(&pool), at_once(&pool));
    assert!(matches!(more, (Some(_), Some(_))));
    assert!(at_once(&pool).is_none());
    drop((all, more));

    // Why the pool does not use deadpool's own shrinking: the limit does not hold.
    let config = PoolConfig {
        max_size: 10,
        timeouts: WITHOUT_END,
        queue_mode: QueueMode::Lifo,
    };
    let pool = Pool::builder(Numbers::default()).config(config).build();
    let pool = pool.expect("it needs no runtime");
    for _ in 0..5 {
        pool.resize(5);
        pool.resize(10);
    }
    let mut out = Vec::new();
    while let Some(object) = at_once(&pool) {
        out.push(object);
    }
    assert!(
        out.len() > 10,
        "{} of 10: deadpool's resize can be used now",
        out.len()
    );
}

/// Dropping a pool's last handle closes nothing in use: `Lease` and `Cleaning` outlive it.
#[test]
fn deadpools_objects_outlive_the_pool() {
    let (pool, mut all) = all_of(1);
    drop(pool);
    let object = all.pop().expect("one");
    assert_eq!(*object, 0);
    drop(object);
}
