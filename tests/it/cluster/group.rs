//! Group Replication: which members are used, and who takes writes, whatever a member that was cut
//! off answers.

use std::time::Duration;

use mysql_warm_pool::{
    Error,
    cluster::{Cluster, ClusterConfig, ClusterWarning, Role},
    mysql_async::prelude::Queryable,
};
use test_support::{Flavor, Group, config, eventually, eventually_within, skip};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    address,
    load::{Load, TABLES},
    roles,
    transactions::conflicts_are_repeated,
    until_roles, warm, writer_port,
};

use Role::{Replica, Unusable, Writer};

const USER: &str = "watcher";
const PASSWORD: &str = "w4tcher";
const TABLE: &str = "performance_schema.replication_group_members";
/// Losing a member, and electing a primary, take up to 21 s.
const LONG: Duration = Duration::from_secs(90);

/// A group needs 2 GB.
async fn one_at_a_time() -> Option<MutexGuard<'static, ()>> {
    static ONE_GROUP: Mutex<()> = Mutex::const_new(());
    if Flavor::chosen() == Flavor::MariaDb {
        skip("Group Replication is MySQL's");
        return None;
    }
    Some(ONE_GROUP.lock().await)
}

/// The settings of an account that may read what these say, besides its own schema.
async fn settings(group: &Group, user: &str, grants: &[&str]) -> ClusterConfig {
    let primary = group.node(0);
    primary.create_user(user, PASSWORD, "").await;
    for grant in grants {
        primary
            .execute(&format!("GRANT {grant} TO {user}@'%'"))
            .await;
    }
    for node in group.nodes() {
        eventually("it has the account and its rights", async || {
            let mut conn = node.admin().await;
            let rights = format!("SHOW GRANTS FOR {user}@'%'");
            let rights: Vec<String> = conn.query(rights).await.unwrap_or_default();
            rights.len() >= 2 + grants.len()
        })
        .await;
    }
    let nodes = group.nodes().iter();
    let members = nodes.map(|node| config(&node.url_as(user, PASSWORD)).size(2).overflow(2));
    ClusterConfig::new(members).check_every(Duration::from_millis(200))
}

const ALL: [&str; 1] = ["SELECT ON performance_schema.*"];

/// Waits until the members have these roles; meanwhile there is never another writer than this one.
async fn until_roles_with(cluster: &Cluster, expected: &[Role], writer: u16) {
    eventually_within(LONG, "the members have these roles", async || {
        match cluster.writer_within(Duration::from_millis(100)).await {
            Ok(mut conn) => {
                let port = conn.query_first::<u16, _>("SELECT @@port").await;
                assert!(port.is_err() || port.ok().flatten() == Some(writer));
            }
            Err(error) => assert!(!matches!(error, Error::SeveralWriters { .. }), "{error}"),
        }
        roles(cluster) == expected
    })
    .await;
}

fn reason(cluster: &Cluster, n: usize) -> String {
    let members = cluster.members();
    members[n].last_error.clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_used_only_while_it_is_online() {
    let Some(_turn) = one_at_a_time().await else {
        return;
    };
    let group = Group::start(&[]).await;
    let cluster = warm(settings(&group, USER, &ALL).await).await;
    let first = group.node(0).port();
    until_roles_with(&cluster, &[Writer, Replica, Replica], first).await;
    eventually("their lag is known", async || {
        let members = cluster.members();
        members
            .iter()
            .all(|member| member.lag == Some(Duration::ZERO))
    })
    .await;
    let report = cluster.warm_up().await.expect("warm");
    assert!(report.warnings.is_empty(), "{report}");

    // It takes writes on its own, and must not be the writer.
    group.node(2).shutdown().await;
    group.node(2).start_again().await;
    until_roles_with(&cluster, &[Writer, Replica, Unusable], first).await;
    let mut alone = group.node(2).admin().await;
    let read_only = alone.query_first("SELECT @@global.super_read_only").await;
    assert_eq!(read_only.expect("an answer"), Some(0_u8));
    assert_eq!(reason(&cluster, 2), "not online in its group: OFFLINE");
    group.join(2).await;
    until_roles_with(&cluster, &[Writer, Replica, Replica], first).await;
    assert_eq!(cluster.failovers(), 0);

    // An account without the right.
    let blind = settings(&group, "blind", &[]).await;
    let blind = warm(blind).await;
    let report = blind.warm_up().await.expect("warm");
    let grant = format!("GRANT SELECT ON {TABLE} TO 'blind'@'%'");
    for node in group.nodes() {
        let warning = ClusterWarning::GroupUnknown {
            address: address(node),
            grant: grant.clone(),
        };
        assert!(report.warnings.contains(&warning), "{report}");
    }
    assert_eq!(writer_port(&blind).await, first);

    // One URL is enough.
    let one = settings_of_one(&group);
    let found = warm(one).await;
    eventually("the others are members", async || {
        let mut ports: Vec<_> = found
            .members()
            .into_iter()
            .map(|member| member.address)
            .collect();
        ports.sort();
        let mut nodes: Vec<_> = group.nodes().iter().map(address).collect();
        nodes.sort();
        ports == nodes && roles(&found).iter().all(|role| role.number() >= 3)
    })
    .await;
    assert_eq!(writer_port(&found).await, first);
}

fn settings_of_one(group: &Group) -> ClusterConfig {
    let member = config(&group.node(1).url_as(USER, PASSWORD)).size(2);
    ClusterConfig::new([member])
        .discover(true)
        .check_every(Duration::from_millis(200))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; scripts/check-release runs it"]
async fn a_minority_takes_no_writes() {
    let Some(_turn) = one_at_a_time().await else {
        return;
    };
    let group = Group::start(&[
        "--loose-group-replication-unreachable-majority-timeout=10",
        "--loose-group-replication-exit-state-action=READ_ONLY",
    ])
    .await;
    let cluster = warm(settings(&group, USER, &ALL).await).await;
    let first = group.node(0).port();
    until_roles_with(&cluster, &[Writer, Replica, Replica], first).await;
    {
        let _frozen = (group.node(1).freeze().await, group.node(2).freeze().await);
        eventually_within(LONG, "it has lost its quorum", async || {
            reason(&cluster, 0) == "no quorum in its group: 1 of 3 members reachable"
        })
        .await;
        let error = cluster
            .writer_within(Duration::from_millis(100))
            .await
            .expect_err("a minority");
        assert!(matches!(error, Error::NoWriter { .. }), "{error}");
        eventually_within(LONG, "it leaves its group", async || {
            reason(&cluster, 0) == "not online in its group: ERROR"
        })
        .await;
    }
    // The other two are a majority.
    eventually_within(LONG, "another one takes writes", async || {
        matches!(
            roles(&cluster)[..],
            [Unusable, Writer, Replica] | [Unusable, Replica, Writer]
        )
    })
    .await;
    assert_eq!(cluster.failovers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; scripts/check-release runs it"]
async fn a_thawed_primary_is_not_taken_for_the_writer() {
    let Some(_turn) = one_at_a_time().await else {
        return;
    };
    let group = Group::start(&[]).await;
    for table in TABLES {
        group.node(0).execute(table).await;
    }
    let cluster = warm(settings(&group, USER, &ALL).await).await;
    until_roles(&cluster, &[Writer, Replica, Replica]).await;
    let load = Load::start(&cluster);
    load.write(100).await;
    // As planned, first.
    let mut conn = group.node(1).admin().await;
    let id: Option<String> = conn
        .query_first("SELECT @@server_uuid")
        .await
        .expect("an id");
    let switch = format!(
        "SELECT group_replication_set_as_primary('{}')",
        id.expect("an id")
    );
    conn.query_drop(switch).await.expect("a new primary");
    until_roles(&cluster, &[Replica, Writer, Replica]).await;
    load.write(100).await;
    let frozen = group.node(1).freeze().await;
    let new = group.new_primary(&[0, 2]).await;
    eventually_within(LONG, "it is the writer", async || {
        roles(&cluster)[new] == Writer
    })
    .await;
    load.write(100).await;
    frozen.thaw();
    eventually_within(LONG, "the old one has left its group", async || {
        let role = roles(&cluster)[1];
        assert_ne!(role, Writer);
        assert_eq!(roles(&cluster)[new], Writer);
        role == Unusable
    })
    .await;
    let account = load.stop().await;
    let rows = account.is_kept_by(group.node(new)).await;
    println!("{} writes, {} kept", account.acknowledged.len(), rows.len());
    assert_eq!(cluster.failovers(), 2);
}

async fn several_primaries() -> Group {
    let group = Group::start(&[]).await;
    let mut conn = group.node(0).admin().await;
    let switch = "SELECT group_replication_switch_to_multi_primary_mode()";
    conn.query_drop(switch).await.expect("several primaries");
    group
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute; scripts/check-release runs it"]
async fn of_several_primaries_one_is_written_to() {
    let Some(_turn) = one_at_a_time().await else {
        return;
    };
    let group = several_primaries().await;
    let cluster = warm(settings(&group, USER, &ALL).await).await;
    until_roles(&cluster, &[Writer, Replica, Replica]).await;
    for _ in 0..10 {
        assert_eq!(writer_port(&cluster).await, group.node(0).port());
    }
    assert_ne!(super::reader_port(&cluster).await, group.node(0).port());
    let mut leaving = group.node(0).admin().await;
    leaving
        .query_drop("STOP GROUP_REPLICATION")
        .await
        .expect("it leaves");
    until_roles(&cluster, &[Unusable, Writer, Replica]).await;
    assert_eq!(writer_port(&cluster).await, group.node(1).port());
    group.join(0).await;
    until_roles(&cluster, &[Replica, Writer, Replica]).await;
    assert_eq!(cluster.failovers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_of_several_primaries_is_repeated() {
    let Some(_turn) = one_at_a_time().await else {
        return;
    };
    let group = several_primaries().await;
    let first = settings(&group, USER, &ALL).await;
    let mut members = first.members.clone();
    members.swap(0, 1);
    let second = warm(ClusterConfig::new(members)).await;
    conflicts_are_repeated(group.nodes(), &warm(first).await, &second).await;
}
