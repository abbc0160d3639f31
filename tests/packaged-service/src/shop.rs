//! The routes, their SQL, and which status an error becomes.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::get,
};
use mysql_warm_pool::{Error, Pool, TransactionOptions, mysql_async};
use serde::{Deserialize, Serialize};
use tracing::error;

/// Prices are in cents.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS item (
    id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(80) NOT NULL UNIQUE,
    price INT UNSIGNED NOT NULL
)";

/// The statements of most requests.
pub const PREPARED: [&str; 2] = [LIST, FIND];

const LIST: &str = "SELECT id, name, price FROM item ORDER BY id DESC LIMIT 100";
const FIND: &str = "SELECT id, name, price FROM item WHERE id = ?";
const INSERT: &str = "INSERT INTO item (name, price) VALUES (?, ?)";
const DELETE: &str = "DELETE FROM item WHERE id = ?";

pub fn routes(pool: Pool) -> Router {
    Router::new()
        .route("/items", get(list).post(create))
        .route("/items/{id}", get(find))
        .route("/live", get(StatusCode::OK))
        .route("/ready", get(ready))
        .with_state(pool)
}

#[derive(Serialize)]
struct Item {
    id: u64,
    name: String,
    price: u32,
}

#[derive(Deserialize)]
struct NewItem {
    name: String,
    price: u32,
    /// The item that is removed in exchange.
    replaces: Option<u64>,
}

/// Whether to send requests here. Asks the pool, not the database. The details are in the log:
/// they may name hosts and users.
async fn ready(State(pool): State<Pool>) -> (StatusCode, String) {
    let readiness = pool.readiness();
    let status = if readiness.is_serving() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, readiness.to_string())
}

/// The hundred newest items.
async fn list(State(pool): State<Pool>) -> Result<Json<Vec<Item>>, Failure> {
    let items = pool.exec_map(LIST, (), |(id, name, price)| Item { id, name, price });
    Ok(Json(items.await?))
}

async fn find(State(pool): State<Pool>, Path(id): Path<u64>) -> Result<Json<Item>, Failure> {
    let row = pool.exec_first(FIND, (id,)).await?;
    let (id, name, price) = row.ok_or(Failure::NotFound)?;
    Ok(Json(Item { id, name, price }))
}

/// Creates an item and removes the one it replaces, both or neither.
async fn create(
    State(pool): State<Pool>,
    Json(new): Json<NewItem>,
) -> Result<(StatusCode, Json<Item>), Failure> {
    let options = TransactionOptions::new().retries(3);
    let id = pool.transaction_with(options, async |mut transaction| {
        if let Some(old) = new.replaces {
            transaction.exec_drop(DELETE, (old,)).await?;
            if transaction.affected_rows() == 0 {
                return Err(Failure::NotFound); // rolls back
            }
        }
        transaction
            .exec_drop(INSERT, (&new.name, new.price))
            .await?;
        Ok(transaction.last_insert_id().unwrap_or_default())
    });
    let id = id.await?;
    let NewItem { name, price, .. } = new;
    Ok((StatusCode::CREATED, Json(Item { id, name, price })))
}

/// Why a request failed.
enum Failure {
    NotFound,
    Database(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self::Database(error) = self else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let status = status(&error);
        // Not for clients: the text may name hosts, users and values.
        if status.is_server_error() {
            error!("{error}");
        }
        if status == StatusCode::SERVICE_UNAVAILABLE && !matches!(error, Error::Closed) {
            return (status, [(RETRY_AFTER, "1")]).into_response();
        }
        status.into_response()
    }
}

/// The status for each error, after the table in the documentation of [`Error`].
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Driver(mysql_async::Error::Server(refused)) => match refused.code {
            1062 | 1451 | 1452 => StatusCode::CONFLICT,
            1264 | 1366 | 1406 | 3819 | 4025 => StatusCode::UNPROCESSABLE_ENTITY,
            _ if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        Error::StatementTimeout { .. } | Error::RuntimeStopped => StatusCode::GATEWAY_TIMEOUT,
        Error::Connect(_) | Error::WarmUp { .. } | Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
        error if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
