//! Starts the service, in this process or as its own program, and sends it requests.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use accounts_service::{Config, Error, Service};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use mysql_warm_pool::{Pool, report::CloseReport};
use serde_json::Value;
use test_support::free_port;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

pub(crate) const READINESS: &str = "/api/v1/common/health/readiness";
pub(crate) const LIVENESS: &str = "/api/v1/common/health/liveness";
pub(crate) const HEALTH: &str = "/api/v1/common/health";
pub(crate) const ACCOUNTS: &str = "/api/v1/accounts";
pub(crate) const TRANSFERS: &str = "/api/v1/transfers";

/// Settings for the server at this URL, with which the service ends at once when asked to.
pub(crate) fn settings(url: &str) -> Config {
    let mut config = Config::new(test_support::config(url).size(5).overflow(5));
    config.shutdown_delay = Duration::ZERO;
    config
}

/// The service in this process.
pub(crate) struct Running {
    pub(crate) pool: Pool,
    pub(crate) router: axum::Router,
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<CloseReport, Error>>,
}

impl Running {
    /// Starts the service without waiting for anything.
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_at(config, 0).await
    }

    pub(crate) async fn start_at(config: Config, port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let service = Service::new(config).expect("good settings");
        let (pool, router) = (service.pool().clone(), service.router());
        let (stop, stopped) = oneshot::channel();
        // Also stops when this is dropped.
        let stopped = async { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(service.run(listener, stopped));
        Self {
            pool,
            router,
            client: Client::to(address),
            stop,
            task,
        }
    }

    /// Starts the service, and waits until it is ready.
    pub(crate) async fn ready(config: Config) -> Self {
        let running = Self::start(config).await;
        running.client.until_ready().await;
        running
    }

    /// Shuts the service down in order.
    pub(crate) async fn stop(self) -> CloseReport {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("no panic").expect("it had started")
    }
}

/// The service as its own program.
pub(crate) struct Program {
    child: Child,
    log: JoinHandle<Vec<String>>,
    pub(crate) client: Client,
}

impl Program {
    /// Starts it, and waits until it listens, which is long before it is ready.
    pub(crate) async fn start(url: &str, variables: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut program = Self::spawn(url, port, variables);
        test_support::eventually("it listens", async || {
            let ended = program.child.try_wait().expect("a status");
            assert!(ended.is_none(), "it ended instead: {ended:?}");
            TcpStream::connect(program.client.address).await.is_ok()
        })
        .await;
        program
    }

    fn spawn(url: &str, port: u16, variables: &[(&str, &str)]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut child = Command::new(env!("CARGO_BIN_EXE_accounts-service"))
            .env_clear()
            .env("DATABASE_URL", url)
            .env("LISTEN", address.to_string())
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let log = tokio::spawn(async move {
            let mut log = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                log.push(line);
            }
            log
        });
        Self {
            child,
            log,
            client: Client::to(address),
        }
    }

    /// Runs the program to its end; returns its status and its log.
    pub(crate) async fn run(url: &str, variables: &[(&str, &str)]) -> (ExitStatus, String) {
        Self::spawn(url, free_port(), variables).end().await
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(status.expect("kill").success());
    }

    /// Waits for its end; returns its status and its log.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let ending = tokio::time::timeout(Duration::from_secs(30), self.child.wait());
        let status = ending.await.expect("an end").expect("a status");
        (status, self.log.await.expect("no panic").join("\n"))
    }
}

/// Sends requests, each on a new connection or on one that an earlier request has left open.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    idle: Arc<Mutex<Vec<Sender>>>,
}

type Sender = SendRequest<Full<Bytes>>;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The status and the code of the problem in the response.
    pub(crate) fn problem(&self) -> (u16, String) {
        let code = self.json()["error"]["code"].as_str().map(str::to_owned);
        (self.status.as_u16(), code.unwrap_or_default())
    }
}

impl Client {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Arc::default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await.expect(path)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.send(Method::POST, path, Some(body)).await.expect(path)
    }

    /// Whether the connection failed: refused, reset, or closed without a response.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, String> {
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.unwrap_or_default()))
            .expect("a request");
        let response = sender.send_request(request).await.map_err(text)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(text)?.to_bytes();
        let asked_to_close = head.headers.get(CONNECTION).is_some_and(|it| it == "close");
        if !asked_to_close && sender.ready().await.is_ok() {
            self.idle.lock().expect("no panic").push(sender);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    pub(crate) async fn until_ready(&self) {
        test_support::eventually("it is ready", async || {
            self.get(READINESS).await.status == StatusCode::OK
        })
        .await;
    }

    /// Creates an account; returns its id.
    pub(crate) async fn account(&self, owner: &str, balance: u64) -> u64 {
        let new = serde_json::json!({ "owner": owner, "balance": balance });
        let answer = self.post(ACCOUNTS, &new).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["id"].as_u64().expect("a number")
    }

    pub(crate) async fn transfer(&self, from: u64, to: u64, amount: u64) -> Answer {
        let order = serde_json::json!({ "from": from, "to": to, "amount": amount });
        self.post(TRANSFERS, &order).await
    }

    fn take(&self) -> Option<Sender> {
        loop {
            let sender = self.idle.lock().expect("no panic").pop()?;
            if !sender.is_closed() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<Sender, String> {
        let stream = TcpStream::connect(self.address).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(text)?;
        // Its errors are returned by the requests on it.
        tokio::spawn(async { connection.await.ok() });
        Ok(sender)
    }
}

fn text(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
