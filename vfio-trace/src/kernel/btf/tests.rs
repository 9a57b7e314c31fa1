//! Tests of the BTF reader on built, damaged and real files.

use std::{fs, path::Path, sync::Arc, time::Instant};

use proptest::{collection::vec, prelude::*};

use super::{build::BtfBuilder, *};

const READ: FunctionPrototype = FunctionPrototype {
    text: "ssize_t (struct file *, char *, size_t, loff_t *)",
    returns: TypeShape::Signed(8),
    params: &[
        TypeShape::Ptr(&TypeShape::Struct("file")),
        TypeShape::Ptr(&TypeShape::Char),
        TypeShape::Unsigned(8),
        TypeShape::Ptr(&TypeShape::Signed(8)),
    ],
};
const WRITE: FunctionPrototype = FunctionPrototype {
    text: "ssize_t (struct file *, const char *, size_t, loff_t *)",
    returns: TypeShape::Signed(8),
    params: &[
        TypeShape::Ptr(&TypeShape::Struct("file")),
        TypeShape::ConstPtr(&TypeShape::Char),
        TypeShape::Unsigned(8),
        TypeShape::Ptr(&TypeShape::Signed(8)),
    ],
};

fn base() -> Arc<Btf> {
    let mut b = BtfBuilder::new();
    let long = b.int("long", 8, true);
    let kobject = b.structure("kobject", 16, &[("state", long, 0), ("name", long, 64)]);
    b.structure("device", 48, &[("pad", long, 0), ("kobj", kobject, 64)]);
    b.forward("vfio_device");
    Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap())
}

#[test]
fn a_module_goes_on_where_its_base_ends() {
    let base = base();
    let mut b = BtfBuilder::split(&base);
    let device = base.find_struct("device").unwrap();
    let pointer = b.ptr(device.0);
    b.structure("vfio_device", 16, &[("ops", pointer, 0), ("dev", pointer, 64)]);
    let module = Btf::parse("vfio", b.finish(), Some(Arc::clone(&base))).unwrap();

    let found = module.find_struct("vfio_device").unwrap();
    assert_eq!(module.member(found, &["dev"]).unwrap().offset, 8);
    assert_eq!(module.describe(module.member(found, &["dev"]).unwrap().type_id), "struct device *");
    assert_eq!(module.find_struct("device"), Some(device));
    assert_eq!(module.member(device, &["kobj", "name"]).unwrap().offset, 16);
    assert_eq!(base.find_struct("vfio_device"), None, "a forward declaration is no definition");
    assert!(matches!(Btf::parse("x", b.finish(), Some(Arc::new(module))), Err(BtfError::Damaged { .. })));
}

#[test]
fn a_module_of_another_kernel_gives_itself_away() {
    let base = base();
    let mut b = BtfBuilder::split(&base);
    let int = b.int("int", 4, true);
    let proto = b.proto(int, &[]);
    b.func("init", proto);
    let module = Btf::parse("m", b.finish(), Some(Arc::clone(&base))).unwrap();
    assert_eq!(module.check_base(), Ok(()));
    let mut other = BtfBuilder::new();
    other.int("long", 8, true);
    other.string("a name that the other kernel does not have, so that the offsets fit");
    other.structure("device", 48, &[]);
    let other = Arc::new(Btf::parse("vmlinux", other.finish(), None).unwrap());
    let module = Btf::parse("m", b.finish(), Some(other)).unwrap();
    let error = module.check_base().unwrap_err().to_string();
    assert!(error.contains("another vmlinux"), "{error}");
}

#[test]
fn members_are_found_through_anonymous_unions_and_bit_fields_are_refused() {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4, true);
    let inner = b.record(4, true, "", 8, &[("flag", int, 1 << 24), ("b", int, 32)]);
    let union = b.record(5, false, "", 8, &[("a", int, 0), ("", inner, 0)]);
    let outer = TypeId(b.structure("outer", 16, &[("x", int, 0), ("", union, 64)]));
    let old = b.raw("old", 1, false, 0, 4, &[3]);
    let legacy = TypeId(b.structure("legacy", 4, &[("bits", old, 0)]));
    let btf = Btf::parse("vmlinux", b.finish(), None).unwrap();

    assert_eq!(btf.member(outer, &["b"]).unwrap().offset, 12);
    assert_eq!(btf.member(outer, &["a"]).unwrap().offset, 8);
    assert!(matches!(btf.member(outer, &["flag"]), Err(MemberError::Bitfield { .. })));
    assert!(matches!(btf.member(legacy, &["bits"]), Err(MemberError::Bitfield { .. })));
    assert!(matches!(btf.member(outer, &["x", "y"]), Err(MemberError::NotAStruct { .. })));
    assert_eq!(
        btf.member(outer, &["nope"]).unwrap_err().to_string(),
        "struct outer has no member nope in this kernel"
    );
}

#[test]
fn functions_are_recognised_through_typedefs_and_tags() {
    let mut b = BtfBuilder::new();
    let long = b.int("long", 8, true);
    let ulong = b.int("unsigned long", 8, false);
    let char = b.int("char", 1, true);
    let ssize = b.typedef("__kernel_ssize_t", long);
    let ssize = b.typedef("ssize_t", ssize);
    let size = b.typedef("size_t", ulong);
    let loff = b.typedef("loff_t", long);
    let file = b.forward("file");
    let (file, position) = (b.ptr(file), b.ptr(loff));
    let user = b.type_tag("user", char);
    let buffer = b.ptr(user);
    let constant = b.constant(char);
    let source = b.type_tag("user", constant);
    let source = b.ptr(source);
    let read = TypeId(b.proto(ssize, &[file, buffer, size, position]));
    let write = TypeId(b.proto(ssize, &[file, source, size, position]));
    b.func("my_read", read.0);
    let btf = Btf::parse("vmlinux", b.finish(), None).unwrap();

    assert!(btf.is_function(read, &READ) && !btf.is_function(read, &WRITE));
    assert!(btf.is_function(write, &WRITE) && !btf.is_function(write, &READ));
    assert_eq!(btf.describe(read), "ssize_t (struct file *, char *, size_t, loff_t *)");
    assert_eq!(btf.describe(write), "ssize_t (struct file *, const char *, size_t, loff_t *)");
    let functions: Vec<_> = btf.functions().collect();
    assert_eq!(functions, [BtfFunction { name: "my_read", proto: read }]);
}

#[test]
fn what_is_not_usable_says_why() {
    let parse = |data: &[u8]| Btf::parse("vmlinux", data.to_vec(), None).unwrap_err();
    let mut b = BtfBuilder::new();
    b.raw("new", 30, false, 2, 0, &[1, 2, 3]);
    let file = b.finish();
    assert_eq!(parse(&file), BtfError::UnknownKind { name: "vmlinux".to_owned(), id: 1, kind: 30 });
    assert!(matches!(parse(&[]), BtfError::Damaged { .. }));
    assert!(matches!(parse(&file[..30]), BtfError::Damaged { .. }));
    let mut other = file.clone();
    other.swap(0, 1);
    assert!(matches!(parse(&other), BtfError::OtherEndian { .. }));
    other[0] = 0x7f;
    assert!(matches!(parse(&other), BtfError::NotBtf { .. }));
    let mut newer = file;
    newer[2] = 2;
    assert!(matches!(parse(&newer), BtfError::Version { version: 2, .. }));
}

#[test]
fn kinds_of_the_future_are_skipped_when_the_file_describes_them() {
    let mut b = BtfBuilder::new();
    b.raw("new", 30, false, 2, 0, &[1, 2, 3]);
    let int = b.int("int", 4, true);
    b.structure("s", 8, &[("x", int, 32)]);
    let mut kinds = [(0, 0); 31];
    kinds[30] = (4, 4);
    b.layout(&kinds);
    let btf = Btf::parse("vmlinux", b.finish(), None).unwrap();
    let found = btf.find_struct("s").unwrap();
    assert_eq!(btf.member(found, &["x"]).unwrap().offset, 4);
    assert_eq!(btf.get(TypeId(1)).unwrap().kind(), BtfKind::Other(30));
}

#[test]
fn endless_types_end() {
    let mut b = BtfBuilder::new();
    let itself = b.typedef("t", 1);
    let tree = b.next_id();
    let anonymous: Vec<_> = (0..50).map(|_| ("", tree, 0)).collect();
    let tree = TypeId(b.structure("tree", 8, &anonymous));
    let proto = b.next_id();
    let proto = b.proto(proto, &[proto; 50]);
    let btf = Btf::parse("vmlinux", b.finish(), None).unwrap();
    assert!(matches!(btf.resolve(TypeId(itself)), Err(BtfError::Damaged { .. })));
    btf.member(tree, &["x"]).unwrap_err();
    assert!(btf.describe(TypeId(proto)).len() < 1000);
    btf.size_of(TypeId(itself)).unwrap_err();
}

/// Calls every lookup on a file.
fn exercise(btf: &Btf) {
    for id in btf.own_ids().chain([TypeId(0), TypeId(u32::MAX)]) {
        let _size = btf.size_of(id);
        let _text = btf.describe(id);
        let _place = btf.member(id, &["a", "b"]);
        let _is = btf.is_function(id, &READ);
        if let Ok(found) = btf.get(id) {
            assert!(found.members().count() <= found.len() && found.params().count() <= found.len());
        }
    }
    let _found = btf.find_structs(&["a", "file", ""]);
    let _count = btf.functions().count();
}

fn sample() -> Vec<u8> {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4, true);
    let pointer = b.ptr(int);
    let nested = b.record(5, true, "", 8, &[("b", int, 0)]);
    let array = b.array(nested, 3);
    b.structure("a", 16, &[("a", nested, 0), ("", nested, 64), ("c", array, 0)]);
    b.enumeration("e", &[("x", 1)]);
    let proto = b.proto(pointer, &[int, pointer, 0]);
    b.func("f", proto);
    b.finish()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(mut data in vec(any::<u8>(), 0..200), with_header: bool) {
        if with_header {
            let header = sample();
            data.splice(0..0, header[..24].iter().copied());
        }
        if let Ok(btf) = Btf::parse("x", data.clone(), None) {
            exercise(&btf);
        }
        if let Ok(btf) = Btf::parse("x", data, Some(base())) {
            exercise(&btf);
        }
    }

    #[test]
    fn mutated_files_never_panic(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut: prop::sample::Index) {
        let mut data = sample();
        for (index, value) in changes {
            let at = index.index(data.len());
            data[at] = value;
        }
        if cut.index(4) == 0 {
            data.truncate(cut.index(data.len()));
        }
        if let Ok(btf) = Btf::parse("x", data, None) {
            exercise(&btf);
        }
    }
}

#[test]
fn this_machines_kernel_parses() {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    let Ok(data) = fs::read(path) else {
        eprintln!("SKIPPED: this machine has no {}", path.display());
        return;
    };
    let started = Instant::now();
    let btf = Btf::parse("vmlinux", data, None).unwrap();
    let parsed = started.elapsed();
    let found = btf.find_structs(&["device", "device_driver", "file", "file_operations"]);
    eprintln!("{} types: parse {parsed:?}, with find {:?}", btf.type_count(), started.elapsed());
    assert!(found.iter().all(|ids| !ids.is_empty()));
}
