//! User and password from an async source, for accounts whose password changes.

use std::{error::Error as StdError, fmt, future::Future, pin::Pin, sync::Arc};

/// A user and a password, as a [`CredentialsSource`] returns them. `Debug` shows no password.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The account's name.
    pub user: String,
    /// The account's password.
    pub password: String,
}

impl Credentials {
    /// Creates credentials from a user and a password.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

type CredentialsFuture =
    Pin<Box<dyn Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send>>;

/// An async source of user and password, asked each time the pool opens a connection: for tokens,
/// or for a password that only code can fetch.
///
/// It is asked before the pool connects, in a task of the pool, and for up to
/// [`max_connecting`](field@crate::PoolConfig::max_connecting) connections at once. Each answer is
/// used for one login, so a source that is slow, or asks a service with a limit, should cache its
/// answer. A slow source delays the opening of connections, but not a caller for whom another
/// connection becomes idle.
///
/// A server asks for a password only at login. An open connection outlives the token with which it
/// logged in; once it reaches its maximum age ([`recycle`](field@crate::PoolConfig::recycle)), or
/// after [`refresh()`](crate::Pool::refresh), its replacement asks for another.
///
/// # Errors
///
/// If the source returns an error or panics, the attempt to open a connection has failed in the
/// phase [`Credentials`](crate::error::ConnectPhase::Credentials). The error is
/// [transient](crate::error::ConnectError::is_transient): the pool tries again, with back-off. Its
/// text is shown in errors and log events, so it must not hold a secret.
///
/// # Cancel safety
///
/// Asking counts towards [`connect_timeout`](field@crate::PoolConfig::connect_timeout). At that
/// deadline, and when the pool closes, the future is dropped, so whatever several openings share
/// must be cancel safe. A caller that gives up on a [`get`](crate::Pool::get) drops nothing.
///
/// # Examples
///
/// A token that is valid for 15 minutes is cached for 10. The lock is held while a token is
/// fetched, so connections that are opened together share it. A whole program, for RDS, is in the
/// [recipes](crate::guide::recipes).
///
/// ```no_run
/// use std::{io, sync::Arc, time::{Duration, Instant}};
///
/// use mysql_warm_pool::{Pool, PoolConfig, config::{Credentials, CredentialsSource}};
/// use tokio::sync::Mutex;
///
/// async fn fetch_token() -> io::Result<String> {
///     // From the service that issues tokens.
/// #   Ok("token".to_owned())
/// }
///
/// let kept = Arc::new(Mutex::new(None::<(String, Instant)>));
/// let source = CredentialsSource::new(move || {
///     let kept = Arc::clone(&kept);
///     async move {
///         let mut kept = kept.lock().await;
///         let token = match &*kept {
///             Some((token, at)) if at.elapsed() < Duration::from_secs(600) => token.clone(),
///             _ => {
///                 let at = Instant::now();
///                 kept.insert((fetch_token().await?, at)).0.clone()
///             }
///         };
///         Ok::<_, io::Error>(Credentials::new("app", token))
///     }
/// });
/// let config = PoolConfig::from_url("mysql://db.example.com/shop?ssl-mode=VERIFY_IDENTITY")?;
/// // The server checks a token, not a hash of it, so it is sent as it is, over TLS.
/// let config = config.map_opts(|opts| opts.enable_cleartext_plugin(true));
/// let pool = Pool::new(config.credentials(source))?;
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone)]
pub struct CredentialsSource {
    ask: Arc<dyn Fn() -> CredentialsFuture + Send + Sync>,
}

impl CredentialsSource {
    /// Creates a source that calls `ask` each time a connection is opened.
    pub fn new<F, Fut, E>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self {
            ask: Arc::new(move || {
                let answer = ask();
                Box::pin(async move { answer.await.map_err(Into::into) })
            }),
        }
    }

    pub(crate) fn ask(&self) -> CredentialsFuture {
        (self.ask)()
    }
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsSource").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn debug_shows_the_user_but_not_the_password() {
        let text = format!("{:?}", Credentials::new("app", "secret"));
        assert!(text.contains("app") && !text.contains("secret"), "{text}");
    }
}
