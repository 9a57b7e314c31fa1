//! Tests of the symbol table on small texts and on this machine's.

use std::{io::Read, time::Instant};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::kernel::source::testing::TestRoot;

const TEXT: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81234560 t helper
ffffffff81300000 t vfio_df_open
ffffffff82000000 d vfio_data
ffffffffc0a01210 d mtty_ops\t[mtty]
ffffffffc0a01234 t mtty_save_read\t[mtty]
ffffffffc0a01234 d $x\t[mtty]
ffffffffc0a01300 t step.isra.0\t[mtty]
ffffffffc0a01400 t step.constprop.0.cold\t[mtty]
ffffffffc0a01500 t step\t[mtty]
ffffffffc0a01600 t step_two\t[mtty]
ffffffffc0b00000 t helper\t[other]
ffffffffc0b00100 t unwanted\t[other]
";

fn parse(text: &str, want: &SymbolSelection<'_>) -> Kallsyms {
    Kallsyms::parse(text.as_bytes(), want).unwrap()
}

#[test]
fn only_what_is_wanted_is_kept() {
    let want = SymbolSelection {
        modules: &["mtty"],
        names: &["helper", "vfio_df_open"],
        addresses: &[0xffff_ffff_8200_0000],
    };
    let found = parse(TEXT, &want);
    assert_eq!((found.total(), found.len(), found.hidden()), (15, 10, false));
    let helpers = found.lookup("helper", None);
    assert_eq!(
        helpers.iter().map(|symbol| symbol.module.as_deref()).collect::<Vec<_>>(),
        [None, Some("other")]
    );
    assert_eq!(found.lookup("helper", Some("other")).len(), 1);
    assert_eq!(found.lookup("unwanted", None), []);
    assert_eq!(found.lookup("vfio_df_open", None)[0].kind, 't');
    assert_eq!(found.resolve(0xffff_ffff_c0a0_1234).unwrap().name, "mtty_save_read");
    assert_eq!(found.resolve(0xffff_ffff_c0a0_1235), None);
    assert_eq!(found.resolve(0xffff_ffff_8200_0000).unwrap().name, "vfio_data");
    assert_eq!(found.iter().count(), 10);
}

#[test]
fn variants_are_told_apart() {
    let found = parse(TEXT, &SymbolSelection { modules: &["mtty"], ..SymbolSelection::default() });
    let variants: Vec<_> =
        found.variants("step", Some("mtty")).into_iter().map(|(_, variant)| variant).collect();
    assert_eq!(variants, [SymbolVariant::Exact, SymbolVariant::Piece, SymbolVariant::OtherArguments]);
    assert_eq!(split_variant("f.llvm.123"), ("f", SymbolVariant::Renamed));
    assert_eq!(split_variant("__key.5"), ("__key", SymbolVariant::Other));
    assert_eq!(split_variant(".Lodd"), (".Lodd", SymbolVariant::Exact));
    let by_name = parse(TEXT, &SymbolSelection { names: &["step"], ..SymbolSelection::default() });
    assert_eq!(by_name.variants("step", None).len(), 3);
}

#[test]
fn hidden_addresses_are_told() {
    let text: Vec<_> = TEXT.lines().map(|line| ["0000000000000000", &line[16..], "\n"].concat()).collect();
    let text = text.concat();
    let found = parse(&text, &SymbolSelection { modules: &["mtty"], names: &["helper"], addresses: &[1] });
    assert!(found.hidden());
    assert_eq!(found.lookup("helper", None).len(), 2);
    assert_eq!(found.resolve(0), None);
    assert_eq!(found.resolve(1), None);
}

#[test]
fn pointers_are_named_in_one_pass() {
    let root = TestRoot::new();
    root.write("proc/kallsyms", TEXT);
    let found =
        Kallsyms::resolve_many(&root.files(), &[0xffff_ffff_c0b0_0100, 5, 0xffff_ffff_8100_0000]).unwrap();
    let names: Vec<_> =
        found.iter().map(|symbol| symbol.as_ref().map(|symbol| symbol.name.as_str())).collect();
    assert_eq!(names, [Some("unwanted"), None, Some("_stext")]);
}

#[test]
fn other_files_are_refused() {
    for text in ["hello\n", "ffff t\n", "xyz t name\n", &"a".repeat(70_000)] {
        let want = SymbolSelection { names: &["name"], ..SymbolSelection::default() };
        let result = Kallsyms::parse(text.as_bytes(), &want);
        assert!(matches!(result, Err(KallsymsError::Line { .. })), "{text:.20}");
    }
}

/// A reader that returns a few bytes at a time.
struct ShortReader<'a>(&'a [u8], usize);

impl Read for ShortReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.1.min(buffer.len()).min(self.0.len());
        self.0.read(&mut buffer[..len])
    }
}

proptest! {
    #[test]
    fn the_size_of_reads_does_not_matter(step in 1_usize..100) {
        let want = SymbolSelection { modules: &["mtty"], names: &["helper"], addresses: &[] };
        let slow = Kallsyms::parse(ShortReader(TEXT.as_bytes(), step), &want).unwrap();
        prop_assert_eq!(slow.iter().collect::<Vec<_>>(), parse(TEXT, &want).iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\n'), Just(b']')], 0..300)) {
        let want = SymbolSelection { modules: &["m"], names: &["a"], addresses: &[1] };
        if let Ok(found) = Kallsyms::parse(bytes.as_slice(), &want) {
            prop_assert!(found.len() <= found.total());
        }
    }
}

#[test]
fn this_machines_symbols_are_read() {
    let files = KernelFiles::default();
    let want = SymbolSelection { modules: &["vfio"], names: &["vfs_read", "vfio_df_open"], addresses: &[] };
    let started = Instant::now();
    match Kallsyms::read(&files, &want) {
        Ok(found) => {
            eprintln!("{} symbols in {:?}, hidden: {}", found.total(), started.elapsed(), found.hidden());
            assert!(!found.lookup("vfs_read", None).is_empty());
        },
        Err(error) => eprintln!("SKIPPED: {error}"),
    }
}
