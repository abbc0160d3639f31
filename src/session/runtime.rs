//! The runtime that drives a connection's socket, seen from callers on any other one.

use std::{
    future::Future,
    panic::catch_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id, RuntimeFlavor},
    sync::watch,
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};

use crate::time::Timestamp;

/// How long a runtime counts as driven after it has run something.
const DRIVEN_FOR: Duration = Duration::from_millis(100);
/// How long a statement may be under way before its runtime is asked for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// The wait for that sign, divided into steps: when a process that was stopped for a while goes on,
/// one step has expired, not the whole wait.
const STEP: Duration = Duration::from_millis(500);
const STEPS: u32 = 8;

/// The runtime that the sockets of connections live on, with the tasks that work on them.
///
/// Callers on other runtimes use these sockets as long as this runtime is driven. The threads of a
/// multi-threaded one drive it until it ends. A single-threaded one is driven only while something
/// is in its `block_on`.
#[derive(Debug)]
pub(crate) struct SocketRuntime {
    handle: Handle,
    /// Set when its tasks are dropped, before its sockets fail.
    has_ended: AtomicBool,
    /// Whether its only thread is the one that calls its `block_on`.
    is_single_threaded: bool,
    /// When it last ran the task of [`ask`](Self::ask). Notified too when it ends.
    runs: watch::Sender<Option<Timestamp>>,
    /// Whether the task of [`ask`](Self::ask) was spawned and has not run yet.
    is_asked: AtomicBool,
}

impl SocketRuntime {
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            is_single_threaded: handle.runtime_flavor() == RuntimeFlavor::CurrentThread,
            handle,
            has_ended: AtomicBool::new(false),
            runs: watch::Sender::new(None),
            is_asked: AtomicBool::new(false),
        }
    }

    /// The current runtime, as if connections lived on it.
    #[cfg(test)]
    pub(crate) fn current() -> Arc<Self> {
        Arc::new(Self::new(Handle::current()))
    }

    #[inline]
    pub(crate) fn id(&self) -> Id {
        self.handle.id()
    }

    /// Spawns a task on it. If it has ended, the task is dropped at once.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(task)
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Records that it has ended, and wakes tasks that wait for a sign of life.
    pub(crate) fn record_end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.runs.send_replace(None);
    }

    /// Whether it may stop being driven while the current code runs: it has no threads of its own,
    /// and this is not one of its tasks.
    pub(crate) fn may_stop(&self) -> bool {
        self.is_single_threaded && Handle::try_current().is_ok_and(|here| here.id() != self.id())
    }

    /// Whether it is driven, as far as that is known without waiting. `here` is the current
    /// runtime.
    pub(crate) fn is_driven(&self, here: Id, now: Timestamp) -> bool {
        !self.is_single_threaded
            || here == self.id()
            || self
                .runs
                .borrow()
                .is_some_and(|at| now.since(at) < DRIVEN_FOR)
    }

    /// Asks for a sign of life.
    pub(crate) fn ask(self: &Arc<Self>) -> SignOfLife {
        let mut runs = self.runs.subscribe();
        // Set before the task is spawned, and cleared before the task notifies. So if it is already
        // set, the task that was spawned earlier notifies after this subscription.
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            let this = Arc::clone(self);
            drop(self.spawn(async move {
                this.is_asked.store(false, Ordering::Release);
                this.runs.send_replace(Some(Timestamp::now()));
            }));
        }
        if self.has_ended() {
            runs.mark_changed();
        }
        SignOfLife { runs }
    }

    /// Waits, by timers of the current runtime, until it has run nothing for so long that it is
    /// most likely not driven.
    async fn until_silent(self: Arc<Self>, first: Sleep) {
        first.await;
        loop {
            let mut sign_of_life = self.ask();
            let mut is_silent = true;
            for _ in 0..STEPS {
                is_silent = timeout(STEP, sign_of_life.came()).await.is_err();
                if !is_silent {
                    break;
                }
            }
            if is_silent {
                return;
            }
            sleep(ASK_AFTER).await;
        }
    }
}

/// Shows whether a runtime has run something, or ended, since it was asked.
#[derive(Debug)]
pub(crate) struct SignOfLife {
    runs: watch::Receiver<Option<Timestamp>>,
}

impl SignOfLife {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.runs.has_changed(), Ok(false))
    }

    /// Waits for it.
    pub(crate) async fn came(&mut self) {
        // An error means that the runtime is gone with all that refers to it.
        drop(self.runs.changed().await);
        self.runs.mark_changed();
    }
}

/// Notices that the runtime of a statement's socket is not driven, while the statement is under way
/// on another one.
#[derive(Default)]
pub(crate) enum Silence {
    /// The statement has not had to wait.
    #[default]
    Unwatched,
    /// The socket's runtime has threads of its own, or the statement waits on that runtime, or on
    /// one without timers.
    Impossible,
    Watched(Pin<Box<dyn Future<Output = ()> + Send + Sync>>),
}

impl Silence {
    /// Ready once the runtime has been silent for too long.
    pub(crate) fn poll(&mut self, runtime: &Arc<SocketRuntime>, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Unwatched = self {
            let first = runtime.may_stop().then(|| timer(ASK_AFTER)).flatten();
            *self = first.map_or(Self::Impossible, |first| {
                Self::Watched(Box::pin(Arc::clone(runtime).until_silent(first)))
            });
        }
        match self {
            Self::Unwatched | Self::Impossible => Poll::Pending,
            Self::Watched(silent) => silent.as_mut().poll(cx),
        }
    }
}

/// A timer of the current runtime; `None` if that has none. tokio offers no way to ask: it panics.
pub(crate) fn timer(after: Duration) -> Option<Sleep> {
    catch_unwind(|| sleep(after)).ok()
}
