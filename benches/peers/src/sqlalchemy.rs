//! SQLAlchemy with asyncmy: a process of its own, which takes the same orders.

use std::{env, process::Stdio};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use crate::{
    measure::{Length, Round},
    pools::{Peer, Result, Work},
};

/// Names the Python that has what `python/requirements.txt` lists; set by `scripts/compare-peers`.
const PYTHON: &str = "PEERS_PYTHON";

/// On the server that `DATABASE_URL` names. Its process ends with the value.
pub struct Sqlalchemy(Mutex<Process>);

struct Process {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

impl Sqlalchemy {
    pub fn is_at_hand() -> bool {
        env::var_os(PYTHON).is_some_and(|python| !python.is_empty())
    }

    pub fn start(connections: usize, ping: bool) -> Result<Self> {
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

impl Peer for Sqlalchemy {
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
