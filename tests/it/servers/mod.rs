//! Real, failing and hostile servers, and how the driver handles them.

mod black_hole;
mod dns;
mod driver;
mod failover;
mod flavors;
mod hostile;
mod outage;
mod proxies;
mod rollout;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls;
