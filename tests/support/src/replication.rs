//! A primary and replicas of it, on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, Row, Value};

use crate::eventually;
use crate::ports::free_port;
use crate::server::{ADMIN, ADMIN_PASSWORD, Flavor, Server};

/// A primary that takes writes, and replicas that are read-only for the tests' user. Every server
/// starts read-only, even a former primary.
///
/// Replicas connect to their primary as another user: [`Server::threads_connected`] counts them,
/// [`Server::connections_of`] does not.
pub struct Replication {
    nodes: Vec<Server>,
    primary: AtomicUsize,
    semi_synchronous: bool,
}

impl Replication {
    /// Starts a primary, which is node 0, and its replicas.
    pub async fn start(replicas: usize) -> Self {
        Self::start_with(replicas, &[], false).await
    }

    /// As [`start`](Self::start), with semi-synchronous replication: a commit returns once a
    /// replica has the transaction, or after a minute. So no acknowledged write is lost if the most
    /// advanced replica is promoted.
    pub async fn start_semi_synchronous(replicas: usize) -> Self {
        let options: &[&str] = match Flavor::chosen() {
            Flavor::MariaDb => &[
                "--rpl-semi-sync-slave-enabled=ON",
                "--rpl-semi-sync-master-timeout=60000",
                "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
            ],
            Flavor::MySql => &[
                "--plugin-load-add=semisync_source.so",
                "--plugin-load-add=semisync_replica.so",
                "--loose-rpl-semi-sync-replica-enabled=ON",
                "--loose-rpl-semi-sync-source-timeout=60000",
            ],
        };
        Self::start_with(replicas, options, true).await
    }

    async fn start_with(replicas: usize, options: &[&str], semi_synchronous: bool) -> Self {
        let own: &[&str] = match Flavor::chosen() {
            Flavor::MariaDb => &[
                "--log-slave-updates=ON",
                "--gtid-strict-mode=ON",
                "--slave-net-timeout=4",
                "--read-only=ON",
            ],
            Flavor::MySql => &[
                "--log-replica-updates=ON",
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--replica-net-timeout=4",
                "--super-read-only=ON",
            ],
        };
        let both = [
            "--log-bin=binlog",
            "--relay-log=relay",
            "--sync-binlog=0",
            // Commits survive the process.
            "--innodb-flush-log-at-trx-commit=2",
        ];
        let servers = (1..=replicas + 1).map(async |id| {
            let port = free_port();
            let mut builder = Server::builder().port(port);
            for option in both.iter().chain(own).chain(options) {
                builder = builder.option(option);
            }
            builder
                .option(&format!("--server-id={id}"))
                .option("--report-host=127.0.0.1")
                .option(&format!("--report-port={port}"))
                .start()
                .await
        });
        let cluster = Self {
            nodes: join_all(servers).await,
            primary: AtomicUsize::new(0),
            semi_synchronous,
        };
        cluster.lead(0).await;
        join_all((1..=replicas).map(|n| cluster.follow(n))).await;
        for n in 1..=replicas {
            cluster.wait_following(n).await;
        }
        cluster
    }

    /// One of the servers, in the order of their start.
    pub fn node(&self, n: usize) -> &Server {
        self.nodes.get(n).expect("one of the servers")
    }

    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The number of the server that was last made the primary.
    pub fn primary(&self) -> usize {
        self.primary.load(Ordering::SeqCst)
    }

    /// Makes a replica the primary as planned: the old primary takes no more writes, the new one
    /// applies all of them, then takes writes. All others follow it.
    pub async fn switchover(&self, to: usize) {
        let old = self.primary();
        self.set_read_only(old, true).await;
        self.wait_applied(to, &self.position(old).await).await;
        self.lead(to).await;
        for n in self.others(to) {
            if self.node(n).is_running().await {
                self.follow(n).await;
            }
        }
    }

    /// Makes a replica the primary after the old one was killed, once it has applied all it has
    /// received. The other running replicas follow it. The old primary is left as it is: if it
    /// still runs, it goes on taking writes.
    pub async fn promote(&self, to: usize) {
        let old = self.primary();
        self.start_applying(to).await;
        self.apply_received(to).await;
        self.lead(to).await;
        for n in self.others(to).filter(|n| *n != old) {
            if self.node(n).is_running().await {
                self.follow(n).await;
            }
        }
    }

    /// The running replica that has received the most.
    pub async fn most_advanced(&self) -> usize {
        let mut best = None;
        for n in self.others(self.primary()) {
            if !self.node(n).is_running().await {
                continue;
            }
            let received = self.apply_received(n).await;
            if best.is_none_or(|(most, _)| received > most) {
                best = Some((received, n));
            }
        }
        best.expect("a running replica").1
    }

    /// Makes a former primary, or a replica that was killed, follow the primary; starts it if it
    /// does not run. If it has writes that the primary lacks, they are lost: all data are copied to
    /// it again, and it is unreachable meanwhile.
    pub async fn rejoin(&self, n: usize) {
        assert_ne!(n, self.primary(), "it is the primary");
        if self.node(n).is_running().await {
            self.set_read_only(n, true).await;
        } else {
            self.node(n).start_again().await;
        }
        if self.has_writes_of_its_own(n).await {
            self.rebuild(n).await;
        } else {
            self.follow(n).await;
        }
        self.wait_following(n).await;
    }

    /// Starts the primary again after it was killed, as the primary.
    pub async fn start_primary_again(&self) {
        let primary = self.primary();
        self.node(primary).start_again().await;
        self.wait_for_replicas(primary, true).await;
        self.set_read_only(primary, false).await;
    }

    /// Makes a replica writable while the primary still is: two servers take writes.
    pub async fn split(&self, n: usize) {
        self.set_read_only(n, false).await;
    }

    /// Ends [`Replication::split`]: what was written on the replica is lost.
    pub async fn heal(&self, n: usize) {
        self.rejoin(n).await;
    }

    /// Stops a replica from applying what it receives. From then on it reports no lag.
    pub async fn stop_applying(&self, n: usize) {
        let stop = match self.node(n).flavor() {
            Flavor::MariaDb => "STOP SLAVE SQL_THREAD",
            Flavor::MySql => "STOP REPLICA SQL_THREAD",
        };
        self.node(n).execute(stop).await;
    }

    /// Ends [`Replication::stop_applying`]; does not wait until the replica has caught up.
    pub async fn start_applying(&self, n: usize) {
        let start = match self.node(n).flavor() {
            Flavor::MariaDb => "START SLAVE SQL_THREAD",
            Flavor::MySql => "START REPLICA SQL_THREAD",
        };
        self.node(n).execute(start).await;
    }

    /// Makes a replica apply each write this much later, in whole seconds: its lag grows up to this
    /// from the next write on. Zero ends it.
    pub async fn delay(&self, n: usize, by: Duration) {
        let seconds = by.as_secs();
        let node = self.node(n);
        let statements = match node.flavor() {
            Flavor::MariaDb => [
                "STOP SLAVE".to_owned(),
                format!("CHANGE MASTER TO MASTER_DELAY = {seconds}"),
                "START SLAVE".to_owned(),
            ],
            Flavor::MySql => [
                "STOP REPLICA".to_owned(),
                format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}"),
                "START REPLICA".to_owned(),
            ],
        };
        for statement in statements {
            node.execute(&statement).await;
        }
    }

    /// Waits until every running replica has applied all that the primary has written so far.
    pub async fn wait_caught_up(&self) {
        let position = self.position(self.primary()).await;
        for n in self.others(self.primary()) {
            if self.node(n).is_running().await {
                self.wait_applied(n, &position).await;
            }
        }
    }

    /// The right that lets a user read how far a replica is behind.
    pub fn right_to_read_lag() -> &'static str {
        match Flavor::chosen() {
            Flavor::MariaDb => "SLAVE MONITOR",
            Flavor::MySql => "REPLICATION CLIENT",
        }
    }

    fn others(&self, than: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |n| *n != than)
    }

    async fn set_read_only(&self, n: usize, on: bool) {
        let node = self.node(n);
        let statement = match (node.flavor(), on) {
            (Flavor::MySql, true) => "SET GLOBAL super_read_only = ON",
            (Flavor::MariaDb, true) => "SET GLOBAL read_only = ON",
            (_, false) => "SET GLOBAL read_only = OFF",
        };
        node.execute(statement).await;
    }

    /// Sets whether commits on this server wait for a replica. On a replica they would wait for
    /// ever.
    async fn wait_for_replicas(&self, n: usize, on: bool) {
        if !self.semi_synchronous {
            return;
        }
        let variable = match self.node(n).flavor() {
            Flavor::MariaDb => "rpl_semi_sync_master_enabled",
            Flavor::MySql => "rpl_semi_sync_source_enabled",
        };
        let statement = format!("SET GLOBAL {variable} = {on}");
        self.node(n).execute(&statement).await;
    }

    /// Makes a server the primary.
    async fn lead(&self, n: usize) {
        let node = self.node(n);
        let statements = match node.flavor() {
            Flavor::MariaDb => ["STOP SLAVE", "RESET SLAVE ALL"],
            Flavor::MySql => ["STOP REPLICA", "RESET REPLICA ALL"],
        };
        for statement in statements {
            node.execute(statement).await;
        }
        self.wait_for_replicas(n, true).await;
        self.set_read_only(n, false).await;
        self.primary.store(n, Ordering::SeqCst);
    }

    /// Makes a server a replica of the primary.
    async fn follow(&self, n: usize) {
        self.wait_for_replicas(n, false).await;
        let node = self.node(n);
        let primary = self.node(self.primary());
        let port = primary.port();
        let tls = u8::from(primary.requires_tls());
        let statements = match node.flavor() {
            Flavor::MariaDb => vec![
                "STOP SLAVE".to_owned(),
                // A former primary has also what it has written itself.
                "SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos".to_owned(),
                format!(
                    "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, \
                     MASTER_USER = '{ADMIN}', MASTER_PASSWORD = '{ADMIN_PASSWORD}', \
                     MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_SSL = {tls}, \
                     MASTER_SSL_VERIFY_SERVER_CERT = 0"
                ),
                "START SLAVE".to_owned(),
            ],
            Flavor::MySql => vec![
                "STOP REPLICA".to_owned(),
                format!(
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', \
                     SOURCE_PORT = {port}, SOURCE_USER = '{ADMIN}', \
                     SOURCE_PASSWORD = '{ADMIN_PASSWORD}', SOURCE_AUTO_POSITION = 1, \
                     SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 86400, SOURCE_SSL = {tls}, \
                     GET_SOURCE_PUBLIC_KEY = 1"
                ),
                "START REPLICA".to_owned(),
            ],
        };
        for statement in statements {
            node.execute(&statement).await;
        }
    }

    async fn wait_following(&self, n: usize) {
        let [receiving, applying] = match self.node(n).flavor() {
            Flavor::MariaDb => ["Slave_IO_Running", "Slave_SQL_Running"],
            Flavor::MySql => ["Replica_IO_Running", "Replica_SQL_Running"],
        };
        eventually("the replica follows", async || {
            let Some(row) = self.status(n).await else {
                return false;
            };
            [receiving, applying].map(|name| text(&row, name)) == ["Yes", "Yes"]
        })
        .await;
    }

    /// A replica's status; a primary has none.
    async fn status(&self, n: usize) -> Option<Row> {
        let mut conn = self.node(n).admin().await;
        let question = match self.node(n).flavor() {
            Flavor::MariaDb => "SHOW SLAVE STATUS",
            Flavor::MySql => "SHOW REPLICA STATUS",
        };
        conn.query_first(question).await.expect("a status")
    }

    /// The position of all that a server has written and applied so far.
    async fn position(&self, n: usize) -> String {
        self.ask(
            n,
            match self.node(n).flavor() {
                Flavor::MariaDb => "SELECT @@global.gtid_binlog_pos",
                Flavor::MySql => "SELECT @@global.gtid_executed",
            },
        )
        .await
    }

    async fn wait_applied(&self, n: usize, position: &str) {
        let applied = match self.node(n).flavor() {
            Flavor::MariaDb => format!("SELECT MASTER_GTID_WAIT('{position}', 0) = 0"),
            Flavor::MySql => format!("SELECT GTID_SUBSET('{position}', @@global.gtid_executed)"),
        };
        eventually("the replica has caught up", async || {
            self.ask::<bool>(n, &applied).await
        })
        .await;
    }

    /// Waits until a replica has applied all it has received from a primary that may be gone;
    /// returns how many transactions these are, to compare with other replicas.
    async fn apply_received(&self, n: usize) -> u64 {
        match self.node(n).flavor() {
            Flavor::MariaDb => {
                let row = self.status(n).await.expect("a replica");
                let received = text(&row, "Gtid_IO_Pos");
                self.wait_applied(n, &received).await;
                // As in `0-1-42`; there is only one domain.
                let number = received.rsplit('-').next().map(str::parse);
                number.and_then(Result::ok).unwrap_or_default()
            }
            Flavor::MySql => {
                let row = self.status(n).await.expect("a replica");
                self.wait_applied(n, &text(&row, "Retrieved_Gtid_Set"))
                    .await;
                // The numbers in sets such as `uuid:1-42:44,uuid:1-3`.
                let set = self.position(n).await;
                set.split(',')
                    .flat_map(|of_one| of_one.split(':').skip(1))
                    .map(count)
                    .sum()
            }
        }
    }

    /// Whether a server has writes that the primary does not have.
    async fn has_writes_of_its_own(&self, n: usize) -> bool {
        let own = self.position(n).await;
        let primary = self.primary();
        match self.node(n).flavor() {
            Flavor::MariaDb => {
                // The last transaction of each server, as in `0-1-42,0-2-57`.
                let known: String = self.ask(primary, "SELECT @@global.gtid_binlog_state").await;
                let Some((server, number)) = own.rsplit_once('-') else {
                    return false;
                };
                let known = known
                    .split(',')
                    .filter_map(|gtid| gtid.rsplit_once('-'))
                    .find(|(of, _)| *of == server)
                    .map_or(0, |(_, number)| count(number));
                count(number) > known
            }
            Flavor::MySql => {
                let question = format!("SELECT NOT GTID_SUBSET('{own}', @@global.gtid_executed)");
                self.ask(primary, &question).await
            }
        }
    }

    /// Copies all data to a replica again. Until they are there, it listens on another port.
    async fn rebuild(&self, n: usize) {
        let node = self.node(n);
        node.kill().await;
        node.wipe().await;
        // Under another server id: a replica skips what it wrote itself before.
        let hidden = format!("--port={} --server-id={}", free_port(), 100 + n);
        node.start_with(&hidden).await;
        self.follow(n).await;
        let position = self.position(self.primary()).await;
        self.wait_applied(n, &position).await;
        // From here on it replicates by itself.
        node.restart().await;
    }

    async fn ask<T: FromValue + Send + 'static>(&self, n: usize, question: &str) -> T {
        let mut conn: Conn = self.node(n).admin().await;
        let answer = conn.query_first(question).await;
        answer
            .unwrap_or_else(|error| panic!("{question}: {error}"))
            .expect("an answer")
    }
}

/// A column of a replica's status.
fn text(row: &Row, name: &str) -> String {
    let value: Option<Value> = row.get(name);
    let value = value.unwrap_or_else(|| panic!("no {name}"));
    mysql_async::from_value_opt(value).unwrap_or_default()
}

/// The number of transactions in a range such as `3-42`, or the number itself if it is one.
fn count(range: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    match range.split_once('-') {
        Some((first, last)) => number(last).saturating_sub(number(first)).saturating_add(1),
        None => number(range),
    }
}
