//! The slots: each holds one connection or is vacant, and the limit is how many there are.
//!
//! deadpool's managed pool hands them out. All of them are checked out when the
//! pool is built, and a vacant one never goes back: so deadpool's free permits are exactly the idle connections,
//! and a waiting caller waits in one place, its fair queue. Counts come from where the slots are.

use std::{
    cmp,
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::Future,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    panic::Location,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleResult, Timeouts,
};
use tokio::sync::{oneshot, watch};

use crate::{
    engine::schedule::Occupancy,
    report::PoolStatus,
    session::{Session, apart::Apart},
};

/// Place for one connection. Vacant, it is held back in the ledger; filled, deadpool hands it out.
///
/// One pointer in size: deadpool moves it about with every get and return.
struct Slot<S>(Box<Place<S>>);

struct Place<S> {
    session: Option<S>,
    hold: Arc<Hold>,
}

/// Since when a caller holds what is in a slot, and the line that got it.
#[derive(Debug, Default)]
struct Hold {
    /// The number of a `Timestamp`, or 0 while no caller holds it.
    since: AtomicU64,
    /// Only where it is asked for. Taken after all other locks.
    got_at: Mutex<Option<&'static Location<'static>>>,
}

impl Hold {
    fn read(&self) -> (u64, Option<&'static Location<'static>>) {
        let got_at = self.got_at.lock().unwrap_or_else(PoisonError::into_inner);
        (self.since.load(Ordering::Relaxed), *got_at)
    }

    #[cold]
    fn begin_at(&self, since: u64, line: &'static Location<'static>) {
        let mut got_at = self.got_at.lock().unwrap_or_else(PoisonError::into_inner);
        *got_at = Some(line);
        self.since.store(since, Ordering::Relaxed);
        drop(got_at);
    }
}

/// What a slot holds: a [`Session`], or in this file's own tests a stand-in for one.
pub(crate) trait Occupant: Send + 'static {
    /// Closes it now.
    fn sever(self);
}

impl Occupant for Session {
    fn sever(self) {
        Self::sever(self);
    }
}

struct SlotManager<S> {
    /// Of all slots there are.
    holds: Mutex<Vec<Arc<Hold>>>,
    occupants: PhantomData<fn() -> S>,
}

impl<S: Occupant> Manager for SlotManager<S> {
    type Type = Slot<S>;
    type Error = Infallible;

    async fn create(&self) -> Result<Slot<S>, Infallible> {
        let hold = Arc::<Hold>::default();
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.push(Arc::clone(&hold));
        drop(holds);
        Ok(Slot(Box::new(Place {
            session: None,
            hold,
        })))
    }

    async fn recycle(&self, _: &mut Slot<S>, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

const AT_ONCE: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};
const WITHOUT_END: Timeouts = Timeouts {
    wait: None,
    create: None,
    recycle: None,
};

/// All slots of a pool.
pub(crate) struct Slots<S: Occupant = Session> {
    pool: Pool<SlotManager<S>>,
    /// Guards where the slots are that deadpool has not. Taken before deadpool's own lock, and after the connector's.
    ledger: Mutex<Ledger<S>>,
    /// No slot is vacant or being filled, and all idle connections are in their place: who finds none idle can only wait
    /// for one that is in use. Written with the ledger's lock held; who reads it late looks at the ledger in vain, or has
    /// a vacant slot filled by the keeper.
    is_full: AtomicBool,
    /// Counts those who came to wait.
    turns: Apart<AtomicU64>,
    /// How many of the ledger's `passed_over` there are: who sees too few of them in a hurry only takes precedence.
    passed_over: AtomicUsize,
    /// Counts how often a slot became vacant.
    vacated: watch::Sender<u64>,
}

/// Where the slots are that are neither idle nor with a caller.
struct Ledger<S: Occupant> {
    size: usize,
    overflow: usize,
    /// How many slots there are, shelved ones included. deadpool may have made more, for callers who have not
    /// seen yet that those are vacant.
    known: usize,
    /// May be filled.
    vacant: Vec<Object<SlotManager<S>>>,
    /// Held back for good: the pool was made smaller.
    shelved: Vec<Object<SlotManager<S>>>,
    /// How many `Opening`s there are.
    opening: usize,
    /// How many `Tending`s there are.
    tending: usize,
    /// Callers who wait once more, by their turn, and how each of them is given what it should have had.
    passed_over: BTreeMap<u64, oneshot::Sender<Filled<S>>>,
}

impl<S: Occupant> Ledger<S> {
    /// How many slots count for the limit.
    fn slots(&self) -> usize {
        self.known.saturating_sub(self.shelved.len())
    }

    fn limit(&self) -> usize {
        self.size.saturating_add(self.overflow)
    }

    /// There is no room for another connection, and none is being opened.
    fn is_full(&self) -> bool {
        self.vacant.is_empty() && self.opening == 0 && self.slots() >= self.limit()
    }

    /// A vacant slot stays here; for good, where there are too many.
    fn hold_back(&mut self, vacant: Object<SlotManager<S>>) {
        if self.slots() > self.limit() {
            self.shelved.push(vacant);
        } else {
            self.vacant.push(vacant);
        }
    }

    /// A slot that deadpool has just made, vacant as all new ones.
    fn admit(&mut self, new: Object<SlotManager<S>>) {
        self.known = self.known.saturating_add(1);
        self.hold_back(new);
    }
}

impl<S: Occupant> Slots<S> {
    pub(crate) fn new(size: usize, overflow: usize) -> Arc<Self> {
        let limit = size.saturating_add(overflow);
        let config = PoolConfig {
            max_size: limit,
            timeouts: WITHOUT_END,
            queue_mode: QueueMode::Lifo,
        };
        let manager = SlotManager {
            holds: Mutex::default(),
            occupants: PhantomData,
        };
        let pool = Pool::builder(manager).config(config).build();
        let Ok(pool) = pool else {
            unreachable!("deadpool asks for a runtime only where time-outs are set")
        };
        let slots = Self {
            pool,
            ledger: Mutex::new(Ledger {
                size,
                overflow,
                known: 0,
                vacant: Vec::with_capacity(limit),
                shelved: Vec::new(),
                opening: 0,
                tending: 0,
                passed_over: BTreeMap::new(),
            }),
            is_full: AtomicBool::new(false),
            turns: Apart::default(),
            passed_over: AtomicUsize::new(0),
            vacated: watch::Sender::new(0),
        };
        slots.gather(&mut slots.ledger());
        Arc::new(slots)
    }

    /// Takes an idle connection, now or never.
    pub(crate) fn try_take(&self) -> Option<Filled<S>> {
        loop {
            if let Some(filled) = self.filled(self.checkout()?) {
                return Some(filled);
            }
        }
    }

    /// A slot from deadpool, now or never.
    fn checkout(&self) -> Option<Object<SlotManager<S>>> {
        // A checkout that neither waits nor does I/O is ready at its first poll.
        let checkout = pin!(self.pool.timeout_get(&AT_ONCE));
        match checkout.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(object)) => Some(object),
            _ => None,
        }
    }

    /// Says who comes to wait now: first come, first served.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            number: self.turns.fetch_add(1, Ordering::Relaxed),
            was_served: false,
        }
    }

    /// Waits for a connection, in turn. Who was served before, and had no use for what it was given, is served before
    /// all who came later.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the queue; a connection it was given meanwhile goes to the next.
    pub(crate) async fn take(&self, turn: Turn) -> Filled<S> {
        let Turn {
            number: turn,
            was_served,
        } = turn;
        let mut passed_over = was_served.then(|| self.pass_over(turn));
        loop {
            let next = self.pool.timeout_get(&WITHOUT_END);
            let next = match &mut passed_over {
                None => next.await,
                Some(PassedOver { given, .. }) => tokio::select! {
                    biased;
                    Ok(filled) = given => {
                        passed_over = None;
                        Ok(filled.object)
                    }
                    next = next => next,
                },
            };
            match next {
                Ok(object) => {
                    if let Some(filled) = self.filled(object)
                        && let Some(filled) = self.give_precedence(turn, filled)
                    {
                        return filled;
                    }
                    // To wait once more is to wait behind all others.
                    passed_over.get_or_insert_with(|| self.pass_over(turn));
                }
                // Never closed: closing is told to waiting callers by the connector.
                Err(PoolError::Closed) => std::future::pending().await,
                Err(_) => unreachable!("nothing else can fail without time-outs and hooks"),
            }
        }
    }

    /// A caller had its turn, and was given what is of no use: a new slot with nothing in it, as the pool has just been
    /// made bigger, or a connection that gave no proof. It is to be served before all who came later.
    #[cold]
    fn pass_over(&self, turn: u64) -> PassedOver<'_, S> {
        let (give, given) = oneshot::channel();
        let mut ledger = self.ledger();
        ledger.passed_over.insert(turn, give);
        self.passed_over
            .store(ledger.passed_over.len(), Ordering::Relaxed);
        drop(ledger);
        PassedOver {
            slots: self,
            turn,
            given,
        }
    }

    /// Gives the connection to the first who was passed over, if one of them came before this turn.
    #[inline]
    fn give_precedence(&self, turn: u64, filled: Filled<S>) -> Option<Filled<S>> {
        if self.passed_over.load(Ordering::Relaxed) == 0 {
            return Some(filled);
        }
        self.give_to_earlier(turn, filled)
    }

    #[cold]
    fn give_to_earlier(&self, turn: u64, mut filled: Filled<S>) -> Option<Filled<S>> {
        loop {
            let mut ledger = self.ledger();
            let first = ledger.passed_over.first_entry();
            let Some(first) = first.filter(|first| *first.key() < turn) else {
                return Some(filled);
            };
            let give = first.remove();
            drop(ledger);
            match give.send(filled) {
                Ok(()) => return None,
                // It has just gone.
                Err(still_here) => filled = still_here,
            }
        }
    }

    /// Takes a vacant slot to fill, if `wanted` says so of the pool as it is.
    pub(crate) fn begin_opening(
        self: &Arc<Self>,
        wanted: impl FnOnce(&PoolStatus) -> bool,
    ) -> Option<Opening<S>> {
        let mut ledger = self.ledger();
        if !wanted(&self.status_of(&ledger)) {
            return None;
        }
        let object = ledger.vacant.pop()?;
        ledger.opening = ledger.opening.saturating_add(1);
        drop(ledger);
        Some(Opening {
            object: Some(object),
            slots: Arc::clone(self),
        })
    }

    /// Takes a connection into the pool's own hands, to clean, prove or close it.
    pub(crate) fn tend(self: &Arc<Self>, filled: Filled<S>) -> Tending<S> {
        let mut ledger = self.ledger();
        ledger.tending = ledger.tending.saturating_add(1);
        drop(ledger);
        Tending {
            object: Some(filled.object),
            slots: Arc::clone(self),
        }
    }

    /// Takes all idle connections for a moment, the one unused for longest first, and lets `sort` take out
    /// what it wants. The rest go back in their order. Callers who come meanwhile wait in the same queue.
    pub(crate) fn sweep<T>(&self, sort: impl FnOnce(Occupancy, &mut Vec<Filled<S>>) -> T) -> T {
        let ledger = self.ledger();
        self.is_full.store(false, Ordering::Relaxed);
        let mut idle = Vec::new();
        let mut others = Vec::new();
        while let Some(object) = self.checkout() {
            if object.0.session.is_some() {
                idle.push(Filled { object });
            } else {
                others.push(object);
            }
        }
        idle.reverse();
        let status = self.status_of(&ledger);
        let occupancy = Occupancy {
            size: status.size,
            overflow: status.overflow,
            open: status.open,
            connecting: status.connecting,
            cleaning: status.cleaning,
            vacant: ledger.vacant.len(),
        };
        let sorted = sort(occupancy, &mut idle);
        // Before the lock is released: who asks for the status sees them idle, or not at all gone.
        for filled in idle {
            drop(filled);
        }
        drop(ledger);
        for object in others {
            drop(self.filled(object));
        }
        sorted
    }

    /// Whether all slots have a connection that is in use, or is being cleaned or proved, as far as can be told without a
    /// lock from there being none idle.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.status_of(&self.ledger())
    }

    /// Since when callers hold connections, and the lines that got them where that is known.
    pub(crate) fn holds(&self) -> Vec<(u64, Option<&'static Location<'static>>)> {
        let all = &self.pool.manager().holds;
        let all = all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let holds = all.iter().map(|hold| hold.read());
        holds.filter(|(since, _)| *since > 0).collect()
    }

    /// Counts the slots that became vacant; whoever subscribes misses none.
    pub(crate) fn vacated(&self) -> watch::Receiver<u64> {
        self.vacated.subscribe()
    }

    /// Changes the limit. Growing adds slots; shrinking shelves vacant ones, now and as they become vacant.
    pub(crate) fn resize(&self, size: usize, overflow: usize) {
        let mut ledger = self.ledger();
        (ledger.size, ledger.overflow) = (size, overflow);
        let limit = ledger.limit();
        loop {
            let order = ledger.slots().cmp(&limit);
            let Ledger {
                vacant, shelved, ..
            } = &mut *ledger;
            let (from, to) = match order {
                cmp::Ordering::Less => (shelved, vacant),
                cmp::Ordering::Equal => break,
                cmp::Ordering::Greater => (vacant, shelved),
            };
            match from.pop() {
                Some(object) => to.push(object),
                None => break,
            }
        }
        // No slot is shelved then.
        if limit > self.pool.status().max_size {
            self.pool.resize(limit);
            self.gather(&mut ledger);
        }
        drop(ledger);
        self.tell_vacated();
    }

    /// Has deadpool make the slots that it may. Those for which callers wait are made by them.
    fn gather(&self, ledger: &mut Ledger<S>) {
        let mut idle = Vec::new();
        while self.pool.status().size < self.pool.status().max_size
            && let Some(object) = self.checkout()
        {
            // Made only once no other is left.
            if object.0.session.is_some() {
                idle.push(object);
            } else {
                ledger.admit(object);
            }
        }
        // In their order.
        while let Some(object) = idle.pop() {
            drop(object);
        }
    }

    /// A checked-out slot as what it is: only a new one is vacant, and goes to the ledger.
    fn filled(&self, object: Object<SlotManager<S>>) -> Option<Filled<S>> {
        if object.0.session.is_some() {
            return Some(Filled { object });
        }
        self.ledger().admit(object);
        self.tell_vacated();
        None
    }

    fn tell_vacated(&self) {
        self.vacated
            .send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Consistent because whatever the ledger counts is checked out of deadpool for as long as the lock is held.
    fn status_of(&self, ledger: &Ledger<S>) -> PoolStatus {
        let deadpool = self.pool.status();
        let idle = deadpool.available;
        let held = ledger.vacant.len().saturating_add(ledger.opening);
        let open = ledger.slots().saturating_sub(held);
        PoolStatus {
            size: ledger.size,
            overflow: ledger.overflow,
            open,
            idle,
            in_use: open.saturating_sub(idle).saturating_sub(ledger.tending),
            cleaning: ledger.tending,
            connecting: ledger.opening,
            waiting: deadpool.waiting,
        }
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn ledger(&self) -> Open<'_, S> {
        Open {
            ledger: self.ledger.lock().unwrap_or_else(PoisonError::into_inner),
            is_full: &self.is_full,
        }
    }
}

/// The ledger while it is looked at, or written in.
struct Open<'a, S: Occupant> {
    ledger: MutexGuard<'a, Ledger<S>>,
    is_full: &'a AtomicBool,
}

impl<S: Occupant> Deref for Open<'_, S> {
    type Target = Ledger<S>;

    #[inline]
    fn deref(&self) -> &Ledger<S> {
        &self.ledger
    }
}

impl<S: Occupant> DerefMut for Open<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Ledger<S> {
        &mut self.ledger
    }
}

impl<S: Occupant> Drop for Open<'_, S> {
    #[inline]
    fn drop(&mut self) {
        let is_full = self.ledger.is_full();
        // Written rarely, as all threads read it.
        if is_full != self.is_full.load(Ordering::Relaxed) {
            self.is_full.store(is_full, Ordering::Relaxed);
        }
    }
}

impl<S: Occupant> fmt::Debug for Slots<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slots").field(&self.status()).finish()
    }
}

/// When a caller came, among all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    number: u64,
    /// It has had a connection, which was of no use.
    pub(crate) was_served: bool,
}

/// The turn of a caller who was passed over, kept for as long as it waits.
struct PassedOver<'a, S: Occupant> {
    slots: &'a Slots<S>,
    turn: u64,
    given: oneshot::Receiver<Filled<S>>,
}

impl<S: Occupant> Drop for PassedOver<'_, S> {
    fn drop(&mut self) {
        let mut ledger = self.slots.ledger();
        ledger.passed_over.remove(&self.turn);
        let rest = ledger.passed_over.len();
        self.slots.passed_over.store(rest, Ordering::Relaxed);
        drop(ledger);
    }
}

/// A slot with a connection, checked out. Dropping it makes the connection idle: the first waiting caller has it.
pub(crate) struct Filled<S: Occupant = Session> {
    object: Object<SlotManager<S>>,
}

impl<S: Occupant> Filled<S> {
    /// A caller holds it from this moment on.
    #[inline]
    pub(crate) fn hold(&self, since: u64, got_at: Option<&'static Location<'static>>) {
        let hold = &self.object.0.hold;
        match got_at {
            None => hold.since.store(since, Ordering::Relaxed),
            Some(line) => hold.begin_at(since, line),
        }
    }

    /// No caller holds it any more; says since when one has.
    #[inline]
    pub(crate) fn let_go(&self) -> u64 {
        let since = &self.object.0.hold.since;
        let held = since.load(Ordering::Relaxed);
        // Nobody else writes while it is checked out: a swap would cost more.
        since.store(0, Ordering::Relaxed);
        held
    }
}

impl<S: Occupant> Deref for Filled<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        match &self.object.0.session {
            Some(session) => session,
            None => unreachable!("a vacant slot is never made a Filled"),
        }
    }
}

impl<S: Occupant> DerefMut for Filled<S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        match &mut self.object.0.session {
            Some(session) => session,
            None => unreachable!("a vacant slot is never made a Filled"),
        }
    }
}

/// A slot being filled. Dropping it makes the slot vacant again.
pub(crate) struct Opening<S: Occupant = Session> {
    object: Option<Object<SlotManager<S>>>,
    slots: Arc<Slots<S>>,
}

impl<S: Occupant> Opening<S> {
    /// Puts the connection in.
    pub(crate) fn fill(mut self, session: S) -> Option<Filled<S>> {
        let mut object = self.object.take()?;
        object.0.session = Some(session);
        let mut ledger = self.slots.ledger();
        ledger.opening = ledger.opening.saturating_sub(1);
        drop(ledger);
        Some(Filled { object })
    }
}

impl<S: Occupant> Drop for Opening<S> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut ledger = self.slots.ledger();
            ledger.opening = ledger.opening.saturating_sub(1);
            ledger.hold_back(object);
            drop(ledger);
            self.slots.tell_vacated();
        }
    }
}

/// A connection in the pool's own hands. Dropping it closes the connection and makes the slot vacant.
pub(crate) struct Tending<S: Occupant = Session> {
    object: Option<Object<SlotManager<S>>>,
    slots: Arc<Slots<S>>,
}

impl<S: Occupant> Tending<S> {
    pub(crate) fn session(&mut self) -> Option<&mut S> {
        self.object.as_mut()?.0.session.as_mut()
    }

    /// Takes the connection out, to close it. The slot stays occupied until this `Tending` is dropped.
    pub(crate) fn take_session(&mut self) -> Option<S> {
        self.object.as_mut()?.0.session.take()
    }

    /// As good as new.
    pub(crate) fn done(mut self) -> Option<Filled<S>> {
        let object = self.object.take_if(|object| object.0.session.is_some())?;
        let mut ledger = self.slots.ledger();
        ledger.tending = ledger.tending.saturating_sub(1);
        drop(ledger);
        Some(Filled { object })
    }
}

impl<S: Occupant> Drop for Tending<S> {
    fn drop(&mut self) {
        if let Some(mut object) = self.object.take() {
            let session = object.0.session.take();
            // Closed before the slot is free; should that panic, the slot is not lost.
            let _vacating = Vacating {
                object: Some(object),
                slots: &self.slots,
            };
            if let Some(session) = session {
                session.sever();
            }
        }
    }
}

/// A slot in the pool's own hands with nothing in it any more. Dropping it makes it vacant.
struct Vacating<'a, S: Occupant> {
    object: Option<Object<SlotManager<S>>>,
    slots: &'a Slots<S>,
}

impl<S: Occupant> Drop for Vacating<'_, S> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut ledger = self.slots.ledger();
            ledger.tending = ledger.tending.saturating_sub(1);
            ledger.hold_back(object);
            drop(ledger);
            self.slots.tell_vacated();
        }
    }
}

/// The accounting as a model: callers who are polled by hand, connections that are stand-ins, and sequences of
/// whatever can happen in any order.
#[cfg(test)]
mod tests {
    use std::{pin::Pin, sync::atomic::AtomicBool, task::Wake};

    use proptest::prelude::*;

    use super::*;

    /// A connection that counts as open until it is dropped.
    struct StandIn {
        open: Arc<AtomicUsize>,
    }

    impl Drop for StandIn {
        fn drop(&mut self) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Occupant for StandIn {
        fn sever(self) {}
    }

    /// What happens; a number chooses one among those it can happen to.
    #[derive(Clone, Debug)]
    enum Step {
        /// A caller asks, and waits if it must.
        Ask,
        /// A caller asks, and does not wait.
        TryTake,
        /// A caller who was woken is polled.
        Run(usize),
        /// A waiting caller is gone, perhaps woken but not polled yet.
        GiveUp(usize),
        Return(usize),
        /// What a caller was given turns out to be dead: it is closed, and the caller asks again, in its old turn.
        AskAgain(usize),
        /// A connection is taken into the pool's own hands, from a caller.
        Tend(usize),
        /// A connection in the pool's own hands is as good as new.
        Done(usize),
        /// A connection in the pool's own hands is closed, and its slot stays occupied for now.
        Close(usize),
        /// A slot in the pool's own hands is let go, with what is in it.
        LetGo(usize),
        /// An opening begins, if there is a vacant slot.
        Open,
        Fill(usize),
        FailToOpen(usize),
        /// The keeper looks at the idle ones, and takes out those whose bit is set.
        Sweep(u8),
        Resize(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let n = 0_usize..8;
        prop_oneof![
            4 => Just(Step::Ask),
            1 => Just(Step::TryTake),
            5 => n.clone().prop_map(Step::Run),
            1 => n.clone().prop_map(Step::GiveUp),
            4 => n.clone().prop_map(Step::Return),
            1 => n.clone().prop_map(Step::AskAgain),
            2 => n.clone().prop_map(Step::Tend),
            2 => n.clone().prop_map(Step::Done),
            1 => n.clone().prop_map(Step::Close),
            2 => n.clone().prop_map(Step::LetGo),
            4 => Just(Step::Open),
            4 => n.clone().prop_map(Step::Fill),
            1 => n.prop_map(Step::FailToOpen),
            1 => any::<u8>().prop_map(Step::Sweep),
            1 => (1_usize..4, 0_usize..4).prop_map(|(size, overflow)| Step::Resize(size, overflow)),
        ]
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Caller {
        number: usize,
        take: Pin<Box<dyn Future<Output = Filled<StandIn>>>>,
        woken: Arc<Woken>,
    }

    impl Caller {
        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    /// Slots, and what is known of them from outside.
    struct World {
        slots: Arc<Slots<StandIn>>,
        size: usize,
        overflow: usize,
        /// The most that may be open or opening: the limit, and what was there when it was made smaller.
        most: usize,
        /// Connections that are not closed.
        open: Arc<AtomicUsize>,
        /// In the order they came.
        waiting: Vec<Caller>,
        /// With the number of the caller, if it has waited.
        held: Vec<(Option<usize>, Filled<StandIn>)>,
        /// With whether the connection is still in it.
        tending: Vec<(Tending<StandIn>, bool)>,
        opening: Vec<Opening<StandIn>>,
        asked: usize,
        /// The limit has been raised: callers may have been passed over.
        has_grown: bool,
        /// A caller has asked again: it was passed over.
        has_asked_again: bool,
        /// The highest limit so far.
        highest: usize,
    }

    impl World {
        fn new(size: usize, overflow: usize) -> Self {
            Self {
                slots: Slots::new(size, overflow),
                size,
                overflow,
                most: size + overflow,
                open: Arc::default(),
                waiting: Vec::new(),
                held: Vec::new(),
                tending: Vec::new(),
                opening: Vec::new(),
                asked: 0,
                has_grown: false,
                has_asked_again: false,
                highest: size + overflow,
            }
        }

        fn happens(&mut self, step: &Step) {
            match *step {
                Step::Ask => self.ask(None),
                Step::AskAgain(n) => {
                    if let Some((number, filled)) = pick(&mut self.held, n) {
                        drop(self.slots.tend(filled));
                        self.has_asked_again = true;
                        self.ask(number);
                    }
                }
                Step::TryTake => {
                    if let Some(filled) = self.slots.try_take() {
                        self.is_served(self.asked);
                        self.held.push((None, filled));
                    }
                }
                Step::Run(n) => {
                    let woken = (0..self.waiting.len()).filter(|at| self.waiting[*at].is_woken());
                    let woken: Vec<_> = woken.collect();
                    if !woken.is_empty() {
                        self.poll(woken[n % woken.len()]);
                    }
                }
                Step::GiveUp(n) => drop(pick(&mut self.waiting, n)),
                Step::Return(n) => drop(pick(&mut self.held, n)),
                Step::Tend(n) => {
                    if let Some((_, filled)) = pick(&mut self.held, n) {
                        self.tending.push((self.slots.tend(filled), true));
                    }
                }
                Step::Done(n) => {
                    if let Some((tending, is_open)) = pick(&mut self.tending, n) {
                        // Without a connection it is not done, and its slot becomes vacant.
                        assert_eq!(tending.done().is_some(), is_open);
                    }
                }
                Step::Close(n) => {
                    let count = self.tending.len().max(1);
                    if let Some((tending, is_open)) = self.tending.get_mut(n % count) {
                        assert_eq!(tending.take_session().is_some(), *is_open);
                        *is_open = false;
                    }
                }
                Step::LetGo(n) => {
                    let tending = pick(&mut self.tending, n);
                    self.is_told_of(tending);
                }
                Step::Open => {
                    let status = self.slots.status();
                    let opening = self.slots.begin_opening(|seen| {
                        assert_eq!(*seen, status);
                        true
                    });
                    self.opening.extend(opening);
                }
                Step::Fill(n) => {
                    if let Some(opening) = pick(&mut self.opening, n) {
                        self.open.fetch_add(1, Ordering::Relaxed);
                        let open = Arc::clone(&self.open);
                        assert!(opening.fill(StandIn { open }).is_some());
                    }
                }
                Step::FailToOpen(n) => {
                    let opening = pick(&mut self.opening, n);
                    self.is_told_of(opening);
                }
                Step::Sweep(taken) => {
                    let status = self.slots.status();
                    // By the permit for a slot that is not made yet it may get hold of one that a caller was woken for.
                    let has_grown = self.has_grown;
                    let taken = self.slots.sweep(|_, idle| {
                        assert!(idle.len() == status.idle || has_grown);
                        let mut out = Vec::new();
                        for n in (0..idle.len()).rev() {
                            if taken & (1 << (n % 8)) != 0 {
                                out.push(idle.remove(n));
                            }
                        }
                        out
                    });
                    for filled in taken {
                        self.tending.push((self.slots.tend(filled), true));
                    }
                }
                Step::Resize(size, overflow) => {
                    self.has_grown |= size + overflow > self.size + self.overflow;
                    self.highest = self.highest.max(size + overflow);
                    (self.size, self.overflow) = (size, overflow);
                    self.slots.resize(size, overflow);
                }
            }
            self.check();
        }

        /// A caller comes to wait; with a number it comes again.
        fn ask(&mut self, number: Option<usize>) {
            let turn = match number {
                Some(number) => Turn {
                    number: number as u64,
                    was_served: true,
                },
                None => self.slots.turn(),
            };
            let slots = Arc::clone(&self.slots);
            let woken = Arc::<Woken>::default();
            woken.0.store(true, Ordering::Relaxed);
            let caller = Caller {
                number: number.unwrap_or(self.asked),
                take: Box::pin(async move { slots.take(turn).await }),
                woken,
            };
            self.asked += usize::from(number.is_none());
            self.waiting.push(caller);
            self.poll(self.waiting.len() - 1);
        }

        fn poll(&mut self, at: usize) {
            let caller = &mut self.waiting[at];
            caller.woken.0.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&caller.woken));
            let polled = caller.take.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(filled) = polled {
                let number = self.waiting.remove(at).number;
                self.is_served(number);
                self.held.push((Some(number), filled));
            }
        }

        /// A slot becomes vacant: who is to fill it is told.
        fn is_told_of<T>(&self, slot: Option<T>) {
            let vacated = self.slots.vacated();
            let is_one = slot.is_some();
            drop(slot);
            assert_eq!(vacated.has_changed().ok(), Some(is_one));
        }

        /// Those who came earlier have theirs as soon as they are polled.
        fn is_served(&self, number: usize) {
            let mut earlier = self.waiting.iter().filter(|caller| caller.number < number);
            assert!(
                earlier.all(Caller::is_woken),
                "a sleeping caller was overtaken"
            );
        }

        fn idle(&self) -> usize {
            let tending = self.tending.iter().filter(|(_, is_open)| *is_open).count();
            self.open.load(Ordering::Relaxed) - self.held.len() - tending
        }

        fn woken(&self) -> usize {
            self.waiting.iter().filter(|c| c.is_woken()).count()
        }

        /// What the slots are to say of themselves. One that lies ready for a caller who has not been polled yet is
        /// in use; so many of those were `given` to a caller who had been passed over, and still counts as waiting.
        fn status(&self, given: usize) -> PoolStatus {
            let (idle, waiting) = (self.idle().saturating_sub(given), self.waiting.len());
            PoolStatus {
                size: self.size,
                overflow: self.overflow,
                open: self.held.len() + self.tending.len() + self.idle(),
                idle: idle.saturating_sub(waiting),
                in_use: self.held.len() + given + idle.min(waiting),
                cleaning: self.tending.len(),
                connecting: self.opening.len(),
                waiting: waiting.saturating_sub(idle),
            }
        }

        fn check(&mut self) {
            let status = self.slots.status();
            let passes_over = self.has_grown || self.has_asked_again;
            let given = if passes_over { self.woken() } else { 0 };
            if !(0..=given).any(|given| self.status(given) == status) {
                assert_eq!(status, self.status(0));
            }
            assert_eq!(status.open, status.idle + status.in_use + status.cleaning);
            let is_full = status.open >= status.limit() && status.connecting == 0;
            assert!(self.slots.is_full() == is_full || self.has_grown && !self.slots.is_full());
            let occupied = status.open + status.connecting;
            self.most = self.most.min(occupied).max(status.limit());
            assert!(occupied <= self.most, "{occupied} of {}", self.most);
            // Who was passed over may have been given one, and lets go of its place in the queue once it is polled.
            let woken = self.woken();
            assert!(
                woken == self.waiting.len() || self.idle() <= woken + given,
                "a caller sleeps beside an idle connection"
            );
        }

        /// Whatever is under way ends well, and every caller is served.
        fn serves_all(&mut self) {
            // Each round makes at least one connection idle, or there is none to wait for.
            for _ in 0..=2 * self.waiting.len() {
                for step in [
                    Step::Return(0),
                    Step::Done(0),
                    Step::Open,
                    Step::Fill(0),
                    Step::Run(0),
                ] {
                    let most = self.most + self.waiting.len();
                    (0..most).for_each(|_| self.happens(&step));
                }
            }
            assert_eq!(self.waiting.len(), 0, "somebody waits for ever");
        }

        /// Everything is given up, and then all of the limit is there to be had.
        fn has_lost_nothing(&mut self) {
            while !(self.waiting.is_empty() && self.held.is_empty()) {
                self.happens(&Step::GiveUp(0));
                self.happens(&Step::Return(0));
            }
            while !(self.tending.is_empty() && self.opening.is_empty()) {
                self.happens(&Step::LetGo(0));
                self.happens(&Step::FailToOpen(0));
            }
            let limit = self.size + self.overflow;
            while self.slots.status().open > limit {
                self.happens(&Step::TryTake);
                self.happens(&Step::Tend(0));
                self.happens(&Step::LetGo(0));
            }
            assert!(self.slots.ledger().passed_over.is_empty());
            assert_eq!(self.slots.passed_over.load(Ordering::Relaxed), 0);
            // Slots come back from the shelf before new ones are made.
            assert!(self.slots.pool.status().max_size <= self.highest);
            // A new slot that was made for a caller who has gone is seen by who looks next.
            self.happens(&Step::Sweep(0));
            for _ in 0..=limit {
                self.happens(&Step::Open);
                self.happens(&Step::Fill(0));
            }
            assert_eq!(self.open.load(Ordering::Relaxed), limit);
            (0..=limit).for_each(|_| self.happens(&Step::TryTake));
            assert_eq!(self.held.len(), limit, "the limit is there to be had");
        }
    }

    fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
        let at = n.checked_rem(from.len())?;
        Some(from.remove(at))
    }

    #[test]
    fn growing_beside_idle_connections_ends() {
        let mut world = World::new(1, 0);
        for step in [Step::Open, Step::Fill(0), Step::Resize(2, 0)] {
            world.happens(&step);
        }
        assert_eq!(world.idle(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn the_accounting_holds_whatever_happens_in_whatever_order(
            size in 1_usize..4, overflow in 0_usize..4,
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let mut world = World::new(size, overflow);
            world.check();
            for step in &steps {
                world.happens(step);
            }
            world.serves_all();
            world.has_lost_nothing();
        }
    }
}
