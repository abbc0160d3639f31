//! The pool works over TLS as it does without; a certificate that cannot be trusted ends the
//! warm-up at once with the reason.

use std::{
    fs,
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error, PoolConfig, Reset,
    config::{Credentials, CredentialsSource},
    mysql_async::{Conn, Opts, OptsBuilder, prelude::*},
};
use test_support::{
    Flavor, PATIENCE, Proxy, Server, config, eventually, pool, scripted::Scripted, tls, warm,
};

/// A server with this certificate, which accepts clients over TLS only.
async fn server(certificate: &str) -> Server {
    let mut builder = Server::builder().without_required_tls();
    for option in tls::options(certificate) {
        builder = builder.option(&option);
    }
    let server = builder.start().await;
    server.execute("ALTER USER app@'%' REQUIRE SSL").await;
    server
}

/// Trusts certificates signed by this authority.
fn trusting(authority: &str, url: &str) -> PoolConfig {
    let opts = Opts::from_url(url).expect("a URL");
    PoolConfig::from_opts(OptsBuilder::from_opts(opts).ssl_opts(tls::trusting(authority)))
        .timeout(PATIENCE)
        .warm_up_timeout(PATIENCE)
}

/// With `TEST_TLS=required` the rest of the suite runs over TLS; this test checks that it does.
#[tokio::test]
async fn the_tests_own_connections_use_tls_only_where_it_is_required() {
    async fn cipher(conn: &mut impl Queryable) -> String {
        let status: Option<(String, String)> = conn
            .query_first("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            .await
            .expect("an answer");
        status.expect("a status of that name").1
    }
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let direct = warm(config(&server.url()).size(2)).await;
    let by_proxy = warm(config(&server.url_via(proxy.port())).size(2)).await;
    let mut ciphers = Vec::new();
    for pool in [&direct, &by_proxy] {
        for mut conn in [pool.get().await, pool.get().await].map(|conn| conn.expect("one of two")) {
            ciphers.push(cipher(&mut conn).await);
        }
    }
    for opts in [server.opts(), server.opts_via(proxy.port())] {
        ciphers.push(cipher(&mut Conn::new(opts).await.expect("a connection")).await);
    }
    ciphers.push(cipher(&mut server.admin().await).await);
    println!("{ciphers:?}");
    let over_tls = ciphers.iter().filter(|cipher| !cipher.is_empty()).count();
    assert_eq!(over_tls, if tls::is_required() { ciphers.len() } else { 0 });

    // MariaDB does not give the reason.
    let code = match server.flavor() {
        Flavor::MariaDb if !Flavor::MariaDb.is_since(11, 8) => "1045",
        Flavor::MariaDb | Flavor::MySql => "3159",
    };
    let plain = OptsBuilder::from_opts(server.opts()).ssl_opts(None);
    let refused = Conn::new(plain).await.err().map(|error| error.to_string());
    assert_eq!(
        refused.as_ref().is_some_and(|error| error.contains(code)),
        tls::is_required(),
        "{refused:?}"
    );
    if tls::is_required() {
        // The settings that `config` makes of the URL trust no other authority.
        let wrong = trusting(tls::ANOTHER_AUTHORITY, &server.url());
        pool(wrong).warm_up().await.expect_err("no trust");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_works_as_it_does_without_tls() {
    let server = server(tls::GOOD).await;
    let proxy = Proxy::start(server.port()).await;
    let settings = trusting(tls::AUTHORITY, &server.url_via(proxy.port()))
        .size(4)
        .overflow(0)
        .reset(Reset::Always)
        .validate_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    let cipher: Option<(String, String)> = conn
        .query_first("SHOW STATUS LIKE 'Ssl_cipher'")
        .await
        .expect("an answer");
    assert!(cipher.is_some_and(|(_, cipher)| !cipher.is_empty()));
    conn.query_drop("SET @leak = 1").await.expect("set");
    drop(conn);
    eventually("it is reset", async || pool.metrics().resets == 1).await;
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

    // The connections are cut, then refused, then accepted again.
    proxy.refuse().await;
    proxy.cut().await;
    eventually("the pool notices", async || {
        pool.get_within(Duration::from_millis(50)).await.is_err()
    })
    .await;
    proxy.accept_again().await;
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
    drop(conn);
    server.restart().await;
    eventually("the pool is full again", async || {
        pool.get_within(PATIENCE).await.is_ok() && pool.status().idle == 4
    })
    .await;
}

#[tokio::test]
async fn an_untrusted_certificate_ends_the_warm_up_at_once() {
    for (certificate, authority, words) in [
        (
            tls::GOOD,
            tls::ANOTHER_AUTHORITY,
            ["UnknownIssuer", "self-signed certificate"],
        ),
        (
            tls::ELSEWHERE,
            tls::AUTHORITY,
            ["not valid for name", "mismatch"],
        ),
        (tls::EXPIRED, tls::AUTHORITY, ["Expired", "expired"]),
    ] {
        let server = server(certificate).await;
        let settings = trusting(authority, &server.url())
            .size(4)
            .overflow(0)
            .max_connecting(2);
        let pool = pool(settings);
        let started = Instant::now();
        let error = pool.warm_up().await.expect_err("no trust");
        assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
        let text = error.to_string();
        assert!(!error.is_transient(), "{text}");
        assert!(text.contains("dates of the server's certificate"), "{text}");
        assert!(words.iter().any(|words| text.contains(words)), "{text}");
        // The pool goes on trying in the background, so the server may have seen more by now.
        let Error::WarmUp { report, .. } = &error else {
            panic!("{text}");
        };
        assert!(report.attempts <= 2, "{} attempts", report.attempts);
        pool.close().await;
    }
}

/// As the `mysql` client does, and never less; with an authority named, it is always verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_says_how_far_the_server_is_verified() {
    // rustls verifies the name whenever it verifies at all: the driver cannot turn that off.
    let ignores_names = cfg!(feature = "native-tls");
    for (certificate, query, is_trusted) in [
        (tls::GOOD, "ssl-mode=REQUIRED", true),
        (tls::EXPIRED, "sslmode=require", true),
        (tls::ELSEWHERE, "useSSL=true", true),
        (tls::GOOD, "ssl-mode=VERIFY_CA", false),
        (tls::GOOD, "ssl-mode=VERIFY_CA&ssl-ca={ca}", true),
        (
            tls::ELSEWHERE,
            "ssl-mode=VERIFY_CA&ssl-ca={ca}",
            ignores_names,
        ),
        (tls::EXPIRED, "ssl-mode=VERIFY_CA&ssl-ca={ca}", false),
        (tls::GOOD, "ssl-mode=VERIFY_CA&ssl-ca={other}", false),
        (tls::GOOD, "ssl-mode=REQUIRED&ssl-ca={other}", false),
        (tls::GOOD, "ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}", true),
        (tls::GOOD, "ssl-ca={ca}", true),
        (tls::ELSEWHERE, "sslMode=VERIFY_IDENTITY&ssl-ca={ca}", false),
    ] {
        let server = server(certificate).await;
        let [ca, other] = [tls::AUTHORITY, tls::ANOTHER_AUTHORITY]
            .map(|authority| tls::certificate_of(authority).display().to_string());
        let query = query.replace("{ca}", &ca).replace("{other}", &other);
        let url = format!("{}?{query}", server.url());
        let settings = PoolConfig::from_url(&url)
            .expect("a URL")
            .size(1)
            .overflow(0);
        let warmed = pool(settings.warm_up_timeout(PATIENCE)).warm_up().await;
        assert_eq!(
            warmed.is_ok(),
            is_trusted,
            "{certificate} {query}: {warmed:?}"
        );
    }
}

/// An account that asks for the client's certificate; `ssl-cert` and `ssl-key` name PEM files.
#[cfg(not(feature = "native-tls"))]
#[tokio::test]
async fn a_client_identifies_itself_by_its_certificate() {
    let server = server(tls::GOOD).await;
    server.execute("ALTER USER app@'%' REQUIRE X509").await;
    let ca = tls::certificate_of(tls::AUTHORITY);
    let cert = tls::certificate_of(tls::GOOD);
    let key = cert.with_extension("key");
    let url = format!("{}?ssl-ca={}", server.url(), ca.display());
    let error = pool(config(&url))
        .warm_up()
        .await
        .expect_err("no certificate");
    assert!(error.to_string().contains("1045"), "{error}");
    let url = format!(
        "{url}&ssl-cert={}&ssl-key={}",
        cert.display(),
        key.display()
    );
    let settings = PoolConfig::from_url(&url)
        .expect("a URL")
        .size(2)
        .overflow(0);
    warm(settings).await;
}

/// Also with `credentials`, where each opening has its own options: options made from the same base
/// share the parsed certificates. Trusting others takes another pool.
#[tokio::test]
async fn trusted_certificates_are_read_once_for_a_pool() {
    let server = server(tls::GOOD).await;
    let trusted = server.folder().join("trusted.pem");
    let settings = || {
        let opts = OptsBuilder::from_opts(Opts::from_url(&server.url()).expect("a URL"))
            .ssl_opts(tls::trusting_those_in(trusted.clone()));
        PoolConfig::from_opts(opts).size(2).overflow(0)
    };
    let account = server.opts();
    let (user, password) = (account.user(), account.pass());
    let credentials = Credentials::new(user.expect("a user"), password.expect("a password"));
    let source = CredentialsSource::new(move || {
        let credentials = credentials.clone();
        async { Ok::<_, Error>(credentials) }
    });
    for settings in [settings(), settings().credentials(source)] {
        fs::copy(tls::certificate_of(tls::AUTHORITY), &trusted).expect("a file");
        let pool = warm(settings).await;
        fs::copy(tls::certificate_of(tls::ANOTHER_AUTHORITY), &trusted).expect("a file");
        let old: Vec<_> = [pool.get().await, pool.get().await]
            .map(|conn| conn.expect("one of two").id())
            .into();
        pool.refresh();
        eventually("both are replaced", async || {
            let status = pool.status();
            status.idle == 2 && pool.metrics().opened == 4
        })
        .await;
        assert_eq!(pool.metrics().failed_attempts, 0);
        let new = pool.get().await.expect("a connection").id();
        assert!(!old.contains(&new), "{new} is one of {old:?}");
    }
    pool(settings()).warm_up().await.expect_err("read anew");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    // No TLS version: MariaDB treats an empty list as all of them, and has an option of its own.
    let off = match Flavor::chosen() {
        Flavor::MariaDb => "--skip-ssl",
        Flavor::MySql => "--tls-version=",
    };
    let server = Server::builder()
        .without_required_tls()
        .option(off)
        .start()
        .await;
    let error = pool(trusting(tls::AUTHORITY, &server.url()))
        .warm_up()
        .await
        .expect_err("no TLS there");
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("turn TLS on"), "{error}");
}

#[tokio::test]
async fn an_account_that_requires_tls_is_refused_without_it() {
    let server = server(tls::GOOD).await;
    let error = pool(config(&server.url()))
        .warm_up()
        .await
        .expect_err("refused");
    assert!(
        !error.is_transient() && error.to_string().contains("1045"),
        "{error}"
    );
    assert!(error.to_string().contains("requires TLS"), "{error}");
}

/// A file that cannot be used is a permanent fault, which names the file and ends the warm-up within
/// one attempt. The server is not even asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_of_certificates_is_named_at_once() {
    let server = server(tls::GOOD).await;
    let folder = server.folder();
    let good = fs::read_to_string(tls::certificate_of(tls::AUTHORITY)).expect("a certificate");
    let key = tls::certificate_of(tls::GOOD).with_extension("key");
    let cut = good.split_at(good.len() / 2).0;
    let middle = good.len() / 2;
    let damaged = format!("{}?{}", &good[..middle], &good[middle + 1..]);
    let mut files = vec![
        (folder.join("missing.pem"), "No such file"),
        (folder.join("folder.pem"), "directory"),
        (key, "holds a private key"),
    ];
    fs::create_dir(folder.join("folder.pem")).expect("a folder");
    for (name, contents, part) in [
        ("empty.pem", "", "empty"),
        ("blank.pem", "\n\n", "empty"),
        ("prose.pem", "hello", "neither PEM nor DER"),
        ("cut.pem", cut, "cut off"),
        ("damaged.pem", &damaged, "damaged"),
    ] {
        let file = folder.join(name);
        fs::write(&file, contents).expect("a file");
        files.push((file, part));
    }
    for (file, part) in files {
        let by_url = format!("{}?ssl-ca={}", server.url(), file.display());
        let by_url = PoolConfig::from_url(&by_url).expect("a URL");
        let opts = OptsBuilder::from_opts(Opts::from_url(&server.url()).expect("a URL"));
        let by_opts = opts.ssl_opts(tls::trusting_those_in(file.clone()));
        for settings in [by_url, PoolConfig::from_opts(by_opts)] {
            let before = server.status_value("Connections").await;
            let settings = settings.size(2).overflow(0).max_connecting(1);
            let pool = pool(settings.warm_up_timeout(PATIENCE));
            let error = pool.warm_up().await.expect_err("no such certificates");
            assert!(!error.is_transient(), "{error}");
            let text = error.to_string();
            for part in [&file.display().to_string(), part, "`ssl-ca`"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains("start the server"), "{text}");
            pool.close().await;
            // One is the question's own.
            let attempts = server.status_value("Connections").await - before;
            assert!(attempts <= 2, "{attempts} attempts");
        }
    }

    let unasked = Scripted::start().await;
    let url = format!("{}?ssl-ca=/missing.pem", unasked.url());
    let settings = PoolConfig::from_url(&url).expect("a URL");
    let pool = pool(settings.size(2).overflow(0));
    pool.warm_up().await.expect_err("no such certificates");
    assert_eq!(unasked.accepted(), 0);
}

/// As above, for what the client identifies itself with.
#[cfg(not(feature = "native-tls"))]
#[tokio::test]
async fn a_bad_certificate_or_key_of_the_client_is_named() {
    let server = server(tls::GOOD).await;
    let ca = tls::certificate_of(tls::AUTHORITY);
    let cert = tls::certificate_of(tls::GOOD);
    let key = cert.with_extension("key");
    let missing = server.folder().join("missing.pem");
    let other = tls::certificate_of(tls::ELSEWHERE).with_extension("key");
    for (cert, key, parts) in [
        (
            &missing,
            &key,
            ["missing.pem", "No such file", "`ssl-cert`"],
        ),
        (
            &cert,
            &missing,
            ["missing.pem", "No such file", "`ssl-key`"],
        ),
        (&key, &key, ["here.key", "no certificate", "`ssl-cert`"]),
        (&cert, &cert, ["here.pem", "no private key", "`ssl-key`"]),
        (
            &cert,
            &other,
            ["`ssl-cert`", "`ssl-key`", "do not belong together"],
        ),
    ] {
        let [ca, cert, key] = [&ca, cert, key].map(|file| file.display().to_string());
        let url = format!("{}?ssl-ca={ca}&ssl-cert={cert}&ssl-key={key}", server.url());
        let settings = PoolConfig::from_url(&url).expect("a URL");
        let error = pool(settings.size(2).overflow(0).warm_up_timeout(PATIENCE))
            .warm_up()
            .await
            .expect_err("not to be used");
        let text = error.to_string();
        assert!(!error.is_transient(), "{text}");
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{parts:?}: {text}"
        );
    }
}
