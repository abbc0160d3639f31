//! `DiscardReason`: why a connection was closed instead of kept.

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
    /// It was returned in the middle of a command.
    Cancelled,
    /// The server or the network ended it.
    Lost,
    /// The driver or the server closed it after a mistake of its caller, such as a wrong number of
    /// parameters or a statement larger than `max_allowed_packet`; or its account was changed, or a
    /// transaction on it was leaked.
    Misused,
    /// It failed a validation.
    ValidationFailed,
    /// It had more unread rows than are worth draining.
    TooManyRows,
    /// Its caller discarded or detached it.
    Requested,
    /// It belonged to a runtime that is gone.
    RuntimeGone,
    /// It was closed with the pool.
    Closing,
    /// It reached its maximum age, or was opened before a refresh.
    Retired,
    /// It was overflow that had idled for `overflow_linger`, or was beyond a lowered limit.
    Surplus,
    /// It met an error saying that its server is read-only.
    ReadOnly,
    /// It had a role set that a reset does not clear.
    RoleChanged,
    /// It may have had other state that a reset does not clear: an XA transaction, a resource
    /// group, profiles or an optimizer trace. Or the server's `init_connect` cannot be repeated
    /// after a reset.
    Unresettable,
    /// A statement on it was under way for longer than `statement_timeout`.
    StatementTimeout,
    /// The server refused a step of its cleaning, such as a statement of `init` or `prepare` after
    /// a reset.
    CleaningFailed,
    /// The server has forgotten the session's prepared statements, so nothing of its state is
    /// certain.
    SessionLost,
}

impl DiscardReason {
    /// Every reason, in the order of declaration.
    pub(crate) const ALL: [Self; 16] = [
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
        Self::Unresettable,
        Self::StatementTimeout,
        Self::CleaningFailed,
        Self::SessionLost,
    ];

    /// Returns the reason's name in metrics and log events: `cancelled`, `lost`, ...
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
            Self::Unresettable => "unresettable",
            Self::StatementTimeout => "statement_timeout",
            Self::CleaningFailed => "cleaning_failed",
            Self::SessionLost => "session_lost",
        }
    }
}

impl fmt::Display for DiscardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
