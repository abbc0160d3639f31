//! What a server sees while members fail and come back: no storm, and never more than the limit.

use std::time::{Duration, Instant};

use mysql_warm_pool::cluster::{ClusterConfig, Role};
use test_support::{Proxy, Server, config, eventually};
use tokio::{task::JoinSet, time::sleep};

use super::{make_read_only, until_roles, warm};

const SIZE: usize = 3;
const OVERFLOW: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_refuses_sees_no_storm_and_no_more_than_its_limit() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    make_read_only(&[&two]).await;
    let (first, second) = tokio::join!(Proxy::start(one.port()), Proxy::start(two.port()));
    let proxies = [&first, &second];
    let urls = [one.url_via(first.port()), two.url_via(second.port())];
    let members = urls.map(|url| config(&url).size(SIZE).overflow(OVERFLOW));
    let cluster = warm(ClusterConfig::new(members)).await;
    let mut callers = JoinSet::new();
    for n in 0..60 {
        let cluster = cluster.clone();
        callers.spawn(async move {
            loop {
                let within = Duration::from_millis(500);
                let got = match n % 3 {
                    0 => cluster.writer_within(within).await,
                    _ => cluster.reader_within(within).await,
                };
                match got {
                    Ok(mut conn) => drop(conn.query_drop("SELECT 1").await),
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    for proxy in proxies {
        // It accepts, and closes at once.
        let before = proxy.accepted();
        proxy.accept_and_close();
        proxy.cut().await;
        let began = Instant::now();
        sleep(Duration::from_secs(3)).await;
        let attempts = proxy.accepted() - before;
        println!(
            "{attempts} attempts in {:.1?} under 60 callers",
            began.elapsed()
        );
        // The monitor makes some 4 a second, the pool fewer and fewer.
        assert!(attempts <= 150, "{attempts}");
        proxy.forward();
        until_roles(&cluster, &[Role::Writer, Role::Replica]).await;

        proxy.stall();
        sleep(Duration::from_secs(1)).await;
        proxy.resume();
        until_roles(&cluster, &[Role::Writer, Role::Replica]).await;

        proxy.refuse().await;
        proxy.cut().await;
        sleep(Duration::from_millis(500)).await;
        proxy.accept_again().await;
        until_roles(&cluster, &[Role::Writer, Role::Replica]).await;
    }
    eventually("callers are served by both", async || {
        let busy = cluster.members();
        busy.iter().all(|member| member.readiness.is_serving())
    })
    .await;
    callers.shutdown().await;
    for proxy in proxies {
        let peak = proxy.peak().await;
        println!("at most {peak} connections");
        assert!(peak <= SIZE + OVERFLOW + 1, "{peak}");
    }
}
