//! Exports callers' statements as OpenTelemetry's `db.client.operation.duration` and
//! `db.client.response.returned_rows`.
//!
//! Both are registered with the recorder at the first statement with the same labels, because only
//! then are the server's kind and the error known. After that, a statement that succeeds costs no
//! look-up.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use ::metrics::{Histogram, Label};

use super::{
    export::{self, Exporter, Metric, describe_histogram},
    queries::Server,
};
use crate::{error::ErrorType, session::effect::sanitize::Verb};

/// The most failed operations to keep apart. Beyond that, a new one has the error `_OTHER`.
const FAILURES: usize = 256;

/// What the labels of a statement depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operation {
    pub(super) is_mariadb: bool,
    pub(super) verb: Verb,
    pub(super) error: Option<ErrorType>,
}

/// The exported histograms of one pool.
#[derive(Debug)]
pub(super) struct Operations {
    exporter: Exporter,
    /// The labels that all statements have.
    labels: Vec<Label>,
    /// By [`Operation::is_mariadb`].
    succeeded: [Verbs; 2],
    /// While this lock is held, only the recorder's own are taken.
    failed: Mutex<HashMap<Operation, Histogram>>,
}

/// The histograms of statements without error, by verb.
#[derive(Debug)]
struct Verbs {
    durations: [OnceLock<Histogram>; Verb::COUNT],
    rows: [OnceLock<Histogram>; Verb::COUNT],
}

impl Verbs {
    const fn new() -> Self {
        Self {
            durations: [const { OnceLock::new() }; Verb::COUNT],
            rows: [const { OnceLock::new() }; Verb::COUNT],
        }
    }
}

impl Operations {
    /// Describes the metrics to the recorder that is installed now.
    pub(super) fn new(pool: &str, server: &Server, exporter: Exporter) -> Self {
        describe_histogram(export::OPERATION_DURATION);
        describe_histogram(export::RETURNED_ROWS);
        let mut labels = vec![
            Label::new("db.client.connection.pool.name", pool.to_owned()),
            Label::new("server.address", server.address.clone()),
        ];
        let port = server
            .port
            .map(|port| Label::new("server.port", port.to_string()));
        let database = server.database.clone();
        let database = database.map(|database| Label::new("db.namespace", database));
        labels.extend(port.into_iter().chain(database));
        Self {
            exporter,
            labels,
            succeeded: [Verbs::new(), Verbs::new()],
            failed: Mutex::default(),
        }
    }

    pub(super) fn record(&self, operation: Operation, took: Duration, rows: Option<u64>) {
        if operation.error.is_some() {
            return self.record_failure(operation, took);
        }
        let [mysql, mariadb] = &self.succeeded;
        let verbs = if operation.is_mariadb { mariadb } else { mysql };
        let index = operation.verb.index();
        if let Some(duration) = verbs.durations.get(index) {
            duration
                .get_or_init(|| self.register(export::OPERATION_DURATION, operation))
                .record(took);
        }
        if let (Some(rows), Some(exported)) = (rows, verbs.rows.get(index)) {
            // The facade takes an `f64`, which holds every `u32` exactly.
            exported
                .get_or_init(|| self.register(export::RETURNED_ROWS, operation))
                .record(u32::try_from(rows).unwrap_or(u32::MAX));
        }
    }

    fn record_failure(&self, mut operation: Operation, took: Duration) {
        let mut failed = self.failed();
        if failed.len() >= FAILURES && !failed.contains_key(&operation) {
            operation.error = Some(ErrorType::OTHER);
        }
        failed
            .entry(operation)
            .or_insert_with(|| self.register(export::OPERATION_DURATION, operation))
            .record(took);
    }

    #[cold]
    fn register(&self, metric: Metric, operation: Operation) -> Histogram {
        let system = if operation.is_mariadb {
            "mariadb"
        } else {
            "mysql"
        };
        let mut labels = self.labels.clone();
        labels.extend([
            Label::from_static_parts("db.system.name", system),
            Label::from_static_parts("db.operation.name", operation.verb.name()),
        ]);
        if let Some(error) = operation.error {
            labels.push(Label::new("error.type", error.to_string()));
            let code = error.code().map(|code| code.to_string());
            labels.extend(code.map(|code| Label::new("db.response.status_code", code)));
        }
        self.exporter.register_histogram(metric, labels)
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<Operation, Histogram>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
