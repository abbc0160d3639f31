//! What a cluster reports: its members and their roles, what a warm-up did, whether it can serve.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

#[cfg(feature = "serde")]
use super::readiness::unix_seconds;
use super::{HumanDuration, PoolStatus, Readiness, WarmUpReport};

/// The role of a member of a cluster now, as its server answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Role {
    /// It has not answered yet.
    Unknown,
    /// It takes writes. If several members of one replication topology do, all of them have this
    /// role, and [`writer()`](crate::cluster::Cluster::writer) fails.
    Writer,
    /// It serves reads. In Galera and in a multi-primary group, that is every member but the one
    /// that the cluster has chosen for writes.
    Replica,
    /// It answers, but must not be used:
    ///
    /// - a Galera node without quorum, or that is not synced;
    /// - a member of a group that is offline, recovering, in error or without quorum, or that takes
    ///   itself for the primary while most members see another one;
    /// - a server in offline mode;
    /// - a second address of another member.
    Unusable,
    /// It does not answer.
    Unreachable,
}

impl Role {
    /// Returns the role as a number for metrics: `Unreachable` 0, `Unknown` 1, `Unusable` 2,
    /// `Replica` 3, `Writer` 4.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unreachable => 0,
            Self::Unknown => 1,
            Self::Unusable => 2,
            Self::Replica => 3,
            Self::Writer => 4,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Writer => "writer",
            Self::Replica => "replica",
            Self::Unusable => "unusable",
            Self::Unreachable => "unreachable",
        })
    }
}

/// A member of a cluster, as it is now; returned by
/// [`Cluster::members`](crate::cluster::Cluster::members). Its `Display` has address, role, lag and
/// last error.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Member {
    /// `host:port`.
    pub address: String,
    /// Its role now.
    pub role: Role,
    /// How far it is behind the writer, as its server reports it, in whole seconds; 0 for a writer
    /// and in Galera, where flow control bounds it. `None` if it is not known: the account may not
    /// ask, replication does not run, or the server does not answer.
    pub lag: Option<Duration>,
    /// Whether [`reader()`](crate::cluster::Cluster::reader) may choose it: a replica within
    /// [`max_lag`](field@crate::cluster::ClusterConfig::max_lag).
    pub serves_reads: bool,
    /// The readiness of its pool now.
    pub readiness: Readiness,
    /// The connections of its pool now.
    pub status: PoolStatus,
    /// Why it is unreachable or unusable, or why its pool cannot open connections. It holds no
    /// password but may hold hosts and users in the server's own words.
    pub last_error: Option<String>,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.address, self.role)?;
        if let Some(lag) = self.lag.filter(|lag| !lag.is_zero()) {
            write!(f, ", {} behind", HumanDuration(lag))?;
        }
        if let Some(error) = &self.last_error {
            write!(f, " ({error})")?;
        }
        Ok(())
    }
}

/// Whether a cluster can serve, with the facts to understand it; returned by
/// [`Cluster::health`](crate::cluster::Cluster::health).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClusterHealth {
    /// Whether the cluster can serve now.
    pub readiness: Readiness,
    /// When the readiness became what it is. With the feature `serde`: seconds since 1970.
    #[cfg_attr(feature = "serde", serde(serialize_with = "unix_seconds"))]
    pub since: SystemTime,
    /// Its members now.
    pub members: Vec<Member>,
}

/// What a warm-up of a cluster did; returned by
/// [`Cluster::warm_up`](crate::cluster::Cluster::warm_up). Its `Display` is one line.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClusterReport {
    /// One for each member: those of the settings in their order, then those discovered.
    pub members: Vec<MemberReport>,
    /// How long the warm-up took.
    pub elapsed: Duration,
    /// What is likely to cause trouble later.
    pub warnings: Vec<ClusterWarning>,
}

/// What a warm-up did with one member.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberReport {
    /// `host:port`.
    pub address: String,
    /// Its role when the warm-up ended.
    pub role: Role,
    /// The report of its pool; `None` if its warm-up had not ended, or failed without one.
    pub report: Option<WarmUpReport>,
    /// Why its pool is not warm.
    pub error: Option<String>,
}

impl ClusterReport {
    /// Returns whether every member is usable and its pool complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.members.iter().all(|member| {
            let is_usable = matches!(member.role, Role::Writer | Role::Replica);
            is_usable
                && member
                    .report
                    .as_ref()
                    .is_some_and(WarmUpReport::is_complete)
        })
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usable = self.members.iter();
        let usable = usable.filter(|member| matches!(member.role, Role::Writer | Role::Replica));
        let (usable, all) = (usable.count(), self.members.len());
        write!(
            f,
            "{usable} of {all} members usable in {}",
            HumanDuration(self.elapsed)
        )?;
        for member in &self.members {
            write!(f, "; {} ({}): ", member.address, member.role)?;
            match (&member.report, &member.error) {
                (_, Some(error)) => write!(f, "{error}")?,
                (Some(report), None) => write!(f, "{report}")?,
                (None, None) => f.write_str("not warm yet")?,
            }
        }
        for warning in &self.warnings {
            write!(f, "; warning: {warning}")?;
        }
        Ok(())
    }
}

/// Something about a cluster that is likely to cause trouble later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum ClusterWarning {
    /// The account may not ask how far a replica is behind, so its lag is unknown, and with
    /// [`max_lag`](field@crate::cluster::ClusterConfig::max_lag) it serves no reads.
    LagUnknown {
        /// The member, `host:port`.
        address: String,
        /// The statement that gives the account the privilege.
        grant: String,
    },
    /// The account may not read the member table of Group Replication. The member's role is taken
    /// from `read_only`, which does not show that a group has lost its quorum.
    GroupUnknown {
        /// The member, `host:port`.
        address: String,
        /// The statement that gives the account the privilege.
        grant: String,
    },
    /// Two addresses lead to one server. The second is left out.
    SameServer {
        /// The address that is left out.
        address: String,
        /// The address that is used.
        same_as: String,
    },
}

impl fmt::Display for ClusterWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LagUnknown { address, grant } => {
                write!(f, "the lag of {address} is unknown: {grant}")
            }
            Self::GroupUnknown { address, grant } => {
                write!(f, "the state of the group of {address} is unknown: {grant}")
            }
            Self::SameServer { address, same_as } => {
                write!(f, "{address} is the same server as {same_as}, and left out")
            }
        }
    }
}
