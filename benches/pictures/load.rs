//! A steady load, and what each request of it took.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Pool,
    mysql_async::{self, prelude::Queryable},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{interval_at, timeout},
};

/// Requests in a second. They come when they come, whether or not others have been answered.
pub const RATE: u32 = 200;
/// The patience of those who ask.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a service gets its connections from.
pub trait Source: Clone + Send + 'static {
    /// Gets a connection, looks something up, returns it.
    fn request(&self) -> impl Future<Output = mysql_async::Result<Option<u32>>> + Send;
}

impl Source for Pool {
    async fn request(&self) -> mysql_async::Result<Option<u32>> {
        let mut conn = self.get().await?;
        conn.query_first("SELECT 6 * 7").await
    }
}

impl Source for mysql_async::Pool {
    async fn request(&self) -> mysql_async::Result<Option<u32>> {
        let mut conn = self.get_conn().await?;
        conn.query_first("SELECT 6 * 7").await
    }
}

/// `[when, latency, whether it was answered]` for each request, both in milliseconds since `start`;
/// they begin now, and end when so long has passed since `start`.
pub async fn requests(source: &impl Source, start: Instant, lasting: Duration) -> Vec<Value> {
    let mut ticks = interval_at(Instant::now().into(), Duration::from_secs(1) / RATE);
    let mut running = JoinSet::new();
    while start.elapsed() < lasting {
        ticks.tick().await;
        let source = source.clone();
        running.spawn(async move {
            let asked = Instant::now();
            let answer = timeout(PATIENCE, source.request()).await;
            let answered = matches!(answer, Ok(Ok(Some(42))));
            (asked - start, asked.elapsed(), answered)
        });
    }
    let mut all = running.join_all().await;
    all.sort_unstable();
    all.into_iter()
        .map(|(when, latency, answered)| json!([ms(when), ms(latency), answered]))
        .collect()
}

/// To a hundredth.
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}
