//! The settings of a cluster.

use std::{collections::BTreeSet, env, time::Duration};

use super::hosts;
use crate::{
    config::{
        CLUSTER_SETTINGS as SETTINGS, PoolConfig, duration, duration_or_never,
        env::{from_variables, is_injected},
        fault,
        similar::{or_similar, similar},
    },
    error::{ConfigError, ConfigFault, Error},
};

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60 * 60);
const LONGEST_LAG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
pub(super) const MOST_MEMBERS: usize = 64;

/// The settings of a [`Cluster`](super::Cluster): its members, each with the settings of its pool,
/// and how to tell them apart.
///
/// ```
/// use std::time::Duration;
///
/// use mysql_warm_pool::cluster::{ClusterConfig, Reads};
///
/// let url = "mysql://app:secret@db1,db2:3307,db3/shop?size=10&max_lag=5s";
/// let config = ClusterConfig::from_url(url)?
///     .check_every(Duration::from_millis(500))
///     .reads(Reads::ReplicaOnly)
///     .map_members(|member| member.overflow(5));
/// assert_eq!(config.members.len(), 3);
/// assert_eq!(config.members[1].opts().tcp_port(), 3307);
/// assert!(config.members.iter().all(|member| member.size == 10));
/// # Ok::<(), mysql_warm_pool::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// The members, in the order in which they are preferred where several may take writes. Each
    /// has a pool of its own, with these settings, so each server sees up to its `size + overflow`
    /// connections, and one more, on which the cluster asks for its role.
    ///
    /// 1 to 64, no address twice; no default.
    ///
    /// A member's [`name`](field@PoolConfig::name) in metrics and log events is
    /// `host:port/database` by default. If several have the same name, ` host:port` is added to it.
    pub members: Vec<PoolConfig>,

    /// How often each member is asked for its role, and how far it is behind.
    ///
    /// 50 ms to 1 h; default 1 s.
    ///
    /// It takes one round trip. A member is also asked at once when its pool meets an error of a
    /// failover or loses its connections, and all are when the writer is lost. While no member
    /// takes writes, each is asked after a quarter of this time, at most 1 s. A member that does not
    /// answer within 400 ms is unreachable.
    pub check_every: Duration,

    /// The furthest that a replica may be behind to serve reads. `None` means any.
    ///
    /// 0 to 365 days; default `None`. Servers report the lag in whole seconds, so values below 1 s
    /// are of no use.
    ///
    /// With it, a replica whose lag is unknown serves no reads. The lag is unknown if the account
    /// may not ask for it (the warm-up's report has a warning with the `GRANT`), and while
    /// replication does not run, which holds for all replicas while their primary is down.
    pub max_lag: Option<Duration>,

    /// What [`reader()`](super::Cluster::reader) does when no replica serves reads.
    ///
    /// Default [`Reads::PreferReplica`].
    pub reads: Reads,

    /// Whether to add members that a member of Galera or Group Replication names, by the addresses
    /// it names (`wsrep_node_incoming_address`, `report_host` and `report_port`), which must be
    /// reachable from here.
    ///
    /// Default `false`.
    ///
    /// They get the settings of the first member. One that is unreachable, and that no other member
    /// names any more, is removed. It may come back once its old pool is closed, which takes up to
    /// `close_timeout`.
    pub discover: bool,
}

/// Where [`reader()`](super::Cluster::reader) gets its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reads {
    /// From a replica; if none serves reads, from the writer.
    #[default]
    PreferReplica,
    /// From a replica; if none serves reads, it fails with
    /// [`Error::NoReplica`](crate::Error::NoReplica).
    ReplicaOnly,
}

impl ClusterConfig {
    /// Creates a config from the settings of each member's pool, with the default of every other
    /// setting.
    ///
    /// For members whose settings differ. If they are the same, [`from_url`](Self::from_url) is
    /// shorter.
    ///
    /// ```
    /// use mysql_warm_pool::{PoolConfig, cluster::ClusterConfig};
    ///
    /// let primary = PoolConfig::from_url("mysql://app:secret@db1/shop?size=10")?;
    /// let smaller = PoolConfig::from_url("mysql://app:secret@db2/shop?size=2")?;
    /// let config = ClusterConfig::new([primary, smaller]);
    /// assert_eq!(config.members[1].size, 2);
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    pub fn new(members: impl IntoIterator<Item = PoolConfig>) -> Self {
        Self {
            members: members.into_iter().collect(),
            check_every: Duration::from_secs(1),
            max_lag: None,
            reads: Reads::default(),
            discover: false,
        }
    }

    /// Reads a URL with any number of hosts: `mysql://user:password@db1,db2:3307,db3/database`.
    ///
    /// All else is as in [`PoolConfig::from_url`], and holds for each member. The query may also
    /// hold `check_every`, `max_lag`, `reads` (`prefer_replica` or `replica_only`) and `discover`
    /// (`true` or `false`).
    ///
    /// # Errors
    ///
    /// [`Error::Config`], as [`PoolConfig::from_url`].
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let mut own = Vec::new();
        let members = hosts::urls(url, |key, value| {
            let is_own = SETTINGS.contains(&key);
            if is_own {
                own.push((key.to_owned(), key.to_owned(), value.to_owned()));
            }
            is_own
        });
        let members = members.iter().map(|url| PoolConfig::from_url(url));
        let mut config = Self::new(collect(members, &mut faults));
        config.set(own, &mut faults);
        config.unless(faults)
    }

    /// Reads the settings from environment variables, as [`PoolConfig::from_env`] does.
    ///
    /// `DATABASE_URL` or `DATABASE_HOST` may name several hosts. The cluster's own settings are
    /// `DATABASE_CLUSTER_CHECK_EVERY`, `DATABASE_CLUSTER_MAX_LAG`, `DATABASE_CLUSTER_READS` and
    /// `DATABASE_CLUSTER_DISCOVER`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], as [`PoolConfig::from_env`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mysql_warm_pool::cluster::{Cluster, ClusterConfig};
    ///
    /// // DATABASE_URL=mysql://app@db1,db2/shop DATABASE_CLUSTER_MAX_LAG=5s DATABASE_POOL_SIZE=10
    /// let cluster = Cluster::new(ClusterConfig::from_env()?)?;
    /// # Ok::<(), mysql_warm_pool::Error>(())
    /// ```
    pub fn from_env() -> Result<Self, Error> {
        Self::from_env_prefixed("DATABASE")
    }

    /// Reads the settings as [`from_env`](Self::from_env) does, with another prefix instead of
    /// `DATABASE`.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_env_prefixed(prefix: &str) -> Result<Self, Error> {
        let variables = env::vars_os().map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name, value.into_string().ok())
        });
        Self::from_variables(prefix, variables.collect())
    }

    fn from_variables(
        prefix: &str,
        variables: Vec<(String, Option<String>)>,
    ) -> Result<Self, Error> {
        let prefix = prefix.trim_end_matches('_');
        let mut faults = Vec::new();
        let mut own = Vec::new();
        for (name, value) in &variables {
            let rest = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('_'));
            if let (Some(rest), Some(value)) = (rest, value.as_deref().map(str::trim))
                && let Some(key) = rest.strip_prefix("CLUSTER_")
                && !value.is_empty()
                && !is_injected(rest, value)
            {
                own.push((key.to_lowercase(), name.clone(), value.to_owned()));
            }
        }
        let mut query_settings = Vec::new();
        let each = hosts::variables(prefix, variables, |key, value| {
            let is_own = SETTINGS.contains(&key);
            if is_own {
                let name = format!("{prefix}_URL parameter {key}");
                query_settings.push((key.to_owned(), name, value.to_owned()));
            }
            is_own
        });
        let members = each
            .into_iter()
            .map(|variables| from_variables(prefix, variables.into_iter()));
        let mut config = Self::new(collect(members, &mut faults));
        // A variable wins over the URL.
        config.set(query_settings, &mut faults);
        config.set(own, &mut faults);
        config.unless(faults)
    }

    /// Sets [`check_every`](field@Self::check_every).
    #[must_use]
    pub const fn check_every(mut self, interval: Duration) -> Self {
        self.check_every = interval;
        self
    }

    /// Sets [`max_lag`](field@Self::max_lag). Takes a `Duration`, or `None` for any.
    #[must_use]
    pub fn max_lag(mut self, lag: impl Into<Option<Duration>>) -> Self {
        self.max_lag = lag.into();
        self
    }

    /// Sets [`reads`](field@Self::reads).
    #[must_use]
    pub const fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// Sets [`discover`](field@Self::discover).
    #[must_use]
    pub const fn discover(mut self, discover: bool) -> Self {
        self.discover = discover;
        self
    }

    /// Changes the settings of every member's pool.
    #[must_use]
    pub fn map_members(mut self, change: impl FnMut(PoolConfig) -> PoolConfig) -> Self {
        self.members = self.members.into_iter().map(change).collect();
        self
    }

    /// Sets the cluster's own settings from text: each by its field and the name that its source
    /// uses.
    fn set(&mut self, settings: Vec<(String, String, String)>, faults: &mut Vec<ConfigFault>) {
        for (key, name, text) in settings {
            let outcome = match key.as_str() {
                "check_every" => duration(&text).map(|time| self.check_every = time),
                "max_lag" => duration_or_never(&text).map(|lag| self.max_lag = lag),
                "reads" => reads(&text).map(|reads| self.reads = reads),
                "discover" => boolean(&text).map(|discover| self.discover = discover),
                // A variable. Its value may be a password that was put in the wrong place.
                _ => {
                    let start = name
                        .rsplit_once("_CLUSTER_")
                        .map_or("", |(prefix, _)| prefix);
                    let named = |key: &str| format!("{start}_CLUSTER_{}", key.to_uppercase());
                    let meant = similar(&key, SETTINGS.into_iter()).map(named);
                    let allowed = format!("one of {}", SETTINGS.map(named).join(", "));
                    let allowed = or_similar(allowed, meant);
                    faults.push(fault(&name, "not a known name", allowed));
                    continue;
                }
            };
            if let Err(allowed) = outcome {
                faults.push(fault(&name, text, allowed));
            }
        }
    }

    fn unless(self, faults: Vec<ConfigFault>) -> Result<Self, Error> {
        if faults.is_empty() {
            Ok(self)
        } else {
            Err(ConfigError::new(faults).into())
        }
    }

    /// Checks the cluster's own values; those of the members are checked with their pools.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        if !(1..=MOST_MEMBERS).contains(&self.members.len()) {
            let allowed = format!("1 to {MOST_MEMBERS} members");
            faults.push(fault("members", self.members.len(), allowed));
        }
        let mut addresses = BTreeSet::new();
        for member in &self.members {
            let address = address(member);
            if !addresses.insert(address.clone()) {
                faults.push(fault("members", address, "each address once"));
            }
        }
        if !(SHORTEST..=LONGEST).contains(&self.check_every) {
            let value = format!("{:?}", self.check_every);
            faults.push(fault("check_every", value, "50ms to 1h"));
        }
        if let Some(lag) = self.max_lag.filter(|lag| *lag > LONGEST_LAG) {
            faults.push(fault(
                "max_lag",
                format!("{lag:?}"),
                "0s to 365 days, or none",
            ));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::new(faults).into())
        }
    }
}

/// The address of a member: `host:port`, an IPv6 address in brackets.
pub(super) fn address(config: &PoolConfig) -> String {
    let (host, port) = (config.opts().ip_or_hostname(), config.opts().tcp_port());
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Collects the members. All have the same settings but for the address, so of several errors the
/// first one is enough.
fn collect(
    members: impl Iterator<Item = Result<PoolConfig, Error>>,
    faults: &mut Vec<ConfigFault>,
) -> Vec<PoolConfig> {
    match members.collect() {
        Ok(members) => members,
        Err(Error::Config(error)) => {
            faults.extend(error.faults().iter().cloned());
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

fn reads(text: &str) -> Result<Reads, String> {
    match text.to_lowercase().as_str() {
        "prefer_replica" => Ok(Reads::PreferReplica),
        "replica_only" => Ok(Reads::ReplicaOnly),
        _ => Err("prefer_replica, replica_only".to_owned()),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true, false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from_map(pairs: &[(&str, &str)]) -> Result<ClusterConfig, Error> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        ClusterConfig::from_variables("DATABASE", pairs.collect())
    }

    fn addresses(config: &ClusterConfig) -> Vec<String> {
        config.members.iter().map(address).collect()
    }

    #[test]
    fn a_url_names_any_number_of_hosts() {
        let url = "mysql+asyncmy://app:p%40ss@db1,db2:3307,[::1],[::2]:3308/shop?size=3\
                   &check_every=500ms&overflow=2&max_lag=5s&reads=replica_only&discover=true";
        let config = ClusterConfig::from_url(url).expect("a good URL");
        assert_eq!(
            addresses(&config),
            ["db1:3306", "db2:3307", "[::1]:3306", "[::2]:3308"]
        );
        for member in &config.members {
            assert_eq!((member.size, member.overflow), (3, 2));
            let opts = member.opts();
            assert_eq!((opts.user(), opts.pass()), (Some("app"), Some("p@ss")));
            assert_eq!(opts.db_name(), Some("shop"));
        }
        assert_eq!(config.check_every, Duration::from_millis(500));
        assert_eq!(config.max_lag, Some(Duration::from_secs(5)));
        assert_eq!((config.reads, config.discover), (Reads::ReplicaOnly, true));
        config.check().expect("good values");
    }

    /// As kubelet sets them for a service called database-cluster.
    #[test]
    fn variables_that_platforms_inject_are_ignored() {
        let config = from_map(&[
            ("DATABASE_URL", "mysql://app@db1,db2/shop"),
            ("DATABASE_CLUSTER_SERVICE_HOST", "10.0.0.1"),
            ("DATABASE_CLUSTER_SERVICE_PORT", "3306"),
            ("DATABASE_CLUSTER_PORT", "tcp://10.0.0.1:3306"),
            ("DATABASE_CLUSTER_PORT_3306_TCP_ADDR", "10.0.0.1"),
        ]);
        assert_eq!(config.expect("good variables").members.len(), 2);
    }

    #[test]
    fn one_host_is_a_cluster_of_one() {
        let config = ClusterConfig::from_url("mysql://app@db/shop?max_lag=never").expect("good");
        assert_eq!(addresses(&config), ["db:3306"]);
        assert_eq!(config.max_lag, None);
    }

    #[test]
    fn variables_name_several_hosts() {
        let config = from_map(&[
            (
                "DATABASE_URL",
                "mysql://app:secret@db1,db2/shop?size=4&reads=replica_only",
            ),
            ("DATABASE_POOL_OVERFLOW", "1"),
            ("DATABASE_CLUSTER_CHECK_EVERY", "2s"),
            ("DATABASE_CLUSTER_READS", "prefer_replica"),
        ])
        .expect("good variables");
        assert_eq!(addresses(&config), ["db1:3306", "db2:3306"]);
        assert!(
            config
                .members
                .iter()
                .all(|member| member.size == 4 && member.overflow == 1)
        );
        assert_eq!(config.check_every, Duration::from_secs(2));
        assert_eq!(config.reads, Reads::PreferReplica);

        let config = from_map(&[
            ("DATABASE_HOST", "db1,db2:3307"),
            ("DATABASE_PORT", "3300"),
            ("DATABASE_USER", "app"),
        ])
        .expect("good variables");
        assert_eq!(addresses(&config), ["db1:3300", "db2:3307"]);
    }

    #[test]
    fn a_name_that_was_nearly_right_is_suggested() {
        let variables = [
            ("DATABASE_HOST", "db1,db2"),
            ("DATABASE_CLUSTER_MAXLAG", "s3cret"),
        ];
        let error = from_map(&variables).expect_err("unknown").to_string();
        let suggestion = "(did you mean DATABASE_CLUSTER_MAX_LAG?)";
        assert!(error.contains(suggestion), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        let error = ClusterConfig::from_url("mysql://app@db1,db2/shop?max_lags=5s");
        let error = error.expect_err("unknown").to_string();
        assert!(error.contains("(did you mean max_lag"), "{error}");
    }

    #[test]
    fn all_faults_are_named_and_no_secret_is_shown() {
        let url = "mysql://app:s3cret@db1,db2/shop?check_every=soon&reads=all&discover=2";
        let error = ClusterConfig::from_url(url)
            .expect_err("three faults")
            .to_string();
        for part in [
            "check_every is soon, allowed is seconds",
            "reads is all, allowed is prefer_replica, replica_only",
            "discover is 2, allowed is true, false",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let variables = [
            ("DATABASE_URL", "mysql://app:s3cret@db1,/shop"),
            ("DATABASE_CLUSTER_CHECKS", "1"),
        ];
        let error = from_map(&variables).expect_err("an empty host").to_string();
        assert!(
            error.contains(
                "DATABASE_CLUSTER_CHECKS is not a known name, allowed is one of \
                 DATABASE_CLUSTER_CHECK_EVERY, "
            ),
            "{error}"
        );
        assert!(error.contains("DATABASE_URL is (hidden)"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");

        let same = ClusterConfig::from_url("mysql://app@db,db:3306/shop").expect("readable");
        let error = same
            .check_every(Duration::ZERO)
            .check()
            .expect_err("two faults")
            .to_string();
        assert!(
            error.contains("members is db:3306, allowed is each address once"),
            "{error}"
        );
        assert!(
            error.contains("check_every is 0ns, allowed is 50ms to 1h"),
            "{error}"
        );
        let error = ClusterConfig::new([])
            .check()
            .expect_err("none")
            .to_string();
        assert!(
            error.contains("members is 0, allowed is 1 to 64 members"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_host_is_a_fault() {
        for hosts in ["db1,", ",db1", "db1,,db2", ","] {
            let url = format!("mysql://app:s3cret@{hosts}/shop");
            let error = ClusterConfig::from_url(&url).expect_err(hosts).to_string();
            assert!(!error.contains("s3cret"), "{error}");
            let outcome = from_map(&[
                ("DATABASE_URL", "mysql://app:s3cret@other/shop"),
                ("DATABASE_HOST", hosts),
            ]);
            let error = outcome.expect_err(hosts).to_string();
            assert!(error.contains("DATABASE_HOST is (hidden)"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn more_members_than_allowed_are_a_fault() {
        let hosts: Vec<_> = (0..65).map(|n| format!("db{n}")).collect();
        let url = format!("mysql://app@{}/shop", hosts.join(","));
        let config = ClusterConfig::from_url(&url).expect("readable");
        let error = config.check().expect_err("65").to_string();
        assert!(
            error.contains("members is 65, allowed is 1 to 64 members"),
            "{error}"
        );
    }

    fn encoded(text: &str) -> String {
        let bytes = text.bytes();
        bytes.map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        #[test]
        fn any_hosts_and_any_account_are_read(
            hosts in proptest::collection::btree_map(1..50_u8, 0..4_u8, 1..8),
            scheme in prop_oneof![Just("mysql"), Just("mariadb"), Just("mysql+asyncmy")],
            (user, password) in ("[a-z]{1,5}[,@/?# é]{0,3}[a-z]", "[a-z]{1,5}[,@:/?#&=% é]{1,9}[a-z]"),
            query in prop_oneof![Just(""), Just("?size=3"), Just("?max_lag=5s&size=3")],
        ) {
            let (mut names, mut expected) = (Vec::new(), Vec::new());
            for (n, kind) in hosts {
                let (name, address) = match kind {
                    0 => (format!("db{n}.internal"), format!("db{n}.internal:3306")),
                    1 => (format!("10.0.0.{n}:{}", 3307), format!("10.0.0.{n}:3307")),
                    2 => (format!("[2001:db8::{n}]"), format!("[2001:db8::{n}]:3306")),
                    _ => (format!("[2001:db8::{n}]:3308"), format!("[2001:db8::{n}]:3308")),
                };
                names.push(name);
                expected.push(address);
            }
            let hosts = names.join(",");
            let account = format!("{}:{}", encoded(&user), encoded(&password));
            let url = format!("{scheme}://{account}@{hosts}/shop{query}");
            let by_url = ClusterConfig::from_url(&url).expect("a good URL");
            // A single host is as a pool reads it, which has its port apart.
            let hosts = if expected.len() > 1 { hosts } else { "db1,db2".to_owned() };
            let by_variables = from_map(&[
                ("DATABASE_HOST", &hosts),
                ("DATABASE_NAME", "shop"),
                ("DATABASE_USER", &user),
                ("DATABASE_PASSWORD", &password),
            ]);
            prop_assert_eq!(addresses(&by_url), expected.clone());
            let by_variables = by_variables.expect("good variables");
            if expected.len() > 1 {
                prop_assert_eq!(addresses(&by_variables), expected);
            }
            for config in [by_url, by_variables] {
                for member in &config.members {
                    let opts = member.opts();
                    prop_assert_eq!(opts.user(), Some(user.as_str()));
                    prop_assert_eq!(opts.pass(), Some(password.as_str()));
                    prop_assert_eq!(opts.db_name(), Some("shop"));
                }
                let shown = format!("{config:?}");
                prop_assert!(!shown.contains(&password));
            }
        }

        /// Whatever it is, it is read or refused.
        #[test]
        fn no_text_panics(url in "(mysql://)?[a-z0-9,@:/?#&=%\\[\\].]{0,40}") {
            if let Ok(config) = ClusterConfig::from_url(&url) {
                drop(config.check());
            }
            drop(from_map(&[("DATABASE_HOST", &url), ("DATABASE_USER", "app")]));
        }
    }
}
