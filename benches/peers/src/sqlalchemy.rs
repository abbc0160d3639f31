//! The Python peer: SQLAlchemy with asyncmy, in a process that takes orders.

use std::{env, process::Stdio};

use futures_util::future::BoxFuture;
use harness::{Length, Peer, Result, Round, Safety, Work, work::Connections};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

/// The path of a Python with the packages in `python/requirements.txt`; set by
/// `scripts/compare-peers`.
const PYTHON: &str = "PEERS_PYTHON";

pub const SQLALCHEMY: Peer = Peer {
    name: "sqlalchemy",
    title: "SQLAlchemy with asyncmy",
    readme: "SQLAlchemy with asyncmy, one process",
    safety: Safety::InPart,
    open: |_, connections| {
        Box::pin(async move { Ok(Box::new(Sqlalchemy::start(connections, false)?) as _) })
    },
};

pub const SQLALCHEMY_PING: Peer = Peer {
    name: "sqlalchemy-ping",
    title: "SQLAlchemy, pool_pre_ping",
    readme: "SQLAlchemy with `pool_pre_ping`",
    safety: Safety::InPart,
    open: |_, connections| {
        Box::pin(async move { Ok(Box::new(Sqlalchemy::start(connections, true)?) as _) })
    },
};

/// Whether that Python is available.
pub fn is_at_hand() -> bool {
    env::var_os(PYTHON).is_some_and(|python| !python.is_empty())
}

/// On the server that `DATABASE_URL` names. Dropping it ends the process.
struct Sqlalchemy(Mutex<Process>);

struct Process {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

impl Sqlalchemy {
    fn start(connections: usize, ping: bool) -> Result<Self> {
        let python = env::var_os(PYTHON).ok_or_else(|| format!("{PYTHON} is not set"))?;
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/peer.py"))
            .arg(connections.to_string())
            .arg(if ping { "ping" } else { "no-ping" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().ok_or("no way to give orders")?;
        let answers = child.stdout.take().ok_or("no way to get answers")?;
        Ok(Self(Mutex::new(Process {
            orders,
            answers: BufReader::new(answers),
            _child: child,
        })))
    }

    async fn order(&self, order: Value) -> Result<Value> {
        let mut process = self.0.lock().await;
        process
            .orders
            .write_all(format!("{order}\n").as_bytes())
            .await?;
        process.orders.flush().await?;
        let mut answer = String::new();
        process.answers.read_line(&mut answer).await?;
        if answer.is_empty() {
            return Err("SQLAlchemy's process has ended; its errors are above".into());
        }
        let answer: Value = serde_json::from_str(&answer)?;
        drop(process);
        Ok(answer)
    }
}

impl Connections for Sqlalchemy {
    fn round(&self, work: Work, tasks: usize, length: Length) -> BoxFuture<'_, Result<Round>> {
        Box::pin(async move {
            let order = json!({
                "work": work.name(),
                "tasks": tasks,
                "rehearsal": length.rehearsal.as_secs_f64(),
                "counted": length.counted.as_secs_f64(),
            });
            let answer = self.order(order).await?;
            let number = |name: &str| {
                let number = answer.get(name).and_then(Value::as_f64);
                number.ok_or_else(|| format!("no {name} in {answer}"))
            };
            Ok(Round {
                per_second: number("per_second")?,
                p50: number("p50")?,
                p99: number("p99")?,
            })
        })
    }

    fn times(&self, work: Work, tasks: u32, times: u32) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.order(json!({"work": work.name(), "tasks": tasks, "times": times}))
                .await?;
            Ok(())
        })
    }
}
