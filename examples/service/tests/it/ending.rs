//! How the program ends: when it is asked to, and when it cannot start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::StatusCode;
use test_support::{Server, eventually, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::driving::{ACCOUNTS, Client, Program, READINESS};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_fails_no_request_and_leaves_nothing_open() {
    let server = Server::start().await;
    let program = Program::start(&server.url(), &[("SHUTDOWN_DELAY", "3")]).await;
    let client = program.client.clone();
    client.until_ready().await;
    let accounts = [
        client.account("Ada", 1_000_000).await,
        client.account("Bob", 1_000_000).await,
    ];
    let aborted = server.status_value("Aborted_clients").await;

    // Like a load balancer: sends requests until a probe fails, which takes a moment to notice.
    let not_ready = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for n in 0..16 {
        let (client, not_ready, answers) =
            (client.clone(), Arc::clone(&not_ready), Arc::clone(&answers));
        callers.push(tokio::spawn(async move {
            while !not_ready.load(Ordering::Relaxed) {
                let answer = if n % 4 == 0 {
                    client.transfer(accounts[0], accounts[1], 1).await
                } else {
                    client.get(&format!("{ACCOUNTS}/{}", accounts[n % 2])).await
                };
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let probing = {
        let (probe, not_ready) = (Client::to(client.address), Arc::clone(&not_ready));
        tokio::spawn(async move {
            while probe.get(READINESS).await.status == StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            not_ready.store(true, Ordering::Relaxed);
        })
    };
    // A viewer has the page open, and would keep it open.
    let mut looking = tokio::net::TcpStream::connect(client.address)
        .await
        .expect("a connection");
    looking
        .write_all(b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n")
        .await
        .expect("a request");
    // And one transfer cannot finish before the service is asked to end.
    server.execute("BEGIN").await;
    let lock = format!(
        "SELECT * FROM test.account WHERE id = {} FOR UPDATE",
        accounts[0]
    );
    server.execute(&lock).await;
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.transfer(accounts[1], accounts[0], 1).await })
    };
    let before = answers.load(Ordering::Relaxed);
    eventually("the load is on", async || {
        answers.load(Ordering::Relaxed) > before + 200
    })
    .await;

    program.signal("TERM").await;
    let delay_over = Instant::now() + Duration::from_secs(3);
    probing.await.expect("readiness says no");
    server.execute("ROLLBACK").await;
    let slow = slow.await.expect("no panic");
    assert_eq!(slow.status, StatusCode::OK, "{}", slow.text());
    for caller in callers {
        caller.await.expect("no request fails");
    }
    let nobody_asks = Instant::now();
    let (status, log) = program.end().await;
    assert!(status.success(), "{status}: {log}");
    // The page's stream has ended, and did not delay the shutdown.
    let took = nobody_asks.max(delay_over).elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: {log}");
    let mut rest = Vec::new();
    looking.read_to_end(&mut rest).await.expect("its end");
    assert!(String::from_utf8_lossy(&rest).contains("data: {"));
    assert!(log.contains("cut=0"), "{log}");
    eventually("no thread is left", async || {
        server.threads_connected().await == 0
    })
    .await;
    // Every connection was closed with `COM_QUIT`.
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
}

#[tokio::test]
async fn ctrl_c_before_the_database_is_there_ends_the_service_at_once() {
    let url = format!("mysql://app@127.0.0.1:{}/shop", free_port());
    let program = Program::start(&url, &[]).await;
    let client = program.client.clone();
    let early = tokio::spawn(async move { client.get(ACCOUNTS).await });
    eventually("the request waits", async || {
        program.client.get(READINESS).await.json()["early_requests"] == 1
    })
    .await;
    let begin = Instant::now();
    program.signal("INT").await;
    let (status, log) = program.end().await;
    assert!(status.success(), "{status}: {log}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{log}");
    let answer = early.await.expect("no panic");
    assert_eq!(answer.problem(), (503, "ending".to_owned()));
}

#[tokio::test]
async fn a_permanent_fault_ends_the_service_without_showing_a_secret() {
    let server = Server::shared().await;
    let url = server.url().replace("mysql://app:", "mysql://app:Wrong0ne");
    let (status, log) = Program::run(&url, &[]).await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("cannot serve") && log.contains("1045"),
        "{log}"
    );
    assert!(log.contains("check user and password"), "{log}");
    assert!(!log.contains("Wrong0ne"), "{log}");
}

#[tokio::test]
async fn wrong_settings_end_it_with_status_2_and_every_fault() {
    let variables = [
        ("DATABASE_POOL_SIZE", "100001"),
        ("REQUEST_TIMEOUT", "soon"),
    ];
    let url = "mysql://app:S3cr3tWord@127.0.0.1/shop";
    let (status, log) = Program::run(url, &variables).await;
    assert_eq!(status.code(), Some(2), "{log}");
    for (name, _) in variables {
        assert!(log.contains(name), "{log}");
    }
    assert!(!log.contains("S3cr3tWord"), "{log}");
}

#[tokio::test]
async fn a_warm_up_that_takes_longer_than_its_time_is_tried_again() {
    let server = Server::builder().prepare().await;
    let variables = [
        ("DATABASE_POOL_WARM_UP_TIMEOUT", "200ms"),
        ("SHUTDOWN_DELAY", "0"),
    ];
    let program = Program::start(&server.url(), &variables).await;
    let begin = Instant::now();
    eventually("its time is over", async || {
        begin.elapsed() > Duration::from_millis(500)
    })
    .await;
    server.start_again().await;
    program.client.until_ready().await;
    assert_eq!(program.client.get(ACCOUNTS).await.status, StatusCode::OK);
    program.signal("TERM").await;
    let (status, log) = program.end().await;
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("not warm yet, trying again"), "{log}");
}
