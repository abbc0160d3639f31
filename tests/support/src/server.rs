//! A throwaway database server on a loopback port, with its own data folder.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row};
use tokio::sync::OnceCell;

use crate::background::Background;
use crate::ports::free_port;
use crate::scratch::scratch;
use crate::tls;
use crate::watchdog::{Watchdog, lock};

/// The folder of the server to run, as `scripts/fetch-server` makes it. If it is not set, the
/// installed `MariaDB` runs.
const SERVER: &str = "TEST_SERVER";
/// An older variable: the path to a `MySQL` server program in such a folder.
const MYSQLD: &str = "TEST_MYSQLD";

const HOST: &str = "127.0.0.1";
const USER: &str = "app";
const PASSWORD: &str = "Hk7wTq2vXzR9";
pub(crate) const ADMIN: &str = "admin";
pub(crate) const ADMIN_PASSWORD: &str = "Jd4mPs8yLcN3";

/// How long a server may take to answer after its start.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a query to a healthy server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A running database server. It is stopped and removed when this is dropped, or when the test
/// process ends in any way.
///
/// The user of [`Server::url`] has all rights on the databases `test` and `other`, and no others.
/// The tests' own queries come through a second port, which counts neither towards the server's
/// `max_connections` nor towards [`Server::threads_connected`].
pub struct Server {
    flavor: Flavor,
    port: u16,
    admin_port: u16,
    /// Required for every login, the tests' own queries included.
    tls_required: bool,
    /// Holds `data` and `log`.
    folder: PathBuf,
    watchdog: Arc<Mutex<Watchdog>>,
    /// Queries the server on behalf of the tests. Open as long as the server runs, so that queries
    /// change no counter.
    observer: Arc<tokio::sync::Mutex<Option<Conn>>>,
    background: Background,
}

impl Server {
    /// Starts a server for one test alone.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The server shared by all tests without special needs. It starts at first use.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    pub fn builder() -> Builder {
        Builder {
            flavor: Flavor::chosen(),
            port: None,
            tls_required: tls::is_required(),
            options: Vec::new(),
            environment: Vec::new(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's own process.
    pub async fn pid(&self) -> u32 {
        self.order("").await.expect("a running server")
    }

    /// Whether it was started, and neither killed nor shut down since.
    pub async fn is_running(&self) -> bool {
        self.order("").await.is_some()
    }

    /// Whether it accepts only connections over TLS.
    pub(crate) fn requires_tls(&self) -> bool {
        self.tls_required
    }

    /// Whether the tests, and so the servers, run as root.
    pub(crate) fn runs_as_root(&self) -> bool {
        is_root(&self.folder)
    }

    /// The folder of its data and log, until it is dropped.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of the tests' user and the database `test`.
    ///
    /// If TLS is required, the URL asks for it. A URL cannot name a trusted certificate, so
    /// connections made from it alone verify none; `config` adds that.
    pub fn url(&self) -> String {
        self.url_via(self.port)
    }

    /// The same, through a proxy at this port.
    pub fn url_via(&self, port: u16) -> String {
        self.url_of(USER, PASSWORD, port)
    }

    /// The same, for another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url_of(user, password, self.port)
    }

    fn url_of(&self, user: &str, password: &str, port: u16) -> String {
        let query = if self.tls_required {
            "?require_ssl=true&verify_ca=false"
        } else {
            ""
        };
        format!("mysql://{user}:{password}@{HOST}:{port}/test{query}")
    }

    /// The options of [`Server::url`], always over TCP.
    pub fn opts(&self) -> Opts {
        self.opts_via(self.port)
    }

    pub fn opts_via(&self, port: u16) -> Opts {
        self.opts_of(port, USER, PASSWORD)
    }

    /// Opens a connection with all rights, through the second port.
    pub async fn admin(&self) -> Conn {
        Conn::new(self.admin_opts())
            .await
            .expect("an administrator's connection")
    }

    /// Runs one statement with all rights, such as `KILL 7` or `SET GLOBAL ...`, on a connection
    /// that stays open.
    pub async fn execute(&self, statement: &str) {
        self.ask(statement).await;
    }

    /// A number from `SHOW GLOBAL STATUS`, such as `Connections` or `Aborted_clients`. Asking
    /// changes neither.
    pub async fn status_value(&self, name: &str) -> u64 {
        let rows = self
            .ask(&format!(
                "SHOW GLOBAL STATUS WHERE Variable_name = '{name}'"
            ))
            .await;
        let row = rows.into_iter().next().expect("a status of that name");
        let (_, value): (String, String) = mysql_async::from_row(row);
        value.parse().expect("a status that is a whole number")
    }

    /// Connections open on the server now, without the tests' own.
    pub async fn threads_connected(&self) -> u64 {
        if self.flavor == Flavor::MariaDb {
            return self.status_value("Threads_connected").await;
        }
        // MySQL counts the connections on its second port as well.
        let threads = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                       WHERE USER NOT IN ('admin', 'event_scheduler')";
        let rows = self.ask(threads).await;
        let row = rows.into_iter().next().expect("a count");
        mysql_async::from_row(row)
    }

    /// Connections of this user, open on the server now.
    pub async fn connections_of(&self, user: &str) -> u64 {
        let theirs =
            format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{user}'");
        let rows = self.ask(&theirs).await;
        mysql_async::from_row(rows.into_iter().next().expect("a count"))
    }

    /// Creates a user with all rights on the database `test`, and with these on the server as a
    /// whole, such as `REPLICATION CLIENT`; none if empty.
    pub async fn create_user(&self, user: &str, password: &str, rights: &str) {
        let create = format!("CREATE USER {user}@'%' IDENTIFIED BY '{password}'");
        self.execute(&create).await;
        let own = format!("GRANT ALL ON test.* TO {user}@'%'");
        self.execute(&own).await;
        if !rights.is_empty() {
            self.execute(&format!("GRANT {rights} ON *.* TO {user}@'%'"))
                .await;
        }
    }

    /// Kills every connection of this user, from the server's side.
    pub async fn kill_all_of(&self, user: &str) {
        let theirs = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{user}'");
        for row in self.ask(&theirs).await {
            let id: u64 = mysql_async::from_row(row);
            self.execute(&format!("KILL {id}")).await;
        }
    }

    /// How many statements clients have prepared.
    pub async fn statements_prepared(&self) -> u64 {
        let prepared = self.status_value("Com_stmt_prepare").await;
        match self.flavor {
            Flavor::MariaDb => prepared,
            // MySQL prepares a statement again by itself when a parameter's type changes, and
            // counts that.
            Flavor::MySql => prepared - self.status_value("Com_stmt_reprepare").await,
        }
    }

    /// How many of the connections the server counts are the tests' own.
    pub fn own_connections(&self) -> u32 {
        match self.flavor {
            Flavor::MariaDb => 0,
            // MySQL's second port has room beyond `max_connections`, yet counts in the status.
            Flavor::MySql => 1,
        }
    }

    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The variable whose value differs on every server. `MariaDB` has none before 10.6.
    pub fn own_name(&self) -> Option<&'static str> {
        match self.flavor {
            Flavor::MariaDb if !self.flavor.is_since(10, 6) => None,
            Flavor::MariaDb => Some("@@server_uid"),
            Flavor::MySql => Some("@@server_uuid"),
        }
    }

    /// Kills the server as a crash would (SIGKILL). Its port and data stay.
    pub async fn kill(&self) {
        self.order("kill").await;
        self.observer.lock().await.take();
    }

    /// Shuts the server down cleanly (SIGTERM) and waits until it has exited. Its port and data
    /// stay.
    pub async fn shutdown(&self) {
        self.order("shutdown").await;
        self.observer.lock().await.take();
    }

    /// Starts a server that was killed, shut down or only prepared, and waits until it answers.
    pub async fn start_again(&self) {
        self.start_with("").await;
    }

    /// The same, with more options for this time only.
    pub(crate) async fn start_with(&self, options: &str) {
        for _ in 0..5 {
            match self.launch(options).await {
                Ok(()) => return,
                Err(Failure::PortTaken) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(Failure::Other(log)) => panic!("the server did not start:\n{log}"),
            }
        }
        panic!("another process keeps taking port {}", self.port);
    }

    /// Shuts the server down and starts it again, with the same port and data.
    pub async fn restart(&self) {
        self.shutdown().await;
        self.start_again().await;
    }

    /// Stops every thread of the server (SIGSTOP): the kernel still accepts connections for it, but
    /// nothing answers. The server resumes when the guard is dropped.
    pub async fn freeze(&self) -> Frozen {
        let pid = self.order("freeze").await.expect("a running server");
        let frozen = Frozen {
            watchdog: Arc::clone(&self.watchdog),
        };
        // The signal reaches the threads one after another.
        let stopped = self
            .background
            .block(move || {
                let deadline = Instant::now() + ANSWER_WITHIN;
                while Instant::now() < deadline {
                    if is_stopped(pid) {
                        return true;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                false
            })
            .await;
        assert!(stopped, "process {pid} does not stop");
        frozen
    }

    async fn order(&self, order: impl Into<String>) -> Option<u32> {
        let watchdog = Arc::clone(&self.watchdog);
        let order = order.into();
        self.background
            .block(move || lock(&watchdog).order(&order))
            .await
    }

    /// Queries on the background thread, whose clock no test pauses.
    async fn ask(&self, statement: &str) -> Vec<Row> {
        let observer = Arc::clone(&self.observer);
        let statement = statement.to_owned();
        self.background
            .run(async move {
                let mut observer = observer.lock().await;
                let conn = observer.as_mut().expect("a running server");
                let answer = tokio::time::timeout(ANSWER_WITHIN, conn.query(&statement)).await;
                drop(observer);
                answer
                    .unwrap_or_else(|_| panic!("the server does not answer: {statement}"))
                    .unwrap_or_else(|error| panic!("{statement}: {error}"))
            })
            .await
    }

    /// Runs the server's program with more options until it ends by itself, and returns its log.
    pub(crate) async fn run_once(&self, options: &str) -> String {
        let log_start = fs::metadata(self.log()).map_or(0, |log| log.len());
        self.order(format!("start {options}")).await;
        self.order("finish").await;
        log_since(&self.log(), log_start)
    }

    /// Gives a server that does not run the data of a new one.
    pub(crate) async fn wipe(&self) {
        let (flavor, data) = (self.flavor, self.data());
        self.background
            .block(move || {
                fs::remove_dir_all(&data).expect("the old data can be removed");
                fill(flavor, &data);
            })
            .await;
    }

    async fn launch(&self, options: &str) -> Result<(), Failure> {
        let log_start = fs::metadata(self.log()).map_or(0, |log| log.len());
        self.order("kill").await;
        self.order(format!("start {options}")).await;
        let log = self.log();
        let data = self.data();
        let opts = self.admin_opts();
        let tls_required = self.tls_required;
        let started = self
            .background
            .run(async move {
                let deadline = Instant::now() + START_WITHIN;
                while Instant::now() < deadline {
                    match Conn::new(opts.clone()).await {
                        Ok(conn) => return first_look(conn, &data, tls_required).await,
                        Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                    if log_since(&log, log_start)
                        .lines()
                        .any(|line| line.ends_with("Aborting"))
                    {
                        break;
                    }
                }
                None
            })
            .await;
        if let Some(conn) = started {
            *self.observer.lock().await = Some(conn);
            return Ok(());
        }
        self.order("kill").await;
        let log = log_since(&self.log(), log_start);
        if log.contains("Address already in use") {
            Err(Failure::PortTaken)
        } else {
            Err(Failure::Other(log))
        }
    }

    fn admin_opts(&self) -> Opts {
        self.opts_of(self.admin_port, ADMIN, ADMIN_PASSWORD)
    }

    fn opts_of(&self, port: u16, user: &str, password: &str) -> Opts {
        let base = if self.tls_required {
            tls::client()
        } else {
            Opts::default()
        };
        OptsBuilder::from_opts(base)
            .ip_or_hostname(HOST)
            .tcp_port(port)
            .user(Some(user))
            .pass(Some(password))
            .db_name(Some("test"))
            .prefer_socket(false)
            .into()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        lock(&self.watchdog).end();
    }
}

/// The options of a server that is yet to start.
pub struct Builder {
    flavor: Flavor,
    port: Option<u16>,
    tls_required: bool,
    options: Vec<String>,
    /// As in `NAME=value`.
    environment: Vec<OsString>,
}

impl Builder {
    /// Adds a server option, such as `--wait-timeout=3`, which overrides the tests' default.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Sets a variable in the server's environment.
    pub(crate) fn environment(mut self, name: &str, value: &OsStr) -> Self {
        let mut variable = OsString::from(format!("{name}="));
        variable.push(value);
        self.environment.push(variable);
        self
    }

    /// How many connections the server allows (300 by default). `MariaDB` enforces a minimum of 10.
    pub fn max_connections(self, count: u32) -> Self {
        assert!(count >= 10, "the server would raise {count} to 10");
        self.option(&format!("--max-connections={count}"))
    }

    /// Listens on that port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Lets the tests' own connections go without TLS, whatever `TEST_TLS` says: the test is about
    /// TLS and decides for each connection itself.
    pub fn without_required_tls(mut self) -> Self {
        self.tls_required = false;
        self
    }

    /// Starts the server, and waits until it answers.
    pub async fn start(self) -> Server {
        for _ in 0..5 {
            let server = self.prepare().await;
            match server.launch("").await {
                Ok(()) => return server,
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(log)) => panic!("the server did not start:\n{log}"),
            }
        }
        panic!(
            "others took five ports in a row, or {:?} is taken",
            self.port
        );
    }

    /// Prepares the data folder without starting the server: connections are refused until
    /// [`Server::start_again`].
    pub async fn prepare(&self) -> Server {
        let background = Background::start("server");
        let flavor = self.flavor;
        let port = self.port.unwrap_or_else(free_port);
        let admin_port = free_port();
        let tls_required = self.tls_required;
        let options = self.options.clone();
        let environment = self.environment.clone();
        let (folder, watchdog) = background
            .block(move || {
                let folder = scratch().join(format!("server-{}-{port}", process::id()));
                let data = folder.join("data");
                // Left over from a run that ended with its machine.
                fs::remove_dir_all(&folder).ok();
                fill(flavor, &data);
                let mut command: Vec<OsString> = Vec::new();
                if !environment.is_empty() {
                    command.push("env".into());
                    command.extend(environment);
                }
                command.extend(flavor.command(&data, port, admin_port));
                if tls_required {
                    command.extend(tls::options(tls::GOOD).map(OsString::from));
                    command.push("--require-secure-transport=ON".into());
                }
                // MySQL does not take this one back.
                if options
                    .iter()
                    .any(|option| option == "--skip-name-resolve=OFF")
                {
                    command.retain(|option| option != "--skip-name-resolve");
                }
                command.extend(options.into_iter().map(OsString::from));
                let watchdog = Watchdog::start(&folder, &command);
                (folder, watchdog)
            })
            .await;
        Server {
            flavor,
            port,
            admin_port,
            tls_required,
            folder,
            watchdog: Arc::new(Mutex::new(watchdog)),
            observer: Arc::default(),
            background,
        }
    }
}

/// Resumes a frozen server when dropped.
#[must_use = "the server goes on when this is dropped"]
pub struct Frozen {
    watchdog: Arc<Mutex<Watchdog>>,
}

impl Frozen {
    pub fn thaw(self) {
        drop(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        lock(&self.watchdog).order("thaw");
    }
}

enum Failure {
    PortTaken,
    Other(String),
}

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    MariaDb,
    MySql,
}

impl Flavor {
    /// The server the tests run against.
    pub fn chosen() -> Self {
        let is_mysql = downloaded().is_some_and(|folder| folder.join("bin/mysqld").exists());
        if is_mysql { Self::MySql } else { Self::MariaDb }
    }

    /// Whether the tests run against this version of `MariaDB` or a later one. Always true of
    /// `MySQL`.
    pub fn is_since(self, major: u16, minor: u16) -> bool {
        self == Self::MySql || mariadb_version() >= (major, minor)
    }

    fn program(self) -> &'static Path {
        static FOUND: OnceLock<PathBuf> = OnceLock::new();
        FOUND.get_or_init(|| match self {
            Self::MariaDb => find("mariadbd"),
            Self::MySql => find("mysqld"),
        })
    }

    /// The command line of a small, fast-starting server without durability across power cuts.
    fn command(self, data: &Path, port: u16, admin_port: u16) -> Vec<OsString> {
        let mut command = vec![self.program().into()];
        if downloaded().is_none() {
            // Downloaded servers set it themselves.
            command.push("--no-defaults".into());
        }
        if is_root(data) {
            command.push("--user=root".into());
        }
        // At start, a server removes files that look like temporary tables from its `tmpdir`, so
        // each server has its own.
        for option in ["--datadir=", "--tmpdir="] {
            let mut argument = OsString::from(option);
            argument.push(data);
            command.push(argument);
        }
        let both: [&str; 14] = [
            &format!("--bind-address={HOST}"),
            &format!("--port={port}"),
            "--max-connections=300",
            // Relative to the data folder, whose path may be too long for a socket.
            "--socket=socket",
            "--pid-file=pid",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=32M",
            "--innodb-buffer-pool-dump-at-shutdown=OFF",
            "--innodb-buffer-pool-load-at-startup=OFF",
            "--innodb-doublewrite=OFF",
            "--innodb-flush-log-at-trx-commit=0",
            // Many servers at once would exhaust the kernel's limit for it.
            "--innodb-use-native-aio=OFF",
        ];
        let own: &[&str] = match self {
            Self::MariaDb => &[
                &format!("--extra-port={admin_port}"),
                "--extra-max-connections=50",
                "--innodb-log-file-size=4M",
            ],
            Self::MySql => &[
                &format!("--admin-address={HOST}"),
                &format!("--admin-port={admin_port}"),
                // So that it does not queue behind the others.
                "--create-admin-listener-thread=ON",
                "--mysqlx=OFF",
                "--secure-file-priv=NULL",
                "--innodb-redo-log-capacity=8M",
            ],
        };
        command.extend(both.iter().chain(own).map(OsString::from));
        command
    }

    /// Initialises an empty folder with a new server's data: the users and the databases `test` and
    /// `other`.
    fn install(self, data: &Path) {
        let statements = data.with_extension("sql");
        fs::write(&statements, users()).expect("a file of SQL statements");
        let (mut install, file_of_statements) = match self {
            Self::MariaDb => {
                let mut install = Command::new(find("mariadb-install-db"));
                install.args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                    "--innodb-log-file-size=4M",
                ]);
                (install, "--extra-file=")
            }
            Self::MySql => {
                let mut install = Command::new(self.program());
                install.args([
                    "--initialize-insecure",
                    "--secure-file-priv=NULL",
                    "--innodb-redo-log-capacity=8M",
                ]);
                (install, "--init-file=")
            }
        };
        install.arg("--innodb-use-native-aio=OFF");
        if is_root(data) {
            install.arg("--user=root");
        }
        for (option, path) in [("--datadir=", data), (file_of_statements, &statements)] {
            let mut argument = OsString::from(option);
            argument.push(path);
            install.arg(argument);
        }
        install.env("TMPDIR", data);
        let output = install.output().expect("the installer can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !text.contains("ERROR") && !errors.contains("[ERROR]"),
            "no data folder could be made:\n{text}{errors}",
        );
        fs::remove_file(&statements).expect("the file of SQL statements can be removed");
    }
}

/// One statement per line, as the server reads it.
fn users() -> String {
    format!(
        "FLUSH PRIVILEGES;\n\
         CREATE DATABASE test;\n\
         CREATE DATABASE other;\n\
         CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON test.* TO {USER}@'%';\n\
         GRANT ALL ON other.* TO {USER}@'%';\n\
         CREATE USER {ADMIN}@'%' IDENTIFIED BY '{ADMIN_PASSWORD}';\n\
         GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION;\n"
    )
}

/// The data folder of a freshly installed server, created once per version and copied for each
/// server.
fn template(flavor: Flavor) -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        (version(flavor), users()).hash(&mut hasher);
        let template = scratch().join(format!("template-{:016x}", hasher.finish()));
        if !template.exists() {
            let making = scratch().join(format!("template-of-{}", process::id()));
            fs::remove_dir_all(&making).ok();
            fs::create_dir_all(&making).expect("a folder for the template");
            flavor.install(&making);
            // Another test process may have been faster; its template is just as good.
            if fs::rename(&making, &template).is_err() {
                assert!(template.exists(), "no template at {}", template.display());
                fs::remove_dir_all(&making).expect("the second template can be removed");
            }
        }
        template
    })
}

/// Copies a new server's data.
fn fill(flavor: Flavor, data: &Path) {
    copy_folder(template(flavor), data);
    // Holds the UUID that identifies a MySQL server; the copy generates its own.
    fs::remove_file(data.join("auto.cnf")).ok();
}

/// Checks that this server answers, as another could have taken the port in the meantime; that it
/// refuses connections without TLS if TLS is required; and that the connection may stay idle.
async fn first_look(mut conn: Conn, data: &Path, tls_required: bool) -> Option<Conn> {
    let facts = "SELECT @@datadir, @@require_secure_transport";
    let (found, requires_tls): (String, bool) = conn.query_first(facts).await.ok()??;
    assert_eq!(requires_tls, tls_required, "TLS");
    conn.query_drop("SET SESSION wait_timeout = 28800")
        .await
        .ok()?;
    (Path::new(&found) == data).then_some(conn)
}

/// The folder of the server that the environment names.
pub(crate) fn downloaded() -> Option<PathBuf> {
    let path = |name| {
        let value = env::var_os(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value))
    };
    path(SERVER).or_else(|| Some(path(MYSQLD)?.parent()?.parent()?.to_owned()))
}

fn find(program: &str) -> PathBuf {
    if let Some(folder) = downloaded() {
        let file = folder.join("bin").join(program);
        assert!(file.is_file(), "{SERVER}: there is no {}", file.display());
        return file;
    }
    installed(program)
        .unwrap_or_else(|| panic!("{program} is not installed: apt-get install mariadb-server"))
}

/// The path of an installed program.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        // Debian installs servers here, which an ordinary user's PATH leaves out.
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Major and minor version of the `MariaDB` server that the tests run.
fn mariadb_version() -> (u16, u16) {
    static VERSION: OnceLock<(u16, u16)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let output = version(Flavor::MariaDb);
        // As in `mariadbd  Ver 10.11.6-MariaDB for debian-linux-gnu`.
        let (_, version) = output.split_once("Ver ").expect("a version");
        let mut parts = version.split('.').map(str::parse);
        let mut part = || parts.next().expect("a part").expect("a number");
        (part(), part())
    })
}

/// What the server's program prints as its version.
fn version(flavor: Flavor) -> String {
    let output = Command::new(flavor.program()).arg("--version").output();
    String::from_utf8(output.expect("the server prints its version").stdout).expect("text")
}

/// Galera's library: of a downloaded server its own, else as Debian's `galera-4` installs it.
pub fn galera() -> Option<PathBuf> {
    let library = match downloaded() {
        Some(folder) => folder.join("galera.so"),
        None => "/usr/lib/galera/libgalera_smm.so".into(),
    };
    library.exists().then_some(library)
}

/// The owner of the newly created folder.
fn is_root(own: &Path) -> bool {
    fs::metadata(own).is_ok_and(|own| own.uid() == 0)
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder to copy") {
        let entry = entry.expect("a folder's entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copied file");
        }
    }
}

fn log_since(log: &Path, start: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let start = usize::try_from(start).expect("a short log");
    String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
}

/// True if every thread of the process is stopped. Without `/proc`, this is assumed.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| {
            // The state follows the name, which is in brackets.
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    })
}
