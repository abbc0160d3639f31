//! Pools as the tests make them.

use mysql_warm_pool::{Pool, PoolConfig};

/// Settings for the server behind this URL.
pub(crate) fn config(url: &str) -> PoolConfig {
    PoolConfig::from_url(url).expect("a good URL")
}

pub(crate) fn pool(config: PoolConfig) -> Pool {
    Pool::new(config).expect("good settings")
}

/// A pool that is warm.
pub(crate) async fn warm(config: PoolConfig) -> Pool {
    let pool = pool(config);
    pool.warm_up().await.expect("a warm pool");
    pool
}
