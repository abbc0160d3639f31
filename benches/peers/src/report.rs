//! What was found, as the README tells it and as data.

use std::fmt::Write as _;

use peers::Name;
use serde_json::{Value, json};

use crate::{Found, throughput};

/// The README's tables.
pub fn markdown(found: &Found) -> String {
    // Blank lines, as it stands between marks.
    let mut text = format!("\n{}.\n\n", found.conditions);
    text += "| prepared primary-key lookups | safe | 8 tasks on 8, per s | to bare | p99 | 64 tasks on 8, per s | p99 |\n";
    text += "|---|---|---:|---:|---:|---:|---:|\n";
    let crowded = found.crowded.rows();
    for even in found.even.rows() {
        let crowded = crowded.iter().find(|row| row.name == even.name);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} µs | {} | {} |",
            told(even.name),
            safety(even.name),
            thousands(even.per_second),
            ratio(even.ratio),
            even.p99,
            crowded.map_or_else(String::new, |row| thousands(row.per_second)),
            crowded.map_or_else(String::new, |row| format!("{:.0} µs", row.p99)),
        );
    }
    text += "\n| lookup, 8 tasks on 8, and in each borrow | bare | this pool | `mysql_async::Pool` | this pool to that |\n";
    text += "|---|---:|---:|---:|---:|\n";
    for (what, compared) in &found.cleaning {
        let per_second = |name| {
            compared
                .per_second(name)
                .map_or_else(String::new, thousands)
        };
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} | {} |",
            per_second(Name::Bare),
            per_second(Name::Ours),
            per_second(Name::Driver),
            ratio(compared.ratio(Name::Ours, Name::Driver)),
        );
    }
    text += "\n| get and return, nothing sent | time | to deadpool | instructions |\n|---|---:|---:|---:|\n";
    for name in [Name::Ours, Name::Deadpool, Name::DriverUnreset] {
        let compared = &found.get_and_return;
        if let Some(ns) = compared.ns(name) {
            let _ = writeln!(
                text,
                "| {} | {:.2} µs | {} | {} |",
                told(name),
                ns / 1e3,
                ratio(compared.ratio(name, Name::Deadpool)),
                compared
                    .instructions(name)
                    .map_or_else(|| "not counted".to_owned(), thousands),
            );
        }
    }
    text.push('\n');
    text
}

/// All of it, for pictures.
pub fn json(found: &Found) -> String {
    let compared = |compared: &throughput::Compared| -> Value {
        let rows = compared.rows().into_iter().map(|row| {
            json!({
                "peer": row.name.short(),
                "name": row.name.long(),
                "safety": safety(row.name),
                "per_second": row.per_second.round(),
                "lowest": row.lowest.round(),
                "highest": row.highest.round(),
                "ratio": row.ratio,
                "p50_us": row.p50,
                "p99_us": row.p99,
            })
        });
        rows.collect()
    };
    let cleaning: Vec<_> = found
        .cleaning
        .iter()
        .map(|(what, rows)| json!({"what": what, "peers": compared(rows)}))
        .collect();
    let data = json!({
        "conditions": found.conditions,
        "even": compared(&found.even),
        "crowded": compared(&found.crowded),
        "cleaning": cleaning,
    });
    format!("{data:#}\n")
}

/// Which of the borrowers' faults the next borrower is safe from.
fn safety(name: Name) -> &'static str {
    match name {
        Name::Bare => "no pool",
        Name::Ours => "yes",
        Name::Deadpool | Name::DriverUnreset => "no",
        // A reset or a rollback, or a ping, but nothing that sees an answer that came late.
        Name::Driver
        | Name::Bb8
        | Name::Mobc
        | Name::Sqlx
        | Name::Sqlalchemy
        | Name::SqlalchemyPing => "in part",
    }
}

/// As the README calls it.
fn told(name: Name) -> &'static str {
    match name {
        Name::Bare => "bare connections, no pool",
        Name::Ours => "**mysql-warm-pool**",
        Name::Deadpool => "deadpool, no checks",
        Name::DriverUnreset => "`mysql_async::Pool`, no reset",
        Name::Driver => "`mysql_async::Pool` as it comes",
        Name::Bb8 => "bb8, ping on checkout",
        Name::Mobc => "mobc, ping on checkout",
        Name::Sqlx => "sqlx as it comes (ping on checkout)",
        Name::Sqlalchemy => "SQLAlchemy with asyncmy, one process",
        Name::SqlalchemyPing => "SQLAlchemy with `pool_pre_ping`",
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

/// With a comma for each thousand, to three digits.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
