//! A `MySQL` group (Group Replication, single primary) on loopback.

use std::time::Duration;

use futures_util::future::join_all;
use mysql_async::{Conn, prelude::Queryable};

use crate::ports::free_port;
use crate::server::{ADMIN, ADMIN_PASSWORD, Server};
use crate::{PATIENCE, eventually, eventually_within};

/// Three members. The first one is the primary at the start.
pub struct Group {
    /// The group's UUID.
    pub(crate) name: String,
    nodes: Vec<Server>,
}

impl Group {
    /// Expels a dead member after 6 s, instead of some 21 s.
    pub const EXPEL_SOON: &str = "--loose-group-replication-member-expel-timeout=0";

    /// Starts a group whose members have these options besides the usual ones. The others elect a
    /// new primary some 21 s after the primary died.
    pub async fn start(options: &[&str]) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let seeds = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let name = format!("5b2c91f0-6a3e-11ee-8c99-{:012x}", ports[0]);
        let servers = ports.into_iter().enumerate().map(async |(n, port)| {
            let name = &name;
            let seeds = &seeds;
            let mut builder = Server::builder().port(port);
            for option in [
                &format!("--server-id={}", n + 1),
                &format!("--report-port={port}"),
                &format!("--loose-group-replication-group-name={name}"),
                &format!("--loose-group-replication-local-address=127.0.0.1:{port}"),
                &format!("--loose-group-replication-group-seeds={seeds}"),
            ] {
                builder = builder.option(option);
            }
            for option in MEMBER.iter().chain(options) {
                builder = builder.option(option);
            }
            builder.start().await
        });
        let nodes = join_all(servers).await;
        let group = Self { name, nodes };
        let first = group.node(0);
        let bootstrap = "SET GLOBAL group_replication_bootstrap_group =";
        first.execute(&format!("{bootstrap} ON")).await;
        group.join(0).await;
        first.execute(&format!("{bootstrap} OFF")).await;
        for n in 1..3 {
            group.join(n).await;
        }
        group
    }

    /// One of the members, in the order of their start.
    pub fn node(&self, n: usize) -> &Server {
        self.nodes.get(n).expect("one of three")
    }

    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Lets a running server join, and waits until it is a member.
    pub async fn join(&self, n: usize) {
        // It may take longer than other statements of the tests.
        let mut conn = self.node(n).admin().await;
        let joined = conn.query_drop(join()).await;
        joined.unwrap_or_else(|error| panic!("it does not join: {error}"));
        eventually("it is a member", async || {
            self.states(n).await.contains(&"ONLINE".to_owned())
        })
        .await;
    }

    /// Makes a member the primary as planned, and waits until it is.
    pub async fn switchover(&self, to: usize) {
        let mut conn = self.node(to).admin().await;
        let id: Option<String> = conn
            .query_first("SELECT @@server_uuid")
            .await
            .expect("an id");
        let switch = format!(
            "SELECT group_replication_set_as_primary('{}')",
            id.expect("an id")
        );
        conn.query_drop(switch).await.expect("a new primary");
        self.new_primary(&[to]).await;
    }

    /// Starts a member that was killed or shut down, and lets it join. Its server takes writes
    /// until it joins.
    pub async fn start_again(&self, n: usize) {
        self.node(n).start_again().await;
        self.join(n).await;
    }

    /// The states of all members as this one sees them, its own first.
    pub async fn states(&self, n: usize) -> Vec<String> {
        let node = self.node(n);
        let states = format!(
            "SELECT member_state FROM performance_schema.replication_group_members \
             ORDER BY member_port <> {}",
            node.port()
        );
        let mut conn: Conn = node.admin().await;
        conn.query(states).await.expect("the members")
    }

    /// Waits until one of these members takes writes, and returns which.
    pub async fn new_primary(&self, among: &[usize]) -> usize {
        let mut primary = None;
        // A dead primary is expelled first; then the others elect one.
        let patience = PATIENCE + Duration::from_secs(30);
        eventually_within(patience, "there is a primary", async || {
            for &n in among {
                let mut conn = self.node(n).admin().await;
                let question = "SELECT @@global.super_read_only";
                let answer: Option<u8> = conn.query_first(question).await.expect("an answer");
                if answer == Some(0) {
                    primary = Some(n);
                }
            }
            primary.is_some()
        })
        .await;
        primary.expect("found")
    }
}

const MEMBER: [&str; 16] = [
    "--log-bin=binlog",
    "--relay-log=relay",
    "--log-replica-updates=ON",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--report-host=127.0.0.1",
    "--performance-schema=ON",
    "--plugin-load-add=group_replication.so",
    "--loose-group-replication-start-on-boot=OFF",
    "--loose-group-replication-communication-stack=MYSQL",
    "--loose-group-replication-ip-allowlist=127.0.0.0/8",
    "--loose-group-replication-recovery-get-public-key=ON",
    "--loose-group-replication-member-expel-timeout=1",
    "--sync-binlog=0",
    // What was committed outlives the process.
    "--innodb-flush-log-at-trx-commit=2",
    "--loose-group-replication-autorejoin-tries=0",
];

fn join() -> String {
    format!("START GROUP_REPLICATION USER='{ADMIN}', PASSWORD='{ADMIN_PASSWORD}'")
}
