//! The prepared statements of one session: which texts the driver's cache holds, under which ids,
//! and the statements that callers were given.
//!
//! The driver keeps a cache from texts to ids, and never looks back: if the server forgets its
//! statements and gives an old id to another text, the driver executes that one. So the pool
//! mirrors the cache, and notices.

use std::{
    collections::{HashMap, VecDeque},
    ptr,
    sync::Arc,
};

use mysql_async::Statement;

use super::effect::{Effect, control::begins_transaction, effect_of};

/// The most statements of callers to remember in one session.
const HANDED_OUT: usize = 4096;

/// As many of them survive the connection's return.
const KEPT_AT_RETURN: usize = 64;

/// The most statements to remember if the driver has no cache, so that none is closed.
const UNCACHED: usize = 1024;

pub(crate) struct Statements {
    /// The size of the driver's cache.
    cache_size: usize,
    /// Counts the uses of the driver's cache. Executing a [`Statement`] is none.
    uses: u64,
    /// What the driver's cache certainly holds. May lack something of it.
    cached: HashMap<Arc<[u8]>, Cached>,
    /// The uses of statements whose text was not seen. Each may have taken a place in the cache.
    unseen: VecDeque<u64>,
    /// What callers were given by `prep`, by id, with the texts. A statement may be closed here
    /// while its caller still holds it, and its id may be another one's by now.
    handed_out: HashMap<u32, Vec<HandedOut>>,
    /// How many statements that is.
    handed_out_len: usize,
}

/// A statement that a caller was given.
struct HandedOut {
    statement: Statement,
    text: Arc<[u8]>,
}

/// A statement that the driver's cache holds.
struct Cached {
    statement: Statement,
    about: Prepared,
    used: u64,
}

/// What the text of a prepared statement shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    pub(crate) effect: Effect,
    /// It begins a transaction.
    pub(crate) begins: bool,
}

impl Prepared {
    fn of(text: &[u8]) -> Self {
        Self {
            effect: effect_of(text),
            begins: begins_transaction(text),
        }
    }
}

/// An id was given to a text while another text held it: the server has forgotten the session's
/// statements.
#[derive(Debug)]
pub(crate) struct Collision;

impl Statements {
    pub(crate) fn new(cache_size: usize) -> Self {
        Self {
            cache_size,
            uses: 0,
            cached: HashMap::new(),
            unseen: VecDeque::new(),
            handed_out: HashMap::new(),
            handed_out_len: 0,
        }
    }

    /// The statement of this text, if it is certainly still prepared. The driver need not be asked:
    /// it is not about to be evicted either.
    #[inline]
    pub(crate) fn ready(&self, text: &[u8]) -> Option<(&Statement, Prepared)> {
        let cached = self.cached.get(text)?;
        let others = self.uses.wrapping_sub(cached.used);
        let is_recent = usize::try_from(others)
            .is_ok_and(|others| others < self.cache_size.div_ceil(2) || self.cache_size == 0);
        is_recent.then_some((&cached.statement, cached.about))
    }

    /// The text of a statement that a caller was given in this session. Its id may have been closed
    /// since, so execute the text.
    pub(crate) fn text_of(&self, statement: &Statement) -> Option<Arc<[u8]>> {
        let same_id = self.handed_out.get(&statement.id())?;
        same_id
            .iter()
            .find(|given| given.statement == *statement)
            .map(|given| Arc::clone(&given.text))
    }

    /// Records what the driver returned for a text.
    pub(crate) fn record(
        &mut self,
        text: &[u8],
        statement: &Statement,
    ) -> Result<Prepared, Collision> {
        self.uses = self.uses.wrapping_add(1);
        if let Some(cached) = self.cached.get_mut(text)
            && is_same(&cached.statement, statement)
        {
            cached.used = self.uses;
            return Ok(cached.about);
        }
        if self.holds_other(text, statement) {
            return Err(Collision);
        }
        let about = Prepared::of(text);
        let cached = Cached {
            statement: statement.clone(),
            about,
            used: self.uses,
        };
        drop(self.cached.insert(Arc::from(text), cached));
        self.evict();
        Ok(about)
    }

    /// Records what a caller is given.
    pub(crate) fn hand_out(&mut self, text: &[u8], statement: &Statement) {
        if self.handed_out_len >= HANDED_OUT {
            self.forget_handed_out();
        }
        let same_id = self.handed_out.entry(statement.id()).or_default();
        if !same_id.iter().any(|given| given.statement == *statement) {
            same_id.push(HandedOut {
                statement: statement.clone(),
                text: Arc::from(text),
            });
            self.handed_out_len = self.handed_out_len.saturating_add(1);
        }
    }

    /// Records that a statement was prepared or used whose text was not seen.
    pub(crate) fn record_unseen(&mut self) {
        self.uses = self.uses.wrapping_add(1);
        self.unseen.push_back(self.uses);
        self.evict();
    }

    /// Records that a caller has closed a statement. Its id may be given to another text.
    pub(crate) fn record_closed(&mut self, statement: &Statement) {
        self.cached
            .retain(|_, cached| cached.statement.id() != statement.id());
    }

    /// Forgets all: a reset has ended them, and their ids may be given again.
    pub(crate) fn forget(&mut self) {
        self.cached.clear();
        self.unseen.clear();
        self.forget_handed_out();
    }

    /// Bounds the memory of an idle connection.
    pub(crate) fn start_over(&mut self) {
        if self.handed_out_len > KEPT_AT_RETURN {
            self.forget_handed_out();
        }
    }

    fn forget_handed_out(&mut self) {
        self.handed_out = HashMap::new();
        self.handed_out_len = 0;
    }

    /// Whether this id is certainly in use for another text.
    ///
    /// Two texts are one statement if they differ only in the names of their parameters.
    fn holds_other(&self, text: &[u8], statement: &Statement) -> bool {
        let same_id = self
            .cached
            .iter()
            .filter(|(_, cached)| cached.statement.id() == statement.id());
        let mut others = same_id.filter(|(other, _)| ***other != *text);
        others.any(|(other, cached)| {
            let may_be_one = has_names(other) || has_names(text);
            !(may_be_one && is_same(&cached.statement, statement))
        })
    }

    /// Drops what the driver may have evicted from its cache, and closed.
    fn evict(&mut self) {
        let limit = match self.cache_size {
            0 => UNCACHED,
            size => size,
        };
        while self.cached.len().saturating_add(self.unseen.len()) > limit {
            let oldest = self.cached.iter().min_by_key(|(_, cached)| cached.used);
            let oldest = oldest.map(|(text, cached)| (Arc::clone(text), cached.used));
            match (oldest, self.unseen.front()) {
                (Some((text, used)), unseen) if unseen.is_none_or(|unseen| used < *unseen) => {
                    drop(self.cached.remove(&text));
                }
                _ => drop(self.unseen.pop_front()),
            }
        }
    }
}

/// Whether both are the same statement, apart from the names of its parameters.
///
/// The driver's comparison includes the names, and the text without them. It shares what it knows
/// of the parameters between all clones.
fn is_same(one: &Statement, other: &Statement) -> bool {
    one == other
        || one.id() == other.id()
            && !one.params().is_empty()
            && ptr::eq(one.params(), other.params())
}

fn has_names(text: &[u8]) -> bool {
    text.contains(&b':')
}
