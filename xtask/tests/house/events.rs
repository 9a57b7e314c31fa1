//! Kinds of events: each one of `event_kinds!` has its row in docs/events.md, and no row is of anything else.

use std::{collections::BTreeSet, fs};

use proc_macro2::TokenTree;

use crate::sources::{SourceFile, below, root};

/// Head of the tables that have a row for each kind.
const HEAD: &str = "| kind | fields of `data` |";

/// Lines of the stream itself, which are no events.
const LINES: [&str; 2] = ["start", "summary"];

/// Returns the names in `event_kinds!`: the literals of the table itself, not those of its documentation.
fn kinds(file: &SourceFile) -> BTreeSet<String> {
    let tables = file.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Macro(item) if item.mac.path.is_ident("event_kinds") => Some(item.mac.tokens.clone()),
        _ => None,
    });
    tables
        .flatten()
        .filter_map(|token| match token {
            TokenTree::Literal(name) => Some(name.to_string().trim_matches('"').to_owned()),
            _ => None,
        })
        .collect()
}

/// Returns the names in the first column of these tables: `read`, `write`.
fn rows(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut lines = text.lines();
    while lines.any(|line| line == HEAD) {
        for row in lines.by_ref().take_while(|line| line.starts_with('|')) {
            let cell = row.split('|').nth(1).unwrap_or_default();
            names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

#[test]
fn each_kind_of_event_has_its_row() {
    let files = below("vfio-trace/src/event/kinds");
    let mut kinds: BTreeSet<String> = files.iter().flat_map(kinds).collect();
    assert!(kinds.len() > 20 && kinds.contains("set_state"), "{kinds:?}");
    kinds.extend(LINES.map(str::to_owned));
    let rows = rows(&fs::read_to_string(root().join("docs/events.md")).unwrap());
    let without: Vec<_> = kinds.difference(&rows).collect();
    let gone: Vec<_> = rows.difference(&kinds).collect();
    assert!(without.is_empty() && gone.is_empty(), "without a row: {without:?}; not there: {gone:?}");
}

#[test]
fn a_kind_that_is_only_spoken_of_has_no_row() {
    let table =
        "event_kinds! {\n/// Like \"old\".\nOne = \"one\": A,\nTwo = \"two\": B,\nNew = \"new\": C,\n}";
    let kinds = kinds(&SourceFile::made("vfio-trace/src/event/kinds/mod.rs", table));
    assert_eq!(Vec::from_iter(&kinds), ["new", "one", "two"]);
    let page = format!(
        "# `new`\n| field | type |\n|---|---|\n| `new` | text |\n\n{HEAD}\n|---|---|\n| `one`, `two` | `new` |\n\n`new`\n"
    );
    assert_eq!(Vec::from_iter(&rows(&page)), ["one", "two"]);
}
