//! Several servers behind one handle: who takes writes, who serves reads, and what happens when
//! that changes.

mod failover;
mod galera;
mod group;
mod lag;
mod limits;
mod load;
mod manners;
mod noticing;
mod roles;
mod transactions;
mod waiting;

use mysql_warm_pool::{
    PooledConn,
    cluster::{Cluster, ClusterConfig, Role},
};
use test_support::{Server, config, eventually};

/// Makes these servers read-only for the tests' user.
async fn make_read_only(servers: &[&Server]) {
    for server in servers {
        server.execute("SET GLOBAL read_only = ON").await;
    }
}

async fn make_writable(server: &Server) {
    server.execute("SET GLOBAL read_only = OFF").await;
}

/// The address of a member, as it is reported.
fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// Settings with small pools, for servers of the tests.
fn settings(servers: &[&Server]) -> ClusterConfig {
    let members = servers.iter().map(|server| config(&server.url()));
    ClusterConfig::new(members.map(|member| member.size(2).overflow(2)))
}

async fn warm(settings: ClusterConfig) -> Cluster {
    let cluster = Cluster::new(settings).expect("valid settings");
    cluster.warm_up().await.expect("warm");
    cluster
}

/// The port of the server at the other end of a connection.
async fn port(conn: &mut PooledConn) -> u16 {
    let port = conn.query_first("SELECT @@port").await.expect("an answer");
    port.expect("a port")
}

async fn writer_port(cluster: &Cluster) -> u16 {
    port(&mut cluster.writer().await.expect("a writer")).await
}

async fn reader_port(cluster: &Cluster) -> u16 {
    port(&mut cluster.reader().await.expect("a reader")).await
}

fn roles(cluster: &Cluster) -> Vec<Role> {
    cluster.members().iter().map(|member| member.role).collect()
}

async fn until_roles(cluster: &Cluster, expected: &[Role]) {
    eventually("the members have these roles", async || {
        roles(cluster) == expected
    })
    .await;
}
