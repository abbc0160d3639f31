use test_support::{Server, eventually};

use crate::program::Program;

#[tokio::test]
async fn each_worker_finishes_its_job_before_the_pool_is_closed() {
    let server = Server::start().await;
    let own = u64::from(server.own_connections());
    let mut recipe = Program::start(env!("CARGO_BIN_EXE_graceful_shutdown"), &server.url());
    recipe.line_with("working").await;
    eventually("a job is under way", async || {
        server.status_value("Threads_running").await > own + 1
    })
    .await;
    let aborted = server.status_value("Aborted_clients").await;
    recipe.terminate().await;
    let output = recipe.ends_well().await;
    assert_eq!(output.len(), 5, "{output:#?}");
    assert!(
        output[..4]
            .iter()
            .all(|line| line.contains("stopped after")),
        "{output:#?}"
    );
    assert!(
        output[4].ends_with("connections drained, 0 cut"),
        "{output:#?}"
    );
    eventually("no connection is left", async || {
        server.threads_connected().await == 0
    })
    .await;
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
}
