//! What a cluster knows about its members, and what follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use mysql_async::OptsBuilder;
use tokio::{
    sync::{Notify, OnceCell, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::{info, warn};

use super::{
    ask::{Answer, Usable},
    config::{ClusterConfig, address},
    decide::{self, Claim, Standing, Writer},
    hosts::host_and_port,
    monitor,
};
use crate::{
    config::PoolConfig,
    error::Error,
    pool::Pool,
    report::{CloseReport, ClusterWarning, Member, Readiness, ReadinessSnapshot, Role},
    session::runtime::timer,
    time::Timestamp,
};

/// What all handles and monitors of a cluster share.
pub(super) struct Shared {
    pub(super) config: ClusterConfig,
    pub(super) name: String,
    state: Mutex<State>,
    /// The members as they are now. Callers that wait for another writer watch it.
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) readiness: watch::Sender<ReadinessSnapshot>,
    /// The monitors, and closings of members that are gone.
    tasks: Mutex<JoinSet<()>>,
    /// Each monitor holds a clone. There is none before the first use, nor after the monitors'
    /// runtime has ended.
    alive: Arc<()>,
    begun_at: OnceLock<Timestamp>,
    pub(super) failovers: AtomicU64,
    pub(super) closed: OnceCell<CloseReport>,
}

/// A member: its pool, and the connection on which it is asked for its role.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) pool: Pool,
    /// Holds one connection.
    pub(super) monitor: Pool,
    /// Notified to ask it at once.
    pub(super) ask_now: Notify,
    /// The settings name it; it was not discovered.
    pub(super) is_named: bool,
}

#[derive(Default)]
struct State {
    members: Vec<Tracked>,
    /// The member that took writes last.
    writer: Option<Arc<Server>>,
    /// Addresses that lead to a member with another address, with that server's identity. They may
    /// lead elsewhere once no usable member has it.
    aliases: BTreeMap<String, String>,
    /// Discovered members that were removed and are not closed yet. Until then their addresses are
    /// not added again, so that the new pool's connections do not come on top of the old one's.
    leaving: Vec<Arc<Server>>,
    /// Changed by `resize`.
    limit: Option<(usize, usize)>,
    is_closed: bool,
}

struct Tracked {
    server: Arc<Server>,
    standing: Standing,
    /// What the account may not ask.
    warnings: Vec<ClusterWarning>,
}

/// The members at one moment.
#[derive(Clone)]
pub(super) struct View {
    pub(super) members: Vec<Seen>,
    pub(super) writer: Writer,
    pub(super) is_closed: bool,
}

#[derive(Clone)]
pub(super) struct Seen {
    pub(super) server: Arc<Server>,
    pub(super) role: Role,
    pub(super) lag: Option<Duration>,
    pub(super) serves_reads: bool,
    /// It says that it takes writes, and is not the one that was chosen.
    is_outvoted: bool,
    /// Why it is unreachable or unusable.
    reason: Option<String>,
}

impl Shared {
    pub(super) fn new(config: ClusterConfig) -> Result<Arc<Self>, Error> {
        config.check()?;
        let mut members = Vec::new();
        for member in &config.members {
            let server = Server::new(named(member, &config.members), config.check_every, true)?;
            members.push(Tracked::new(server));
        }
        let addresses = members.iter().map(|member| member.server.address.as_str());
        let name = addresses.collect::<Vec<_>>().join(",");
        let state = State {
            members,
            ..State::default()
        };
        let view = state.view(&config, Writer::Undecided);
        Ok(Arc::new(Self {
            name,
            state: Mutex::new(state),
            view: watch::Sender::new(Arc::new(view)),
            readiness: watch::Sender::new(ReadinessSnapshot {
                readiness: Readiness::Cold,
                since: SystemTime::now(),
                times_ready: 0,
            }),
            tasks: Mutex::default(),
            alive: Arc::default(),
            begun_at: OnceLock::new(),
            failovers: AtomicU64::new(0),
            closed: OnceCell::new(),
            config,
        }))
    }

    /// Makes sure that the monitors run: the first caller, and the first after their runtime has
    /// ended, starts them on the current runtime.
    pub(super) fn enter(self: &Arc<Self>) -> Result<(), Error> {
        if self.view.borrow().is_closed {
            return Err(Error::Closed);
        }
        // Callers wait by timers of their own runtime.
        drop(timer(Duration::ZERO).ok_or(Error::NoRuntime)?);
        if !self.is_watched() {
            self.begin();
        }
        Ok(())
    }

    fn is_watched(&self) -> bool {
        Arc::strong_count(&self.alive) > 1
    }

    fn begin(self: &Arc<Self>) {
        let mut tasks = lock(&self.tasks);
        if self.is_watched() {
            return;
        }
        while tasks.try_join_next().is_some() {}
        let mut state = lock(&self.state);
        if state.is_closed {
            return;
        }
        if self.begun_at.set(Timestamp::now()).is_err() {
            // Nobody has asked for a while.
            for member in &mut state.members {
                member.standing.forget();
            }
            self.decide(&mut state);
        }
        for server in state.servers() {
            tasks.spawn(self.monitor(server));
        }
        for server in state.leaving.clone() {
            tasks.spawn(self.close_removed(server));
        }
        drop((state, tasks));
        self.assess();
    }

    fn monitor(self: &Arc<Self>, server: Arc<Server>) -> impl Future<Output = ()> + use<> {
        let (shared, alive) = (Arc::clone(self), Arc::clone(&self.alive));
        async move {
            let mut views = shared.view.subscribe();
            let is_removed = |view: &Arc<View>| !view.has(&server);
            tokio::select! {
                () = shared.run_monitor(&server) => {}
                () = async { drop(views.wait_for(is_removed).await) } => {}
            }
            drop(alive);
        }
    }

    /// Runs a member's monitor until the cluster is closed.
    async fn run_monitor(self: &Arc<Self>, server: &Arc<Server>) {
        loop {
            let run = monitor::run(Arc::clone(self), Arc::clone(server));
            // Nothing of it is used after a panic, which is the driver's: no answer may end the
            // monitor, because the cluster would go on believing the one before.
            if AssertUnwindSafe(run).catch_unwind().await.is_ok() {
                return;
            }
            let error = "the driver panicked".to_owned();
            let now = Timestamp::now();
            self.record(server, Claim::Unreachable { error }, now, Vec::new());
            sleep(self.config.check_every).await;
        }
    }

    /// Runs a task beside the monitors, unless the cluster is closed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        if !self.view.borrow().is_closed {
            tasks.spawn(task);
        }
    }

    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        lock(&self.state).servers()
    }

    /// The members, and those that were removed and are not closed yet.
    pub(super) fn open_servers(&self) -> Vec<Arc<Server>> {
        let state = lock(&self.state);
        let mut servers = state.servers();
        servers.extend(state.leaving.iter().cloned());
        servers
    }

    pub(super) fn warnings(&self) -> Vec<ClusterWarning> {
        let state = lock(&self.state);
        let warnings = state.members.iter().flat_map(|member| &member.warnings);
        let mut warnings: Vec<_> = warnings.cloned().collect();
        warnings.extend(state.same_servers());
        warnings
    }

    /// Records what a member has answered, or that it has not.
    pub(super) fn record(
        self: &Arc<Self>,
        server: &Arc<Server>,
        claim: Claim,
        asked_at: Timestamp,
        warnings: Vec<ClusterWarning>,
    ) {
        let mut state = lock(&self.state);
        let Some(member) = state.find(server) else {
            return;
        };
        let was_reachable = !matches!(member.standing.claim, Claim::Unreachable { .. });
        let is_reachable = !matches!(claim, Claim::Unreachable { .. });
        member.standing.record(claim, asked_at, Timestamp::now());
        for warning in &warnings {
            if !member.warnings.contains(warning) {
                warn!(cluster = self.name, %warning, "configuration warning");
            }
        }
        member.warnings = warnings;
        match (was_reachable, is_reachable) {
            // Its pool need not find out by itself, nor wait until its back-off ends.
            (true, false) => server.pool.suspect_all(),
            (false, true) => server.pool.retry_now(),
            _ => {}
        }
        let (added, removed) = if self.config.discover {
            self.discover(&mut state)
        } else {
            (Vec::new(), Vec::new())
        };
        self.decide(&mut state);
        drop(state);
        for server in added {
            self.spawn(self.monitor(server));
        }
        for server in removed {
            self.spawn(self.close_removed(server));
        }
        self.assess();
    }

    /// Closes a member that was removed, after which its address may be added again.
    fn close_removed(self: &Arc<Self>, server: Arc<Server>) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(self);
        async move {
            tokio::join!(server.pool.close_alone(), server.monitor.close_alone());
            let mut state = lock(&shared.state);
            state.leaving.retain(|other| !Arc::ptr_eq(other, &server));
        }
    }

    /// Decides anew which member takes writes, and publishes it.
    fn decide(&self, state: &mut State) {
        let standings = state.standings();
        let previous = state.writer.as_ref();
        let previous = previous.and_then(|writer| state.index_of(writer));
        let writer = decide::writer(&standings, previous);
        match &writer {
            Writer::One(index) => {
                let server = state
                    .members
                    .get(*index)
                    .map(|member| Arc::clone(&member.server));
                if previous != Some(*index)
                    && let Some(server) = server
                {
                    let was = state.writer.as_ref().map(|writer| writer.address.as_str());
                    info!(
                        cluster = self.name,
                        was,
                        now = server.address,
                        "writer changed"
                    );
                    if was.is_some() {
                        self.failovers.fetch_add(1, Ordering::Relaxed);
                        #[cfg(feature = "metrics")]
                        super::export::failover(&self.name);
                    }
                    state.writer = Some(server);
                }
            }
            Writer::Unclear(claimants) => {
                for index in claimants {
                    if let Some(member) = state.members.get(*index) {
                        member.server.ask_now.notify_one();
                    }
                }
            }
            Writer::Undecided | Writer::None | Writer::Several(_) => {}
        }
        let view = state.view(&self.config, writer);
        let old = Arc::clone(&self.view.borrow());
        self.log_changes(&old, &view);
        #[cfg(feature = "metrics")]
        super::export::members(&view);
        self.view.send_replace(Arc::new(view));
    }

    fn log_changes(&self, old: &View, new: &View) {
        for member in &new.members {
            let known = old.members.iter();
            let mut known = known.filter(|other| Arc::ptr_eq(&other.server, &member.server));
            let was = known.next().map_or(Role::Unknown, |other| other.role);
            let (now, member, reason) = (member.role, &member.server.address, &member.reason);
            if was == now {
                continue;
            }
            if matches!(now, Role::Unreachable | Role::Unusable) {
                warn!(cluster = self.name, member, %was, %now, reason, "role changed");
            } else {
                info!(cluster = self.name, member, %was, %now, "role changed");
            }
        }
        if let Writer::Several(indexes) = &new.writer
            && !matches!(old.writer, Writer::Several(_))
        {
            let members = new.addresses(indexes).join(", ");
            warn!(cluster = self.name, members, "several members take writes");
        }
    }

    /// Adds members that others name, and removes discovered ones that are gone. Returns the added
    /// and the removed.
    fn discover(&self, state: &mut State) -> (Vec<Arc<Server>>, Vec<Arc<Server>>) {
        let seen = state
            .members
            .iter()
            .filter_map(|member| member.standing.usable());
        let seen: BTreeSet<_> = seen
            .flat_map(|usable| usable.members_seen.clone())
            .collect();
        let mut removed = Vec::new();
        let identities = state.identities();
        let is_used = |identity: &String| identities.values().any(|used| used == identity);
        state.aliases.retain(|_, identity| is_used(identity));
        for (address, _) in state.duplicates() {
            if let Some(identity) = identities.get(&address) {
                state.aliases.insert(address, identity.clone());
            }
        }
        let aliases: BTreeSet<_> = state.aliases.keys().cloned().collect();
        state.members.retain(|member| {
            let server = &member.server;
            let is_silent = matches!(member.standing.claim, Claim::Unreachable { .. });
            let is_gone = is_silent && !seen.is_empty() && !seen.contains(&server.address);
            let goes = !server.is_named && (is_gone || aliases.contains(&server.address));
            if goes {
                info!(
                    cluster = self.name,
                    member = server.address,
                    "member removed"
                );
                #[cfg(feature = "metrics")]
                super::export::removed(server.pool.name());
                removed.push(Arc::clone(server));
            }
            !goes
        });
        state.leaving.extend(removed.iter().cloned());
        let mut added = Vec::new();
        for address in seen.difference(&aliases) {
            let members = state.members.iter().map(|member| &member.server);
            let mut known = members.chain(&state.leaving);
            let is_known = known.any(|server| server.address == *address);
            let is_full = state.members.len() >= super::config::MOST_MEMBERS;
            if is_known || is_full {
                continue;
            }
            if let Some(server) = self.discovered(address, state.limit) {
                info!(cluster = self.name, member = address, "member discovered");
                state.members.push(Tracked::new(Arc::clone(&server)));
                added.push(server);
            }
        }
        (added, removed)
    }

    fn discovered(&self, address: &str, limit: Option<(usize, usize)>) -> Option<Arc<Server>> {
        let template = self.config.members.first()?.clone();
        let (host, port) = host_and_port(address);
        let port = port?.parse().ok()?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let mut config =
            template.map_opts(|opts: OptsBuilder| opts.ip_or_hostname(host).tcp_port(port));
        if let Some((size, overflow)) = limit {
            config = config.size(size).overflow(overflow);
        }
        let others = self.config.members.iter().cloned().chain([config.clone()]);
        let others: Vec<_> = others.collect();
        Server::new(named(&config, &others), self.config.check_every, false).ok()
    }

    pub(super) fn resize(&self, size: usize, overflow: usize) -> Result<(), Error> {
        let mut state = lock(&self.state);
        let mut pools = state.members.iter().map(|member| &member.server.pool);
        // What is wrong for one is wrong for all.
        pools.try_for_each(|pool| pool.resize(size, overflow))?;
        state.limit = Some((size, overflow));
        drop(state);
        Ok(())
    }

    /// Updates the readiness from the members' roles and pools.
    pub(super) fn assess(&self) {
        let begun_at = self.begun_at.get().copied();
        let longest = self
            .config
            .members
            .iter()
            .map(|member| member.warm_up_timeout)
            .max();
        let may_warm =
            begun_at.is_some_and(|at| Timestamp::now().since(at) < longest.unwrap_or_default());
        let mut change = None;
        self.readiness.send_if_modified(|snapshot| {
            // The newest, so that no older one has the last word.
            let view = Arc::clone(&self.view.borrow());
            let readiness = if view.is_closed {
                Readiness::Closed
            } else if begun_at.is_none() {
                Readiness::Cold
            } else {
                view.readiness(may_warm && snapshot.times_ready == 0)
            };
            let was = snapshot.readiness;
            if was == readiness {
                return false;
            }
            change = Some((was, readiness));
            *snapshot = ReadinessSnapshot {
                readiness,
                since: SystemTime::now(),
                times_ready: snapshot
                    .times_ready
                    .saturating_add(u64::from(readiness == Readiness::Ready)),
            };
            true
        });
        if let Some((was, now)) = change {
            info!(cluster = self.name, %was, %now, "readiness changed");
        }
    }

    /// Ends the monitors. From then on nothing serves callers.
    pub(super) fn stop(&self) {
        {
            let mut state = lock(&self.state);
            state.is_closed = true;
            let view = Arc::new(state.view(&self.config, Writer::Undecided));
            drop(state);
            self.view.send_replace(view);
        }
        lock(&self.tasks).abort_all();
        self.assess();
    }
}

impl State {
    fn servers(&self) -> Vec<Arc<Server>> {
        self.members
            .iter()
            .map(|member| Arc::clone(&member.server))
            .collect()
    }

    fn find(&mut self, server: &Arc<Server>) -> Option<&mut Tracked> {
        let mut members = self.members.iter_mut();
        members.find(|member| Arc::ptr_eq(&member.server, server))
    }

    fn index_of(&self, server: &Arc<Server>) -> Option<usize> {
        let mut members = self.members.iter();
        members.position(|member| Arc::ptr_eq(&member.server, server))
    }

    /// Returns the identities of the usable members by address.
    fn identities(&self) -> BTreeMap<String, String> {
        let identities = self.members.iter().filter_map(|member| {
            let identity = member.standing.usable()?.identity.clone()?;
            Some((member.server.address.clone(), identity))
        });
        identities.collect()
    }

    /// Returns the addresses that lead to the server of an earlier member, with that one's address.
    fn duplicates(&self) -> Vec<(String, String)> {
        let identity = |member: &Tracked| member.standing.usable()?.identity.clone();
        let mut duplicates = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let Some(own) = identity(member) else {
                continue;
            };
            let mut earlier = self.members.iter().take(index);
            if let Some(first) = earlier.find(|other| identity(other).as_ref() == Some(&own)) {
                let address = member.server.address.clone();
                duplicates.push((address, first.server.address.clone()));
            }
        }
        duplicates
    }

    fn same_servers(&self) -> impl Iterator<Item = ClusterWarning> {
        let duplicates = self.duplicates().into_iter();
        duplicates.map(|(address, same_as)| ClusterWarning::SameServer { address, same_as })
    }

    /// What the members have said. A second address of a server says nothing.
    fn standings(&self) -> Vec<Standing> {
        let duplicates = self.duplicates();
        let standings = self.members.iter().map(|member| {
            let mut standing = member.standing.clone();
            let address = &member.server.address;
            if let Some((_, same_as)) = duplicates.iter().find(|(other, _)| other == address) {
                let reason = format!("the same server as {same_as}");
                standing.claim = Claim::Answered(Answer::Unusable { reason });
            }
            standing
        });
        standings.collect()
    }

    fn view(&self, config: &ClusterConfig, writer: Writer) -> View {
        let standings = self.standings();
        let members = self.members.iter().zip(standings).enumerate();
        let members = members.map(|(index, (member, standing))| {
            let is_writer = match &writer {
                Writer::One(one) => *one == index,
                Writer::Unclear(several) | Writer::Several(several) => several.contains(&index),
                Writer::Undecided | Writer::None => false,
            };
            let is_decided = writer != Writer::Undecided;
            let server = Arc::clone(&member.server);
            let mut seen = Seen::new(server, standing.claim, is_writer, config.max_lag);
            if seen.is_outvoted && is_decided {
                seen.role = Role::Unusable;
                seen.reason = Some("most members see another primary".to_owned());
            } else if seen.is_outvoted {
                seen.role = Role::Unknown;
            }
            seen
        });
        View {
            members: members.collect(),
            writer,
            is_closed: self.is_closed,
        }
    }
}

impl Tracked {
    fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            standing: Standing::default(),
            warnings: Vec::new(),
        }
    }
}

impl View {
    /// Whether a member says that it takes writes, and no other one does.
    pub(super) fn has_writer(&self) -> bool {
        let Writer::One(index) = self.writer else {
            return false;
        };
        let member = self.members.get(index);
        member.is_some_and(|member| member.role == Role::Writer)
    }

    /// Whether this is a member.
    pub(super) fn has(&self, server: &Arc<Server>) -> bool {
        self.members
            .iter()
            .any(|member| Arc::ptr_eq(&member.server, server))
    }

    /// Whether this is a member that serves callers.
    pub(super) fn uses(&self, server: &Arc<Server>) -> bool {
        let mut members = self.members.iter();
        members.any(|member| {
            Arc::ptr_eq(&member.server, server)
                && matches!(member.role, Role::Writer | Role::Replica)
        })
    }

    fn readiness(&self, may_warm: bool) -> Readiness {
        let pools = self
            .members
            .iter()
            .map(|member| (member, member.server.pool.readiness()));
        let pools: Vec<_> = pools.collect();
        let writer = match self.writer {
            Writer::One(index) => pools.get(index).map(|(_, readiness)| *readiness),
            _ => None,
        };
        let is_usable = |member: &Seen| matches!(member.role, Role::Writer | Role::Replica);
        let is_settled = |(member, readiness): &(&Seen, Readiness)| match member.role {
            Role::Unknown => false,
            _ if is_usable(member) => !matches!(readiness, Readiness::Cold | Readiness::Warming),
            _ => true,
        };
        match writer {
            _ if may_warm && !pools.iter().all(is_settled) => Readiness::Warming,
            Some(Readiness::Ready | Readiness::Degraded) => {
                let is_complete = pools
                    .iter()
                    .all(|(member, readiness)| is_usable(member) && *readiness == Readiness::Ready);
                if is_complete {
                    Readiness::Ready
                } else {
                    Readiness::Degraded
                }
            }
            _ if may_warm => Readiness::Warming,
            _ => Readiness::Unavailable,
        }
    }

    pub(super) fn addresses(&self, indexes: &[usize]) -> Vec<String> {
        let members = indexes.iter().filter_map(|index| self.members.get(*index));
        members
            .map(|member| member.server.address.clone())
            .collect()
    }
}

impl Seen {
    fn new(server: Arc<Server>, claim: Claim, is_writer: bool, max_lag: Option<Duration>) -> Self {
        let mut seen = Self {
            server,
            role: Role::Unknown,
            lag: None,
            serves_reads: false,
            is_outvoted: false,
            reason: None,
        };
        match claim {
            Claim::Unknown => {}
            Claim::Unreachable { error } => {
                seen.role = Role::Unreachable;
                seen.reason = Some(error);
            }
            Claim::Answered(Answer::Unusable { reason }) => {
                seen.role = Role::Unusable;
                seen.reason = Some(reason);
            }
            Claim::Answered(Answer::Usable(usable)) => {
                let Usable {
                    is_writable,
                    shares_writes,
                    lag,
                    ..
                } = usable;
                seen.role = if is_writer {
                    Role::Writer
                } else {
                    Role::Replica
                };
                seen.lag = lag;
                seen.is_outvoted = is_writable && !is_writer && !shares_writes;
                let is_replica = !is_writer && !seen.is_outvoted;
                let is_close = max_lag.is_none_or(|most| lag.is_some_and(|lag| lag <= most));
                seen.serves_reads = is_replica && is_close;
            }
        }
        seen
    }

    pub(super) fn report(&self) -> Member {
        let health = self.server.pool.health();
        Member {
            address: self.server.address.clone(),
            role: self.role,
            lag: self.lag,
            serves_reads: self.serves_reads,
            readiness: health.readiness,
            status: health.status,
            last_error: self.reason.clone().or(health.last_error),
        }
    }
}

impl Server {
    fn new(config: PoolConfig, check_every: Duration, is_named: bool) -> Result<Arc<Self>, Error> {
        let address = address(&config);
        let monitor = monitor::pool(&config, check_every)?;
        Ok(Arc::new(Self {
            address,
            pool: Pool::of_member(config)?,
            monitor,
            ask_now: Notify::new(),
            is_named,
        }))
    }

    /// Closes both pools.
    pub(super) async fn close(&self) -> CloseReport {
        let (report, _monitor) = tokio::join!(self.pool.close(), self.monitor.close());
        report
    }
}

/// The member's settings with a name that no other member has.
fn named(member: &PoolConfig, all: &[PoolConfig]) -> PoolConfig {
    let others = all.iter().filter(|other| other.name == member.name).count();
    match &member.name {
        Some(name) if others > 1 => {
            let name = format!("{name} {}", address(member));
            member.clone().name(name)
        }
        _ => member.clone(),
    }
}

/// No code panics while holding these locks, so poisoning can be ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server of this identity says, which sees these members.
    fn server(identity: &str, members: &[&str]) -> Claim {
        Claim::Answered(Answer::Usable(Usable {
            identity: Some(identity.to_owned()),
            members_seen: members.iter().map(|&address| address.to_owned()).collect(),
            ..Usable::default()
        }))
    }

    /// Two members that are named, and some that are discovered. Nothing listens there.
    struct Told(Arc<Shared>);

    const NAMED: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];
    const OTHER: &str = "127.0.0.1:3";

    impl Told {
        fn new() -> Self {
            let url = format!("mysql://{}/shop?discover=true", NAMED.join(","));
            let config = ClusterConfig::from_url(&url).expect("a config");
            Self(Shared::new(config).expect("valid settings"))
        }

        fn addresses(&self) -> Vec<String> {
            let servers = self.0.servers().into_iter();
            servers.map(|server| server.address.clone()).collect()
        }

        fn says(&self, address: &str, claim: Claim) {
            let mut servers = self.0.servers().into_iter();
            let found = servers.find(|server| server.address == address);
            let (found, now) = (found.expect("a member"), Timestamp::now());
            self.0.record(&found, claim, now, Vec::new());
        }

        /// Waits until what was removed is closed.
        async fn until_closed(&self) {
            while self.0.open_servers().len() > self.addresses().len() {
                tokio::task::yield_now().await;
            }
        }

        fn falls_silent(&self, address: &str) {
            let error = "gone".to_owned();
            self.says(address, Claim::Unreachable { error });
        }
    }

    /// Until its pool is closed, callers may hold connections of that pool.
    #[tokio::test]
    async fn an_address_that_was_removed_comes_back_once_its_pool_is_closed() {
        let told = Told::new();
        let lists_it = || server("a", &[OTHER]);
        told.says(NAMED[0], lists_it());
        assert_eq!(told.addresses().len(), 3);
        told.falls_silent(OTHER);
        told.says(NAMED[0], server("a", &NAMED));
        assert_eq!(told.addresses(), NAMED, "it is removed");
        told.says(NAMED[0], lists_it());
        assert_eq!(told.addresses(), NAMED, "its pool is not closed yet");
        assert_eq!(told.0.open_servers().len(), 3);
        told.until_closed().await;
        told.says(NAMED[0], lists_it());
        assert_eq!(told.addresses().len(), 3, "it is back");
    }

    #[tokio::test]
    async fn an_address_that_was_an_alias_may_become_another_servers() {
        let told = Told::new();
        // The second server is also reached at port 3.
        told.says(NAMED[0], server("a", &[OTHER]));
        told.says(NAMED[1], server("b", &[OTHER]));
        assert_eq!(told.addresses().len(), 3);
        told.says(OTHER, server("b", &[]));
        assert_eq!(told.addresses(), NAMED);
        told.says(NAMED[0], server("a", &[OTHER]));
        assert_eq!(told.addresses(), NAMED, "it stays away");
        told.until_closed().await;
        // The second server is gone, and a third one gets its address.
        told.falls_silent(NAMED[1]);
        told.says(NAMED[0], server("a", &[OTHER]));
        assert_eq!(told.addresses().len(), 3);
        told.says(OTHER, server("c", &[OTHER]));
        assert_eq!(told.addresses().len(), 3, "it stays");
    }
}
