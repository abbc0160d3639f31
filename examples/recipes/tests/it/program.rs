//! A recipe as a process of its own.

use std::{ffi::OsStr, net::SocketAddr, process::Stdio};

use test_support::PATIENCE;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A running recipe. It is killed when this is dropped.
pub struct Program {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts a recipe that reads `DATABASE_URL` and listens on a free port, if it listens.
    pub fn start(path: &str, url: &str) -> Self {
        Self::start_with(path, [("DATABASE_URL", url)])
    }

    pub fn start_with<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        path: &str,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut child = Command::new(path)
            .env("LISTEN", "127.0.0.1:0")
            .envs(environment)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a recipe that starts");
        let output = child.stdout.take().expect("its output");
        let output = BufReader::new(output).lines();
        Self { child, output }
    }

    /// The next line of its output that contains this text.
    pub async fn line_with(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = timeout(PATIENCE, self.output.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no {text:?} after {seen:#?}"));
            match line.expect("readable output") {
                Some(line) if line.contains(text) => return line,
                Some(line) => seen.push(line),
                None => panic!("ended without {text:?}: {seen:#?}"),
            }
        }
    }

    /// Where it listens.
    pub async fn address(&mut self) -> SocketAddr {
        let line = self.line_with("listening on ").await;
        let address = line.rsplit(' ').next().expect("an address");
        address.parse().expect("an address")
    }

    pub async fn terminate(&self) {
        let id = self.child.id().expect("a running recipe").to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(killed.expect("kill").success());
    }

    /// The rest of its output, once it has ended by itself and without an error.
    pub async fn ends_well(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        let reading = async {
            while let Some(line) = self.output.next_line().await.expect("readable output") {
                rest.push(line);
            }
            self.child.wait().await.expect("its exit status")
        };
        let status = timeout(PATIENCE, reading).await.expect("it ends");
        assert!(status.success(), "{status}: {rest:#?}");
        rest
    }
}
