//! The accounting of a whole pool as a model: any sequence of events, against an in-process server.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use mysql_warm_pool::{Error, Pool, PooledConn};
use proptest::prelude::*;
use test_support::{Elsewhere, PATIENCE, Speaker, config, eventually, pool};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinHandle,
};

/// The shortest valid value.
const RECYCLE: Duration = Duration::from_secs(1);

/// One event. A number selects one of the callers or connections it can apply to.
#[derive(Clone, Debug)]
enum Step {
    Ask,
    TryGet,
    GiveUp(usize),
    Return(usize),
    /// A caller queries the server and gets its answer.
    Query(usize),
    /// A caller is cancelled in the middle of a query, and returns the connection.
    Cancel(usize),
    Discard(usize),
    Detach(usize),
    /// The server closes a connection, in use or not.
    Break(usize),
    /// Whether the server refuses connections.
    Refuse(bool),
    Resize(usize, usize),
    Refresh,
    /// The runtime runs other tasks for a while.
    Pass(u8),
    /// Connections age; a few of these steps bring them to their maximum age.
    Age,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0_usize..8;
    prop_oneof![
        8 => Just(Step::Ask),
        1 => Just(Step::TryGet),
        2 => n.clone().prop_map(Step::GiveUp),
        6 => n.clone().prop_map(Step::Return),
        4 => n.clone().prop_map(Step::Query),
        2 => n.clone().prop_map(Step::Cancel),
        1 => n.clone().prop_map(Step::Discard),
        1 => n.clone().prop_map(Step::Detach),
        2 => n.prop_map(Step::Break),
        1 => any::<bool>().prop_map(Step::Refuse),
        2 => limit(3).prop_map(|(size, overflow)| Step::Resize(size, overflow)),
        1 => Just(Step::Refresh),
        8 => (0_u8..60).prop_map(Step::Pass),
    ]
}

/// The steps, possibly with a close before the last of them.
fn steps(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Vec<Step>> {
    let steps = proptest::collection::vec(step, 0..40);
    (steps, proptest::option::weighted(0.3, 0_usize..12)).prop_map(|(mut steps, close)| {
        if let Some(before_the_end) = close {
            let at = steps.len().saturating_sub(before_the_end);
            steps.insert(at, Step::Close);
        }
        steps
    })
}

/// Callers that hold a connection, by number.
type Served = Arc<Mutex<Vec<(usize, PooledConn)>>>;
/// The waiting callers, by number, and how many later callers were served before each.
type Overtaken = Arc<Mutex<BTreeMap<usize, usize>>>;

struct World {
    /// Where callers run; if empty, on the pool's runtime.
    runtimes: &'static [Elsewhere],
    server: Speaker,
    pool: Pool,
    /// The highest limit so far.
    highest: usize,
    /// The most connections that may be open or opening: the limit, and those left over from before
    /// it shrank.
    most: usize,
    /// In order of arrival.
    waiting: Vec<(usize, JoinHandle<()>)>,
    given_up: Vec<JoinHandle<()>>,
    served: Served,
    overtaken: Overtaken,
    asked: usize,
    closing: Option<JoinHandle<()>>,
}

impl World {
    async fn happens(&mut self, step: &Step) {
        match *step {
            Step::Ask => {
                let (pool, served, number) = (self.pool.clone(), self.served.clone(), self.asked);
                let overtaken = Arc::clone(&self.overtaken);
                self.asked += 1;
                overtaken.lock().expect("no panic").insert(number, 0);
                let asking = self.runtime(number).spawn(async move {
                    match pool.get().await {
                        Ok(conn) => {
                            overtakes(&overtaken, number);
                            served.lock().expect("no panic").push((number, conn));
                        }
                        Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
                    }
                });
                self.waiting.push((number, asking));
            }
            Step::TryGet => {
                let got = self.pool.try_get().map(|conn| (self.asked, conn));
                self.asked += 1;
                self.served.lock().expect("no panic").extend(got);
            }
            Step::GiveUp(n) => {
                if let Some(at) = n.checked_rem(self.waiting.len()) {
                    let (number, asking) = self.waiting.remove(at);
                    asking.abort();
                    self.given_up.push(asking);
                    self.overtaken.lock().expect("no panic").remove(&number);
                }
            }
            Step::Return(n) => {
                if let Some((_, conn)) = self.pick(n) {
                    self.run(n, async move { drop(conn) }).await;
                }
            }
            Step::Query(n) => {
                if let Some((number, mut conn)) = self.pick(n) {
                    let query = async move {
                        let question = format!("SELECT {number}");
                        // The server may have closed the connection.
                        if let Ok(answer) = conn.query_first::<usize, _>(question).await {
                            assert_eq!(answer, Some(number));
                        }
                        conn
                    };
                    let conn = self.run(n, query).await;
                    let mut served = self.served.lock().expect("no panic");
                    served.push((number, conn));
                }
            }
            Step::Cancel(n) => {
                if let Some((_, mut conn)) = self.pick(n) {
                    let cancel = async move {
                        let hanging = conn.query_drop("HANG");
                        tokio::select! {
                            biased;
                            _ = hanging => {}
                            () = tokio::task::yield_now() => {}
                        }
                    };
                    self.run(n, cancel).await;
                }
            }
            Step::Discard(n) => {
                if let Some((_, conn)) = self.pick(n) {
                    PooledConn::discard(conn);
                }
            }
            Step::Detach(n) => {
                if let Some((_, conn)) = self.pick(n) {
                    drop(PooledConn::detach(conn));
                }
            }
            Step::Break(n) => self.server.cut(n),
            Step::Refuse(refuses) => self.server.refuse(refuses),
            Step::Resize(size, overflow) => match self.pool.resize(size, overflow) {
                Ok(()) => self.highest = self.highest.max(size + overflow),
                Err(error) => assert!(self.closing.is_some(), "{error}"),
            },
            Step::Refresh => self.pool.refresh(),
            Step::Pass(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                    self.check();
                }
            }
            Step::Age => tokio::time::sleep(RECYCLE / 4).await,
            Step::Close => {
                let pool = self.pool.clone();
                self.closing = Some(tokio::spawn(async move { _ = pool.close().await }));
            }
        }
        self.check();
    }

    /// Where the caller with this number runs.
    fn runtime(&self, number: usize) -> Handle {
        let at = number.checked_rem(self.runtimes.len());
        at.map_or_else(Handle::current, |at| self.runtimes[at].handle().clone())
    }

    async fn run<T: Send + 'static>(
        &self,
        number: usize,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        if self.runtimes.is_empty() {
            work.await
        } else {
            self.runtime(number).spawn(work).await.expect("no panic")
        }
    }

    fn pick(&self, n: usize) -> Option<(usize, PooledConn)> {
        let mut served = self.served.lock().expect("no panic");
        let at = n.checked_rem(served.len())?;
        Some(served.remove(at))
    }

    fn check(&mut self) {
        for (_, asking) in self
            .waiting
            .extract_if(.., |(_, asking)| asking.is_finished())
        {
            let ended = asking.now_or_never().expect("it is finished");
            ended.expect("a connection, or `Error::Closed`");
        }
        // Callers elsewhere may be served meanwhile, but only this thread takes from them.
        let held = self.served.lock().expect("no panic").len();
        let status = self.pool.status();
        assert_eq!(status.open, status.idle + status.in_use + status.cleaning);
        let occupied = status.open + status.connecting;
        self.most = self.most.min(occupied).max(status.limit());
        assert!(occupied <= self.most, "{status}");
        assert!(status.in_use >= held, "{held} are held, but {status}");
        if !self.runtimes.is_empty() {
            // There a caller may be served long before it notices.
            return;
        }
        // Only callers that already had a connection on its way may overtake a waiting one.
        let overtaken = self.overtaken.lock().expect("no panic").clone();
        let most = overtaken.values().max().copied().unwrap_or_default();
        assert!(
            most <= self.highest,
            "one was overtaken {most} times: {overtaken:?}"
        );
    }

    /// Checks that everything under way ends, and that all waiting callers get a connection in
    /// time.
    async fn serves_all(&mut self) {
        self.server.refuse(false);
        for given_up in self.given_up.drain(..) {
            // It may have been served just before.
            drop(given_up.await);
        }
        let (pool, server, highest) = (self.pool.clone(), &self.server, self.highest);
        let (waiting, served) = (&self.waiting, &self.served);
        let is_over = || waiting.iter().all(|(_, asking)| asking.is_finished());
        eventually(
            "enough connections open for the waiting callers",
            async || is_over() || pool.status().open >= pool.status().limit(),
        )
        .await;
        eventually("all are served", async || {
            served.lock().expect("no panic").clear();
            is_over()
        })
        .await;
        served.lock().expect("no panic").clear();
        eventually("the server sees no more than the limit", async || {
            server.open() <= highest
        })
        .await;
        let limit = pool.status().limit();
        let all = (0..limit).map(|_| pool.get_within(PATIENCE));
        let all = futures_util::future::join_all(all).await;
        let all: Result<Vec<_>, _> = all.into_iter().collect();
        let all = all.expect("the whole limit can be obtained");
        eventually("no more than the limit", async || {
            server.open() <= limit && pool.status().open == limit
        })
        .await;
        assert!(pool.try_get().is_none());
        drop(all);
    }

    async fn ends(self) {
        let Self {
            server,
            pool,
            waiting,
            served,
            closing,
            given_up,
            ..
        } = self;
        for given_up in given_up {
            drop(given_up.await);
        }
        let closing = closing.unwrap_or_else(|| {
            let pool = pool.clone();
            tokio::spawn(async move { _ = pool.close().await })
        });
        eventually("all end", async || {
            // Some callers were served just before.
            served.lock().expect("no panic").clear();
            closing.is_finished() && waiting.iter().all(|(_, asking)| asking.is_finished())
        })
        .await;
        closing.await.expect("no panic");
        for (_, asking) in waiting {
            asking.await.expect("a connection, or `Error::Closed`");
        }
        served.lock().expect("no panic").clear();
        eventually("nothing is left", async || {
            server.open() == 0 && pool.status().open == 0 && pool.status().connecting == 0
        })
        .await;
    }
}

/// Counts the caller as served: it overtakes every earlier caller that still waits.
fn overtakes(overtaken: &Overtaken, number: usize) {
    let mut overtaken = overtaken.lock().expect("no panic");
    overtaken.remove(&number);
    for times in overtaken.range_mut(..number).map(|(_, times)| times) {
        *times += 1;
    }
}

/// The pool's settings.
#[derive(Clone, Copy, Debug)]
struct Settings {
    size: usize,
    overflow: usize,
    validates: bool,
    lingers: bool,
    ages: bool,
}

fn runs(settings: Settings, steps: &[Step], runtimes: &'static [Elsewhere]) {
    let Settings { size, overflow, .. } = settings;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let server = Speaker::start().await;
        let pool = pool(
            config(&server.url())
                .size(size)
                .overflow(overflow)
                .recycle(settings.ages.then_some(RECYCLE))
                .overflow_linger(Duration::from_millis(if settings.lingers { 5 } else { 0 }))
                .validate_after_idle(Duration::from_millis(if settings.validates {
                    0
                } else {
                    1000
                })),
        );
        // The pool lives here.
        assert!(pool.try_get().is_none());
        let mut world = World {
            runtimes,
            server,
            pool,
            highest: size + overflow,
            most: size + overflow,
            waiting: Vec::new(),
            given_up: Vec::new(),
            served: Served::default(),
            overtaken: Overtaken::default(),
            asked: 0,
            closing: None,
        };
        for step in steps {
            world.happens(step).await;
        }
        if world.closing.is_none() {
            world.serves_all().await;
        }
        world.ends().await;
        eventually("only the server's own task is left", async || {
            Handle::current().metrics().num_alive_tasks() == 1
        })
        .await;
    });
}

fn settings(ages: bool) -> impl Strategy<Value = Settings> {
    let flags = (any::<bool>(), any::<bool>());
    (limit(2), flags).prop_map(move |((size, overflow), (validates, lingers))| Settings {
        size,
        overflow,
        validates,
        lingers,
        ages,
    })
}

/// A size of at most 3 and an overflow of at most `most`, not both 0.
fn limit(most: usize) -> impl Strategy<Value = (usize, usize)> {
    (0_usize..4, 0..=most).prop_map(|(size, overflow)| (size, overflow.max(usize::from(size == 0))))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn counts_add_up_whatever_happens_in_whatever_order(
        settings in settings(false), steps in steps(step()),
    ) {
        runs(settings, &steps, &[]);
    }
}

proptest! {
    // Here the order also depends on the threads, so a failure may not come again.
    #![proptest_config(ProptestConfig {
        cases: 200,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn counts_add_up_with_callers_on_four_other_runtimes(
        settings in settings(false), steps in steps(step()),
    ) {
        static RUNTIMES: LazyLock<[Elsewhere; 4]> =
            LazyLock::new(|| [(); 4].map(|()| Elsewhere::start()));
        runs(settings, &steps, &*RUNTIMES);
    }
}

proptest! {
    // These cases take real time.
    #![proptest_config(ProptestConfig {
        cases: 8,
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    })]

    #[test]
    fn counts_add_up_while_connections_reach_their_maximum_age(
        settings in settings(true), steps in steps(prop_oneof![5 => step(), 1 => Just(Step::Age)]),
    ) {
        runs(settings, &steps, &[]);
    }
}
