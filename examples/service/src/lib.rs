//! A service over a warm pool. It listens at once, warms up in the background, reports readiness
//! from the pool, and shuts down in order.
//!
//! | file | its job |
//! |---|---|
//! | `main` | starts the service and sets the exit status |
//! | `config` | settings from the environment |
//! | `start` | warms up the pool and creates the table, retrying transient errors |
//! | `shutdown` | graceful shutdown |
//! | `health` | probes and metrics |
//! | `page`, `live` | the page that shows the pool, and its samples |
//! | `api` | the accounts over HTTP |
//! | `accounts` | the accounts in the database |
//! | `problem` | errors as HTTP responses |
//! | `app`, `stage` | the state that all requests share; the stage of the service's life |

mod accounts;
mod api;
mod app;
mod config;
mod health;
mod live;
mod page;
mod problem;
mod shutdown;
mod stage;
mod start;

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use mysql_warm_pool::{Pool, mysql_async, report::CloseReport};
use tokio::net::TcpListener;

use crate::{app::App, live::LiveFeed, problem::Problem, stage::Stage};
pub use crate::{
    config::{BadSettings, Config},
    shutdown::asked_to_stop,
};

/// How often the recorder aggregates what was recorded, so that it does not grow if nobody scrapes
/// `/metrics`.
const UPKEEP: Duration = Duration::from_secs(5);

/// The service before it runs.
pub struct Service {
    app: Arc<App>,
    feed: LiveFeed,
}

impl Service {
    /// Creates the service. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`], if the pool's settings are invalid; [`Error::Metrics`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let (app, feed) = App::new(config)?;
        let app = Arc::new(app);
        Ok(Self { app, feed })
    }

    /// The pool that the service uses.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.app.pool
    }

    /// All routes, to be served, or called by tests.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(api::routes(&self.app))
            .merge(health::routes())
            .merge(page::routes())
            .fallback(async || Problem::not_found("there is nothing here"))
            .method_not_allowed_fallback(async || {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                Problem::new(status, "method_not_allowed", "not by this method")
            })
            .layer(from_fn_with_state(Arc::clone(&self.app), let_go))
            .with_state(Arc::clone(&self.app))
    }

    /// Serves at once, warms up in the background, and shuts down in order when `stop` resolves.
    ///
    /// # Errors
    ///
    /// A permanent error that prevents the start. It is returned after the requests that are held
    /// have been answered.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<CloseReport, Error> {
        let router = self.router();
        let Self { app, feed } = self;
        let ending = shutdown::ending(Arc::clone(&app));
        let serve = axum::serve(listener, router).with_graceful_shutdown(ending);
        let server = tokio::spawn(serve.into_future());
        let sampling = tokio::spawn(feed.follow(Arc::clone(&app)));
        let upkeep = tokio::spawn(keep_up(Arc::clone(&app)));
        let outcome = tokio::select! {
            () = stop => Ok(()),
            Err(fault) = start::start(&app) => Err(fault),
        };
        let report = shutdown::in_order(&app, server, app.shutdown_delay).await;
        upkeep.abort();
        // The task ends with the last stage. Only a panic is ignored here, and it has been printed.
        sampling.await.ok();
        outcome.map(|()| report)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("pool", self.pool())
            .finish_non_exhaustive()
    }
}

/// While draining, asks clients to close their connections, so that their next requests go to an
/// instance that is ready. Closing an idle connection here could hit a request that is already on
/// its way.
async fn let_go(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if app.life.stage() >= Stage::Draining {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn keep_up(app: Arc<App>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        app.metrics.run_upkeep();
    }
}

/// Why the service cannot start or go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The pool's settings are invalid, or the server permanently refuses them.
    Pool(mysql_warm_pool::Error),
    /// The table does not exist and cannot be created.
    Table(mysql_async::Error),
    /// The metrics recorder could not be created.
    Metrics(String),
    /// The address cannot be listened on, or signals cannot be received.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(f),
            Self::Table(error) => write!(f, "no table for the accounts: {error}"),
            Self::Metrics(error) => write!(f, "no metrics: {error}"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<mysql_warm_pool::Error> for Error {
    fn from(error: mysql_warm_pool::Error) -> Self {
        Self::Pool(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
