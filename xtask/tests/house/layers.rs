//! A module of the tool imports only from the layers below its own. Code for tests may look anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use syn::visit::{self, Visit};

use crate::{
    imports::{modules, paths},
    sources::{CRATES, SourceFile, below, root},
};

/// The modules of the tool by layer; docs/design.md tells what each is for.
const LAYERS: [&[&str]; 9] = [
    &["sys", "kernel", "units"],
    &["event"],
    &["recording", "driver"],
    &["pipeline"],
    &["state", "report"],
    &["probe", "source"],
    &["doctor", "exercise"],
    &["output", "mount"],
    &["cli"],
];

/// Modules of one layer of which one is made from the other.
const BESIDE: [(&str, &str); 1] = [("source", "probe")];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Returns what files import from beside or above, and what they import from the root that is no module: by that, anything
/// could come from anywhere.
fn wrong_imports(files: &[SourceFile]) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for file in files.iter().filter(|file| !file.is_test) {
        let Some(module) = file.module() else { continue };
        let Some(own) = layer(module) else {
            wrong.insert(format!("{}: no layer has {module}", file.path));
            continue;
        };
        for other in modules(file) {
            let is_below = layer(&other).is_some_and(|other| other < own);
            if !(other == module || is_below || BESIDE.contains(&(module, &*other))) {
                wrong.insert(format!("{}: {module} may not import {other}", file.path));
            }
        }
    }
    wrong
}

#[test]
fn modules_import_only_from_below() {
    let wrong = wrong_imports(&below("vfio-trace/src"));
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn wrong_imports_are_found() {
    for (path, text, wrong) in [
        ("event/mod.rs", "use crate::units::x; use crate::event::y; use super::sys;", ""),
        ("source/mod.rs", "use crate::probe::x;", ""),
        ("probe/mod.rs", "use crate::source::x;", "probe may not import source"),
        ("event/tests.rs", "use crate::cli;", "event may not import cli"),
        ("event/x.rs", "use crate::*;", "event may not import *"),
        ("event/x.rs", "use crate::Cli;", "event may not import Cli"),
        (
            "event/x.rs",
            "mod a { fn f() { write!(b, \"\", super::super::super::cli::x()); } }",
            "event may not import cli",
        ),
        ("newer.rs", "", "no layer has newer"),
    ] {
        let found = wrong_imports(&[SourceFile::made(&format!("vfio-trace/src/{path}"), text)]);
        let expected = Some(wrong).filter(|wrong| !wrong.is_empty());
        let expected = expected.map(|wrong| format!("vfio-trace/src/{path}: {wrong}"));
        assert_eq!(found, BTreeSet::from_iter(expected), "{text}");
    }
}

/// Finds what hides the place of code: a file under another module's name, or without a module.
#[derive(Default)]
struct HidingFinder(Vec<&'static str>);

impl<'ast> Visit<'ast> for HidingFinder {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let conditional = attribute.path().is_ident("cfg_attr")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| list.tokens.clone().into_iter().any(|token| token.to_string() == "path"));
        if attribute.path().is_ident("path") || conditional {
            self.0.push("#[path]");
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.segments.last().is_some_and(|last| last.ident == "include") {
            self.0.push("include!");
        }
        visit::visit_macro(self, call);
    }
}

fn hiding(file: &SourceFile) -> Vec<&'static str> {
    let mut found = HidingFinder::default();
    found.visit_file(&file.syntax);
    found.0
}

#[test]
fn a_file_is_the_module_that_its_name_says() {
    for file in CRATES.iter().flat_map(|folder| below(folder)) {
        let found = hiding(&file);
        assert!(found.is_empty(), "{}: {}", file.path, found.join(", "));
    }
    let made = |text: &str| hiding(&SourceFile::made("vfio-trace/src/event/mod.rs", text));
    assert_eq!(made("#[path = \"../cli/x.rs\"] mod x;"), ["#[path]"]);
    assert_eq!(made("#[cfg_attr(unix, path = \"../cli/x.rs\")] mod x;"), ["#[path]"]);
    assert_eq!(made("include!(\"../cli/x.rs\"); fn f() { std::include!(\"y\") }"), ["include!", "include!"]);
    assert_eq!(made("mod x; const A: &str = include_str!(\"y\");"), [""; 0]);
}

/// Returns the items of the crate's root that are not just modules: by these a module's name can be left out.
fn more_than_modules(file: &SourceFile) -> usize {
    let is_module = |item: &&syn::Item| matches!(item, syn::Item::Mod(module) if module.content.is_none());
    file.syntax.items.iter().filter(|item| !is_module(item)).count()
}

#[test]
fn the_root_has_modules_alone() {
    for file in below("vfio-trace/src").iter().filter(|file| file.path == "vfio-trace/src/lib.rs") {
        assert_eq!(more_than_modules(file), 0, "{} has more than modules", file.path);
    }
    let made = |text: &str| more_than_modules(&SourceFile::made("vfio-trace/src/lib.rs", text));
    assert_eq!(made("pub mod cli; pub use cli::X;"), 1);
    assert_eq!(made("pub mod cli; pub mod x { } fn f() {}"), 2);
}

#[test]
fn aya_is_known_by_the_tracer_alone() {
    for file in below("vfio-trace/src") {
        let module = file.module().unwrap_or("the root");
        let uses = paths(&file).iter().any(|path| path.first().is_some_and(|first| first == "aya"));
        // In `sys` stands the one implementation of aya's trait for values of maps: it is unsafe.
        let may = matches!(module, "probe" | "source" | "sys");
        assert!(!uses || may, "{}: {module} uses aya", file.path);
    }
}

/// Driver plug-ins are the business of `driver` alone: elsewhere only what belongs to the lists, and tests, names one.
#[test]
fn the_core_knows_no_driver() {
    let names = ["hisi_acc", "mlx5"];
    for file in below("vfio-trace/src").iter().filter(|file| !file.is_test) {
        if matches!(file.module(), Some("driver")) {
            continue;
        }
        for path in paths(file) {
            let named = path.iter().find(|segment| names.contains(&segment.as_str()));
            assert_eq!(named, None, "{}: {}", file.path, path.join("::"));
        }
    }
}

/// Returns the names of the design's table, each with its layer: `| 1 | `kernel` | … |`.
fn design(text: &str) -> BTreeMap<String, usize> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let layer = cells.next()?.parse().ok()?;
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), layer))
        })
        .collect()
}

#[test]
fn the_design_has_a_row_of_every_module() {
    let there: BTreeSet<String> =
        below("vfio-trace/src").iter().filter_map(|file| file.module().map(str::to_owned)).collect();
    let layers: BTreeMap<String, usize> = LAYERS
        .iter()
        .zip(1..)
        .flat_map(|(modules, layer)| modules.iter().map(move |name| ((*name).to_owned(), layer)))
        .collect();
    assert_eq!(layers.keys().collect::<BTreeSet<_>>(), there.iter().collect::<BTreeSet<_>>());
    let mut rows = design(&fs::read_to_string(root().join("docs/design.md")).unwrap());
    let crates = CRATES.map(|folder| folder.trim_end_matches("/src"));
    rows.retain(|name, layer| !(*layer == 1 && crates.contains(&name.as_str())));
    assert_eq!(rows, layers, "docs/design.md (left) and the layers of this test");
}

#[test]
fn a_module_that_is_only_spoken_of_has_no_row() {
    let text = "`cli` of `sys`\n\n| layer | module |\n|---|---|\n| 1 | `sys` | `event` | x |\n| 12 | `cli` | y |\n| a | `b` |\n";
    assert_eq!(design(text), BTreeMap::from([("cli".to_owned(), 12), ("sys".to_owned(), 1)]));
}

#[test]
fn the_wire_is_known_without_the_tool() {
    for (folder, mine) in [("vfio-trace-common/src", ""), ("vfio-trace-ebpf/src", "vfio_trace_common")] {
        for file in below(folder) {
            for path in paths(&file) {
                let first = path.first().map_or("", String::as_str);
                let foreign = first.starts_with("vfio_trace") && first != mine && first != "vfio_trace_ebpf";
                assert!(!foreign, "{}: {}", file.path, path.join("::"));
            }
        }
    }
}
