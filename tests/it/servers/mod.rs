//! What real, failing and hostile servers do, and what the driver does with them.

mod dns;
mod driver;
mod failover;
mod flavors;
mod hostile;
mod outage;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls;
