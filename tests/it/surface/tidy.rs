//! The sources follow the layout, public functions document what callers need, and the docs name
//! tests that exist.

use std::{fs, path::Path};

use super::{assert_none, pages, read};

/// The folders and files directly in `src/`, in the order in which they may import each other:
/// downwards only.
const LAYOUT: [&str; 12] = [
    "cluster",
    "pool",
    "connection",
    "lifecycle",
    "shared",
    "engine",
    "telemetry",
    "session",
    "config",
    "error",
    "report",
    "time",
];

/// Above all others: `lib.rs` with its re-exports, and the docs.
const ROOT: [&str; 2] = ["lib", "guide"];

#[test]
fn imports_point_down_the_layout() {
    assert_none(sources().iter().flat_map(|source| {
        let own = place(source.folder());
        let bad = source.imports().into_iter().filter(move |import| {
            let other = place(import);
            !ROOT.contains(&source.folder()) && (other.is_none() || other < own)
        });
        bad.map(|import| format!("{}: crate::{import} is not below it", source.file))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn every_folder_of_the_sources_is_in_the_layout() {
    let sources = sources();
    let unknown = sources.iter().map(Source::folder);
    let unknown = unknown.filter(|folder| !ROOT.contains(folder) && place(folder).is_none());
    assert_none(unknown.map(str::to_owned));
}

#[test]
fn only_slots_names_deadpool() {
    let sources = sources();
    let others = sources.iter().filter(|source| {
        source.file != "engine/slots.rs"
            && !ROOT.contains(&source.folder())
            && source.code.contains("deadpool")
    });
    assert_none(others.map(|source| source.file.clone()));
}

#[test]
fn public_functions_document_errors_and_cancel_safety() {
    if is_flat() {
        return;
    }
    let mut found = 0;
    let mut silent = Vec::new();
    for source in &sources() {
        let lines: Vec<_> = source.code.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let heads = ["pub fn ", "pub const fn ", "pub async fn "];
            if !heads.iter().any(|head| line.starts_with(head)) {
                continue;
            }
            found += 1;
            let signature = lines[number..].join(" ");
            let signature = signature.split(['{', ';']).next().unwrap_or_default();
            let returned = signature
                .split_once(") -> ")
                .map_or("", |(_, returned)| returned);
            let returned = returned.split(" where ").next().unwrap_or_default();
            let docs = docs_above(&source.text, number);
            let is_async = line.contains("async fn") || returned.starts_with("impl Future");
            for (section, is_needed) in [
                ("# Errors", returned.contains("Result<")),
                ("# Cancel safety", is_async),
            ] {
                if is_needed && !docs.contains(section) {
                    silent.push(format!("{}: no `{section}`: {line}", source.file));
                }
            }
        }
    }
    assert!(found > 50, "{found} public functions");
    assert_none(silent);
}

#[test]
fn every_test_the_docs_name_exists() {
    if is_flat() {
        return;
    }
    let mut found = 0;
    let mut missing = Vec::new();
    for file in pages() {
        let text = read(&file);
        // Backticks delimit code spans, so those of code blocks are left out.
        let text: String = text.split("\n```").step_by(2).collect();
        let spans = text.split('`').skip(1).step_by(2);
        for name in spans.filter(|span| is_test_path(span)) {
            found += 1;
            if !is_test(name) {
                missing.push(format!("{file}: there is no test {name}"));
            }
        }
    }
    assert!(found > 50, "{found} names of tests");
    assert_none(missing);
}

#[test]
fn the_recipes_are_tested_with_the_versions_on_their_page() {
    let manifest = read("examples/recipes/Cargo.toml");
    let tested = manifest.split("\n[dependencies]\n").nth(1).expect("some");
    let tested = tested.split("\n\n").next().unwrap_or_default();
    let own = env!("CARGO_PKG_VERSION_MAJOR").to_owned() + "." + env!("CARGO_PKG_VERSION_MINOR");
    let expected = tested.replace("path = \"../..\"", &format!("version = \"{own}\""));
    let page = read("docs/recipes.md");
    let listed = page.split("```toml\n").nth(1).expect("a block");
    assert_eq!(listed.split("\n```").next(), Some(expected.as_str()));
}

#[test]
fn the_readme_and_its_program_are_short() {
    let readme = read("README.md");
    assert!(readme.len() <= 12_000, "{} bytes", readme.len());
    let program = readme.split("```rust,no_run\n").nth(1).expect("a program");
    let (program, _) = program.split_once("```").expect("its end");
    let lines = program.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 15, "{lines} lines");
}

/// A file in `src/`.
struct Source {
    /// The path relative to `src/`.
    file: String,
    text: String,
    /// The same lines without comments, up to the file's tests.
    code: String,
}

impl Source {
    fn folder(&self) -> &str {
        let first = self.file.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    /// The first name after each `crate::`; for a group in braces, the first name of every member.
    fn imports(&self) -> Vec<String> {
        let after = self.code.split("crate::").skip(1);
        after
            .flat_map(|rest| match rest.strip_prefix('{') {
                Some(group) => members(group),
                None => vec![first_word(rest)],
            })
            .collect()
    }
}

/// Empty while all of `src/` is in one folder.
fn sources() -> Vec<Source> {
    fn visit(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(&path, root, sources);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            let tested = text.split("#[cfg(test)]\nmod tests").next();
            let lines = tested.unwrap_or_default().lines();
            let code = lines.map(|line| line.split("//").next().unwrap_or_default());
            let file = path.strip_prefix(root).expect("inside").to_string_lossy();
            sources.push(Source {
                file: file.into_owned(),
                code: code.collect::<Vec<_>>().join("\n"),
                text,
            });
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    if !is_flat() {
        visit(&root, &root, &mut sources);
        assert!(sources.len() > 30, "{} sources", sources.len());
    }
    sources
}

fn is_flat() -> bool {
    !Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/engine")
        .exists()
}

fn place(folder: &str) -> Option<usize> {
    LAYOUT.iter().position(|other| *other == folder)
}

fn first_word(text: &str) -> String {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    text.chars().take_while(is_word).collect()
}

/// The first word of each member of an import group, after its opening brace.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            c => members.last_mut().expect("one at least").push(c),
        }
    }
    let words = members.iter().map(|member| first_word(member.trim_start()));
    words.filter(|word| !word.is_empty()).collect()
}

/// The doc comment that ends above this line, without attributes.
fn docs_above(text: &str, line: usize) -> String {
    let lines: Vec<_> = text.lines().take(line).map(str::trim).collect();
    let above = lines.into_iter().rev();
    let above = above.take_while(|line| line.starts_with("///") || line.starts_with('#'));
    above.collect::<Vec<_>>().join("\n")
}

/// Whether it looks like `folder::file::sentence`, or another path to a test.
fn is_test_path(span: &str) -> bool {
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c);
    let folders = [
        "promises", "servers", "cluster", "models", "surface", "soak", "service",
    ];
    span.split_once("::").is_some_and(|(first, rest)| {
        span.chars().all(is_lower) && (folders.contains(&first) || rest.matches('_').count() > 3)
    })
}

/// Whether a test of that name exists: `soak::sentence` in `tests/soak/`, `service::file::sentence`
/// in `examples/service/tests/it/`, `folder::file::tests::sentence` in `src/`, any other in
/// `tests/it/`. With `*` for the sentence, whether that file exists; so also for the name of a file.
fn is_test(name: &str) -> bool {
    let (path, function) = name.rsplit_once("::").unwrap_or_default();
    let path = path.replace("::", "/");
    let path = match (path.strip_suffix("/tests"), path.strip_prefix("service/")) {
        (Some(source), _) => format!("src/{source}"),
        (None, Some(file)) => format!("examples/service/tests/it/{file}"),
        _ if path == "soak" => "tests/soak/main".to_owned(),
        _ => format!("tests/it/{path}"),
    };
    let source = |path: &str| {
        let root = env!("CARGO_MANIFEST_DIR");
        fs::read_to_string(format!("{root}/{path}.rs"))
            .or_else(|_| fs::read_to_string(format!("{root}/{path}/mod.rs")))
    };
    let has = |text: String| function == "*" || text.contains(&format!("fn {function}("));
    source(&path).is_ok_and(has) || source(&format!("{path}/{function}")).is_ok()
}
