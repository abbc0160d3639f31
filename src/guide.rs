//! Guides: the pages of the repository's folder `docs`, as modules that hold only text.
//!
//! | guide | about |
//! |---|---|
//! | [Guarantees](guarantees) | what the pool promises, and the tests that hold it |
//! | [Where settings come from](settings) | URLs, environment, files; secrets, TLS, other tools' spellings |
//! | [Recipes](recipes) | short programs to copy from: axum, actix-web, tonic, metrics, migrations |
//! | [Sizing](sizing) | how many connections, and how long to wait |
//! | [What happens when ...](what_happens) | restarts, outages, failover, cancellation, leaks, shutdown |
//! | [Observability](observability) | metrics, log events and spans |
//! | [Performance](performance) | measured beside other pools |
//! | [Servers and proxies](servers) | what the pool was tested with, how, and what differs there |
//! | [Several servers](cluster) | one handle for a primary with replicas, Galera, Group Replication |
//! | [Limits](limits) | what the pool cannot do |
//! | [Architecture](architecture) | how the inside fits together |
//! | [Threats](threats) | what a hostile server, caller, network or reader of logs can and cannot do |
//! | [Coming from SQLAlchemy](coming_from_sqlalchemy) | each setting, event and habit, and its replacement |
//! | [Coming from `mysql_async`'s pool](coming_from_mysql_async) | each setting and call; the driver stays |
//! | [Coming from sqlx](coming_from_sqlx) | each setting and call, with another driver as well |
//! | [Coming from deadpool by hand](coming_from_deadpool) | what a hand-written manager gets wrong |

/// Link targets for rustdoc. If a link is defined twice, the first definition counts, so these win
/// over the URLs in the files, which serve readers of the repository.
macro_rules! links {
    () => {
        "\
[`Cluster`]: crate::cluster::Cluster
[`Cluster::readiness`]: crate::cluster::Cluster::readiness
[`Cluster::refresh`]: crate::cluster::Cluster::refresh
[`ClusterConfig::from_env`]: crate::cluster::ClusterConfig::from_env
[`CommitUnknown`]: crate::Error::CommitUnknown
[`Credentials`]: crate::config::Credentials
[`CredentialsSource`]: crate::config::CredentialsSource
[`Error::Timeout`]: crate::Error::Timeout
[`Executable`]: crate::statement::Executable
[`Health`]: crate::report::Health
[`OnCancel::Kill`]: crate::OnCancel::Kill
[`Pool`]: crate::Pool
[`PoolConfig`]: crate::PoolConfig
[`PoolMetrics`]: crate::metrics::PoolMetrics
[`PoolStatus`]: crate::report::PoolStatus
[`PooledConn`]: crate::PooledConn
[`Readiness`]: crate::Readiness
[`Reset`]: crate::Reset
[`Transaction`]: crate::Transaction
[`WarmUpReport`]: crate::report::WarmUpReport
[`check_every`]: field@crate::cluster::ClusterConfig::check_every
[`close()`]: crate::Pool::close
[`detach()`]: crate::PooledConn::detach
[`discard()`]: crate::PooledConn::discard
[`discover`]: field@crate::cluster::ClusterConfig::discover
[`from_env()`]: crate::PoolConfig::from_env
[`from_opts()`]: crate::PoolConfig::from_opts
[`get()`]: crate::Pool::get
[`get_within()`]: crate::Pool::get_within
[`health()`]: crate::Pool::health
[`is_transient`]: crate::error::is_transient
[`max_lag`]: field@crate::cluster::ClusterConfig::max_lag
[`metrics()`]: crate::Pool::metrics
[`reader()`]: crate::cluster::Cluster::reader
[`reads`]: field@crate::cluster::ClusterConfig::reads
[`recycle`]: field@crate::PoolConfig::recycle
[`refresh()`]: crate::Pool::refresh
[`resize()`]: crate::Pool::resize
[`start_transaction()`]: crate::PooledConn::start_transaction
[`statement_timeout`]: field@crate::PoolConfig::statement_timeout
[`status()`]: crate::Pool::status
[`try_get()`]: crate::Pool::try_get
[`warm_up()`]: crate::Pool::warm_up
[`watch()`]: crate::Pool::watch
[`readiness()`]: crate::Pool::readiness
[`writer()`]: crate::cluster::Cluster::writer
[guarantees]: crate::guide::guarantees
[limits]: crate::guide::limits
[observability]: crate::guide::observability
[performance]: crate::guide::performance
[recipes]: crate::guide::recipes
[servers]: crate::guide::servers
[settings]: crate::guide::settings
[sizing]: crate::guide::sizing
[threats]: crate::guide::threats
[what happens]: crate::guide::what_happens

"
    };
}

macro_rules! guides {
    ($($name:ident: $file:literal,)*) => {$(
        #[doc = links!()]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    )*};
}

guides! {
    settings: "settings.md",
    recipes: "recipes.md",
    sizing: "sizing.md",
    what_happens: "what-happens.md",
    guarantees: "guarantees.md",
    observability: "observability.md",
    performance: "performance.md",
    cluster: "cluster.md",
    limits: "limits.md",
    servers: "servers.md",
    architecture: "architecture.md",
    threats: "threats.md",
    coming_from_sqlalchemy: "coming-from-sqlalchemy.md",
    coming_from_mysql_async: "coming-from-mysql-async.md",
    coming_from_sqlx: "coming-from-sqlx.md",
    coming_from_deadpool: "coming-from-deadpool.md",
}
