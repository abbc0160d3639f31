//! `MySQL` Router in front of servers.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Mutex;

use mysql_async::prelude::Queryable;

use crate::eventually;
use crate::group::Group;
use crate::ports::{free_port, listens};
use crate::scratch::scratch;
use crate::server::{ADMIN, ADMIN_PASSWORD, Server};
use crate::watchdog::{Watchdog, lock};

/// The folder of the Router, as `scripts/fetch-server` makes it.
const ROUTER: &str = "TEST_ROUTER";

/// A running Router. It is stopped and removed when this is dropped, or when the test process ends
/// in any way.
pub struct Router {
    ports: Vec<u16>,
    watchdog: Mutex<Watchdog>,
}

impl Router {
    /// Whether there is a Router to start.
    pub fn is_there() -> bool {
        folder().is_some()
    }

    /// A Router with one port, whose only destination is this server. The options are those of its
    /// route, such as `connection_sharing=1`.
    pub async fn start(server: &Server, options: &[&str]) -> Self {
        let port = free_port();
        let mut config = vec![
            "[connection_pool]".to_owned(),
            "max_idle_server_connections=64".to_owned(),
            "[routing:static]".to_owned(),
            "routing_strategy=first-available".to_owned(),
            format!("destinations=127.0.0.1:{}", server.port()),
        ];
        config.extend(route(port));
        config.extend(options.iter().map(ToString::to_string));
        Self::run(server, vec![port], &[], &config, |_| {}).await
    }

    /// A Router of a group, with three ports: [`Router::writing`], [`Router::reading`] and
    /// [`Router::splitting`].
    pub async fn of_group(group: &Group) -> Self {
        let first = group.node(0);
        let mut conn = first.admin().await;
        let schema = include_str!("router.sql").replace("{group}", &group.name);
        for statement in schema.split_terminator(";\n") {
            let made = conn.query_drop(statement).await;
            made.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        let ports = vec![free_port(), free_port(), free_port()];
        let mut config = vec![
            "[metadata_cache:group]".to_owned(),
            "cluster_type=gr".to_owned(),
            "router_id=1".to_owned(),
            format!("user={ADMIN}"),
            "metadata_cluster=group".to_owned(),
            "ttl=0.5".to_owned(),
            "use_gr_notifications=0".to_owned(),
        ];
        for (name, (port, (role, more))) in
            ["rw", "ro", "split"].into_iter().zip(ports.iter().zip([
                ("PRIMARY", &["routing_strategy=first-available"][..]),
                ("SECONDARY", &["routing_strategy=round-robin-with-fallback"]),
                (
                    "PRIMARY_AND_SECONDARY",
                    &[
                        "routing_strategy=round-robin",
                        "connection_sharing=1",
                        "access_mode=auto",
                    ],
                ),
            ]))
        {
            config.push(format!("[routing:{name}]"));
            config.push(format!("destinations=metadata-cache://group/?role={role}"));
            config.extend(route(*port));
            config.extend(more.iter().map(ToString::to_string));
        }
        let members: Vec<_> = (group.nodes().iter())
            .map(|node| format!("\"mysql://127.0.0.1:{}\"", node.port()))
            .collect();
        let state = format!(
            "{{\"metadata-cache\": {{\"group-replication-id\": \"{}\", \
             \"cluster-metadata-servers\": [{}]}}, \"version\": \"1.0.0\"}}",
            group.name,
            members.join(",")
        );
        let own = [
            "keyring_path=keyring",
            "master_key_path=keyring.key",
            "dynamic_state=state.json",
        ];
        Self::run(first, ports, &own, &config, |folder| {
            fs::write(folder.join("state.json"), state).expect("a file");
            store_password(folder);
        })
        .await
    }

    async fn run(
        server: &Server,
        ports: Vec<u16>,
        own: &[&str],
        config: &[String],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let folder = scratch().join(format!("router-{}-{}", process::id(), ports[0]));
        // Left over from a run that ended with its machine.
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).expect("a folder");
        prepare(&folder);
        let (at, of_server) = (folder.display(), server.folder().join("data"));
        let programs = self::folder().expect("checked by the test");
        let mut lines = vec![
            "[DEFAULT]".to_owned(),
            format!(
                "plugin_folder={}/usr/lib/mysqlrouter/plugin",
                programs.display()
            ),
            format!("logging_folder={at}"),
            format!("runtime_folder={at}"),
            format!("data_folder={at}"),
            // The certificate that the server made for itself.
            format!("client_ssl_cert={}/server-cert.pem", of_server.display()),
            format!("client_ssl_key={}/server-key.pem", of_server.display()),
            "client_ssl_mode=PREFERRED".to_owned(),
            "server_ssl_mode=PREFERRED".to_owned(),
            "server_ssl_verify=DISABLED".to_owned(),
            "max_idle_server_connections=64".to_owned(),
            "unknown_config_option=error".to_owned(),
        ];
        if server.runs_as_root() {
            lines.push("user=root".to_owned());
        }
        for option in own {
            let (name, value) = option.split_once('=').expect("name=value");
            lines.push(format!("{name}={at}/{value}"));
        }
        lines.extend(["[logger]", "level=info", "filename=router.log"].map(str::to_owned));
        lines.extend_from_slice(config);
        let file = folder.join("router.conf");
        fs::write(&file, lines.join("\n") + "\n").expect("a file");
        let command: [OsString; 3] = [
            programs.join("bin/mysqlrouter").into(),
            "-c".into(),
            file.into(),
        ];
        let mut watchdog = Watchdog::start(&folder, &command);
        watchdog.order("start");
        let router = Self {
            ports,
            watchdog: Mutex::new(watchdog),
        };
        for port in &router.ports {
            eventually("the Router listens", async || listens(*port).await).await;
        }
        router
    }

    /// The only port, or the one that leads to the group's primary.
    pub fn writing(&self) -> u16 {
        self.port(0)
    }

    /// The port that leads to the group's other members.
    pub fn reading(&self) -> u16 {
        self.port(1)
    }

    /// The port that sends each statement to the primary or another member, by its text.
    pub fn splitting(&self) -> u16 {
        self.port(2)
    }

    fn port(&self, n: usize) -> u16 {
        *self.ports.get(n).expect("a Router of a group")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        lock(&self.watchdog).end();
    }
}

fn folder() -> Option<PathBuf> {
    let folder = env::var_os(ROUTER).filter(|folder| !folder.is_empty())?;
    Some(folder.into())
}

fn route(port: u16) -> [String; 3] {
    [
        "bind_address=127.0.0.1".to_owned(),
        format!("bind_port={port}"),
        "protocol=classic".to_owned(),
    ]
}

/// Stores the password with which the Router asks for the group's members.
fn store_password(folder: &Path) {
    let program = self::folder()
        .expect("checked by the test")
        .join("bin/mysqlrouter_keyring");
    let key = format!("--master-key-file={}", folder.join("keyring.key").display());
    let keyring = folder.join("keyring");
    for arguments in [&["init"][..], &["set", ADMIN, "password", ADMIN_PASSWORD]] {
        let (action, rest) = arguments.split_first().expect("an action");
        let output = Command::new(&program)
            .arg(action)
            .arg(&keyring)
            .args(rest)
            .arg(&key)
            .output()
            .expect("the Router's keyring can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{action}: {errors}");
    }
}
