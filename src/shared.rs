//! Names the parts that everything in a pool shares. The logic is in `lifecycle`.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, OnceCell, SetOnce, mpsc, oneshot, watch};

use crate::{
    config::{OnCancel, PoolConfig},
    engine::{
        backoff::Backoff,
        health::{HealthRecord, Liveness, ReadinessState},
        opener::Opener,
        runtime::PoolRuntime,
        schedule::Schedule,
        slots::Slots,
    },
    report::CloseReport,
    session::{Identity, Session, activity::Activities},
    telemetry::{Exporter, Metrics, Queries, SlowGets, UnfollowedUses},
    time::Timestamp,
};

/// What all handles, connections and tasks of a pool share.
///
/// The lock of `state` is taken before those inside `slots`, `activities` and `readiness`. No other
/// lock is taken while one is held. None is held across an await, except that of `abandoned`.
pub(crate) struct Shared {
    pub(crate) config: Arc<PoolConfig>,
    pub(crate) name: String,
    /// It is the pool of a cluster's member, so its server may be read-only.
    pub(crate) is_member: bool,
    pub(crate) slots: Arc<Slots>,
    pub(crate) opener: Opener,
    pub(crate) runtime: PoolRuntime,
    pub(crate) schedule: Schedule,
    pub(crate) activities: Activities,
    pub(crate) liveness: Liveness,
    pub(crate) readiness: ReadinessState,
    pub(crate) metrics: Metrics,
    pub(crate) queries: Queries,
    pub(crate) slow_gets: SlowGets,
    pub(crate) unfollowed_uses: UnfollowedUses,
    state: Mutex<State>,
    /// Set once: the pool is closed, or its last handle was dropped.
    pub(crate) closing: SetOnce<()>,
    /// What `close()` did, once it has ended.
    pub(crate) closed: OnceCell<CloseReport>,
    /// Notified when there may be something for maintenance to do.
    pub(crate) changes: watch::Sender<()>,
    /// Notified when an attempt to open a connection has ended, when the pool closes, and when its
    /// runtime ends. Waiting callers and warm-ups listen.
    pub(crate) attempts: watch::Sender<()>,
    /// How many connections to replace once a replacement is open. Maintenance counts them anew in
    /// each pass; others only raise the count.
    pub(crate) due: AtomicUsize,
    /// How often the pool was refreshed.
    pub(crate) generation: AtomicU64,
    /// Notified at each refresh.
    pub(crate) refreshes: Notify,
    /// A return has to check whether the connection is surplus: `overflow_linger` is 0, or the
    /// limit was changed.
    pub(crate) trims_on_return: AtomicBool,
    /// Only with `OnCancel::Kill`.
    pub(crate) abandoned: Option<AbandonedQueue>,
}

/// The back-off, and what readiness depends on besides the connections.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) backoff: Backoff,
    pub(crate) health: HealthRecord,
}

impl State {
    /// How many connections to keep open: `size`. With a `size` of 0, one as long as it is not
    /// known that connections can be opened.
    pub(crate) fn to_keep(&self, size: usize) -> usize {
        if size == 0 && !self.backoff.last_succeeded() {
            1
        } else {
            size
        }
    }
}

/// Connections that were closed while a statement ran on them, to be killed by one worker.
pub(crate) struct AbandonedQueue {
    pub(crate) sender: mpsc::UnboundedSender<Abandoned>,
    /// Locked by the worker while it runs.
    pub(crate) receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Abandoned>>,
}

impl AbandonedQueue {
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
        }
    }
}

/// A connection whose statement is to be killed on the server.
pub(crate) struct Abandoned {
    /// The server's connection id.
    pub(crate) id: u32,
    pub(crate) identity: Identity,
    pub(crate) since: Timestamp,
    /// Notified when the worker has a connection to send the `KILL` on.
    pub(crate) begun: oneshot::Sender<()>,
    /// Notified when the worker has finished with the statement; dropped if the kill was given up.
    pub(crate) done: oneshot::Sender<()>,
}

impl Shared {
    pub(crate) fn new(config: PoolConfig, exporter: Exporter, is_member: bool) -> Arc<Self> {
        let config = Arc::new(config);
        let name = config.display_name();
        let changes = watch::Sender::new(());
        let attempts = watch::Sender::new(());
        let activities = Activities::new(config.statement_timeout);
        Arc::new(Self {
            slots: Slots::new(config.size, config.overflow, changes.clone()),
            opener: Opener::new(Arc::clone(&config)),
            runtime: PoolRuntime::new(attempts.clone()),
            schedule: Schedule {
                recycle: config.recycle,
                keepalive: config.keepalive,
                overflow_linger: config.overflow_linger,
                statement_timeout: config.statement_timeout,
                leak_after: config.leak_after,
            },
            liveness: Liveness::default(),
            readiness: ReadinessState::new(),
            metrics: Metrics::new(&name, Arc::clone(&activities.cache_counts)),
            activities,
            queries: Queries::new(&config, &name, exporter),
            slow_gets: SlowGets::default(),
            unfollowed_uses: UnfollowedUses::default(),
            state: Mutex::default(),
            closing: SetOnce::new(),
            closed: OnceCell::new(),
            changes,
            attempts,
            due: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            refreshes: Notify::new(),
            trims_on_return: AtomicBool::new(config.overflow_linger.is_zero()),
            abandoned: (config.on_cancel == OnCancel::Kill).then(AbandonedQueue::new),
            is_member,
            name,
            config,
        })
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.initialized()
    }

    /// Awaits `work`; `None` if the pool closes first.
    pub(crate) async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            _ = self.closing.wait() => None,
        }
    }

    pub(crate) fn notify_maintenance(&self) {
        self.changes.send_replace(());
    }

    pub(crate) fn notify_waiters(&self) {
        self.attempts.send_replace(());
    }

    /// Whether the connection's opening began before the last refresh.
    #[inline]
    pub(crate) fn is_outdated(&self, session: &Session) -> bool {
        session.origin.generation < self.generation.load(Ordering::Relaxed)
    }

    /// No code panics while holding this lock, so poisoning can be ignored.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
