//! Starts the service as it is deployed, with the database in `DATABASE_URL`, and stops it by
//! SIGTERM.

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio, id},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use mysql_warm_pool::{Pool, PoolConfig};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test at a time uses the table: inserts of neighbouring names wait for each other.
static TABLE: Mutex<()> = Mutex::const_new(());

#[test]
fn items_are_created_listed_found_and_replaced() -> Outcome {
    let _table = TABLE.blocking_lock();
    let service = Service::start(&[])?;
    service.wait_until_ready()?;

    let (pear, plum) = (format!("pear {}", id()), format!("plum {}", id()));
    let (status, created) = service.post(&json!({"name": pear, "price": 120}))?;
    assert_eq!(status, 201);
    let url = format!("/items/{}", created["id"]);
    assert_eq!(service.get(&url)?, (200, created.clone()));
    let (_, items) = service.get("/items")?;
    assert!(
        items
            .as_array()
            .is_some_and(|items| items.contains(&created))
    );

    // A failed transaction changes nothing.
    assert_eq!(service.post(&json!({"name": pear, "price": 90}))?.0, 409);
    let nothing = json!({"name": plum, "price": 90, "replaces": 0});
    assert_eq!(service.post(&nothing)?.0, 404);
    let too_long = json!({"name": "p".repeat(81), "price": 90, "replaces": created["id"]});
    assert_eq!(service.post(&too_long)?.0, 422);
    assert_eq!(service.get(&url)?.0, 200);

    let replacement = json!({"name": plum, "price": 90, "replaces": created["id"]});
    assert_eq!(service.post(&replacement)?.0, 201);
    assert_eq!(service.get(&url)?.0, 404);
    assert_eq!(service.get("/items/pear")?.0, 400);

    service.terminate()?;
    service.wait_for(&["pool closed", "drained=5", "cut=0"])?;
    assert_eq!(service.exit_code()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_service_stops() -> Outcome {
    let _table = TABLE.lock().await;
    let service = Service::start(&[])?;
    service.wait_until_ready()?;
    // The request waits for the end of a transaction that has inserted the same name.
    let pool = Pool::new(PoolConfig::from_env()?.size(1))?;
    let mut transaction = pool.begin().await?;
    let name = format!("quince {}", id());
    let insert = "INSERT INTO item (name, price) VALUES (?, 1)";
    transaction.exec_drop(insert, (&name,)).await?;
    let body = json!({"name": name, "price": 80}).to_string();
    let request = service.request("POST", "/items", &body)?;
    let waits = "SELECT COUNT(*) FROM information_schema.processlist
                 WHERE info LIKE 'INSERT INTO item%'";
    let since = Instant::now();
    while pool.query_first(waits).await? != Some(1) {
        assert!(since.elapsed() < PATIENCE, "the request does not wait");
        sleep(Duration::from_millis(10)).await;
    }

    service.terminate()?;
    service.wait_for(&["stopping"])?;
    transaction.rollback().await?;
    assert_eq!(answer(request)?.0, 201);
    service.wait_for(&["pool closed", "drained=5", "cut=0"])?;
    assert_eq!(service.exit_code()?, Some(0));
    Ok(())
}

#[test]
fn without_a_database_it_lives_and_is_not_ready() -> Outcome {
    // Nothing listens on port 1.
    let service = Service::start(&[("DATABASE_HOST", "127.0.0.1"), ("DATABASE_PORT", "1")])?;
    service.wait_for(&["connections cannot be opened"])?;
    assert_eq!(service.get("/live")?.0, 200);
    assert_eq!(service.get("/ready")?, (503, Value::from("cold")));
    service.terminate()?;
    assert_eq!(service.exit_code()?, Some(0));
    Ok(())
}

#[test]
fn a_wrong_password_ends_it() -> Outcome {
    let service = Service::start(&[("DATABASE_PASSWORD", "wrong")])?;
    service.wait_for(&["check user and password"])?;
    assert_eq!(service.exit_code()?, Some(1));
    Ok(())
}

/// A running service, which is killed when this is dropped.
struct Service {
    process: Child,
    lines: Receiver<String>,
    address: String,
}

impl Service {
    fn start(variables: &[(&str, &str)]) -> Outcome<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_shop"))
            .env("DATABASE_POOL_SIZE", "5")
            .env("LISTEN", "127.0.0.1:0")
            .env("NO_COLOR", "1")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        let output: [Option<Box<dyn Read + Send>>; 2] = [
            process.stdout.take().map(|pipe| Box::new(pipe) as _),
            process.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for pipe in output.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    println!("{line}");
                    drop(sender.send(line));
                }
            });
        }
        let mut service = Self {
            process,
            lines,
            address: String::new(),
        };
        let line = service.wait_for(&["listening on "])?;
        service.address = line
            .split("listening on ")
            .last()
            .unwrap_or_default()
            .to_owned();
        Ok(service)
    }

    /// Returns the next line that contains all these texts.
    fn wait_for(&self, texts: &[&str]) -> Outcome<String> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.map_err(|_| format!("the service never logged {texts:?}"))?;
            if texts.iter().all(|text| line.contains(text)) {
                return Ok(line);
            }
        }
    }

    fn wait_until_ready(&self) -> Outcome {
        let since = Instant::now();
        while self.get("/ready")? != (200, Value::from("ready")) {
            if since.elapsed() > PATIENCE {
                return Err("the service never became ready".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Outcome<(u16, Value)> {
        answer(self.request("GET", path, "")?)
    }

    fn post(&self, item: &Value) -> Outcome<(u16, Value)> {
        answer(self.request("POST", "/items", &item.to_string())?)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Outcome<TcpStream> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        )?;
        Ok(stream)
    }

    fn terminate(&self) -> Outcome {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status()?;
        if status.success() {
            Ok(())
        } else {
            Err("kill failed".into())
        }
    }

    fn exit_code(mut self) -> Outcome<Option<i32>> {
        Ok(self.process.wait()?.code())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Returns the status and the body of the answer: JSON, or else a text.
fn answer(mut stream: TcpStream) -> Outcome<(u16, Value)> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("not an answer")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
    Ok((status, body))
}
