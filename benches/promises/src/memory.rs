//! Bytes allocated by idle connections, and by openings on a server that never stops sending.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    Result,
    measure::{median, until},
    table::{Table, Unit},
};
use mysql_warm_pool::mysql_async::{Conn, Opts};
use peak_alloc::PeakAlloc;
use test_support::{
    config, pool,
    scripted::{Greeting, QuestionKind, Scripted, Wire, column, early_error, packet, row},
};

use crate::{
    on_one_thread,
    pools::{settings, warm},
};

/// Counts the bytes that are allocated now.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    idle_connections(table, opts).await?;
    on_one_thread(hostile_servers(table))
}

async fn idle_connections(table: &mut Table, opts: &Opts) -> Result<()> {
    /// Bytes per pool for maintenance, counters, histograms and settings.
    const OF_A_POOL: f64 = 6_000.0;
    // Makes the allocations that happen only once per process.
    warm(settings(opts).size(2)).await?.close().await;
    for count in [1, 20, 200] {
        let bare = bytes_for_each(count, async || {
            let mut conns = Vec::with_capacity(count);
            for _ in 0..count {
                conns.push(Conn::new(opts.clone()).await?);
            }
            Ok(conns)
        })
        .await?;
        let ours = bytes_for_each(count, async || {
            let pool = warm(settings(opts).size(count).overflow(0)).await?;
            until("all are idle", async || Ok(pool.status().idle == count)).await?;
            Ok(pool)
        })
        .await?;
        // With a single connection, the pool itself is a visible part.
        let (of_the_pool, promise) = match count {
            1 => (
                OF_A_POOL,
                "memory of a pool with 1 connection, to bare and 6,000 bytes",
            ),
            20 => (0.0, "memory of each of 20 idle connections, to bare"),
            _ => (0.0, "memory of each of 200 idle connections, to bare"),
        };
        table.at_most(promise, Unit::Times, (ours - of_the_pool) / bare, 1.1);
    }
    Ok(())
}

/// Bytes that stay allocated, per connection: the median of three tries.
async fn bytes_for_each<T>(count: usize, make: impl AsyncFn() -> Result<T>) -> Result<f64> {
    let mut tries = Vec::new();
    for _ in 0..3 {
        let before = at_rest().await?;
        let made = make().await?;
        tries.push(at_rest().await? as f64 - before as f64);
        drop(made);
    }
    Ok(median(tries) / count as f64)
}

/// The allocated bytes, once they no longer change: dropped connections close in the background.
async fn at_rest() -> Result<usize> {
    const REST: Duration = Duration::from_millis(100);
    let (mut allocated, mut since) = (ALLOCATED.current_usage(), Instant::now());
    until("nothing is allocated or freed", async || {
        let now = ALLOCATED.current_usage();
        if now != allocated {
            (allocated, since) = (now, Instant::now());
        }
        Ok(since.elapsed() >= REST)
    })
    .await?;
    Ok(allocated)
}

const OPENINGS: usize = 4;
const MB: usize = 1 << 20;
/// The driver accepts packets of this size before it knows the server's limit.
const PACKET: usize = 4 * MB;

async fn hostile_servers(table: &mut Table) -> Result<()> {
    // Created in advance, so that the server's own memory does not count.
    let greeting = Greeting {
        version: vec![b'8'; PACKET - 200],
        ..Greeting::default()
    };
    let greeting = Arc::new(packet(0, &greeting.payload()));
    let message = "x".repeat(PACKET - 200);
    let message = Arc::new(packet(0, &early_error(1105, &message)));
    let limit = "?max_allowed_packet=1048576";
    let rows = |kind| taken(limit, move |wire: Wire| endless_rows(wire, kind));
    let endless_greeting = taken("", |mut wire: Wire| async move {
        endless_packet(&mut wire).await
    });
    let long_version = taken("", move |mut wire: Wire| {
        let greeting = Arc::clone(&greeting);
        async move {
            wire.raw(&greeting).await?;
            wire.hang().await
        }
    });
    let long_error = taken("", move |mut wire: Wire| {
        let message = Arc::clone(&message);
        async move { wire.raw(&message).await }
    });
    let all = [
        ("a greeting without end", endless_greeting.await?),
        ("a version of 4 MB", long_version.await?),
        ("an error of 4 MB", long_error.await?),
        ("settings without end", rows(QuestionKind::Settings).await?),
        (
            "server facts without end",
            rows(QuestionKind::FirstValidation).await?,
        ),
        (
            "a validation answered without end",
            rows(QuestionKind::Validation).await?,
        ),
    ];
    // A read buffer grows to twice its content, and so does the buffer of the copy.
    let bound = OPENINGS * 4 * PACKET;
    for (what, bytes) in all {
        let mebibytes = |bytes: usize| bytes as f64 / MB as f64;
        let promise = format!("memory of 4 openings that meet {what}");
        let (figure, bound) = (mebibytes(bytes), mebibytes(bound));
        table.at_most(&promise, Unit::Mebibytes, figure, bound);
    }
    Ok(())
}

/// The peak memory of openings that are retried for a second while the server runs this script on
/// each connection.
async fn taken<F, P>(options: &str, script: F) -> Result<usize>
where
    F: Fn(Wire) -> P + Send + Sync + 'static,
    P: Future<Output = io::Result<()>> + Send + 'static,
{
    let server = Scripted::start().await;
    server.play(script);
    let settings = config(&format!("{}{options}", server.url()))
        .size(OPENINGS)
        .overflow(0)
        .max_connecting(OPENINGS)
        .connect_timeout(Duration::from_millis(400))
        .timeout(Duration::from_millis(500));
    let pool = pool(settings);
    let before = at_rest().await?;
    ALLOCATED.reset_peak_usage();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        pool.get().await.map(drop).ok();
    }
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    pool.close().await;
    Ok(taken)
}

/// Answers a question of this kind with endless rows, and all others correctly.
async fn endless_rows(mut wire: Wire, kind: QuestionKind) -> io::Result<()> {
    wire.log_in().await?;
    loop {
        let question = wire.question().await?;
        if question.kind() != kind {
            wire.raw(&question.answer()).await?;
            continue;
        }
        wire.packet(1, &[1]).await?;
        wire.packet(2, &column()).await?;
        let mut all_numbers = Vec::new();
        for number in (3..=255).chain(0..3) {
            all_numbers.extend(packet(number, &row(&["1"])));
        }
        return wire.endlessly(&all_numbers).await;
    }
}

/// Sends one endless packet: each piece has the maximum length, so the next continues it.
async fn endless_packet(wire: &mut Wire) -> io::Result<()> {
    let piece = vec![b'x'; MB];
    for number in (0..=255).cycle() {
        wire.raw(&[0xFF, 0xFF, 0xFF, number]).await?;
        for _ in 0..15 {
            wire.raw(&piece).await?;
        }
        wire.raw(&piece[1..]).await?;
    }
    Ok(())
}
