//! The sources keep to the habits of this project: layers, one job a file, docs that say what can
//! go wrong, a README whose guarantees are tested.

use std::{fs, path::Path};

#[test]
fn the_module_map_lists_the_files_there_are_each_once() {
    let mut mapped = module_map();
    let mut modules: Vec<_> = sources().into_iter().map(|source| source.module).collect();
    // The map stands in this one.
    modules.retain(|module| module != "lib");
    mapped.sort_unstable();
    modules.sort_unstable();
    assert_eq!(mapped, modules);
}

#[test]
fn imports_point_down_the_module_map() {
    let map = module_map();
    let place = |module: &str| map.iter().position(|other| other == module);
    assert_none(sources().iter().flat_map(|source| {
        let own = place(&source.module);
        let up = source.imports().into_iter().filter(move |(_, import)| {
            // What is no module comes from the root, which is above all.
            own.is_some() && place(import) <= own
        });
        up.map(|(at, import)| format!("{at}: crate::{import} is not below this file"))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn no_file_but_lib_imports_the_pool() {
    let others = sources()
        .into_iter()
        .filter(|source| source.module != "lib");
    assert_none(
        others
            .flat_map(|source| source.imports())
            .filter_map(|(at, import)| {
                (import == "pool").then(|| format!("{at}: pool is for lib.rs only"))
            }),
    );
}

#[test]
fn no_file_but_slot_knows_deadpool() {
    // A guide is called after it, and is text only.
    let others = sources()
        .into_iter()
        .filter(|source| !["slot", "guide"].contains(&source.module.as_str()));
    assert_none(others.flat_map(|source| source.lines_with(&source.code, &["deadpool"])));
}

#[test]
fn the_first_line_of_every_file_says_its_job() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{} does not begin with a //! line", source.file()));
    assert_none(silent);
}

#[test]
fn nothing_outside_tests_panics_by_a_shortcut() {
    let shortcuts = [
        "unwrap()",
        ".expect(",
        "::expect(",
        "panic!",
        "todo!",
        "unimplemented!",
    ];
    assert_none(
        sources()
            .iter()
            .flat_map(|source| source.lines_with(&source.code, &shortcuts)),
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    assert_none(
        sources()
            .iter()
            .flat_map(|source| source.lines_with(&source.text, &["TODO", "FIXME"])),
    );
}

#[test]
fn every_public_async_fn_says_what_cancelling_it_does() {
    assert_none(functions().filter_map(|function| {
        let is_silent = function.is_async && !function.docs.contains("# Cancel safety");
        is_silent.then(|| format!("{}: no `# Cancel safety`", function.at))
    }));
}

#[test]
fn every_public_fn_that_can_fail_says_when() {
    assert_none(functions().filter_map(|function| {
        let is_silent = function.returns.contains("Result<") && !function.docs.contains("# Errors");
        is_silent.then(|| format!("{}: no `# Errors`", function.at))
    }));
}

#[test]
fn every_guarantee_of_the_readme_names_tests_that_exist() {
    let readme = read("README.md");
    let guarantees = section(&readme, "## Guarantees");
    let mut found = Vec::new();
    for guarantee in guarantees.split("\n- ").skip(1) {
        // A heading ends the last guarantee above it.
        let guarantee = guarantee.split("\n#").next().unwrap_or_default();
        let names: Vec<_> = code_spans(guarantee).filter(|span| is_path(span)).collect();
        if names.is_empty() {
            found.push(format!("README.md: no test is named for: {guarantee}"));
        }
        let missing = names.into_iter().filter(|name| !is_test(name));
        found.extend(missing.map(|name| format!("README.md: there is no test {name}")));
    }
    assert!(guarantees.contains("\n- "), "no guarantees found");
    assert_none(found);
}

#[test]
fn every_invariant_in_lib_names_tests_that_exist() {
    let lib = read("src/lib.rs");
    let (_, below) = lib.split_once("// Invariants, ").expect("invariants");
    let (invariants, _) = below.split_once("// Locks").expect("what follows");
    let mut found = Vec::new();
    for invariant in invariants.split("\n// - ").skip(1) {
        // `module::*` stands for all tests of a module.
        let names = code_spans(invariant).filter(|span| span.contains("::"));
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            found.push(format!("src/lib.rs: no test is named for: {invariant}"));
        }
        let missing = names
            .into_iter()
            .filter(|name| !name.ends_with("::*") && !is_test(name));
        found.extend(missing.map(|name| format!("src/lib.rs: there is no test {name}")));
    }
    assert_none(found);
}

#[test]
fn every_answer_of_the_guide_to_what_happens_names_tests_that_exist() {
    let (name, guide) = guides()
        .into_iter()
        .find(|(name, _)| name.contains("what-happens"))
        .expect("the guide");
    let answers: Vec<_> = guide.split("\n### ").skip(1).collect();
    assert!(answers.len() > 20, "{} answers", answers.len());
    let untested = answers
        .into_iter()
        .filter(|answer| !code_spans(answer).any(is_test));
    assert_none(untested.map(|answer| {
        let question = answer.lines().next().unwrap_or_default();
        format!("docs/{name}: no test is named for: {question}")
    }));
}

#[test]
fn every_test_that_a_guide_names_exists() {
    assert_none(guides().iter().flat_map(|(name, guide)| {
        let missing = code_spans(guide).filter(|span| is_path(span) && !is_test(span));
        let told = missing.map(|span| format!("docs/{name}: there is no test {span}"));
        told.collect::<Vec<_>>()
    }));
}

#[test]
fn every_guide_is_shown_with_links_to_the_items() {
    let shown = read("src/guide.rs");
    assert_none(guides().iter().flat_map(|(name, guide)| {
        let hidden = (!shown.contains(&format!("\"{name}\"")))
            .then(|| format!("docs/{name} is not in src/guide.rs"));
        // What leads to docs.rs in the file is to lead to the item itself in the crate's own docs.
        let links = guide.lines().filter(|line| {
            line.starts_with('[') && (line.contains("/mysql-warm-pool/") || line.ends_with(".md"))
        });
        let missing = links.filter_map(|line| {
            let (label, _) = line.split_once(": ")?;
            let is_known = shown.contains(&format!("\n{label}: crate::"));
            (!is_known).then(|| format!("docs/{name}: {label} leads nowhere in src/guide.rs"))
        });
        hidden.into_iter().chain(missing).collect::<Vec<_>>()
    }));
}

#[test]
fn the_readmes_program_is_the_quickstart() {
    let readme = read("README.md");
    let (_, from_program) = readme.split_once("```rust,no_run\n").expect("a program");
    let (program, _) = from_program.split_once("```").expect("its end");
    let quickstart = read("examples/quickstart.rs");
    let code = quickstart
        .lines()
        .skip_while(|line| line.starts_with("//!") || line.is_empty());
    assert_eq!(
        program.lines().collect::<Vec<_>>(),
        code.collect::<Vec<_>>()
    );
}

#[test]
fn comments_literals_and_tests_are_no_code() {
    let text = r##"
use a::b; // todo!
/// panic!
const C: [&str; 2] = ["todo! \" todo!", r#"todo!"#];
fn kept<'a>(c: &'a char) -> bool {
    *c == '"' || *c == '\'' /* todo! */
}
#[cfg(test)]
mod tests {
    fn left_out() {
        todo!()
    }
}
fn kept_too() {}
"##;
    let code = without_tests(&without_comments_and_literals(text));
    assert!(
        !code.contains("todo!") && !code.contains("panic!") && !code.contains("left_out"),
        "{code}"
    );
    assert!(
        code.contains("kept<'a>(c: &'a char)") && code.contains("kept_too"),
        "{code}"
    );
    assert_eq!(code.lines().count(), text.lines().count());
}

/// A file in `src/`.
struct Source {
    module: String,
    text: String,
    /// The same lines without comments, literals and what is for tests only.
    code: String,
}

/// A public function.
struct Function {
    at: String,
    docs: String,
    is_async: bool,
    returns: String,
}

impl Source {
    fn file(&self) -> String {
        format!("src/{}.rs", self.module)
    }

    /// The file and line of a place in the text or in the code.
    fn at(&self, text: &str, place: usize) -> String {
        let before = text.get(..place).unwrap_or(text);
        format!("{}:{}", self.file(), before.matches('\n').count() + 1)
    }

    fn lines_with(&self, text: &str, words: &[&str]) -> Vec<String> {
        let lines = (1..).zip(text.lines());
        lines
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
            .map(|(number, line)| format!("{}:{number}: {}", self.file(), line.trim()))
            .collect()
    }

    /// What follows each `crate::`, with its file and line; of a group in braces, every member.
    fn imports(&self) -> Vec<(String, String)> {
        let mut imports = Vec::new();
        for (place, root) in self.code.match_indices("crate::") {
            let rest = self.code.get(place + root.len()..).unwrap_or_default();
            let at = self.at(&self.code, place);
            match rest.strip_prefix('{') {
                None => imports.push((at, first_word(rest))),
                Some(group) => {
                    imports.extend(
                        members(group)
                            .into_iter()
                            .map(|member| (at.clone(), member)),
                    );
                }
            }
        }
        imports
    }

    fn functions(&self) -> Vec<Function> {
        let heads = ["pub fn ", "pub const fn ", "pub async fn "];
        let lines: Vec<_> = self.text.lines().collect();
        let mut functions = Vec::new();
        let mut place = 0;
        for (number, line) in self.code.split_inclusive('\n').enumerate() {
            if heads.iter().any(|head| line.trim_start().starts_with(head)) {
                let from_here = self.code.get(place..).unwrap_or_default();
                let signature = from_here.split(['{', ';']).next().unwrap_or_default();
                functions.push(Function {
                    at: format!("{}:{}: {}", self.file(), number + 1, line.trim()),
                    docs: docs_above(&lines, number),
                    is_async: line.contains("async fn "),
                    returns: returned(signature).to_owned(),
                });
            }
            place += line.len();
        }
        functions
    }
}

fn functions() -> impl Iterator<Item = Function> {
    let functions: Vec<_> = sources().iter().flat_map(Source::functions).collect();
    assert!(!functions.is_empty(), "no functions found");
    functions.into_iter()
}

fn sources() -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file").path());
    let sources: Vec<_> = files
        .map(|file| {
            let module = file
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(file).expect("text: src/ has no folders in it");
            let code = without_tests(&without_comments_and_literals(&text));
            Source { module, text, code }
        })
        .collect();
    assert!(!sources.is_empty(), "no sources found");
    sources
}

/// The files in `docs/`, by name; its folder holds pictures.
fn guides() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let guides: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file"))
        .filter(|file| file.path().is_file())
        .map(|file| {
            let text = fs::read_to_string(file.path()).expect("text");
            // As code spans are told apart by their ticks, those of blocks are left out.
            let text = text.split("\n```").step_by(2).collect();
            (file.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    assert!(!guides.is_empty(), "no guides found");
    guides
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

fn assert_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The files of the module map in `lib.rs`, from top to bottom.
fn module_map() -> Vec<String> {
    let lib = read("src/lib.rs");
    let (_, map) = lib
        .split_once("// | file | its one job |\n// |---|---|\n")
        .expect("the module map");
    let rows = map.lines().take_while(|line| line.starts_with("// | `"));
    let files = rows.filter_map(|row| row.split(" | ").nth(1));
    files
        .flat_map(|files| code_spans(files).map(str::to_owned))
        .collect()
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The first word of each member of a group of imports, whose opening brace was read.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut members = Vec::new();
    let mut is_start = true;
    for (place, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                members.push(first_word(group.get(place..).unwrap_or_default()));
                is_start = false;
            }
            _ => {}
        }
    }
    members
}

/// What a signature says after its arrow; arrows in the bounds below it are others'.
fn returned(signature: &str) -> &str {
    let head = signature.split("where\n").next().unwrap_or_default();
    head.split_once(") -> ")
        .map_or("", |(_, returned)| returned)
}

/// The doc comment that ends above this line, attributes left out.
fn docs_above(lines: &[&str], line: usize) -> String {
    let above = lines.iter().take(line).rev().map(|line| line.trim());
    above
        .take_while(|line| {
            line.starts_with("///") || !(line.is_empty() || line.ends_with(['{', '}', ';']))
        })
        .filter(|line| line.starts_with("///"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = comment_or_literal(rest);
        let (taken, after) = rest.split_at(length.unwrap_or_else(|| c.len_utf8()));
        match length {
            // The lines stay.
            Some(_) => code.extend(taken.chars().filter(|c| *c == '\n')),
            None => code.push(c),
        }
        rest = after;
    }
    code
}

/// The length of the comment or literal that the text begins with.
fn comment_or_literal(text: &str) -> Option<usize> {
    let until = |end: &str, from: usize| {
        let found = text.get(from..)?.find(end)?;
        Some(from + found + end.len())
    };
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return until("*/", 2);
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let is_raw = raw.trim_start_matches('#').starts_with('"');
        return is_raw.then(|| until(&format!("\"{}", "#".repeat(hashes)), hashes + 2))?;
    }
    if text.starts_with("'\\") {
        return until("'", 3);
    }
    if let Some(quoted) = text.strip_prefix('\'') {
        // Else it is a lifetime.
        let length = quoted.chars().next()?.len_utf8();
        return quoted
            .get(length..)?
            .starts_with('\'')
            .then_some(length + 2);
    }
    let mut is_escaped = false;
    let quoted = text.strip_prefix('"')?;
    let end = quoted.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })?;
    Some(end + 2)
}

/// Empties the lines of every item under `#[cfg(test)]`. As rustfmt writes it, an item ends with the
/// first line that is indented as it is and closes something.
fn without_tests(code: &str) -> String {
    let mut test = None;
    let mut kept = String::with_capacity(code.len());
    for line in code.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() == "#[cfg(test)]" {
            test = Some(indent);
        }
        match test {
            Some(of) if indent == of && line.trim_end().ends_with(['}', ';', ',']) => test = None,
            Some(_) => {}
            None => kept.push_str(line),
        }
        kept.push('\n');
    }
    kept
}

/// What stands under a heading, up to the next of the same level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, from_heading) = text.split_once(&format!("\n{heading}\n")).expect(heading);
    from_heading.split("\n## ").next().unwrap_or_default()
}

fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether it reads like `module::function`.
fn is_path(span: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
    span.contains("::") && span.chars().all(is_word)
}

/// Whether `module::function` is a test in `tests/it/`, `measured::module::function` one in `tests/measured/`,
/// `soak::function` the one in `tests/soak/`, `service::module::function` one in `examples/service/tests/it/`, or
/// `module::tests::function` one in `src/`.
fn is_test(name: &str) -> bool {
    let (folder, name) = match name.split_once("::") {
        _ if name.contains("::tests::") => ("src", name.replace("::tests::", "::")),
        Some(("measured", name)) => ("tests/measured", name.to_owned()),
        Some(("service", name)) => ("examples/service/tests/it", name.to_owned()),
        Some(("soak", function)) => ("tests/soak", format!("main::{function}")),
        _ => ("tests/it", name.to_owned()),
    };
    let Some((module, function)) = name.split_once("::") else {
        return false;
    };
    let module = format!("{}/{folder}/{module}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(format!("{module}.rs"))
        .or_else(|_| fs::read_to_string(format!("{module}/mod.rs")))
        .unwrap_or_default();
    let head = format!("fn {function}(");
    // Inside of `proptest!` they are indented.
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    lines.iter().enumerate().any(|(number, line)| {
        let attributes = lines
            .iter()
            .take(number)
            .rev()
            .take_while(|line| line.starts_with("#["));
        line.trim_start_matches("async ").starts_with(&head)
            && attributes
                .into_iter()
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}
