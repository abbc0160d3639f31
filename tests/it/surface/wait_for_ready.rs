//! The example `wait_for_ready`: what it waits for, what ends it, and what it prints on a terminal
//! and elsewhere.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use test_support::{Proxy, Server, free_port};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

/// Far longer than any run should take.
const LONG: Duration = Duration::from_secs(60);

/// The program, which `cargo test` builds; building the test binary alone does not.
fn program() -> PathBuf {
    let test = env::current_exe().expect("this program's path");
    // target/debug/deps/it-0123456789abcdef
    let profile = test.parent().and_then(Path::parent).expect("two folders");
    let program = profile.join("examples").join("wait_for_ready");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/wait_for_ready.rs");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let source = changed(Path::new(source)).expect("the source");
    assert!(
        changed(&program).is_ok_and(|built| built >= source),
        "not built, or older than its source: `cargo build --example wait_for_ready`, or all of `cargo test`"
    );
    program
}

/// Gives the program only the settings that a test passes.
fn command(program: impl AsRef<Path>, url: Option<&str>) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("DATABASE_") {
            command.env_remove(name);
        }
    }
    if let Some(url) = url {
        command.env("DATABASE_URL", url);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn waiting(url: &str, arguments: &[&str]) -> Command {
    let mut command = command(program(), Some(url));
    command.args(arguments);
    command
}

async fn outcome(child: Child) -> Output {
    let output = timeout(LONG, child.wait_with_output()).await;
    output.expect("it ends").expect("its output")
}

/// The exit status and everything the program printed.
async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = outcome(command.spawn().expect("it starts")).await;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    println!("{:?}\n{out}{err}", output.status);
    (output.status.code(), out, err)
}

fn nowhere() -> String {
    format!("mysql://app:s3cret@127.0.0.1:{}/test", free_port())
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let server = Server::builder().prepare().await;
    let url = server.url();
    let mut child = waiting(&url, &["--size=5", "--timeout", "1m"])
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut line = String::new();
    while !line.contains("refused") {
        let next = timeout(LONG, lines.next_line()).await.expect("a line");
        line = next.expect("a line").expect("that it is refused");
    }
    assert!(
        line.starts_with("0 of 5 connections open, ") && line.contains("start the server"),
        "{line}"
    );
    let began = Instant::now();
    server.start_again().await;
    let mut more = String::new();
    while let Some(line) = timeout(LONG, lines.next_line())
        .await
        .expect("it ends")
        .expect("a line")
    {
        more += &line;
        more.push('\n');
    }
    let output = outcome(child).await;
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{out}{more}");
    assert!(out.starts_with("5 of 5 connections ready in "), "{out}");
    // Only changes, and at most one line a second.
    let printed = u64::try_from(more.lines().count()).expect("a few");
    assert!(printed <= began.elapsed().as_secs() + 1, "{more}");
    let password = server.opts().pass().expect("a password").to_owned();
    assert!(!format!("{line}{more}{out}").contains(&password));
}

#[tokio::test]
async fn a_server_that_never_comes_is_given_up_after_the_time() {
    let began = Instant::now();
    let (status, out, err) = run(waiting(&nowhere(), &["--timeout=2500ms"])).await;
    assert!(began.elapsed() >= Duration::from_millis(2500));
    assert_eq!((status, out.as_str()), (Some(1), ""));
    // It was refused over and over, and reports that once, and once more at the end. Another line
    // may come first.
    let (2 | 3, [.., printed, end]) = (err.lines().count(), &err.lines().collect::<Vec<_>>()[..])
    else {
        panic!("{err}");
    };
    assert!(
        printed.starts_with("0 of 20 connections open, ")
            && printed.contains("s left; last error: connect: "),
        "{printed}"
    );
    assert!(
        end.contains("gave up: warm-up incomplete") && end.contains("refused"),
        "{end}"
    );
    assert!(!err.contains("s3cret"), "{err}");
}

/// With what kubelet sets for services called database and database-pool.
#[tokio::test]
async fn the_server_may_be_given_in_parts_and_a_password_file() {
    let server = Server::builder().without_required_tls().start().await;
    let password = "12/s3cret?#@%41";
    for statement in [
        &format!("CREATE USER apart@'%' IDENTIFIED BY '{password}'"),
        "GRANT ALL ON test.* TO apart@'%'",
    ] {
        server.execute(statement).await;
    }
    let file = server.folder().join("password");
    fs::write(&file, format!("{password}\n")).expect("a file");
    for secret in [
        ("DATABASE_PASSWORD", password),
        ("DATABASE_PASSWORD_FILE", file.to_str().expect("UTF-8")),
    ] {
        let mut command = command(program(), None);
        let port = server.port().to_string();
        command.args(["--size=2", "--timeout=30s"]).envs([
            secret,
            ("DATABASE_HOST", "127.0.0.1"),
            ("DATABASE_PORT", &port),
            ("DATABASE_NAME", "test"),
            ("DATABASE_USER", "apart"),
            ("DATABASE_SERVICE_HOST", "10.0.0.1"),
            ("DATABASE_POOL_PORT", "tcp://10.0.0.1:3306"),
            ("DATABASE_POOL_PORT_3306_TCP_ADDR", "10.0.0.1"),
        ]);
        let (status, out, err) = run(command).await;
        assert_eq!(status, Some(0), "{err}");
        assert!(out.starts_with("2 of 2 connections ready in "), "{out}");
        assert!(!err.contains("s3cret") && !out.contains("s3cret"));
    }
}

#[tokio::test]
async fn a_wrong_password_ends_it_at_once_with_advice() {
    let server = Server::shared().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let wrong = server.url().replace(&password, "wr0ng-s3cret");
    let (status, out, err) = run(waiting(&wrong, &["--timeout=1h"])).await;
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("1045") && err.contains("check user and password"),
        "{err}"
    );
    assert!(!err.contains("s3cret"), "{err}");
}

#[tokio::test]
async fn it_ends_at_ready_at_connections() {
    let server = Server::builder().max_connections(10).start().await;
    let mut command = waiting(&server.url(), &["--size", "10"]);
    command.env("DATABASE_POOL_READY_AT", "2");
    let (status, out, _) = run(command).await;
    assert_eq!(status, Some(0));
    assert!(
        out.starts_with("2 of 2 connections ready in ")
            && out.contains("warning: the pool may open 40 connections"),
        "{out}"
    );
}

#[tokio::test]
async fn wrong_settings_are_reported_without_the_url() {
    let url = nowhere();
    let too_many = "ready_at is 4, allowed is 1 to size (3)";
    for (arguments, faults) in [
        (
            &["--size=100001"][..],
            &["size is 100001, allowed is 1 to 100000"][..],
        ),
        (
            &["--size", "many", "--timeout", "soon"],
            &[
                "--size is many, allowed is a whole number",
                "--timeout is soon, allowed is seconds",
            ],
        ),
        (&["--timeout=0&timeout=5"], &["--timeout is 0&timeout=5"]),
        (&["--size=3"], &[too_many]),
        (&["--timeout"], &["--timeout takes a value"]),
        (&["--pass=s3cret"], &["there is no option --pass"]),
        (&[&url], &["the URL is read from DATABASE_URL"]),
    ] {
        let mut command = waiting(&url, arguments);
        command.env(
            "DATABASE_POOL_READY_AT",
            if faults == [too_many] { "4" } else { "" },
        );
        let (status, out, err) = run(command).await;
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}");
        for fault in faults {
            assert!(err.contains(fault), "{fault:?} is not in {err:?}");
        }
        assert!(err.contains("--help") && !err.contains("s3cret"), "{err}");
    }

    // All faults at once, from the command line and from the environment.
    let mut command = command(program(), None);
    command.arg("--size=x").env("DATABASE_POOL_KEEPALIVE", "y");
    let (status, _, err) = run(command).await;
    assert_eq!(status, Some(2));
    for fault in [
        "--size is x",
        "DATABASE_URL is not set",
        "DATABASE_POOL_KEEPALIVE is y",
    ] {
        assert!(err.contains(fault), "{fault:?} is not in {err:?}");
    }
}

#[tokio::test]
async fn help_is_shown_without_any_settings() {
    for option in ["-h", "--help"] {
        let mut command = command(program(), None);
        command.args(["--size=1", option]);
        let (status, out, err) = run(command).await;
        assert_eq!((status, err.as_str()), (Some(0), ""));
        for part in ["DATABASE_URL", "--timeout", "--size", "Exit status: 0"] {
            assert!(out.contains(part), "{part:?} is not in {out:?}");
        }
    }
}

/// Error texts go to a terminal, or to a log shown on one.
#[tokio::test]
async fn control_characters_in_a_servers_error_are_not_printed() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = tokio::spawn(async move {
        let message = b"\xff\x15\x04go \x1b]0;away\x07\r\n\x1b[2Jaway";
        let length = u8::try_from(message.len()).expect("a short one");
        while let Ok((mut client, _)) = listener.accept().await {
            let packet = [&[length, 0, 0, 0], &message[..]].concat();
            drop(client.write_all(&packet).await);
        }
    });
    let url = format!("mysql://app:s3cret@127.0.0.1:{port}/test");
    let (status, _, err) = run(waiting(&url, &["--timeout=1h"])).await;
    server.abort();
    assert_eq!(status, Some(1));
    assert!(err.contains("1045") && err.contains("away"), "{err}");
    assert!(
        !err.contains(|c: char| c.is_control() && c != '\n') && err.lines().count() == 1,
        "{err:?}"
    );
}

#[tokio::test]
async fn on_a_terminal_one_line_is_redrawn_in_place() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.refuse().await;
    // One connection after another, slowly, so that progress is visible.
    proxy.delay_opening(Duration::from_millis(400));
    let mut script = command("script", Some(&server.url_via(proxy.port())));
    script
        .args(["--quiet", "--return", "--flush", "--command"])
        .arg(format!("'{}' --size=5 --timeout=1m", program().display()))
        .arg("/dev/null")
        .env("DATABASE_POOL_MAX_CONNECTING", "1")
        .env("TERM", "xterm");
    let mut child = script.spawn().expect("`script`, of Debian's bsdutils");
    let mut output = child.stdout.take().expect("a pipe");
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            let read = output.read_buf(&mut bytes).await.expect("output");
            let so_far = String::from_utf8_lossy(&bytes);
            // The remaining time counts down.
            let times = (0..=60).filter(|left| so_far.contains(&format!(" {left} s left")));
            let is_going = times.count() >= 2;
            if is_going && proxy.accepted() == 0 {
                proxy.accept_again().await;
            }
            if read == 0 {
                return;
            }
        }
    };
    timeout(LONG, reading).await.expect("it ends");
    let output = outcome(child).await;
    let text = String::from_utf8(bytes).expect("UTF-8");
    println!("{text:?}");
    assert_eq!(output.status.code(), Some(0));

    let frames: Vec<_> = text
        .split('\r')
        .filter(|frame| frame.contains(" left"))
        .collect();
    let refused = frames.iter().find(|frame| frame.contains("refused"));
    assert!(
        refused.is_some_and(|frame| {
            frame.contains("0 of 5 connections open, ") && frame.contains("s left; last error: ")
        }),
        "{frames:?}"
    );
    assert!(
        (1..5).any(|open| {
            let printed = format!("{open} of 5 connections open, ");
            frames.iter().any(|frame| frame.contains(&printed))
        }),
        "{frames:?}"
    );
    for frame in &frames {
        assert!(
            frame.starts_with("\x1b[?7l") && frame.ends_with("\x1b[K\x1b[?7h"),
            "{frame:?} does not take the place of the last one"
        );
        assert!(!frame.contains('\n'), "{frame:?}");
    }
    // The line is cleared before the outcome is printed.
    let (_, last) = text.rsplit_once("\r\x1b[K").expect("it is removed");
    assert!(last.starts_with("5 of 5 connections ready in "), "{last:?}");
    assert_eq!(last.lines().count(), 1, "{last:?}");
}
