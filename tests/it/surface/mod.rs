//! What users see: events, metrics, readiness, the example, the docs and the sources.

mod clusters;
#[cfg(feature = "metrics")]
mod clusters_export;
mod events;
#[cfg(feature = "metrics")]
mod export;
mod handles;
mod links;
mod metrics;
mod queries;
mod readiness;
mod statement_cache;
mod tidy;
mod wait_for_ready;

use std::{fs, path::Path};

/// Reads a file of the repository.
fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).expect(file)
}

/// The pages in `docs/`.
fn pages() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name"));
    let pages = names.filter(|name| name.ends_with(".md"));
    let mut pages: Vec<_> = pages.map(|name| format!("docs/{name}")).collect();
    pages.sort_unstable();
    pages
}

fn assert_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The text of a section of the docs, in `docs/observability.md` or the README.
fn docs_section(heading: &str) -> String {
    let docs = ["docs/observability.md", "README.md"].map(|file| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        fs::read_to_string(path).unwrap_or_default()
    });
    let heading = format!("\n## {heading}\n");
    let found = docs.iter().find_map(|text| text.split_once(&heading));
    let (_, section) = found.expect("the section");
    section.split("\n## ").next().unwrap_or_default().to_owned()
}
