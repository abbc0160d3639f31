//! Waits until the database behind `DATABASE_URL` is ready for a pool. Replaces a `sleep` in front
//! of migrations, in a job, or in an init container.
//!
//! `scripts/with-database cargo run --example wait_for_ready -- --timeout 10s`
//!
//! Ready means that enough connections for a ready pool are open and validated (`ready_at`, else
//! `size`). Transient errors are retried; permanent ones, such as a wrong password, end the program
//! at once. On a terminal one line shows the progress; elsewhere each change is printed on a new
//! line, at most once a second.

use std::{
    env,
    io::{self, IsTerminal, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use mysql_warm_pool::{
    Error, Pool, PoolConfig,
    report::{Health, WarmUpReport},
};
use tokio::time::{Instant, interval_at};
use url::form_urlencoded;

const HELP: &str = "\
Waits until the database behind DATABASE_URL is ready for a pool of connections.

Usage: wait_for_ready [--timeout DURATION] [--size N]

      --timeout DURATION  give up after so long: seconds (30), or 500ms, 30s, 1h30m
                          (else DATABASE_POOL_WARM_UP_TIMEOUT, else 30 s)
      --size N            connections that are to be open (else DATABASE_POOL_SIZE, else 20)
  -h, --help              show this

The pool's other settings are read from the environment as well.

Exit status: 0 ready, 1 gave up, 2 wrong settings.";

const GAVE_UP: u8 = 1;
const WRONG_SETTINGS: u8 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = env::args_os().skip(1);
    let pool = match Options::read(arguments.map(|text| text.to_string_lossy().into_owned())) {
        Ok(Some(options)) => options.pool(),
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(fault) => Err(vec![fault]),
    };
    let pool = match pool {
        Ok(pool) => pool,
        Err(faults) => {
            for fault in faults {
                eprintln!("wait_for_ready: {fault}");
            }
            eprintln!("wait_for_ready: --help shows the options");
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    let outcome = wait(&pool).await;
    pool.close().await;
    match outcome {
        Ok(report) => {
            println!("{}", printable(&report.to_string()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let error = printable(&error.to_string());
            eprintln!("wait_for_ready: gave up: {error}");
            ExitCode::from(GAVE_UP)
        }
    }
}

/// Waits as long as `warm_up()` does, and shows its progress meanwhile.
async fn wait(pool: &Pool) -> Result<WarmUpReport, Error> {
    let give_up_at = Instant::now() + pool.config().warm_up_timeout;
    let mut progress = Progress::new();
    // A database that is already up is ready before there is any progress to show.
    let mut looks = interval_at(
        Instant::now() + Duration::from_millis(200),
        progress.pause(),
    );
    let mut warm_up = pin!(pool.warm_up());
    let outcome = loop {
        tokio::select! {
            outcome = &mut warm_up => break outcome,
            now = looks.tick() => {
                progress.print(&pool.health(), give_up_at.saturating_duration_since(now));
            }
        }
    };
    progress.end();
    outcome
}

/// The options on the command line.
#[derive(Default)]
struct Options {
    timeout: Option<String>,
    size: Option<String>,
}

impl Options {
    /// Returns `None` if `--help` was given.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let option = match name {
                "-h" | "--help" => return Ok(None),
                "--timeout" => &mut options.timeout,
                "--size" => &mut options.size,
                name if name.starts_with('-') => return Err(format!("there is no option {name}")),
                // The argument is not quoted: it may be a URL with a password.
                _ => return Err("options only: the URL is read from DATABASE_URL".to_owned()),
            };
            let value = value.or_else(|| arguments.next());
            *option = Some(value.ok_or_else(|| format!("{name} takes a value"))?);
        }
        Ok(Some(options))
    }

    /// Creates a pool from the environment's settings, overridden by the command line's. Returns
    /// all faults of both.
    fn pool(self) -> Result<Pool, Vec<String>> {
        let size = self.size.map(|text| {
            let fault = format!("--size is {text}, allowed is a whole number");
            text.parse().map_err(|_not_a_number| fault)
        });
        let (size, timeout) = (size.transpose(), self.timeout.map(duration).transpose());
        let mut faults: Vec<_> = [size.as_ref().err(), timeout.as_ref().err()]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let config = PoolConfig::from_env().map_err(fault_lines);
        match (config, size, timeout) {
            (Ok(config), Ok(size), Ok(timeout)) => {
                let size = size.unwrap_or(config.size);
                let timeout = timeout.unwrap_or(config.warm_up_timeout);
                let config = config.size(size).warm_up_timeout(timeout);
                Pool::new(enough(config)).map_err(fault_lines)
            }
            (config, ..) => {
                faults.extend(config.err().into_iter().flatten());
                Err(faults)
            }
        }
    }
}

/// Lowers `size` to `ready_at`: as many connections as make the pool ready are enough. The limit
/// stays as it is, because `warm_up()` compares it with what the server allows.
fn enough(config: PoolConfig) -> PoolConfig {
    let config = config.close_timeout(Duration::from_secs(1));
    match config.ready_at {
        Some(ready_at) if (1..config.size).contains(&ready_at) => {
            let overflow = config.overflow + (config.size - ready_at);
            config.size(ready_at).overflow(overflow)
        }
        _ => config,
    }
}

/// Parses a duration as the pool's settings are parsed, so that both have the same format.
fn duration(text: String) -> Result<Duration, String> {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("timeout", &text)
        .finish();
    match PoolConfig::from_url(&format!("mysql://localhost/?{query}")) {
        Ok(config) => Ok(config.timeout),
        Err(Error::Config(error)) => {
            let fault = error.faults().first();
            let allowed = fault.map_or("a duration", |fault| &fault.allowed);
            Err(format!("--timeout is {text}, allowed is {allowed}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Lists each fault of the settings. None of them quotes the URL.
fn fault_lines(error: Error) -> Vec<String> {
    match error {
        Error::Config(error) => error.faults().iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}

/// The state of the pool that a line shows.
#[derive(PartialEq)]
struct State {
    open: usize,
    last_error: Option<String>,
}

/// Shows the progress on standard error.
struct Progress {
    on_terminal: bool,
    printed: Option<State>,
}

impl Progress {
    fn new() -> Self {
        let is_dumb = env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
        Self {
            on_terminal: io::stderr().is_terminal() && !is_dumb,
            printed: None,
        }
    }

    /// How often to look at the pool.
    fn pause(&self) -> Duration {
        Duration::from_millis(if self.on_terminal { 100 } else { 1000 })
    }

    fn print(&mut self, health: &Health, left: Duration) {
        let state = State {
            open: health.status.open,
            last_error: health.last_error.as_deref().map(printable),
        };
        let has_changed = self.printed.as_ref() != Some(&state);
        if !self.on_terminal && !has_changed {
            return;
        }
        let (open, size) = (state.open, health.status.size);
        let mut line = format!("{open} of {size} connections open");
        line += &format!(", {} s left", left.as_secs_f64().ceil());
        if let Some(error) = &state.last_error {
            line += &format!("; last error: {error}");
        }
        if self.on_terminal {
            // Replaces the last line, and is cut off at the edge (wrapping is turned off and on
            // again), because a line that wraps cannot be redrawn.
            print_error(&format!("\r\x1b[?7l{line}\x1b[K\x1b[?7h"));
        } else {
            print_error(&format!("{line}\n"));
        }
        self.printed = Some(state);
    }

    /// Clears the line on the terminal for what follows.
    fn end(self) {
        if self.on_terminal && self.printed.is_some() {
            print_error("\r\x1b[K");
        }
    }
}

/// Writes the text in one call. A failure to write it is no reason to stop waiting.
fn print_error(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Replaces control characters: a server can put line breaks and terminal commands into its
/// messages.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}
