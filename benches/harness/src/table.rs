//! A table of figures, bounds and whether they are met.

use std::time::Duration;

/// Printed line by line as figures come in.
pub struct Table {
    is_met: bool,
}

/// The unit of a figure.
#[derive(Clone, Copy)]
pub enum Unit {
    Times,
    Milliseconds,
    Microseconds,
    Mebibytes,
    Count,
}

impl Table {
    pub fn begin() -> Self {
        line("promise", "figure", "bound", "");
        Self { is_met: true }
    }

    /// Whether all bounds so far are met.
    pub fn is_met(&self) -> bool {
        self.is_met
    }

    pub fn group(&mut self, name: &str) {
        println!("\n{name}");
    }

    pub fn at_most(&mut self, promise: &str, unit: Unit, figure: f64, bound: f64) {
        let bound_text = format!("<= {}", unit.of(bound));
        self.row(promise, &unit.of(figure), &bound_text, figure <= bound);
    }

    pub fn at_most_time(&mut self, promise: &str, figure: Duration, bound: Duration) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.at_most(promise, Unit::Milliseconds, ms(figure), ms(bound));
    }

    pub fn exactly(&mut self, promise: &str, figure: u64, bound: u64) {
        let (figure_text, bound_text) = (figure.to_string(), format!("= {bound}"));
        self.row(promise, &figure_text, &bound_text, figure == bound);
    }

    /// Reports a figure that cannot be measured here.
    pub fn skipped(&mut self, promise: &str, why: &str) {
        line(promise, "-", "", &format!("skipped: {why}"));
    }

    fn row(&mut self, promise: &str, figure: &str, bound: &str, met: bool) {
        line(promise, figure, bound, if met { "met" } else { "NOT MET" });
        self.is_met &= met;
    }
}

fn line(promise: &str, figure: &str, bound: &str, met: &str) {
    let text = format!("{promise:76} {figure:>10}  {bound:12} {met}");
    println!("{}", text.trim_end());
}

impl Unit {
    fn of(self, figure: f64) -> String {
        match self {
            Self::Times => format!("{figure:.2} x"),
            Self::Milliseconds => format!("{figure:.1} ms"),
            Self::Microseconds => format!("{figure:.1} us"),
            Self::Mebibytes => format!("{figure:.1} MiB"),
            Self::Count => format!("{figure:.0}"),
        }
    }
}
