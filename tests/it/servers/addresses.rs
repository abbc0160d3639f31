//! Names with several addresses, some of which are dead: they share `connect_timeout`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use mysql_warm_pool::{
    PoolConfig, PooledConn,
    mysql_async::{OptsBuilder, prelude::Queryable},
};
use test_support::{Mute, Proxy, Server, config, eventually, pool, timed, warm};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

const ALIVE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Nothing ever listens there.
const REFUSED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));

/// Far longer than it takes, and half as long as `connect_timeout` here.
const SOON: Duration = Duration::from_secs(30);

fn settings(server: &Server, port: u16, addresses: &[IpAddr]) -> PoolConfig {
    let config = config(&server.url_via(port)).connect_timeout(2 * SOON);
    let opts = OptsBuilder::from_opts(config.opts().clone());
    PoolConfig::from_opts(opts.resolved_ips(Some(addresses)))
        .connect_timeout(2 * SOON)
        .warm_up_timeout(2 * SOON)
}

#[tokio::test]
async fn a_dead_address_delays_a_warm_up_little() {
    let server = Server::start().await;
    let ipv6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    for (size, overflow, addresses) in [
        (8, 0, vec![SECOND, ALIVE]),
        (1, 0, vec![SECOND, ALIVE]),
        (20, 30, vec![SECOND, THIRD, ALIVE]),
        (2, 0, vec![ALIVE, SECOND]),
        (2, 0, vec![REFUSED, ipv6, SECOND, ALIVE]),
        (1, 0, vec![SECOND, REFUSED, SECOND, ALIVE, ALIVE]),
    ] {
        let proxy = Proxy::start(server.port()).await;
        let _dead = (
            Mute::start(SECOND, proxy.port()).await,
            Mute::start(THIRD, proxy.port()).await,
        );
        let settings = settings(&server, proxy.port(), &addresses);
        let pool = pool(settings.size(size).overflow(overflow));
        let (report, took) = timed(pool.warm_up()).await;
        let report = report.expect("one is alive");
        println!("{addresses:?}: {report}");
        // An attempt beside one that hung may have opened one more.
        assert!((size..=size + overflow).contains(&report.open), "{report}");
        assert!(took < SOON, "{took:?}");
        // Now it is known which one works.
        let conn = pool.get().await.expect("a connection");
        let ((), took) = timed(async {
            PooledConn::discard(conn);
            eventually("it is replaced", async || pool.status().idle >= size).await;
        })
        .await;
        println!("replaced in {took:?}");
        assert!(took < SOON, "{took:?}");
        assert!(proxy.peak().await <= size + overflow);
    }
}

#[tokio::test]
async fn an_address_that_works_is_found_after_a_failover() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let dead = Mute::start(SECOND, proxy.port()).await;
    let settings = settings(&server, proxy.port(), &[SECOND, ALIVE])
        .size(1)
        .overflow(0);
    let pool = warm(settings).await;
    // The other way round: the one that worked refuses, the other one works.
    drop(dead);
    let listener = TcpListener::bind((SECOND, proxy.port())).await;
    let listener = listener.expect("a free port");
    let port = server.port();
    let forwarding = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let server = TcpStream::connect((ALIVE, port)).await;
        copy_bidirectional(&mut client, &mut server.expect("a server")).await
    });
    proxy.refuse().await;
    proxy.cut().await;
    let mut conn = loop {
        let mut conn = pool.get_within(SOON).await.expect("a connection");
        // The first one may have been cut.
        if conn.query_drop("DO 1").await.is_ok() {
            break conn;
        }
    };
    conn.ping().await.expect("an answer");
    assert_eq!(proxy.open(), 0);
    drop((conn, pool));
    forwarding.await.expect("no panic").ok();
}

#[tokio::test]
async fn with_all_addresses_refused_an_attempt_ends_at_once() {
    let server = Server::shared().await;
    let settings = settings(server, 1, &[REFUSED, SECOND]).size(1);
    let pool = pool(settings);
    let error = pool
        .get_within(Duration::from_secs(1))
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(pool.metrics().failed_attempts > 1, "{:?}", pool.metrics());
}

/// An address that answers keeps the attempt, however slow it is: a login that is given up counts
/// towards the server's `max_connect_errors`.
#[tokio::test]
async fn a_slow_login_is_not_given_up_for_another_address() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let _dead = Mute::start(SECOND, proxy.port()).await;
    proxy.delay_opening(Duration::from_millis(1500));
    for addresses in [[ALIVE, SECOND], [SECOND, ALIVE]] {
        let settings = settings(&server, proxy.port(), &addresses);
        let before = proxy.accepted();
        let pool = warm(settings.size(1).overflow(0)).await;
        assert_eq!((pool.status().open, proxy.accepted() - before), (1, 1));
        pool.close().await;
    }
}
