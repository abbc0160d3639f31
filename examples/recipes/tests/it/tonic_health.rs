use test_support::Server;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::program::Program;

#[tokio::test]
async fn grpc_health_follows_the_database() {
    let server = Server::start().await;
    server.shutdown().await;
    let mut recipe = Program::start(env!("CARGO_BIN_EXE_tonic_health"), &server.url());
    let address = recipe.address().await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut watching = HealthClient::new(channel)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();

    let mut next = async || watching.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::NotServing);
    server.start_again().await;
    while next().await != ServingStatus::Serving {}
    server.shutdown().await;
    while next().await != ServingStatus::NotServing {}
    server.start_again().await;
    while next().await != ServingStatus::Serving {}

    recipe.terminate().await;
    while next().await != ServingStatus::NotServing {}
    assert!(watching.message().await.unwrap().is_none(), "it has ended");
    recipe.ends_well().await;
}
