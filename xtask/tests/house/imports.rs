//! The paths that a file names: its imports, and what it calls by a full path.

use syn::visit::{self, Visit};

use crate::sources::{SourceFile, is_for_tests};

/// Collects paths outside of code for tests.
#[derive(Default)]
struct PathCollector {
    paths: Vec<Vec<String>>,
}

impl PathCollector {
    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.paths.push(with(&name.ident)),
            syn::UseTree::Rename(rename) => self.paths.push(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.paths.push(before.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }
}

impl<'ast> Visit<'ast> for PathCollector {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&item.tree, &[]);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // What a macro is given are tokens; paths of the crate can be told all the same.
        let mut words = Vec::new();
        flatten(call.tokens.clone(), &mut words);
        for at in 0..words.len() {
            if let [crate_, one, two, module, ..] = &words[at..]
                && crate_ == "crate"
                && (one.as_str(), two.as_str()) == (":", ":")
            {
                self.paths.push(vec!["crate".to_owned(), module.clone()]);
            }
        }
        visit::visit_macro(self, call);
    }
}

fn flatten(tokens: proc_macro2::TokenStream, words: &mut Vec<String>) {
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Group(group) => flatten(group.stream(), words),
            other => words.push(other.to_string()),
        }
    }
}

/// Returns the paths that a file names outside of code for tests, segment by segment.
pub(crate) fn paths(file: &SourceFile) -> Vec<Vec<String>> {
    let mut collector = PathCollector::default();
    collector.visit_file(&file.syntax);
    collector.paths
}

/// Returns the modules of the crate that a file names, by `crate::` or by `super::` beyond its own module.
pub(crate) fn modules(file: &SourceFile) -> Vec<String> {
    let inner = file.path.strip_prefix("vfio-trace/src/").unwrap_or_default();
    let mut depth = inner.split('/').count();
    if inner.ends_with("/mod.rs") || !inner.contains('/') {
        depth -= 1;
    }
    let of = |path: Vec<String>| {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        match path.first().map(String::as_str) {
            Some("crate") => path.get(1).cloned(),
            // Within `mod tests { }` there is one more, which only makes this miss, never accuse.
            Some("super") if ups >= depth.max(1) && depth > 0 => path.get(ups).cloned(),
            _ => None,
        }
    };
    paths(file).into_iter().filter_map(of).collect()
}
