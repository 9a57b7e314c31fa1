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
    /// True if everything in it is compiled for tests only: by the words of the modules above it.
    pub(crate) is_test: bool,
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
        let syntax = syntax.expect("sources are Rust");
        Self { path: path.to_owned(), text: text.to_owned(), syntax, is_test: false }
    }

    /// Returns the path of the file's module within its crate; empty for the root.
    pub(crate) fn place(&self) -> Vec<String> {
        let inner = self.path.split_once("/src/").map_or("", |(_, inner)| inner);
        let mut names: Vec<String> = inner.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            names.pop();
        }
        names
    }

    /// Returns the same with the crate's folder before it.
    fn place_in_workspace(&self) -> Vec<String> {
        let folder = self.path.split('/').next().unwrap_or_default().to_owned();
        [vec![folder], self.place()].concat()
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
    mark_tests(&mut files);
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

/// Modules that files declare: for tests, and for the crate itself.
#[derive(Default)]
struct DeclaredModules {
    tests: Vec<Vec<String>>,
    others: Vec<Vec<String>>,
}

impl DeclaredModules {
    fn look(&mut self, items: &[syn::Item], place: &[String]) {
        for item in items {
            let syn::Item::Mod(module) = item else { continue };
            let inner = [place, &[module.ident.to_string()]].concat();
            if is_for_tests(&module.attrs) {
                self.tests.push(inner);
                continue;
            }
            if let Some((_, items)) = &module.content {
                self.look(items, &inner);
            }
            self.others.push(inner);
        }
    }
}

/// Marks the files that are compiled for tests only. A name makes no file one: `cfg(test)` does, at its `mod` or in itself.
pub(crate) fn mark_tests(files: &mut [SourceFile]) {
    let mut declared = DeclaredModules::default();
    for file in &*files {
        declared.look(&file.syntax.items, &file.place_in_workspace());
    }
    let DeclaredModules { mut tests, others } = declared;
    tests.retain(|place| !others.contains(place));
    let own = files.iter().filter(|file| is_for_tests(&file.syntax.attrs));
    tests.extend(own.map(SourceFile::place_in_workspace));
    for file in files {
        let place = file.place_in_workspace();
        file.is_test = tests.iter().any(|test| place.starts_with(test));
    }
}

/// Returns true if an item is compiled for tests only.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Returns the attributes of an item.
pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Reads all files of a crate, with its tests, its examples and its `build.rs`.
pub(crate) fn all_of(folder: &str) -> Vec<SourceFile> {
    below(folder.trim_end_matches("/src"))
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

#[test]
fn only_cfg_test_makes_a_file_one_of_tests() {
    let made = |path: &str, text: &str| SourceFile::made(&format!("vfio-trace/src/{path}"), text);
    let mut files = vec![
        made("lib.rs", "mod a; mod b; mod c;"),
        made(
            "a/mod.rs",
            "mod tests; #[cfg(test)] mod far; #[cfg(test)] mod x { mod y; } mod z { #[cfg(test)] mod w; }",
        ),
        made("a/tests/mod.rs", "mod fixture;"),
        made("a/tests/fixture.rs", ""),
        made("b/fixture.rs", ""),
        made("b/mod.rs", "#[cfg(test)] mod both; #[cfg(not(test))] mod both;"),
        made("b/both.rs", ""),
        made("a/far/mod.rs", "mod away;"),
        made("a/far/away.rs", ""),
        made("a/x/y.rs", ""),
        made("a/z/w.rs", ""),
        made("c.rs", "#![cfg(test)] mod d;"),
        made("c/d.rs", ""),
    ];
    mark_tests(&mut files);
    for (nr, file) in files.iter().enumerate() {
        assert_eq!(file.is_test, nr >= 7, "{}", file.path);
    }
}
