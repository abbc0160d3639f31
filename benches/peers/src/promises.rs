//! What is promised about the pool's speed, and whether this run confirms it.

use std::fmt;

use harness::pools::{BARE, DEADPOOL, DRIVER, DRIVER_UNRESET, OURS};

use crate::{comparison::Found, get_and_return, throughput};

/// One line for each promise that the run could check.
pub struct Promises(Vec<Promise>);

struct Promise {
    what: String,
    found: String,
    met: bool,
}

impl Promises {
    pub fn judge(found: &Found) -> Self {
        let mut promises = Self(Vec::new());
        promises.of_get_and_return(&found.get_and_return);
        promises.of_even_throughput(&found.even);
        promises.of_crowded_throughput(&found.crowded);
        for (what, compared) in &found.cleaning {
            promises.of_cleaning(what, compared);
        }
        promises
    }

    pub fn are_met(&self) -> bool {
        self.0.iter().all(|promise| promise.met)
    }

    fn of_get_and_return(&mut self, compared: &get_and_return::Compared) {
        self.at_most(
            "get and return: at most 2.5 times deadpool",
            compared.ratio(OURS, DEADPOOL),
            2.5,
        );
        if let (Some(ours), Some(driver)) = (
            compared.instructions(OURS),
            compared.instructions(DRIVER_UNRESET),
        ) {
            self.0.push(Promise {
                what: "get and return: fewer instructions than mysql_async::Pool without reset"
                    .to_owned(),
                found: format!("{ours:.0}, not {driver:.0}"),
                met: ours < driver,
            });
        }
    }

    fn of_even_throughput(&mut self, compared: &throughput::Compared) {
        self.at_least(
            "8 tasks on 8: at least 95 % of bare",
            compared.ratio(OURS, BARE),
            0.95,
        );
        self.of_throughput("8 tasks on 8", compared);
    }

    fn of_crowded_throughput(&mut self, compared: &throughput::Compared) {
        let best = compared.fastest(|peer| peer.is_unsafe());
        self.at_least(
            "64 tasks on 8: at least 95 % of the best unsafe peer",
            best.and_then(|best| compared.ratio(OURS, best)),
            0.95,
        );
        self.of_throughput("64 tasks on 8", compared);
    }

    fn of_throughput(&mut self, tasks: &str, compared: &throughput::Compared) {
        self.at_least(
            &format!("{tasks}: at least 2.5 times mysql_async::Pool"),
            compared.ratio(OURS, DRIVER),
            2.5,
        );
        let fastest = compared.fastest(|peer| peer != OURS && peer != BARE);
        if let Some(fastest) = fastest
            && let (Some(ours), Some(theirs)) = (compared.p99(OURS), compared.p99(fastest))
        {
            let what = format!("{tasks}: p99 not above that of the fastest peer");
            let found = format!("{ours:.0} µs, {} {theirs:.0} µs", fastest.name);
            self.0.push(Promise {
                what,
                found,
                // Rounded to whole microseconds, as printed.
                met: ours.round() <= theirs.round(),
            });
        }
    }

    fn of_cleaning(&mut self, what: &str, compared: &throughput::Compared) {
        let what = format!("{what}: at least 1.3 times mysql_async::Pool");
        self.at_least(&what, compared.ratio(OURS, DRIVER), 1.3);
    }

    fn at_least(&mut self, what: &str, ratio: Option<f64>, bound: f64) {
        self.bound(what, ratio, |ratio| ratio >= bound);
    }

    fn at_most(&mut self, what: &str, ratio: Option<f64>, bound: f64) {
        self.bound(what, ratio, |ratio| ratio <= bound);
    }

    fn bound(&mut self, what: &str, ratio: Option<f64>, holds: impl Fn(f64) -> bool) {
        if let Some(ratio) = ratio {
            self.0.push(Promise {
                what: what.to_owned(),
                found: format!("{ratio:.3}"),
                met: holds(ratio),
            });
        }
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Promise { what, found, met } in &self.0 {
            let met = if *met { "met" } else { "not met" };
            writeln!(f, "{met:>8}  {what} ({found})")?;
        }
        Ok(())
    }
}
