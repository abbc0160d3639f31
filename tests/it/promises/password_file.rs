//! The password in a file: rotated secrets are followed, and a file that cannot be read is waited
//! for.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use mysql_warm_pool::{Error, PoolConfig, Readiness};
use test_support::{PATIENCE, Server, config, eventually, pool, warm};

/// A secret mounted as kubelet does: `password` leads to `..data/password`, and `..data` to a folder
/// of its own for each version, which is swapped in one step.
struct Mounted {
    folder: PathBuf,
    version: u32,
}

impl Mounted {
    fn new(server: &Server, name: &str) -> Self {
        let folder = server.folder().join(name);
        fs::create_dir(&folder).expect("a new folder");
        symlink("..data/password", folder.join("password")).expect("a link");
        Self { folder, version: 0 }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("password")
    }

    fn write(&mut self, contents: impl AsRef<[u8]>) {
        self.version += 1;
        let version = format!("..version_{}", self.version);
        fs::create_dir(self.folder.join(&version)).expect("a folder");
        fs::write(self.folder.join(&version).join("password"), contents).expect("a file");
        let new = self.folder.join("..data_tmp");
        symlink(&version, &new).expect("a link");
        fs::rename(new, self.folder.join("..data")).expect("swapped");
    }
}

/// Settings for an account whose password is in this file. The URL's is wrong.
fn settings(server: &Server, user: &str, file: &Path) -> PoolConfig {
    config(&server.url_as(user, "wrong"))
        .password_file(file)
        .timeout(PATIENCE)
        .warm_up_timeout(PATIENCE)
        .size(4)
        .overflow(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_is_followed_by_a_refresh() {
    let server = Server::start().await;
    server
        .execute("CREATE USER rotated@'%' IDENTIFIED BY 'first'")
        .await;
    server.execute("GRANT ALL ON test.* TO rotated@'%'").await;
    let mut secret = Mounted::new(&server, "secret");
    secret.write("first\n");
    let pool = warm(settings(&server, "rotated", &secret.file())).await;
    // With what `echo`, an editor on Windows, and `printf` write, and what a URL would need encoded.
    for (password, end) in [
        ("12/s3cret?#@%41", "\n"),
        (" two words ", "\r\n"),
        ("third", ""),
    ] {
        server
            .execute(&format!(
                "ALTER USER rotated@'%' IDENTIFIED BY '{password}'"
            ))
            .await;
        secret.write(format!("{password}{end}"));
        let opened = pool.metrics().opened;
        pool.refresh();
        eventually("all are replaced", async || {
            pool.metrics().opened >= opened + 4 && pool.status().idle == 4
        })
        .await;
    }
    assert_eq!(pool.metrics().failed_attempts, 0);
    assert_eq!(pool.readiness(), Readiness::Ready);
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_is_followed_by_recycle() {
    let server = Server::start().await;
    server
        .execute("CREATE USER rotated@'%' IDENTIFIED BY 'first'")
        .await;
    server.execute("GRANT ALL ON test.* TO rotated@'%'").await;
    let mut secret = Mounted::new(&server, "secret");
    secret.write("first");
    let recycle = Duration::from_secs(1);
    let pool = warm(settings(&server, "rotated", &secret.file()).recycle(recycle)).await;
    // The file comes first, so that no opening between the two meets the old password for long;
    // openings that do are tried again.
    secret.write("second");
    server
        .execute("ALTER USER rotated@'%' IDENTIFIED BY 'second'")
        .await;
    let opened = pool.metrics().opened;
    eventually("all are replaced twice", async || {
        pool.metrics().opened >= opened + 8
    })
    .await;
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_is_waited_for() {
    let server = Server::start().await;
    server
        .execute("CREATE USER waiting@'%' IDENTIFIED BY 's3cret'")
        .await;
    server.execute("GRANT ALL ON test.* TO waiting@'%'").await;
    for (n, (contents, reason)) in [
        (None, "No such file"),
        (Some(b"".to_vec()), "empty"),
        (Some(b"\r\n\n".to_vec()), "empty"),
        (Some(b"s3cret\xff".to_vec()), "not UTF-8"),
        (Some(b"s3cret ".repeat(10_000)), "larger than 64 KiB"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut secret = Mounted::new(&server, &format!("secret-{n}"));
        if let Some(contents) = contents {
            secret.write(contents);
        }
        let settings = settings(&server, "waiting", &secret.file());
        let pool = pool(settings.warm_up_timeout(Duration::from_millis(200)));
        let error = pool.warm_up().await.expect_err(reason);
        assert!(error.is_transient(), "{error}");
        let health = pool.health().last_error.expect("an error");
        for text in [error.to_string(), format!("{error:?}"), health] {
            assert!(text.contains(reason), "{text}");
            assert!(text.contains("credentials: password file"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let get = pool.get_within(Duration::from_millis(50)).await;
        assert!(matches!(get, Err(Error::Timeout { .. })), "{get:?}");
        secret.write("s3cret");
        eventually("it is ready", async || pool.readiness() == Readiness::Ready).await;
    }
}

/// A folder, and a pipe that nobody writes to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_ends_each_attempt_at_once() {
    let server = Server::shared().await;
    let pipe = server.folder().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo can be run").success());
    for path in [server.folder(), pipe.as_path()] {
        let settings = settings(server, "app", path).warm_up_timeout(Duration::from_millis(200));
        let error = pool(settings).warm_up().await.expect_err("no file");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_in_the_file_can_be_corrected() {
    let server = Server::start().await;
    let mut secret = Mounted::new(&server, "secret");
    secret.write("wr0ng");
    let account = server.opts();
    let user = account.user().expect("a user");
    let pool = pool(settings(&server, user, &secret.file()));
    let error = pool.warm_up().await.expect_err("refused");
    let text = error.to_string();
    assert!(!error.is_transient() && text.contains("1045"), "{text}");
    assert!(!text.contains("wr0ng"), "{text}");
    secret.write(account.pass().expect("a password"));
    eventually("it is ready", async || pool.readiness() == Readiness::Ready).await;
}
