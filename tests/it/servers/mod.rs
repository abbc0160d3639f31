//! Real, failing and hostile servers, and how the driver handles them.

mod addresses;
mod black_hole;
mod blocked_host;
mod clusters;
mod dns;
mod driver;
mod failover;
mod flavors;
mod group;
mod haproxy;
mod hostile;
mod namespace;
mod no_tls;
mod outage;
mod proxies;
mod refusals;
mod rollout;
mod router;
#[cfg(any(
    feature = "rustls",
    feature = "rustls-aws-lc-rs",
    feature = "native-tls"
))]
mod tls;
