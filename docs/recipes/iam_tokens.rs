//! Tokens in place of a password: IAM authentication of RDS and Aurora. A token is valid for 15
//! minutes, but only logins need it: an open connection outlives its token.
//!
//! In a checkout:
//! `DATABASE_URL=mysql://app@HOST/shop?ssl-ca=global-bundle.pem TOKEN_COMMAND='aws rds
//! generate-db-auth-token --hostname HOST --port 3306 --username app' cargo run --manifest-path
//! examples/recipes/Cargo.toml --bin iam_tokens`

use std::{env, error::Error, process::Stdio, sync::Arc, time::Duration};

use mysql_warm_pool::config::{Credentials, CredentialsSource};
use mysql_warm_pool::{Pool, PoolConfig};
use tokio::{process::Command, sync::Mutex, time::Instant, time::sleep};

type TokenError = Box<dyn Error + Send + Sync>;

struct Tokens {
    user: String,
    command: String,
    lifetime: Duration,
    /// The newest token, and when it was asked for.
    newest: Mutex<Option<(String, Instant)>>,
}

impl Tokens {
    /// Called at each opening. The lock is held while a token is made, so connections that are
    /// opened together share it. If this future is dropped, at `connect_timeout`, the next opening
    /// makes the token.
    async fn credentials(&self) -> Result<Credentials, TokenError> {
        let mut newest = self.newest.lock().await;
        let token = match &*newest {
            // Replaced a third of its lifetime before its end: 5 of 15 minutes.
            Some((token, made)) if made.elapsed() < self.lifetime * 2 / 3 => token.clone(),
            _ => {
                let made = Instant::now();
                newest.insert((self.token().await?, made)).0.clone()
            }
        };
        Ok(Credentials::new(&self.user, token))
    }

    async fn token(&self) -> Result<String, TokenError> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.command]).stderr(Stdio::inherit());
        let output = command.kill_on_drop(true).output().await?;
        let token = String::from_utf8(output.stdout)?.trim().to_owned();
        if !output.status.success() || token.is_empty() {
            // The pool logs this and tries again, with back-off. Never put the token into it.
            return Err(format!("no token; TOKEN_COMMAND: {}", output.status).into());
        }
        Ok(token)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The token is sent as it is, so `Pool::new` insists on TLS unless the host is this one.
    let config = PoolConfig::from_env()?.map_opts(|opts| opts.enable_cleartext_plugin(true));
    let lifetime = env::var("TOKEN_LIFETIME").map_or(Ok(15 * 60), |seconds| seconds.parse())?;
    let tokens = Arc::new(Tokens {
        user: config.opts().user().unwrap_or_default().to_owned(),
        command: env::var("TOKEN_COMMAND")?,
        lifetime: Duration::from_secs(lifetime),
        newest: Mutex::default(),
    });
    let source = CredentialsSource::new(move || {
        let tokens = Arc::clone(&tokens);
        async move { tokens.credentials().await }
    });
    let pool = Pool::new(config.credentials(source))?;
    println!("{}", pool.warm_up().await?);
    loop {
        match pool.query_first("SELECT CONNECTION_ID()").await {
            Ok(id) => println!("served by connection {}", id.unwrap_or(0_u32)),
            Err(error) => eprintln!("{error}"),
        }
        sleep(Duration::from_secs(1)).await;
    }
}
