//! The hook that runs code on each new connection.

use std::{fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt as _;
use mysql_async::{Conn, Opts};

/// What a hook returns: a future that borrows the connection. `Box::pin(async move { .. })` is one.
type HookFuture<'a> = Pin<Box<dyn Future<Output = mysql_async::Result<()>> + Send + 'a>>;

/// An async hook that runs on each connection's `&mut Conn`; see
/// [`on_connect`](field@crate::PoolConfig::on_connect).
#[derive(Clone)]
pub struct OnConnect {
    hook: Arc<dyn for<'a> Fn(&'a mut Conn) -> HookFuture<'a> + Send + Sync>,
}

impl OnConnect {
    /// Creates a hook from a closure or function, for assigning to the field. The setter of the
    /// same name takes the closure directly.
    ///
    /// ```
    /// use mysql_warm_pool::{PoolConfig, config::OnConnect, mysql_async::prelude::*};
    ///
    /// let hook = OnConnect::new(|conn| {
    ///     Box::pin(async move { conn.query_drop("SET time_zone = '+00:00'").await })
    /// });
    /// let mut config = PoolConfig::from_url("mysql://app:secret@db/shop")?;
    /// config.on_connect = Some(hook);
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    pub fn new<F>(hook: F) -> Self
    where
        F: for<'a> Fn(
                &'a mut Conn,
            )
                -> Pin<Box<dyn Future<Output = mysql_async::Result<()>> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        Self {
            hook: Arc::new(hook),
        }
    }

    /// The driver's own hook of this kind.
    pub(super) fn of_driver(opts: &Opts) -> Option<Self> {
        opts.after_connect().map(|hook| Self { hook })
    }

    /// Runs the hook; `None` if it panicked.
    pub(crate) async fn run(&self, conn: &mut Conn) -> Option<mysql_async::Result<()>> {
        // In a future of its own, because the closure itself may panic too. A connection on which
        // it panicked is closed, so nobody sees it in a broken state.
        let running = AssertUnwindSafe(async move { (self.hook)(conn).await });
        running.catch_unwind().await.ok()
    }
}

impl fmt::Debug for OnConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnConnect").finish_non_exhaustive()
    }
}
