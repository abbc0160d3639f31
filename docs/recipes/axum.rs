//! axum: the pool in the state, a transaction for each request that writes, readiness, and a
//! shutdown that lets requests finish.
//!
//! In a checkout, with the recipe `migrations` first, which creates the tables:
//! `scripts/with-database sh -c 'cd examples/recipes && cargo run --bin migrations && cargo run
//! --bin axum'`

use axum::{Router, extract::*, http::StatusCode, routing::*};
use mysql_warm_pool::{Error, Pool, PoolConfig};
use tokio::signal::unix::{SignalKind, signal};

/// What the handlers share. A clone of the pool is a handle to the same pool.
#[derive(Clone, FromRef)]
struct Shared {
    pool: Pool,
}

/// 503 for what may work when it is tried again, else 500. The docs of `Error` have a finer table.
fn failure(error: Error) -> StatusCode {
    eprintln!("{error}"); // For the log, not for clients.
    let code = if error.is_transient() { 503 } else { 500 };
    StatusCode::from_u16(code).unwrap_or_default()
}

async fn create(State(pool): State<Pool>, name: String) -> Result<String, StatusCode> {
    insert(&pool, &name).await.map_err(failure)
}

/// Begins when the body has been read, so a slow client holds no connection. Rolled back unless it
/// is committed: if a statement fails, or the client goes away.
async fn insert(pool: &Pool, name: &str) -> Result<String, Error> {
    let mut tx = pool.begin().await?;
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
    let mut terminate = signal(SignalKind::terminate())?;
    let pool = Pool::new(PoolConfig::from_env()?)?;
    println!("{}", pool.warm_up().await?);
    let app = Router::new()
        .route("/items", post(create))
        .route("/items/{id}", get(show))
        .route("/ready", get(ready))
        .with_state(Shared { pool: pool.clone() });
    let listen = std::env::var("LISTEN").unwrap_or("127.0.0.1:8080".into());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    println!("{}", pool.close().await);
    Ok(())
}
