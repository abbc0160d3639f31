//! The slots: each holds one connection or is vacant, and the limit is how many there are.
//!
//! deadpool's managed pool hands them out, and no other file knows it. All slots are checked out
//! when the pool is built, and a vacant one never goes back: so deadpool's free permits are exactly
//! the idle connections, and a waiting caller waits in one place, deadpool's fair queue. Counts are
//! derived from where the slots are.

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
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleResult, Timeouts,
};
use tokio::sync::{oneshot, watch};

use crate::{report::PoolStatus, session::Session, time::Timestamp};

use super::schedule::Occupancy;

/// All slots of a pool.
pub(crate) struct Slots<S: Occupant = Session> {
    pool: Pool<SlotManager<S>>,
    /// The slots that deadpool does not have. deadpool's own lock and that of the holds are taken
    /// while this one is held, never the other way round.
    ledger: Mutex<Ledger<S>>,
    /// How many callers have started to wait so far.
    turns: AtomicU64,
    /// Notified when a slot becomes vacant.
    changes: watch::Sender<()>,
}

/// What a slot holds: a [`Session`], or in the tests of this file a stand-in for one.
pub(crate) trait Occupant: Send + 'static {
    /// Closes it now.
    fn sever(self);
}

impl Occupant for Session {
    fn sever(self) {
        Self::sever(self);
    }
}

/// The slots that are neither idle nor held by a caller.
struct Ledger<S: Occupant> {
    size: usize,
    overflow: usize,
    /// The number of slots, shelved ones included. deadpool may have created more for waiting
    /// callers that have not been polled since.
    known: usize,
    /// Slots that may be filled.
    vacant: Vec<Object<SlotManager<S>>>,
    /// Slots out of use, because the limit was lowered.
    shelved: Vec<Object<SlotManager<S>>>,
    /// How many `Opening`s there are.
    opening: usize,
    /// How many `Cleaning`s there are.
    cleaning: usize,
    /// How many of them retire a connection.
    retiring: usize,
    /// How many connections were closed in good order because the pool closes.
    drained: usize,
    /// Waiting callers whose place is earlier than the one they have in deadpool's queue, by turn.
    ahead: BTreeMap<u64, oneshot::Sender<Lease<S>>>,
}

impl<S: Occupant> Ledger<S> {
    /// Slots that count towards the limit.
    fn slots(&self) -> usize {
        self.known.saturating_sub(self.shelved.len())
    }

    fn limit(&self) -> usize {
        self.size.saturating_add(self.overflow)
    }

    /// Keeps a vacant slot, or shelves it if there are too many.
    fn keep_vacant(&mut self, vacant: Object<SlotManager<S>>) {
        if self.slots() > self.limit() {
            self.shelved.push(vacant);
        } else {
            self.vacant.push(vacant);
        }
    }

    /// Adds a slot that deadpool has just created; new slots are vacant.
    fn add(&mut self, new: Object<SlotManager<S>>) {
        self.known = self.known.saturating_add(1);
        self.keep_vacant(new);
    }
}

impl<S: Occupant> Slots<S> {
    pub(crate) fn new(size: usize, overflow: usize, changes: watch::Sender<()>) -> Arc<Self> {
        let limit = size.saturating_add(overflow);
        let config = PoolConfig {
            max_size: limit,
            timeouts: WITHOUT_TIMEOUT,
            queue_mode: QueueMode::Lifo,
        };
        let manager = SlotManager {
            holds: Mutex::default(),
            occupants: PhantomData,
        };
        let Ok(pool) = Pool::builder(manager).config(config).build() else {
            unreachable!("deadpool needs a runtime only for its time-outs, and none is set")
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
                cleaning: 0,
                retiring: 0,
                drained: 0,
                ahead: BTreeMap::new(),
            }),
            turns: AtomicU64::new(0),
            changes,
        };
        slots.collect_new(&mut slots.ledger());
        Arc::new(slots)
    }

    /// Takes an idle connection without waiting.
    pub(crate) fn try_take(&self) -> Option<Lease<S>> {
        loop {
            if let Some(lease) = self.lease(self.checkout()?) {
                return Some(lease);
            }
        }
    }

    /// Assigns a caller the next place in the line.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            number: self.turns.fetch_add(1, Ordering::Relaxed),
            keeps_place: false,
        }
    }

    /// Waits for a connection, strictly in order. A caller that keeps its place is served before
    /// all that came after it.
    ///
    /// If dropped, it leaves the queue; a connection that it was about to get goes to the next
    /// caller.
    pub(crate) async fn take(&self, turn: Turn) -> Lease<S> {
        let mut ahead = turn.keeps_place.then(|| self.wait_ahead(turn.number));
        loop {
            let next = self.pool.timeout_get(&WITHOUT_TIMEOUT);
            let next = match &mut ahead {
                None => next.await,
                Some(Ahead { given, .. }) => tokio::select! {
                    biased;
                    Ok(lease) = given => {
                        // Another caller may have an even earlier place by now.
                        ahead = None;
                        Ok(lease.object)
                    }
                    next = next => next,
                },
            };
            match next {
                Ok(object) => {
                    if let Some(lease) = self.lease(object)
                        && let Some(lease) = self.pass_on(turn.number, lease)
                    {
                        return lease;
                    }
                    // In deadpool's queue this caller would now be behind all others.
                    ahead.get_or_insert_with(|| self.wait_ahead(turn.number));
                }
                // Unreachable: this crate never closes deadpool's pool.
                Err(PoolError::Closed) => std::future::pending().await,
                Err(_) => unreachable!("only time-outs and hooks fail, and there are none"),
            }
        }
    }

    /// Registers a caller that keeps its place after it was handed something useless: a slot that
    /// deadpool has just created, or a connection that turned out to be dead.
    fn wait_ahead(&self, turn: u64) -> Ahead<'_, S> {
        let (give, given) = oneshot::channel();
        self.ledger().ahead.insert(turn, give);
        Ahead {
            slots: self,
            turn,
            given,
        }
    }

    /// Hands the lease to the first caller that keeps a place before this turn. Returns it if there
    /// is no such caller.
    fn pass_on(&self, turn: u64, mut lease: Lease<S>) -> Option<Lease<S>> {
        loop {
            let mut ledger = self.ledger();
            let first = ledger.ahead.first_entry();
            let Some(first) = first.filter(|first| *first.key() < turn) else {
                return Some(lease);
            };
            let give = first.remove();
            drop(ledger);
            match give.send(lease) {
                Ok(()) => return None,
                // It has just given up.
                Err(returned) => lease = returned,
            }
        }
    }

    /// Takes a vacant slot to fill, if `wanted` returns true for the current status.
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

    /// Takes a connection back from its caller, or out of the idle ones, to clean, validate or
    /// close it.
    pub(crate) fn begin_cleaning(self: &Arc<Self>, lease: Lease<S>) -> Cleaning<S> {
        self.begin(lease, false)
    }

    /// Takes a connection back to close it, because it is old.
    pub(crate) fn begin_retiring(self: &Arc<Self>, lease: Lease<S>) -> Cleaning<S> {
        self.begin(lease, true)
    }

    fn begin(self: &Arc<Self>, lease: Lease<S>, is_retiring: bool) -> Cleaning<S> {
        let mut ledger = self.ledger();
        ledger.cleaning = ledger.cleaning.saturating_add(1);
        ledger.retiring = ledger.retiring.saturating_add(usize::from(is_retiring));
        drop(ledger);
        Cleaning {
            object: Some(lease.object),
            slots: Arc::clone(self),
            is_retiring,
            is_drained: false,
        }
    }

    /// Whether a connection is being retired.
    pub(crate) fn is_retiring(&self) -> bool {
        self.ledger().retiring > 0
    }

    /// Takes all idle connections for a moment, the one unused for longest first, and lets `sort`
    /// take out those it wants. The rest go back in their order. Callers that come meanwhile wait
    /// in the same queue.
    pub(crate) fn sweep<T>(&self, sort: impl FnOnce(Occupancy, &mut Vec<Lease<S>>) -> T) -> T {
        let ledger = self.ledger();
        let mut idle = Vec::new();
        let mut new = Vec::new();
        while let Some(object) = self.checkout() {
            if object.0.session.is_some() {
                idle.push(Lease { object });
            } else {
                new.push(object);
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
            retiring: ledger.retiring,
            vacant: ledger.vacant.len(),
        };
        let sorted = sort(occupancy, &mut idle);
        // Released under the lock, so that no status shows them as in use.
        idle.into_iter().for_each(Lease::release);
        drop(ledger);
        for object in new {
            drop(self.lease(object));
        }
        sorted
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.status_of(&self.ledger())
    }

    /// How many connections have been drained, and how many are open. None counts as both.
    pub(crate) fn drained_and_open(&self) -> (usize, usize) {
        let ledger = self.ledger();
        (ledger.drained, self.status_of(&ledger).open)
    }

    /// Since when each caller has held its connection, and the line that got it if it was recorded.
    pub(crate) fn holds(&self) -> Vec<(Timestamp, Option<&'static Location<'static>>)> {
        let holds = self.all_holds();
        let held = holds.iter().filter_map(|hold| {
            let got_at = hold.details().as_ref().map(|details| details.got_at);
            Some((Timestamp::from_nanos(hold.since())?, got_at))
        });
        held.collect()
    }

    /// Connections that callers have held since before `then`; each is returned once.
    pub(crate) fn held_too_long(&self, then: Timestamp) -> Vec<HoldDetails> {
        let holds = self.all_holds();
        holds.iter().filter_map(|hold| hold.report(then)).collect()
    }

    /// Changes the limit. Growing adds slots; shrinking shelves vacant ones, now and as they become
    /// vacant.
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
        // deadpool's own limit only grows. Slots beyond the pool's limit are shelved.
        if limit > self.pool.status().max_size {
            self.pool.resize(limit);
            self.collect_new(&mut ledger);
        }
        drop(ledger);
        self.notify();
    }

    /// Makes deadpool create all slots up to its limit. Waiting callers create those they wait for.
    fn collect_new(&self, ledger: &mut Ledger<S>) {
        let mut idle = Vec::new();
        while self.pool.status().size < self.pool.status().max_size
            && let Some(object) = self.checkout()
        {
            // deadpool creates one only when none is idle.
            if object.0.session.is_some() {
                idle.push(object);
            } else {
                ledger.add(object);
            }
        }
        // Back in their order.
        while let Some(object) = idle.pop() {
            drop(object);
        }
    }

    /// Takes a slot from deadpool without waiting.
    fn checkout(&self) -> Option<Object<SlotManager<S>>> {
        // A checkout that neither waits nor does I/O is ready at its first poll.
        let checkout = pin!(self.pool.timeout_get(&WITHOUT_WAITING));
        match checkout.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(object)) => Some(object),
            _ => None,
        }
    }

    /// Turns a filled slot into a lease. A vacant one has just been created, and goes to the
    /// ledger.
    fn lease(&self, object: Object<SlotManager<S>>) -> Option<Lease<S>> {
        if object.0.session.is_some() {
            return Some(Lease { object });
        }
        self.ledger().add(object);
        self.notify();
        None
    }

    /// Consistent: whatever the ledger counts is checked out of deadpool while its lock is held.
    fn status_of(&self, ledger: &Ledger<S>) -> PoolStatus {
        let deadpool = self.pool.status();
        let idle = deadpool.available;
        let empty = ledger.vacant.len().saturating_add(ledger.opening);
        let open = ledger.slots().saturating_sub(empty);
        PoolStatus {
            size: ledger.size,
            overflow: ledger.overflow,
            open,
            idle,
            in_use: open.saturating_sub(idle).saturating_sub(ledger.cleaning),
            cleaning: ledger.cleaning,
            connecting: ledger.opening,
            waiting: deadpool.waiting,
        }
    }

    fn notify(&self) {
        self.changes.send_replace(());
    }

    fn all_holds(&self) -> Vec<Arc<Hold>> {
        let holds = &self.pool.manager().holds;
        holds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No code panics while holding this lock, so poisoning can be ignored.
    fn ledger(&self) -> MutexGuard<'_, Ledger<S>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Occupant> fmt::Debug for Slots<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slots").field(&self.status()).finish()
    }
}

/// A caller's place in the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    number: u64,
    /// It was handed something useless, and is served before all callers that came after it.
    pub(crate) keeps_place: bool,
}

/// The registration of a caller that keeps its place. Dropping it unregisters the caller.
struct Ahead<'a, S: Occupant> {
    slots: &'a Slots<S>,
    turn: u64,
    given: oneshot::Receiver<Lease<S>>,
}

impl<S: Occupant> Drop for Ahead<'_, S> {
    fn drop(&mut self) {
        self.slots.ledger().ahead.remove(&self.turn);
    }
}

/// A connection checked out of the slots. Dropping it releases it.
pub(crate) struct Lease<S: Occupant = Session> {
    object: Object<SlotManager<S>>,
}

impl<S: Occupant> Lease<S> {
    /// Makes the connection idle, or hands it to the first waiting caller.
    pub(crate) fn release(self) {
        drop(self);
    }

    /// Records that a caller holds the connection from now on.
    #[inline]
    pub(crate) fn hold(&self, since: Timestamp) {
        let hold = &self.object.0.hold;
        hold.since.store(since.nanos(), Ordering::Relaxed);
    }

    /// Like [`hold`](Self::hold), and records which caller it is.
    pub(crate) fn hold_by(&self, details: HoldDetails) {
        let hold = &self.object.0.hold;
        *hold.details() = Some(details);
        self.hold(details.since);
    }

    /// Records that no caller holds the connection any more. Returns since when one has.
    #[inline]
    pub(crate) fn end_hold(&self) -> Option<Timestamp> {
        let since = &self.object.0.hold.since;
        let held = since.load(Ordering::Relaxed);
        // Nobody else writes while it is checked out, and a store is cheaper than a swap.
        since.store(0, Ordering::Relaxed);
        Timestamp::from_nanos(held)
    }

    /// Takes out what [`hold_by`](Self::hold_by) recorded.
    pub(crate) fn take_details(&self) -> Option<HoldDetails> {
        self.object.0.hold.details().take()
    }
}

impl<S: Occupant> Deref for Lease<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        match &self.object.0.session {
            Some(session) => session,
            None => unreachable!("a vacant slot never becomes a lease"),
        }
    }
}

impl<S: Occupant> DerefMut for Lease<S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        match &mut self.object.0.session {
            Some(session) => session,
            None => unreachable!("a vacant slot never becomes a lease"),
        }
    }
}

/// A slot that is being filled. Dropping it makes the slot vacant again.
pub(crate) struct Opening<S: Occupant = Session> {
    object: Option<Object<SlotManager<S>>>,
    slots: Arc<Slots<S>>,
}

impl<S: Occupant> Opening<S> {
    /// Puts the connection in.
    pub(crate) fn fill(mut self, session: S) -> Option<Lease<S>> {
        let mut object = self.object.take()?;
        object.0.session = Some(session);
        let mut ledger = self.slots.ledger();
        ledger.opening = ledger.opening.saturating_sub(1);
        drop(ledger);
        Some(Lease { object })
    }
}

impl<S: Occupant> Drop for Opening<S> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut ledger = self.slots.ledger();
            ledger.opening = ledger.opening.saturating_sub(1);
            ledger.keep_vacant(object);
            drop(ledger);
            self.slots.notify();
        }
    }
}

/// A connection that the pool itself works on. Dropping it closes the connection and makes the slot
/// vacant.
pub(crate) struct Cleaning<S: Occupant = Session> {
    object: Option<Object<SlotManager<S>>>,
    slots: Arc<Slots<S>>,
    is_retiring: bool,
    /// Counts in [`Slots::drained_and_open`] when the slot becomes vacant.
    pub(crate) is_drained: bool,
}

impl<S: Occupant> Cleaning<S> {
    pub(crate) fn session(&mut self) -> Option<&mut S> {
        self.object.as_mut()?.0.session.as_mut()
    }

    /// Takes the connection out, to close it. The slot stays occupied until this is dropped.
    pub(crate) fn take_session(&mut self) -> Option<S> {
        self.object.as_mut()?.0.session.take()
    }

    /// Ends the cleaning: the connection is as good as new. `None` if it was taken out.
    pub(crate) fn finish(mut self) -> Option<Lease<S>> {
        let object = self.object.take_if(|object| object.0.session.is_some())?;
        let mut ledger = self.slots.ledger();
        ledger.cleaning = ledger.cleaning.saturating_sub(1);
        ledger.retiring = ledger
            .retiring
            .saturating_sub(usize::from(self.is_retiring));
        drop(ledger);
        Some(Lease { object })
    }
}

impl<S: Occupant> Drop for Cleaning<S> {
    fn drop(&mut self) {
        if let Some(mut object) = self.object.take() {
            let session = object.0.session.take();
            // The slot becomes vacant after the connection is closed, even if closing panics.
            let _vacate = Vacate {
                object: Some(object),
                slots: &self.slots,
                is_retiring: self.is_retiring,
                is_drained: self.is_drained,
            };
            if let Some(session) = session {
                session.sever();
            }
        }
    }
}

/// Makes an emptied slot vacant when it is dropped.
struct Vacate<'a, S: Occupant> {
    object: Option<Object<SlotManager<S>>>,
    slots: &'a Slots<S>,
    is_retiring: bool,
    is_drained: bool,
}

impl<S: Occupant> Drop for Vacate<'_, S> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut ledger = self.slots.ledger();
            ledger.cleaning = ledger.cleaning.saturating_sub(1);
            ledger.retiring = ledger
                .retiring
                .saturating_sub(usize::from(self.is_retiring));
            ledger.drained = ledger.drained.saturating_add(usize::from(self.is_drained));
            ledger.keep_vacant(object);
            drop(ledger);
            self.slots.notify();
        }
    }
}

/// One pointer in size: deadpool moves it with every get and return.
struct Slot<S>(Box<Place<S>>);

struct Place<S> {
    session: Option<S>,
    hold: Arc<Hold>,
}

/// Who holds the connection in a slot.
#[derive(Debug, Default)]
struct Hold {
    /// Since when, in [`Timestamp::nanos`]; 0 while no caller holds it.
    since: AtomicU64,
    /// Only with `leak_after`. No other lock is taken while this one is held.
    details: Mutex<Option<HoldDetails>>,
}

/// A caller that holds a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldDetails {
    pub(crate) since: Timestamp,
    /// The line that got it.
    pub(crate) got_at: &'static Location<'static>,
    /// The server's connection id.
    pub(crate) connection: u32,
    /// It was logged that the caller has held the connection for too long.
    pub(crate) is_reported: bool,
}

impl Hold {
    fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Returns the caller if it has held the connection since before `then`, and only once.
    fn report(&self, then: Timestamp) -> Option<HoldDetails> {
        let mut details = self.details();
        let too_long = details.as_mut();
        let too_long = too_long.filter(|held| !held.is_reported && held.since <= then);
        let report = too_long.map(|held| {
            held.is_reported = true;
            *held
        });
        drop(details);
        report
    }

    fn details(&self) -> MutexGuard<'_, Option<HoldDetails>> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates vacant slots. deadpool never recycles: connections are validated by the pool itself.
struct SlotManager<S> {
    /// The holds of all slots.
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

const WITHOUT_WAITING: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};
const WITHOUT_TIMEOUT: Timeouts = Timeouts {
    wait: None,
    create: None,
    recycle: None,
};

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
