//! The server's name stops resolving, comes back, and points to another server, with callers at
//! work.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use mysql_warm_pool::mysql_async::prelude::Queryable;
use test_support::{Proxy, Server, skip_for_lack_of, warm};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream, task::JoinSet};

use crate::servers::outage::{outage, settings};

const NAME: &str = "database.test";
const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Set for the child process that has its own name resolution: the hosts file, and two servers'
/// URLs.
const HOSTS: &str = "TESTS_HOSTS";
const URLS: &str = "TESTS_URLS";

/// Mounts `hosts` and `nsswitch.conf` from the folder `$1` over the system's, visible to this
/// process alone, and then executes the remaining arguments.
const WITH_NAMES: &str = r#"
mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf || exit 125
shift
exec "$@"
"#;

/// The test runs once more in its own mount namespace, so the machine's own names stay as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_may_stop_resolving_and_come_back_elsewhere() {
    let (one, other) = (Server::start().await, Server::start().await);
    let folder = Folder::make();
    fs::write(folder.0.join("hosts"), "").expect("a file of names");
    fs::write(folder.0.join("nsswitch.conf"), "hosts: files\n").expect("a file");
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", WITH_NAMES, "sh"])
        .arg(&folder.0)
        .arg(env::current_exe().expect("this test's program"))
        .args([
            "--exact",
            "servers::dns::with_names_of_its_own",
            "--ignored",
        ])
        .args(["--nocapture"])
        .env(HOSTS, folder.0.join("hosts"))
        .env(URLS, format!("{} {}", one.url(), other.url()));
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("unshare is here");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && !text.contains("running 1 test") {
        return skip_for_lack_of("mount namespaces, in which names can be changed");
    }
    assert!(output.status.success(), "see above");
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn with_names_of_its_own() {
    let hosts = PathBuf::from(env::var_os(HOSTS).expect("run by the test above"));
    let leads_to = |address: Option<Ipv4Addr>| {
        let line = address.map(|address| format!("{address} {NAME}\n"));
        // Written in place: the mount is of this very file.
        fs::write(&hosts, line.unwrap_or_default()).expect("the file of names");
    };
    let urls = env::var(URLS).expect("run by the test above");
    let (one, other) = urls.split_once(' ').expect("two URLs");
    // Both servers' addresses have the same port, like the two hosts behind a name.
    let proxy = Proxy::start(port_of(one)).await;
    let second = Second::start(proxy.port(), port_of(other)).await;
    let named = one.replace(
        &format!("127.0.0.1:{}", port_of(one)),
        &format!("{NAME}:{}", proxy.port()),
    );
    leads_to(Some(Ipv4Addr::LOCALHOST));
    let pool = warm(settings(&named)).await;
    for address in [Ipv4Addr::LOCALHOST, SECOND_ADDRESS] {
        outage(
            &pool,
            &["lookup"],
            Duration::from_secs(2),
            async || {
                leads_to(None);
                proxy.cut().await;
            },
            async || leads_to(Some(address)),
        )
        .await;
        let mut conn = pool.get().await.expect("a connection");
        let port: Option<u16> = conn.query_first("SELECT @@port").await.expect("an answer");
        let expected = if address == SECOND_ADDRESS {
            other
        } else {
            one
        };
        assert_eq!(port, Some(port_of(expected)));
    }
    drop(second);
}

fn port_of(url: &str) -> u16 {
    let (_, place) = url.rsplit_once(':').expect("a port");
    let (port, _) = place.split_once('/').expect("a database");
    port.parse().expect("a number")
}

/// Forwards connections at the second address to a server.
struct Second {
    _accepting: JoinSet<()>,
}

impl Second {
    async fn start(port: u16, target: u16) -> Self {
        let listener = TcpListener::bind((SECOND_ADDRESS, port))
            .await
            .expect("loopback has many addresses");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                open.spawn(async move {
                    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await;
                    let mut server = server.expect("a server");
                    copy_bidirectional(&mut client, &mut server).await.ok();
                });
            }
        });
        Self {
            _accepting: accepting,
        }
    }
}

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Self {
        let folder = format!("names-{}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
