//! The results: the README's tables, and all figures as data.

use std::fmt::Write as _;

use harness::pools::{BARE, DEADPOOL, DRIVER, DRIVER_UNRESET, OURS};
use serde_json::{Value, json};

use crate::{comparison::Found, throughput};

/// The README's tables.
pub fn markdown(found: &Found) -> String {
    // Starts with a blank line, as the text stands between markers.
    let mut text = format!("\n{}.\n\n", found.conditions);
    text += "| prepared primary-key lookups | safe | 8 tasks on 8, per s | to bare | p99 \
             | 64 tasks on 8, per s | p99 |\n";
    text += "|---|---|---:|---:|---:|---:|---:|\n";
    let crowded = found.crowded.rows();
    for even in found.even.rows() {
        let crowded = crowded.iter().find(|row| row.peer == even.peer);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} µs | {} | {} |",
            even.peer.readme,
            even.peer.safety,
            thousands(even.per_second),
            ratio(even.ratio),
            even.p99,
            crowded.map_or_else(String::new, |row| thousands(row.per_second)),
            crowded.map_or_else(String::new, |row| format!("{:.0} µs", row.p99)),
        );
    }
    text += "\n| lookup, 8 tasks on 8, and after each get | bare | this pool \
             | `mysql_async::Pool` | this pool to that |\n";
    text += "|---|---:|---:|---:|---:|\n";
    for (what, compared) in &found.cleaning {
        let per_second = |peer| {
            compared
                .per_second(peer)
                .map_or_else(String::new, thousands)
        };
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} | {} |",
            per_second(BARE),
            per_second(OURS),
            per_second(DRIVER),
            ratio(compared.ratio(OURS, DRIVER)),
        );
    }
    text += "\n| get and return, nothing sent | time | to deadpool | instructions |\n";
    text += "|---|---:|---:|---:|\n";
    for peer in [OURS, DEADPOOL, DRIVER_UNRESET] {
        let compared = &found.get_and_return;
        if let Some(ns) = compared.ns(peer) {
            let _ = writeln!(
                text,
                "| {} | {:.2} µs | {} | {} |",
                peer.readme,
                ns / 1e3,
                ratio(compared.ratio(peer, DEADPOOL)),
                compared
                    .instructions(peer)
                    .map_or_else(|| "not counted".to_owned(), thousands),
            );
        }
    }
    text.push('\n');
    text
}

/// All results, for the pictures.
pub fn json(found: &Found) -> String {
    let compared = |compared: &throughput::Compared| -> Value {
        let rows = compared.rows().into_iter().map(|row| {
            json!({
                "peer": row.peer.name,
                "name": row.peer.title,
                "safety": row.peer.safety.to_string(),
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

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

/// With a comma per thousand, to three digits.
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
