//! A cluster warms up, reports its readiness and closes as a pool does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use mysql_warm_pool::{
    Error, Readiness,
    cluster::{Cluster, ClusterConfig, Role},
    config::{Credentials, CredentialsSource},
};
use test_support::{Elsewhere, Server, config, eventually, free_port};

use super::{make_read_only, settings, until_roles, warm, writer_port};

#[tokio::test]
async fn one_server_is_a_cluster_of_one() {
    let server = Server::start().await;
    let cluster = Cluster::new(settings(&[&server])).expect("valid settings");
    assert_eq!(cluster.readiness(), Readiness::Cold);
    let mut watch = cluster.watch();
    let (report, ready) = tokio::join!(cluster.warm_up(), cluster.wait_ready());
    let report = report.expect("warm");
    ready.expect("ready");
    assert!(report.is_complete(), "{report}");
    assert_eq!(cluster.readiness(), Readiness::Ready);
    while watch.changed().await != Readiness::Ready {}
    assert_eq!(writer_port(&cluster).await, server.port());
    let mut conn = cluster.reader().await.expect("a reader");
    assert_eq!(super::port(&mut conn).await, server.port());
    drop(conn);

    let report = cluster.close().await;
    assert_eq!((report.drained, report.cut), (2, 0));
    assert_eq!(cluster.close().await, report);
    assert_eq!(watch.changed().await, Readiness::Closed);
    for error in [
        cluster.writer().await.expect_err("closed"),
        cluster.reader().await.expect_err("closed"),
        cluster.warm_up().await.expect_err("closed"),
        cluster.wait_ready().await.expect_err("closed"),
    ] {
        assert!(matches!(error, Error::Closed), "{error}");
    }
    eventually("all are closed", async || {
        server.threads_connected().await == 0
    })
    .await;
}

#[tokio::test]
async fn a_missing_member_makes_it_degraded_and_delays_nothing() {
    let server = Server::start().await;
    let nobody = format!("mysql://app@127.0.0.1:{}/test", free_port());
    let members = [server.url(), nobody].map(|url| config(&url).size(2));
    let cluster = Cluster::new(ClusterConfig::new(members)).expect("valid settings");
    let start = Instant::now();
    let report = cluster.warm_up().await.expect("a writer is enough");
    // The longest time of its own is 30 s.
    assert!(start.elapsed() < Duration::from_secs(15), "{report}");
    assert!(!report.is_complete(), "{report}");
    assert_eq!(report.members[1].role, Role::Unreachable);
    assert!(report.members[1].error.is_some(), "{report}");
    assert_eq!(cluster.readiness(), Readiness::Degraded);
    assert!(cluster.health().members[1].last_error.is_some());
    assert_eq!(writer_port(&cluster).await, server.port());
}

#[tokio::test]
async fn readiness_follows_the_writer() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    let becomes = async |readiness| {
        eventually("the readiness", async || cluster.readiness() == readiness).await;
    };
    becomes(Readiness::Ready).await;
    two.kill().await;
    becomes(Readiness::Degraded).await;
    two.start_again().await;
    make_read_only(&[&two]).await;
    becomes(Readiness::Ready).await;
    one.kill().await;
    becomes(Readiness::Unavailable).await;
    assert!(!cluster.readiness().is_serving());
    // Reads still work.
    drop(cluster.reader().await.expect("a reader"));
    one.start_again().await;
    becomes(Readiness::Ready).await;
}

#[tokio::test]
async fn a_wrong_password_ends_the_warm_up_at_once() {
    let server = Server::start().await;
    let cluster = Cluster::new(ClusterConfig::new([config(&server.url_as("app", "wrong"))]))
        .expect("valid settings");
    let start = Instant::now();
    let error = cluster.warm_up().await.expect_err("no login");
    assert!(start.elapsed() < Duration::from_secs(15), "{error}");
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("1045"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_server_sees_its_limit_and_one_more() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(cluster.writer().await.expect("a writer"));
        held.push(cluster.reader().await.expect("a reader"));
    }
    for server in [&one, &two] {
        eventually("the limit, and the monitor's", async || {
            server.threads_connected().await == 5
        })
        .await;
    }
    let error = cluster
        .writer_within(Duration::from_millis(20))
        .await
        .expect_err("exhausted");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");

    cluster.resize(1, 0).expect("valid");
    drop(held);
    for server in [&one, &two] {
        eventually("the new limit, and the monitor's", async || {
            server.threads_connected().await == 2
        })
        .await;
    }
    assert!(matches!(cluster.resize(0, 0), Err(Error::Config(_))));
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing_on_the_servers() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let cluster = warm(settings(&[&one, &two])).await;
    until_roles(&cluster, &[Role::Writer, Role::Replica]).await;
    drop(cluster);
    for server in [&one, &two] {
        eventually("nothing is left", async || {
            server.threads_connected().await == 0
        })
        .await;
    }
}

/// Tests have a runtime each; a cluster in a `static` outlives them.
#[test]
fn it_moves_to_another_runtime() {
    let start = || tokio::runtime::Runtime::new().expect("a runtime");
    let first = start();
    let (cluster, server) = first.block_on(async {
        let server = Server::start().await;
        (warm(settings(&[&server])).await, server)
    });
    drop(first);
    start().block_on(async {
        assert_eq!(writer_port(&cluster).await, server.port());
        make_read_only(&[&server]).await;
        until_roles(&cluster, &[Role::Replica]).await;
        drop(cluster);
        eventually("nothing is left", async || {
            server.threads_connected().await == 0
        })
        .await;
    });
}

/// The monitors live on the first runtime, and callers on another are served.
#[test]
fn two_runtimes_share_it() {
    let other = Elsewhere::start();
    let own = tokio::runtime::Runtime::new().expect("a runtime");
    let (cluster, one, two) = own.block_on(async {
        let (one, two) = tokio::join!(Server::start(), Server::start());
        make_read_only(&[&two]).await;
        (warm(settings(&[&one, &two])).await, one, two)
    });
    let shared = cluster.clone();
    let there = other.block_on(async move {
        let ports = (
            writer_port(&shared).await,
            super::reader_port(&shared).await,
        );
        drop(shared);
        ports
    });
    assert_eq!(there, (one.port(), two.port()));
    own.block_on(async {
        assert_eq!(writer_port(&cluster).await, one.port());
    });
    // It moves, and asks anew before it names a writer.
    drop(own);
    let third = tokio::runtime::Runtime::new().expect("a runtime");
    third.block_on(async {
        make_read_only(&[&one]).await;
        super::make_writable(&two).await;
    });
    let shared = cluster.clone();
    let there = other.block_on(async move { writer_port(&shared).await });
    assert_eq!(there, two.port());
    third.block_on(until_roles(&cluster, &[Role::Replica, Role::Writer]));
}

/// It takes longer than the monitor waits for an attempt to connect, and panics once.
#[tokio::test]
async fn a_slow_source_of_credentials_hurts_nobody() {
    let server = Server::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let opts = config(&server.url());
    let (user, password) = {
        let opts = opts.opts();
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        (text(opts.user()), text(opts.pass()))
    };
    let source = CredentialsSource::new(move || {
        let (user, password) = (user.clone(), password.clone());
        let turn = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert!(turn != 0, "the first is a panic");
            Ok::<_, std::io::Error>(Credentials::new(user, password))
        }
    });
    let member = opts.size(1).overflow(0).credentials(source);
    let cluster = Cluster::new(ClusterConfig::new([member])).expect("valid settings");
    eventually("it is warm", async || cluster.warm_up().await.is_ok()).await;
    assert_eq!(writer_port(&cluster).await, server.port());
    until_roles(&cluster, &[Role::Writer]).await;
}

#[test]
fn outside_of_a_runtime_there_is_an_error() {
    let url = "mysql://app@127.0.0.1,127.0.0.2/test";
    let config = ClusterConfig::from_url(url).expect("a good URL");
    let cluster = Cluster::new(config).expect("no runtime needed");
    let outcome = cluster.writer().now_or_never();
    assert!(matches!(outcome, Some(Err(Error::NoRuntime))));
}
