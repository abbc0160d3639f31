//! Pure: from a statement's text, may it change what the next user of the session sees?

/// What running a statement may leave behind in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) session: bool,
    pub(crate) database: bool,
    pub(crate) transaction: bool,
}

impl Effect {
    pub(crate) const NEUTRAL: Self = Self {
        session: false,
        database: false,
        transaction: false,
    };
    pub(crate) const UNKNOWN: Self = Self {
        session: true,
        database: true,
        transaction: true,
    };

    pub(crate) const fn union(self, other: Self) -> Self {
        Self {
            session: self.session || other.session,
            database: self.database || other.database,
            transaction: self.transaction || other.transaction,
        }
    }
}

pub(crate) fn effect_of(_sql: &[u8]) -> Effect {
    Effect::UNKNOWN
}
