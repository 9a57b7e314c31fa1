//! Checks the origin of our dependencies, and that their licences let us ship them (deny.toml has the list).

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Check, Found};
use crate::{cmd, workspace};

/// Target of the build: crates for other platforms were never downloaded.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("host: licences and sources", |_| {
        let policy =
            fs::read_to_string(workspace::root().join("deny.toml")).context("cannot read deny.toml")?;
        let mut metadata = Command::new("cargo");
        metadata
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--offline",
                "--filter-platform",
                PLATFORM,
            ])
            .current_dir(workspace::root());
        let packages: Value = serde_json::from_str(&cmd::stdout(&mut metadata)?).context("cargo metadata")?;
        check(&allowed(&policy), &packages)
    })]
}

/// Returns the licences that deny.toml allows.
fn allowed(policy: &str) -> BTreeSet<&str> {
    let list = policy.lines().find_map(|line| line.strip_prefix("allow = [")).unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

fn check(allowed: &BTreeSet<&str>, metadata: &Value) -> Result<Found> {
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let mut wrong = Vec::new();
    for package in packages {
        let text = |name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        if !is_allowed(text("license"), allowed) {
            wrong.push(format!("{name} has the licence \"{}\"", text("license")));
        }
        // Our own crates have no source; all others come from the public registry.
        let source = package.get("source").and_then(Value::as_str);
        if source.is_some_and(|source| source != "registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name} is from {}", source.unwrap_or_default()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    ensure!(packages.len() > 50, "cargo knows {} packages only", packages.len());
    Ok(Found::one(format!("{} packages, {} licences", packages.len(), allowed.len())))
}

/// Returns true if one of the choices of an SPDX expression has allowed licences only.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    // `/` is Cargo's older form of OR.
    let words = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let (fine, rest) = any_of(&words, allowed);
    fine && rest.is_empty() && !words.is_empty()
}

/// Parses `A OR B`. Returns true if it is allowed, and the words after it.
fn any_of<'a, 'b>(words: &'a [&'b str], allowed: &BTreeSet<&str>) -> (bool, &'a [&'b str]) {
    let (mut fine, mut rest) = all_of(words, allowed);
    while let Some((&"OR", more)) = rest.split_first() {
        let (other, behind) = all_of(more, allowed);
        (fine, rest) = (fine || other, behind);
    }
    (fine, rest)
}

/// Parses `A AND B`, with the same result.
fn all_of<'a, 'b>(words: &'a [&'b str], allowed: &BTreeSet<&str>) -> (bool, &'a [&'b str]) {
    let (mut fine, mut rest) = one(words, allowed);
    while let Some((&"AND", more)) = rest.split_first() {
        let (other, behind) = one(more, allowed);
        (fine, rest) = (fine && other, behind);
    }
    (fine, rest)
}

/// Parses `A`, `A WITH exception`, `( … )`, with the same result.
fn one<'a, 'b>(words: &'a [&'b str], allowed: &BTreeSet<&str>) -> (bool, &'a [&'b str]) {
    match words {
        ["(", rest @ ..] => {
            let (fine, rest) = any_of(rest, allowed);
            match rest {
                [")", rest @ ..] => (fine, rest),
                _ => (false, &[]),
            }
        },
        // An exception permits more than the licence does.
        [name, "WITH", _, rest @ ..] | [name, rest @ ..] => (allowed.contains(name), rest),
        [] => (false, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = allowed("[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"Zlib\"]\n");
        for fine in [
            "MIT",
            "MIT OR GPL-2.0",
            "MIT/Apache-2.0",
            "(MIT OR X) AND Zlib",
            "Apache-2.0 WITH LLVM-exception OR X",
        ] {
            assert!(is_allowed(fine, &allowed), "{fine}");
        }
        for not in ["", "GPL-2.0", "MIT AND GPL-2.0", "(MIT", "MIT )", "MIT AND (X OR Y)", "LGPL-2.1 OR"] {
            assert!(!is_allowed(not, &allowed), "{not}");
        }
    }

    #[test]
    fn what_comes_from_elsewhere_is_told() {
        let other = serde_json::json!({"packages": [
            {"name": "a", "version": "1", "license": "MIT", "source": "git+https://example.org/a"},
            {"name": "b", "version": "2", "license": "AGPL-3.0", "source": null},
        ]});
        let error = check(&BTreeSet::from(["MIT"]), &other).map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains("a 1 is from git") && error.contains("b 2 has the licence \"AGPL-3.0\""),
            "{error}"
        );
    }
}
