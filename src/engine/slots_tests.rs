//! Property tests of the slots' accounting: callers are polled by hand, stand-ins replace
//! connections, and events come in random order.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicUsize},
    task::Wake,
};

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

/// An event. A number chooses one among the objects it can happen to.
#[derive(Clone, Debug)]
enum Step {
    /// A caller gets a connection, or waits.
    Ask,
    /// A caller tries to get one without waiting.
    TryTake,
    /// A woken caller is polled.
    Run(usize),
    /// A waiting caller is dropped, perhaps woken and not polled yet.
    GiveUp(usize),
    Return(usize),
    /// The connection that a caller was handed turns out to be dead: it is closed, and the caller
    /// waits again in its old turn.
    AskAgain(usize),
    /// Cleaning begins on a connection that a caller returned.
    Clean(usize),
    /// Cleaning is finished.
    Done(usize),
    /// A connection being cleaned is closed, and its slot stays occupied for now.
    Close(usize),
    /// The `Cleaning` is dropped, with what is in it.
    LetGo(usize),
    /// An opening begins, if there is a vacant slot.
    Open,
    Fill(usize),
    FailToOpen(usize),
    /// Maintenance looks at the idle ones, and takes out those whose bit is set.
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
        2 => n.clone().prop_map(Step::Clean),
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
    take: Pin<Box<dyn Future<Output = Lease<StandIn>>>>,
    woken: Arc<Woken>,
}

impl Caller {
    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }
}

/// Slots, and what is known about them from outside.
struct World {
    slots: Arc<Slots<StandIn>>,
    size: usize,
    overflow: usize,
    /// The most that may be open or opening: the limit, or what existed when it was lowered.
    most: usize,
    /// Connections that are not closed.
    open: Arc<AtomicUsize>,
    /// In the order they came.
    waiting: Vec<Caller>,
    /// With the number of the caller, if it has waited.
    held: Vec<(Option<usize>, Lease<StandIn>)>,
    /// With whether the connection is still in it.
    cleaning: Vec<(Cleaning<StandIn>, bool)>,
    opening: Vec<Opening<StandIn>>,
    asked: usize,
    /// The limit was raised: callers may have been handed new, empty slots.
    has_grown: bool,
    /// A caller has waited again after it was handed a dead connection.
    has_asked_again: bool,
    /// The highest limit so far.
    highest: usize,
}

impl World {
    fn new(size: usize, overflow: usize) -> Self {
        Self {
            slots: Slots::new(size, overflow, watch::Sender::new(())),
            size,
            overflow,
            most: size + overflow,
            open: Arc::default(),
            waiting: Vec::new(),
            held: Vec::new(),
            cleaning: Vec::new(),
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
                if let Some((number, lease)) = pick(&mut self.held, n) {
                    drop(self.slots.begin_cleaning(lease));
                    self.has_asked_again = true;
                    self.ask(number);
                }
            }
            Step::TryTake => {
                if let Some(lease) = self.slots.try_take() {
                    self.is_served(self.asked);
                    self.held.push((None, lease));
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
            Step::Clean(n) => {
                if let Some((_, lease)) = pick(&mut self.held, n) {
                    self.cleaning.push((self.slots.begin_cleaning(lease), true));
                }
            }
            Step::Done(n) => {
                if let Some((cleaning, is_open)) = pick(&mut self.cleaning, n) {
                    // Without a connection it is not done, and its slot becomes vacant.
                    assert_eq!(cleaning.finish().is_some(), is_open);
                }
            }
            Step::Close(n) => {
                let count = self.cleaning.len().max(1);
                if let Some((cleaning, is_open)) = self.cleaning.get_mut(n % count) {
                    assert_eq!(cleaning.take_session().is_some(), *is_open);
                    *is_open = false;
                }
            }
            Step::LetGo(n) => {
                let cleaning = pick(&mut self.cleaning, n);
                self.is_notified(cleaning);
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
                self.is_notified(opening);
            }
            Step::Sweep(taken) => {
                let status = self.slots.status();
                // With the permit of a slot that does not exist yet, it may get a connection that a
                // caller was woken for.
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
                for lease in taken {
                    self.cleaning.push((self.slots.begin_cleaning(lease), true));
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

    /// A caller begins to wait; with a number, it waits again.
    fn ask(&mut self, number: Option<usize>) {
        let turn = match number {
            Some(number) => Turn {
                number: number as u64,
                keeps_place: true,
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
        if let Poll::Ready(lease) = polled {
            let number = self.waiting.remove(at).number;
            self.is_served(number);
            self.held.push((Some(number), lease));
        }
    }

    /// A slot becomes vacant, which notifies maintenance.
    fn is_notified<T>(&self, slot: Option<T>) {
        let vacated = self.slots.changes.subscribe();
        let is_one = slot.is_some();
        drop(slot);
        assert_eq!(vacated.has_changed().ok(), Some(is_one));
    }

    /// All callers that came earlier are woken, and served as soon as they are polled.
    fn is_served(&self, number: usize) {
        let mut earlier = self.waiting.iter().filter(|caller| caller.number < number);
        assert!(
            earlier.all(Caller::is_woken),
            "a sleeping caller was overtaken"
        );
    }

    fn idle(&self) -> usize {
        let cleaning = self.cleaning.iter().filter(|(_, is_open)| *is_open).count();
        self.open.load(Ordering::Relaxed) - self.held.len() - cleaning
    }

    fn woken(&self) -> usize {
        self.waiting.iter().filter(|c| c.is_woken()).count()
    }

    /// The status that the slots must have. A connection that is ready for a caller that has not
    /// been polled yet is in use; `given` of those went to callers that kept their place and still
    /// count as waiting.
    fn status(&self, given: usize) -> PoolStatus {
        let (idle, waiting) = (self.idle().saturating_sub(given), self.waiting.len());
        PoolStatus {
            size: self.size,
            overflow: self.overflow,
            open: self.held.len() + self.cleaning.len() + self.idle(),
            idle: idle.saturating_sub(waiting),
            in_use: self.held.len() + given + idle.min(waiting),
            cleaning: self.cleaning.len(),
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
        let occupied = status.open + status.connecting;
        self.most = self.most.min(occupied).max(status.limit());
        assert!(occupied <= self.most, "{occupied} of {}", self.most);
        // A caller that keeps its place may have been given one, and leaves the queue when polled.
        let woken = self.woken();
        assert!(
            woken == self.waiting.len() || self.idle() <= woken + given,
            "a caller sleeps beside an idle connection"
        );
    }

    /// Whatever is under way succeeds, and every caller is served.
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
        assert_eq!(self.waiting.len(), 0, "a caller waits for ever");
    }

    /// Everything is given up, and then all of the limit can be taken.
    fn has_lost_nothing(&mut self) {
        while !(self.waiting.is_empty() && self.held.is_empty()) {
            self.happens(&Step::GiveUp(0));
            self.happens(&Step::Return(0));
        }
        while !(self.cleaning.is_empty() && self.opening.is_empty()) {
            self.happens(&Step::LetGo(0));
            self.happens(&Step::FailToOpen(0));
        }
        let limit = self.size + self.overflow;
        while self.slots.status().open > limit {
            self.happens(&Step::TryTake);
            self.happens(&Step::Clean(0));
            self.happens(&Step::LetGo(0));
        }
        assert!(self.slots.ledger().ahead.is_empty());
        // Slots come back from the shelf before new ones are made.
        assert!(self.slots.pool.status().max_size <= self.highest);
        // A new slot created for a caller that has gone is found by the next checkout.
        self.happens(&Step::Sweep(0));
        for _ in 0..=limit {
            self.happens(&Step::Open);
            self.happens(&Step::Fill(0));
        }
        assert_eq!(self.open.load(Ordering::Relaxed), limit);
        (0..=limit).for_each(|_| self.happens(&Step::TryTake));
        assert_eq!(self.held.len(), limit, "the limit can be taken");
    }
}

fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
    let at = n.checked_rem(from.len())?;
    Some(from.remove(at))
}

#[test]
fn growing_beside_idle_connections_terminates() {
    let mut world = World::new(1, 0);
    for step in [Step::Open, Step::Fill(0), Step::Resize(2, 0)] {
        world.happens(&step);
    }
    assert_eq!(world.idle(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn counts_add_up_whatever_happens_in_whatever_order(
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
