//! What users see of a cluster: events, metrics, and reports as text and JSON, without secrets.

use std::time::Duration;

use mysql_warm_pool::{
    Error, Readiness,
    cluster::{Cluster, ClusterConfig, Role},
};
use test_support::{Server, config, eventually};
use tracing::Level;

use super::events::Listener;

/// Two servers of which the first takes writes, and their cluster.
async fn start() -> (Server, Server, Cluster) {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    read_only(&two, "ON").await;
    let members = [&one, &two].map(|server| config(&server.url()).size(1).overflow(1));
    let often = Duration::from_millis(100);
    let cluster = Cluster::new(ClusterConfig::new(members).check_every(often));
    (one, two, cluster.expect("valid settings"))
}

async fn read_only(server: &Server, value: &str) {
    server
        .execute(&format!("SET GLOBAL read_only = {value}"))
        .await;
}

async fn until_roles(cluster: &Cluster, expected: [Role; 2]) {
    eventually("the members have these roles", async || {
        let members = cluster.members();
        members.iter().map(|member| member.role).eq(expected)
    })
    .await;
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[tokio::test]
async fn every_change_of_role_is_logged() {
    let listener = Listener::default();
    let _guard = listener.listen();
    let (one, two, cluster) = start().await;
    cluster.warm_up().await.expect("warm");
    let finished = listener.of("cluster warm-up finished");
    assert_eq!(finished.len(), 1);
    read_only(&two, "OFF").await;
    eventually("it has two writers", async || {
        let outcome = cluster.writer_within(Duration::from_secs(1)).await;
        matches!(outcome, Err(Error::SeveralWriters { .. }))
    })
    .await;
    until_roles(&cluster, [Role::Writer, Role::Writer]).await;
    read_only(&one, "ON").await;
    until_roles(&cluster, [Role::Replica, Role::Writer]).await;
    one.kill().await;
    until_roles(&cluster, [Role::Unreachable, Role::Writer]).await;
    cluster.close().await;

    let several = listener.of("several members take writes");
    assert_eq!(several.len(), 1, "{several:?}");
    assert_eq!(several[0].level, Level::WARN);
    let both = [&one, &two].map(address).join(", ");
    assert_eq!(several[0].field("members"), both);
    let writers: Vec<_> = listener
        .of("writer changed")
        .iter()
        .map(|event| event.field("now").to_owned())
        .collect();
    assert_eq!(writers, [address(&one), address(&two)]);
    let changes: Vec<_> = listener
        .of("role changed")
        .into_iter()
        .filter(|event| event.field("member") == address(&one))
        .collect();
    let roles: Vec<_> = changes
        .iter()
        .map(|event| (event.level, event.field("was"), event.field("now")))
        .collect();
    assert_eq!(
        roles,
        [
            (Level::INFO, "unknown", "writer"),
            (Level::INFO, "writer", "replica"),
            (Level::WARN, "replica", "unreachable"),
        ]
    );
    assert!(!changes[2].field("reason").is_empty());
    let readiness = listener.of("readiness changed");
    let own: Vec<_> = readiness
        .iter()
        .filter(|event| event.fields.0.contains_key("cluster"))
        .collect();
    assert_eq!(own.last().expect("some").field("now"), "closed");
    for event in listener.events() {
        assert!(!format!("{event:?}").contains("s3cret"), "{event:?}");
    }
}

#[cfg(feature = "serde")]
#[tokio::test]
async fn health_and_report_are_json() {
    let (one, two, cluster) = start().await;
    let report = cluster.warm_up().await.expect("warm");
    let report = serde_json::to_value(&report).expect("JSON");
    assert_eq!(report["members"][0]["address"], address(&one));
    assert_eq!(report["members"][1]["role"], "replica");
    eventually("it is ready", async || {
        cluster.readiness() == Readiness::Ready
    })
    .await;
    let health = serde_json::to_value(cluster.health()).expect("JSON");
    assert_eq!(health["readiness"], "ready");
    assert!(
        health["since"].is_u64() || health["since"].is_f64(),
        "{health}"
    );
    let members = health["members"].as_array().expect("a list");
    let found: Vec<_> = members
        .iter()
        .map(|member| (&member["address"], &member["role"], &member["serves_reads"]))
        .collect();
    let expected = [
        (&address(&one).into(), &"writer".into(), &false.into()),
        (&address(&two).into(), &"replica".into(), &true.into()),
    ];
    assert_eq!(found, expected);
}

/// The accounts' passwords, and what a fault in a URL might show.
#[tokio::test]
async fn no_text_of_a_cluster_shows_a_password() {
    let server = Server::start().await;
    server.create_user("watcher", "s3cret", "").await;
    let good = config(&server.url_as("watcher", "s3cret")).size(1);
    let bad = config("mysql://watcher:s3cret@127.0.0.1:1/test").size(1);
    let settings = ClusterConfig::new([good, bad]);
    let mut texts = vec![format!("{settings:?}"), format!("{settings:#?}")];
    let cluster = Cluster::new(settings).expect("valid settings");
    let report = cluster.warm_up().await.expect("a writer is enough");
    texts.extend([report.to_string(), format!("{report:?}")]);
    texts.extend([format!("{cluster:?}"), format!("{:?}", cluster.config())]);
    texts.push(format!("{:?}", cluster.health()));
    for member in cluster.members() {
        texts.extend([member.to_string(), format!("{member:?}")]);
    }
    read_only(&server, "ON").await;
    eventually("there is no writer", async || {
        let members = cluster.members();
        members.iter().all(|member| member.role != Role::Writer)
    })
    .await;
    let error = cluster
        .writer_within(Duration::from_millis(50))
        .await
        .expect_err("no writer");
    texts.extend([error.to_string(), format!("{error:?}")]);
    for text in texts {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[cfg(feature = "metrics")]
mod exported {
    use std::{
        collections::BTreeMap,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering},
        },
    };

    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
        set_default_local_recorder,
    };

    use super::*;

    /// Keeps the cluster's own gauges and counters, by name and label.
    #[derive(Default)]
    struct Recorded(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Recorded {
        fn entry(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            Arc::clone(self.0.lock().expect("no panic").entry(name).or_default())
        }

        fn bits(&self, name: &str) -> Option<u64> {
            let all = self.0.lock().expect("no panic");
            all.get(name).map(|value| value.load(Ordering::Relaxed))
        }

        fn gauge(&self, name: &str) -> Option<f64> {
            self.bits(name).map(f64::from_bits)
        }
    }

    impl Recorder for Recorded {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.entry(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.entry(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[tokio::test]
    async fn roles_lag_and_failovers_are_exported() {
        let recorded = Recorded::default();
        let _guard = set_default_local_recorder(&recorded);
        let (one, two, cluster) = start().await;
        let name = [&one, &two].map(address).join(",");
        let failovers = format!("mysql_warm_pool.cluster.failovers {name}");
        assert_eq!(recorded.bits(&failovers), Some(0));
        cluster.warm_up().await.expect("warm");
        let role = |server: &Server| {
            let name = format!("mysql_warm_pool.cluster.role {}/test", address(server));
            recorded.gauge(&name)
        };
        let lag = |server: &Server| {
            let name = format!("mysql_warm_pool.cluster.lag {}/test", address(server));
            recorded.gauge(&name)
        };
        assert_eq!((role(&one), role(&two)), (Some(4.0), Some(3.0)));
        assert_eq!(lag(&one), Some(0.0));
        assert!(lag(&two).is_some_and(f64::is_nan), "it does not replicate");
        read_only(&one, "ON").await;
        until_roles(&cluster, [Role::Replica, Role::Replica]).await;
        read_only(&two, "OFF").await;
        until_roles(&cluster, [Role::Replica, Role::Writer]).await;
        one.kill().await;
        until_roles(&cluster, [Role::Unreachable, Role::Writer]).await;
        assert_eq!((role(&one), role(&two)), (Some(0.0), Some(4.0)));
        assert_eq!(recorded.bits(&failovers), Some(1));
        assert_eq!(cluster.failovers(), 1);
    }
}
