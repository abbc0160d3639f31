use test_support::{Server, eventually};

use crate::{
    http::{Client, get},
    program::Program,
};

const RECIPE: &str = env!("CARGO_BIN_EXE_axum");

#[tokio::test]
async fn a_request_is_a_transaction() {
    let server = Server::start().await;
    Program::start(env!("CARGO_BIN_EXE_migrations"), &server.url())
        .ends_well()
        .await;
    let mut recipe = Program::start(RECIPE, &server.url());
    let address = recipe.address().await;
    eventually("ready", async || {
        get(address, "/ready").await.unwrap().code == 200
    })
    .await;

    let mut client = Client::connect(address).await.unwrap();
    let created = client.request("POST", "/items", "pear").await.unwrap();
    assert_eq!(created.code, 200, "{created:?}");
    let item = client
        .get(&format!("/items/{}", created.body))
        .await
        .unwrap();
    assert_eq!((item.code, item.body.as_str()), (200, "pear"));
    assert_eq!(client.get("/items/999").await.unwrap().code, 404);

    // Its second statement fails, so its first one leaves nothing behind.
    server
        .execute("RENAME TABLE test.audit TO test.elsewhere")
        .await;
    let failed = client.request("POST", "/items", "plum").await.unwrap();
    assert_eq!(failed.code, 500, "{failed:?}");
    server
        .execute("RENAME TABLE test.elsewhere TO test.audit")
        .await;
    let after = client.request("POST", "/items", "fig").await.unwrap();
    let id: u64 = after.body.parse().unwrap();
    assert_eq!(
        client
            .get(&format!("/items/{}", id - 1))
            .await
            .unwrap()
            .code,
        404
    );
    assert_eq!(
        client.get(&format!("/items/{id}")).await.unwrap().body,
        "fig"
    );
}

#[tokio::test]
async fn the_readiness_route_follows_the_database() {
    let server = Server::start().await;
    server.shutdown().await;
    let mut recipe = Program::start(RECIPE, &server.url());
    server.start_again().await;
    let address = recipe.address().await;
    let readiness = async || get(address, "/ready").await.unwrap().code;
    assert_eq!(readiness().await, 200);
    server.shutdown().await;
    eventually("not ready", async || readiness().await == 503).await;
    server.start_again().await;
    eventually("ready again", async || readiness().await == 200).await;
    recipe.terminate().await;
    recipe.ends_well().await;
}
