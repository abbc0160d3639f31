//! Several servers behind one handle: reads and writes through a failover, and a picture of which
//! server answered when.
//!
//! `scripts/with-cluster cargo run --example cluster`
//!
//! `scripts/with-cluster` starts a primary with two replicas, or with `--kind galera` a Galera
//! cluster, and names all servers in `DATABASE_URL`. `CLUSTER_CONTROL` is the command with which this
//! program causes the failover. Without it, the program reads and writes for some 17 s, and waits
//! for a failover that you cause.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    process::Command,
    time::{Duration, Instant},
};

use mysql_warm_pool::cluster::{Cluster, ClusterConfig, Role};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::sleep,
};

/// The time that each column of the picture covers.
const COLUMN: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Write,
    Read,
}

/// When a call ended, and the port of the server that answered it. `None` is an error.
type Answer = (Duration, Kind, Option<u16>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = ClusterConfig::from_env()?.map_members(|member| member.size(5).overflow(5));
    let cluster = Cluster::new(config)?;
    println!("{}", cluster.warm_up().await?);
    print_members(&cluster);
    let mut conn = cluster.writer().await?;
    conn.query_drop("DROP TABLE IF EXISTS visit").await?;
    conn.query_drop("CREATE TABLE visit (id INT AUTO_INCREMENT PRIMARY KEY)")
        .await?;
    drop(conn);

    let started = Instant::now();
    let (sender, mut receiver) = unbounded_channel();
    let mut callers = JoinSet::new();
    for n in 0..12 {
        let kind = if n < 4 { Kind::Write } else { Kind::Read };
        callers.spawn(call(cluster.clone(), kind, started, sender.clone()));
    }

    sleep(Duration::from_secs(2)).await;
    if let Ok(control) = env::var("CLUSTER_CONTROL") {
        fail_over(&cluster, &control, started).await?;
    }
    // A MySQL group takes some 6 s to elect another primary.
    let started_waiting = Instant::now();
    while cluster.failovers() == 0 && started_waiting.elapsed() < Duration::from_secs(12) {
        sleep(COLUMN).await;
    }
    sleep(Duration::from_secs(3)).await;
    callers.abort_all();
    while callers.join_next().await.is_some() {}

    let mut answers = Vec::new();
    while let Ok(answer) = receiver.try_recv() {
        answers.push(answer);
    }
    draw(&cluster, &answers, started.elapsed());
    print_members(&cluster);
    println!(
        "\nfailovers: {}; {}",
        cluster.failovers(),
        cluster.close().await
    );
    Ok(())
}

/// Writes or reads some fifty times a second.
async fn call(cluster: Cluster, kind: Kind, started: Instant, answers: UnboundedSender<Answer>) {
    loop {
        let served_by = match kind {
            Kind::Write => write(&cluster).await,
            Kind::Read => read(&cluster).await,
        };
        let answer = (started.elapsed(), kind, served_by.ok().flatten());
        if answers.send(answer).is_err() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn write(cluster: &Cluster) -> Result<Option<u16>, mysql_warm_pool::Error> {
    let mut conn = cluster.writer().await?;
    conn.exec_drop("INSERT INTO visit () VALUES ()", ()).await?;
    Ok(conn.query_first("SELECT @@port").await?)
}

async fn read(cluster: &Cluster) -> Result<Option<u16>, mysql_warm_pool::Error> {
    let mut conn = cluster.reader().await?;
    Ok(conn.query_first("SELECT @@port").await?)
}

/// Kills the server that takes writes. Among replicas, another one has to be promoted.
async fn fail_over(
    cluster: &Cluster,
    control: &str,
    started: Instant,
) -> Result<(), Box<dyn Error>> {
    let members = cluster.members();
    let place = |role| members.iter().position(|member| member.role == role);
    let (Some(old), Some(new)) = (place(Role::Writer), place(Role::Replica)) else {
        return Ok(());
    };
    let now = || format!("at {:.1} s", started.elapsed().as_secs_f64());
    println!("\n{}: killing {}", now(), members[old].address);
    run(control, &["kill", &(old + 1).to_string()]).await?;
    sleep(Duration::from_secs(1)).await;
    if env::var("CLUSTER_KIND").is_ok_and(|kind| kind == "replication") {
        println!("{}: promoting {}", now(), members[new].address);
        run(control, &["promote", &(new + 1).to_string()]).await?;
    }
    Ok(())
}

async fn run(control: &str, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(control);
    command.args(arguments);
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{control} {}: {status}", arguments.join(" ")).into())
    }
}

fn print_members(cluster: &Cluster) {
    println!(
        "\n{:24} {:12} {:>5} {:>5} {:>5}",
        "member", "role", "lag", "open", "used"
    );
    for member in cluster.members() {
        let lag = member.lag.map(|lag| format!("{} s", lag.as_secs()));
        println!(
            "{:24} {:12} {:>5} {:>5} {:>5}",
            member.address,
            member.role.to_string(),
            lag.as_deref().unwrap_or("?"),
            member.status.open,
            member.status.in_use,
        );
    }
}

/// Draws a line for each server and kind: the taller the bar, the more calls it answered.
fn draw(cluster: &Cluster, answers: &[Answer], took: Duration) {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let column = |at: Duration| usize::try_from(at.as_millis() / COLUMN.as_millis()).unwrap_or(0);
    let columns = column(took);
    let mut lines: BTreeMap<(Kind, Option<u16>), Vec<usize>> = BTreeMap::new();
    for (at, kind, server) in answers {
        let line = lines.entry((*kind, *server)).or_default();
        line.resize(columns + 1, 0);
        if let Some(count) = line.get_mut(column(*at)) {
            *count += 1;
        }
    }
    let most = lines.values().flatten().copied().max().unwrap_or(1).max(1);
    println!("\nanswers of each server; the tallest bar is {most} in 250 ms");
    println!("{:>32} {} total", "second", ruler(columns));
    for ((kind, server), counts) in lines {
        let name = match (kind, server) {
            (Kind::Write, Some(port)) => format!("writes on {}", address(cluster, port)),
            (Kind::Read, Some(port)) => format!("reads on {}", address(cluster, port)),
            (Kind::Write, None) => "failed writes".to_owned(),
            (Kind::Read, None) => "failed reads".to_owned(),
        };
        let bars = counts.iter().take(columns).map(|count| {
            let height = (count * 8).div_ceil(most);
            BARS.get(height).copied().unwrap_or('█')
        });
        let total: usize = counts.iter().sum();
        println!(
            "{name:>32} {:columns$} {total:>5}",
            bars.collect::<String>()
        );
    }
}

fn ruler(columns: usize) -> String {
    let each = usize::try_from(1000 / COLUMN.as_millis()).unwrap_or(1);
    let marks = (0..columns.div_ceil(each)).map(|second| format!("{second:<each$}"));
    marks.collect::<String>().chars().take(columns).collect()
}

fn address(cluster: &Cluster, port: u16) -> String {
    let members = cluster.members();
    let found = members
        .iter()
        .find(|member| member.address.ends_with(&format!(":{port}")));
    found.map_or_else(|| port.to_string(), |member| member.address.clone())
}
