//! How soon a cancelled caller's statement is gone from the server.

use std::time::{Duration, Instant};

use mysql_warm_pool::{OnCancel, mysql_async::prelude::Queryable};

use crate::{
    alone,
    support::{Server, config, eventually, warm},
};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_abandoned_statement_is_gone_from_the_server_within_200_ms() {
    let _turn = alone().await;
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let list =
        "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE '%SLEEP%'";
    for size in [5, 1] {
        let settings = config(&server.url())
            .size(size)
            .overflow(0)
            .on_cancel(OnCancel::Kill);
        let pool = warm(settings).await;
        let mut conn = pool.get().await.expect("a connection");
        let sleeping = conn.query_drop("SELECT SLEEP(60)");
        let cancelled = tokio::time::timeout(Duration::from_millis(100), sleeping).await;
        assert!(cancelled.is_err(), "it ended by itself");
        drop(conn);
        let start = Instant::now();
        eventually(SOON, "it is gone", async || {
            let running: Vec<u64> = admin.query(list).await.expect("the list");
            running.is_empty()
        })
        .await;
        let took = start.elapsed();
        println!("of {size}: gone after {took:?}");
        assert!(took < Duration::from_millis(200), "of {size}: {took:?}");
        eventually(SOON, "it is replaced", async || pool.status().idle == size).await;
        pool.close().await;
    }
}
