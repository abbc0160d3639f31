//! What the feature `metrics` passes to the facade: names, units, and the same numbers as
//! `Pool::metrics`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn, Readiness,
    cluster::{Cluster, ClusterConfig},
};
use test_support::{PATIENCE, Server, config, eventually, pool, warm};

/// Keeps what is recorded, by metric name and labels.
#[derive(Default)]
struct Recorded {
    described: Mutex<BTreeMap<String, (&'static str, Option<Unit>)>>,
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    times: Mutex<BTreeMap<String, Arc<Times>>>,
}

#[derive(Default)]
struct Times(Mutex<Vec<f64>>);

impl HistogramFn for Times {
    fn record(&self, value: f64) {
        self.0.lock().expect("no panic").push(value);
    }
}

/// `name{label=value}`, without the pool's own name.
fn text(key: &Key) -> String {
    let labels: Vec<_> = key
        .labels()
        .filter(|label| label.key() != "db.client.connection.pool.name")
        .map(|label| format!("{}={}", label.key(), label.value()))
        .collect();
    assert_eq!(
        labels.len() + 1,
        key.labels().count(),
        "{key}: the pool is named"
    );
    if labels.is_empty() {
        key.name().to_owned()
    } else {
        format!("{}{{{}}}", key.name(), labels.join(","))
    }
}

fn entry<T: Default>(of: &Mutex<BTreeMap<String, Arc<T>>>, key: &Key) -> Arc<T> {
    let mut all = of.lock().expect("no panic");
    assert!(!all.contains_key(&text(key)), "{key} is registered twice");
    Arc::clone(all.entry(text(key)).or_default())
}

impl Recorded {
    fn describe(&self, name: &KeyName, kind: &'static str, unit: Option<Unit>) {
        let mut described = self.described.lock().expect("no panic");
        described.insert(name.as_str().to_owned(), (kind, unit));
    }

    /// A pool that registers its metrics here.
    fn pool(&self, config: PoolConfig) -> Pool {
        with_local_recorder(self, || Pool::new(config).expect("good settings"))
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters.lock().expect("no panic")[name].load(std::sync::atomic::Ordering::Relaxed)
    }

    fn gauge(&self, name: &str) -> f64 {
        let bits =
            self.gauges.lock().expect("no panic")[name].load(std::sync::atomic::Ordering::Relaxed);
        f64::from_bits(bits)
    }

    fn times(&self, name: &str) -> Vec<f64> {
        self.times.lock().expect("no panic")[name]
            .0
            .lock()
            .expect("no panic")
            .clone()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, "counter", unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, "gauge", unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, "histogram", unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(entry(&self.counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(entry(&self.gauges, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(entry(&self.times, key))
    }
}

/// Keeps what is described, and nothing that is recorded.
struct Descriptions<'a>(&'a Recorded);

impl Recorder for Descriptions<'_> {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn the_docs_list_every_metric_with_its_kind_and_unit() {
    let recorded = Recorded::default();
    let url = "mysql://nobody@127.0.0.1/none";
    drop(recorded.pool(config(url)));
    let settings = ClusterConfig::from_url(url).expect("a valid URL");
    with_local_recorder(&Descriptions(&recorded), || drop(Cluster::new(settings)));
    let described = recorded.described.lock().expect("no panic").clone();
    let described: Vec<_> = described
        .iter()
        .map(|(name, (kind, unit))| {
            let unit = match unit.expect("a unit") {
                Unit::Seconds => "seconds",
                Unit::Count => "count",
                other => panic!("{name} is in {other:?}"),
            };
            (name.clone(), (*kind).to_owned(), unit.to_owned())
        })
        .collect();
    let section = super::docs_section("Metrics");
    let mut listed: Vec<_> = section
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            let (kind, unit) = (cells.next()?, cells.next()?);
            let unit = if unit == "seconds" { unit } else { "count" };
            name.contains('.')
                .then(|| (name.to_owned(), kind.to_owned(), unit.to_owned()))
        })
        .collect();
    listed.sort();
    assert_eq!(listed, described);
}

#[tokio::test]
async fn every_reason_of_a_discard_is_documented_once() {
    let section = super::docs_section("Metrics");
    let (_, table) = section.split_once("| `reason` |").expect("a table");
    let table = table.split("\n\n").next().unwrap_or_default();
    let pool = pool(config(&Server::shared().await.url()));
    for (reason, _) in pool.metrics().discarded {
        let name = format!("`{}`", reason.name());
        assert_eq!(table.matches(&name).count(), 1, "{name}");
    }
}

#[tokio::test]
async fn the_facade_gets_the_same_numbers_as_the_pools_own_metrics() {
    let recorded = Recorded::default();
    let server = Server::shared().await;
    let settings = config(&server.url()).size(2).overflow(0);
    let pool = recorded.pool(settings.validate_after_idle(Duration::from_secs(60)));
    let report = pool.warm_up().await.expect("warm");
    let mut one = pool.get().await.expect("one");
    let two = pool.get().await.expect("two");
    drop(
        pool.get_within(Duration::from_millis(10))
            .await
            .expect_err("exhausted"),
    );
    let (three, ()) = tokio::join!(pool.get(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(two);
    });
    PooledConn::discard(three.expect("three"));
    one.query_drop("SET @name = 1").await.expect("set");
    one.query_drop("START TRANSACTION").await.expect("begun");
    for _ in 0..2 {
        one.exec_drop("SELECT 1", ()).await.expect("executed");
    }
    drop(one);
    eventually("both are idle again", async || pool.status().idle == 2).await;

    let own = pool.metrics();
    assert_eq!((own.gets, own.opened, own.timeouts), (3, 3, 1));
    for (name, number) in [
        ("db.client.connection.timeouts", own.timeouts),
        ("mysql_warm_pool.gets.waited", own.gets_waited),
        (
            "mysql_warm_pool.gets.waited_below_size",
            own.gets_waited_below_size,
        ),
        (
            "mysql_warm_pool.connections.failed_attempts",
            own.failed_attempts,
        ),
        ("mysql_warm_pool.connections.cleaned", own.cleaned),
        ("mysql_warm_pool.validations", own.validations),
        ("mysql_warm_pool.suspects", own.suspects),
    ] {
        assert_eq!(recorded.counter(name), number, "{name}");
    }
    assert_eq!(
        recorded.counter("mysql_warm_pool.connections.discarded{reason=requested}"),
        1
    );
    for (reason, number) in own.discarded {
        let name = format!("mysql_warm_pool.connections.discarded{{reason={reason}}}");
        assert_eq!(recorded.counter(&name), number, "{name}");
    }
    assert_eq!(recorded.counter("mysql_warm_pool.cleanings{kind=undo}"), 1);
    for (kind, number) in own.cleanings {
        let name = format!("mysql_warm_pool.cleanings{{kind={kind}}}");
        assert_eq!(recorded.counter(&name), number, "{name}");
    }
    for (name, own) in [
        ("db.client.connection.create_time", &own.create_time),
        ("db.client.connection.wait_time", &own.wait_time),
        ("db.client.connection.use_time", &own.use_time),
    ] {
        let times = recorded.times(name);
        assert_eq!(times.len() as u64, own.count(), "{name}");
        let sum: f64 = times.iter().sum();
        assert!((sum - own.sum().as_secs_f64()).abs() < 1e-6, "{name}");
        assert_eq!(times.len(), 3, "{name}");
    }
    // Two connections were idle; the third caller waited 20 ms.
    let waits = recorded.times("db.client.connection.wait_time");
    assert_eq!(waits.iter().filter(|wait| **wait == 0.0).count(), 2);
    assert!(waits.iter().any(|wait| *wait >= 0.01), "{waits:?}");

    pool.publish_metrics();
    for (name, number) in [
        ("statement_cache.hits", own.statement_cache_hits),
        ("statement_cache.misses", own.statement_cache_misses),
        ("statement_cache.evictions", own.statement_cache_evictions),
        ("statements.prepared_again", own.statements_prepared_again),
    ] {
        let name = format!("mysql_warm_pool.{name}");
        assert_eq!(recorded.counter(&name), number, "{name}");
    }
    assert_eq!(
        (own.statement_cache_hits, own.statement_cache_misses),
        (1, 1)
    );
    assert_eq!(
        recorded.gauge("mysql_warm_pool.warm_up.time"),
        report.elapsed.as_secs_f64()
    );
    assert_eq!(own.warm_up_time, Some(report.elapsed));
}

#[tokio::test]
async fn gauges_equal_the_status() {
    let recorded = Recorded::default();
    let server = Server::shared().await;
    let pool = recorded.pool(config(&server.url()).size(3).overflow(2));
    pool.publish_metrics();
    assert_eq!(
        recorded.gauge("mysql_warm_pool.readiness"),
        f64::from(Readiness::Cold.number())
    );
    pool.warm_up().await.expect("warm");
    let held = pool.get().await.expect("a connection");
    pool.publish_metrics();
    let gauges = |expected: &[(&str, f64)]| {
        for (name, value) in expected {
            assert_eq!(recorded.gauge(name), *value, "{name}");
        }
    };
    gauges(&[
        (
            "db.client.connection.count{db.client.connection.state=idle}",
            2.0,
        ),
        (
            "db.client.connection.count{db.client.connection.state=used}",
            1.0,
        ),
        ("db.client.connection.idle.max", 5.0),
        ("db.client.connection.idle.min", 3.0),
        ("db.client.connection.max", 5.0),
        ("db.client.connection.pending_requests", 0.0),
        ("mysql_warm_pool.connections.cleaning", 0.0),
        ("mysql_warm_pool.connections.connecting", 0.0),
        (
            "mysql_warm_pool.readiness",
            f64::from(Readiness::Ready.number()),
        ),
    ]);
    drop(held);
    // No caller is active: maintenance updates the gauges.
    eventually("all are recorded as idle", async || {
        recorded.gauge("db.client.connection.count{db.client.connection.state=idle}") == 3.0
    })
    .await;
    let all: Vec<_> = [
        pool.get().await,
        pool.get().await,
        pool.get().await,
        pool.get().await,
        pool.get().await,
    ]
    .into_iter()
    .map(|conn| conn.expect("a connection"))
    .collect();
    let waiting = pool.get_within(PATIENCE);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    pool.publish_metrics();
    gauges(&[
        (
            "db.client.connection.count{db.client.connection.state=used}",
            5.0,
        ),
        ("db.client.connection.pending_requests", 1.0),
    ]);
    drop(all);
    drop(waiting.await.expect("a connection"));
    pool.close().await;
    eventually("its end is recorded", async || {
        recorded.gauge("mysql_warm_pool.readiness") == f64::from(Readiness::Closed.number())
    })
    .await;
    gauges(&[
        (
            "db.client.connection.count{db.client.connection.state=idle}",
            0.0,
        ),
        (
            "db.client.connection.count{db.client.connection.state=used}",
            0.0,
        ),
    ]);
}

#[tokio::test]
async fn without_overflow_linger_the_idle_maximum_is_size() {
    let recorded = Recorded::default();
    let settings = config("mysql://nobody@127.0.0.1/none").size(3).overflow(2);
    let pool = recorded.pool(settings.overflow_linger(Duration::ZERO));
    pool.publish_metrics();
    assert_eq!(recorded.gauge("db.client.connection.idle.max"), 3.0);
}

#[tokio::test]
async fn statements_are_exported_by_verb_and_error() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    for _ in 0..3 {
        let rows: Vec<u8> = conn.query("SELECT 1 UNION SELECT 2").await.expect("rows");
        assert_eq!(rows, [1, 2]);
    }
    conn.exec_drop("DO ?", (1,)).await.expect("an answer");
    for _ in 0..2 {
        drop(conn.query_drop("SELEC 1").await.expect_err("1064"));
        drop(conn.query_drop("SELECT none").await.expect_err("1054"));
    }
    drop(conn);
    pool.begin()
        .await
        .expect("begun")
        .commit()
        .await
        .expect("committed");

    let kind = format!("{:?}", server.flavor()).to_lowercase();
    let place = format!("server.address=127.0.0.1,server.port={}", server.port());
    let database = server
        .opts()
        .db_name()
        .map(str::to_owned)
        .expect("a database");
    let of = |metric: &str, rest: &str| {
        let common = format!("{place},db.namespace={database},db.system.name={kind}");
        format!("db.client.{metric}{{{common},{rest}}}")
    };
    let mut all = 0;
    for (labels, count) in [
        ("db.operation.name=SELECT", 3),
        ("db.operation.name=DO", 1),
        (
            "db.operation.name=OTHER,error.type=1064,db.response.status_code=1064",
            2,
        ),
        (
            "db.operation.name=SELECT,error.type=1054,db.response.status_code=1054",
            2,
        ),
        ("db.operation.name=BEGIN", 1),
        ("db.operation.name=COMMIT", 1),
    ] {
        let times = recorded.times(&of("operation.duration", labels));
        assert_eq!(times.len(), count, "{labels}");
        all += count as u64;
    }
    assert_eq!(pool.metrics().query_time.count(), all);
    let rows = recorded.times(&of("response.returned_rows", "db.operation.name=SELECT"));
    assert_eq!(rows, [2.0; 3]);
}
