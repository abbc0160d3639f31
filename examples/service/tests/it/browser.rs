//! Headless Chromium, driven by its own protocol over a pipe.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{self, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with a new profile. It ends when this is dropped.
pub(crate) struct Browser {
    child: Child,
    wire: Arc<Mutex<Wire>>,
    profile: PathBuf,
}

impl Browser {
    /// Fails if no browser is installed, rather than skip the test of the page.
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("chromium-{}-{number}", process::id()));
        let mut child = Command::new("sh")
            // The protocol's pipes are 3 and 4.
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#])
            .arg(find())
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let wire = Wire {
            orders: child.stdin.take().expect("a pipe"),
            answers: BufReader::new(child.stdout.take().expect("a pipe")),
            last: 0,
            complaints: Vec::new(),
        };
        Self {
            child,
            wire: Arc::new(Mutex::new(wire)),
            profile,
        }
    }

    /// Opens the page of the service at this address.
    pub(crate) async fn open(&self, address: SocketAddr) -> Tab {
        let mut wire = self.wire.lock().await;
        let blank = json!({ "url": "about:blank" });
        let target = wire.order("Target.createTarget", blank, None).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = wire.order("Target.attachToTarget", attach, None).await;
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        drop(wire);
        let tab = Tab {
            wire: Arc::clone(&self.wire),
            session,
        };
        tab.order("Runtime.enable", json!({})).await;
        tab.order("Log.enable", json!({})).await;
        tab.resize(1100).await;
        let url = json!({ "url": format!("http://{address}/") });
        tab.order("Page.navigate", url).await;
        // Scripts that are deferred have run by then.
        test_support::eventually("the page is loaded", async || {
            let state = "location.protocol === 'http:' && document.readyState";
            tab.text(state).await == "complete"
        })
        .await;
        tab
    }

    pub(crate) async fn close(mut self) {
        self.wire
            .lock()
            .await
            .send("Browser.close", json!({}), None)
            .await;
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .expect("a status");
        fs::remove_dir_all(&self.profile).ok();
    }
}

/// One page.
pub(crate) struct Tab {
    wire: Arc<Mutex<Wire>>,
    session: String,
}

impl Tab {
    /// Evaluates an expression, and returns its value as text.
    pub(crate) async fn text(&self, expression: &str) -> String {
        let order = json!({ "expression": format!("String({expression})") });
        let answer = self.order("Runtime.evaluate", order).await;
        let text = answer["result"]["value"].as_str();
        text.unwrap_or_else(|| panic!("{expression}: {answer}"))
            .to_owned()
    }

    /// Sets the colour scheme: light or dark.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.order(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        )
        .await;
    }

    pub(crate) async fn resize(&self, width: u32) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.order("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// A PNG of the page.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let answer = self.order("Page.captureScreenshot", json!({})).await;
        let data = answer["data"].as_str().expect("a picture");
        STANDARD.decode(data).expect("base64")
    }

    /// No script failed, and nothing that the page's policy forbids was tried.
    pub(crate) fn has_complained_of_nothing(&self) {
        let wire = self.wire.try_lock().expect("no order is under way");
        let complaints = wire.complaints.clone();
        drop(wire);
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    async fn order(&self, method: &str, params: Value) -> Value {
        let mut wire = self.wire.lock().await;
        wire.order(method, params, Some(&self.session)).await
    }
}

/// Commands and responses, each ended by a zero byte.
struct Wire {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    last: u64,
    complaints: Vec<Value>,
}

impl Wire {
    async fn order(&mut self, method: &str, params: Value, session: Option<&str>) -> Value {
        let id = self.send(method, params, session).await;
        let answer = async {
            loop {
                let message = self.next().await;
                if message["id"] == id {
                    return message;
                }
            }
        };
        let mut answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| panic!("no answer to {method}"));
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    async fn send(&mut self, method: &str, params: Value, session: Option<&str>) -> u64 {
        self.last += 1;
        let mut order = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = session {
            order["sessionId"] = session.into();
        }
        let order = format!("{order}\0");
        self.orders
            .write_all(order.as_bytes())
            .await
            .expect("the browser runs");
        self.last
    }

    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let length = self
            .answers
            .read_until(0, &mut message)
            .await
            .expect("a message");
        assert!(length > 0, "the browser has ended");
        message.pop();
        let message: Value = serde_json::from_slice(&message).expect("JSON");
        let is_complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            // Network events are reported there too, and are not errors.
            Some("Log.entryAdded") => message["params"]["entry"]["source"] != "network",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(message["params"].clone());
        }
        message
    }
}

fn find() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
        .expect("no Chromium here: apt-get install chromium")
}
