//! The scenarios, and the outcome of each.

use crate::{
    pool::SIZE,
    server::{Conditions, Server},
    world::{Nanos, PoolId, SECOND, World},
};

/// Replicas for each server. Its limit allows a fifth more connections than they keep open.
const EACH: usize = 1_000;
/// All replicas of a cold start begin within this time: no scheduler starts thousands at once.
const WITHIN: Nanos = SECOND;

pub struct Scenario {
    pub name: &'static str,
    pub run: fn(usize, u64, Conditions) -> Outcome,
}

pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "cold start",
        run: cold_start,
    },
    Scenario {
        name: "server restart",
        run: |replicas, seed, conditions| outage(replicas, seed, conditions, 10 * SECOND),
    },
    Scenario {
        name: "failover",
        run: |replicas, seed, conditions| outage(replicas, seed, conditions, SECOND),
    },
    Scenario {
        name: "rolling update",
        run: rolling_update,
    },
];

#[derive(Debug)]
pub struct Outcome {
    /// Seconds until 99 % of the replicas were Ready.
    pub ready_in: f64,
    /// The same, if the servers were never idle while a connection was missing.
    pub at_best: f64,
    /// The most attempts that reached all servers together within one second.
    pub peak: u64,
    pub refused: u64,
    /// Those of them that a server refused because it was at its limit (error 1040).
    pub over_limit: u64,
    pub needless: u64,
    /// The most connections that any server had.
    pub most_open: usize,
    pub limit: usize,
}

/// The servers for this number of replicas.
fn servers(replicas: usize, conditions: Conditions) -> Vec<Server> {
    let count = replicas.div_ceil(EACH);
    let each = replicas.div_ceil(count);
    let limit = each * SIZE * 6 / 5;
    (0..count).map(|_| Server::new(limit, conditions)).collect()
}

fn cold_start(replicas: usize, seed: u64, conditions: Conditions) -> Outcome {
    let mut world = World::new(seed, servers(replicas, conditions));
    let mut starts = Vec::new();
    for replica in 0..replicas {
        let at = world.random() % WITHIN;
        let server = replica % world.servers.len();
        starts.push((at, server));
        world.add(server, at);
    }
    let best = at_best(starts, conditions);
    let ready = until_ready(&mut world, replicas);
    outcome(&world, ready, best, 0)
}

/// The servers are gone for a while. After a failover, their addresses lead to new ones.
fn outage(replicas: usize, seed: u64, conditions: Conditions, lasts: Nanos) -> Outcome {
    let mut world = World::new(seed, servers(replicas, conditions));
    for replica in 0..replicas {
        world.add_warm(replica % world.servers.len());
    }
    for server in 0..world.servers.len() {
        world.restart(server, 0, lasts);
    }
    let servers = world.servers.len();
    let starts = (0..replicas).map(|replica| (lasts, replica % servers));
    let best = at_best(starts.collect(), conditions);
    let ready = until_ready(&mut world, replicas);
    outcome(&world, ready, best, lasts)
}

/// A tenth more replicas than usual run at a time: whenever a new one is Ready, an old one ends and
/// the next new one starts.
fn rolling_update(replicas: usize, seed: u64, conditions: Conditions) -> Outcome {
    let mut world = World::new(seed, servers(replicas, conditions));
    let mut old: Vec<PoolId> = (0..replicas)
        .map(|replica| world.add_warm(replica % world.servers.len()))
        .collect();
    let surge = replicas.div_ceil(10);
    let mut starts = Vec::new();
    let mut start = |world: &mut World| {
        if starts.len() < replicas {
            let at = world.now() + world.random() % WITHIN;
            let server = starts.len() % world.servers.len();
            world.add(server, at);
            starts.push((at, server));
        }
    };
    for _ in 0..surge {
        start(&mut world);
    }
    let mut seen = 0;
    while world.ready.len() < replicas && world.step() {
        while seen < world.ready.len() {
            seen += 1;
            if let Some(gone) = old.pop() {
                world.close(gone);
            }
            start(&mut world);
        }
    }
    let ready = percentile(world.ready.iter().map(|(at, _)| *at).collect());
    outcome(&world, ready, at_best(starts, conditions), 0)
}

fn until_ready(world: &mut World, replicas: usize) -> Nanos {
    while world.ready.len() < replicas && world.step() {}
    percentile(world.ready.iter().map(|(at, _)| *at).collect())
}

/// When 99 % of the replicas are Ready, if no server is idle while a connection is missing and each
/// serves its replicas in the order of their starts. `starts` holds when and at which server.
fn at_best(mut starts: Vec<(Nanos, usize)>, conditions: Conditions) -> Nanos {
    starts.sort_unstable();
    let mut free_at = Vec::new();
    let ready = starts.into_iter().map(|(at, server)| {
        free_at.resize(free_at.len().max(server + 1), 0);
        let free_at: &mut Nanos = &mut free_at[server];
        *free_at = at.max(*free_at) + SIZE as Nanos * SECOND / conditions.rate;
        *free_at
    });
    percentile(ready.collect())
}

/// The 99th percentile.
fn percentile(mut times: Vec<Nanos>) -> Nanos {
    times.sort_unstable();
    let place = (times.len() * 99).div_ceil(100);
    times[place.saturating_sub(1)]
}

fn outcome(world: &World, ready: Nanos, best: Nanos, from: Nanos) -> Outcome {
    let most_open = world.servers.iter().map(|server| server.most_open).max();
    Outcome {
        ready_in: seconds(ready.saturating_sub(from)),
        at_best: seconds(best.saturating_sub(from)),
        peak: world.peak(),
        refused: world.refused,
        over_limit: world.over_limit,
        needless: world.needless,
        most_open: most_open.unwrap_or(0),
        limit: world
            .servers
            .first()
            .map_or(0, |server| server.max_connections),
    }
}

fn seconds(time: Nanos) -> f64 {
    time as f64 / SECOND as f64
}
