//! Pages that name tests are held to the tree: each name in a table's column "shown by" is a test that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGES: [(&str, &str); 2] = [
    ("architecture.md", include_str!("../../docs/architecture.md")),
    ("known-failures.md", include_str!("../../docs/known-failures.md")),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file of the workspace.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// What stands between backticks in the last cells of tables whose last column is "shown by".
fn shown_by(page: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in page.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default().trim();
        in_table |= last == "shown by";
        if in_table {
            names.extend(last.split('`').skip(1).step_by(2));
        }
    }
    names
}

fn is_word(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn every_test_that_a_page_names_is_in_the_tree() {
    let mut files = Vec::new();
    sources(&workspace(), &mut files);
    let mut functions = BTreeSet::new();
    for file in &files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let Some((before, after)) = line.split_once("fn ") else { continue };
            if before.trim().is_empty() || before.trim() == "async" {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                functions.insert(after[..end].to_owned());
            }
        }
    }
    for (page, text) in PAGES {
        let names = shown_by(text);
        assert!(names.len() > 60, "docs/{page} names only {}", names.len());
        for name in names {
            let there = match name {
                name if is_word(name) => functions.contains(name),
                name if name.ends_with(".rs") => files.iter().any(|file| file.ends_with(name)),
                // A part of a crate, or what is no test.
                _ => continue,
            };
            assert!(there, "docs/{page}: `{name}` is not in the tree");
        }
    }
}
