//! actix-web: one pool for all workers, and a readiness route.
//!
//! In a checkout, `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml
//! --bin actix`
//!
//! Each worker of actix-web is a thread with a single-threaded tokio runtime of its own. The pool
//! belongs to none of them: its connections live on the runtime of `main`, which warmed it up, and
//! all workers share them.

use std::{env, error::Error, net::TcpListener, thread};

use actix_web::error::{ErrorInternalServerError, ErrorServiceUnavailable};
use actix_web::{App, HttpResponse, HttpServer, get, middleware, web};
use mysql_warm_pool::{Pool, PoolConfig};

#[get("/echo/{number}")]
async fn echo(pool: web::Data<Pool>, number: web::Path<u64>) -> actix_web::Result<String> {
    let answer: Option<u64> = pool
        .exec_first("SELECT ?", (*number,))
        .await
        .map_err(failure)?;
    Ok(answer.unwrap_or_default().to_string())
}

/// 503 for what may work when it is tried again, else 500. The docs of `Error` have a finer table.
fn failure(error: mysql_warm_pool::Error) -> actix_web::Error {
    eprintln!("{error}"); // For the log, not for clients.
    if error.is_transient() {
        ErrorServiceUnavailable("try again")
    } else {
        ErrorInternalServerError("failed")
    }
}

/// For load balancers and Kubernetes. It costs no I/O, and answers even while the database is down.
#[get("/ready")]
async fn ready(pool: web::Data<Pool>) -> HttpResponse {
    let readiness = pool.readiness();
    let mut answer = if readiness.is_serving() {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    answer.body(readiness.to_string())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new(PoolConfig::from_env()?)?;
    println!("{}", pool.warm_up().await?);

    let listener = TcpListener::bind(env::var("LISTEN").unwrap_or("127.0.0.1:8080".into()))?;
    println!("listening on {}", listener.local_addr()?);
    // Created outside of the closure, which runs once in each worker.
    let shared = web::Data::new(pool.clone());
    let server = HttpServer::new(move || {
        let worker = format!("{:?}", thread::current().id());
        App::new()
            .app_data(shared.clone())
            // Shows which worker answered.
            .wrap(middleware::DefaultHeaders::new().add(("worker", worker)))
            .service(echo)
            .service(ready)
    });
    // Ends at SIGTERM or Ctrl-C, after the requests under way.
    server.workers(4).listen(listener)?.run().await?;
    println!("{}", pool.close().await);
    Ok(())
}
