//! Pools as the tests make them.

use std::time::Duration;

use mysql_warm_pool::{Pool, PoolConfig, mysql_async::OptsBuilder};

use crate::tls;

/// An opening that takes so long is taken for hanging: another is begun beside it, and readiness learns of it.
pub const HANGING: Duration = Duration::from_millis(300);

/// Settings for the server behind this URL. Where it asks for TLS, they check the server's certificate.
pub fn config(url: &str) -> PoolConfig {
    let config = PoolConfig::from_url(url).expect("a good URL");
    if config.opts().ssl_opts().is_none() {
        return config;
    }
    let opts = OptsBuilder::from_opts(config.opts().clone());
    PoolConfig::from_opts(opts.ssl_opts(tls::trusting(tls::AUTHORITY)))
}

pub fn pool(config: PoolConfig) -> Pool {
    Pool::new(config).expect("good settings")
}

/// A pool that is warm.
pub async fn warm(config: PoolConfig) -> Pool {
    let pool = pool(config);
    pool.warm_up().await.expect("a warm pool");
    pool
}
