use test_support::Server;

use crate::program::Program;

const RECIPE: &str = env!("CARGO_BIN_EXE_migrations");

#[tokio::test]
async fn replicas_that_start_at_once_migrate_once() {
    let server = Server::start().await;
    let replicas = [(); 3].map(|()| Program::start(RECIPE, &server.url()));
    let mut applied = Vec::new();
    for replica in replicas {
        let output = replica.ends_well().await;
        assert!(
            output.iter().any(|line| line == "there are 0 items"),
            "{output:#?}"
        );
        applied.extend(
            output
                .into_iter()
                .filter(|line| line.starts_with("applied")),
        );
    }
    assert_eq!(
        applied,
        ["applied V1__create_item", "applied V2__create_audit"]
    );
}
