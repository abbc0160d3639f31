//! Pools with the tests' settings.

use std::time::Duration;

use mysql_warm_pool::{Pool, PoolConfig};

use crate::tls;

/// An opening that takes this long counts as hanging: the pool starts another beside it and
/// readiness changes.
pub const HANGING: Duration = Duration::from_millis(300);

/// Settings for the server at this URL. If the server requires TLS, they verify its certificate.
pub fn config(url: &str) -> PoolConfig {
    let config = PoolConfig::from_url(url).expect("a valid URL");
    if config.opts().ssl_opts().is_none() {
        return config;
    }
    config.map_opts(|opts| opts.ssl_opts(tls::trusting(tls::AUTHORITY)))
}

pub fn pool(config: PoolConfig) -> Pool {
    Pool::new(config).expect("valid settings")
}

/// Creates a pool and warms it up.
pub async fn warm(config: PoolConfig) -> Pool {
    let pool = pool(config);
    pool.warm_up().await.expect("the warm-up succeeds");
    pool
}
