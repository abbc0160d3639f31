//! Errors as HTTP responses: a status, a code for programs, a sentence for people.
//!
//! No response holds an error's own text, which may reveal statements, hosts and users. That goes
//! to the log.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use mysql_warm_pool::{Error as PoolError, error::is_transient, mysql_async};
use serde::Serialize;
use tracing::{debug, error};

use crate::{accounts::TransferError, stage::Refused};

/// Seconds after which a client may try again.
const RETRY_SECONDS: u16 = 2;

#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// Nothing was done, and a retry may succeed soon.
    fn later(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// The request is understood, but not allowed.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// The request's time was up while it was being processed, most likely in the database.
    pub(crate) fn out_of_time() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "out_of_time",
            "this took too long; a change may have been made or not",
        )
    }

    /// For a change outside a transaction, or a `COMMIT`. If the connection was lost, nobody knows
    /// whether the change was made. It must not be retried blindly, so there is no `Retry-After`.
    pub(crate) fn perhaps_done(error: mysql_async::Error) -> Self {
        let lost = matches!(
            error,
            mysql_async::Error::Io(_)
                | mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed)
        );
        if !lost {
            return error.into();
        }
        error!(%error, "connection lost while a change was made");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "outcome_unknown",
            "the connection to the database was lost; the change may have been made or not",
        )
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "this is a fault of the service; its log says more",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(serde_json::json!({ "error": self }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotReady => Self::later("not_ready", "the service is still starting"),
            Refused::Ending => Self::later("ending", "the service is about to end"),
        }
    }
}

/// No connection was obtained, so nothing was done.
impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        // The pool itself logs each outage once.
        debug!(%error, "no connection");
        match error {
            PoolError::Timeout { .. } | PoolError::Connect(_) => Self::later(
                "no_connection",
                "no connection to the database was free in time",
            ),
            PoolError::Closed => Refused::Ending.into(),
            error => {
                error!(%error, "the pool is used wrongly");
                Self::internal()
            }
        }
    }
}

/// For reads, and for changes in a transaction before its `COMMIT`: nothing was done.
impl From<mysql_async::Error> for Problem {
    fn from(error: mysql_async::Error) -> Self {
        /// The server has become read-only, and the pool is replacing its connections.
        const READ_ONLY: [u16; 3] = [1290, 1836, 1874];
        let read_only =
            matches!(&error, mysql_async::Error::Server(e) if READ_ONLY.contains(&e.code));
        if is_transient(&error) || read_only {
            debug!(%error, "the database failed for now");
            return Self::later("database_failed", "the database could not do it just now");
        }
        error!(%error, "the database refused");
        Self::internal()
    }
}

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotDone(error) => error.into(),
            TransferError::Unknown(error) => Self::perhaps_done(error),
        }
    }
}

/// The body is not JSON, or does not have the expected form. axum chooses the status.
impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "bad_body", rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::not_found("accounts have numbers")
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "bad_query", rejection.body_text())
    }
}
