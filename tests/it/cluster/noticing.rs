//! How soon changes are noticed, and what does not count as one. The times are printed; the tests
//! assert ten times what is promised.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Error,
    cluster::{Cluster, ClusterConfig, Role},
    mysql_async::prelude::Queryable,
};
use test_support::{Proxy, Server, config, eventually, eventually_within};

use super::{
    address, make_read_only, make_writable, roles, settings, until_roles, warm, writer_port,
};

use Role::{Replica, Unreachable, Writer};

const TIMES: usize = 3;
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Ten times `check_every` and 500 ms.
const BOUND: Duration = Duration::from_secs(15);

async fn until(cluster: &Cluster, role: Role) -> Duration {
    let start = Instant::now();
    eventually_within(BOUND, "it is noticed", async || roles(cluster)[1] == role).await;
    start.elapsed()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!(
        "{what}: noticed after {:.0?}, of {times:.0?}",
        times[times.len() / 2]
    );
}

#[tokio::test]
async fn a_replica_that_fails_or_comes_back_is_noticed() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let proxy = Proxy::start(two.port()).await;
    let urls = [one.url(), two.url_via(proxy.port())];
    let members = urls.map(|url| config(&url).size(2));
    let cluster = warm(ClusterConfig::new(members).check_every(CHECK_EVERY)).await;
    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..TIMES {
        until_roles(&cluster, &[Writer, Replica]).await;
        proxy.refuse().await;
        proxy.cut().await;
        times[0].push(until(&cluster, Unreachable).await);
        proxy.accept_again().await;
        times[1].push(until(&cluster, Replica).await);

        proxy.stall();
        proxy.accept_and_stall();
        times[2].push(until(&cluster, Unreachable).await);
        proxy.resume();
        times[3].push(until(&cluster, Replica).await);

        let frozen = two.freeze().await;
        times[4].push(until(&cluster, Unreachable).await);
        frozen.thaw();
        times[5].push(until(&cluster, Replica).await);
    }
    let names = ["dead", "alive", "cut off", "reachable", "frozen", "thawed"];
    for (name, times) in names.into_iter().zip(times) {
        print(name, times);
    }
    assert_eq!(cluster.failovers(), 0);
}

/// The error of the statement triggers the question; none is due for an hour.
#[tokio::test]
async fn a_refused_write_has_all_members_asked_at_once() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    one.execute("CREATE TABLE test.entry (id INT AUTO_INCREMENT PRIMARY KEY)")
        .await;
    make_read_only(&[&two]).await;
    let hour = Duration::from_secs(60 * 60);
    let cluster = warm(settings(&[&one, &two]).check_every(hour)).await;
    until_roles(&cluster, &[Writer, Replica]).await;
    make_read_only(&[&one]).await;
    make_writable(&two).await;
    let mut conn = cluster.writer().await.expect("not noticed yet");
    let refused = conn.query_drop("INSERT INTO entry () VALUES ()").await;
    refused.expect_err("read-only");
    drop(conn);
    eventually("the writer moves", async || {
        writer_port(&cluster).await == two.port()
    })
    .await;
    until_roles(&cluster, &[Replica, Writer]).await;
    assert_eq!(cluster.failovers(), 1);
}

/// Its pool notices, and then the others are asked too.
#[tokio::test]
async fn a_killed_writer_is_replaced_although_no_question_is_due() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let hour = Duration::from_secs(60 * 60);
    let cluster = warm(settings(&[&one, &two]).check_every(hour)).await;
    until_roles(&cluster, &[Writer, Replica]).await;
    one.kill().await;
    drop(cluster.writer_within(Duration::from_millis(100)).await);
    until_roles(&cluster, &[Unreachable, Replica]).await;
    make_writable(&two).await;
    until_roles(&cluster, &[Unreachable, Writer]).await;
}

/// The connection is replaced within the question, unless the machine is very busy.
#[tokio::test]
async fn a_killed_monitor_connection_changes_no_role() {
    let server = Server::start().await;
    let often = Duration::from_millis(50);
    let cluster = warm(settings(&[&server]).check_every(often)).await;
    let own = pool_ids(&cluster, &server).await;
    let mut unnoticed = 0;
    for _ in 0..5 {
        let mut before = Vec::new();
        eventually("it is asked", async || {
            before = monitors(&server, &own).await;
            before.len() == 1 && roles(&cluster) == [Writer]
        })
        .await;
        server.execute(&format!("KILL {}", before[0])).await;
        let mut stays = true;
        eventually("it is asked on another connection", async || {
            stays &= roles(&cluster) == [Writer];
            let now = monitors(&server, &own).await;
            now.len() == 1 && now != before
        })
        .await;
        unnoticed += usize::from(stays);
        drop(cluster.writer().await.expect("a writer"));
        // It has been asked twice and more.
        tokio::time::sleep(4 * often).await;
    }
    println!("{unnoticed} of 5 without a change of the role");
    assert!(unnoticed > 0);
    assert_eq!(cluster.failovers(), 0);
}

/// The ids of the connections that the pool of this member has open.
async fn pool_ids(cluster: &Cluster, server: &Server) -> Vec<u64> {
    let pool = cluster.pool(&address(server)).expect("a member");
    let mut held = Vec::new();
    while held.len() < pool.status().open {
        held.push(pool.get().await.expect("a connection"));
    }
    held.iter().map(|conn| u64::from(conn.id())).collect()
}

/// The connections of the tests' user that are not these.
async fn monitors(server: &Server, own: &[u64]) -> Vec<u64> {
    let mut conn = server.admin().await;
    let question = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'app'";
    let mut ids: Vec<u64> = conn.query(question).await.expect("the ids");
    ids.retain(|id| !own.contains(id));
    ids
}

/// Others have taken all connections of the server when the monitor's is lost.
#[tokio::test]
async fn a_full_server_is_asked_on_the_pools_connections() {
    let server = Server::builder().max_connections(12).start().await;
    let members = [config(&server.url()).size(2).overflow(0)];
    let often = Duration::from_millis(50);
    let cluster = warm(ClusterConfig::new(members).check_every(often)).await;
    let own = pool_ids(&cluster, &server).await;
    let before = monitors(&server, &own).await;
    let others = test_support::pool(config(&server.url()).size(0).overflow(20));
    let mut taken = Vec::new();
    while let Ok(conn) = others.get_within(Duration::from_secs(1)).await {
        taken.push(conn);
    }
    server.execute("SET GLOBAL max_connections = 10").await;
    for id in &before {
        server.execute(&format!("KILL {id}")).await;
    }
    eventually("it is asked without a connection of its own", async || {
        drop(cluster.writer().await.expect("a writer"));
        monitors(&server, &own).await.len() == taken.len() && roles(&cluster) == [Writer]
    })
    .await;
    server.execute("SET GLOBAL max_connections = 12").await;
    drop(taken);
    others.close().await;
    eventually("the monitor has its own again", async || {
        monitors(&server, &own).await.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_slow_link_is_no_reason_to_be_unreachable() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    // A login and the first two questions take 400 ms and more.
    proxy.delay(Duration::from_millis(60));
    let members = [config(&server.url_via(proxy.port())).size(1).overflow(0)];
    let cluster = Cluster::new(ClusterConfig::new(members)).expect("valid settings");
    cluster.warm_up().await.expect("warm");
    drop(cluster.writer().await.expect("a writer"));
    assert_eq!(roles(&cluster), [Writer]);
}

/// Of two that take writes, none is chosen because it answers first.
#[tokio::test]
async fn the_first_writer_is_chosen_when_all_have_answered() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    let proxy = Proxy::start(one.port()).await;
    proxy.delay(Duration::from_millis(5));
    let members = [one.url_via(proxy.port()), two.url()].map(|url| config(&url).size(1));
    let cluster = Cluster::new(ClusterConfig::new(members)).expect("valid settings");
    let error = cluster.writer().await.expect_err("both take writes");
    assert!(matches!(error, Error::SeveralWriters { .. }), "{error}");
}
