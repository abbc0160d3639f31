//! Which member takes writes and which serves reads, on servers that do not replicate: only their
//! answers count.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error,
    cluster::{Cluster, ClusterConfig, ClusterWarning, Reads, Role},
    report::Warning,
};
use test_support::{Flavor, Proxy, Server, config, eventually};
use tokio::time::timeout;

use super::{
    make_read_only, make_writable, reader_port, roles, settings, until_roles, warm, writer_port,
};

#[tokio::test]
async fn the_server_that_takes_writes_is_the_writer() {
    let (one, two, three) = tokio::join!(Server::start(), Server::start(), Server::start());
    make_read_only(&[&one, &three]).await;
    let cluster = Cluster::new(settings(&[&one, &two, &three])).expect("valid settings");
    let report = cluster.warm_up().await.expect("warm");
    assert!(report.is_complete(), "{report}");
    let replica = cluster.pool(&format!("127.0.0.1:{}", one.port()));
    let report = replica.expect("a member").warm_up().await.expect("warm");
    assert!(!report.warnings.contains(&Warning::ReadOnly), "{report}");
    assert_eq!(
        roles(&cluster),
        [Role::Replica, Role::Writer, Role::Replica]
    );
    assert_eq!(writer_port(&cluster).await, two.port());

    // Connections that are held make their replica the busier one.
    let mut held = Vec::new();
    let mut ports = BTreeSet::new();
    for _ in 0..4 {
        let mut conn = cluster.reader().await.expect("a reader");
        ports.insert(super::port(&mut conn).await);
        held.push(conn);
    }
    assert_eq!(ports, BTreeSet::from([one.port(), three.port()]));
    for server in [&one, &three] {
        let address = format!("127.0.0.1:{}", server.port());
        let pool = cluster.pool(&address).expect("a member");
        assert_eq!(pool.status().in_use, 2, "{address}");
    }
    assert_eq!(cluster.failovers(), 0);
}

#[tokio::test]
async fn a_caller_that_waits_is_served_by_the_new_writer() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    assert_eq!(writer_port(&cluster).await, one.port());

    make_read_only(&[&one]).await;
    until_roles(&cluster, &[Role::Replica, Role::Replica]).await;
    let short = cluster.writer_within(Duration::from_millis(100)).await;
    let error = short.expect_err("no writer").to_string();
    for server in [&one, &two] {
        let part = format!("127.0.0.1:{} is replica", server.port());
        assert!(error.contains(&part), "{error}");
    }
    let mut waiting = Box::pin(writer_port(&cluster));
    timeout(Duration::from_millis(50), &mut waiting)
        .await
        .expect_err("it waits");
    make_writable(&two).await;
    assert_eq!(waiting.await, two.port());
    assert_eq!(cluster.failovers(), 1);
    until_roles(&cluster, &[Role::Replica, Role::Writer]).await;
    assert_eq!(reader_port(&cluster).await, one.port());
}

/// Its first connection is refused, as while a server starts, so the pool has nothing to offer.
#[tokio::test]
async fn a_caller_of_a_dead_writer_moves_to_the_new_one() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    one.kill().await;
    until_roles(&cluster, &[Role::Unreachable, Role::Replica]).await;
    let mut waiting = Box::pin(writer_port(&cluster));
    timeout(Duration::from_millis(50), &mut waiting)
        .await
        .expect_err("it waits for the dead one");
    make_writable(&two).await;
    assert_eq!(waiting.await, two.port());
    one.start_again().await;
    // It takes writes too: now there are two.
    until_roles(&cluster, &[Role::Writer, Role::Writer]).await;
    let error = cluster.writer().await.expect_err("two writers");
    assert!(matches!(error, Error::SeveralWriters { .. }), "{error}");
}

#[tokio::test]
async fn two_writers_are_refused_until_one_is_left() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    make_writable(&two).await;
    until_roles(&cluster, &[Role::Writer, Role::Writer]).await;
    let start = Instant::now();
    let error = cluster.writer().await.expect_err("two writers");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "it does not wait"
    );
    let Error::SeveralWriters { members } = &error else {
        panic!("{error}");
    };
    let addresses = [&one, &two].map(|server| format!("127.0.0.1:{}", server.port()));
    assert_eq!(*members, addresses);
    let text = error.to_string();
    assert!(
        addresses.iter().all(|address| text.contains(address)),
        "{text}"
    );
    // Neither of them is a replica.
    let error = cluster
        .reader_within(Duration::from_millis(50))
        .await
        .expect_err("no replica");
    assert!(matches!(error, Error::SeveralWriters { .. }), "{error}");

    make_read_only(&[&one]).await;
    until_roles(&cluster, &[Role::Replica, Role::Writer]).await;
    assert_eq!(writer_port(&cluster).await, two.port());
}

#[tokio::test]
async fn a_warm_up_with_two_writers_names_both() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    let cluster = Cluster::new(settings(&[&one, &two])).expect("valid settings");
    let error = cluster.warm_up().await.expect_err("two writers");
    assert!(matches!(error, Error::SeveralWriters { .. }), "{error}");
}

#[tokio::test]
async fn a_replica_that_dies_is_left_out_until_it_is_back() {
    let (one, two, three) = tokio::join!(Server::start(), Server::start(), Server::start());
    make_read_only(&[&two, &three]).await;
    let cluster = warm(settings(&[&one, &two, &three])).await;
    two.kill().await;
    until_roles(&cluster, &[Role::Writer, Role::Unreachable, Role::Replica]).await;
    for _ in 0..10 {
        assert_eq!(reader_port(&cluster).await, three.port());
    }
    // It takes writes until it is made read-only again.
    two.start_again().await;
    make_read_only(&[&two]).await;
    until_roles(&cluster, &[Role::Writer, Role::Replica, Role::Replica]).await;
    let mut held = Vec::new();
    eventually("it serves reads again", async || {
        let mut conn = cluster.reader().await.expect("a reader");
        let port = super::port(&mut conn).await;
        held.push(conn);
        if held.len() == 4 {
            held.clear();
        }
        port == two.port()
    })
    .await;
}

#[tokio::test]
async fn without_a_replica_the_policy_decides() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let prefer = warm(settings(&[&one, &two])).await;
    let only = warm(settings(&[&one, &two]).reads(Reads::ReplicaOnly)).await;
    for cluster in [&prefer, &only] {
        assert_eq!(reader_port(cluster).await, two.port());
    }
    two.shutdown().await;
    for cluster in [&prefer, &only] {
        until_roles(cluster, &[Role::Writer, Role::Unreachable]).await;
    }
    assert_eq!(reader_port(&prefer).await, one.port());
    let error = only.reader().await.expect_err("no replica");
    let Error::NoReplica { members } = &error else {
        panic!("{error}");
    };
    assert!(members[0].contains("is writer"), "{error}");
    assert!(members[1].contains("is unreachable"), "{error}");
}

/// A member whose network swallows everything, as after a partition.
#[tokio::test]
async fn a_silent_replica_is_left_out_until_it_answers() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let proxy = Proxy::start(two.port()).await;
    let members = [one.url(), two.url_via(proxy.port())].map(|url| config(&url).size(2));
    let cluster = warm(ClusterConfig::new(members)).await;
    proxy.stall();
    until_roles(&cluster, &[Role::Writer, Role::Unreachable]).await;
    assert_eq!(reader_port(&cluster).await, one.port());
    proxy.resume();
    until_roles(&cluster, &[Role::Writer, Role::Replica]).await;
    assert_eq!(reader_port(&cluster).await, two.port());
}

#[tokio::test]
async fn a_second_name_of_a_server_is_left_out() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let urls = [server.url(), server.url_via(proxy.port())];
    if server.flavor() == Flavor::MariaDb && !server.flavor().is_since(10, 10) {
        // It has no id of its own, so that both names are writers.
        return;
    }
    let cluster = warm(ClusterConfig::new(urls.map(|url| config(&url).size(1)))).await;
    until_roles(&cluster, &[Role::Writer, Role::Unusable]).await;
    assert_eq!(writer_port(&cluster).await, server.port());
    let report = cluster.warm_up().await.expect("warm");
    let same = ClusterWarning::SameServer {
        address: format!("127.0.0.1:{}", proxy.port()),
        same_as: format!("127.0.0.1:{}", server.port()),
    };
    assert!(report.warnings.contains(&same), "{report}");
}
