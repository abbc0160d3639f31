use test_support::Server;

use crate::program::Program;

const RECIPE: &str = env!("CARGO_BIN_EXE_writer_and_reader");

fn start(writer: &Server, reader: &Server) -> Program {
    let (writer, reader) = (writer.url(), reader.url());
    Program::start_with(
        RECIPE,
        [
            ("WRITER_URL", writer.as_str()),
            ("READER_URL", reader.as_str()),
            ("READER_POOL_WARM_UP_TIMEOUT", "1"),
        ],
    )
}

#[tokio::test]
async fn reads_go_to_the_replica_and_no_write_does() {
    let (writer, reader) = tokio::join!(Server::start(), Server::start());
    let output = start(&writer, &reader).ends_well().await;
    let has = |text: &str| output.iter().any(|line| line.contains(text));
    assert!(
        has(&format!("writes go to port {}", writer.port())),
        "{output:#?}"
    );
    assert!(
        has(&format!("reads go to port {}", reader.port())),
        "{output:#?}"
    );
    assert!(has("READ ONLY transaction"), "{output:#?}");
}

#[tokio::test]
async fn reads_go_to_the_writer_while_the_replica_is_down() {
    let (writer, reader) = tokio::join!(Server::start(), Server::start());
    reader.shutdown().await;
    let output = start(&writer, &reader).ends_well().await;
    let reads = format!("reads go to port {}", writer.port());
    assert!(output.contains(&reads), "{output:#?}");
}
