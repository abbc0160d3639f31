//! The prepared statements of one session: which texts the driver's cache holds, under which ids,
//! and the statements that callers were given.
//!
//! The driver keeps a cache from texts to ids, and never looks back: if the server forgets its
//! statements and gives an old id to another text, the driver executes that one. So the pool
//! mirrors the cache, and notices.
//!
//! Statements that are executed in generic code, or on the bare `Conn`, are prepared unseen, and
//! may have been given any id. After that, the mirror may be wrong. The driver's cache, which sees
//! all statements, settles it: if it still holds what was recorded for a text, the id was not given
//! to another text.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::BuildHasher,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mysql_async::Statement;

use super::effect::{
    Effect,
    control::{Control, control_of},
    effect_of,
};

/// The most statements of callers to remember in one session.
const HANDED_OUT: usize = 4096;

/// If a session has more of them when its connection is returned, it forgets all.
const KEPT_AT_RETURN: usize = 64;

/// The most statements to remember if the driver has no cache, and so closes none.
const UNCACHED: usize = 1024;

/// The most texts of one statement to remember, which differ in the names of their parameters.
const NAMINGS: usize = 16;

/// How often callers found their texts prepared, in all sessions of a pool.
#[derive(Debug, Default)]
pub(crate) struct CacheCounts {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) evictions: AtomicU64,
    /// Texts prepared again in a session that had lost them.
    pub(crate) repeated: AtomicU64,
}

pub(crate) struct Statements {
    counts: Arc<CacheCounts>,
    /// The size of the driver's cache.
    cache_size: usize,
    /// Counts the uses of the driver's cache. Executing a [`Statement`] is none.
    uses: u64,
    /// What the driver's cache certainly holds. May lack something of it.
    cached: HashMap<Arc<[u8]>, Cached>,
    /// The uses of statements whose text was not seen. Each may have taken a place in the cache.
    unseen: VecDeque<u64>,
    /// The last use at which a statement may have been prepared unseen. What was recorded before
    /// may be wrong.
    doubted_at: Option<u64>,
    /// The last use at which the caller had the bare `Conn`, and may have reset the session. An id
    /// recorded before may be another text's by right.
    freed_at: Option<u64>,
    /// The statements that callers were given by `prep`, with their texts, by id. A statement may
    /// be closed while its caller still holds it, and its id may belong to another one by now.
    handed_out: HashMap<u32, Vec<HandedOut>>,
    /// How many statements that is.
    handed_out_len: usize,
    /// The hashes of texts that were prepared and no longer are.
    lost: HashSet<u64>,
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
    pub(crate) control: Control,
}

impl Prepared {
    fn of(text: &[u8]) -> Self {
        Self {
            effect: effect_of(text),
            control: control_of(text),
        }
    }
}

/// Why what the driver returned for a text is not to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsure {
    /// An id was given to a text while another text held it: the server has forgotten the session's
    /// statements.
    Collision,
    /// It comes from the driver's cache, and may be another text's. Close it and prepare the text
    /// again.
    InDoubt,
}

impl Statements {
    pub(crate) fn new(cache_size: usize, counts: Arc<CacheCounts>) -> Self {
        Self {
            counts,
            cache_size,
            uses: 0,
            cached: HashMap::new(),
            unseen: VecDeque::new(),
            doubted_at: None,
            freed_at: None,
            handed_out: HashMap::new(),
            handed_out_len: 0,
            lost: HashSet::new(),
        }
    }

    /// The statement of this text, if it is certainly still prepared, which counts as a hit. The
    /// driver need not be asked: it is not about to evict the statement.
    #[inline]
    pub(crate) fn ready(&self, text: &[u8]) -> Option<(&Statement, Prepared)> {
        let cached = self.cached.get(text)?;
        if self.doubted_at.is_some_and(|at| cached.used <= at) {
            return None;
        }
        let others = self.uses.wrapping_sub(cached.used);
        let is_recent = usize::try_from(others)
            .is_ok_and(|others| others < self.cache_size.div_ceil(2) || self.cache_size == 0);
        if !is_recent {
            return None;
        }
        count(&self.counts.hits);
        Some((&cached.statement, cached.about))
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

    /// Whether a statement may have been prepared unseen.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubted_at.is_some()
    }

    /// Records what the driver returned for a caller's text, perhaps from its cache.
    pub(crate) fn record_for_caller(
        &mut self,
        text: &[u8],
        statement: &Statement,
        is_cached: bool,
    ) -> Result<Prepared, Unsure> {
        let (about, is_hit) = self.record_use(text, statement, is_cached)?;
        let counts = &self.counts;
        count(if is_hit { &counts.hits } else { &counts.misses });
        Ok(about)
    }

    /// Records what the driver returned for a text, perhaps from its cache.
    pub(crate) fn record(
        &mut self,
        text: &[u8],
        statement: &Statement,
        is_cached: bool,
    ) -> Result<Prepared, Unsure> {
        let (about, _) = self.record_use(text, statement, is_cached)?;
        Ok(about)
    }

    /// Also returns whether the driver found the statement in its cache.
    fn record_use(
        &mut self,
        text: &[u8],
        statement: &Statement,
        is_cached: bool,
    ) -> Result<(Prepared, bool), Unsure> {
        self.uses = self.uses.wrapping_add(1);
        if let Some(cached) = self.cached.get(text)
            && is_same(&cached.statement, statement)
        {
            let about = cached.about;
            self.touch(statement.id());
            return Ok((about, true));
        }
        if self.holds_other(text, statement) {
            return Err(Unsure::Collision);
        }
        if is_cached && self.is_in_doubt() {
            return Err(Unsure::InDoubt);
        }
        let is_hit = is_cached || self.has_cached(statement);
        let id = statement.id();
        let same_id = self.cached.values().map(|cached| cached.statement.id());
        let has_too_many = same_id.filter(|same| *same == id).count() >= NAMINGS;
        // Another statement has this id no more: the caller has reset the session.
        self.cached.retain(|_, cached| {
            cached.statement.id() != id || !has_too_many && is_same(&cached.statement, statement)
        });
        if !self.lost.is_empty() && self.lost.remove(&self.hash(text)) && !is_hit {
            count(&self.counts.repeated);
        }
        let about = Prepared::of(text);
        let cached = Cached {
            statement: statement.clone(),
            about,
            used: self.uses,
        };
        drop(self.cached.insert(Arc::from(text), cached));
        self.touch(id);
        self.evict();
        Ok((about, is_hit))
    }

    /// Whether the driver's cache holds this statement, under a text that differs at most in the
    /// names of its parameters.
    fn has_cached(&self, statement: &Statement) -> bool {
        let mut all = self.cached.values().map(|cached| &cached.statement);
        all.any(|cached| cached.id() == statement.id() && is_same(cached, statement))
    }

    /// Marks a statement of the driver's cache as the one used last. Texts that differ only in the
    /// names of their parameters share it.
    fn touch(&mut self, id: u32) {
        for cached in self.cached.values_mut() {
            if cached.statement.id() == id {
                cached.used = self.uses;
            }
        }
    }

    /// Whether the id of a statement that a caller holds was given to another text since.
    pub(crate) fn is_taken(&self, statement: &Statement) -> bool {
        let mut all = self.cached.values().filter(|cached| self.is_held(cached));
        all.any(|cached| {
            cached.statement.id() == statement.id() && !is_same(&cached.statement, statement)
        })
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

    /// Records that a statement whose text was not seen was prepared or used.
    pub(crate) fn record_unseen(&mut self) {
        self.uses = self.uses.wrapping_add(1);
        self.unseen.push_back(self.uses);
        self.doubted_at = Some(self.uses);
        self.evict();
    }

    /// Records that the caller may do anything with the session.
    pub(crate) fn record_unfollowed(&mut self) {
        self.doubted_at = Some(self.uses);
        self.freed_at = Some(self.uses);
    }

    /// Records that a caller has closed a statement. Its id may be given to another text.
    pub(crate) fn record_closed(&mut self, statement: &Statement) {
        self.cached
            .retain(|_, cached| cached.statement.id() != statement.id());
    }

    /// Forgets all: a reset has ended them, and their ids may be given again.
    pub(crate) fn forget(&mut self) {
        let hashes: Vec<_> = self.cached.keys().map(|text| self.hash(text)).collect();
        self.record_lost(hashes);
        self.cached.clear();
        self.unseen.clear();
        self.doubted_at = None;
        self.freed_at = None;
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
            .filter(|(_, cached)| cached.statement.id() == statement.id() && self.is_held(cached));
        let mut others = same_id.filter(|(other, _)| ***other != *text);
        others.any(|(other, cached)| {
            let may_be_one = has_names(other) || has_names(text);
            !(may_be_one && is_same(&cached.statement, statement))
        })
    }

    /// Whether the caller could not have ended it by a reset of its own.
    fn is_held(&self, cached: &Cached) -> bool {
        self.freed_at.is_none_or(|at| cached.used > at)
    }

    /// Drops what the driver may have evicted from its cache, and closed.
    fn evict(&mut self) {
        let limit = self.limit();
        while self.places(limit) > limit {
            let oldest = self.cached.values().min_by_key(|cached| cached.used);
            let oldest = oldest.map(|cached| (cached.statement.id(), cached.used));
            match (oldest, self.unseen.front()) {
                (Some((id, used)), unseen) if unseen.is_none_or(|unseen| used < *unseen) => {
                    let evicted: Vec<_> = self
                        .cached
                        .extract_if(|_, cached| cached.statement.id() == id)
                        .map(|(text, _)| text)
                        .collect();
                    self.record_lost(evicted.iter().map(|text| self.hash(text)).collect());
                    // Without a cache, the driver closes none.
                    if self.cache_size > 0 {
                        count(&self.counts.evictions);
                    }
                }
                _ => drop(self.unseen.pop_front()),
            }
        }
    }

    /// The most statements to keep.
    const fn limit(&self) -> usize {
        match self.cache_size {
            0 => UNCACHED,
            size => size,
        }
    }

    fn record_lost(&mut self, hashes: Vec<u64>) {
        // Bounds the memory. A text that is forgotten here counts as never prepared.
        if self.lost.len().saturating_add(hashes.len()) > self.limit().saturating_mul(4) {
            self.lost.clear();
        }
        self.lost.extend(hashes);
    }

    fn hash(&self, text: &[u8]) -> u64 {
        self.cached.hasher().hash_one(text)
    }

    /// The most places of the driver's cache that can be taken, if that is more than `limit`;
    /// otherwise some number up to it.
    fn places(&self, limit: usize) -> usize {
        let unseen = self.unseen.len();
        if self.cached.len().saturating_add(unseen) <= limit {
            return limit;
        }
        let ids = self.cached.values().map(|cached| cached.statement.id());
        ids.collect::<HashSet<_>>().len().saturating_add(unseen)
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

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn has_names(text: &[u8]) -> bool {
    text.contains(&b':')
}
