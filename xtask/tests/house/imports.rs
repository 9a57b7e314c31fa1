//! The paths that a file names: its imports, what it calls by a full path, also in macros and attributes.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::sources::{SourceFile, attributes, is_for_tests};

/// All that the root of the crate has, in place of a module's name: by `use crate::*`, or by another name for the root.
pub(crate) const EVERYTHING: &str = "*";

/// Collects paths outside of code for tests.
#[derive(Default)]
struct PathCollector {
    /// Path of the module that is being read.
    here: Vec<String>,
    /// Paths as they are written.
    paths: Vec<Vec<String>>,
    /// Modules of the crate's root that they lead to.
    modules: Vec<String>,
}

impl PathCollector {
    fn new(file: &SourceFile) -> Self {
        Self { here: file.place(), ..Self::default() }
    }

    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.add(with(&name.ident), true),
            syn::UseTree::Rename(rename) => self.add(with(&rename.ident), true),
            syn::UseTree::Glob(_) => self.add(before.to_vec(), true),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }

    /// Adds a path; `gives`: all that is at its end can be named after it.
    fn add(&mut self, path: Vec<String>, gives: bool) {
        match self.resolve(&path) {
            Some(at) if at.is_empty() && gives => self.modules.push(EVERYTHING.to_owned()),
            Some(at) => self.modules.extend(at.into_iter().next()),
            None => {},
        }
        self.paths.push(path);
    }

    /// Returns the same path from the crate's root on; `None` if it begins with a name, which is an item beside it or below.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let mut at = match path.first()?.as_str() {
            "crate" | "vfio_trace" => Vec::new(),
            "self" | "super" => self.here.clone(),
            _ => return None,
        };
        for (nr, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "super" => _ = at.pop(),
                "self" => {},
                "crate" | "vfio_trace" if nr == 0 => {},
                name => at.push(name.to_owned()),
            }
        }
        Some(at)
    }

    /// Adds the paths in the tokens of a macro: `crate::cli::x`, `super::{a, b}`, `crate::*`, `crate as c`.
    fn add_tokens(&mut self, tokens: TokenStream, before: &[String]) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = trees.as_slice();
        while let [first, more @ ..] = rest {
            rest = more;
            match first {
                TokenTree::Group(group) => self.add_tokens(group.stream(), &[]),
                TokenTree::Ident(name) => {
                    rest = self.add_token_path([before, &[name.to_string()]].concat(), more);
                },
                TokenTree::Punct(star) if star.as_char() == '*' && !before.is_empty() => {
                    self.add(before.to_vec(), true);
                },
                TokenTree::Punct(_) | TokenTree::Literal(_) => {},
            }
        }
    }

    /// Adds the path that begins so; returns the tokens after it.
    fn add_token_path<'a>(&mut self, mut path: Vec<String>, tokens: &'a [TokenTree]) -> &'a [TokenTree] {
        let mut rest = tokens;
        while let [TokenTree::Punct(one), TokenTree::Punct(two), next, after @ ..] = rest
            && (one.as_char(), one.spacing(), two.as_char()) == (':', Spacing::Joint, ':')
        {
            match next {
                TokenTree::Ident(name) => path.push(name.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    self.add_tokens(group.stream(), &path);
                    return after;
                },
                TokenTree::Punct(star) if star.as_char() == '*' => {
                    self.add(path, true);
                    return after;
                },
                // The arguments of a type, which have paths of their own.
                _ => break,
            }
            rest = after;
        }
        if let [TokenTree::Ident(word), TokenTree::Ident(_), after @ ..] = rest
            && word == "as"
        {
            self.add(path, true);
            return after;
        }
        // A name alone is a variable or a word of the macro's own.
        if path.len() > 1 {
            self.add(path, false);
        }
        rest
    }
}

impl<'ast> Visit<'ast> for PathCollector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = if item.ident == "self" { "crate".to_owned() } else { item.ident.to_string() };
        self.add(vec![name], true);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.here.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.here.pop();
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(crate)` names nothing.
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), false);
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone(), &[]);
            // `#[serde(with = "crate::units::x")]`
            for text in texts(list.tokens.clone()) {
                self.add_tokens(text, &[]);
            }
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone(), &[]);
        visit::visit_macro(self, call);
    }
}

/// Returns the strings among tokens that are tokens themselves.
fn texts(tokens: TokenStream) -> Vec<TokenStream> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(texts(group.stream())),
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string()).map(|text| text.value());
                found.extend(text.ok().and_then(|text| text.parse::<TokenStream>().ok()));
            },
            TokenTree::Ident(_) | TokenTree::Punct(_) => {},
        }
    }
    found
}

fn collect(file: &SourceFile) -> PathCollector {
    let mut collector = PathCollector::new(file);
    collector.visit_file(&file.syntax);
    collector
}

/// Returns the paths that a file names outside of code for tests, segment by segment.
pub(crate) fn paths(file: &SourceFile) -> Vec<Vec<String>> {
    collect(file).paths
}

/// Returns the names in the crate's root that a file gets at, by `crate::`, or by `super::` from wherever it stands;
/// [`EVERYTHING`] for all of them.
pub(crate) fn modules(file: &SourceFile) -> Vec<String> {
    collect(file).modules
}

#[test]
fn no_way_to_the_root_is_overlooked() {
    let file = |text: &str| SourceFile::made("vfio-trace/src/event/kinds/arc.rs", text);
    let of = |text: &str| modules(&file(text));
    for (text, module) in [
        ("use crate::*;", EVERYTHING),
        ("use super::super::super::*;", EVERYTHING),
        ("use crate as c;", EVERYTHING),
        ("use crate::{self as c};", EVERYTHING),
        ("use super::super::super::{self as c};", EVERYTHING),
        ("extern crate self as c;", EVERYTHING),
        ("macro_rules! m { () => { use crate::*; use crate as c; } }", EVERYTHING),
        ("use crate::cli as c;", "cli"),
        ("use crate::{cli::{self, x}};", "cli"),
        ("use vfio_trace::cli;", "cli"),
        ("pub use crate::cli::X;", "cli"),
        ("fn f() { self::super::super::super::cli::x() }", "cli"),
        ("fn f() { use crate::cli::x; }", "cli"),
        ("struct S(Vec<crate::cli::X>);", "cli"),
        ("#[derive(crate::cli::D)] struct S;", "cli"),
        ("struct S { #[serde(with = \"crate::cli::x\")] a: u8 }", "cli"),
        ("fn f() { write!(a, \"{}\", crate::cli::x()); }", "cli"),
        ("fn f() { assert!(super::super::super::cli::x()); }", "cli"),
        ("fn f() { format!(\"{}\", [1].map(|_| { self::super::super::super::cli::x() })); }", "cli"),
        ("fn f() { vec![A::<crate::cli::X>::new()]; }", "cli"),
        ("macro_rules! m { () => { $crate::cli::x() } }", "cli"),
        ("macro_rules! m { () => { use crate::{cli::X}; } }", "cli"),
        ("macro_rules! m { () => { use crate::{*}; } }", EVERYTHING),
        ("fn f() { crate::cli::m!(); }", "cli"),
        ("mod inner { use super::super::super::super::cli::X; }", "cli"),
        ("mod one { mod two { fn f() { super::super::super::super::super::cli::x() } } }", "cli"),
    ] {
        let found = of(text);
        assert!(!found.is_empty() && found.iter().all(|name| name == module), "{text}: {found:?}");
    }
    for text in [
        "mod inner { use super::super::super::report; }",
        "use super::super::{self as event, report};",
        "pub(crate) fn f() { g!(pub(crate) x) }",
        "fn f() { g!(\"crate::cli\", cli::x, crate) }",
    ] {
        let found = of(text);
        assert!(found.iter().all(|name| name == "event"), "{text}: {found:?}");
    }
    assert_eq!(of("#[cfg(test)] use crate::cli; #[cfg(test)] const A: u8 = crate::cli::A;"), [""; 0]);
    let root =
        SourceFile::made("vfio-trace/src/event/mod.rs", "use super::cli::X; fn f() { super::cli::x() }");
    assert_eq!(modules(&root), ["cli", "cli"]);
    let root = SourceFile::made("vfio-trace/src/event.rs", "use super::cli::X;");
    assert_eq!(modules(&root), ["cli"]);
}
