//! axum: the pool in the state, an extractor, a transaction for each request, and readiness.
//!
//! `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml --bin axum`
//! after the recipe `migrations`, which creates the tables.

use axum::{Router, extract::*, http::StatusCode, http::request::Parts, routing::*};
use mysql_warm_pool::{Error, OwnedTransaction, Pool, PoolConfig};

/// What the handlers share. A clone of the pool is a handle to the same pool.
#[derive(Clone, FromRef)]
struct Shared {
    pool: Pool,
}

/// A transaction for the request. It is rolled back unless it is committed: if a statement fails,
/// or the client goes away.
struct Tx(OwnedTransaction);

impl<S: Sync> FromRequestParts<S> for Tx
where
    Pool: FromRef<S>,
{
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        let transaction = Pool::from_ref(state).begin().await;
        transaction.map(Self).map_err(failure)
    }
}

/// 503 for what may work when it is tried again, else 500. The docs of `Error` have a finer table.
fn failure(error: Error) -> StatusCode {
    eprintln!("{error}"); // For the log, not for clients.
    let code = if error.is_transient() { 503 } else { 500 };
    StatusCode::from_u16(code).unwrap_or_default()
}

async fn create(Tx(tx): Tx, name: String) -> Result<String, StatusCode> {
    insert(tx, &name).await.map_err(failure)
}

async fn insert(mut tx: OwnedTransaction, name: &str) -> Result<String, Error> {
    tx.exec_drop("INSERT INTO item SET name=?", (name,)).await?;
    let id = tx.last_insert_id();
    tx.exec_drop("INSERT INTO audit SET item=?", (id,)).await?;
    tx.commit().await?;
    Ok(id.unwrap_or_default().to_string())
}

async fn show(State(pool): State<Pool>, id: Path<u64>) -> Result<String, StatusCode> {
    let select = "SELECT name FROM item WHERE id = ?";
    let name = pool.exec_first(select, (*id,)).await.map_err(failure)?;
    name.ok_or(StatusCode::NOT_FOUND)
}

async fn ready(State(pool): State<Pool>) -> (StatusCode, String) {
    let readiness = pool.readiness(); // Costs no I/O.
    let code = if readiness.is_serving() { 200 } else { 503 };
    let code = StatusCode::from_u16(code);
    (code.unwrap_or_default(), readiness.to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::new(PoolConfig::from_env()?)?;
    println!("{}", pool.warm_up().await?);
    let app = Router::new()
        .route("/items", post(create))
        .route("/items/{id}", get(show))
        .route("/ready", get(ready))
        .with_state(Shared { pool });
    let listen = std::env::var("LISTEN").unwrap_or("127.0.0.1:8080".into());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
