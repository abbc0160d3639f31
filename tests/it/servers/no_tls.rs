//! Without TLS: settings that ask for it are refused if it is not compiled in, and the password is
//! not sent as it is over a network, whatever the server asks for.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use mysql_warm_pool::{Error, Pool, PoolConfig};
use test_support::{
    config, pool,
    scripted::{Greeting, Scripted, Wire, ok},
};

const SWITCH: &[u8] = b"\xFEmysql_clear_password\0";
const SWITCH_NATIVE: &[u8] = b"\xFEmysql_native_password\x0012345678901234567890\0";

/// The packets that clients have sent, to any connection.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that greets with this plugin, asks by these packets, and accepts the login.
async fn asking(plugin: &str, packets: &[&[u8]]) -> (Scripted, Sent) {
    let server = Scripted::start().await;
    let sent = Sent::default();
    let (plugin, seen) = (plugin.as_bytes().to_vec(), Arc::clone(&sent));
    let packets: Vec<Vec<u8>> = packets.iter().map(|packet| packet.to_vec()).collect();
    server.play(move |wire: Wire| ask(wire, plugin.clone(), packets.clone(), Arc::clone(&seen)));
    (server, sent)
}

async fn ask(mut wire: Wire, plugin: Vec<u8>, packets: Vec<Vec<u8>>, sent: Sent) -> io::Result<()> {
    let note = |packet| {
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(packet);
    };
    let greeting = Greeting {
        plugin,
        ..Greeting::default()
    };
    wire.packet(0, &greeting.payload()).await?;
    note(wire.read_packet().await?);
    let mut number = 2;
    for packet in packets {
        wire.packet(number, &packet).await?;
        note(wire.read_packet().await?);
        number += 2;
    }
    wire.packet(number, &ok()).await?;
    wire.serve().await
}

fn holds_password(sent: &Sent) -> bool {
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    sent.iter()
        .any(|packet| packet.windows(6).any(|six| six == b"secret"))
}

/// Whatever plugin the greeting names: the driver waits to be asked, and then refuses.
#[tokio::test]
async fn no_server_gets_the_password_in_the_clear_unallowed() {
    for plugin in [
        "mysql_native_password",
        "caching_sha2_password",
        "mysql_clear_password",
        "unknown",
    ] {
        for packets in [&[SWITCH][..], &[SWITCH_NATIVE, SWITCH]] {
            let (server, sent) = asking(plugin, packets).await;
            let pool = pool(config(&server.url()).size(1).overflow(0));
            let error = pool.warm_up().await.expect_err("not allowed");
            assert!(!error.is_transient(), "{plugin}: {error}");
            assert!(!holds_password(&sent), "{plugin}: {error}");
            if let [_] = packets {
                let text = error.to_string();
                assert!(text.contains("`enable_cleartext_plugin=true`"), "{text}");
                assert!(text.contains("TLS"), "{text}");
            }
        }
        // A greeting that asks for nothing more is answered with a hash.
        let (server, sent) = asking(plugin, &[]).await;
        let pool = pool(config(&server.url()).size(1).overflow(0));
        pool.warm_up().await.expect("a login");
        assert!(!holds_password(&sent), "{plugin}");
    }
}

/// What leaves this host is not readable; what stays on it may be.
#[tokio::test]
async fn only_on_this_host_is_it_sent_without_tls() {
    let (server, sent) = asking("mysql_native_password", &[SWITCH]).await;
    let url = format!("{}?enable_cleartext_plugin=true", server.url());
    let local = pool(config(&url).size(1).overflow(0));
    local.warm_up().await.expect("a login");
    assert!(holds_password(&sent));

    let port = config(&url).opts().tcp_port();
    for host in ["db.example.com", "10.0.0.7", "[2001:db8::7]", "0.0.0.0"] {
        let url = format!("mysql://app:secret@{host}:{port}/shop");
        let by_url = PoolConfig::from_url(&format!("{url}?enable_cleartext_plugin=true"));
        let by_opts = PoolConfig::from_url(&url).expect("a URL");
        let by_opts = by_opts.map_opts(|opts| opts.enable_cleartext_plugin(true));
        for settings in [by_url.expect("a URL"), by_opts] {
            let error = Pool::new(settings).expect_err("another host");
            assert!(matches!(error, Error::Config(_)), "{error}");
            let text = error.to_string();
            for part in ["enable_cleartext_plugin", "ssl-mode", "loopback"] {
                assert!(text.contains(part), "{host}: {text}");
            }
        }
    }
}

/// With TLS asked for, a server without it learns nothing, and is not asked again.
#[cfg(any(
    feature = "rustls",
    feature = "rustls-aws-lc-rs",
    feature = "native-tls"
))]
#[tokio::test]
async fn a_server_without_tls_gets_no_password_where_tls_is_set() {
    let (server, sent) = asking("mysql_native_password", &[SWITCH]).await;
    let url = server.url();
    for mode in ["REQUIRED", "VERIFY_IDENTITY"] {
        let url = format!("{url}?enable_cleartext_plugin=true&ssl-mode={mode}");
        let settings = PoolConfig::from_url(&url).expect("a URL");
        let before = server.accepted();
        let pool = pool(settings.size(1).overflow(0));
        let error = pool.warm_up().await.expect_err("no TLS");
        assert!(!error.is_transient(), "{error}");
        assert_eq!(server.accepted() - before, 1);
    }
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(sent.is_empty(), "{sent:?}");
}

/// The default build has no TLS, and must not seem to have it.
#[cfg(not(any(
    feature = "rustls",
    feature = "rustls-aws-lc-rs",
    feature = "native-tls"
)))]
#[tokio::test]
async fn tls_that_is_not_compiled_in_is_refused() {
    use mysql_warm_pool::mysql_async::{Opts, OptsBuilder, SslOpts};

    let server = Scripted::start().await;
    let url = server.url();
    let opts = OptsBuilder::from_opts(Opts::from_url(&url).expect("a URL"));
    let by_opts = PoolConfig::from_opts(opts.ssl_opts(SslOpts::default()));
    let by_urls = [
        "require_ssl=true",
        "require_ssl=true&verify_ca=false",
        "ssl-mode=REQUIRED",
        "sslmode=verify-full",
        "ssl-ca=/etc/ssl/db-ca.pem",
    ]
    .map(|query| PoolConfig::from_url(&format!("{url}?{query}")).expect("a URL"));
    for settings in by_urls.into_iter().chain([by_opts]) {
        let error = Pool::new(settings).expect_err("no TLS");
        assert!(matches!(error, Error::Config(_)), "{error}");
        let text = error.to_string();
        for part in ["ssl-mode", "`rustls`", "`native-tls`", "DISABLED"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let without = PoolConfig::from_url(&format!("{url}?ssl-mode=DISABLED")).expect("a URL");
    pool(without.size(1).overflow(0))
        .warm_up()
        .await
        .expect("a login");
    assert_eq!(server.accepted(), 1);
}
