//! Over TLS all is as without; a certificate that cannot be trusted ends the warm-up at once and says why.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::OnceLock,
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    PoolConfig, Reset,
    mysql_async::{Opts, OptsBuilder, SslOpts, prelude::*},
};

use crate::support::{Flavor, Proxy, Server, eventually, pool, warm};

const SOON: Duration = Duration::from_secs(10);

/// Certificates of an authority of their own, made by `openssl` once for each run.
struct Certificates(PathBuf);

impl Certificates {
    fn made() -> &'static Self {
        static MADE: OnceLock<Certificates> = OnceLock::new();
        MADE.get_or_init(|| {
            let folder = format!("certificates-{}", process::id());
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
            fs::remove_dir_all(&folder).ok();
            fs::create_dir_all(&folder).expect("a folder");
            let made = Self(folder);
            for authority in ["authority", "another-authority"] {
                made.openssl(&format!(
                    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
                     -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
                ));
            }
            made.sign("here", "IP:127.0.0.1", 30);
            made.sign("elsewhere", "DNS:elsewhere.example", 30);
            made.sign("expired", "IP:127.0.0.1", -1);
            made
        })
    }

    fn sign(&self, name: &str, alternative: &str, days: i32) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
             -keyout {name}.key -out {name}.csr"
        ));
        fs::write(
            self.0.join("extensions"),
            format!("subjectAltName={alternative}\n"),
        )
        .expect("a file");
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
             -extfile extensions -days {days} -out {name}.pem"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.0)
            .output()
            .expect("openssl can be run: apt-get install openssl");
        assert!(
            output.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

/// A server with that certificate, which takes callers over TLS only.
async fn server(certificate: &str) -> Server {
    let made = Certificates::made();
    let path = |file: String| made.path(&file).display().to_string();
    let server = Server::builder()
        .option(&format!("--ssl-ca={}", path("authority.pem".into())))
        .option(&format!(
            "--ssl-cert={}",
            path(format!("{certificate}.pem"))
        ))
        .option(&format!("--ssl-key={}", path(format!("{certificate}.key"))))
        .start()
        .await;
    server.execute("ALTER USER app@'%' REQUIRE SSL").await;
    server
}

/// Trusts what that authority signed.
fn trusting(authority: &str, url: &str) -> PoolConfig {
    let root = Certificates::made().path(&format!("{authority}.pem"));
    let ssl = SslOpts::default()
        .with_root_certs(vec![root.into()])
        .with_disable_built_in_roots(true);
    let opts = Opts::from_url(url).expect("a URL");
    PoolConfig::from_opts(OptsBuilder::from_opts(opts).ssl_opts(ssl))
        .timeout(SOON)
        .warm_up_timeout(SOON)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_as_without() {
    let server = server("here").await;
    let proxy = Proxy::start(server.port()).await;
    let settings = trusting("authority", &server.url_via(proxy.port()))
        .size(4)
        .overflow(0)
        .reset(Reset::Always)
        .prove_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    let cipher: Option<(String, String)> = conn
        .query_first("SHOW STATUS LIKE 'Ssl_cipher'")
        .await
        .expect("an answer");
    assert!(cipher.is_some_and(|(_, cipher)| !cipher.is_empty()));
    conn.query_drop("SET @leak = 1").await.expect("set");
    drop(conn);
    eventually(SOON, "it is reset", async || pool.metrics().resets == 1).await;
    for _ in 0..8 {
        let mut conn = pool.get().await.expect("a connection");
        let leak: Option<Option<u8>> = conn.query_first("SELECT @leak").await.expect("an answer");
        assert_eq!(leak, Some(None));
    }

    // Cancelled in the middle of an answer.
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    let sleep = conn.query_drop("SELECT SLEEP(60)");
    tokio::time::timeout(Duration::from_millis(50), sleep)
        .await
        .expect_err("it sleeps");
    drop(conn);
    for _ in 0..8 {
        let mut conn = pool.get().await.expect("a connection");
        let answer: Option<u32> = conn
            .query_first("SELECT CONNECTION_ID()")
            .await
            .expect("an answer");
        assert_eq!(answer, Some(conn.id()));
        assert_ne!(answer, Some(id));
    }

    // Cut off, refused, and back.
    proxy.refuse().await;
    proxy.cut().await;
    eventually(SOON, "it is noticed", async || {
        pool.get_within(Duration::from_millis(50)).await.is_err()
    })
    .await;
    proxy.accept_again().await;
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
    drop(conn);
    server.restart().await;
    eventually(SOON, "it is whole again", async || {
        pool.get_within(SOON).await.is_ok() && pool.status().idle == 4
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_ends_the_warm_up_at_once_and_says_why() {
    for (certificate, authority, words) in [
        (
            "here",
            "another-authority",
            ["UnknownIssuer", "self-signed certificate"],
        ),
        ("elsewhere", "authority", ["not valid for name", "mismatch"]),
        ("expired", "authority", ["Expired", "expired"]),
    ] {
        let server = server(certificate).await;
        let before = server.status_value("Connections").await;
        let settings = trusting(authority, &server.url())
            .size(4)
            .overflow(0)
            .max_connecting(2);
        let pool = pool(settings);
        let started = Instant::now();
        let error = pool.warm_up().await.expect_err("no trust");
        assert!(started.elapsed() < SOON / 2, "{:?}", started.elapsed());
        let text = error.to_string();
        assert!(!error.is_transient(), "{text}");
        assert!(text.contains("dates of the server's certificate"), "{text}");
        assert!(words.iter().any(|words| text.contains(words)), "{text}");
        let attempts = server.status_value("Connections").await - before;
        assert!(attempts <= 2, "{attempts} attempts");
        pool.close().await;
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_where_tls_is_required() {
    // No version of TLS: MariaDB reads an empty list as all of them, and has an option of its own.
    let off = match Flavor::chosen() {
        Flavor::MariaDb => "--skip-ssl",
        Flavor::MySql => "--tls-version=",
    };
    let server = Server::builder().option(off).start().await;
    let error = pool(trusting("authority", &server.url()))
        .warm_up()
        .await
        .expect_err("no TLS there");
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("turn TLS on"), "{error}");
}

#[tokio::test]
async fn an_account_that_requires_tls_is_refused_without() {
    let server = server("here").await;
    let error = pool(crate::support::config(&server.url()))
        .warm_up()
        .await
        .expect_err("refused");
    assert!(
        !error.is_transient() && error.to_string().contains("1045"),
        "{error}"
    );
}
