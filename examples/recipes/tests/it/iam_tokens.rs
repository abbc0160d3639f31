use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex},
};

use test_support::{
    Server,
    scripted::{Scripted, Wire, ok, rows},
    tls,
};

use crate::program::Program;

const RECIPE: &str = env!("CARGO_BIN_EXE_iam_tokens");

/// What makes the tokens: a script that prints the one in a file, and notes that it was asked.
struct Mint {
    folder: PathBuf,
}

impl Mint {
    fn new(folder: &Path, token: &str) -> Self {
        let mint = Self {
            folder: folder.to_owned(),
        };
        mint.set(token);
        mint
    }

    fn set(&self, token: &str) {
        fs::write(self.folder.join("token"), token).unwrap();
    }

    fn command(&self) -> String {
        let folder = self.folder.display();
        // Slow enough for all openings to want a token meanwhile.
        format!("echo >> {folder}/asked; sleep 0.3; cat {folder}/token")
    }

    fn asked(&self) -> usize {
        let asked = fs::read_to_string(self.folder.join("asked"));
        asked.unwrap_or_default().lines().count()
    }

    fn start(&self, port: u16, lifetime: &str, size: &str) -> Program {
        let authority = tls::certificate_of(tls::AUTHORITY);
        let url = format!(
            "mysql://app@127.0.0.1:{port}/test?ssl-ca={}",
            authority.display()
        );
        let settings = [
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_POOL_SIZE", size),
            ("DATABASE_MAX_OVERFLOW", "0"),
            ("DATABASE_POOL_CONNECT_TIMEOUT", "30"),
            ("TOKEN_COMMAND", &self.command()),
            ("TOKEN_LIFETIME", lifetime),
        ];
        Program::start_with(RECIPE, settings)
    }
}

async fn next_connection(recipe: &mut Program) -> String {
    let line = recipe.line_with("served by connection ").await;
    line.rsplit(' ').next().unwrap().to_owned()
}

/// The account's password is the newest token, so that a login with an older one is refused.
#[tokio::test]
async fn a_connection_outlives_its_token_and_the_next_has_a_new_one() {
    let mut builder = Server::builder().without_required_tls();
    for option in tls::options(tls::GOOD) {
        builder = builder.option(&option);
    }
    let server = builder.start().await;
    let account = "ALTER USER app@'%' IDENTIFIED BY";
    server.execute(&format!("{account} 'first'")).await;
    server.execute("ALTER USER app@'%' REQUIRE SSL").await;
    let mint = Mint::new(server.folder(), "first");
    let mut recipe = mint.start(server.port(), "1", "1");
    let first = next_connection(&mut recipe).await;

    server.execute(&format!("{account} 'second'")).await;
    mint.set("second");
    // It says so once a second, so the first token is too old after these.
    for _ in 0..3 {
        assert_eq!(next_connection(&mut recipe).await, first);
    }
    server.execute(&format!("KILL {first}")).await;
    while next_connection(&mut recipe).await == first {}
    assert!(mint.asked() >= 2);
}

/// As RDS does: the server asks for the token as it is, over TLS.
#[tokio::test]
async fn connections_opened_at_once_share_one_token() {
    let server = Scripted::start().await;
    let logins = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&logins);
    server.play(move |wire: Wire| log_in(wire, Arc::clone(&seen)));
    let folder = env::temp_dir().join(format!("iam-tokens-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mint = Mint::new(&folder, "a-token");
    let mut recipe = mint.start(server.port(), "900", "8");
    recipe.line_with("8 of 8 connections ready").await;
    next_connection(&mut recipe).await;
    assert_eq!(mint.asked(), 1);
    fs::remove_dir_all(folder).unwrap();
    let logins = logins.lock().unwrap();
    assert!(logins.len() >= 8, "{logins:?}");
    assert!(
        logins.iter().all(|token| token == "a-token\0"),
        "{logins:?}"
    );
}

async fn log_in(mut wire: Wire, logins: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    wire.greet_over_tls(tls::GOOD).await?;
    wire.packet(3, b"\xFEmysql_clear_password\0").await?;
    let token = wire.read_packet().await?;
    logins
        .lock()
        .unwrap()
        .push(String::from_utf8(token).unwrap());
    wire.packet(5, &ok()).await?;
    loop {
        let question = wire.question().await?;
        let answer = match question.text.as_str() {
            "SELECT CONNECTION_ID()" => rows(&[&["7"]]),
            _ => question.answer(),
        };
        wire.raw(&answer).await?;
    }
}
