//! Times callers' statements: their histogram, their spans, and the log of slow ones.

use std::{
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tracing::{
    Span, debug, debug_span,
    field::{Empty, display},
    level_filters::LevelFilter,
    warn,
};

#[cfg(feature = "metrics")]
use super::operations::{Operation, Operations};
use super::{Histogram, export::Exporter, histogram::Recording, slow_queries::SlowQueries};
use crate::{
    config::PoolConfig,
    error::ErrorType,
    report::Flavor,
    session::{
        effect::sanitize::{MAX_READ, Verb, sanitized, table_of, verb_of},
        follow::Answer,
    },
    time::Timestamp,
};

/// Measures and logs the statements of a pool's callers.
#[derive(Debug)]
pub(crate) struct Queries {
    pool: String,
    server: Server,
    /// Used only if a statement is exported or shown in a span.
    is_mariadb: AtomicBool,
    /// `slow_query`
    slow_after: Option<Duration>,
    time: Recording,
    slow: SlowQueries,
    #[cfg(feature = "metrics")]
    exported: Operations,
}

/// The server and the database, as named in the settings.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The host, or the path of a socket.
    pub(super) address: String,
    pub(super) port: Option<u16>,
    pub(super) database: Option<String>,
}

impl Queries {
    #[cfg_attr(
        not(feature = "metrics"),
        expect(unused_variables, reason = "only an exporter needs it")
    )]
    pub(crate) fn new(config: &PoolConfig, pool: &str, exporter: Exporter) -> Self {
        let opts = config.opts();
        let socket = opts.socket();
        let server = Server {
            address: socket.unwrap_or_else(|| opts.ip_or_hostname()).to_owned(),
            port: socket.is_none().then(|| opts.tcp_port()),
            database: opts.db_name().map(str::to_owned),
        };
        Self {
            pool: pool.to_owned(),
            #[cfg(feature = "metrics")]
            exported: Operations::new(pool, &server, exporter),
            server,
            is_mariadb: AtomicBool::new(false),
            slow_after: config.slow_query,
            time: Recording::new(),
            slow: SlowQueries::default(),
        }
    }

    /// Records the kind of the server, once a connection is open.
    pub(crate) fn record_flavor(&self, flavor: Flavor) {
        let is_mariadb = flavor == Flavor::MariaDb;
        self.is_mariadb.store(is_mariadb, Ordering::Relaxed);
    }

    /// `query_time`
    pub(crate) fn time(&self) -> Histogram {
        self.time.read()
    }

    /// OpenTelemetry's name for the kind of the server.
    fn system(&self) -> &'static str {
        if self.is_mariadb.load(Ordering::Relaxed) {
            "mariadb"
        } else {
            "mysql"
        }
    }
}

/// A caller that runs statements on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) queries: &'a Queries,
    /// Where the connection was obtained.
    pub(crate) got_at: &'static Location<'static>,
    /// The server's connection id.
    pub(crate) connection: u32,
}

impl<'a> Caller<'a> {
    /// Times a statement with this text, which has not been sent yet.
    pub(crate) fn timing(self, text: &'a [u8]) -> Timing<'a> {
        self.timing_of(Text::Seen(text))
    }

    /// Times a statement whose text does not live as long as its result.
    pub(crate) fn timing_of_copy(self, text: &[u8]) -> Timing<'a> {
        let is_shown = cfg!(feature = "metrics")
            || self.queries.slow_after.is_some()
            || LevelFilter::current() >= LevelFilter::DEBUG;
        self.timing_of(if is_shown {
            // One byte more than is read shows that the text goes on.
            let most = MAX_READ.saturating_add(1);
            Text::Copied(text.get(..most).unwrap_or(text).into())
        } else {
            Text::Unseen
        })
    }

    /// Times a statement whose text is not seen, or set later.
    pub(crate) fn timing_of_unseen(self) -> Timing<'a> {
        self.timing_of(Text::Unseen)
    }

    const fn timing_of(self, text: Text<'a>) -> Timing<'a> {
        Timing {
            caller: self,
            text,
            started: None,
            span: Span::none(),
        }
    }
}

/// Times one statement. If this is dropped while the statement is under way, the statement does not
/// count, and is logged as cancelled if it was slow.
#[derive(Debug)]
pub(crate) struct Timing<'a> {
    caller: Caller<'a>,
    text: Text<'a>,
    /// `None` before the statement is sent and after it has ended.
    started: Option<Timestamp>,
    span: Span,
}

#[derive(Debug)]
enum Text<'a> {
    Unseen,
    Seen(&'a [u8]),
    Copied(Arc<[u8]>),
}

impl Text<'_> {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Unseen => None,
            Self::Seen(text) => Some(text),
            Self::Copied(text) => Some(text),
        }
    }

    fn verb(&self) -> Verb {
        self.bytes().map_or(Verb::OTHER, verb_of)
    }

    fn sanitized(&self) -> Option<String> {
        self.bytes().map(sanitized)
    }
}

/// How a statement has ended.
struct Ended {
    took: Duration,
    /// Until the beginning of the answer.
    server: Duration,
    /// The rows that the caller got, if they were counted.
    rows: Option<u64>,
    error: Option<ErrorType>,
}

impl<'a> Timing<'a> {
    #[inline]
    pub(crate) fn set_text(&mut self, text: &'a [u8]) {
        self.text = Text::Seen(text);
    }

    /// Sets the text of a statement that was prepared before.
    pub(crate) fn set_shared_text(&mut self, text: &Arc<[u8]>) {
        self.text = Text::Copied(Arc::clone(text));
    }

    /// Starts the clock: the statement is about to be sent, or to be prepared.
    #[inline]
    pub(crate) fn start(&mut self) {
        if LevelFilter::current() >= LevelFilter::DEBUG {
            self.open_span();
        }
        self.started = Some(Timestamp::now());
    }

    /// Stops the clock without counting: the statement is not sent.
    pub(crate) fn withdraw(&mut self) {
        self.started = None;
        self.span = Span::none();
    }

    /// Ends with the statement's outcome and the number of rows that the caller gets. `answer` is the
    /// last one on the connection, which is this statement's if it succeeded.
    #[inline]
    pub(crate) fn end<T>(
        mut self,
        answer: Answer,
        outcome: mysql_async::Result<(T, Option<u64>)>,
    ) -> mysql_async::Result<T> {
        match outcome {
            Ok((output, rows)) => {
                if let Some(started) = self.started.take() {
                    self.record(&Ended {
                        took: answer.ended_at.since(started),
                        server: answer.began_at.since(started),
                        rows,
                        error: None,
                    });
                }
                Ok(output)
            }
            Err(error) => Err(self.fail(answer, error)),
        }
    }

    /// Ends with an error.
    #[cold]
    pub(crate) fn fail(&mut self, answer: Answer, error: mysql_async::Error) -> mysql_async::Error {
        if let Some(ended) = self.stop(Some(answer), ErrorType::of(&error)) {
            self.record(&ended);
        }
        error
    }

    /// Stops the clock; `None` if it does not run.
    fn stop(&mut self, answer: Option<Answer>, error: ErrorType) -> Option<Ended> {
        let started = self.started.take()?;
        let took = Timestamp::now().since(started);
        let answer = answer.filter(|answer| answer.began_at >= started);
        Some(Ended {
            took,
            server: answer.map_or(took, |answer| answer.began_at.since(started)),
            rows: None,
            error: Some(error),
        })
    }

    /// Counts and shows the statement.
    #[inline]
    fn record(&self, ended: &Ended) {
        let queries = self.caller.queries;
        queries.time.record(ended.took);
        #[cfg(feature = "metrics")]
        queries.exported.record(
            Operation {
                is_mariadb: queries.is_mariadb.load(Ordering::Relaxed),
                verb: self.text.verb(),
                error: ended.error,
            },
            ended.took,
            ended.rows,
        );
        self.show(ended);
    }

    /// Shows the statement in its span, and in the log if it was slow.
    #[inline]
    fn show(&self, ended: &Ended) {
        if !self.span.is_none() {
            self.close_span(ended);
        }
        let slow_after = self.caller.queries.slow_after;
        if slow_after.is_some_and(|slow_after| ended.took > slow_after) {
            self.log_slow(ended);
        }
    }

    #[cold]
    fn open_span(&mut self) {
        let queries = self.caller.queries;
        let server = &queries.server;
        // The values are computed only if it is enabled.
        self.span = debug_span!(
            "query",
            pool = queries.pool,
            connection = self.caller.connection,
            otel.kind = "client",
            db.system.name = queries.system(),
            db.namespace = server.database,
            server.address = server.address,
            server.port = server.port,
            db.operation.name = self.text.verb().name(),
            db.collection.name = self.text.bytes().and_then(table_of),
            db.query.text = self.text.sanitized(),
            db.response.returned_rows = Empty,
            db.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        );
    }

    #[cold]
    fn close_span(&self, ended: &Ended) {
        if let Some(rows) = ended.rows {
            self.span.record("db.response.returned_rows", rows);
        }
        if let Some(error) = ended.error {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", display(error));
            if let Some(code) = error.code() {
                self.span.record("db.response.status_code", display(code));
            }
        }
    }

    #[cold]
    fn log_slow(&self, ended: &Ended) {
        let Caller {
            queries,
            got_at,
            connection,
        } = self.caller;
        let text = self.text.sanitized();
        /// An event's level is a constant, so each level needs its own call.
        macro_rules! log {
            ($level:ident, $($more:tt)*) => {
                $level!(
                    pool = queries.pool,
                    connection,
                    db.query.text = text.as_deref(),
                    took = ended.took.as_secs_f64(),
                    server = ended.server.as_secs_f64(),
                    reading = ended.took.saturating_sub(ended.server).as_secs_f64(),
                    rows = ended.rows,
                    error = ended.error.map(display),
                    %got_at,
                    $($more)*
                    "slow query"
                )
            };
        }
        match queries
            .slow
            .allows(text.as_deref().unwrap_or_default(), Timestamp::now())
        {
            Some(quiet) => log!(warn, quiet,),
            None => log!(debug,),
        }
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if self.started.is_some()
            && let Some(ended) = self.stop(None, ErrorType::CANCELLED)
        {
            self.show(&ended);
        }
    }
}
