//! What the feature `metrics` passes to the facade of a cluster.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};

use mysql_warm_pool::cluster::Role;
use test_support::Server;

use super::clusters::{address, read_only, start, until_roles};

/// Keeps the cluster's own gauges and counters, by name and label.
#[derive(Default)]
struct Recorded(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorded {
    fn entry(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Arc::clone(self.0.lock().expect("no panic").entry(name).or_default())
    }

    fn bits(&self, name: &str) -> Option<u64> {
        let all = self.0.lock().expect("no panic");
        all.get(name).map(|value| value.load(Ordering::Relaxed))
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        self.bits(name).map(f64::from_bits)
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.entry(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.entry(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn roles_lag_and_failovers_are_exported() {
    let recorded = Recorded::default();
    let _guard = set_default_local_recorder(&recorded);
    let (one, two, cluster) = start().await;
    let name = [&one, &two].map(address).join(",");
    let failovers = format!("mysql_warm_pool.cluster.failovers {name}");
    assert_eq!(recorded.bits(&failovers), Some(0));
    cluster.warm_up().await.expect("warm");
    let role = |server: &Server| {
        let name = format!("mysql_warm_pool.cluster.role {}/test", address(server));
        recorded.gauge(&name)
    };
    let lag = |server: &Server| {
        let name = format!("mysql_warm_pool.cluster.lag {}/test", address(server));
        recorded.gauge(&name)
    };
    assert_eq!((role(&one), role(&two)), (Some(4.0), Some(3.0)));
    assert_eq!(lag(&one), Some(0.0));
    assert!(lag(&two).is_some_and(f64::is_nan), "it does not replicate");
    read_only(&one, "ON").await;
    until_roles(&cluster, [Role::Replica, Role::Replica]).await;
    read_only(&two, "OFF").await;
    until_roles(&cluster, [Role::Replica, Role::Writer]).await;
    one.kill().await;
    until_roles(&cluster, [Role::Unreachable, Role::Writer]).await;
    assert_eq!((role(&one), role(&two)), (Some(0.0), Some(4.0)));
    assert_eq!(recorded.bits(&failovers), Some(1));
    assert_eq!(cluster.failovers(), 1);
}
