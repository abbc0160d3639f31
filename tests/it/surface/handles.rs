//! The public handles: names, `Send` and `Sync`, and no password in any text.

use std::time::Duration;

use mysql_warm_pool::{Pool, PooledConn, mysql_async::TxOpts};
use test_support::{Server, config, pool, warm};

#[tokio::test]
async fn no_debug_text_and_no_error_holds_the_password() {
    let server = Server::shared().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let pool = warm(config(&server.url()).size(2)).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut texts = vec![
        format!("{pool:?}"),
        format!("{conn:?}"),
        format!("{:?}", pool.config()),
        format!("{:?}", pool.health()),
        format!("{:?}", pool.metrics()),
        format!("{:?}", pool.watch()),
    ];
    let transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    texts.push(format!("{transaction:?}"));
    drop(transaction);
    let refused = self::pool(config(&format!("mysql://app:{password}@127.0.0.1:1/test")));
    let error = refused
        .get_within(Duration::from_millis(20))
        .await
        .expect_err("refused");
    texts.extend([
        format!("{error:?}"),
        error.to_string(),
        format!("{:?}", refused.health()),
    ]);
    for text in texts {
        assert!(!text.contains(&password), "{text}");
    }
}

#[test]
fn a_pool_has_the_name_it_was_given_or_that_of_its_database() {
    let unnamed = config("mysql://app:secret@db/shop");
    assert_eq!(pool(unnamed.clone()).name(), "db:3306/shop");
    assert_eq!(pool(unnamed.name("orders".to_owned())).name(), "orders");
}

#[test]
fn the_handles_can_be_shared_and_sent() {
    fn is_shared<T: Clone + Send + Sync + Unpin + 'static>() {}
    fn is_sent<T: Send + Unpin>() {}
    is_shared::<Pool>();
    is_shared::<mysql_warm_pool::cluster::Cluster>();
    is_shared::<mysql_warm_pool::cluster::ClusterConfig>();
    is_shared::<mysql_warm_pool::Error>();
    is_sent::<PooledConn>();
    is_sent::<mysql_warm_pool::Transaction<'_>>();
    is_sent::<mysql_warm_pool::OwnedTransaction>();
    is_sent::<mysql_warm_pool::report::ReadinessWatch>();
}
