//! Spans and events: changes and faults are logged once, as fields, and without secrets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mysql_warm_pool::{
    Error, PooledConn, Readiness,
    error::TimeoutCause,
    mysql_async::{
        Conn,
        prelude::{Query, Queryable},
    },
};
use test_support::{PATIENCE, Proxy, Server, config, eventually, warm};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tracing::{
    Dispatch, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// A second outage is logged only if it begins at least this long after the first.
const WARNED_EVERY: Duration = Duration::from_secs(1);

/// An event, or a span when it begins.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    at: Instant,
    pub(super) level: Level,
    /// The event's message, or the span's name.
    pub(super) what: String,
    pub(super) fields: Fields,
    /// The spans it is in, outermost first.
    within: Vec<&'static str>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Logged {
    pub(super) fn field(&self, name: &str) -> &str {
        let value = self.fields.0.get(name);
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(super) fn seconds(&self, name: &str) -> f64 {
        self.field(name).parse().expect("a number of seconds")
    }
}

/// Keeps everything that is logged.
#[derive(Clone, Default)]
pub(super) struct Listener {
    events: Arc<Mutex<Vec<Logged>>>,
    spans: Arc<Mutex<Vec<Logged>>>,
}

impl Listener {
    /// Collects what this thread logs, including tasks it spawns on a single-threaded runtime.
    pub(super) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        self.listen_to(|_| true)
    }

    /// Like [`listen`](Self::listen), only to these.
    pub(super) fn listen_to(
        &self,
        wanted: fn(&Metadata<'_>) -> bool,
    ) -> tracing::subscriber::DefaultGuard {
        // With a single subscriber, `tracing` would ask that of whichever thread first comes by an
        // event whether it is ever wanted, and most threads here have none.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
        let registry = tracing_subscriber::registry().with(filter_fn(wanted));
        tracing::subscriber::set_default(registry.with(self.clone()))
    }

    pub(super) fn events(&self) -> Vec<Logged> {
        self.events.lock().expect("no panic").clone()
    }

    pub(super) fn spans(&self) -> Vec<Logged> {
        self.spans.lock().expect("no panic").clone()
    }

    pub(super) fn of(&self, what: &str) -> Vec<Logged> {
        let mut events = self.events();
        events.retain(|logged| logged.what == what);
        events
    }
}

/// Whether this crate logged it, rather than a library beneath.
fn is_ours(metadata: &Metadata<'_>) -> bool {
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
        self.spans.lock().expect("no panic").push(Logged {
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
        // If several spans have this name, it does not matter which one is used.
        if let Some(logged) = spans.iter_mut().rfind(|logged| logged.what == span.name()) {
            logged.fields.0.extend(fields.0);
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
        self.events.lock().expect("no panic").push(Logged {
            at: Instant::now(),
            level: *event.metadata().level(),
            what: fields.0.remove("message").expect("a message"),
            fields,
            within,
        });
    }
}

/// The rows of the tables in a section of the docs, cell by cell.
fn table(section: &str) -> Vec<Vec<String>> {
    let rows = super::docs_section(section);
    let rows = rows
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

fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("the sources");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                fs::read_to_string(path).expect("text")
            }
        })
        .collect()
}

#[tokio::test]
async fn a_pools_life_is_logged_without_a_secret_or_a_flood() {
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

    // On a busy machine an opening may have hung. Its log lines do not belong to the outage, and do
    // not suppress those of the outage: two outages are logged if a second lies between them.
    eventually("nothing is being opened", async || {
        let mut logged = listener.of("connections cannot be opened").into_iter();
        pool.status().connecting == 0 && logged.all(|logged| logged.at.elapsed() > WARNED_EVERY)
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
    // Every change of readiness continues from the previous one.
    let mut readiness = "cold".to_owned();
    let mut states = vec![];
    for change in listener.of("readiness changed") {
        assert_eq!(change.level, Level::INFO);
        assert_eq!(change.field("was"), readiness);
        change.field("now").clone_into(&mut readiness);
        states.push(readiness.clone());
    }
    assert_eq!(states.first().map(String::as_str), Some("warming"));
    assert_eq!(states.last().map(String::as_str), Some("closed"));
    for passed in ["ready", "unavailable"] {
        assert!(states.iter().any(|state| state == passed), "{states:?}");
    }

    // Once per outage, not once per caller.
    let since_outage = |what| {
        let mut logged = listener.of(what);
        logged.retain(|logged| logged.at >= outage && !has_hung(logged));
        logged
    };
    let [began] = &since_outage("connections cannot be opened")[..] else {
        panic!("logged once: {events:?}");
    };
    assert_eq!(began.level, Level::WARN);
    let ended = since_outage("connections can be opened again");
    let ended = ended.first().expect("its end is logged");
    assert!(
        ended.at > began.at && ended.seconds("lasted") >= 1.0,
        "{ended:?}"
    );
    assert_eq!(listener.of("pool closed").len(), 1);

    // At most a few lines a second under load, even though 200 callers fail again and again.
    assert!(
        listener.of("connection handed out").len() >= 1_000,
        "under load"
    );
    assert!(listener.of("slow get").len() >= 200, "they were slow");
    for (began, lasted) in [(load, load_lasted), (outage, outage_lasted)] {
        let lines = events.iter().filter(|logged| {
            logged.level <= Level::INFO
                && logged.at >= began
                && logged.at <= began + lasted
                && !has_hung(logged)
        });
        let seconds = usize::try_from(lasted.as_secs()).expect("a few") + 1;
        let lines = lines.count();
        assert!(lines <= 10 * seconds, "{lines} lines in {seconds} s");
    }

    let logged = format!("{events:?}{:?}", listener.spans());
    for secret in [password.as_str(), "init-secret"] {
        assert!(!logged.contains(secret), "{logged}");
    }
    let names: BTreeSet<_> = listener.spans().into_iter().map(|span| span.what).collect();
    assert_eq!(
        names,
        ["close", "connect", "get", "query", "warm_up"]
            .map(String::from)
            .into()
    );
}

/// On a busy machine an opening may take so long that it counts as hanging.
fn has_hung(logged: &Logged) -> bool {
    let error = logged.fields.0.get("error");
    error.is_some_and(|error| error.contains("no answer within 300 ms"))
}

/// A full server behaves like this while other clients come and go.
#[tokio::test]
async fn a_server_that_refuses_every_other_connection_floods_no_log() {
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
        let logged = listener.of(what);
        let most = usize::try_from(began.elapsed().as_secs()).expect("a few") + 1;
        assert!(
            (1..=most).contains(&logged.len()),
            "{what}: {} times",
            logged.len()
        );
    }
    // For each outage logged, its end is logged too.
    let outages: Vec<_> = listener
        .events()
        .into_iter()
        .filter(|logged| logged.what.starts_with("connections can"))
        .map(|logged| logged.what)
        .collect();
    assert!(
        outages.windows(2).all(|pair| pair[0] != pair[1]),
        "{outages:?}"
    );
}

#[tokio::test]
async fn a_permanent_fault_is_logged_without_the_wrong_password() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let wrong = server.url().replace(&password, "wr0ng-s3cret");
    let pool = test_support::pool(config(&wrong));
    pool.warm_up().await.expect_err("1045");
    let [logged] = &listener.of("warm-up incomplete")[..] else {
        panic!("logged once: {:?}", listener.events());
    };
    assert_eq!(logged.level, Level::WARN);
    assert_eq!(
        (logged.field("open"), logged.within.as_slice()),
        ("0", &["warm_up"][..])
    );
    assert!(logged.field("error").contains("1045"), "{logged:?}");
    let all = format!("{:?}{:?}", listener.events(), listener.spans());
    assert!(!all.contains("wr0ng-s3cret"), "{all}");
}

#[tokio::test]
async fn spans_and_events_are_as_the_docs_list_them() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(2)
        .overflow(0)
        .name("events")
        .recycle(Duration::from_secs(1_000_000))
        .slow_get(Duration::from_millis(5))
        .slow_query(Duration::from_millis(5))
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
    let (one, mut two) = held;
    PooledConn::discard(one);
    let rows: Vec<u8> = two
        .exec(
            "SELECT SLEEP(?) FROM information_schema.SCHEMATA LIMIT 1",
            (0.02,),
        )
        .await
        .expect("rows");
    assert_eq!(rows, [0]);
    drop(
        two.query_drop("SELECT 'secret' FROM none.none")
            .await
            .expect_err("none"),
    );
    drop(two);
    eventually("two are idle", async || pool.status().idle == 2).await;
    pool.refresh();
    pool.close().await;

    let listed = table("Events");
    let row = |name: &str| {
        let found = listed
            .iter()
            .find(|row| row[0].trim_matches(['`', '"']) == name);
        found.unwrap_or_else(|| panic!("{name:?} is not listed"))
    };
    for logged in listener.events().into_iter().chain(listener.spans()) {
        let row = row(&logged.what);
        let levels: Vec<_> = row[1].split(", ").map(str::to_uppercase).collect();
        assert!(
            levels.contains(&logged.level.to_string()),
            "{logged:?} against {row:?}"
        );
        for field in logged.fields.0.keys().filter(|field| **field != "pool") {
            assert!(
                row[2].contains(&format!("`{field}`")),
                "{field} of {logged:?} against {row:?}"
            );
        }
        assert_eq!(logged.field("pool"), "events");
    }
    assert!(!listener.of("configuration warning").is_empty());
    let sources = sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    for row in &listed {
        let name = row[0].trim_matches(['`', '"']);
        assert!(
            sources.contains(&format!("\"{name}\"")),
            "nothing logs {name:?}"
        );
    }
    // Events of a caller belong to its span; an opening belongs to no caller.
    assert!(
        listener
            .of("connection handed out")
            .iter()
            .all(|logged| logged.within == ["get"])
    );
    assert!(
        listener
            .of("connection opened")
            .iter()
            .all(|logged| logged.within == ["connect"])
    );
    assert!(
        listener
            .of("warm-up finished")
            .iter()
            .all(|logged| logged.within == ["warm_up"])
    );
    assert!(
        listener
            .of("pool closed")
            .iter()
            .all(|logged| logged.within == ["close"])
    );
    for what in [
        "connection handed out",
        "connection opened",
        "warm-up finished",
        "pool closed",
    ] {
        assert!(!listener.of(what).is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_long_held_connection_is_logged_once_with_its_line() {
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
    eventually("it is logged", async || {
        listener.of("connection held too long").len() == 1
    })
    .await;
    // Twice as long: it is logged only once.
    tokio::time::sleep(Duration::from_millis(60)).await;
    drop(held);
    let [logged] = &listener.of("connection held too long")[..] else {
        panic!("logged once: {:?}", listener.events());
    };
    assert_eq!(
        (logged.level, logged.field("connection")),
        (Level::WARN, id.as_str())
    );
    assert!(
        logged
            .field("got_at")
            .contains(&format!("events.rs:{line}:")),
        "{logged:?}"
    );
    let [logged] = &listener.of("long-held connection returned")[..] else {
        panic!("logged once: {:?}", listener.events());
    };
    assert_eq!(
        (logged.level, logged.field("connection")),
        (Level::INFO, id.as_str())
    );
    assert!(logged.seconds("held_for") >= 0.1, "{logged:?}");
}

#[tokio::test]
async fn a_timeout_names_the_holders_and_their_lines() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(3).overflow(0);
    for leak_after in [None, Some(Duration::from_secs(60))] {
        let pool = warm(settings.clone().leak_after(leak_after)).await;
        // Got and returned: this connection has no holder.
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
        let holders = holders.as_deref().expect("the holders");
        assert_eq!(holders.count, 3);
        let longest = holders.longest.expect("one is held");
        assert!(
            longest >= Duration::from_millis(50) && longest < PATIENCE,
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
            assert!(text.contains(&format!("events.rs:{first_line}:")), "{text}");
            assert!(text.contains("(2 of them)"), "{text}");
        } else {
            assert_eq!(lines, []);
        }
        // A detached or discarded connection has no holder either.
        drop(PooledConn::detach(first));
        others.into_iter().for_each(PooledConn::discard);
        eventually("they are replaced", async || pool.status().idle == 3).await;
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
fn slow(listener: &Listener) -> Logged {
    let slow = listener.of("slow get");
    assert_eq!(slow.len(), 1, "{slow:?}");
    slow[0].clone()
}

#[tokio::test]
async fn a_slow_get_is_logged_with_the_time_spent_on_each_cause() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(1)
        .overflow(0)
        .validate_after_idle(Duration::ZERO)
        .slow_get(Duration::from_millis(50));
    let near = |logged: &Logged, most: &str| {
        let (all, most_of) = (logged.seconds("waited"), logged.seconds(most));
        let stages = [
            "exhausted",
            "connecting",
            "unavailable",
            "validating",
            "runtime",
        ];
        let sum: f64 = stages.iter().map(|stage| logged.seconds(stage)).sum();
        assert!((all - sum).abs() < 1e-6, "{logged:?}");
        assert!(
            all >= 0.05 && most_of >= 0.8 * all,
            "mostly {most}: {logged:?}"
        );
    };

    // No connection is open yet.
    let listener = Listener::default();
    let listening = listener.listen();
    proxy.delay_opening(Duration::from_millis(150));
    let pool = test_support::pool(settings);
    drop(pool.get().await.expect("a connection"));
    near(&slow(&listener), "connecting");
    drop(listening);

    // It is open and does not answer.
    eventually("it is idle", async || pool.status().idle == 1).await;
    let listener = Listener::default();
    let listening = listener.listen();
    proxy.stall();
    let (validated, ()) = tokio::join!(pool.get(), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.resume();
    });
    let held = validated.expect("a connection");
    near(&slow(&listener), "validating");
    drop(listening);

    // It is in use.
    let listener = Listener::default();
    let listening = listener.listen();
    drop(
        pool.get_within(Duration::from_millis(150))
            .await
            .expect_err("exhausted"),
    );
    let logged = slow(&listener);
    near(&logged, "exhausted");
    assert_eq!((logged.field("in_use"), logged.field("limit")), ("1", "1"));
    assert!(logged.field("error").contains("exhausted"), "{logged:?}");
    drop((listening, held));
}

#[tokio::test]
async fn use_of_the_bare_conn_is_counted_and_logged_once_a_place() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    async fn takes_conn(conn: &mut Conn) {
        conn.query_drop("DO 1").await.expect("an answer");
    }
    for _ in 0..3 {
        let mut conn = pool.get().await.expect("a connection");
        takes_conn(&mut conn).await;
        drop(conn);
        let mut conn = pool.get().await.expect("a connection");
        let answer = "DO 1".ignore(&mut conn).await;
        answer.expect("an answer");
        drop(conn);
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("DO 1").await.expect("followed");
    }
    let logged = listener.of("bare connection used, which costs a reset at its return");
    let places: Vec<_> = logged.iter().map(|logged| logged.field("place")).collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert!(places.iter().all(|place| place.contains("events.rs")));
    assert!(logged.iter().all(|logged| logged.level == Level::DEBUG));
    eventually("all are cleaned", async || pool.status().idle == 1).await;
    let cleanings = pool.metrics().cleanings;
    assert!(cleanings.contains(&("unfollowed", 6)), "{cleanings:?}");
}
