//! What the pool tells by spans and events: changes and faults, once, in fields, and no secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mysql_warm_pool::{
    Error, PooledConn, Readiness, TimeoutCause, mysql_async::prelude::Queryable,
};
use test_support::{Proxy, Server, config, eventually, warm};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

const SOON: Duration = Duration::from_secs(5);
/// Of two outages the second is told if it begins so long after the first.
const ALOUD_EVERY: Duration = Duration::from_secs(1);

/// An event, or a span where it begins.
#[derive(Clone, Debug)]
struct Told {
    at: Instant,
    level: Level,
    /// The event's message, or the span's name.
    what: String,
    fields: Fields,
    /// The spans it is in, the outermost first.
    within: Vec<&'static str>,
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Told {
    fn field(&self, name: &str) -> &str {
        let value = self.fields.0.get(name);
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    fn seconds(&self, name: &str) -> f64 {
        self.field(name).parse().expect("a number of seconds")
    }
}

/// Keeps all that is told.
#[derive(Clone, Default)]
struct Listener {
    events: Arc<Mutex<Vec<Told>>>,
    spans: Arc<Mutex<Vec<Told>>>,
}

impl Listener {
    /// What runs on this thread, and what that spawns on a runtime of one thread, is told here.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    fn events(&self) -> Vec<Told> {
        self.events.lock().expect("no panic").clone()
    }

    fn spans(&self) -> Vec<Told> {
        self.spans.lock().expect("no panic").clone()
    }

    fn of(&self, what: &str) -> Vec<Told> {
        let mut events = self.events();
        events.retain(|told| told.what == what);
        events
    }
}

/// Of this crate, not of the libraries beneath.
fn is_ours(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.target().starts_with("mysql_warm_pool")
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_ours(attributes.metadata()) {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).expect("just made");
        self.spans.lock().expect("no panic").push(Told {
            at: Instant::now(),
            level: *attributes.metadata().level(),
            what: attributes.metadata().name().to_owned(),
            fields,
            within: span.scope().skip(1).map(|span| span.name()).collect(),
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("it is open");
        let mut fields = Fields::default();
        values.record(&mut fields);
        let mut spans = self.spans.lock().expect("no panic");
        // Which of those of this name does not matter here.
        if let Some(told) = spans.iter_mut().rfind(|told| told.what == span.name()) {
            told.fields.0.extend(fields.0);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if !is_ours(event.metadata()) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter().flatten();
        let mut within: Vec<_> = scope.map(|span| span.name()).collect();
        within.reverse();
        self.events.lock().expect("no panic").push(Told {
            at: Instant::now(),
            level: *event.metadata().level(),
            what: fields.0.remove("message").expect("a message"),
            fields,
            within,
        });
    }
}

/// The rows of the README's tables in this section, cell by cell.
fn table(section: &str) -> Vec<Vec<String>> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let (_, text) = readme.split_once(section).expect("the section");
    let text = text.split("\n## ").next().expect("its text");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `") || line.starts_with("| \""));
    rows.map(|row| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    })
    .collect()
}

fn sources() -> String {
    let folder = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("the sources");
    let files = folder.map(|file| file.expect("a file").path());
    files
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect()
}

#[tokio::test]
async fn a_full_life_is_told_without_a_secret_or_a_flood() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::start().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(5)
        .init(["SET @key = 'init-secret'"])
        .slow_get(Duration::from_millis(100));
    let pool = warm(settings).await;
    let load = Instant::now();
    join_all((0..200).map(|_| async {
        for _ in 0..5 {
            let mut conn = pool.get().await.expect("a connection");
            conn.query_drop("DO 1").await.expect("an answer");
        }
    }))
    .await;
    let load_lasted = load.elapsed();

    // On a busy machine an opening may have hung. What is told of that is no part of the outage, nor keeps it from being
    // told: two are, if a second lies between them.
    eventually(2 * SOON, "nothing is being opened", async || {
        let mut told = listener.of("connections cannot be opened").into_iter();
        pool.status().connecting == 0 && told.all(|told| told.at.elapsed() > ALOUD_EVERY)
    })
    .await;
    proxy.refuse().await;
    proxy.cut().await;
    let outage = Instant::now();
    join_all((0..200).map(|_| async {
        while outage.elapsed() < Duration::from_secs(2) {
            if let Ok(mut conn) = pool.get_within(Duration::from_millis(500)).await {
                drop(conn.query_drop("DO 1").await);
            }
        }
    }))
    .await;
    let outage_lasted = outage.elapsed();
    assert_eq!(pool.readiness(), Readiness::Unavailable);
    proxy.accept_again().await;
    pool.wait_ready().await.expect("ready");
    pool.close().await;

    let events = listener.events();
    // Every change of readiness, each from where the last one led.
    let mut readiness = "cold".to_owned();
    let mut states = vec![];
    for change in listener.of("readiness changed") {
        assert_eq!(change.level, Level::INFO);
        assert_eq!(change.field("was"), readiness);
        change.field("now").clone_into(&mut readiness);
        states.push(readiness.clone());
    }
    assert_eq!(states[..2], ["warming", "ready"]);
    assert!(states.contains(&"unavailable".to_owned()), "{states:?}");
    assert_eq!(states[states.len() - 2..], ["ready", "closed"]);

    // Once for the outage, not for each caller.
    let since_outage = |what| {
        let told = listener.of(what).into_iter();
        told.filter(|told| told.at >= outage).collect::<Vec<_>>()
    };
    let [began] = &since_outage("connections cannot be opened")[..] else {
        panic!("told once: {events:?}");
    };
    assert_eq!(began.level, Level::WARN);
    let [ended] = &since_outage("connections can be opened again")[..] else {
        panic!("told once: {events:?}");
    };
    assert!(ended.seconds("lasted") >= 1.9, "{ended:?}");
    assert_eq!(listener.of("pool closed").len(), 1);

    // At most a few lines a second, under load, and though 200 callers fail four times each.
    assert!(listener.of("connection lent").len() >= 1_000, "under load");
    assert!(listener.of("slow get").len() >= 400, "they were slow");
    for (began, lasted) in [(load, load_lasted), (outage, outage_lasted)] {
        let lines = events.iter().filter(|told| {
            let hung = told.fields.0.get("error");
            told.level <= Level::INFO
                && told.at >= began
                && told.at <= began + lasted
                && hung.is_none_or(|error| !error.contains("no answer within 300 ms"))
        });
        let seconds = usize::try_from(lasted.as_secs()).expect("a few") + 1;
        let lines = lines.count();
        assert!(lines <= 4 * seconds, "{lines} lines in {seconds} s");
    }

    let told = format!("{events:?}{:?}", listener.spans());
    for secret in [password.as_str(), "init-secret"] {
        assert!(!told.contains(secret), "{told}");
    }
    let names: BTreeSet<_> = listener.spans().into_iter().map(|span| span.what).collect();
    assert_eq!(
        names,
        ["close", "connect", "get", "warm_up"]
            .map(String::from)
            .into()
    );
}

/// As one that is full does, while others come and go.
#[tokio::test]
async fn a_server_that_refuses_every_other_connection_is_told_without_a_flood() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let relay = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let (port, behind) = (relay.local_addr().expect("bound").port(), server.port());
    let relaying = tokio::spawn(async move {
        for number in 0.. {
            let (mut client, _) = relay.accept().await.expect("a connection");
            if number % 2 == 0 {
                continue; // Dropped, it is closed.
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", behind)).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let pool = warm(config(&server.url_via(port)).size(4).ready_at(1)).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let conn = pool.get().await.expect("a connection");
        PooledConn::discard(conn);
        tokio::task::yield_now().await;
    }
    pool.close().await;
    relaying.abort();

    assert!(pool.metrics().failed_attempts >= 10, "it refuses often");
    for what in [
        "connections cannot be opened",
        "connections can be opened again",
    ] {
        let told = listener.of(what);
        let most = usize::try_from(began.elapsed().as_secs()).expect("a few") + 1;
        assert!(
            (1..=most).contains(&told.len()),
            "{what}: {} times",
            told.len()
        );
    }
    // The ends that are told are those of the outages that are.
    let outages: Vec<_> = listener
        .events()
        .into_iter()
        .filter(|told| told.what.starts_with("connections can"))
        .map(|told| told.what)
        .collect();
    assert!(
        outages.windows(2).all(|pair| pair[0] != pair[1]),
        "{outages:?}"
    );
}

#[tokio::test]
async fn a_lasting_fault_is_told_without_the_password_that_is_wrong() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let wrong = server.url().replace(&password, "wr0ng-s3cret");
    let pool = test_support::pool(config(&wrong));
    pool.warm_up().await.expect_err("1045");
    let [told] = &listener.of("not warm")[..] else {
        panic!("told once: {:?}", listener.events());
    };
    assert_eq!(told.level, Level::WARN);
    assert_eq!(
        (told.field("open"), told.within.as_slice()),
        ("0", &["warm_up"][..])
    );
    assert!(told.field("error").contains("1045"), "{told:?}");
    let all = format!("{:?}{:?}", listener.events(), listener.spans());
    assert!(!all.contains("wr0ng-s3cret"), "{all}");
}

#[tokio::test]
async fn spans_and_events_are_as_the_readme_lists_them() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(2)
        .overflow(0)
        .name("events")
        .recycle(Duration::from_secs(1_000_000))
        .slow_get(Duration::from_millis(5))
        .leak_after(Duration::from_millis(20));
    let pool = warm(settings).await;
    let held = (
        pool.get().await.expect("one"),
        pool.get().await.expect("two"),
    );
    drop(
        pool.get_within(Duration::from_millis(40))
            .await
            .expect_err("exhausted"),
    );
    PooledConn::discard(held.0);
    drop(held.1);
    eventually(SOON, "two are idle", async || pool.status().idle == 2).await;
    pool.refresh();
    pool.close().await;

    let listed = table("\n## Events\n");
    let row = |name: &str| {
        let found = listed
            .iter()
            .find(|row| row[0].trim_matches(['`', '"']) == name);
        found.unwrap_or_else(|| panic!("{name:?} is not listed"))
    };
    for told in listener.events().into_iter().chain(listener.spans()) {
        let row = row(&told.what);
        let levels: Vec<_> = row[1].split(", ").map(str::to_uppercase).collect();
        assert!(
            levels.contains(&told.level.to_string()),
            "{told:?} against {row:?}"
        );
        for field in told.fields.0.keys().filter(|field| **field != "pool") {
            assert!(
                row[2].contains(&format!("`{field}`")),
                "{field} of {told:?} against {row:?}"
            );
        }
        assert_eq!(told.field("pool"), "events");
    }
    assert!(!listener.of("likely to hurt later").is_empty());
    let sources = sources();
    for row in &listed {
        let name = row[0].trim_matches(['`', '"']);
        assert!(
            sources.contains(&format!("\"{name}\"")),
            "nothing tells {name:?}"
        );
    }
    // What is told of a caller is told within its span; an opening belongs to no caller.
    assert!(
        listener
            .of("connection lent")
            .iter()
            .all(|told| told.within == ["get"])
    );
    assert!(
        listener
            .of("connection opened")
            .iter()
            .all(|told| told.within == ["connect"])
    );
    assert!(
        listener
            .of("warm")
            .iter()
            .all(|told| told.within == ["warm_up"])
    );
    assert!(
        listener
            .of("pool closed")
            .iter()
            .all(|told| told.within == ["close"])
    );
    for what in [
        "connection lent",
        "connection opened",
        "warm",
        "pool closed",
    ] {
        assert!(!listener.of(what).is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_connection_held_for_long_is_told_once_with_the_line_that_got_it() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(2)
        .leak_after(Duration::from_millis(50));
    let pool = warm(settings).await;
    drop(pool.get().await.expect("a connection"));
    let line = line!() + 1;
    let held = pool.get().await.expect("a connection");
    let id = held.id().to_string();
    eventually(SOON, "it is told", async || {
        listener.of("connection held for long").len() == 1
    })
    .await;
    // Twice as long: once is told once.
    tokio::time::sleep(Duration::from_millis(60)).await;
    drop(held);
    let [told] = &listener.of("connection held for long")[..] else {
        panic!("told once: {:?}", listener.events());
    };
    assert_eq!(
        (told.level, told.field("connection")),
        (Level::WARN, id.as_str())
    );
    assert!(
        told.field("got_at")
            .contains(&format!("telling.rs:{line}:")),
        "{told:?}"
    );
    let [told] = &listener.of("connection held for long came back")[..] else {
        panic!("told once: {:?}", listener.events());
    };
    assert_eq!(
        (told.level, told.field("connection")),
        (Level::INFO, id.as_str())
    );
    assert!(told.seconds("held_for") >= 0.1, "{told:?}");
}

#[tokio::test]
async fn a_timeout_names_the_holders_and_with_leak_after_the_lines_that_got_them() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(3).overflow(0);
    for leak_after in [None, Some(Duration::from_secs(60))] {
        let pool = warm(settings.clone().leak_after(leak_after)).await;
        // Got and returned: this one is no holder.
        drop(pool.get().await.expect("a connection"));
        let first_line = line!() + 1;
        let first = pool.get().await.expect("one");
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut others = Vec::new();
        let others_line = line!() + 2;
        for _ in 0..2 {
            others.push(pool.get().await.expect("another"));
        }
        let error = pool
            .get_within(Duration::from_millis(20))
            .await
            .expect_err("exhausted");
        let Error::Timeout { cause, holders, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*cause, TimeoutCause::Exhausted);
        let holders = holders.as_deref().expect("who holds them");
        assert_eq!(holders.count, 3);
        let longest = holders.longest.expect("one is held");
        assert!(
            longest >= Duration::from_millis(50) && longest < SOON,
            "{longest:?}"
        );
        let lines: Vec<_> = holders
            .lines
            .iter()
            .map(|line| (line.got_at.line(), line.count))
            .collect();
        let text = error.to_string();
        assert!(
            text.contains("3 held by callers, the longest for "),
            "{text}"
        );
        if leak_after.is_some() {
            assert_eq!(lines, [(first_line, 1), (others_line, 2)]);
            assert!(
                text.contains(&format!("telling.rs:{first_line}:")),
                "{text}"
            );
            assert!(text.contains("(2 of them)"), "{text}");
        } else {
            assert_eq!(lines, []);
        }
        // Taken out for good, or discarded, it is held no more.
        drop(PooledConn::detach(first));
        others.into_iter().for_each(PooledConn::discard);
        eventually(SOON, "they are replaced", async || pool.status().idle == 3).await;
        let all = join_all((0..3).map(|_| pool.get())).await;
        let error = pool
            .get_within(Duration::from_millis(1))
            .await
            .expect_err("exhausted");
        assert!(error.to_string().contains("3 held by callers"), "{error}");
        drop(all);
    }
}

/// The one event of a slow get.
fn slow(listener: &Listener) -> Told {
    let slow = listener.of("slow get");
    assert_eq!(slow.len(), 1, "{slow:?}");
    slow[0].clone()
}

#[tokio::test]
async fn a_slow_get_is_told_with_what_the_time_went_on() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(1)
        .overflow(0)
        .prove_after_idle(Duration::ZERO)
        .slow_get(Duration::from_millis(50));
    let near = |told: &Told, most: &str| {
        let (all, most_of) = (told.seconds("waited"), told.seconds(most));
        let sum: f64 = ["waiting", "opening", "proving"]
            .map(|stage| told.seconds(stage))
            .iter()
            .sum();
        assert!((all - sum).abs() < 1e-6, "{told:?}");
        assert!(
            all >= 0.05 && most_of >= 0.8 * all,
            "mostly {most}: {told:?}"
        );
    };

    // No connection is open yet.
    let listener = Listener::default();
    let listening = listener.listen();
    proxy.delay_opening(Duration::from_millis(150));
    let pool = test_support::pool(settings);
    drop(pool.get().await.expect("a connection"));
    near(&slow(&listener), "opening");
    drop(listening);

    // It is open and does not answer.
    eventually(SOON, "it is idle", async || pool.status().idle == 1).await;
    let listener = Listener::default();
    let listening = listener.listen();
    proxy.stall();
    let (proved, ()) = tokio::join!(pool.get(), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.resume();
    });
    let held = proved.expect("a connection");
    near(&slow(&listener), "proving");
    drop(listening);

    // It is in use.
    let listener = Listener::default();
    let listening = listener.listen();
    drop(
        pool.get_within(Duration::from_millis(150))
            .await
            .expect_err("exhausted"),
    );
    let told = slow(&listener);
    near(&told, "waiting");
    assert_eq!((told.field("in_use"), told.field("limit")), ("1", "1"));
    assert!(told.field("error").contains("exhausted"), "{told:?}");
    drop((listening, held));
}
