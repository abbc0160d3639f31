//! What a server that sends without end makes the pool take of memory.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use test_support::{
    config, pool,
    scripted::{Greeting, Moment, Scripted, Wire, column, early_error, packet, row},
};

use crate::{alone, scale::ALLOCATED};

const OPENINGS: usize = 4;
const MB: usize = 1 << 20;
/// Before the driver knows better it takes packets of so many bytes.
const PACKET: usize = 4 * MB;

/// The most memory that openings take, tried again and again for a second, while the server does this on each.
async fn taken<F, P>(options: &str, script: F) -> usize
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
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        pool.get().await.map(drop).ok();
    }
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    pool.close().await;
    taken
}

/// Answers a question of that moment by rows without end, and all others honestly.
async fn endless_rows(mut wire: Wire, moment: Moment) -> io::Result<()> {
    wire.log_in().await?;
    loop {
        let question = wire.question().await?;
        if question.moment() != moment {
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

/// Sends one packet without end, the longest that is continued in the next.
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

#[tokio::test]
async fn a_server_that_sends_without_end_makes_an_opening_take_no_more_than_a_packet_and_its_copy()
{
    let _turn = alone().await;
    let greeting = taken("", |mut wire: Wire| async move {
        endless_packet(&mut wire).await
    });
    let in_place_of_the_greeting = greeting.await;
    // Made once: what the server itself takes is not the question.
    let greeting = Greeting {
        version: vec![b'8'; PACKET - 200],
        ..Greeting::default()
    };
    let greeting = Arc::new(packet(0, &greeting.payload()));
    let long_version = taken("", move |mut wire: Wire| {
        let greeting = Arc::clone(&greeting);
        async move {
            wire.raw(&greeting).await?;
            wire.hang().await
        }
    });
    let long_version = long_version.await;
    let message = "x".repeat(PACKET - 200);
    let message = Arc::new(packet(0, &early_error(1105, &message)));
    let long_error = taken("", move |mut wire: Wire| {
        let message = Arc::clone(&message);
        async move { wire.raw(&message).await }
    });
    let long_error = long_error.await;
    let limit = "?max_allowed_packet=1048576";
    let facts = taken(limit, |wire: Wire| endless_rows(wire, Moment::Facts)).await;
    let proof = taken(limit, |wire: Wire| endless_rows(wire, Moment::Proof)).await;
    let settings = taken(limit, |wire: Wire| endless_rows(wire, Moment::Settings)).await;
    // For comparison, and no promise: the driver collects what it is answered to its question for settings.
    let without_limit = taken("", |wire: Wire| endless_rows(wire, Moment::Settings)).await;
    let all = [
        in_place_of_the_greeting,
        long_version,
        long_error,
        facts,
        proof,
        settings,
    ];
    println!(
        "{all:?} bytes; rows without end as settings, with no limit given: {without_limit} bytes"
    );
    // A buffer to read into grows to twice what it holds, and so does that of the copy.
    let most = OPENINGS * 4 * PACKET;
    assert!(all.iter().all(|taken| *taken < most), "{all:?}");
}
