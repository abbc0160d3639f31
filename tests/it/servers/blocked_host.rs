//! A server counts the logins that a host gives up in the middle, and refuses the host after
//! `max_connect_errors` of them (error 1129). The pool does not get its own host blocked.

use std::{net::Ipv4Addr, time::Duration};

use futures_util::future::join_all;
use mysql_warm_pool::{
    PoolConfig,
    mysql_async::{Conn, prelude::Queryable},
};
use test_support::{
    PATIENCE, Proxy, Server, config, eventually, pool,
    scripted::{Scripted, Wire, end_of_rows, packet, row, rows},
    timed, warm,
};

use crate::servers::namespace::{self, Network};

/// Not loopback, whose errors the server does not count. It has a name, because the server counts
/// only for hosts whose name it knows.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const HOSTS: &str = "127.0.0.1 localhost\n10.1.1.1 client.test\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_does_not_block_the_pools_host() {
    let test = "servers::blocked_host::frozen_under_twenty_callers";
    namespace::run(test, HOSTS, Network::Own, &[]).await;
}

/// Logins that this host gave up.
async fn given_up(admin: &mut Conn) -> u64 {
    let count = "SELECT CAST(SUM(COUNT_HANDSHAKE_ERRORS) AS UNSIGNED) \
                 FROM performance_schema.host_cache WHERE IP = '10.1.1.1'";
    let count: Option<u64> = admin.query_first(count).await.expect("an answer");
    count.expect("the host is known")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a network of its own"]
async fn frozen_under_twenty_callers() {
    let server = Server::builder()
        .option("--bind-address=0.0.0.0")
        .option("--skip-name-resolve=OFF")
        .option("--max-connect-errors=10")
        .option("--performance-schema=ON")
        .start()
        .await;
    let url = server.url().replace("127.0.0.1", &ADDRESS.to_string());
    for (size, overflow) in [(10, 0), (1, 0), (4, 30)] {
        let pool = warm(settings(&url).size(size).overflow(overflow)).await;
        let mut admin = server.admin().await;
        let before = given_up(&mut admin).await;
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    for _ in 0..3 {
                        if let Ok(mut conn) = pool.get().await {
                            conn.query_drop("DO SLEEP(0.01)").await.ok();
                        }
                    }
                })
            })
            .collect();
        let frozen = server.freeze().await;
        tokio::time::sleep(Duration::from_secs(6)).await; // the server is frozen
        let status = pool.status();
        drop(frozen);
        callers.into_iter().for_each(|caller| caller.abort());
        let served = join_all((0..20).map(async |_| {
            let mut conn = pool.get().await?;
            if let Err(error) = conn.query_drop("DO 1").await {
                // The server has much to catch up with.
                assert!(error.to_string().contains("400 ms"), "{error}");
            }
            Ok::<_, mysql_warm_pool::Error>(())
        }));
        let served: Result<Vec<_>, _> = served.await.into_iter().collect();
        let count = given_up(&mut admin).await - before;
        println!(
            "{status}; given up: {count}; {:?}",
            pool.metrics().failed_attempts
        );
        served.expect("the host is not blocked");
        eventually("it is full", async || pool.status().open >= size).await;
        // One for each slot and `connect_timeout` would be far more than the server's limit.
        assert!(count <= 6, "{count} logins were given up");
        pool.close().await;
    }
}

/// Logins that never end, and others that work: the pool does not keep the former for ever.
#[tokio::test]
async fn logins_that_never_end_make_room_for_others() {
    let scripted = Scripted::start().await;
    for (size, overflow) in [(2, 0), (1, 1), (4, 4)] {
        let before = scripted.accepted();
        scripted.play(|mut wire: Wire| async move { wire.hang().await });
        let settings = settings(&scripted.url()).size(size).overflow(overflow);
        let pool = pool(settings.connect_timeout(Duration::from_millis(400)));
        let error = pool.get_within(Duration::from_secs(1)).await;
        let error = error.expect_err("no login ends").to_string();
        assert!(error.contains("no answer within"), "{error}");
        eventually("logins hang", async || {
            scripted.accepted() - before >= u64::try_from(size).expect("few")
        })
        .await;
        scripted.behave();
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("DO 1").await.expect("an answer");
        drop(conn);
        eventually("the logins that hung are gone", async || {
            let status = pool.status();
            status.connecting == 0 && status.idle >= size && scripted.open() == status.open
        })
        .await;
        pool.close().await;
    }
}

#[tokio::test]
async fn close_does_not_wait_for_a_login_that_hangs() {
    let scripted = Scripted::start().await;
    scripted.play(|mut wire: Wire| async move { wire.hang().await });
    let settings = settings(&scripted.url()).size(2).overflow(0);
    let pool = pool(settings.close_timeout(PATIENCE));
    drop(pool.get_within(Duration::from_secs(1)).await);
    // One may have just made room for a later attempt.
    eventually("both hang", async || pool.status().connecting == 2).await;
    let (_report, took) = timed(pool.close()).await;
    assert!(took < PATIENCE / 2, "{took:?}");
    eventually("they are closed", async || scripted.open() == 0).await;
}

/// The attempt has failed, but the connection is used.
#[tokio::test]
async fn a_login_that_ends_late_is_used() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.delay_opening(Duration::from_secs(3));
    let settings = settings(&server.url_via(proxy.port()))
        .size(1)
        .overflow(0)
        .connect_timeout(Duration::from_secs(2));
    let pool = warm(settings).await;
    assert_eq!((pool.status().idle, proxy.accepted()), (1, 1));
    assert!(pool.metrics().failed_attempts >= 1, "{:?}", pool.metrics());
}

fn settings(url: &str) -> PoolConfig {
    config(url)
        .connect_timeout(Duration::from_millis(400))
        .statement_timeout(Duration::from_millis(400))
        .validate_after_idle(Duration::ZERO)
}

/// The driver's query for the server's settings is a part of its login. A server that answers it
/// without end is given up, though there is room for other attempts.
#[tokio::test]
async fn a_login_that_is_answered_without_end_is_given_up() {
    let scripted = Scripted::start().await;
    scripted.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        wire.question().await?;
        let answer = rows(&[&["1", "2"]]);
        // Without its last packet, which ends the rows.
        let begun = answer.len() - packet(0, &end_of_rows(0)).len();
        wire.raw(&answer[..begun]).await?;
        let mut number = 5_u8;
        loop {
            wire.packet(number, &row(&["1", "2"])).await?;
            number = number.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(1)).await; // as it is read
        }
    });
    let pool = pool(settings(&scripted.url()).size(1).overflow(999));
    let error = pool.get_within(Duration::from_secs(1)).await;
    drop(error.expect_err("no login ends"));
    eventually("one is given up, though there is room", async || {
        let open = u64::try_from(scripted.open()).expect("few");
        open < scripted.accepted()
    })
    .await;
    scripted.behave();
    drop(pool.get().await.expect("a connection"));
    eventually("none of them is left", async || {
        pool.status().connecting == 0 && scripted.open() == pool.status().open
    })
    .await;
}
