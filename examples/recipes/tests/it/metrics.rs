use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use test_support::Server;
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use crate::{http::get, program::Program};

#[tokio::test]
async fn prometheus_scrapes_the_pools_metrics() {
    let server = Server::start().await;
    let mut recipe = Program::start(env!("CARGO_BIN_EXE_prometheus"), &server.url());
    let address = recipe.address().await;
    let scraped = get(address, "/metrics").await.unwrap().body;
    for expected in [
        r#"db_client_connection_max{db_client_connection_pool_name="orders"} 50"#,
        r#"db_client_connection_create_time_bucket{db_client_connection_pool_name="orders",le="+Inf"} 20"#,
        r#"mysql_warm_pool_readiness{db_client_connection_pool_name="orders"} 5"#,
    ] {
        assert!(scraped.contains(expected), "no {expected} in\n{scraped}");
    }
    recipe.terminate().await;
    recipe.ends_well().await;
}

#[tokio::test]
async fn opentelemetry_gets_metrics_and_spans() {
    let server = Server::start().await;
    let (sender, mut received) = mpsc::unbounded_channel();
    let collector = Collector(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(TraceServiceServer::new(collector))
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    let url = server.url();
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
    ];
    let recipe = Program::start_with(env!("CARGO_BIN_EXE_otlp"), environment);
    let output = recipe.ends_well().await;
    assert!(
        output.contains(&"the answer is 42".to_owned()),
        "{output:#?}"
    );
    serving.abort();

    let mut names = BTreeSet::new();
    while let Ok(name) = received.try_recv() {
        names.insert(name);
    }
    for expected in [
        "metric db.client.connection.count",
        "metric db.client.connection.create_time from 0.0001",
        "metric db.client.operation.duration from 0.001",
        "metric db.client.response.returned_rows from 1",
        "metric mysql_warm_pool.readiness",
        "span checkout",
        "span warm_up",
    ] {
        assert!(names.contains(expected), "no {expected} in {names:#?}");
    }
}

/// Keeps the names of what it receives, of histograms with their first bound.
#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<String>);

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics;
        let scopes = resources
            .into_iter()
            .flat_map(|resource| resource.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let mut text = format!("metric {}", metric.name);
            if let Some(Data::Histogram(histogram)) = &metric.data {
                let first = histogram.data_points[0].explicit_bounds[0];
                text += &format!(" from {first}");
            }
            self.0.send(text).unwrap();
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.0.send(format!("span {}", span.name)).unwrap();
        }
        Ok(Response::new(Default::default()))
    }
}
