//! The Grafana dashboard asks only for what `/metrics` prints.

use std::collections::{BTreeMap, BTreeSet};

use hyper::StatusCode;
use serde_json::Value;
use test_support::Server;

use crate::driving::{ACCOUNTS, Running, settings};

const DASHBOARD: &str = include_str!("../../grafana/dashboard.json");
/// Labels that a scraper adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// The labels of each metric, each with its values.
type Printed = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[tokio::test]
async fn every_query_of_the_dashboard_asks_for_existing_metrics() {
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    assert_eq!(running.client.get(ACCOUNTS).await.status, StatusCode::OK);
    let answer = running.client.get("/metrics").await;
    let form = answer.header("content-type").expect("a form");
    assert!(form.starts_with("text/plain; version=0.0.4"), "{form}");
    let printed = printed(&answer.text());
    running.stop().await;

    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    assert!(queries.len() > 15, "{} queries", queries.len());
    let mut asked = BTreeSet::new();
    for query in queries {
        let selectors = selectors(&query);
        assert!(!selectors.is_empty(), "{query}: asks for nothing");
        for (metric, labels) in selectors {
            let known = printed
                .get(&metric)
                .unwrap_or_else(|| panic!("{query}: {metric} is not printed"));
            for (label, value) in labels {
                if OF_PROMETHEUS.contains(&label.as_str()) {
                    continue;
                }
                let values = known
                    .get(&label)
                    .unwrap_or_else(|| panic!("{query}: {metric} has no label {label}"));
                let is_chosen_by_hand = value.as_ref().is_none_or(|value| value.starts_with('$'));
                let is_printed = value.is_some_and(|value| values.contains(&value));
                assert!(
                    is_chosen_by_hand || is_printed,
                    "{query}: {label} has {values:?}"
                );
            }
            asked.insert(metric);
        }
    }
    // And no metric whose name begins as the pool's do is left out.
    let whole = |name: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        let stem = ends.iter().find_map(|end| name.strip_suffix(end));
        // `..._connection_count` is a gauge, not part of a histogram.
        let is_histogram = |stem: &&str| printed.contains_key(&format!("{stem}_bucket"));
        stem.filter(is_histogram).unwrap_or(name).to_owned()
    };
    let asked: BTreeSet<_> = asked.iter().map(|name| whole(name)).collect();
    let all: BTreeSet<_> = printed.keys().map(|name| whole(name)).collect();
    assert_eq!(
        all.difference(&asked).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

/// Reads what is printed, line by line: `name{label="value",...} number`.
fn printed(text: &str) -> Printed {
    let mut printed = Printed::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (series, number) = line.rsplit_once(' ').expect("a value");
        number.parse::<f64>().expect("a number");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let known = printed.entry(name.to_owned()).or_default();
        for (label, value) in labels_of(labels.strip_suffix('}').expect("its end")) {
            known.entry(label).or_default().extend(value);
        }
    }
    assert!(printed.len() > 20, "{printed:?}");
    printed
}

/// `a="b",c=~"d"`, with values where they are compared as they are.
fn labels_of(text: &str) -> Vec<(String, Option<String>)> {
    let parts = text.split("\",").filter(|part| !part.trim().is_empty());
    parts
        .map(|part| {
            let (label, value) = part.split_once('=').expect("a label");
            let value = value.trim_start_matches('~').trim_matches('"');
            let is_pattern = part.contains("=~") || label.ends_with('!');
            let value = (!is_pattern || value.starts_with('$')).then(|| value.to_owned());
            (label.trim_end_matches('!').trim().to_owned(), value)
        })
        .collect()
}

/// Every text that is a query: of panels, and of variables.
fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" || name == "definition" => {
                        queries.push(text.clone());
                    }
                    field => collect(field, queries),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
        _ => {}
    }
}

type Selector = (String, Vec<(String, Option<String>)>);

/// The metrics that a query uses, with the labels it names: in braces, in `by (...)` and in
/// `label_values(...)`.
fn selectors(query: &str) -> Vec<Selector> {
    const WORDS: [&str; 10] = [
        "by",
        "clamp_min",
        "histogram_quantile",
        "increase",
        "label_values",
        "max",
        "min",
        "or",
        "rate",
        "sum",
    ];
    let mut selectors: Vec<Selector> = Vec::new();
    let mut grouped = Vec::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '$' || c == '[') {
        rest = &rest[start..];
        if let Some(range) = rest.strip_prefix('[') {
            rest = range.split_once(']').expect("its end").1;
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if word == "by" {
            let list = after.trim_start().strip_prefix('(').expect("a list");
            let (list, after) = list.split_once(')').expect("its end");
            grouped.extend(list.split(',').map(|label| (label.trim().to_owned(), None)));
            rest = after;
        } else if word == "label_values" {
            let inner = after.strip_prefix('(').expect("its arguments");
            let (metric, label) = inner.split_once(',').expect("two");
            let label = label.trim_end_matches(')').trim().to_owned();
            selectors.push((metric.trim().to_owned(), vec![(label, None)]));
            rest = "";
        } else if !WORDS.contains(&word) {
            let mut labels = Vec::new();
            if let Some(inner) = after.strip_prefix('{') {
                let (inner, after) = inner.split_once('}').expect("its end");
                labels = labels_of(inner);
                rest = after;
            }
            selectors.push((word.to_owned(), labels));
        }
    }
    for (_, labels) in &mut selectors {
        labels.extend(grouped.iter().cloned());
    }
    // Every bucket has the label `le`; other metrics do not.
    for (metric, labels) in &mut selectors {
        labels.retain(|(label, _)| label != "le" || metric.ends_with("_bucket"));
    }
    selectors
}

#[test]
fn a_query_is_taken_apart_into_what_it_asks_for() {
    let found = selectors(
        "histogram_quantile(0.99, sum by (le, pool) (rate(wait_bucket{pool=~\"$pool\",state=\"idle\"}[5m]))) > 2",
    );
    let labels = [
        ("pool", Some("$pool")),
        ("state", Some("idle")),
        ("le", None),
        ("pool", None),
    ];
    let labels: Vec<_> = labels
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value.map(str::to_owned)))
        .collect();
    assert_eq!(found, [("wait_bucket".to_owned(), labels)]);
}
