//! What users see of a cluster: events, metrics, and reports as text and JSON, without secrets.

use std::time::Duration;

use mysql_warm_pool::{
    Error,
    cluster::{Cluster, ClusterConfig, Role},
};
use test_support::{Server, config, eventually};
use tracing::Level;

use super::events::Listener;

/// Two servers of which the first takes writes, and their cluster.
pub(super) async fn start() -> (Server, Server, Cluster) {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    read_only(&two, "ON").await;
    let members = [&one, &two].map(|server| config(&server.url()).size(1).overflow(1));
    let often = Duration::from_millis(100);
    let cluster = Cluster::new(ClusterConfig::new(members).check_every(often));
    (one, two, cluster.expect("valid settings"))
}

pub(super) async fn read_only(server: &Server, value: &str) {
    server
        .execute(&format!("SET GLOBAL read_only = {value}"))
        .await;
}

pub(super) async fn until_roles(cluster: &Cluster, expected: [Role; 2]) {
    eventually("the members have these roles", async || {
        let members = cluster.members();
        members.iter().map(|member| member.role).eq(expected)
    })
    .await;
}

pub(super) fn address(server: &Server) -> String {
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
        cluster.readiness() == mysql_warm_pool::Readiness::Ready
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
