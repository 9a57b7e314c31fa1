//! Tests of the facts at awkward moments: a module that is just being loaded, a file that cannot be read this once.

use std::fs;

use super::{fixture::MODULES, *};

/// Makes `odd` with its init function still to run.
fn loading() -> String {
    MODULES.replace("odd 28672 2 - Live", "odd 32768 2 - Loading")
}

#[test]
fn a_driver_that_was_seen_before_it_had_btf_is_found_once_it_has() {
    let root = machine();
    let files = root.files();
    let btf = fs::read(root.path().join("sys/kernel/btf/odd")).unwrap();
    root.remove("sys/kernel/btf/odd").write("proc/modules", loading());
    let mut facts = KernelFacts::read(&files);
    assert_eq!(facts.drivers.len(), 0);
    assert!(
        !facts.refresh(&files, facts.scan(&files)),
        "nothing is new yet, and a look costs a pass over all symbols"
    );
    // By the kernel's notice at once; by the next look, should there be none.
    root.write("sys/kernel/btf/odd", &btf);
    assert!(facts.add_modules(&files, facts.scan(&files)));
    assert_eq!(facts.drivers.len(), 1);
    root.write("proc/modules", MODULES);
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!((facts.drivers.len(), facts.refresh(&files, facts.scan(&files))), (1, false));

    root.remove("sys/kernel/btf/odd").write("proc/modules", loading());
    let mut facts = KernelFacts::read(&files);
    root.write("sys/kernel/btf/odd", &btf);
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!((facts.drivers.len(), facts.refresh(&files, facts.scan(&files))), (1, false));
}

#[test]
fn a_driver_that_came_before_it_had_btf_is_taken_in_once_it_has() {
    let root = machine();
    let files = root.files();
    let btf = fs::read(root.path().join("sys/kernel/btf/odd")).unwrap();
    let without: String =
        MODULES.lines().filter(|line| !line.starts_with("odd ")).flat_map(|line| [line, "\n"]).collect();
    root.remove("sys/kernel/btf/odd").write("proc/modules", without);
    let mut facts = KernelFacts::read(&files);
    root.write("proc/modules", loading());
    facts.add_modules(&files, facts.scan(&files));
    assert!(!facts.add_modules(&files, facts.scan(&files)), "there is still none");
    root.write("sys/kernel/btf/odd", &btf);
    assert!(facts.add_modules(&files, facts.scan(&files)));
    assert_eq!(facts.drivers.len(), 1);
    assert!(!facts.add_modules(&files, facts.scan(&files)), "it is known now");
    root.write("proc/modules", MODULES);
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!((facts.drivers.len(), facts.refresh(&files, facts.scan(&files))), (1, false));
}

#[test]
fn a_module_that_never_gets_btf_costs_one_more_look() {
    let root = machine();
    let files = root.files();
    root.remove("sys/kernel/btf/odd").write("proc/modules", loading());
    let mut facts = KernelFacts::read(&files);
    root.write("proc/modules", MODULES);
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert!(!facts.refresh(&files, facts.scan(&files)) && !facts.add_modules(&files, facts.scan(&files)));
}

#[test]
fn a_load_that_sysfs_did_not_have_at_first_is_told_from_the_next_at_its_address() {
    let root = machine();
    let files = root.files();
    let mut facts = KernelFacts::read(&files);
    root.write("sys/module/odd/initstate", "live\n");
    assert!(!facts.refresh(&files, facts.scan(&files)), "it is the same load, which sysfs has by now");
    // The next one's folder must have another number.
    fs::rename(root.path().join("sys/module/odd"), root.path().join("sys/module/old")).unwrap();
    root.write("sys/module/odd/initstate", "live\n");
    assert!(facts.refresh(&files, facts.scan(&files)));
}

#[test]
fn what_cannot_be_read_this_once_changes_nothing() {
    let root = machine();
    let files = root.files();
    let mut facts = KernelFacts::read(&files);
    let load = facts.load_of(&files, "odd").unwrap();
    root.remove("proc/modules");
    assert!(!facts.refresh(&files, facts.scan(&files)));
    assert!(facts.load_of(&files, "odd").is_some_and(|now| now.is_same(&load)));
    assert_eq!((facts.vfio, facts.drivers.len()), (VfioCore::Module, 1));
    // Another module comes, and the driver's BTF cannot be read meanwhile.
    root.write("proc/modules", MODULES.replace("0xffffffffc0b80000", "0xffffffffc0c80000"));
    root.remove("sys/kernel/btf/odd").remove("sys/kernel/btf/vfio");
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!((facts.drivers.len(), facts.missing.len()), (1, 0));
    assert_eq!(status(&facts, Role::NextState), ("vfio_mig_get_next_state", CoreStatus::Ok));
    root.write("proc/modules", MODULES.replace("0xffffffffc0b9d000", "0xffffffffc0c00000"));
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!(facts.drivers.len(), 0, "another load may be of another build");
}

#[test]
fn with_vfio_built_in_a_driver_whose_btf_could_not_be_read_is_looked_at_again() {
    let root = source::testing::TestRoot::new();
    let mut b = BtfBuilder::new();
    let common = fixture::vmlinux(&mut b);
    fixture::vfio(&mut b, &common, common.uint, true);
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    let mut odd = BtfBuilder::split(&base);
    fixture::driver(&mut odd, &common);
    root.write("sys/kernel/btf/vmlinux", b.finish())
        .write("proc/modules", "odd 1 0 - Live 0x0\n")
        .write("proc/kallsyms", fixture::SYMBOLS.replace("\t[vfio]", ""));
    let files = root.files();
    let mut facts = KernelFacts::read(&files);
    assert_eq!((facts.vfio, facts.users.len()), (VfioCore::BuiltIn, 0));
    root.write("sys/kernel/btf/odd", odd.finish());
    root.write("proc/modules", "odd 1 0 - Live 0x0\nother 1 0 - Live 0x0\n");
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!(facts.users, ["odd"]);
}
