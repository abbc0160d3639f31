//! Links lead somewhere: those of the README and the changelog on a registry's page, where no
//! relative link works; those of `docs/` in a checkout; and those of the guides on docs.rs, which
//! are the pages of `docs/`. `scripts/check-links` checks the same in the generated HTML.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use super::{assert_none, pages, read};

/// Where docs.rs shows the documentation.
const DOCUMENTATION: &str = "https://docs.rs/mysql-warm-pool/latest/mysql_warm_pool/";

/// Where docs.rs shows the package's files. It sends pictures as they are.
const FILES: &str = "https://docs.rs/crate/mysql-warm-pool/latest/source/";

/// The links of the guides. rustdoc uses the first definition of a link, so that these win over the
/// definitions in the pages.
const GUIDE_LINKS: &str = "src/guide-links.md";

/// Ids that headings may have, and that rustdoc uses for parts of its own pages.
const TAKEN: [&str; 9] = [
    "fields",
    "help",
    "implementations",
    "implementors",
    "layout",
    "main-content",
    "search",
    "settings",
    "variants",
];

#[test]
fn the_readme_and_the_changelog_link_to_what_is_published() {
    let files = ["README.md", "CHANGELOG.md"].map(Page::read);
    assert!(files[0].targets().count() > 20);
    assert_none(files.iter().flat_map(|page| {
        let faults = page.targets().filter_map(published_fault);
        faults.map(|fault| format!("{}: {fault}", page.file))
    }));
}

#[test]
fn links_of_the_docs_lead_to_files_and_headings() {
    assert_none(docs().iter().flat_map(|page| {
        let faults = page.targets().filter_map(|target| {
            if target.starts_with("https://") {
                return published_fault(target);
            }
            let (path, anchor) = split_anchor(target);
            let path = match path {
                "" => page.file.clone(),
                _ => in_docs(path),
            };
            fault_of_file(&path, anchor).map(|fault| format!("{target}: {fault}"))
        });
        faults.map(|fault| format!("{}: {fault}", page.file))
    }));
}

#[test]
fn labels_of_links_are_defined_and_used_on_their_page() {
    let mut pages = docs();
    pages.extend(["README.md", "CHANGELOG.md"].map(Page::read));
    let known: BTreeSet<_> = pages
        .iter()
        .flat_map(|page| page.definitions.keys())
        .collect();
    assert_none(pages.iter().flat_map(|page| {
        let used = |label: &&String| page.references.iter().any(|(used, _)| used == *label);
        let unused = page.definitions.keys().filter(move |label| !used(label));
        let unused = unused.map(|label| format!("{}: [{label}] is not used", page.file));
        let undefined = page.references.iter().filter(|(label, is_full)| {
            // Without a second label it may be just text in brackets.
            !page.definitions.contains_key(label) && (*is_full || known.contains(label))
        });
        let undefined =
            undefined.map(|(label, _)| format!("{}: [{label}] is undefined", page.file));
        unused.chain(undefined).collect::<Vec<_>>()
    }));
}

#[test]
fn every_page_of_the_docs_is_a_guide_and_in_the_index() {
    let guide = read("src/guide.rs");
    let modules = guide.lines().filter_map(|line| {
        let (module, file) = line.trim().strip_suffix("\",")?.split_once(": \"")?;
        Some((module.to_owned(), file.to_owned()))
    });
    let modules: BTreeSet<_> = modules.collect();
    let pages = docs();
    let (index, pages): (Vec<_>, Vec<_>) =
        pages.iter().partition(|page| page.file == "docs/README.md");
    let files = pages.iter().map(|page| page.file.replace("docs/", ""));
    let expected = files.map(|file| (module_of(&file), file)).collect();
    assert_eq!(modules, expected);
    let listed: BTreeSet<_> = index.iter().flat_map(|page| page.targets()).collect();
    let missing = modules
        .iter()
        .filter(|(_, file)| !listed.contains(file.as_str()));
    assert_none(missing.map(|(_, file)| format!("docs/README.md does not link to {file}")));
}

/// On docs.rs an inline link from page to page would be dead, and nothing there shows pictures. So
/// such links have labels, which `src/guide-links.md` defines for docs.rs.
/// `UPDATE_LINKS=1 cargo test --test it -- links` writes that file.
#[test]
fn the_guides_link_to_each_other_by_labels() {
    let pages = docs();
    assert_none(pages.iter().flat_map(|page| {
        let relative =
            |target: &&String| !target.starts_with("https://") && !target.starts_with('#');
        let inline = page.inline.iter().filter(relative);
        inline.map(|target| {
            let label = target.replace(".md", "");
            let form = format!("[text][{label}] and [{label}]: {target}");
            format!("{}: instead of [text]({target}) write {form}", page.file)
        })
    }));

    let mut labels = BTreeMap::new();
    let mut faults = Vec::new();
    for page in &pages {
        for (label, target) in &page.definitions {
            let Some(target) = on_docs_rs(target) else {
                continue;
            };
            let other = labels.insert(label, target.clone());
            if other.is_some_and(|other| other != target) {
                faults.push(format!(
                    "{}: [{label}] leads elsewhere on another page",
                    page.file
                ));
            }
        }
    }
    assert_none(faults);
    let lines = labels
        .iter()
        .map(|(label, target)| format!("[{label}]: {target}\n"));
    let expected = lines.collect::<String>() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE_LINKS);
    if env::var_os("UPDATE_LINKS").is_some() {
        fs::write(path, &expected).expect("a writable file");
    }
    assert!(
        read(GUIDE_LINKS) == expected,
        "{GUIDE_LINKS} is out of date: UPDATE_LINKS=1 cargo test --test it -- links"
    );
}

/// A page of Markdown, as far as links are concerned.
struct Page {
    file: String,
    /// The targets of `[text](target)`, pictures included.
    inline: Vec<String>,
    /// The labels of `[text][label]` (full) and `[label]`, which may be just text in brackets.
    references: Vec<(String, bool)>,
    /// `[label]: target`
    definitions: BTreeMap<String, String>,
    /// The ids of the headings.
    headings: BTreeSet<String>,
}

impl Page {
    fn read(file: impl Into<String>) -> Self {
        let file = file.into();
        let text = without_fences(&read(&file));
        let mut page = Self {
            file,
            inline: Vec::new(),
            references: Vec::new(),
            definitions: BTreeMap::new(),
            headings: headings(&text),
        };
        page.find_links(&text);
        page
    }

    fn find_links(&mut self, text: &str) {
        // As long as `text`, so that places are the same in both.
        let masked = mask_code(text);
        for (open, _) in masked.match_indices('[') {
            let before = &masked[..open];
            let Some(close) = closing(&masked[open..]).map(|length| open + length) else {
                continue;
            };
            if before.ends_with(['\\', ']']) {
                continue;
            }
            let label = normal(&text[open + 1..close]);
            let after = &masked[close + 1..];
            if let Some(target) = after.strip_prefix('(') {
                let target = target.split([')', ' ', '\n']).next();
                self.inline.push(target.unwrap_or_default().to_owned());
            } else if let Some(target) = after.strip_prefix(": ")
                && (before.is_empty() || before.ends_with('\n'))
            {
                let target = target.lines().next().unwrap_or_default();
                self.definitions.insert(label, target.trim().to_owned());
            } else if let Some(length) = closing(after) {
                let full = normal(&text[close + 2..close + 1 + length]);
                let label = if full.is_empty() { label } else { full };
                self.references.push((label, true));
            } else {
                self.references.push((label, false));
            }
        }
    }

    /// Where all its links lead.
    fn targets(&self) -> impl Iterator<Item = &str> {
        let targets = self.inline.iter().chain(self.definitions.values());
        targets.map(String::as_str)
    }
}

/// The pages in `docs/`.
fn docs() -> Vec<Page> {
    pages().into_iter().map(Page::read).collect()
}

/// Why a link does not work for readers who have only what is published.
fn published_fault(target: &str) -> Option<String> {
    let fault = if let Some(path) = target.strip_prefix(FILES) {
        let is_packaged = is_packaged(path);
        (!is_packaged).then(|| "it is not in the package; a folder ends with a slash".to_owned())
    } else if let Some(page) = target.strip_prefix(DOCUMENTATION) {
        let (path, anchor) = split_anchor(page);
        let path = path.strip_suffix("index.html").unwrap_or(path);
        match path.strip_prefix("guide/") {
            Some("") => fault_of_file("docs/README.md", anchor),
            Some(module) => {
                let page = module.trim_end_matches('/').replace('_', "-");
                fault_of_file(&in_docs(&format!("{page}.md")), anchor)
            }
            // `scripts/check-links` looks it up.
            None => None,
        }
    } else {
        (!target.starts_with("https://")).then(|| "it is relative".to_owned())
    };
    fault.map(|fault| format!("{target}: {fault}"))
}

/// Why a link to this file of the repository does not work.
fn fault_of_file(path: &str, anchor: Option<&str>) -> Option<String> {
    if !is_packaged(path) {
        return Some(format!("{path} is not in the package"));
    }
    let anchor = anchor?;
    if TAKEN.contains(&anchor) {
        return Some(format!("rustdoc gives the heading #{anchor} another id"));
    }
    let is_heading = path.ends_with(".md") && Page::read(path).headings.contains(anchor);
    (!is_heading).then(|| format!("{path} has no heading #{anchor}"))
}

/// Whether the package contains this file of the repository, or something in this folder.
fn is_packaged(path: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_folder = path.is_empty() || path.ends_with('/');
    // cargo leaves out folders that are packages of their own.
    let mut ancestors = Path::new(path)
        .ancestors()
        .filter(|ancestor| *ancestor != Path::new(""));
    let is_nested = ancestors.any(|ancestor| root.join(ancestor).join("Cargo.toml").exists());
    let manifest = read("Cargo.toml");
    let (_, include) = manifest.split_once("\ninclude = [").expect("a list");
    let include = include.split(']').next().unwrap_or_default();
    let mut patterns = include.split('"').skip(1).step_by(2);
    let is_included = patterns.any(|pattern| {
        let pattern = pattern.trim_start_matches('/');
        match pattern.split_once('*') {
            Some((start, _)) if is_folder => start.starts_with(path),
            Some((start, end)) => {
                let middle = path
                    .strip_prefix(start)
                    .and_then(|rest| rest.strip_suffix(end));
                middle.is_some_and(|middle| !middle.contains('/'))
            }
            None => Path::new(path).starts_with(pattern),
        }
    });
    let found = root.join(path);
    is_included
        && !is_nested
        && if is_folder {
            found.is_dir()
        } else {
            found.is_file()
        }
}

/// What a link of a page is called in rustdoc; `None` if it works there as it is.
fn on_docs_rs(target: &str) -> Option<String> {
    let (path, anchor) = split_anchor(target);
    let anchor = anchor.map_or(String::new(), |anchor| format!("#{anchor}"));
    if let Some(page) = path.strip_prefix(DOCUMENTATION) {
        return Some(item(page, &anchor));
    }
    if path.starts_with("https://") {
        return None;
    }
    Some(match path {
        "README.md" => format!("crate::guide{anchor}"),
        _ if path.ends_with(".md") && !path.starts_with("../") => {
            format!("crate::guide::{}{anchor}", module_of(path))
        }
        _ => format!("{FILES}{}", in_docs(path)),
    })
}

/// The item that a page of the documentation is about: `field@crate::config::PoolConfig::size` for
/// `config/struct.PoolConfig.html#structfield.size`.
fn item(page: &str, anchor: &str) -> String {
    let page = page.trim_end_matches("index.html").trim_end_matches('/');
    let mut parts: Vec<_> = page.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(last) = parts.last_mut() {
        // `struct.PoolConfig.html`
        *last = last.split('.').nth(1).unwrap_or(last);
    }
    let path = parts
        .iter()
        .map(|part| format!("::{part}"))
        .collect::<String>();
    match anchor.trim_start_matches('#').split_once('.') {
        Some(("structfield", member)) => format!("field@crate{path}::{member}"),
        Some((_, member)) => format!("crate{path}::{member}"),
        None => format!("crate{path}{anchor}"),
    }
}

/// The guide that a page is: `what_happens` for `what-happens.md`.
fn module_of(file: &str) -> String {
    file.trim_end_matches(".md").replace('-', "_")
}

/// The path, from the repository's root, of a file that a page in `docs/` names.
fn in_docs(path: &str) -> String {
    match path.strip_prefix("../") {
        Some(path) => path.to_owned(),
        None => format!("docs/{path}"),
    }
}

fn split_anchor(target: &str) -> (&str, Option<&str>) {
    match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    }
}

/// Blanks out blocks of code.
fn without_fences(text: &str) -> String {
    let mut is_code = false;
    let lines = text.split_inclusive('\n').map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence { "\n" } else { line }
    });
    lines.collect()
}

/// Replaces brackets in code spans, without a change of length.
fn mask_code(text: &str) -> String {
    let parts = text
        .split('`')
        .enumerate()
        .map(|(number, part)| match number % 2 {
            1 => part.replace(['[', ']'], " "),
            _ => part.to_owned(),
        });
    parts.collect::<Vec<_>>().join("`")
}

/// Where the bracket that opens the text is closed.
fn closing(text: &str) -> Option<usize> {
    if !text.starts_with('[') {
        return None;
    }
    let mut depth = 0_usize;
    for (place, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 1 => return Some(place),
            ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Labels are compared without regard to case and line breaks.
fn normal(label: &str) -> String {
    let words: Vec<_> = label.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// The ids that rustdoc gives to the headings. Those of most forges are the same.
fn headings(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let Some((_, heading)) = line.split_once(' ') else {
            continue;
        };
        let id = heading.trim().chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
            _ => None,
        });
        let id: String = id.collect();
        let ids_of_it = (0..).map(|number| match number {
            0 => id.clone(),
            _ => format!("{id}-{number}"),
        });
        let mut free = ids_of_it.filter(|id| !ids.contains(id));
        let free = free.next().expect("numbers do not end");
        ids.insert(free);
    }
    ids
}
