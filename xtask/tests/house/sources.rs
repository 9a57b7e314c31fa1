//! The workspace's Rust sources, parsed.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file of the workspace.
pub(crate) struct SourceFile {
    /// Its path below the workspace, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its items.
    pub(crate) syntax: syn::File,
}

impl SourceFile {
    /// The module of the tool that the file belongs to, `None` outside of `vfio-trace/src` and for its root.
    pub(crate) fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("vfio-trace/src/")?;
        let first = inner.split('/').next()?;
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(module, "lib" | "main")).then_some(module)
    }

    /// Makes one that is nowhere, for tests of the rules themselves.
    ///
    /// # Panics
    ///
    /// If the text is no Rust.
    pub(crate) fn made(path: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text).map_err(|error| format!("{path}: {error}"));
        Self { path: path.to_owned(), text: text.to_owned(), syntax: syntax.expect("sources are Rust") }
    }

    /// Returns true for files of which everything is compiled for tests only.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "fixture" | "fixture.rs"))
    }
}

/// Returns the workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads all files below a folder of the workspace.
///
/// # Panics
///
/// If one cannot be read or is no Rust.
pub(crate) fn below(folder: &str) -> Vec<SourceFile> {
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!files.is_empty(), "{folder} has no sources");
    files
}

fn walk(folder: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("the workspace can be read") {
        let path = entry.expect("the workspace can be read").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(SourceFile::made(&path, &text));
        }
    }
}

/// Returns true if an item is compiled for tests only.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The crates of the workspace, each with its folder of sources.
pub(crate) const CRATES: [&str; 6] = [
    "vfio-trace/src",
    "vfio-trace-common/src",
    "vfio-trace-ebpf/src",
    "vfio-uapi/src",
    "lab/src",
    "xtask/src",
];
