//! Samples for the page: one sample of the pool twice a second, shared by all viewers.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mysql_warm_pool::{metrics::Histogram, report::Health};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{app::App, stage::Stage};

const EVERY: Duration = Duration::from_millis(500);
/// The period for the times of gets and statements. Those per second are those of the last second.
const WINDOW: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const TROUBLES: usize = 8;

/// Publishes samples to the receivers. Dropping it ends every stream.
pub(crate) struct LiveFeed {
    sender: watch::Sender<Arc<str>>,
}

impl LiveFeed {
    pub(crate) fn new() -> (Self, watch::Receiver<Arc<str>>) {
        let (sender, receiver) = watch::channel(Arc::from(""));
        (Self { sender }, receiver)
    }

    /// Takes samples until the service ends. Then the streams end too; otherwise an orderly
    /// shutdown would wait for them.
    pub(crate) async fn follow(self, app: Arc<App>) {
        let mut past = Past::default();
        let mut readiness = app.pool.watch();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sample = past.sample(&app);
            // A sample can always be serialised: it has no maps with keys other than strings.
            if let Ok(json) = serde_json::to_string(&sample) {
                self.sender.send_replace(json.into());
            }
            tokio::select! {
                _ = ticks.tick() => {}
                // Do not wait for the next tick, so that a short outage is seen.
                _ = readiness.changed(), if app.life.stage() < Stage::Ending => {}
                () = app.life.until(Stage::Ending) => return,
            }
        }
    }
}

#[derive(Serialize)]
struct Sample {
    at: f64,
    pool: String,
    stage: Stage,
    ready: bool,
    health: Health,
    gets_per_second: f64,
    /// In seconds; `None` if nobody got a connection in the window.
    get_p50: Option<f64>,
    get_p99: Option<f64>,
    gets: u64,
    queries_per_second: f64,
    /// In seconds; `None` if no statement ended in the window.
    query_p50: Option<f64>,
    query_p99: Option<f64>,
    timeouts: u64,
    opened: u64,
    failed_attempts: u64,
    troubles: Vec<Trouble>,
}

#[derive(Clone, Serialize)]
struct Trouble {
    at: f64,
    text: String,
}

#[derive(Default)]
struct Past {
    gets: Times,
    queries: Times,
    last_error: Option<String>,
    troubles: VecDeque<Trouble>,
}

impl Past {
    fn sample(&mut self, app: &App) -> Sample {
        let health = app.pool.health();
        let metrics = app.pool.metrics();
        let at = SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_secs_f64();
        self.note(at, health.last_error.as_ref());
        self.gets.note(Instant::now(), metrics.wait_time);
        self.queries.note(Instant::now(), metrics.query_time);
        Sample {
            at,
            pool: app.pool.name().to_owned(),
            stage: app.life.stage(),
            ready: app.is_ready(),
            health,
            gets_per_second: self.gets.per_second(),
            get_p50: self.gets.quantile(0.5),
            get_p99: self.gets.quantile(0.99),
            gets: metrics.gets,
            queries_per_second: self.queries.per_second(),
            query_p50: self.queries.quantile(0.5),
            query_p99: self.queries.quantile(0.99),
            timeouts: metrics.timeouts,
            opened: metrics.opened,
            failed_attempts: metrics.failed_attempts,
            troubles: self.troubles.iter().rev().cloned().collect(),
        }
    }

    fn note(&mut self, at: f64, error: Option<&String>) {
        if self.last_error.as_ref() == error {
            return;
        }
        self.last_error = error.cloned();
        if let Some(error) = error {
            if self.troubles.len() == TROUBLES {
                self.troubles.pop_front();
            }
            let text = error.clone();
            self.troubles.push_back(Trouble { at, text });
        }
    }
}

/// The times of gets, or of statements, at each of the last samples.
#[derive(Default)]
struct Times(VecDeque<(Instant, Histogram)>);

impl Times {
    fn note(&mut self, now: Instant, times: Histogram) {
        self.0.push_back((now, times));
        let too_old = |at: Instant| now.duration_since(at) > WINDOW + EVERY;
        while self.0.front().is_some_and(|(at, _)| too_old(*at)) {
            self.0.pop_front();
        }
    }

    /// In seconds, of the last [`WINDOW`].
    fn quantile(&self, of: f64) -> Option<f64> {
        let lately = self.within(WINDOW).1;
        lately.quantile(of).map(|time| time.as_secs_f64())
    }

    /// Those within the last `window`, and the exact length of that period.
    fn within(&self, window: Duration) -> (Duration, Histogram) {
        let Some((now, times)) = self.0.back() else {
            return Default::default();
        };
        let is_in = |(at, _): &&(Instant, Histogram)| now.duration_since(*at) <= window;
        match self.0.iter().find(is_in) {
            Some((at, before)) => (now.duration_since(*at), times.since(before)),
            None => Default::default(),
        }
    }

    fn per_second(&self) -> f64 {
        // A little more than a second, as samples are not exact.
        let (over, times) = self.within(SECOND + EVERY / 2);
        let count = u32::try_from(times.count()).unwrap_or(u32::MAX);
        // Two samples may be close together.
        f64::from(count) / over.max(EVERY).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_goes_on_is_told_once_and_one_that_comes_back_again() {
        let mut past = Past::default();
        let refused = "refused".to_owned();
        for (at, error) in [
            (1.0, Some(&refused)),
            (2.0, Some(&refused)),
            (3.0, None),
            (4.0, Some(&refused)),
        ] {
            past.note(at, error);
        }
        let times: Vec<_> = past.troubles.iter().map(|trouble| trouble.at).collect();
        assert_eq!(times, [1.0, 4.0]);
    }

    #[test]
    fn only_the_last_errors_are_kept() {
        let mut past = Past::default();
        for n in 0..20 {
            past.note(f64::from(n), Some(&n.to_string()));
        }
        assert_eq!(past.troubles.len(), TROUBLES);
        assert_eq!(past.troubles[0].text, "12");
    }

    #[test]
    fn old_samples_are_let_go() {
        let mut gets = Times::default();
        let start = Instant::now();
        for n in 0..100 {
            gets.note(start + EVERY * n, Histogram::default());
        }
        assert!(gets.0.len() <= 23, "{}", gets.0.len());
        assert_eq!(gets.within(WINDOW).0, WINDOW);
        assert_eq!(gets.per_second(), 0.0);
    }
}
