//! Documentation that begins with what a thing is or does: a noun, or a verb.

use proc_macro2::Span;
use syn::{
    spanned::Spanned as _,
    visit::{self, Visit},
};

use crate::sources::{CRATES, SourceFile, all_of, is_for_tests};

/// First words of a relative clause, which leave the reader to find the noun or the verb.
const CLAUSES: [&str; 9] = ["whether", "who", "whom", "whose", "whoever", "what", "whatever", "which", "how"];

/// Collects the first words of documentation.
#[derive(Default)]
struct DocCollector(Vec<(Span, String)>);

impl DocCollector {
    fn look(&mut self, attributes: &[syn::Attribute]) {
        let first = attributes.iter().find_map(|attribute| {
            // Not `#[doc(hidden)]`.
            let syn::Meta::NameValue(doc) = &attribute.meta else { return None };
            let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &doc.value else {
                return None;
            };
            doc.path.is_ident("doc").then(|| (attribute.span(), text.value().trim().to_owned()))
        });
        self.0.extend(first);
    }
}

impl<'ast> Visit<'ast> for DocCollector {
    fn visit_file(&mut self, file: &'ast syn::File) {
        self.look(&file.attrs);
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Trait(item) => &item.attrs,
            syn::Item::Type(item) => &item.attrs,
            syn::Item::Union(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        self.look(attributes);
        // Of options the documentation is the text of `--help`, which has a manner of its own.
        if !is_for_clap(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look(&item.attrs);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.look(&item.attrs);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.look(&item.attrs);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.look(&field.attrs);
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.look(&variant.attrs);
        visit::visit_variant(self, variant);
    }
}

/// Returns true if clap makes options or verbs of an item.
fn is_for_clap(attributes: &[syn::Attribute]) -> bool {
    let derives = |attribute: &syn::Attribute| {
        let list = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        ["Args", "Parser", "Subcommand", "ValueEnum"].iter().any(|name| list.contains(name))
    };
    attributes.iter().filter(|attribute| attribute.path().is_ident("derive")).any(derives)
}

/// Returns the lines of a file that begin with such a word.
fn clauses(file: &SourceFile) -> Vec<String> {
    let mut found = DocCollector::default();
    found.visit_file(&file.syntax);
    let is_clause = |text: &str| {
        let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase();
        CLAUSES.contains(&word.as_str())
    };
    let clauses = found.0.into_iter().filter(|(_, text)| is_clause(text));
    clauses.map(|(span, text)| format!("{}:{}: {text}", file.path, span.start().line)).collect()
}

#[test]
fn no_documentation_begins_with_a_relative_clause() {
    let files = CRATES.iter().flat_map(|folder| all_of(folder));
    let wrong: Vec<_> = files.flat_map(|file| clauses(&file)).collect();
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn relative_clauses_are_found() {
    let text = "//! How it is.\n//! Why not.\n\n/// Whether.\nstruct A {\n    /// Who it is.\n    b: u8,\n}\n\n\
                mod c {\n    //! What.\n}\n\n#[doc(hidden)]\n/// Which.\nfn d() {}\n\n/// However.\nfn e() {}\n";
    let expected =
        ["x.rs:1: How it is.", "x.rs:4: Whether.", "x.rs:6: Who it is.", "x.rs:11: What.", "x.rs:15: Which."];
    assert_eq!(clauses(&SourceFile::made("x.rs", text)), expected);
}
