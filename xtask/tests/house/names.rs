//! Names: of two words unless the one is the kernel's own, and each with one meaning.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::sources::below;

/// Types of one word: the kernel's and the formats' own, and some that everybody knows in their place: a `Check` of doctor, the
/// `Demand` of a sink for more records, the `Pipeline`, the `Refresh` of a mounted tree.
const OWN_WORDS: [&str; 9] =
    ["Btf", "Check", "Demand", "Err", "Errno", "Kallsyms", "Ndjson", "Pipeline", "Refresh"];

/// Collects the names of types, also of those within functions.
#[derive(Default)]
struct TypeCollector(Vec<String>);

impl<'ast> Visit<'ast> for TypeCollector {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.0.push(item.ident.to_string());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.0.push(item.ident.to_string());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.0.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
    }
}

/// All types of the tool, each with the files that define one of this name.
fn types() -> BTreeMap<String, Vec<String>> {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in below("vfio-trace/src").into_iter().chain(below("vfio-trace/tests")) {
        let mut found = TypeCollector::default();
        found.visit_file(&file.syntax);
        for name in found.0 {
            types.entry(name).or_default().push(file.path.clone());
        }
    }
    types
}

#[test]
fn no_type_name_stands_for_two_things() {
    let types = types();
    let twice: Vec<String> = types
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

#[test]
fn type_names_have_two_words() {
    let is_one_word = |name: &str| name.chars().filter(char::is_ascii_uppercase).count() < 2;
    let single: Vec<String> = types()
        .into_iter()
        .filter(|(name, _)| is_one_word(name) && !OWN_WORDS.contains(&name.as_str()))
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(single.is_empty(), "{}", single.join("\n"));
}
