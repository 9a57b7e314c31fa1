//! A module of the tool imports only from the layers below its own. Code for tests may look anywhere.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    imports::{modules, paths},
    sources::below,
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
    &["output", "mount", "serve", "tui"],
    &["cli"],
];

/// Modules of one layer of which one is made from the other.
const BESIDE: [(&str, &str); 1] = [("source", "probe")];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn modules_import_only_from_below() {
    let mut wrong = BTreeSet::new();
    for file in below("vfio-trace/src").iter().filter(|file| !file.is_test()) {
        let Some(module) = file.module() else { continue };
        let own = layer(module).unwrap_or_else(|| panic!("{}: no layer has {module}", file.path));
        for other in modules(file) {
            let Some(below) = layer(&other) else { continue };
            let may = other == module || below < own || BESIDE.contains(&(module, &*other));
            if !may {
                wrong.insert(format!("{}: {module} may not import {other}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
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
    for file in below("vfio-trace/src").iter().filter(|file| !file.is_test()) {
        if matches!(file.module(), Some("driver")) {
            continue;
        }
        for path in paths(file) {
            let named = path.iter().find(|segment| names.contains(&segment.as_str()));
            assert_eq!(named, None, "{}: {}", file.path, path.join("::"));
        }
    }
}

#[test]
fn the_design_tells_of_every_module() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/design.md")).unwrap();
    for file in below("vfio-trace/src") {
        if let Some(module) = file.module() {
            assert!(text.contains(&format!("`{module}`")), "docs/design.md does not tell of `{module}`");
        }
    }
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
