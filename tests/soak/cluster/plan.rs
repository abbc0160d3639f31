//! The settings and the faults, drawn from the seed alone.

use std::time::Duration;

use mysql_warm_pool::{
    OnCancel, PoolConfig,
    cluster::{ClusterConfig, Reads},
};
use test_support::Seed;

use super::Topology;
use crate::account::Symptoms;

/// The most connections of one member's pool that any of the settings allow.
pub(crate) const LIMIT: usize = 8;
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings for these members; no later change exceeds the limit of connections.
pub(crate) fn settle(
    members: Vec<PoolConfig>,
    topology: Topology,
    seed: &mut Seed,
) -> ClusterConfig {
    let millis = Duration::from_millis;
    let size = *seed.pick(&[3, 5, LIMIT]);
    let connect_timeout = millis(*seed.pick(&[250, 1_000]));
    let validate_after_idle = millis(*seed.pick(&[0, 100, 1_000]));
    let keepalive = *seed.pick(&[None, Some(millis(100)), Some(millis(2_000))]);
    let recycle = *seed.pick(&[None, Some(millis(1_500)), Some(millis(20_000))]);
    let on_cancel = *seed.pick(&[OnCancel::Close, OnCancel::Kill]);
    let members = members.into_iter().map(|member| {
        member
            .size(size)
            .overflow(LIMIT - size)
            .timeout(TIMEOUT)
            .statement_timeout(STATEMENT_TIMEOUT)
            .connect_timeout(connect_timeout)
            .validate_after_idle(validate_after_idle)
            .keepalive(keepalive)
            .recycle(recycle)
            .on_cancel(on_cancel)
    });
    let max_lag = match topology {
        Topology::Galera => None,
        Topology::Replication => *seed.pick(&[Some(millis(1_000)), Some(millis(2_000)), None]),
    };
    ClusterConfig::new(members)
        .check_every(millis(*seed.pick(&[200, 500, 1_000])))
        .reads(*seed.pick(&[Reads::PreferReplica, Reads::ReplicaOnly]))
        .max_lag(max_lag)
}

/// One injected fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    pub(crate) fault: Fault,
    /// How long it lasts, if it does.
    pub(crate) lasts: Duration,
    /// Chooses among the members that the fault may hit.
    pub(crate) choice: usize,
    pub(crate) pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A replica takes over as planned.
    Switchover,
    /// The primary is killed, and a replica promoted.
    KillAndPromote,
    /// The primary is cut off its clients, a replica promoted, and the primary killed before it can
    /// be reached again.
    PartitionAndPromote,
    /// The same, but it can be reached before it is killed: two servers take writes, of which one
    /// has no replica to confirm them.
    SplitAndPromote,
    /// The primary stands still, a replica is promoted, and the primary killed.
    FreezeAndPromote,
    /// A replica applies what it receives some seconds later.
    Delay,
    /// A replica applies nothing.
    StopApplying,
    /// A Galera node stops itself and starts again.
    ShutDown(Target),
    /// A Galera node is cut off the others, not off its clients.
    Isolate(Target),
    /// A Galera node is left out, as a donor is.
    Desync(Target),
    Kill(Target),
    /// SIGSTOP.
    Freeze(Target),
    /// Nothing reaches the member or comes from it.
    Silence(Target),
    /// Open connections hang.
    Stall(Target),
    /// New connections hang.
    StallNew(Target),
    /// New connections are refused, open ones go on.
    Refuse(Target),
    /// Connections are cut, and new ones accepted and closed.
    AcceptAndClose(Target),
    /// RST on every connection.
    Cut(Target),
    /// FIN on every connection.
    HangUp(Target),
    /// Every byte takes some milliseconds.
    Slow(Target),
    Resize(usize, usize),
    Refresh,
}

/// The member that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Writer,
    Other,
}

impl Fault {
    pub(crate) const fn name(self) -> &'static str {
        use Target::{Other, Writer};
        match self {
            Self::Switchover => "switchover",
            Self::KillAndPromote => "SIGKILL, promotion",
            Self::PartitionAndPromote => "partition, promotion",
            Self::SplitAndPromote => "two writers",
            Self::FreezeAndPromote => "freeze, promotion",
            Self::Delay => "replica behind",
            Self::StopApplying => "replica stops applying",
            Self::ShutDown(Writer) => "writer shut down",
            Self::ShutDown(Other) => "other shut down",
            Self::Isolate(Writer) => "writer isolated",
            Self::Isolate(Other) => "other isolated",
            Self::Desync(Writer) => "writer desynced",
            Self::Desync(Other) => "other desynced",
            Self::Kill(Writer) => "writer SIGKILL",
            Self::Kill(Other) => "other SIGKILL",
            Self::Freeze(Writer) => "writer frozen",
            Self::Freeze(Other) => "other frozen",
            Self::Silence(Writer) => "writer silent",
            Self::Silence(Other) => "other silent",
            Self::Stall(Writer) => "writer stalls",
            Self::Stall(Other) => "other stalls",
            Self::StallNew(Writer) => "writer stalls new",
            Self::StallNew(Other) => "other stalls new",
            Self::Refuse(Writer) => "writer refuses",
            Self::Refuse(Other) => "other refuses",
            Self::AcceptAndClose(Writer) => "writer closes at once",
            Self::AcceptAndClose(Other) => "other closes at once",
            Self::Cut(Writer) => "writer cut (RST)",
            Self::Cut(Other) => "other cut (RST)",
            Self::HangUp(Writer) => "writer hung up (FIN)",
            Self::HangUp(Other) => "other hung up (FIN)",
            Self::Slow(Writer) => "writer slow",
            Self::Slow(Other) => "other slow",
            Self::Resize(..) => "resize",
            Self::Refresh => "refresh",
        }
    }

    /// What callers may notice of the fault.
    pub(crate) const fn symptoms(self, topology: Topology) -> Symptoms {
        let nothing = Symptoms {
            losses: false,
            waits: false,
            denials: false,
            read_only: false,
            no_member: false,
            split: false,
            writes: false,
        };
        let anything = Symptoms {
            losses: true,
            waits: true,
            no_member: true,
            writes: true,
            ..nothing
        };
        let of_one_reader = Symptoms {
            losses: true,
            waits: true,
            ..nothing
        };
        match self {
            Self::Switchover
            | Self::KillAndPromote
            | Self::PartitionAndPromote
            | Self::FreezeAndPromote => Symptoms {
                read_only: true,
                ..anything
            },
            Self::SplitAndPromote => Symptoms {
                read_only: true,
                split: true,
                ..anything
            },
            Self::Delay | Self::StopApplying | Self::Refresh => nothing,
            Self::Resize(..) => Symptoms {
                waits: true,
                writes: true,
                ..nothing
            },
            Self::ShutDown(_) | Self::Isolate(_) | Self::Desync(_) => anything,
            Self::Kill(target) | Self::Freeze(target) => match (topology, target) {
                (Topology::Replication, Target::Other) => of_one_reader,
                (Topology::Replication, Target::Writer) => Symptoms {
                    // It starts like that.
                    read_only: matches!(self, Self::Kill(_)),
                    ..anything
                },
                // Every commit needs all nodes, until those that are gone have been left out.
                _ => anything,
            },
            Self::Silence(target)
            | Self::Stall(target)
            | Self::StallNew(target)
            | Self::Refuse(target)
            | Self::AcceptAndClose(target)
            | Self::Cut(target)
            | Self::HangUp(target)
            | Self::Slow(target) => match target {
                Target::Writer => anything,
                Target::Other => of_one_reader,
            },
        }
    }
}

/// Deals faults so that each kind is equally frequent, in random order.
#[derive(Debug)]
pub(crate) struct Deck {
    seed: Seed,
    topology: Topology,
    rest: Vec<Fault>,
}

impl Deck {
    pub(crate) const fn new(seed: Seed, topology: Topology) -> Self {
        Self {
            seed,
            topology,
            rest: Vec::new(),
        }
    }

    pub(crate) fn deal(&mut self) -> Injection {
        if self.rest.is_empty() {
            self.rest = self.shuffled();
        }
        let fault = self.rest.pop().expect("shuffled is not empty");
        let seed = &mut self.seed;
        let longest = *seed.pick(&[500, 1_500, 4_000]);
        Injection {
            fault,
            lasts: Duration::from_millis(100) + seed.duration_below(Duration::from_millis(longest)),
            choice: usize::try_from(seed.below(2)).expect("a small number"),
            pause: if seed.chance(25) {
                Duration::from_millis(2_500)
            } else {
                seed.duration_below(Duration::from_millis(500))
            },
        }
    }

    fn shuffled(&mut self) -> Vec<Fault> {
        use Fault::{
            AcceptAndClose, Cut, Delay, Desync, Freeze, FreezeAndPromote, HangUp, Isolate, Kill,
            KillAndPromote, PartitionAndPromote, Refresh, Refuse, ShutDown, Silence, Slow,
            SplitAndPromote, Stall, StallNew, StopApplying, Switchover,
        };
        let mut faults = match self.topology {
            Topology::Replication => vec![
                Switchover,
                Switchover,
                KillAndPromote,
                KillAndPromote,
                PartitionAndPromote,
                SplitAndPromote,
                FreezeAndPromote,
                Delay,
                StopApplying,
                Kill(Target::Writer),
                Kill(Target::Other),
            ],
            Topology::Galera => [Target::Writer, Target::Other]
                .into_iter()
                .flat_map(|target| [ShutDown, Isolate, Desync, Kill].map(|fault| fault(target)))
                .collect(),
        };
        for target in [Target::Writer, Target::Other] {
            let of_both = [
                Freeze,
                Silence,
                Stall,
                StallNew,
                Refuse,
                AcceptAndClose,
                Cut,
                HangUp,
                Slow,
            ];
            faults.extend(of_both.map(|fault| fault(target)));
        }
        let seed = &mut self.seed;
        faults.extend([resize(seed), Refresh]);
        for at in (1..faults.len()).rev() {
            let other = usize::try_from(seed.below(at as u64 + 1)).expect("an index");
            faults.swap(at, other);
        }
        faults
    }
}

/// Any size and overflow within the limit.
fn resize(seed: &mut Seed) -> Fault {
    let mut below = |end: usize| usize::try_from(seed.below(end as u64)).expect("a small number");
    let size = 1 + below(LIMIT);
    Fault::Resize(size, below(LIMIT - size + 1))
}
