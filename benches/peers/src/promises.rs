//! What is promised of the pool's speed, and whether this run kept it.

use std::fmt;

use peers::Name;

use crate::{Found, get_and_return, throughput};

/// One line for each promise that the run could judge.
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
            compared.ratio(Name::Ours, Name::Deadpool),
            2.5,
        );
        if let (Some(ours), Some(driver)) = (
            compared.instructions(Name::Ours),
            compared.instructions(Name::DriverUnreset),
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
            compared.ratio(Name::Ours, Name::Bare),
            0.95,
        );
        self.of_throughput("8 tasks on 8", compared);
    }

    fn of_crowded_throughput(&mut self, compared: &throughput::Compared) {
        let best = compared.fastest(Name::is_unsafe);
        self.at_least(
            "64 tasks on 8: at least 95 % of the best unsafe peer",
            best.and_then(|best| compared.ratio(Name::Ours, best)),
            0.95,
        );
        self.of_throughput("64 tasks on 8", compared);
    }

    fn of_throughput(&mut self, tasks: &str, compared: &throughput::Compared) {
        self.at_least(
            &format!("{tasks}: at least 2.5 times mysql_async::Pool"),
            compared.ratio(Name::Ours, Name::Driver),
            2.5,
        );
        let fastest = compared.fastest(|name| !matches!(name, Name::Ours | Name::Bare));
        if let Some(fastest) = fastest
            && let (Some(ours), Some(theirs)) = (compared.p99(Name::Ours), compared.p99(fastest))
        {
            let what = format!("{tasks}: p99 not above that of the fastest peer");
            let found = format!("{ours:.0} µs, {} {theirs:.0} µs", fastest.short());
            self.0.push(Promise {
                what,
                found,
                // As it is told: in whole microseconds.
                met: ours.round() <= theirs.round(),
            });
        }
    }

    fn of_cleaning(&mut self, what: &str, compared: &throughput::Compared) {
        self.at_least(
            &format!("{what}: at least as fast as mysql_async::Pool"),
            compared.ratio(Name::Ours, Name::Driver),
            1.0,
        );
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
