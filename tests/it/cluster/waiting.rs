//! Callers that wait while the writer changes, and which replica a reader waits for.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use mysql_warm_pool::{
    Error,
    cluster::{
        ClusterConfig,
        Role::{Replica, Unreachable, Writer},
    },
};
use test_support::{Proxy, Server, config, eventually};
use tokio::{task::JoinSet, time::sleep};

use super::{address, make_read_only, make_writable, settings, until_roles, warm};

#[tokio::test]
async fn a_hundred_callers_wait_across_a_failover() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    make_read_only(&[&one]).await;
    until_roles(&cluster, &[Replica, Replica]).await;
    let mut callers = JoinSet::new();
    let mut cancelled = JoinSet::new();
    for n in 0..120 {
        let cluster = cluster.clone();
        let call = async move {
            let mut conn = cluster.writer_within(Duration::from_secs(30)).await?;
            let port: Option<u16> = conn.query_first("SELECT @@port").await?;
            Ok::<_, Error>(port)
        };
        if n % 6 == 0 {
            cancelled.spawn(call);
        } else {
            callers.spawn(call);
        }
    }
    sleep(Duration::from_millis(50)).await; // the outage
    make_writable(&two).await;
    // Some of them while they are being served.
    sleep(Duration::from_millis(100)).await;
    cancelled.shutdown().await;
    for outcome in callers.join_all().await {
        assert_eq!(outcome.expect("served within its time"), Some(two.port()));
    }
    let pool = cluster.pool(&address(&two)).expect("a member");
    eventually("no connection is lost", async || {
        let status = pool.status();
        status.idle == status.open && status.waiting == 0 && status.idle >= 2
    })
    .await;
}

#[tokio::test]
async fn callers_of_one_writer_are_served_in_order() {
    let server = Server::start().await;
    let member = config(&server.url()).size(1).overflow(0);
    let cluster = warm(ClusterConfig::new([member])).await;
    let held = cluster.writer().await.expect("a writer");
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    let pool = cluster.pool(&address(&server)).expect("a member");
    for n in 0..50_usize {
        let (cluster, order) = (cluster.clone(), Arc::clone(&order));
        callers.spawn(async move {
            let conn = cluster.writer().await.expect("served");
            order.lock().expect("no panic").push(n);
            drop(conn);
        });
        eventually("it waits", async || pool.status().waiting == n + 1).await;
    }
    drop(held);
    callers.join_all().await;
    let served = order.lock().expect("no panic").clone();
    assert_eq!(served, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_closing_cluster_ends_every_wait() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(cluster.writer().await.expect("a writer"));
        held.push(cluster.reader().await.expect("a reader"));
    }
    let waiting = async { tokio::join!(cluster.writer(), cluster.reader(), cluster.writer()) };
    let mut waiting = Box::pin(waiting);
    assert!(waiting.as_mut().now_or_never().is_none(), "all are in use");
    // A close that is given up has closed it all the same.
    let mut closing = Box::pin(cluster.close());
    assert!(closing.as_mut().now_or_never().is_none(), "it waits");
    drop(closing);
    let (first, second, third) = waiting.await;
    for outcome in [first, second, third] {
        let error = outcome.expect_err("closed");
        assert!(matches!(error, Error::Closed), "{error}");
    }
    drop(held);
    cluster.close().await;
    for server in [&one, &two] {
        eventually("nothing is left", async || {
            server.threads_connected().await == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_dropped_warm_up_loses_nothing() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = mysql_warm_pool::cluster::Cluster::new(settings(&[&one, &two])).expect("valid");
    for _ in 0..3 {
        let mut warming = Box::pin(cluster.warm_up());
        assert!(warming.as_mut().now_or_never().is_none(), "it takes time");
        tokio::task::yield_now().await;
    }
    let report = cluster.warm_up().await.expect("warm");
    assert!(report.is_complete(), "{report}");
    for server in [&one, &two] {
        eventually("each has its pool and a monitor", async || {
            server.threads_connected().await == 3
        })
        .await;
    }
}

/// The stalled one is not noticed yet.
#[tokio::test]
async fn a_reader_does_not_wait_for_a_stalled_replica() {
    let (one, two, three) = tokio::join!(Server::start(), Server::start(), Server::start());
    make_read_only(&[&two, &three]).await;
    let proxy = Proxy::start(two.port()).await;
    let urls = [one.url(), two.url_via(proxy.port()), three.url()];
    let members = urls.map(|url| {
        let member = config(&url).size(2).overflow(2);
        member.validate_after_idle(Duration::ZERO)
    });
    let hour = Duration::from_secs(60 * 60);
    let cluster = warm(ClusterConfig::new(members).check_every(hour)).await;
    let opened = |address: &str| {
        let pool = cluster.pool(address).expect("a member");
        pool.metrics().opened
    };
    let addresses = [format!("127.0.0.1:{}", proxy.port()), address(&three)];
    let before = [opened(&addresses[0]), opened(&addresses[1])];
    // While both answer, no call opens anything.
    for _ in 0..200 {
        drop(cluster.reader().await.expect("a reader"));
    }
    assert_eq!(before, [opened(&addresses[0]), opened(&addresses[1])]);
    proxy.stall();
    proxy.accept_and_stall();
    for _ in 0..10 {
        let mut conn = cluster
            .reader_within(Duration::from_secs(10))
            .await
            .expect("a reader");
        let port: Option<u16> = conn.query_first("SELECT @@port").await.expect("an answer");
        assert_eq!(port, Some(three.port()));
    }
    assert_eq!(before[1], opened(&addresses[1]), "it needed no more");
}

/// A reader that waits is served by whichever replica can, also by one that comes back meanwhile.
#[tokio::test]
async fn a_waiting_reader_is_served_by_a_replica_that_comes_back() {
    let (one, two, three) = tokio::join!(Server::start(), Server::start(), Server::start());
    make_read_only(&[&two, &three]).await;
    let proxy = Proxy::start(three.port()).await;
    let urls = [one.url(), two.url(), three.url_via(proxy.port())];
    let members = urls.map(|url| config(&url).size(1).overflow(0));
    let settings = ClusterConfig::new(members).check_every(Duration::from_millis(50));
    let cluster = warm(settings).await;
    proxy.refuse().await;
    proxy.cut().await;
    until_roles(&cluster, &[Writer, Replica, Unreachable]).await;
    let held = cluster.reader().await.expect("a reader");
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            let mut conn = cluster.reader_within(Duration::from_secs(60)).await?;
            let port: Option<u16> = conn.query_first("SELECT @@port").await?;
            Ok::<_, Error>(port)
        }
    });
    let pool = cluster.pool(&address(&two)).expect("a member");
    eventually("it waits", async || pool.status().waiting == 1).await;
    proxy.accept_again().await;
    let port = waiting.await.expect("no panic").expect("a reader");
    assert_eq!(port, Some(three.port()));
    drop(held);
}
