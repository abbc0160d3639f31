//! tonic: the gRPC health service (`grpc.health.v1`) follows the pool's readiness.
//!
//! In a checkout, `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml
//! --bin tonic_health`
//!
//! For Kubernetes: `readinessProbe: {grpc: {port: 50051}}`, and `LISTEN=0.0.0.0:50051`, because the
//! kubelet connects to the pod's address. Do not use it as a liveness probe: a restart of the
//! service does not bring the database back.

use std::{env, error::Error};

use mysql_warm_pool::{Pool, PoolConfig, report::Readiness};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let pool = Pool::new(PoolConfig::from_env()?)?;

    let (mut reporter, health) = tonic_health::server::health_reporter();
    // The reporter starts with the whole server, "", as serving.
    report(&reporter, pool.readiness()).await;
    let following = tokio::spawn(follow(pool.clone(), reporter.clone()));

    // The probe answers while the pool warms up, so the server need not wait for that. If the
    // warm-up fails, the pool keeps trying in the background.
    let warming = pool.clone();
    tokio::spawn(async move {
        match warming.warm_up().await {
            Ok(report) => println!("{report}"),
            Err(error) => eprintln!("{error}"),
        }
    });

    let listen = env::var("LISTEN").unwrap_or("127.0.0.1:50051".into());
    let listener = TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    Server::builder()
        .add_service(health) // and your own services
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
            terminate.recv().await;
            following.abort();
            // Clients that watch the health see NOT_SERVING, and their streams end.
            report(&reporter, Readiness::Closed).await;
            reporter.clear_service_status("").await;
        })
        .await?;
    // After the requests under way.
    println!("{}", pool.close().await);
    Ok(())
}

/// Reports each change of the pool's readiness; of several in quick succession, only the last.
async fn follow(pool: Pool, reporter: HealthReporter) {
    let mut watch = pool.watch();
    loop {
        report(&reporter, watch.changed().await).await;
    }
}

async fn report(reporter: &HealthReporter, readiness: Readiness) {
    let status = if readiness.is_serving() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    reporter.set_service_status("", status).await;
}
