//! What a misbehaving server can do to the pool. Nothing panics for good, nothing hangs past its
//! deadline, no file is sent, no slot is lost, and the pool recovers when the server behaves again.

use std::{
    env, io,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error, OnCancel, Pool, PoolConfig, Readiness,
    cluster::{Cluster, ClusterConfig, Role},
    mysql_async::{self, Row, TxOpts, prelude::Queryable},
};
use test_support::{
    PATIENCE, Seed, Server, config, eventually, pool,
    scripted::{
        Greeting, MORE, Question, QuestionKind, Scripted, Wire, column, early_error, end_of_rows,
        error, ok, ok_with, packet, row, rows,
    },
    timed, warm,
};
use tokio::{
    process::Command,
    sync::watch,
    task::{JoinSet, LocalSet},
    time::timeout,
};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
const GET_TIMEOUT: Duration = Duration::from_millis(700);

/// What a server may send in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Silence,
    HalfAHead,
    HalfAPacket,
    Close,
    Trickle,
    WrongNumber,
    EmptyPacket,
    OkForRows,
    RowsForOk,
    TextForNumber,
    TwoRows,
    NoRow,
    Null,
    ShortRow,
    AbsurdTextLength,
    ManyColumns,
    MoreColumnsThanMemory,
    HugePacket,
    EndlessPackets,
    EndlessRows,
    EndlessResults,
    EndlessProgress,
    File,
    LastWords,
    OtherError,
    HugeError,
    CutError,
    AuthSwitch,
    EndOfNothing,
    OneMore,
    OldAnswer,
    AbsurdSettings,
    SettingsOfText,
}

impl Fault {
    const ALL: [Self; 33] = [
        Self::Silence,
        Self::HalfAHead,
        Self::HalfAPacket,
        Self::Close,
        Self::Trickle,
        Self::WrongNumber,
        Self::EmptyPacket,
        Self::OkForRows,
        Self::RowsForOk,
        Self::TextForNumber,
        Self::TwoRows,
        Self::NoRow,
        Self::Null,
        Self::ShortRow,
        Self::AbsurdTextLength,
        Self::ManyColumns,
        Self::MoreColumnsThanMemory,
        Self::HugePacket,
        Self::EndlessPackets,
        Self::EndlessRows,
        Self::EndlessResults,
        Self::EndlessProgress,
        Self::File,
        Self::LastWords,
        Self::OtherError,
        Self::HugeError,
        Self::CutError,
        Self::AuthSwitch,
        Self::EndOfNothing,
        Self::OneMore,
        Self::OldAnswer,
        Self::AbsurdSettings,
        Self::SettingsOfText,
    ];

    /// Whether a client may continue after it: the answer is valid, or its error does no harm.
    fn is_harmless(self, kind: QuestionKind) -> bool {
        match kind {
            // The driver falls back to defaults, and nothing checks whether the numbers make sense.
            QuestionKind::Settings => matches!(
                self,
                Self::OkForRows
                    | Self::TwoRows
                    | Self::NoRow
                    | Self::Null
                    | Self::OneMore
                    | Self::EndOfNothing
                    | Self::OldAnswer
                    | Self::AbsurdSettings
            ),
            // Only one of the connections opened concurrently reads the server's facts; the others
            // are validated otherwise.
            QuestionKind::FirstValidation
            | QuestionKind::Init
            | QuestionKind::Reset
            | QuestionKind::Caller => true,
            // What follows the right answer does no harm yet: the next question will not get its
            // own. After an error to its question the pool opens a connection without it.
            QuestionKind::Validation => matches!(
                self,
                Self::OneMore
                    | Self::AbsurdSettings
                    | Self::SettingsOfText
                    | Self::TwoRows
                    | Self::OtherError
                    | Self::HugeError
            ),
        }
    }

    async fn commit(self, wire: &mut Wire, question: &Question) -> io::Result<()> {
        let honest = question.answer();
        let text = rows(&[&["no", "such", "number", "in", "here", "at", "all"]]);
        match self {
            Self::Silence => {}
            Self::HalfAHead => wire.raw(&honest[..2]).await?,
            Self::HalfAPacket => {
                let half = honest.len() / 2;
                wire.raw(&honest[..half]).await?;
                return Ok(());
            }
            Self::Close => return Ok(()),
            Self::Trickle => wire.trickle(&honest, Duration::from_millis(100)).await?,
            Self::WrongNumber => {
                let mut honest = honest;
                honest[3] = honest[3].wrapping_add(7);
                wire.raw(&honest).await?;
            }
            Self::EmptyPacket => {
                // A status flag where a row is expected.
                let mut bytes = rows(&[&["1"]]);
                bytes.truncate(4 + 1 + 4 + column().len());
                bytes.extend(packet(3, &[]));
                wire.raw(&bytes).await?;
            }
            Self::OkForRows => wire.packet(1, &ok()).await?,
            Self::RowsForOk | Self::TextForNumber => wire.raw(&text).await?,
            Self::TwoRows => {
                let once = &["1", "1", "1", "1", "1", "1", "1"][..];
                let number = number_of(question);
                let first = &[number, "1", "1", "1", "1", "1", "1"][..];
                wire.raw(&rows(&[first, once, once])).await?;
            }
            Self::NoRow => {
                let mut bytes = packet(1, &[1]);
                bytes.extend(packet(2, &column()));
                bytes.extend(packet(3, &end_of_rows(0)));
                wire.raw(&bytes).await?;
            }
            Self::Null => wire.raw(&in_one_column(&[&[0xFB]])).await?,
            Self::ShortRow => wire.raw(&in_one_column(&[&[5, b'x']])).await?,
            Self::AbsurdTextLength => {
                let absurd = [0xFE, 255, 255, 255, 255, 255, 255, 255, 127, b'x'];
                wire.raw(&in_one_column(&[&absurd])).await?;
            }
            Self::ManyColumns => wire.packet(1, &[0xFC, 0xFF, 0xFF]).await?,
            Self::MoreColumnsThanMemory => wire.packet(1, &[0xFE; 9]).await?,
            Self::HugePacket => wire.raw(&[0xFF, 0xFF, 0xFF, 1, 0xFE]).await?,
            Self::EndlessPackets => {
                // Each packet is of maximum length, so the next continues it.
                let piece = vec![b'x'; 1 << 20];
                for number in (1..=255).cycle() {
                    wire.raw(&[0xFF, 0xFF, 0xFF, number]).await?;
                    for _ in 0..15 {
                        wire.raw(&piece).await?;
                    }
                    wire.raw(&piece[1..]).await?;
                }
            }
            Self::EndlessRows => {
                let mut all_numbers = Vec::new();
                wire.raw(&in_one_column(&[])[..4 + 1 + 4 + column().len()])
                    .await?;
                for number in (3..=255).chain(0..3) {
                    all_numbers.extend(packet(number, &row(&["1"])));
                }
                wire.endlessly(&all_numbers).await?;
            }
            Self::EndlessResults => {
                let mut all_numbers = Vec::new();
                for number in (1..=255).chain(0..1) {
                    all_numbers.extend(packet(number, &ok_with(MORE)));
                }
                wire.endlessly(&all_numbers).await?;
            }
            Self::EndlessProgress => {
                let progress = b"\xFF\xFF\xFF\x01\x01\x01\x00\x00\x00\x04work";
                let mut all_numbers = Vec::new();
                for number in (1..=255).chain(0..1) {
                    all_numbers.extend(packet(number, progress));
                }
                wire.endlessly(&all_numbers).await?;
            }
            Self::File => return wire.ask_for_a_file(1).await,
            Self::LastWords => {
                let last = error(4031, "the client was disconnected because of inactivity");
                wire.packet(1, &last).await?;
                return Ok(());
            }
            Self::OtherError => wire.packet(1, &error(1105, "unknown error")).await?,
            Self::HugeError => {
                let long = "x".repeat(3 << 20);
                wire.packet(1, &error(1105, &long)).await?;
            }
            Self::CutError => wire.packet(1, &[0xFF, 0]).await?,
            Self::AuthSwitch => wire.packet(1, b"\xFEmysql_old_password\x0012345").await?,
            Self::EndOfNothing => wire.packet(1, &[0xFE, 0, 0, 2, 0]).await?,
            Self::OneMore => {
                wire.raw(&honest).await?;
                wire.raw(&packet(1, &ok())).await?;
            }
            Self::OldAnswer => wire.raw(&rows(&[&["4711"]])).await?,
            Self::AbsurdSettings => {
                let number = number_of(question);
                let most = "18446744073709551615";
                let absurd = [number, "", "0", most, most, most, "maybe"];
                match question.kind() {
                    QuestionKind::Settings => wire.raw(&rows(&[&[most, most]])).await?,
                    QuestionKind::FirstValidation => wire.raw(&rows(&[&absurd])).await?,
                    _ => wire.raw(&honest).await?,
                }
            }
            Self::SettingsOfText => {
                let number = number_of(question);
                match question.kind() {
                    QuestionKind::Settings => wire.raw(&rows(&[&["many", "long"]])).await?,
                    QuestionKind::FirstValidation => {
                        wire.raw(&rows(&[&[number, "x", "-1", "x", "x", "x", "x"]]))
                            .await?;
                    }
                    _ => wire.raw(&honest).await?,
                }
            }
        }
        wire.serve().await
    }
}

/// The number a validation asks for.
fn number_of(question: &Question) -> &str {
    let asked = question.text.trim_start_matches("SELECT ");
    asked.split(',').next().unwrap_or("1")
}

/// A result of one column, with these payloads as its rows.
fn in_one_column(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = packet(1, &[1]);
    bytes.extend(packet(2, &column()));
    let mut number = 3;
    for payload in payloads {
        bytes.extend(packet(number, payload));
        number += 1;
    }
    bytes.extend(packet(number, &end_of_rows(0)));
    bytes
}

fn settings(server: &Scripted) -> PoolConfig {
    config(&server.url())
        .size(2)
        .overflow(1)
        .max_connecting(2)
        .timeout(GET_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .slow_get(None)
}

/// Behaves until `bad` is set, then answers each question of this kind with the fault.
fn misbehave(server: &Scripted, fault: Fault, kind: QuestionKind, bad: &Arc<AtomicBool>) {
    let bad = Arc::clone(bad);
    server.play(move |mut wire: Wire| {
        let bad = Arc::clone(&bad);
        async move {
            wire.log_in().await?;
            loop {
                let question = wire.question().await?;
                if bad.load(Ordering::Relaxed) && question.kind() == kind {
                    return fault.commit(&mut wire, &question).await;
                }
                wire.raw(&question.answer()).await?;
            }
        }
    });
}

/// Checks that the pool has recovered: all its slots can be obtained at once, and no earlier
/// connection is still open.
async fn recovers(pool: Pool, server: &Scripted, what: &str) {
    let limit = pool.status().limit();
    let start = Instant::now();
    loop {
        let all = async {
            let mut all = Vec::new();
            for _ in 0..limit {
                all.push(pool.get().await?);
            }
            for conn in &mut all {
                conn.ping().await?;
            }
            Ok::<_, mysql_async::Error>(())
        };
        match all.await {
            Ok(()) => break,
            Err(error) if start.elapsed() > PATIENCE => {
                panic!("{what}: not recovered: {error}; {}", pool.status())
            }
            Err(_) => {}
        }
    }
    eventually(&format!("{what}: ready again"), async || {
        pool.readiness() == Readiness::Ready
    })
    .await;
    eventually(
        &format!("{what}: none but the pool's own connections are open"),
        async || server.open() == pool.status().open,
    )
    .await;
    pool.close().await;
    eventually(&format!("{what}: all are closed at the end"), async || {
        server.open() == 0
    })
    .await;
    assert_eq!(
        server.sent_when_asked_for_a_file(),
        0,
        "{what}: a file was sent"
    );
}

/// The pool's own question meets the fault.
async fn the_pool_meets(fault: Fault, kind: QuestionKind) {
    let what = format!("{fault:?} at {kind:?}");
    let server = Scripted::start().await;
    let bad = Arc::new(AtomicBool::new(true));
    misbehave(&server, fault, kind, &bad);
    let mut settings = settings(&server);
    if kind == QuestionKind::Init {
        settings = settings.init(["SET @init = 1"]);
    }
    if kind == QuestionKind::Validation {
        settings = settings.validate_after_idle(Duration::ZERO);
    }
    let pool = pool(settings);
    let (outcome, took) = timed(pool.get()).await;
    match outcome {
        Ok(conn) => {
            drop(conn);
            assert!(
                fault.is_harmless(kind),
                "{what}: a connection was handed out"
            );
        }
        Err(Error::Timeout { .. } | Error::Connect(_)) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    assert!(took <= 10 * GET_TIMEOUT, "{what}: took {took:?}");
    let error = pool.health().last_error.unwrap_or_default();
    assert!(error.len() < 2_000, "{what}: {} bytes", error.len());
    bad.store(false, Ordering::Relaxed);
    recovers(pool, &server, &what).await;
}

/// A caller's question, or the cleaning afterwards, meets the fault.
async fn a_caller_meets(fault: Fault, kind: QuestionKind) {
    let what = format!("{fault:?} at {kind:?}");
    let server = Scripted::start().await;
    let bad = Arc::new(AtomicBool::new(false));
    misbehave(&server, fault, kind, &bad);
    let pool = warm(settings(&server)).await;
    let mut conn = pool.get().await.expect("a connection");
    bad.store(true, Ordering::Relaxed);
    // In a task, because the driver may panic there.
    let caller = tokio::spawn(async move {
        let question = match kind {
            QuestionKind::Reset => "SET @a = 1",
            _ => "SELECT 'caller'",
        };
        let asking = conn.query_first::<Row, _>(question);
        timeout(CONNECT_TIMEOUT, asking).await
    });
    // The outcome is an error, a panic in the driver or the caller's time-out; or an answer, as far
    // as the caller can tell.
    drop(timeout(PATIENCE, caller).await.expect(&what));
    bad.store(false, Ordering::Relaxed);
    recovers(pool, &server, &what).await;
}

/// Runs every fault at each kind of question, several at a time.
#[expect(clippy::future_not_send, reason = "a LocalSet runs them")]
async fn at_all(kinds: &[QuestionKind]) {
    let each = |kind: &QuestionKind| Fault::ALL.map(|fault| (fault, *kind));
    let cases = kinds.iter().flat_map(each);
    LocalSet::new().run_until(run_all(cases)).await;
}

async fn run_all(cases: impl Iterator<Item = (Fault, QuestionKind)>) {
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    for (fault, kind) in cases {
        if running.len() == 6
            && let Some(Err(error)) = running.join_next().await
        {
            failed.push(error);
        }
        match kind {
            QuestionKind::Reset | QuestionKind::Caller => {
                running.spawn_local(a_caller_meets(fault, kind));
            }
            _ => {
                running.spawn_local(the_pool_meets(fault, kind));
            }
        }
    }
    while let Some(outcome) = running.join_next().await {
        failed.extend(outcome.err());
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The pool opens a connection, and every question of the opening gets a bad answer.
#[tokio::test]
async fn a_bad_answer_to_the_pool_ends_the_get_in_time_and_heals() {
    at_all(&[
        QuestionKind::Settings,
        QuestionKind::FirstValidation,
        QuestionKind::Init,
        QuestionKind::Validation,
    ])
    .await;
}

#[tokio::test]
async fn a_bad_answer_to_a_caller_or_a_reset_loses_no_slot() {
    at_all(&[QuestionKind::Reset, QuestionKind::Caller]).await;
}

/// Runs an opening against this script; then the server behaves and the pool recovers.
async fn opening<F, P>(what: &str, script: F) -> Result<(), Error>
where
    F: Fn(Wire) -> P + Send + Sync + 'static,
    P: Future<Output = io::Result<()>> + Send + 'static,
{
    let server = Scripted::start().await;
    server.play(script);
    let pool = pool(settings(&server));
    let start = Instant::now();
    let outcome = pool.get().await.map(drop);
    let took = start.elapsed();
    assert!(took <= 10 * GET_TIMEOUT, "{what}: took {took:?}");
    server.behave();
    recovers(pool, &server, what).await;
    outcome
}

/// The server's error code in the error of a `get()`.
fn code_of(error: &Error) -> Option<u16> {
    match error {
        Error::Connect(error)
        | Error::Timeout {
            source: Some(error),
            ..
        } => error.code(),
        _ => None,
    }
}

#[tokio::test]
async fn an_error_in_place_of_the_greeting_is_reported_with_its_code() {
    for (code, is_permanent) in [
        (1040, false),
        (1053, false),
        (1129, true),
        (1130, true),
        (1226, false),
    ] {
        let what = format!("error {code}");
        let outcome = opening(&what, move |mut wire: Wire| async move {
            wire.packet(0, &early_error(code, "not now")).await
        });
        let error = outcome.await.expect_err(&what);
        assert_eq!(code_of(&error), Some(code), "{error}");
        assert_eq!(matches!(error, Error::Connect(_)), is_permanent, "{error}");
        assert_eq!(error.is_transient(), !is_permanent, "{error}");
    }
}

#[tokio::test]
async fn an_incomplete_or_slow_greeting_ends_at_connect_timeout() {
    for (what, part) in [
        ("nothing", 0),
        ("half a head", 2),
        ("a head", 4),
        ("half a packet", 40),
    ] {
        let outcome = opening(what, move |mut wire: Wire| async move {
            let greeting = packet(0, &Greeting::default().payload());
            wire.raw(&greeting[..part]).await?;
            wire.hang().await
        });
        let error = outcome.await.expect_err(what);
        assert!(error.to_string().contains("no answer within"), "{error}");
    }
    let outcome = opening("byte by byte", |mut wire: Wire| async move {
        let greeting = packet(0, &Greeting::default().payload());
        wire.trickle(&greeting, Duration::from_millis(50)).await
    });
    let error = outcome.await.expect_err("too slow");
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[tokio::test]
async fn a_senseless_greeting_is_an_error_or_harmless() {
    type Change = fn(&mut Greeting);
    let greetings: [(&str, Change); 16] = [
        ("no capabilities", |g| g.capabilities = 0),
        ("all capabilities", |g| g.capabilities = u32::MAX),
        ("no protocol 4.1", |g| {
            g.capabilities = Greeting::CAPABILITIES & !(1 << 9);
        }),
        ("no plug-ins", |g| {
            g.capabilities = Greeting::CAPABILITIES & !(1 << 19);
        }),
        ("old ends of rows", |g| {
            g.capabilities = Greeting::CAPABILITIES & !(1 << 24);
        }),
        ("another protocol", |g| g.protocol = 9),
        ("no version", |g| g.version = Vec::new()),
        ("a version of words", |g| g.version = b"the best".to_vec()),
        ("a version of no text", |g| {
            g.version = vec![0xFF, 0xC0, 0x80];
        }),
        ("a version too large", |g| {
            g.version = b"99999999999.99999.99999".to_vec();
        }),
        ("MariaDB too large", |g| {
            g.version = b"5.5.5-99999.99999.99999-MariaDB".to_vec();
        }),
        ("a version of 3 MB", |g| g.version = vec![b'8'; 3 << 20]),
        ("a scramble of 128 bytes", |g| g.scramble_length = 128),
        ("a scramble of 255 bytes", |g| g.scramble_length = 255),
        ("an unknown plug-in", |g| g.plugin = b"hostile".to_vec()),
        ("a plug-in of 3 MB", |g| g.plugin = vec![b'p'; 3 << 20]),
    ];
    for (what, spoil) in greetings {
        let mut greeting = Greeting::default();
        spoil(&mut greeting);
        let payload = Arc::new(greeting.payload());
        let outcome = opening(what, move |mut wire: Wire| {
            let payload = Arc::clone(&payload);
            async move {
                wire.packet(0, &payload).await?;
                wire.read_packet().await?;
                wire.packet(2, &ok()).await?;
                wire.serve().await
            }
        });
        let outcome = outcome.await;
        println!("{what}: {:?}", outcome.as_ref().err());
        if let Err(error) = outcome {
            assert!(
                matches!(error, Error::Timeout { .. } | Error::Connect(_)),
                "{what}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn senseless_authentication_ends_the_attempt() {
    const SWITCH_NATIVE: &[u8] = b"\xFEmysql_native_password\x0012345678901234567890\0";
    const SWITCH_SHA2: &[u8] = b"\xFEcaching_sha2_password\x0012345678901234567890\0";
    let answers: [(&str, Vec<Vec<u8>>); 12] = [
        ("switches without end", vec![SWITCH_NATIVE.to_vec(); 50]),
        (
            "the password in clear text",
            vec![b"\xFEmysql_clear_password\0".to_vec()],
        ),
        (
            "the hash of before 4.1",
            vec![b"\xFEmysql_old_password\x0012345678\0".to_vec()],
        ),
        ("the old switch", vec![vec![0xFE]]),
        ("an unknown plug-in", vec![b"\xFEhostile\0x".to_vec()]),
        (
            "a switch without a scramble, and the whole password",
            vec![b"\xFEcaching_sha2_password\0".to_vec(), vec![1, 4], vec![1]],
        ),
        ("no key", vec![SWITCH_SHA2.to_vec(), vec![1, 4], vec![]]),
        (
            "a bad key",
            vec![
                SWITCH_SHA2.to_vec(),
                vec![1, 4],
                b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".to_vec(),
            ],
        ),
        (
            "parsec, twice",
            vec![
                b"\xFEparsec\x0012345678901234567890123456789012".to_vec(),
                b"\xFEparsec\0".to_vec(),
            ],
        ),
        (
            "parsec, with a bad salt",
            vec![
                b"\xFEparsec\x0012345678901234567890123456789012".to_vec(),
                b"Px".to_vec(),
            ],
        ),
        ("an empty packet", vec![vec![]]),
        ("a file", vec![b"\xFB/etc/passwd".to_vec()]),
    ];
    for (what, packets) in answers {
        let packets = Arc::new(packets);
        let outcome = opening(what, move |mut wire: Wire| {
            let packets = Arc::clone(&packets);
            async move {
                wire.greet().await?;
                let mut number: u8 = 2;
                for payload in &*packets {
                    wire.packet(number, payload).await?;
                    number = number.wrapping_add(2);
                    let answer = wire.read_packet().await?;
                    assert!(
                        !answer.windows(6).any(|six| six == b"secret"),
                        "the password in clear text"
                    );
                }
                wire.hang().await
            }
        });
        let error = outcome.await.expect_err(what);
        println!("{what}: {error}");
        assert!(
            matches!(error, Error::Timeout { .. } | Error::Connect(_)),
            "{what}: {error}"
        );
    }
}

/// Bytes a correct server sends while a connection is opened.
const OPENING: usize = 400;

#[tokio::test]
async fn an_opening_cut_after_any_number_of_bytes_is_tried_again() {
    async fn closed_after(bytes: usize) {
        let what = format!("closed after {bytes} bytes");
        let outcome = opening(&what, move |mut wire: Wire| async move {
            wire.close_after(bytes);
            wire.behave().await
        });
        // With most of the bytes sent, the last one belongs to a connection that is already open.
        if outcome.await.is_ok() {
            assert!(bytes > 150, "{bytes} bytes are not an opening");
        }
    }
    let all = async {
        let mut running = JoinSet::new();
        for bytes in 0..OPENING {
            if running.len() == 24
                && let Some(outcome) = running.join_next().await
            {
                outcome.expect("no failure");
            }
            running.spawn_local(closed_after(bytes));
        }
        while let Some(outcome) = running.join_next().await {
            outcome.expect("no failure");
        }
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn the_servers_goodbye_on_an_idle_connection_reaches_no_caller() {
    for number in [0, 1] {
        let server = Scripted::start().await;
        let end = watch::Sender::new(false);
        let ending = end.subscribe();
        server.play(move |mut wire: Wire| {
            let mut ending = ending.clone();
            async move {
                wire.log_in().await?;
                loop {
                    tokio::select! {
                        question = wire.question() => {
                            let question = question?;
                            wire.raw(&question.answer()).await?;
                        }
                        _ = async { drop(ending.wait_for(|now| *now).await) } => {
                            let last = error(4031, "the client was disconnected because of inactivity");
                            return wire.packet(number, &last).await;
                        }
                    }
                }
            }
        });
        let pool = warm(settings(&server).validate_after_idle(Duration::ZERO)).await;
        server.behave();
        end.send_replace(true);
        eventually("both are ended", async || server.open() == 0).await;
        let mut conn = pool.get().await.expect("another connection");
        conn.ping().await.expect("an answer");
        drop(conn);
        recovers(pool, &server, "after 4031").await;
    }
}

/// An abandoned attempt leaves nothing behind that keeps reading. The driver by itself would read
/// for ever.
#[tokio::test]
async fn an_opening_that_gets_rows_without_end_is_closed_in_time() {
    let server = Scripted::start().await;
    let bad = Arc::new(AtomicBool::new(true));
    misbehave(&server, Fault::EndlessRows, QuestionKind::Settings, &bad);
    let pool = pool(settings(&server).size(1).overflow(0));
    pool.get().await.expect_err("rows without end");
    // Never more than the limit and the one just closed, however often the opening is retried.
    eventually("it is tried again and again", async || {
        let (open, accepted) = (server.open(), server.accepted());
        assert!(open <= 2, "{open} connections are read from, of {accepted}");
        accepted > 4
    })
    .await;
    bad.store(false, Ordering::Relaxed);
    recovers(pool, &server, "after rows without end").await;
}

/// The driver by itself would wait for the rest of the answer, for ever, on a connection that nobody
/// counts any more.
#[tokio::test]
async fn an_opening_that_gets_half_an_answer_with_a_wrong_row_is_closed() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        let question = wire.question().await?;
        let columns = question.text.split(',').count();
        let number = u8::try_from(columns).expect("few columns");
        wire.packet(1, &[number]).await?;
        for n in 0..number {
            wire.packet(2 + n, &column()).await?;
        }
        // A text of 5 bytes that has one.
        wire.packet(2 + number, &[5, b'x']).await?;
        wire.hang().await
    });
    let pool = pool(settings(&server).size(1).overflow(0));
    pool.get().await.expect_err("a wrong row");
    eventually("it is tried again and again", async || {
        let (open, accepted) = (server.open(), server.accepted());
        assert!(open <= 2, "{open} connections are open, of {accepted}");
        pool.retry_now();
        accepted > 8
    })
    .await;
    server.behave();
    recovers(pool, &server, "after wrong rows").await;
}

/// A Galera node that has lost the others refuses every statement. The driver by itself would send
/// one `ROLLBACK` after the other, on a connection that nobody counts any more.
#[tokio::test]
async fn a_connection_whose_rollback_is_refused_is_closed() {
    const IN_TRANSACTION: u8 = 1;
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            match question.text.as_str() {
                "COMMIT" | "ROLLBACK" => wire.packet(1, &error(1047, "not ready")).await?,
                "START TRANSACTION" | "DO 1" => wire.packet(1, &ok_with(IN_TRANSACTION)).await?,
                _ => wire.raw(&question.answer()).await?,
            }
        }
    });
    let pool = pool(settings(&server).size(0).overflow(1));
    for (n, commits) in (1..).zip([false, true]) {
        let mut conn = pool.get().await.expect("a connection");
        let mut transaction = conn
            .start_transaction(TxOpts::default())
            .await
            .expect("begun");
        transaction.query_drop("DO 1").await.expect("done");
        if commits {
            transaction.commit().await.expect_err("refused");
        } else {
            drop(transaction);
        }
        drop(conn);
        eventually("it is closed", async || server.open() == 0).await;
        assert_eq!(server.accepted(), n);
    }
    let asked = server.asked();
    let rollbacks = asked.iter().filter(|text| *text == "ROLLBACK").count();
    // For each connection by the cleaning and by the goodbye, and once after the commit.
    assert_eq!(rollbacks, 5, "{asked:?}");
}

/// The driver allocates room for as many columns as the server announces, and an allocation beyond
/// all memory ends the process. This test fails if that changes; `docs/threats.md` warns of it.
#[tokio::test]
async fn a_number_of_columns_beyond_all_memory_ends_the_process() {
    let child = Command::new(env::current_exe().expect("this program"))
        .args([
            "--exact",
            "servers::hostile::a_process_to_be_ended",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let ended = timeout(Duration::from_secs(60), child)
        .await
        .expect("an end")
        .expect("it ran");
    let printed = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code().is_none(),
        "ended by a signal: {:?}",
        ended.status
    );
    assert!(printed.contains("memory allocation of"), "{printed}");
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn a_process_to_be_ended() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        wire.question().await?;
        // More than there are addresses for.
        let columns = (1_u64 << 45).to_le_bytes();
        let mut payload = vec![0xFE];
        payload.extend_from_slice(&columns);
        wire.packet(1, &payload).await?;
        wire.hang().await
    });
    pool(settings(&server)).get().await.map(drop).ok();
}

/// In a child process, whose memory nothing else uses.
#[tokio::test]
async fn openings_that_get_bytes_without_end_take_little_memory() {
    let child = Command::new(env::current_exe().expect("this program"))
        .args([
            "--exact",
            "servers::hostile::a_process_that_gets_bytes_without_end",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let ended = timeout(2 * PATIENCE, child)
        .await
        .expect("an end")
        .expect("it ran");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{text}");
    let peak = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let peak = peak.expect("the most memory it had") / 1024;
    println!("{peak} MiB at most");
    // At most a packet of 4 MiB and its copy, in buffers of twice the size, for each of four
    // openings: 64 MiB; usually far less.
    assert!(peak <= 128, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a process of its own"]
async fn a_process_that_gets_bytes_without_end() {
    const OPENINGS: usize = 4;
    // With both settings given, the driver queries none; it would collect the answer.
    let limit = "?max_allowed_packet=1048576";
    for (options, fault, kind) in [
        ("", Fault::EndlessPackets, QuestionKind::Settings),
        (limit, Fault::EndlessRows, QuestionKind::FirstValidation),
        (limit, Fault::EndlessRows, QuestionKind::Validation),
        (limit, Fault::EndlessPackets, QuestionKind::FirstValidation),
        (limit, Fault::EndlessResults, QuestionKind::FirstValidation),
    ] {
        let server = Scripted::start().await;
        misbehave(&server, fault, kind, &Arc::new(AtomicBool::new(true)));
        let settings = config(&format!("{}{options}", server.url()))
            .size(OPENINGS)
            .overflow(0)
            .max_connecting(OPENINGS)
            .connect_timeout(CONNECT_TIMEOUT);
        let pool = pool(settings);
        // Repeatedly, as one attempt may leave something behind.
        pool.get_within(3 * CONNECT_TIMEOUT).await.map(drop).ok();
        pool.close().await;
    }
    // In place of the greeting.
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        let piece = vec![b'x'; 1 << 20];
        wire.raw(&[0xFF, 0xFF, 0xFF, 0]).await?;
        wire.endlessly(&piece).await
    });
    let pool = pool(settings(&server));
    pool.get().await.map(drop).ok();
    pool.close().await;
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    println!("{status}");
}

/// Corrupts a correct server's bytes anywhere, in one of several small ways.
struct Mutation {
    seed: Seed,
    /// The percentage of writes that are corrupted.
    percent: u64,
    /// Everything sent so far, to recognise what would end the process.
    sent: Vec<u8>,
}

/// Bytes that have a meaning as the start of a length or of a packet.
const LENGTHS: [u8; 9] = [0, 1, 0x7F, 0x80, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF];

impl Mutation {
    fn spoil(&mut self, honest: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = honest.to_vec();
        if self.seed.chance(self.percent) {
            for _ in 0..=self.seed.below(3) {
                self.once(&mut bytes);
            }
        }
        self.sent.extend_from_slice(&bytes);
        if ends_the_process(&self.sent) {
            return (Vec::new(), false);
        }
        (bytes, !self.seed.chance(2))
    }

    fn once(&mut self, bytes: &mut Vec<u8>) {
        let length = u64::try_from(bytes.len()).expect("short");
        let at = usize::try_from(self.seed.below(length.max(1))).expect("short");
        let Some(there) = bytes.get(at).copied() else {
            return;
        };
        match self.seed.below(7) {
            0 => bytes[at] = there ^ (1 << self.seed.below(8)),
            1 => bytes[at] = *self.seed.pick(&LENGTHS),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, there),
            4 => drop(bytes.remove(at)),
            5 => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
            _ => {
                for byte in bytes.iter_mut().skip(at).take(9) {
                    *byte = self.seed.next().to_le_bytes()[0];
                }
            }
        }
    }
}

/// Whether a packet among these, read as the number of columns, would end the process; see that
/// test.
fn ends_the_process(mut stream: &[u8]) -> bool {
    while let [a, b, c, _, rest @ ..] = stream {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, 0])).expect("24 bits");
        let payload = &rest[..length.min(rest.len())];
        if let [0xFE, number @ ..] = payload
            && let Some(number) = number.first_chunk()
            && (1 << 24..1 << 59).contains(&u64::from_le_bytes(*number))
        {
            return true;
        }
        stream = &rest[payload.len()..];
    }
    false
}

/// Runs for a few seconds; `FUZZ_SECONDS` sets another duration.
#[tokio::test]
async fn answers_spoiled_at_random_hang_no_caller_and_lose_no_slot() {
    let seed = Seed::new();
    let seconds = env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(4, |text| text.parse().expect("a number"));
    let servers = [
        Arc::new(spoiling(seed.fork(0)).await),
        Arc::new(spoiling(seed.fork(1)).await),
    ];
    // With the maximum packet size given, the driver queries no settings while it opens. If it did,
    // and failed in the middle of the answer, it would wait for the rest as long as the server kept
    // the connection open.
    let urls = [
        format!("{}?max_allowed_packet=1048576", servers[0].url()),
        servers[1].url(),
    ];
    let all = async {
        let start = Instant::now();
        let mut running = JoinSet::new();
        let mut cases = 0_u32;
        while start.elapsed() < Duration::from_secs(seconds) {
            if running.len() == 24
                && let Some(outcome) = running.join_next().await
            {
                outcome.expect("no failure");
            }
            let url = if cases.is_multiple_of(2) {
                &urls[0]
            } else {
                &urls[1]
            };
            let url = url.clone();
            running.spawn_local(async move {
                timeout(PATIENCE, one_pool_of_spoiled_answers(&url))
                    .await
                    .expect("nothing hangs");
            });
            cases += 1;
        }
        while let Some(outcome) = running.join_next().await {
            outcome.expect("no failure");
        }
        let connections = servers[0].accepted() + servers[1].accepted();
        println!(
            "{cases} pools, {connections} connections in {:?}",
            start.elapsed()
        );
        assert!(cases > 5, "only {cases}");
    };
    LocalSet::new().run_until(all).await;
    println!("{} are still read from", servers[1].open());
    eventually("all are closed", async || servers[0].open() == 0).await;
}

/// A server whose answers are corrupted, with each connection's own random choices.
async fn spoiling(choices: Seed) -> Scripted {
    let server = Scripted::start().await;
    let choices = Arc::new(Mutex::new(choices));
    server.play(move |mut wire: Wire| {
        let choices = Arc::clone(&choices);
        async move {
            let mut seed = Seed::from(choices.lock().expect("no panic").next());
            let mut mutation = Mutation {
                percent: *seed.pick(&[5, 20, 50]),
                seed,
                sent: Vec::new(),
            };
            wire.spoil(move |honest| mutation.spoil(honest));
            wire.behave().await
        }
    });
    server
}

async fn one_pool_of_spoiled_answers(url: &str) {
    let short = Duration::from_millis(100);
    let settings = config(url)
        .size(2)
        .overflow(1)
        .slow_get(None)
        .timeout(short)
        .connect_timeout(short)
        .close_timeout(short)
        .validate_after_idle(Duration::ZERO);
    let pool = pool(settings);
    let caller = tokio::spawn({
        let pool = pool.clone();
        async move {
            for question in ["SELECT 'caller'", "SET @a = 1", "SELECT 1"] {
                let Ok(mut conn) = pool.get().await else {
                    continue;
                };
                drop(timeout(short, conn.query_first::<Row, _>(question)).await);
            }
        }
    });
    // The driver may panic in the caller's task.
    drop(timeout(PATIENCE, caller).await.expect("no caller hangs"));
    eventually("nothing is cleaned for ever", async || {
        pool.status().cleaning == 0
    })
    .await;
    let status = pool.status();
    assert_eq!(status.in_use, 0, "{status}");
    timeout(PATIENCE, pool.close())
        .await
        .expect("it closes in time");
    eventually("all slots are vacant", async || pool.status().open == 0).await;
}

#[tokio::test]
async fn a_panic_of_the_driver_counts_as_a_lost_connection() {
    let server = Scripted::start().await;
    let bad = Arc::new(AtomicBool::new(false));
    misbehave(&server, Fault::EmptyPacket, QuestionKind::Validation, &bad);
    let pool = warm(settings(&server).validate_after_idle(Duration::ZERO)).await;
    bad.store(true, Ordering::Relaxed);
    server.behave();
    // Both idle connections are lost, and this caller gets a third.
    let mut conn = pool.get().await.expect("another connection");
    conn.ping().await.expect("an answer");
    drop(conn);
    eventually("both are counted", async || {
        pool.metrics()
            .discarded
            .contains(&(mysql_warm_pool::metrics::DiscardReason::Lost, 2))
    })
    .await;
    recovers(pool, &server, "after panics").await;
}

#[tokio::test]
async fn a_panic_of_the_driver_ends_no_monitor_of_a_cluster() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.text.starts_with("SHOW") {
                // A status flag where a row is expected.
                let mut bytes = packet(1, &[1]);
                bytes.extend(packet(2, &column()));
                bytes.extend(packet(3, &[]));
                wire.raw(&bytes).await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let other = Server::shared().await;
    let members = [config(&server.url()), config(&other.url())];
    let members = members.map(|member| member.size(1).overflow(0));
    let settings = ClusterConfig::new(members).check_every(Duration::from_millis(50));
    let cluster = Cluster::new(settings).expect("valid settings");
    drop(cluster.writer().await.expect("the other one takes writes"));
    let asked = || {
        let asked = server.asked().into_iter();
        asked.filter(|text| text.starts_with("SHOW")).count()
    };
    eventually("it is asked again and again", async || asked() >= 4).await;
    let members = cluster.members();
    assert_eq!(members[0].role, Role::Unreachable);
    drop(cluster.writer().await.expect("the other one takes writes"));
    cluster.close().await;
}

/// An older server, or a proxy, may not know the variable that differs on every server.
#[tokio::test]
async fn a_server_without_a_unique_id_works_and_gets_no_kill() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.text.contains("@@server_u") {
                let refused = packet(1, &error(1193, "unknown system variable"));
                wire.raw(&refused).await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let pool = pool(settings(&server).on_cancel(OnCancel::Kill));
    pool.warm_up().await.expect("warm");
    let opened = pool.metrics().opened;
    for _ in 0..10 {
        let mut conn = pool.get().await.expect("a connection");
        let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
        assert_eq!(answer, Some(7));
    }
    assert_eq!(pool.metrics().opened, opened, "none was spoiled");
}
