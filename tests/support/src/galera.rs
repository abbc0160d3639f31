//! A Galera cluster (`MariaDB`) on loopback.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
};

use crate::eventually;
use crate::ports::free_port;
use crate::scratch::scratch;
use crate::server::{Builder, Flavor, Frozen, Server, galera};
use crate::skips::{skip, skip_for_lack_of};

/// Nodes that all take writes. A node that loses the others takes none. If two nodes lose each
/// other, the second keeps the quorum.
///
/// A silent node is expelled after 1 to 2 s.
pub struct Galera {
    nodes: Vec<Server>,
}

impl Galera {
    /// Starts a cluster whose nodes have these options besides the usual ones. `None`, reported as
    /// skipped, where Galera is not installed.
    pub async fn start(count: usize, options: &[&str]) -> Option<Self> {
        if Flavor::chosen() == Flavor::MySql {
            skip("Galera is MariaDB's");
            return None;
        }
        let Some(provider) = galera() else {
            skip_for_lack_of("galera-4 (apt-get install galera-4)");
            return None;
        };
        let groups: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let mut cluster = Self { nodes: Vec::new() };
        for n in 0..count {
            let builder = node(&provider, &groups, n);
            let builder = options.iter().fold(builder, |builder, o| builder.option(o));
            let node = builder.prepare().await;
            // All start with the same data, so nothing is copied if the node claims the others'
            // position.
            let writes = match cluster.nodes.first() {
                Some(first) => first.status_value("wsrep_last_committed").await,
                None => 0,
            };
            let history = HISTORY.to_owned();
            Position { history, writes }.write(&node);
            node.start_with(if n == 0 { NEW } else { "" }).await;
            cluster.nodes.push(node);
            cluster.wait_size(n + 1).await;
            cluster.wait_synced(n).await;
        }
        Some(cluster)
    }

    /// One of the nodes, in the order of their start.
    pub fn node(&self, n: usize) -> &Server {
        self.nodes.get(n).expect("one of the nodes")
    }

    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Cuts a node off from the others. It still answers clients, and within 2 s it refuses
    /// everything that needs a quorum.
    pub async fn isolate(&self, n: usize) {
        self.node(n).execute(&isolation(1)).await;
    }

    /// Ends [`Galera::isolate`], and waits until the node has rejoined.
    pub async fn rejoin(&self, n: usize) {
        self.node(n).execute(&isolation(0)).await;
        self.wait_synced(n).await;
    }

    /// Lets a node fall behind without slowing the others, as a donor does. It still answers
    /// clients, with stale data.
    pub async fn desync(&self, n: usize) {
        self.node(n).execute("SET GLOBAL wsrep_desync = ON").await;
    }

    /// Ends [`Galera::desync`], and waits until the node has caught up.
    pub async fn resync(&self, n: usize) {
        self.node(n).execute("SET GLOBAL wsrep_desync = OFF").await;
        self.wait_synced(n).await;
    }

    /// Freezes a node until the guard is dropped. The others only notice its silence.
    pub async fn freeze(&self, n: usize) -> Frozen {
        self.node(n).freeze().await
    }

    /// Kills a node as a crash would.
    pub async fn kill(&self, n: usize) {
        self.node(n).kill().await;
    }

    /// Starts a node that was killed or shut down, and waits until it has the writes it missed. If
    /// no other node runs, it forms a new cluster.
    ///
    /// They come from another node's cache, which holds 32 MB of writes; the start fails if it
    /// missed more.
    pub async fn start_again(&self, n: usize) {
        let node = self.node(n);
        let position = match Position::read(node) {
            Some(position) => position,
            // It crashed: only its tables know its position.
            None => {
                let log = node.run_once("--wsrep-recover").await;
                let found = log.rsplit_once("Recovered position: ");
                let position = found.and_then(|(_, rest)| Position::of(rest.lines().next()?));
                position.unwrap_or_else(|| panic!("no position:\n{log}"))
            }
        };
        position.write(node);
        let mut others = 0;
        for other in &self.nodes {
            others += usize::from(other.is_running().await);
        }
        node.start_with(if others == 0 { NEW } else { "" }).await;
        self.wait_synced(n).await;
    }

    /// Waits until a node is in a cluster with quorum, and has all its writes.
    pub async fn wait_synced(&self, n: usize) {
        eventually("the node is synced", async || {
            self.node(n).status_value("wsrep_local_state").await == 4
        })
        .await;
    }

    /// Waits until every running node sees this number of members.
    pub async fn wait_size(&self, count: usize) {
        let count = u64::try_from(count).expect("a small number");
        for node in &self.nodes {
            if !node.is_running().await {
                continue;
            }
            eventually("all see the same members", async || {
                node.status_value("wsrep_cluster_size").await == count
            })
            .await;
        }
    }
}

/// The UUID of the cluster's history of writes. A position is a place in it.
const HISTORY: &str = "5b2c91f0-6a3e-11ee-8c99-0242ac120002";
/// Forms a new cluster instead of joining one.
const NEW: &str = "--wsrep-new-cluster";

fn isolation(on: u8) -> String {
    format!("SET GLOBAL wsrep_provider_options = 'gmcast.isolate={on}'")
}

/// A node that talks to the others on its port of `groups`.
fn node(provider: &Path, groups: &[u16], n: usize) -> Builder {
    let port = free_port();
    let addresses: Vec<String> = groups
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let own = addresses.get(n).expect("one of the nodes");
    let weight = if groups.len() == 2 { n + 1 } else { 1 };
    let mut path = OsString::from(scripts());
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    Server::builder()
        .port(port)
        .environment("PATH", &path)
        .option("--wsrep-on=ON")
        // Newer servers have it, and fix the provider's options while it is on.
        .option("--loose-plugin-wsrep-provider=OFF")
        .option(&format!("--wsrep-provider={}", provider.display()))
        .option(&format!(
            "--wsrep-cluster-name=of-{}",
            groups.first().expect("a node")
        ))
        .option(&format!(
            "--wsrep-cluster-address=gcomm://{}",
            addresses.join(",")
        ))
        .option(&format!("--wsrep-node-name=n{n}"))
        .option(&format!("--wsrep-node-address={own}"))
        // The address that the other nodes report to their clients.
        .option(&format!("--wsrep-node-incoming-address=127.0.0.1:{port}"))
        .option("--wsrep-sst-method=cached")
        .option(&format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{own};\
             ist.recv_addr=127.0.0.1:{};pc.weight={weight};pc.recovery=FALSE;gcache.size=32M;\
             evs.keepalive_period=PT0.2S;evs.inactive_check_period=PT0.1S;\
             evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.install_timeout=PT2S;\
             evs.join_retrans_period=PT0.2S;gmcast.peer_timeout=PT2S;gmcast.time_wait=PT1S",
            free_port()
        ))
        // Commits survive the process.
        .option("--innodb-flush-log-at-trx-commit=2")
        .option("--binlog-format=ROW")
        .option("--innodb-autoinc-lock-mode=2")
}

/// The folder of the script that the servers run when a node joins.
fn scripts() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch().join("galera");
        fs::create_dir_all(&folder).expect("a folder for the script");
        let new = folder.join(format!("new-{}", process::id()));
        fs::write(&new, include_str!("wsrep_sst_cached.sh")).expect("the script");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&new, executable).expect("the script can be run");
        fs::rename(&new, folder.join("wsrep_sst_cached")).expect("the script in its place");
        folder
    })
}

/// A node's position in the cluster's history of writes.
struct Position {
    history: String,
    writes: u64,
}

impl Position {
    /// Parses `history:writes`.
    fn of(text: &str) -> Option<Self> {
        let (history, writes) = text.trim().split_once(':')?;
        Some(Self {
            history: history.to_owned(),
            writes: writes.parse().ok()?,
        })
    }

    /// The position that a node saved when it was shut down; there is none after a crash.
    fn read(node: &Server) -> Option<Self> {
        let text = fs::read_to_string(file(node)).ok()?;
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let (history, writes) = (value("uuid:")?.trim(), value("seqno:")?.trim());
        Self::of(&format!("{history}:{writes}"))
    }

    fn write(&self, node: &Server) {
        let Self { history, writes } = self;
        let text = format!(
            "# GALERA saved state\nversion: 2.1\nuuid: {history}\nseqno: {writes}\n\
             safe_to_bootstrap: 1\n"
        );
        fs::write(file(node), text).expect("the position can be written");
    }
}

fn file(node: &Server) -> PathBuf {
    node.folder().join("data/grastate.dat")
}
