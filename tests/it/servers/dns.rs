//! The server's name stops resolving, comes back, and points to another server, with callers at
//! work.

use std::{env, fs, net::Ipv4Addr, path::PathBuf, time::Duration};

use test_support::{Mute, Proxy, Server, config, free_port, timed, warm};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream, task::JoinSet};

use crate::servers::{
    namespace::{self, Network},
    outage::{outage, settings},
};

const NAME: &str = "database.test";
const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Set for the child process that has its own name resolution: two servers' URLs.
const URLS: &str = "TESTS_URLS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_may_stop_resolving_and_come_back_elsewhere() {
    in_a_namespace("servers::dns::with_names_of_its_own").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_may_have_a_dead_address_beside_a_living_one() {
    in_a_namespace("servers::dns::with_two_addresses").await;
}

async fn in_a_namespace(test: &str) {
    let (one, other) = (Server::start().await, Server::start().await);
    let urls = format!("{} {}", one.url(), other.url());
    namespace::run(test, "", Network::Shared, &[(URLS, urls)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn with_two_addresses() {
    let hosts = PathBuf::from(env::var_os(namespace::HOSTS).expect("run by the test above"));
    let urls = env::var(URLS).expect("run by the test above");
    let (url, _) = urls.split_once(' ').expect("two URLs");
    let (first, port) = (Ipv4Addr::LOCALHOST, free_port());
    // Name resolution puts this one first, wherever it stands in the file.
    let _dead = Mute::start(first.into(), port).await;
    let _alive = Second::start(port, port_of(url)).await;
    let named = url.replace(
        &format!("{first}:{}", port_of(url)),
        &format!("{NAME}:{port}"),
    );
    for addresses in [[SECOND_ADDRESS, first], [first, SECOND_ADDRESS]] {
        let lines = addresses.map(|address| format!("{address} {NAME}\n"));
        fs::write(&hosts, lines.concat()).expect("the file of names");
        let limit = Duration::from_secs(60);
        let settings = config(&named)
            .size(2)
            .overflow(0)
            .connect_timeout(limit)
            .warm_up_timeout(limit);
        let (pool, took) = timed(warm(settings)).await;
        println!("{addresses:?}: warm after {took:?}");
        assert!(took < limit / 2, "{took:?}");
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn with_names_of_its_own() {
    let hosts = PathBuf::from(env::var_os(namespace::HOSTS).expect("run by the test above"));
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
