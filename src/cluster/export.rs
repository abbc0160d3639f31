//! Exports a cluster's metrics through the `metrics` facade. `docs/observability.md` lists them.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::state::View;
use crate::report::Role;

const ROLE: &str = "mysql_warm_pool.cluster.role";
const LAG: &str = "mysql_warm_pool.cluster.lag";
const FAILOVERS: &str = "mysql_warm_pool.cluster.failovers";
const POOL: &str = "db.client.connection.pool.name";

/// Describes the metrics, and begins to count at 0.
pub(super) fn begin(cluster: &str) {
    describe_gauge!(
        ROLE,
        Unit::Count,
        "role now: 0 unreachable, 1 unknown, 2 unusable, 3 replica, 4 writer"
    );
    describe_gauge!(
        LAG,
        Unit::Seconds,
        "how far the member is behind; NaN if unknown"
    );
    describe_counter!(
        FAILOVERS,
        Unit::Count,
        "changes of the member that takes writes"
    );
    counter!(FAILOVERS, "cluster" => cluster.to_owned()).increment(0);
}

pub(super) fn members(view: &View) {
    for member in &view.members {
        let pool = member.server.pool.name();
        gauge!(ROLE, POOL => pool.to_owned()).set(member.role.number());
        let lag = member.lag.map_or(f64::NAN, |lag| lag.as_secs_f64());
        gauge!(LAG, POOL => pool.to_owned()).set(lag);
    }
}

/// The facade keeps every gauge, so a member that is gone is shown as unreachable.
pub(super) fn removed(pool: &str) {
    gauge!(ROLE, POOL => pool.to_owned()).set(Role::Unreachable.number());
    gauge!(LAG, POOL => pool.to_owned()).set(f64::NAN);
}

pub(super) fn failover(cluster: &str) {
    counter!(FAILOVERS, "cluster" => cluster.to_owned()).increment(1);
}
