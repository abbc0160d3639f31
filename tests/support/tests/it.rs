//! The support crate does what the other tests rely on.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use test_support::{PATIENCE, Proxy, Seed, Server, Speaker, eventually, eventually_within, timed};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Long enough to be sure that something does not happen.
const A_WHILE: Duration = Duration::from_millis(100);

async fn connect(opts: Opts) -> Conn {
    Conn::new(opts).await.expect("a connection")
}

async fn number(conn: &mut Conn, query: &str) -> u64 {
    conn.query_first(query)
        .await
        .expect("an answer")
        .expect("a row")
}

#[tokio::test]
async fn two_servers_run_at_once_and_know_nothing_of_each_other() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    assert_ne!(one.port(), two.port());
    let mut on_one = connect(one.opts()).await;
    let mut on_two = connect(Opts::from_url(&two.url()).expect("a URL")).await;
    on_one
        .query_drop("CREATE TABLE only_here (n INT)")
        .await
        .expect("rights on the database");
    on_two
        .query_drop("CREATE TABLE only_here (n INT)")
        .await
        .expect("no such table there");
    assert_eq!(
        number(&mut on_one, "SELECT @@port").await,
        u64::from(one.port())
    );
    assert_eq!(
        number(&mut on_two, "SELECT @@port").await,
        u64::from(two.port())
    );
}

#[tokio::test]
async fn a_server_killed_and_started_again_keeps_its_data_and_port() {
    let server = Server::start().await;
    let mut conn = connect(server.opts()).await;
    conn.query_drop("CREATE TABLE kept (n INT) SELECT 7 AS n")
        .await
        .expect("a table");
    server.kill().await;
    conn.query_drop("DO 1")
        .await
        .expect_err("the server is dead");
    let refused = TcpStream::connect(("127.0.0.1", server.port())).await;
    assert_eq!(
        refused.expect_err("dead").kind(),
        ErrorKind::ConnectionRefused
    );

    server.start_again().await;
    let mut conn = connect(server.opts()).await;
    assert_eq!(number(&mut conn, "SELECT n FROM kept").await, 7);

    server.restart().await;
    let mut conn = connect(server.opts()).await;
    assert_eq!(number(&mut conn, "SELECT n FROM kept").await, 7);
}

#[tokio::test]
async fn a_prepared_server_refuses_until_it_is_started() {
    let server = Server::builder()
        .option("--wait-timeout=3")
        .max_connections(11)
        .prepare()
        .await;
    let refused = TcpStream::connect(("127.0.0.1", server.port())).await;
    assert_eq!(
        refused.expect_err("down").kind(),
        ErrorKind::ConnectionRefused
    );
    server.start_again().await;
    let mut conn = connect(server.opts()).await;
    assert_eq!(number(&mut conn, "SELECT @@wait_timeout").await, 3);
    assert_eq!(number(&mut conn, "SELECT @@max_connections").await, 11);
}

#[tokio::test]
async fn a_port_can_be_chosen_and_an_unknown_option_is_reported() {
    let gone = Server::start().await;
    let port = gone.port();
    drop(gone);
    let server = Server::builder().port(port).start().await;
    assert_eq!(server.port(), port);

    let failure = tokio::spawn(Server::builder().option("--no-such-option").start()).await;
    let panic = failure.err().expect("a panic").into_panic();
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains("no-such-option"), "{text}");
}

#[tokio::test]
async fn a_frozen_server_answers_after_it_is_thawed() {
    let server = Server::start().await;
    let mut conn = connect(server.opts()).await;
    let frozen = server.freeze().await;
    {
        let mut asking = std::pin::pin!(number(&mut conn, "SELECT 5"));
        assert!(timeout(A_WHILE, &mut asking).await.is_err());
        frozen.thaw();
        assert_eq!(timeout(PATIENCE, asking).await.expect("an answer"), 5);
    }
    // A frozen server can be stopped too.
    let _frozen = server.freeze().await;
    drop(server);
}

#[tokio::test]
async fn asking_a_server_moves_none_of_its_counters() {
    let server = Server::builder().max_connections(10).start().await;
    let before = server.status_value("Connections").await;
    assert_eq!(server.threads_connected().await, 0);
    let room = 10 - server.own_connections();
    let mut conns = join_all((0..room).map(|_| connect(server.opts()))).await;
    let room = u64::from(room);
    assert_eq!(server.threads_connected().await, room);
    assert_eq!(server.status_value("Connections").await, before + room);

    // All connections are taken, and the tests can still query and act.
    let error = Conn::new(server.opts()).await.expect_err("too many");
    assert!(error.to_string().contains("1040"), "{error}");
    let victim = conns[3].id();
    server.execute(&format!("KILL {victim}")).await;
    conns[3].query_drop("DO 1").await.expect_err("killed");
    let mut admin = server.admin().await;
    eventually("the killed connection is off the list", async || {
        let query = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'";
        number(&mut admin, query).await == room - 1 && server.threads_connected().await == room - 1
    })
    .await;
}

#[tokio::test]
async fn the_shared_server_is_one_and_the_same() {
    let (one, two) = tokio::join!(Server::shared(), Server::shared());
    assert_eq!(one.port(), two.port());
    let mut conn = connect(one.opts()).await;
    assert_eq!(number(&mut conn, "SELECT 1").await, 1);
}

#[tokio::test]
async fn a_server_is_gone_when_its_handle_is_dropped() {
    let server = Server::start().await;
    let (pid, folder) = (server.pid().await, server.folder().to_owned());
    assert!(is_running(pid) && folder.exists());
    drop(server);
    assert!(!is_running(pid) && !folder.exists());
}

#[tokio::test]
async fn a_server_is_gone_when_its_test_process_is_killed() {
    for signal in ["KILL", "INT", "TERM"] {
        // A shell without job control starts its background jobs with SIGINT ignored, and the child
        // would inherit that.
        let mut child = Command::new("env")
            .arg("--default-signal")
            .arg(std::env::current_exe().expect("the tests' path"))
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("a_test_process_to_be_killed")
            .env("TO_BE_KILLED", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the test binary can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (pid, folder) = loop {
            let line = timeout(PATIENCE, lines.next_line()).await;
            let line = line.expect("in time").expect("output").expect("a line");
            if let Some((_, server)) = line.split_once("server ") {
                let (pid, folder) = server.split_once(' ').expect("two words");
                break (pid.parse().expect("a number"), PathBuf::from(folder));
            }
        };
        assert!(is_running(pid) && folder.exists());
        let id = child.id().expect("a running child").to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .await;
        assert!(sent.expect("kill can be run").success());
        let status = timeout(PATIENCE, child.wait()).await;
        let status = status.expect("in time").expect("its end");
        assert!(status.signal().is_some(), "{status}");
        eventually("the server and its folder are gone", async || {
            !is_running(pid) && !folder.exists()
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "started and killed by another test"]
async fn a_test_process_to_be_killed() {
    if std::env::var_os("TO_BE_KILLED").is_none() {
        return;
    }
    let server = Server::start().await;
    println!(
        "server {} {}",
        server.pid().await,
        server.folder().display()
    );
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_proxy_forwards_to_the_server_of_the_moment() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    let proxy = Proxy::start(one.port()).await;
    let mut before = connect(one.opts_via(proxy.port())).await;
    proxy.switch_to(two.port());
    let mut after = connect(Opts::from_url(&two.url_via(proxy.port())).expect("a URL")).await;
    assert_eq!(
        number(&mut before, "SELECT @@port").await,
        u64::from(one.port())
    );
    assert_eq!(
        number(&mut after, "SELECT @@port").await,
        u64::from(two.port())
    );
    // More than fits into its buffers.
    let text: String = after
        .query_first("SELECT REPEAT('x', 12000000)")
        .await
        .expect("an answer")
        .expect("a row");
    assert_eq!(text.len(), 12_000_000);
}

#[tokio::test]
async fn a_delay_holds_each_way_and_costs_no_throughput() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let mut conn = connect(server.opts_via(proxy.port())).await;
    proxy.delay(Duration::from_millis(30));
    let (_, took) = timed(number(&mut conn, "SELECT 1")).await;
    assert!(took >= Duration::from_millis(60), "{took:?}");
    // 10,000 pieces one after another would take 300 s.
    proxy.delay(Duration::from_millis(30));
    let reading = conn.query_first("SELECT REPEAT('x', 16000000)");
    let text: Option<String> = timeout(PATIENCE, reading)
        .await
        .expect("not one piece after the other")
        .expect("an answer");
    assert_eq!(text.map(|text| text.len()), Some(16_000_000));
}

#[tokio::test]
async fn only_the_opening_is_delayed() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let delay = Duration::from_millis(80);
    proxy.delay_opening(delay);
    let (mut conn, opening) = timed(connect(server.opts_via(proxy.port()))).await;
    assert!(opening >= delay, "{opening:?}");
    let queries = async {
        for _ in 0..1_000 {
            number(&mut conn, "SELECT 1").await;
        }
    };
    let (_, took) = timed(queries).await;
    assert!(took < 1_000 * delay, "{took:?}");
}

#[tokio::test]
async fn a_proxy_refuses_and_accepts_again_on_the_same_port() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let mut conn = connect(server.opts_via(proxy.port())).await;
    for _ in 0..20 {
        proxy.refuse().await;
        let refused = TcpStream::connect(("127.0.0.1", proxy.port())).await;
        assert_eq!(
            refused.expect_err("refused").kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(number(&mut conn, "SELECT 1").await, 1);
        proxy.accept_again().await;
        drop(connect(server.opts_via(proxy.port())).await);
    }
    assert_eq!(proxy.accepted(), 21);
}

#[tokio::test]
async fn a_proxy_closes_or_stalls_what_it_accepts() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    assert_eq!(proxy.first_accept(), None);
    proxy.accept_and_close();
    let start = Instant::now();
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    assert_eq!(client.read(&mut [0]).await.expect("an orderly end"), 0);
    assert!(proxy.first_accept().is_some_and(|first| first >= start));
    assert_eq!((proxy.accepted(), proxy.open()), (1, 0));

    proxy.accept_and_stall();
    let opening = tokio::spawn(connect(server.opts_via(proxy.port())));
    proxy.until_open(1).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(!opening.is_finished());
    proxy.resume();
    let mut conn = timeout(PATIENCE, opening)
        .await
        .expect("in time")
        .expect("no panic");
    assert_eq!(number(&mut conn, "SELECT 1").await, 1);

    // A stalled connection that gives up is no longer counted.
    proxy.accept_and_stall();
    let client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    proxy.until_open(2).await;
    drop(client);
    proxy.until_open(1).await;
}

#[tokio::test]
async fn a_handshake_stalls_half_way() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.stall_after(10);
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    let mut greeting = [0; 10];
    timeout(PATIENCE, client.read_exact(&mut greeting))
        .await
        .expect("in time")
        .expect("10 bytes");
    assert!(
        timeout(A_WHILE, client.read(&mut [0])).await.is_err(),
        "an eleventh byte"
    );
    proxy.resume();
    assert_eq!(
        timeout(PATIENCE, client.read(&mut [0]))
            .await
            .expect("in time")
            .expect("more"),
        1
    );
}

#[tokio::test]
async fn a_stalled_connection_loses_nothing_and_stalls_no_other() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let mut old = connect(server.opts_via(proxy.port())).await;
    proxy.stall();
    let mut asking = std::pin::pin!(number(&mut old, "SELECT 3"));
    assert!(timeout(A_WHILE, &mut asking).await.is_err());
    let mut new = connect(server.opts_via(proxy.port())).await;
    assert_eq!(number(&mut new, "SELECT 4").await, 4);
    proxy.resume();
    assert_eq!(timeout(PATIENCE, asking).await.expect("an answer"), 3);
}

#[tokio::test]
async fn a_proxy_cuts_and_hangs_up() {
    let echo = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = Proxy::start(echo.local_addr().expect("an address").port()).await;
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    let (mut server, _) = echo.accept().await.expect("passed on");
    client.write_all(b"x").await.expect("open");
    assert_eq!(server.read_u8().await.expect("passed on"), b'x');
    proxy.cut().await;
    assert_eq!(proxy.open(), 0);
    let reset = client.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0]).await.expect("an end"), 0);

    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    let (mut server, _) = echo.accept().await.expect("passed on");
    proxy.hang_up().await;
    assert_eq!(client.read(&mut [0]).await.expect("an orderly end"), 0);
    assert_eq!(server.read(&mut [0]).await.expect("an orderly end"), 0);

    // The server's close is forwarded, and the connection counts until the client closes too.
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    drop(echo.accept().await.expect("passed on"));
    assert_eq!(client.read(&mut [0]).await.expect("an orderly end"), 0);
    assert_eq!(proxy.open(), 1);
    drop(client);
    proxy.until_open(0).await;

    // So is the failure to reach a server.
    drop(echo);
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("accepted");
    assert_eq!(client.read(&mut [0]).await.expect("an orderly end"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proxy_counts_no_connection_that_its_client_has_closed() {
    // A server of its own: so many connections would leave no room on the shared one.
    let speaker = Speaker::start().await;
    let proxy = Proxy::start(speaker.port()).await;
    for _ in 0..500 {
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))
            .await
            .expect("accepted");
        client
            .write_all(b"not read before the end")
            .await
            .expect("open");
    }
    proxy.until_accepted(500).await;
    assert!(proxy.peak().await <= 1);

    let permits = Semaphore::new(10);
    let seed = Seed::new();
    join_all((0..40).map(|number| {
        let (permits, port, mut seed) = (&permits, proxy.port(), seed.fork(number));
        async move {
            for _ in 0..50 {
                let _permit = permits.acquire().await.expect("open");
                let mut client = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("accepted");
                if seed.chance(50) {
                    client.read_u8().await.expect("the greeting");
                }
                if seed.chance(50) {
                    client.write_all(b"x").await.expect("open");
                }
            }
        }
    }))
    .await;
    proxy.until_accepted(2500).await;
    assert!(proxy.peak().await <= 10);
    proxy.until_open(0).await;

    let port = |port: u16| format!(":{port}/");
    let url = speaker
        .url()
        .replace(&port(speaker.port()), &port(proxy.port()));
    let opts = Opts::from_url(&format!("{url}&prefer_socket=false")).expect("a URL");
    let kept = join_all((0..11).map(|_| connect(opts.clone()))).await;
    assert_eq!(proxy.open(), 11);
    assert_eq!(proxy.peak().await, 11);
    drop(kept);
    proxy.until_open(0).await;
    assert_eq!(proxy.peak().await, 11);
}

#[tokio::test]
#[should_panic(expected = "the sky falls")]
async fn a_condition_that_never_holds_is_named() {
    eventually_within(Duration::from_millis(20), "the sky falls", async || false).await;
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let (mut one, mut two) = (Seed::from(42), Seed::from(42));
    let choices = |seed: &mut Seed| {
        (
            seed.next(),
            seed.below(1000),
            *seed.pick(&['a', 'b', 'c', 'd']),
            seed.duration_below(Duration::from_secs(1)),
            seed.fork(1).next(),
        )
    };
    assert_eq!(choices(&mut one), choices(&mut two));
    assert_ne!(one.fork(1).next(), one.fork(2).next());
    assert!((0..100).all(|_| one.below(3) < 3 && one.duration_below(PATIENCE) < PATIENCE));
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
