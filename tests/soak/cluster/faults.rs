//! Fault injection: changes the servers, their roles, the network and the cluster's settings as
//! planned.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Readiness,
    cluster::{Cluster, Role},
};
use test_support::{Galera, Proxy, Replication, Server};
use tokio::time::{sleep, timeout};

use super::{
    Topology,
    caller::{Shared, Tenure},
    plan::{Deck, Fault, Injection, LIMIT, STATEMENT_TIMEOUT, Target},
};
use crate::account::Account;

/// How long after the end of a fault the cluster is ready again, at the latest.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Connections that a member may see during one fault: what fills the pool twice and the monitor's,
/// and then those of the monitor, which asks every 50 ms at most, and the pool's back-off.
const ATTEMPTS: u64 = 2 * (LIMIT as u64 + 1);
const ATTEMPTS_A_SECOND: u64 = 30;
/// After this, a Galera node that was silent is a member or was given up.
const GIVES_UP_WITHIN: Duration = Duration::from_millis(2_500);
/// What a client that has lost its server takes to have replies to it that are under way.
const ON_THE_WAY: Duration = Duration::from_millis(500);

pub(crate) enum Servers {
    Galera(Galera),
    Replication(Replication),
}

/// The servers, and a proxy in front of each.
pub(crate) struct World {
    pub(crate) servers: Servers,
    pub(crate) proxies: Vec<Proxy>,
}

impl World {
    pub(crate) fn nodes(&self) -> &[Server] {
        match &self.servers {
            Servers::Galera(galera) => galera.nodes(),
            Servers::Replication(replication) => replication.nodes(),
        }
    }

    const fn topology(&self) -> Topology {
        match self.servers {
            Servers::Galera(_) => Topology::Galera,
            Servers::Replication(_) => Topology::Replication,
        }
    }

    fn replication(&self) -> &Replication {
        match &self.servers {
            Servers::Replication(replication) => replication,
            Servers::Galera(_) => panic!("a fault of replication only"),
        }
    }

    fn galera(&self) -> &Galera {
        match &self.servers {
            Servers::Galera(galera) => galera,
            Servers::Replication(_) => panic!("a fault of Galera only"),
        }
    }
}

pub(crate) struct Injector {
    pub(crate) world: Arc<World>,
    pub(crate) cluster: Cluster,
    pub(crate) shared: Arc<Shared>,
    pub(crate) deck: Deck,
    pub(crate) tally: Tally,
}

/// What the injector has seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Faults after which all acknowledged rows were looked for.
    pub(crate) audits: u64,
    /// The most connections that a proxy has accepted during a fault, and how long it lasted.
    pub(crate) most_attempts: (u64, Duration),
    /// The most connections of a member that are a violation already.
    peak: usize,
}

impl Injector {
    /// Injects faults until the time is over, each after the cluster has recovered from the one
    /// before.
    pub(crate) async fn run(mut self, until: Instant) -> Tally {
        while Instant::now() < until {
            let injection = self.deck.deal();
            self.one(injection).await;
            sleep(injection.pause).await;
        }
        self.tally
    }

    async fn one(&mut self, injection: Injection) {
        let name = injection.fault.name();
        let accepted_before: Vec<_> = self.world.proxies.iter().map(Proxy::accepted).collect();
        let symptoms = injection.fault.symptoms(self.world.topology());
        let begun = self.account().begin(name, symptoms);
        let began = Instant::now();
        self.cause(injection).await;
        let ended = Instant::now();
        self.until_ready(name, ended).await;
        self.account().over(begun);
        self.count_attempts(name, &accepted_before, began);
        self.check_peaks(name).await;
        self.look_for_rows(name).await;
    }

    async fn until_ready(&self, name: &'static str, ended: Instant) {
        let ready = async {
            self.until_whole_again().await;
            self.until_written().await;
        };
        if timeout(READY_WITHIN, ready).await.is_err() {
            let text = format!(
                "not ready {:?} after the end of: {name}; {:?}",
                ended.elapsed(),
                self.cluster.health()
            );
            self.account().violation(text);
            return;
        }
        self.account().recovered(name, ended.elapsed());
        // A question that was under way may still end badly, and the next fault would find a member
        // missing.
        sleep(self.cluster.config().check_every).await;
        self.until_whole_again().await;
    }

    /// Waits until the cluster is ready, and reads from every member but the writer.
    async fn until_whole_again(&self) {
        let is_whole = || {
            let members = self.cluster.members();
            let reads = members.iter().filter(|member| member.serves_reads);
            reads.count() == members.len() - 1 && self.cluster.readiness() == Readiness::Ready
        };
        while !is_whole() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until another write is acknowledged.
    async fn until_written(&self) {
        let written = self.shared.ledger.acknowledged();
        while self.shared.ledger.acknowledged() == written {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Checks that a member that could not be used saw no storm of attempts.
    fn count_attempts(&mut self, name: &str, before: &[u64], began: Instant) {
        let took = began.elapsed();
        let allowed = ATTEMPTS + ATTEMPTS_A_SECOND * (took.as_secs() + 1);
        for (n, (proxy, before)) in self.world.proxies.iter().zip(before).enumerate() {
            let attempts = proxy.accepted() - before;
            self.tally.most_attempts = self.tally.most_attempts.max((attempts, took));
            if attempts > allowed {
                self.account().violation(format!(
                    "{name}: {attempts} attempts to connect to member {n} in {took:?}"
                ));
            }
        }
    }

    /// Checks the limit of each member, so that the fault in which it was exceeded is known.
    async fn check_peaks(&mut self, name: &str) {
        for (n, proxy) in self.world.proxies.iter().enumerate() {
            let peak = proxy.peak().await;
            if peak > self.tally.peak.max(LIMIT + 1) {
                self.tally.peak = peak;
                self.account().violation(format!(
                    "{name}: member {n} saw {peak} connections, of {LIMIT} and 1: {}",
                    proxy.at_peak()
                ));
            }
        }
    }

    /// Every row acknowledged until now is on the writer.
    async fn look_for_rows(&mut self, name: &str) {
        for _ in 0..5 {
            let outcome = async {
                let mut conn = self.cluster.writer().await?;
                let ledger = &self.shared.ledger;
                ledger.check_new(&mut conn, self.account()).await
            };
            match outcome.await {
                Ok(_) => {
                    self.tally.audits += 1;
                    return;
                }
                Err(error) => println!("after {name}: {error}"),
            }
            sleep(Duration::from_millis(500)).await;
        }
        self.account()
            .violation(format!("after {name}, the rows cannot be read"));
    }

    /// The member that takes writes.
    fn writer(&self) -> usize {
        match &self.world.servers {
            Servers::Replication(replication) => replication.primary(),
            Servers::Galera(_) => {
                let members = self.cluster.members();
                let mut roles = members.iter().map(|member| member.role);
                roles.position(|role| role == Role::Writer).unwrap_or(0)
            }
        }
    }

    fn target(&self, target: Target, choice: usize) -> usize {
        let writer = self.writer();
        match target {
            Target::Writer => writer,
            Target::Other => (writer + 1 + choice) % self.world.proxies.len(),
        }
    }

    async fn cause(&self, injection: Injection) {
        let Injection {
            fault,
            lasts,
            choice,
            ..
        } = injection;
        let n = match fault {
            Fault::ShutDown(target)
            | Fault::Isolate(target)
            | Fault::Desync(target)
            | Fault::Kill(target)
            | Fault::Freeze(target)
            | Fault::Silence(target)
            | Fault::Stall(target)
            | Fault::StallNew(target)
            | Fault::Refuse(target)
            | Fault::AcceptAndClose(target)
            | Fault::Cut(target)
            | Fault::HangUp(target)
            | Fault::Slow(target) => self.target(target, choice),
            Fault::Delay | Fault::StopApplying => self.target(Target::Other, choice),
            _ => self.writer(),
        };
        let proxy = &self.world.proxies[n];
        match fault {
            Fault::Switchover => self.switch_over(choice).await,
            Fault::KillAndPromote => {
                self.world.replication().node(n).kill().await;
                self.set_gone(n, true);
                sleep(lasts.min(Duration::from_secs(1))).await;
                self.promote().await;
                self.rejoin(n).await;
            }
            Fault::PartitionAndPromote => {
                self.silence(n);
                sleep(ON_THE_WAY).await;
                self.promote().await;
                sleep(lasts).await;
                self.world.replication().node(n).kill().await;
                self.set_gone(n, false);
                proxy.resume();
                self.rejoin(n).await;
            }
            Fault::SplitAndPromote => {
                self.silence(n);
                sleep(ON_THE_WAY).await;
                self.promote().await;
                // The cluster knows the new primary before it meets the old one again, and no
                // statement is under way to that any more.
                self.until_written().await;
                sleep(STATEMENT_TIMEOUT + ON_THE_WAY).await;
                self.set_gone(n, false);
                proxy.resume();
                sleep(lasts).await;
                self.world.replication().node(n).kill().await;
                self.rejoin(n).await;
            }
            Fault::FreezeAndPromote => {
                let frozen = self.world.replication().node(n).freeze().await;
                self.set_gone(n, true);
                self.promote().await;
                sleep(lasts).await;
                self.world.replication().node(n).kill().await;
                drop(frozen);
                self.rejoin(n).await;
            }
            Fault::Delay => {
                let replication = self.world.replication();
                self.disturb(n);
                replication.delay(n, Duration::from_secs(4)).await;
                sleep(Duration::from_secs(4) + lasts).await;
                self.disturb(n);
                replication.delay(n, Duration::ZERO).await;
                replication.wait_caught_up().await;
                self.disturb(n);
            }
            Fault::StopApplying => {
                let replication = self.world.replication();
                replication.stop_applying(n).await;
                sleep(lasts).await;
                self.disturb(n);
                replication.start_applying(n).await;
                replication.wait_caught_up().await;
                self.disturb(n);
            }
            Fault::ShutDown(_) | Fault::Kill(_) => self.restart(n, injection).await,
            Fault::Isolate(_) => {
                self.world.galera().isolate(n).await;
                sleep(lasts).await;
                self.world.galera().rejoin(n).await;
                self.until_together().await;
            }
            Fault::Desync(_) => {
                self.world.galera().desync(n).await;
                sleep(lasts).await;
                self.world.galera().resync(n).await;
            }
            Fault::Freeze(_) => {
                let frozen = self.world.nodes()[n].freeze().await;
                self.set_gone(n, true);
                sleep(lasts).await;
                self.set_gone(n, false);
                frozen.thaw();
                self.until_whole(n).await;
            }
            Fault::Silence(_) => {
                self.silence(n);
                sleep(lasts).await;
                self.set_gone(n, false);
                proxy.resume();
            }
            Fault::Stall(_) => {
                proxy.stall();
                sleep(lasts).await;
                proxy.resume();
            }
            Fault::StallNew(_) => {
                proxy.accept_and_stall();
                sleep(lasts).await;
                proxy.resume();
            }
            Fault::Refuse(_) => {
                proxy.refuse().await;
                sleep(lasts).await;
                proxy.accept_again().await;
            }
            Fault::AcceptAndClose(_) => {
                proxy.accept_and_close();
                proxy.cut().await;
                self.set_gone(n, true);
                sleep(lasts).await;
                self.set_gone(n, false);
                proxy.forward();
            }
            Fault::Cut(_) => proxy.cut().await,
            Fault::HangUp(_) => proxy.hang_up().await,
            Fault::Slow(_) => {
                proxy.delay(Duration::from_millis(15));
                sleep(lasts).await;
                proxy.forward();
            }
            Fault::Resize(size, overflow) => {
                if let Err(error) = self.cluster.resize(size, overflow) {
                    self.account().violation(format!("no resize: {error}"));
                }
            }
            Fault::Refresh => self.cluster.refresh(),
        }
    }

    /// Nothing reaches a member or comes from it. Bytes under way arrive once it is over.
    fn silence(&self, n: usize) {
        self.world.proxies[n].accept_and_stall();
        self.world.proxies[n].stall();
        self.set_gone(n, true);
    }

    /// From now on a member answers no clients, or it may do so again.
    fn set_gone(&self, n: usize, is_gone: bool) {
        self.shared.truth.set_gone(n, is_gone, self.account());
    }

    fn disturb(&self, n: usize) {
        self.shared.truth.disturb(n);
    }

    async fn switch_over(&self, choice: usize) {
        let old = self.writer();
        let to = self.target(Target::Other, choice);
        self.begin_tenure(to);
        self.world.replication().switchover(to).await;
        self.end_tenure(old);
        self.follow_again().await;
    }

    /// Promotes the replica that has most, and takes the primary for lost.
    async fn promote(&self) {
        let replication = self.world.replication();
        let old = replication.primary();
        let to = replication.most_advanced().await;
        self.begin_tenure(to);
        replication.promote(to).await;
        self.end_tenure(old);
    }

    /// Lets a killed primary follow the new one.
    async fn rejoin(&self, n: usize) {
        self.set_gone(n, false);
        self.world.replication().rejoin(n).await;
        self.follow_again().await;
    }

    /// Replicas have all that the primary had when they began to follow it.
    async fn follow_again(&self) {
        for n in 0..self.world.proxies.len() {
            self.disturb(n);
        }
        self.world.replication().wait_caught_up().await;
        for n in 0..self.world.proxies.len() {
            self.disturb(n);
        }
    }

    async fn restart(&self, n: usize, injection: Injection) {
        let node = &self.world.nodes()[n];
        if matches!(injection.fault, Fault::ShutDown(_)) {
            node.shutdown().await;
        } else {
            node.kill().await;
        }
        self.set_gone(n, true);
        sleep(injection.lasts).await;
        self.set_gone(n, false);
        match &self.world.servers {
            Servers::Galera(galera) => galera.start_again(n).await,
            Servers::Replication(replication) if replication.primary() == n => {
                replication.start_primary_again().await;
                self.follow_again().await;
            }
            Servers::Replication(_) => self.rejoin(n).await,
        }
    }

    async fn until_whole(&self, n: usize) {
        match &self.world.servers {
            Servers::Galera(galera) => {
                galera.wait_synced(n).await;
                self.until_together().await;
            }
            Servers::Replication(_) => self.follow_again().await,
        }
    }

    /// Waits until all Galera nodes are members again, also of one that the others give up only now.
    async fn until_together(&self) {
        sleep(GIVES_UP_WITHIN).await;
        let galera = self.world.galera();
        galera.wait_size(self.world.proxies.len()).await;
        for n in 0..self.world.proxies.len() {
            galera.wait_synced(n).await;
        }
    }

    fn begin_tenure(&self, member: usize) {
        self.tenures(|tenures| {
            tenures.push(Tenure { member, to: None });
        });
    }

    fn end_tenure(&self, member: usize) {
        self.tenures(|tenures| {
            for tenure in tenures {
                if tenure.member == member && tenure.to.is_none() {
                    tenure.to = Some(Instant::now());
                }
            }
        });
    }

    fn tenures(&self, change: impl FnOnce(&mut Vec<Tenure>)) {
        let mut tenures = self
            .shared
            .tenures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut tenures);
    }

    fn account(&self) -> &Account {
        &self.shared.account
    }
}
