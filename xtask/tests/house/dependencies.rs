//! Reasons for dependencies: docs/dependencies.md has one for each, and for none that is not there.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::sources::{CRATES, root};

/// Returns the names of what a workspace depends on besides this workspace's own crates, as cargo understands each
/// `Cargo.toml`: in tables and below tables, for one target or all, and by the name that they have themselves.
fn of_workspace(folder: &Path) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = cargo.current_dir(folder).output().expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let own = |name: &str| CRATES.iter().any(|other| other.split('/').next() == Some(name));
    let packages = all.get("packages").and_then(Value::as_array).into_iter().flatten();
    packages
        .filter_map(|package| package.get("dependencies")?.as_array())
        .flatten()
        .filter_map(|dependency| dependency.get("name")?.as_str())
        .filter(|name| !own(name))
        .map(str::to_owned)
        .collect()
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
    let (there, explained) = (of_workspace(&root()), explained());
    assert!(there.len() > 30 && there.contains("aya"), "{there:?}");
    let without: Vec<_> = there.difference(&explained).collect();
    let gone: Vec<_> = explained.difference(&there).collect();
    assert!(without.is_empty() && gone.is_empty(), "without a reason: {without:?}; not there: {gone:?}");
}

#[test]
fn no_form_of_a_dependency_is_overlooked() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = r#"
        [package]
        name = "made-up"
        edition = "2024"

        [dependencies]
        one = "1"
        lab = { path = "../lab" }
        two.version = "2"

        [dependencies.three]
        version = "3"

        [target."cfg(unix)".build-dependencies.four]
        version = "4"

        [dev-dependencies]
        other = { version = "5", package = "five" }
    "#;
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    assert_eq!(Vec::from_iter(of_workspace(folder.path())), ["five", "four", "one", "three", "two"]);
}
