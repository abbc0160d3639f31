//! Several servers, one handle: a primary with replicas, Galera, Group Replication, Aurora.
//!
//! A [`Cluster`] has a [`Pool`] for each server, and keeps asking each of them whether it takes
//! writes and how far it is behind. [`writer()`](Cluster::writer) returns a connection to the
//! server that takes writes now, [`reader()`](Cluster::reader) one to a replica.
//!
//! ```no_run
//! use mysql_warm_pool::{
//!     cluster::{Cluster, ClusterConfig},
//!     mysql_async::prelude::*,
//! };
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "mysql://app:secret@db1,db2:3307,db3/shop?size=10";
//! let cluster = Cluster::new(ClusterConfig::from_url(url)?)?; // no I/O, needs no runtime
//! println!("{}", cluster.warm_up().await?);
//! let mut conn = cluster.writer().await?;
//! conn.exec_drop("UPDATE item SET stock = stock - 1 WHERE id = ?", (7,)).await?;
//! let mut conn = cluster.reader().await?;
//! let names: Vec<String> = conn.query("SELECT name FROM item").await?;
//! # drop(names);
//! # Ok(())
//! # }
//! ```
//!
//! The guide to [clusters](crate::guide::cluster) covers each topology, the privileges that the
//! account needs, what to do when a write fails, and what a client cannot know.

mod ask;
mod config;
mod decide;
#[cfg(feature = "metrics")]
mod export;
mod hosts;
mod monitor;
mod state;
mod transaction;

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

pub use self::config::{ClusterConfig, Reads};
use self::{
    decide::Writer,
    state::{Server, Shared, View},
};
pub use crate::report::{ClusterHealth, ClusterReport, ClusterWarning, Member, MemberReport, Role};
use crate::{
    connection::PooledConn,
    error::{ConnectError, Error},
    pool::Pool,
    report::{CloseReport, Readiness, ReadinessWatch, WarmUpReport},
};

/// A reader that has waited this long for the least loaded replica waits for the next one beside
/// it.
const PATIENCE: Duration = Duration::from_millis(10);

/// Pools of warm connections to the members of a database cluster. Knows which member takes writes.
/// Cheap to clone: all clones share the same connections.
///
/// It uses the runtime on which it was first used, as a [`Pool`] does.
///
/// # Who takes writes
///
/// The servers' answers decide, not the configuration; see [`Role`].
///
/// - **A primary with replicas**, a single server, Aurora: the one that is not read-only. If
///   several are not, [`writer()`](Self::writer) fails until one is left.
/// - **Galera, a multi-primary group**: one member at a time, at first the first of
///   [`members`](field@ClusterConfig::members), then the same one until it fails.
/// - **Group Replication** with a single primary: the primary that most members see.
///
/// If the writer does not answer and no other member takes writes, callers go on waiting for it.
///
/// # Dropping
///
/// When the last clone is dropped, its tasks end and its pools are dropped.
/// [`close`](Self::close) does the same and waits for it.
#[derive(Clone)]
pub struct Cluster {
    handle: Arc<LastHandle>,
}

/// Dropped with the last clone. The monitors hold `shared` too, so it may live longer.
struct LastHandle {
    shared: Arc<Shared>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Cluster {
    /// Creates a cluster. Does no I/O and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with every fault of the cluster's settings, or else of the first member
    /// whose settings have faults.
    pub fn new(config: ClusterConfig) -> Result<Self, Error> {
        let shared = Shared::new(config)?;
        #[cfg(feature = "metrics")]
        export::begin(&shared.name);
        Ok(Self {
            handle: Arc::new(LastHandle { shared }),
        })
    }

    /// Warms up the pool of each member, and finds out the members' roles.
    ///
    /// It returns once a member takes writes and its pool is warm, and every other member is warm,
    /// unreachable or unusable. The pools of the latter are opened in the background, as soon as
    /// that is possible. Concurrent calls share the work.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, cluster::Cluster};
    ///
    /// async fn start(cluster: &Cluster) -> Result<(), Error> {
    ///     match cluster.warm_up().await {
    ///         Ok(report) => println!("{report}"),
    ///         // The cluster keeps trying, so the service may start and let its probe wait.
    ///         Err(error) if error.is_transient() => println!("not yet: {error}"),
    ///         Err(error) => return Err(error),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::ClusterWarmUp`], with the report inside: when no member can be opened for a
    ///   permanent reason (a wrong password, say), or when the longest
    ///   [`warm_up_timeout`](field@crate::PoolConfig::warm_up_timeout) of a member is over and no
    ///   member takes writes, or its pool is not warm. The cluster keeps trying in the background.
    /// - [`Error::SeveralWriters`], [`Error::Closed`] and [`Error::NoRuntime`].
    ///
    /// # Cancel safety
    ///
    /// Safe: connections that were opened stay open, and attempts under way go on.
    pub async fn warm_up(&self) -> Result<ClusterReport, Error> {
        let shared = self.shared();
        shared.enter()?;
        let started = Instant::now();
        let longest = shared
            .config
            .members
            .iter()
            .map(|member| member.warm_up_timeout)
            .max();
        let deadline = deadline(started, longest.unwrap_or_default());
        let mut views = shared.view.subscribe();
        let mut servers = shared.servers();
        // One that was discovered may be another name of a member, until it has been asked.
        servers.retain(|server| server.is_named || views.borrow().uses(server));
        let mut warming = Warming::new(servers);
        let mut running: FuturesUnordered<_> = warming.servers().map(warm_up).collect();
        let finished = timeout_at(deadline, async {
            loop {
                let view = Arc::clone(&views.borrow_and_update());
                for server in warming.discovered(&view) {
                    running.push(warm_up(server));
                }
                if warming.is_finished(&view) {
                    return;
                }
                tokio::select! {
                    Some((server, outcome)) = running.next() => warming.record(&server, outcome),
                    _ = views.changed() => {}
                }
            }
        });
        let _in_time = finished.await;
        drop(running);
        let view = Arc::clone(&shared.view.borrow());
        if view.is_closed {
            return Err(Error::Closed);
        }
        shared.assess();
        if let Writer::Several(indexes) = &view.writer {
            let members = view.addresses(indexes);
            return Err(Error::SeveralWriters { members });
        }
        let report = warming.report(&view, started.elapsed(), shared.warnings());
        if warming.is_writer_warm(&view) {
            tracing::info!(cluster = shared.name, %report, "cluster warm-up finished");
            Ok(report)
        } else {
            tracing::warn!(cluster = shared.name, %report, "cluster warm-up incomplete");
            Err(Error::ClusterWarmUp {
                report: Box::new(report),
                source: warming.permanent_error(),
            })
        }
    }

    /// Gets a connection to the member that takes writes now, within the
    /// [`timeout`](field@crate::PoolConfig::timeout) of the first member.
    ///
    /// If another member takes over while the call waits, it is served by that one. Connections
    /// handed out before stay at their member: a write under way when it fails ends with an error,
    /// and nothing is repeated.
    ///
    /// # Errors
    ///
    /// - [`Error::SeveralWriters`], at once, if several members of one replication topology take
    ///   writes;
    /// - [`Error::NoWriter`] when the time is up and no member takes writes;
    /// - those of [`Pool::get`].
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`Pool::get`].
    ///
    /// # Examples
    ///
    /// A transaction, on the member that takes writes when it begins.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, cluster::Cluster, mysql_async::TxOpts};
    ///
    /// async fn sell(cluster: &Cluster, id: u64) -> Result<(), Error> {
    ///     let mut conn = cluster.writer().await?;
    ///     let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    ///     transaction.exec_drop("UPDATE item SET stock = stock - 1 WHERE id = ?", (id,)).await?;
    ///     transaction.exec_drop("INSERT INTO sale (item) VALUES (?)", (id,)).await?;
    ///     transaction.commit().await?;
    ///     Ok(())
    /// }
    ///
    /// /// The HTTP status of a failed sale.
    /// fn status(error: &Error) -> u16 {
    ///     match error {
    ///         // Nothing was written.
    ///         Error::NoWriter { .. } | Error::SeveralWriters { .. } => 503,
    ///         error if error.is_transient() => 503,
    ///         _ => 500,
    ///     }
    /// }
    /// ```
    #[track_caller]
    pub fn writer(&self) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        self.get_writer(self.timeout(), Location::caller())
    }

    /// Gets a connection to the member that takes writes now, within the given time.
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer).
    ///
    /// # Cancel safety
    ///
    /// As [`writer`](Self::writer).
    #[track_caller]
    pub fn writer_within(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        self.get_writer(timeout, Location::caller())
    }

    /// Gets a connection to a replica, within the [`timeout`](field@crate::PoolConfig::timeout) of
    /// the first member.
    ///
    /// Of the replicas within [`max_lag`](field@ClusterConfig::max_lag), it takes the one with the
    /// largest share of its connections free. If that one gives none within 10 ms, the call waits
    /// for the next one as well, and so on. A replica may miss what the same caller has just
    /// written: read that from [`writer()`](Self::writer).
    ///
    /// If no replica serves reads, [`reads`](field@ClusterConfig::reads) decides.
    ///
    /// ```no_run
    /// use mysql_warm_pool::{Error, cluster::Cluster};
    ///
    /// async fn names(cluster: &Cluster) -> Result<Vec<String>, Error> {
    ///     let mut conn = cluster.reader().await?;
    ///     Ok(conn.query("SELECT name FROM item").await?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::NoReplica`], at once, if no replica serves reads and
    ///   [`Reads::ReplicaOnly`] is set;
    /// - those of [`writer`](Self::writer) with [`Reads::PreferReplica`], and those of
    ///   [`Pool::get`].
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`Pool::get`].
    #[track_caller]
    pub fn reader(&self) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        self.get_reader(self.timeout(), Location::caller())
    }

    /// Gets a connection to a replica within the given time.
    ///
    /// # Errors
    ///
    /// As [`reader`](Self::reader).
    ///
    /// # Cancel safety
    ///
    /// As [`reader`](Self::reader).
    #[track_caller]
    pub fn reader_within(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<PooledConn, Error>> + Send + '_ {
        self.get_reader(timeout, Location::caller())
    }

    async fn get_writer(
        &self,
        timeout: Duration,
        called_at: &'static Location<'static>,
    ) -> Result<PooledConn, Error> {
        let shared = self.shared();
        shared.enter()?;
        let started = Instant::now();
        let deadline = deadline(started, timeout);
        let mut views = shared.view.subscribe();
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            if view.is_closed {
                return Err(Error::Closed);
            }
            let writer = match &view.writer {
                Writer::Several(indexes) => {
                    let members = view.addresses(indexes);
                    return Err(Error::SeveralWriters { members });
                }
                Writer::One(index) => view.members.get(*index),
                Writer::Undecided | Writer::None | Writer::Unclear(_) => None,
            };
            if let Some(writer) = writer {
                let server = Arc::clone(&writer.server);
                let left = deadline.saturating_duration_since(Instant::now());
                tokio::select! {
                    biased;
                    got = server.pool.get_called_at(left, called_at) => {
                        if !is_removal(&got, &views, std::slice::from_ref(&server)) {
                            return got;
                        }
                    }
                    () = until_another_writes(&mut views, &server) => {}
                }
            } else if timeout_at(deadline, views.changed()).await.is_err() {
                return Err(Error::NoWriter {
                    waited: started.elapsed(),
                    members: descriptions(&view),
                });
            }
        }
    }

    async fn get_reader(
        &self,
        timeout: Duration,
        called_at: &'static Location<'static>,
    ) -> Result<PooledConn, Error> {
        let shared = self.shared();
        shared.enter()?;
        let deadline = deadline(Instant::now(), timeout);
        let mut views = shared.view.subscribe();
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            if view.is_closed {
                return Err(Error::Closed);
            }
            let is_known = view
                .members
                .iter()
                .all(|member| member.role != Role::Unknown);
            let mut replicas = by_load(&view);
            let left = deadline.saturating_duration_since(Instant::now());
            if !replicas.is_empty() {
                let got = first_of(&mut replicas, &views, left, called_at).await;
                if let Some(got) = got
                    && !is_removal(&got, &views, &replicas)
                {
                    return got;
                }
            } else if !is_known && !left.is_zero() {
                // Perhaps one that has not been asked yet serves reads.
                drop(timeout_at(deadline, views.changed()).await);
            } else if shared.config.reads == Reads::ReplicaOnly {
                let members = descriptions(&view);
                return Err(Error::NoReplica { members });
            } else {
                let mut writer = pin!(self.get_writer(left, called_at));
                tokio::select! {
                    biased;
                    got = &mut writer => return got,
                    () = until_one_reads(&mut views) => {}
                }
            }
        }
    }

    /// Returns the members now, in the order of the settings; those discovered come last. Does no
    /// I/O.
    ///
    /// # Examples
    ///
    /// ```
    /// use mysql_warm_pool::cluster::{Cluster, ClusterConfig, Role};
    ///
    /// let url = "mysql://app:secret@db1,db2:3307/shop";
    /// let cluster = Cluster::new(ClusterConfig::from_url(url)?)?;
    /// for member in cluster.members() {
    ///     println!("{member}"); // db2:3307 is replica, 2000 ms behind
    ///     assert_eq!(member.role, Role::Unknown); // Nothing has been asked yet.
    /// }
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let view = Arc::clone(&self.shared().view.borrow());
        view.members.iter().map(state::Seen::report).collect()
    }

    /// Returns whether the cluster can serve. Does no I/O.
    ///
    /// - `Cold` before its first use;
    /// - `Warming` until each member's pool is warm, unreachable or unusable, at most for the
    ///   longest `warm_up_timeout`;
    /// - `Ready` if a member takes writes, every member is usable, and every pool is ready;
    /// - `Degraded` if a member takes writes and its pool serves, but anything else is missing;
    /// - `Unavailable` if no member takes writes, if several do although only one may, or if the
    ///   writer's pool cannot serve. [`reader()`](Self::reader) may still work;
    /// - `Closed`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.shared().assess();
        self.shared().readiness.borrow().readiness
    }

    /// Returns the readiness with its context: since when, and the members. Does no I/O.
    #[must_use]
    pub fn health(&self) -> ClusterHealth {
        self.shared().assess();
        let snapshot = *self.shared().readiness.borrow();
        ClusterHealth {
            readiness: snapshot.readiness,
            since: snapshot.since,
            members: self.members(),
        }
    }

    /// Waits until the cluster is [`Ready`](Readiness::Ready). Also resolves if it became Ready
    /// after the call and no longer is.
    ///
    /// Opens nothing by itself, as [`Pool::wait_ready`].
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the cluster is closed, or closes meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        let mut snapshots = self.shared().readiness.subscribe();
        let before = snapshots.borrow().times_ready;
        let snapshot = snapshots.wait_for(|now| {
            now.times_ready > before
                || matches!(now.readiness, Readiness::Ready | Readiness::Closed)
        });
        match snapshot.await {
            Ok(now) if now.readiness != Readiness::Closed => Ok(()),
            Ok(_) | Err(_) => Err(Error::Closed),
        }
    }

    /// Watches the readiness from now on; [`changed`](ReadinessWatch::changed) waits for its next
    /// change. It is updated when a member answers, or its pool's readiness changes.
    #[must_use]
    pub fn watch(&self) -> ReadinessWatch {
        ReadinessWatch::new(self.shared().readiness.subscribe())
    }

    /// Returns how often the member that takes writes has changed since creation, the first one not
    /// counted.
    #[must_use]
    pub fn failovers(&self) -> u64 {
        self.shared().failovers.load(Ordering::Relaxed)
    }

    /// Returns the pool of the member with this [address](Member::address), for its metrics for
    /// example. The member may be the writer or a replica, and may become the other.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn run(cluster: mysql_warm_pool::cluster::Cluster) {
    /// for member in cluster.members() {
    ///     if let Some(pool) = cluster.pool(&member.address) {
    ///         println!("{}: {}", pool.name(), pool.metrics().query_time);
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn pool(&self, address: &str) -> Option<Pool> {
        let view = Arc::clone(&self.shared().view.borrow());
        let mut members = view.members.iter();
        let member = members.find(|member| member.server.address == address)?;
        Some(member.server.pool.clone())
    }

    /// Returns the settings the cluster was created with.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.shared().config
    }

    /// Changes [`size`](field@crate::PoolConfig::size) and
    /// [`overflow`](field@crate::PoolConfig::overflow) of each member's pool, as
    /// [`Pool::resize`], also of those discovered later.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a value is out of its range, in which case nothing changes, and
    /// [`Error::Closed`].
    pub fn resize(&self, size: usize, overflow: usize) -> Result<(), Error> {
        self.shared().resize(size, overflow)
    }

    /// Replaces every connection opened before now, as [`Pool::refresh`], and asks each member for
    /// its role at once.
    pub fn refresh(&self) {
        for server in self.shared().servers() {
            server.pool.refresh();
            server.monitor.refresh();
            server.ask_now.notify_one();
        }
    }

    /// Closes the cluster for good, with the pools of all members at the same time, as
    /// [`Pool::close`], and those of members that were removed and are not closed yet. Returns the sum
    /// of their reports.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::close`].
    pub async fn close(&self) -> CloseReport {
        let shared = self.shared();
        shared.stop();
        let closing = async {
            let servers = shared.open_servers();
            let closing: FuturesUnordered<_> =
                servers.iter().map(|server| server.close()).collect();
            let reports: Vec<_> = closing.collect().await;
            let sum = |count: fn(&CloseReport) -> usize| {
                reports.iter().map(count).fold(0, usize::saturating_add)
            };
            CloseReport {
                drained: sum(|report| report.drained),
                cut: sum(|report| report.cut),
            }
        };
        *shared.closed.get_or_init(|| closing).await
    }

    fn timeout(&self) -> Duration {
        let first = self.shared().config.members.first();
        first.map(|member| member.timeout).unwrap_or_default()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("members", &self.members())
            .field("readiness", &self.readiness())
            .finish_non_exhaustive()
    }
}

/// The warm-ups of the members' pools.
struct Warming {
    outcomes: Vec<(Arc<Server>, Option<Outcome>)>,
}

type Outcome = Result<WarmUpReport, Error>;

impl Warming {
    fn new(servers: Vec<Arc<Server>>) -> Self {
        Self {
            outcomes: servers.into_iter().map(|server| (server, None)).collect(),
        }
    }

    /// Members that were discovered since, and can be used.
    fn discovered(&mut self, view: &View) -> Vec<Arc<Server>> {
        let is_new = |server: &&Arc<Server>| {
            let mut known = self.outcomes.iter();
            view.uses(server) && !known.any(|(other, _)| Arc::ptr_eq(other, server))
        };
        let servers = view.members.iter().map(|member| &member.server);
        let new: Vec<_> = servers.filter(is_new).cloned().collect();
        self.outcomes
            .extend(new.iter().map(|server| (Arc::clone(server), None)));
        new
    }

    fn servers(&self) -> impl Iterator<Item = Arc<Server>> {
        let servers: Vec<_> = self
            .outcomes
            .iter()
            .map(|(server, _)| Arc::clone(server))
            .collect();
        servers.into_iter()
    }

    fn record(&mut self, server: &Arc<Server>, outcome: Outcome) {
        let mut outcomes = self.outcomes.iter_mut();
        if let Some((_, slot)) = outcomes.find(|(other, _)| Arc::ptr_eq(other, server)) {
            *slot = Some(outcome);
        }
    }

    fn outcome(&self, server: &Arc<Server>) -> Option<&Outcome> {
        let mut outcomes = self.outcomes.iter();
        outcomes
            .find(|(other, _)| Arc::ptr_eq(other, server))?
            .1
            .as_ref()
    }

    fn is_writer_warm(&self, view: &View) -> bool {
        let writer = match view.writer {
            Writer::One(index) => view.members.get(index),
            _ => None,
        };
        writer.is_some_and(|writer| matches!(self.outcome(&writer.server), Some(Ok(_))))
    }

    fn is_finished(&self, view: &View) -> bool {
        if view.is_closed || matches!(view.writer, Writer::Several(_)) {
            return true;
        }
        let all_have_failed = self.outcomes.iter().all(|(_, outcome)| {
            let error = outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
            error.is_some_and(|error| !error.is_transient())
        });
        let others_are_settled = view.members.iter().all(|member| match member.role {
            Role::Unknown => false,
            Role::Unreachable | Role::Unusable => true,
            Role::Writer | Role::Replica => self.outcome(&member.server).is_some(),
        });
        all_have_failed || others_are_settled && self.is_writer_warm(view)
    }

    fn permanent_error(&self) -> Option<ConnectError> {
        self.outcomes.iter().find_map(|(_, outcome)| match outcome {
            Some(Err(Error::WarmUp { source, .. })) => {
                source.clone().filter(|error| !error.is_transient())
            }
            _ => None,
        })
    }

    fn report(
        &self,
        view: &View,
        elapsed: Duration,
        warnings: Vec<ClusterWarning>,
    ) -> ClusterReport {
        let members = view.members.iter().map(|member| {
            let (report, error) = match self.outcome(&member.server) {
                Some(Ok(report)) => (Some(report.clone()), None),
                Some(Err(Error::WarmUp { report, source })) => {
                    let error = source.as_ref().map(ToString::to_string);
                    (
                        Some((**report).clone()),
                        error.or_else(|| report.last_error.clone()),
                    )
                }
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, member.report().last_error),
            };
            MemberReport {
                address: member.server.address.clone(),
                role: member.role,
                report,
                error,
            }
        });
        ClusterReport {
            members: members.collect(),
            elapsed,
            warnings,
        }
    }
}

async fn warm_up(server: Arc<Server>) -> (Arc<Server>, Outcome) {
    let outcome = server.pool.warm_up().await;
    (server, outcome)
}

/// Whether this outcome says that a member was removed.
fn is_removal(
    outcome: &Result<PooledConn, Error>,
    views: &watch::Receiver<Arc<View>>,
    servers: &[Arc<Server>],
) -> bool {
    let is_left = |server| !views.borrow().has(server);
    matches!(outcome, Err(Error::Closed)) && servers.iter().any(is_left)
}

/// Waits until another member takes writes, or this one certainly does not.
async fn until_another_writes(views: &mut watch::Receiver<Arc<View>>, server: &Arc<Server>) {
    let is_another = |view: &Arc<View>| {
        let writer = match view.writer {
            Writer::One(index) => view.members.get(index),
            _ => None,
        };
        view.is_closed || !writer.is_some_and(|writer| Arc::ptr_eq(&writer.server, server))
    };
    // The sender lives as long as the cluster.
    drop(views.wait_for(is_another).await);
}

/// Waits until this replica does not serve reads any more.
async fn until_it_stops_reading(views: &mut watch::Receiver<Arc<View>>, replica: &Arc<Server>) {
    let is_over = |view: &Arc<View>| {
        let mut reads = view.members.iter().filter(|member| member.serves_reads);
        view.is_closed || !reads.any(|member| Arc::ptr_eq(replica, &member.server))
    };
    drop(views.wait_for(is_over).await);
}

/// Waits until a replica serves reads.
async fn until_one_reads(views: &mut watch::Receiver<Arc<View>>) {
    let reads =
        |view: &Arc<View>| view.is_closed || view.members.iter().any(|member| member.serves_reads);
    drop(views.wait_for(reads).await);
}

/// The replicas that serve reads, sorted by the share of their connections that is free, largest
/// first. Those whose pools cannot serve come last.
fn by_load(view: &View) -> Vec<Arc<Server>> {
    let replicas = view.members.iter().filter(|member| member.serves_reads);
    let mut loads: Vec<_> = replicas
        .map(|member| {
            let server = &member.server;
            let is_down = !server.pool.readiness().is_serving();
            let status = server.pool.status();
            let busy = status.in_use.saturating_add(status.waiting);
            let thousandths = busy.saturating_mul(1000).checked_div(status.limit().max(1));
            // Equals are in random order.
            let place = (is_down, thousandths, crate::session::random());
            (place, Arc::clone(server))
        })
        .collect();
    loads.sort_by_key(|(place, _)| *place);
    loads.into_iter().map(|(_, server)| server).collect()
}

/// Gets a connection from the first of these replicas that has one. Each is asked [`PATIENCE`]
/// after the one before. One that stops serving reads meanwhile is taken out, one that begins to is
/// added; `None` if none is left.
async fn first_of(
    replicas: &mut Vec<Arc<Server>>,
    views: &watch::Receiver<Arc<View>>,
    limit: Duration,
    called_at: &'static Location<'static>,
) -> Option<Result<PooledConn, Error>> {
    let deadline = deadline(Instant::now(), limit);
    let ask = |server: Arc<Server>, place: u32| {
        let mut views = views.clone();
        async move {
            let get = async {
                let delay = PATIENCE.saturating_mul(place).min(limit);
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                server.pool.get_called_at(left, called_at).await
            };
            let got = tokio::select! {
                biased;
                () = until_it_stops_reading(&mut views, &server) => None,
                got = get => Some(got),
            };
            (server, got)
        }
    };
    let mut views = views.clone();
    let mut gets: FuturesUnordered<_> = replicas
        .iter()
        .zip(0..)
        .map(|(server, place)| ask(Arc::clone(server), place))
        .collect();
    let mut outcome = None;
    loop {
        tokio::select! {
            biased;
            next = gets.next() => match next {
                None => return outcome,
                Some((_, Some(got))) => {
                    let is_got = got.is_ok();
                    outcome = Some(got);
                    if is_got {
                        return outcome;
                    }
                }
                Some((server, None)) => replicas.retain(|other| !Arc::ptr_eq(other, &server)),
            },
            Ok(()) = views.changed() => {
                let view = Arc::clone(&views.borrow_and_update());
                for server in by_load(&view) {
                    if !replicas.iter().any(|other| Arc::ptr_eq(other, &server)) {
                        replicas.push(Arc::clone(&server));
                        gets.push(ask(server, 0));
                    }
                }
            }
        }
    }
}

fn descriptions(view: &View) -> Vec<String> {
    view.members
        .iter()
        .map(|member| member.report().to_string())
        .collect()
}

fn deadline(from: Instant, timeout: Duration) -> Instant {
    // Far enough where the sum cannot be represented.
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    from.checked_add(timeout.min(year)).unwrap_or(from)
}
