//! Why connections are discarded.

use std::fmt;

/// Why a connection was closed instead of kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum DiscardReason {
    /// Its caller was cancelled, or gave up, in the middle of a command.
    Cancelled,
    /// The server or the network ended it.
    Lost,
    /// The driver closed it because of a mistake in its use, such as a wrong number of parameters; or its
    /// account was changed, or a transaction on it was leaked.
    Misused,
    /// It did not answer a validation, answered wrongly, or could not be cleaned.
    ValidationFailed,
    /// It had more unread rows than are worth reading.
    TooManyRows,
    /// Its caller discarded or detached it.
    Requested,
    /// The runtime that opened it has ended.
    RuntimeGone,
    /// The pool was closed.
    Closing,
    /// It reached its maximum age, or was opened before a refresh.
    Retired,
    /// It was not needed any more: overflow that has lingered, or beyond a limit made smaller.
    Surplus,
    /// Its server said that it has become read-only.
    ReadOnly,
    /// Its session had another role or account than when it was opened, which no reset undoes.
    RoleChanged,
}

impl DiscardReason {
    pub(crate) const ALL: [Self; 12] = [
        Self::Cancelled,
        Self::Lost,
        Self::Misused,
        Self::ValidationFailed,
        Self::TooManyRows,
        Self::Requested,
        Self::RuntimeGone,
        Self::Closing,
        Self::Retired,
        Self::Surplus,
        Self::ReadOnly,
        Self::RoleChanged,
    ];

    /// The reason in metrics and log events: `cancelled`, `lost`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Misused => "misused",
            Self::ValidationFailed => "validation_failed",
            Self::TooManyRows => "too_many_rows",
            Self::Requested => "requested",
            Self::RuntimeGone => "runtime_gone",
            Self::Closing => "closing",
            Self::Retired => "retired",
            Self::Surplus => "surplus",
            Self::ReadOnly => "read_only",
            Self::RoleChanged => "role_changed",
        }
    }
}

impl fmt::Display for DiscardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
