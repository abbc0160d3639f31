//! The slots: each holds one connection or is vacant, and the limit is how many there are.
//!
//! deadpool's managed pool hands them out. All of them are checked out when the
//! pool is built, and a vacant one never goes back: so deadpool's free permits are exactly the idle connections,
//! and a waiting caller waits in one place, its fair queue. Counts come from where the slots are.

use std::{
    cmp,
    convert::Infallible,
    fmt,
    future::Future,
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
use tokio::sync::watch;

use crate::{schedule::Occupancy, session::Session, status::PoolStatus};

/// Place for one connection. Vacant, it is held back in the ledger; filled, deadpool hands it out.
///
/// One pointer in size: deadpool moves it about with every get and return.
struct Slot(Box<Place>);

struct Place {
    session: Option<Session>,
    hold: Arc<Hold>,
}

/// Since when a caller holds what is in a slot, and the line that got it.
#[derive(Debug, Default)]
struct Hold {
    /// A moment of the connector's, or 0 while no caller holds it.
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

#[derive(Default)]
struct SlotManager {
    /// Of all slots there are.
    holds: Mutex<Vec<Arc<Hold>>>,
}

impl Manager for SlotManager {
    type Type = Slot;
    type Error = Infallible;

    async fn create(&self) -> Result<Slot, Infallible> {
        let hold = Arc::<Hold>::default();
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.push(Arc::clone(&hold));
        drop(holds);
        Ok(Slot(Box::new(Place {
            session: None,
            hold,
        })))
    }

    async fn recycle(&self, _: &mut Slot, _: &Metrics) -> RecycleResult<Infallible> {
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
pub(crate) struct Slots {
    pool: Pool<SlotManager>,
    /// Guards where the slots are that deadpool has not. Taken before deadpool's own lock, and after the connector's.
    ledger: Mutex<Ledger>,
    /// Held by who changes the limit. Taken before the ledger.
    resizing: Mutex<()>,
    /// Counts how often a slot became vacant.
    vacated: watch::Sender<u64>,
}

/// Where the slots are that are neither idle nor with a caller.
struct Ledger {
    size: usize,
    overflow: usize,
    /// May be filled.
    vacant: Vec<Object<SlotManager>>,
    /// Held back for good: the pool was made smaller.
    shelved: Vec<Object<SlotManager>>,
    /// How many `Opening`s there are.
    opening: usize,
    /// How many `Tending`s there are.
    tending: usize,
}

impl Slots {
    pub(crate) fn new(size: usize, overflow: usize) -> Arc<Self> {
        let limit = size.saturating_add(overflow);
        let config = PoolConfig {
            max_size: limit,
            timeouts: WITHOUT_END,
            queue_mode: QueueMode::Lifo,
        };
        let pool = Pool::builder(SlotManager::default()).config(config).build();
        let Ok(pool) = pool else {
            unreachable!("deadpool asks for a runtime only where time-outs are set")
        };
        let slots = Self {
            pool,
            ledger: Mutex::new(Ledger {
                size,
                overflow,
                vacant: Vec::with_capacity(limit),
                shelved: Vec::new(),
                opening: 0,
                tending: 0,
            }),
            resizing: Mutex::default(),
            vacated: watch::Sender::new(0),
        };
        slots.gather();
        Arc::new(slots)
    }

    /// Takes an idle connection, now or never.
    pub(crate) fn try_take(&self) -> Option<Filled> {
        loop {
            if let Some(filled) = self.filled(self.checkout()?) {
                return Some(filled);
            }
        }
    }

    /// A slot from deadpool, now or never.
    fn checkout(&self) -> Option<Object<SlotManager>> {
        // A checkout that neither waits nor does I/O is ready at its first poll.
        let checkout = pin!(self.pool.timeout_get(&AT_ONCE));
        match checkout.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(object)) => Some(object),
            _ => None,
        }
    }

    /// Waits for a connection, first come, first served.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the queue; a connection it was given meanwhile goes to the next.
    pub(crate) async fn take(&self) -> Filled {
        loop {
            match self.pool.timeout_get(&WITHOUT_END).await {
                Ok(object) => {
                    if let Some(filled) = self.filled(object) {
                        return filled;
                    }
                }
                // Never closed: closing is told to waiting callers by the connector.
                Err(PoolError::Closed) => std::future::pending().await,
                Err(_) => unreachable!("nothing else can fail without time-outs and hooks"),
            }
        }
    }

    /// Takes a vacant slot to fill, if `wanted` says so of the pool as it is.
    pub(crate) fn begin_opening(
        self: &Arc<Self>,
        wanted: impl FnOnce(&PoolStatus) -> bool,
    ) -> Option<Opening> {
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
    pub(crate) fn tend(self: &Arc<Self>, filled: Filled) -> Tending {
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
    pub(crate) fn sweep<T>(&self, sort: impl FnOnce(Occupancy, &mut Vec<Filled>) -> T) -> T {
        let ledger = self.ledger();
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
        let _turn = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.ledger();
        (ledger.size, ledger.overflow) = (size, overflow);
        let limit = size.saturating_add(overflow);
        loop {
            let slots = self.pool.status().size.saturating_sub(ledger.shelved.len());
            let (from, to) = {
                let Ledger {
                    vacant, shelved, ..
                } = &mut *ledger;
                match slots.cmp(&limit) {
                    cmp::Ordering::Less => (shelved, vacant),
                    cmp::Ordering::Equal => break,
                    cmp::Ordering::Greater => (vacant, shelved),
                }
            };
            match from.pop() {
                Some(object) => to.push(object),
                None => break,
            }
        }
        let in_deadpool = self.pool.status();
        let missing = limit
            .saturating_add(ledger.shelved.len())
            .saturating_sub(in_deadpool.size);
        drop(ledger);
        if missing > 0 {
            self.pool.resize(
                in_deadpool
                    .max_size
                    .max(in_deadpool.size)
                    .saturating_add(missing),
            );
            self.gather();
        }
        self.tell_vacated();
    }

    /// Collects the vacant slots that deadpool makes while it has fewer than allowed.
    fn gather(&self) {
        while self.pool.status().size < self.pool.status().max_size {
            match self.checkout() {
                Some(object) => drop(self.filled(object)),
                None => return,
            }
        }
    }

    /// A checked-out slot as what it is: vacant ones go to the ledger.
    fn filled(&self, object: Object<SlotManager>) -> Option<Filled> {
        if object.0.session.is_some() {
            return Some(Filled { object });
        }
        self.hold_back(&mut self.ledger(), object);
        self.tell_vacated();
        None
    }

    fn hold_back(&self, ledger: &mut Ledger, object: Object<SlotManager>) {
        let slots = self.pool.status().size.saturating_sub(ledger.shelved.len());
        if slots > ledger.size.saturating_add(ledger.overflow) {
            ledger.shelved.push(object);
        } else {
            ledger.vacant.push(object);
        }
    }

    fn tell_vacated(&self) {
        self.vacated
            .send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Consistent because whatever the ledger counts is checked out of deadpool for as long as the lock is held.
    fn status_of(&self, ledger: &Ledger) -> PoolStatus {
        let deadpool = self.pool.status();
        let slots = deadpool.size.saturating_sub(ledger.shelved.len());
        let idle = deadpool.available;
        let held = ledger.vacant.len().saturating_add(ledger.opening);
        let open = slots.saturating_sub(held);
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
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slots").field(&self.status()).finish()
    }
}

/// A slot with a connection, checked out. Dropping it makes the connection idle: the first waiting caller has it.
pub(crate) struct Filled {
    object: Object<SlotManager>,
}

impl Filled {
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

impl Deref for Filled {
    type Target = Session;

    #[inline]
    fn deref(&self) -> &Session {
        match &self.object.0.session {
            Some(session) => session,
            None => unreachable!("a vacant slot is never made a Filled"),
        }
    }
}

impl DerefMut for Filled {
    #[inline]
    fn deref_mut(&mut self) -> &mut Session {
        match &mut self.object.0.session {
            Some(session) => session,
            None => unreachable!("a vacant slot is never made a Filled"),
        }
    }
}

/// A slot being filled. Dropping it makes the slot vacant again.
pub(crate) struct Opening {
    object: Option<Object<SlotManager>>,
    slots: Arc<Slots>,
}

impl Opening {
    /// Puts the connection in.
    pub(crate) fn fill(mut self, session: Session) -> Option<Filled> {
        let mut object = self.object.take()?;
        object.0.session = Some(session);
        let mut ledger = self.slots.ledger();
        ledger.opening = ledger.opening.saturating_sub(1);
        drop(ledger);
        Some(Filled { object })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut ledger = self.slots.ledger();
            ledger.opening = ledger.opening.saturating_sub(1);
            self.slots.hold_back(&mut ledger, object);
            drop(ledger);
            self.slots.tell_vacated();
        }
    }
}

/// A connection in the pool's own hands. Dropping it closes the connection and makes the slot vacant.
pub(crate) struct Tending {
    object: Option<Object<SlotManager>>,
    slots: Arc<Slots>,
}

impl Tending {
    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        self.object.as_mut()?.0.session.as_mut()
    }

    /// Takes the connection out, to close it. The slot stays occupied until this `Tending` is dropped.
    pub(crate) fn take_session(&mut self) -> Option<Session> {
        self.object.as_mut()?.0.session.take()
    }

    /// As good as new.
    pub(crate) fn done(mut self) -> Option<Filled> {
        let object = self.object.take_if(|object| object.0.session.is_some())?;
        let mut ledger = self.slots.ledger();
        ledger.tending = ledger.tending.saturating_sub(1);
        drop(ledger);
        Some(Filled { object })
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        if let Some(mut object) = self.object.take() {
            if let Some(session) = object.0.session.take() {
                session.sever();
            }
            let mut ledger = self.slots.ledger();
            ledger.tending = ledger.tending.saturating_sub(1);
            self.slots.hold_back(&mut ledger, object);
            drop(ledger);
            self.slots.tell_vacated();
        }
    }
}
