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

/// An async source of user and password, called each time the pool opens a connection.
///
/// It runs in a task of the pool and counts towards
/// [`connect_timeout`](field@crate::PoolConfig::connect_timeout). A slow source delays the opening
/// of connections, but not a caller for whom another connection becomes free.
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
