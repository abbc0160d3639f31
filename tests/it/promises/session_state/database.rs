//! A server and a database for inspecting sessions, with something of everything in it.

use std::process;

use mysql_warm_pool::mysql_async::{Conn, Error, Opts, OptsBuilder, prelude::Queryable};
use test_support::{Flavor, Server, tls};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::{
    effect::{self, Effect},
    fingerprint::{Changes, Fingerprint, Listing, OPTIONS},
    statements::{CAREFUL, CHANGING, EVERYDAY, statements},
};

/// One test's own database, with something of everything in it.
pub(super) struct Database {
    /// For an account with all rights.
    pub(super) opts: Opts,
    pub(super) name: String,
    pub(super) flavor: Flavor,
    pub(super) listing: Listing,
    /// MySQL lists temporary tables without their owner, so tests take turns.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

/// A text that ran between two fingerprints.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) changes: Changes,
    pub(super) error: Option<Error>,
}

/// A new session, with its SQL mode set.
pub(super) struct Fresh {
    conn: Conn,
    fingerprint: Fingerprint,
}

/// Short lock waits, so that nothing waits long, and room for long lists, so that nothing is
/// truncated.
pub(super) const SETTINGS: &str = "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, \
                                   group_concat_max_len = 1000000";

impl Database {
    pub(super) async fn make(purpose: &str) -> Self {
        let turn = TURN.lock().await;
        let server = server().await;
        let name = format!("session_state_{purpose}_{}", process::id());
        let url = format!("mysql://anything:x@127.0.0.1:{}/test", server.port());
        let tls = tls::is_required().then(|| tls::trusting(tls::AUTHORITY));
        let opts = OptsBuilder::from_opts(Opts::from_url(&url).expect("a URL"))
            .ssl_opts(tls)
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 24))
            .wait_timeout(Some(60));
        let database = Self {
            opts: opts.into(),
            listing: Listing::new(server, &name),
            flavor: server.flavor(),
            name,
            _turn: turn,
        };
        let mut conn = Conn::new(database.opts.clone())
            .await
            .expect("a connection");
        for statement in SCHEMA {
            let statement = statement.replace("{db}", &database.name);
            let is_known = database.flavor == Flavor::MariaDb || !statement.contains("SEQUENCE");
            if is_known && let Err(error) = conn.query_drop(&statement).await {
                panic!("{statement}: {error}");
            }
        }
        conn.disconnect().await.expect("a goodbye");
        database.tidy().await.expect("rows");
        database
    }

    pub(super) async fn drop(self) {
        let drop = format!("DROP DATABASE {}", self.name);
        let mut conn = self.connect().await.expect("a connection");
        conn.query_drop(drop).await.expect("the database is gone");
    }

    /// Opens a connection to this database, with short lock waits.
    pub(super) async fn connect(&self) -> Result<Conn, Error> {
        let mut conn = Conn::new(self.opts.clone()).await?;
        conn.query_drop(format!("USE {}; {SETTINGS}", self.name))
            .await?;
        Ok(conn)
    }

    /// All listed statements, with this database's name filled in.
    pub(super) fn statements(&self) -> Vec<String> {
        let listed = [EVERYDAY, CAREFUL, CHANGING]
            .into_iter()
            .flat_map(statements);
        listed
            .map(|statement| statement.replace("{db}", &self.name))
            .collect()
    }

    /// Restores the rows of the tables.
    pub(super) async fn tidy(&self) -> Result<(), Error> {
        let mut conn = self.connect().await?;
        let empty = "DELETE FROM item; DELETE FROM orders; DELETE FROM emptied";
        conn.query_drop(format!("{empty}; {ROWS}")).await?;
        conn.disconnect().await
    }

    pub(super) async fn session(&self, mode: &str) -> Result<Fresh, Error> {
        let mut conn = self.connect().await?;
        // Not every server has every mode.
        run(&mut conn, set_mode(mode).as_bytes()).await.ok();
        let fingerprint = Fingerprint::of(&mut conn, &self.listing).await?;
        for seen in ["variable: autocommit=", "account: ", "hidden table: "] {
            assert!(fingerprint.has(seen), "{fingerprint:#?}");
        }
        assert!(!fingerprint.has("not shown"), "{fingerprint:#?}");
        Ok(Fresh { conn, fingerprint })
    }

    /// Runs a text on its own connection and in an SQL mode, and fails if it changed anything that
    /// [`effect::effect_of`] did not predict.
    pub(super) async fn check(&self, mode: &str, text: &[u8]) -> Ran {
        let fresh = self
            .session(mode)
            .await
            .expect("a session at its beginning");
        let (ran, _) = self.check_on(fresh, text).await;
        if let Err(wrong) = ran.is_as_predicted(text) {
            panic!("in the mode {mode:?}: {wrong}");
        }
        ran
    }

    /// Runs a text; returns the session if the text changed nothing in it.
    pub(super) async fn check_on(&self, fresh: Fresh, text: &[u8]) -> (Ran, Option<Fresh>) {
        let Fresh {
            mut conn,
            fingerprint,
        } = fresh;
        let error = run(&mut conn, text).await.err();
        let after = Fingerprint::of(&mut conn, &self.listing).await.ok();
        let changes = Changes::between(&fingerprint, after.as_ref());
        let fresh = match after {
            Some(after) if !changes.any() => Some(Fresh {
                conn,
                fingerprint: after,
            }),
            _ => {
                // So that nothing of it is visible when another session is inspected.
                conn.reset().await.ok();
                conn.disconnect().await.ok();
                None
            }
        };
        (Ran { changes, error }, fresh)
    }
}

impl Ran {
    /// Returns what is wrong if the text changed more than was predicted.
    pub(super) fn is_as_predicted(&self, text: &[u8]) -> Result<(), String> {
        let effect = effect::effect_of(text);
        let wrong = |what: &str| {
            Err(format!(
                "{what}: {}\n{effect:?}\n{self:#?}",
                text.escape_ascii()
            ))
        };
        if !self.changes.predicted_by(effect) {
            wrong("not predicted")
        } else if let Some(command) = self.changes.unseen_command(effect) {
            wrong(command)
        } else if self.changes.moves_last_insert_id(effect, text) {
            wrong("moves LAST_INSERT_ID()")
        } else {
            Ok(())
        }
    }

    /// Whether the text was predicted neutral and the server accepted it.
    pub(super) fn shows_something(&self, text: &[u8]) -> bool {
        self.error.is_none() && effect::effect_of(text) == Effect::NEUTRAL
    }
}

pub(super) async fn run(conn: &mut Conn, text: &[u8]) -> Result<(), Error> {
    conn.query_iter(text).await?.drop_result().await
}

pub(super) fn set_mode(mode: &str) -> String {
    format!("SET SESSION sql_mode = '{mode}'")
}

/// A server that records everything about its sessions.
async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER
        .get_or_init(async || {
            let server = OPTIONS
                .into_iter()
                .fold(Server::builder(), |server, option| server.option(option));
            let server = server.start().await;
            server
                .execute("CREATE USER anything@'%' IDENTIFIED BY 'x'")
                .await;
            server
                .execute("GRANT ALL ON *.* TO anything@'%' WITH GRANT OPTION")
                .await;
            server
        })
        .await
}

const ROWS: &str = r#"
    INSERT INTO item (id, name, price, parent) VALUES (1, 'one', 1, NULL), (2, 'two', 2, 1);
    INSERT INTO orders (id, item_id, data) VALUES (1, 1, '{"a": [1, 2]}'), (2, 2, NULL)"#;

const SCHEMA: &[&str] = &[
    "DROP DATABASE IF EXISTS {db}",
    "CREATE DATABASE {db}",
    "USE {db}",
    "CREATE TABLE item (
        id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(200), price DECIMAL(10,2) DEFAULT 1,
        parent INT, note TEXT, added DATETIME DEFAULT CURRENT_TIMESTAMP,
        INDEX by_parent (parent), UNIQUE INDEX by_name (name), FULLTEXT INDEX words (note))",
    "CREATE TABLE orders (
        id INT AUTO_INCREMENT PRIMARY KEY, item_id INT, quantity INT DEFAULT 1, data JSON)",
    "CREATE TABLE emptied (a INT PRIMARY KEY, b INT)",
    "CREATE TABLE bystander (a INT)",
    "CREATE TABLE temporary_one (a INT)",
    "CREATE VIEW named AS SELECT id, name FROM item WHERE name IS NOT NULL",
    "CREATE FUNCTION traced (x INT) RETURNS INT NO SQL BEGIN SET @traced = x; RETURN x; END",
    "CREATE FUNCTION `count` (x INT) RETURNS INT NO SQL BEGIN SET @traced = x; RETURN x; END",
    "CREATE FUNCTION `trim` (x INT) RETURNS INT NO SQL BEGIN SET @traced = x; RETURN x; END",
    "CREATE FUNCTION `concat` (x INT) RETURNS INT NO SQL BEGIN SET @traced = x; RETURN x; END",
    "CREATE PROCEDURE tracing () NO SQL SET @traced = 1",
    "CREATE PROCEDURE beginning () START TRANSACTION",
    "CREATE SEQUENCE numbers",
];
