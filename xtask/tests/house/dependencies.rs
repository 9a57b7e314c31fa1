//! Reasons for dependencies: docs/dependencies.md has one for each, and for none that is not there.

use std::{collections::BTreeSet, fs};

use crate::sources::{CRATES, root};

/// Returns the names of a crate's dependencies on others than this workspace's own crates.
fn of_crate(folder: &str) -> BTreeSet<String> {
    let own = |name: &str| CRATES.iter().any(|other| other.split('/').next() == Some(name));
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a crate has a Cargo.toml");
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, _)) = line.split_once('=')
            && inside
            && !line.starts_with('#')
        {
            names.insert(name.trim().to_owned());
        }
    }
    names.retain(|name| !own(name));
    names
}

/// Returns the names in the first column of the first table: `serde, serde_json`, `tempfile (tests)`.
fn explained() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/dependencies.md")).expect("the page is there");
    let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.map_while(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" |").next())
        .flat_map(|cell| cell.split(" (").next().unwrap_or_default().split(", ").map(str::to_owned))
        .collect()
}

#[test]
fn each_dependency_has_a_reason() {
    let there: BTreeSet<String> =
        CRATES.iter().filter_map(|folder| folder.split('/').next()).flat_map(of_crate).collect();
    let explained = explained();
    assert!(there.len() > 30 && there.contains("aya"), "{there:?}");
    let without: Vec<_> = there.difference(&explained).collect();
    let gone: Vec<_> = explained.difference(&there).collect();
    assert!(without.is_empty() && gone.is_empty(), "without a reason: {without:?}; not there: {gone:?}");
}
