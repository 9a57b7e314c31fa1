//! Facts of real kernels, printed for comparison with pahole and nm. Nothing of a real kernel is kept in this tree.
//!
//! `VFIO_TRACE_TEST_BTF_DIR=DIR cargo test -p vfio-trace --release real_kernel -- --ignored --nocapture`, where DIR has
//! raw BTF: `vmlinux`, `vfio` and modules that use it. `VFIO_TRACE_TEST_KALLSYMS` may name their symbols.

use std::{env, fs, time::Instant};

use vfio_trace_common::layout::Field;

use crate::kernel::{KernelFacts, btf::Btf, source::testing::TestRoot};

#[test]
#[ignore = "needs BTF of a real kernel, see the top of this file"]
fn real_kernel() {
    let dir =
        env::var("VFIO_TRACE_TEST_BTF_DIR").expect("VFIO_TRACE_TEST_BTF_DIR names a directory of raw BTF");
    let root = TestRoot::new();
    let mut users = String::new();
    let mut lines = String::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !["vmlinux", "vfio"].contains(&name.as_str()) {
            users.push_str(&name);
            users.push(',');
            lines.push_str(&name);
            lines.push_str(" 1 0 - Live 0x0\n");
        }
    }
    root.write("proc/modules", [lines.as_str(), "vfio 1 1 ", &users, " Live 0x0\n"].concat());
    if let Ok(symbols) = env::var("VFIO_TRACE_TEST_KALLSYMS") {
        root.write("proc/kallsyms", fs::read(symbols).unwrap());
    }
    let files = root.files().with_btf_dir(&dir);
    let data = files.btf("vmlinux").unwrap();
    let started = Instant::now();
    let types = Btf::parse("vmlinux", data, None).unwrap().type_count();
    eprintln!("vmlinux: {types} types in {:?}", started.elapsed());
    let started = Instant::now();
    let mut facts = KernelFacts::read(&files);
    eprintln!("everything: {:?}", started.elapsed());
    let started = Instant::now();
    root.write("proc/modules", [lines.as_str(), "vfio 2 1 ", &users, " Live 0x0\n"].concat());
    assert!(facts.refresh(&files, facts.scan(&files)));
    eprintln!("refresh: {:?}", started.elapsed());

    eprintln!("vfio: {:?}, users: {:?}", facts.vfio, facts.users);
    for (field, name, path) in Field::ALL {
        eprintln!("{name}.{}: {:?}", path.join("."), facts.layout.get(field));
    }
    for missing in &facts.missing {
        eprintln!("missing {missing}");
    }
    match &facts.kallsyms {
        Ok(found) => eprintln!("kallsyms: {} of {} kept", found.len(), found.total()),
        Err(error) => eprintln!("kallsyms: {error}"),
    }
    for core in &facts.core {
        eprintln!("core {:?} {} {:?}: {}", core.role, core.name, core.device_arg, core.status);
    }
    for driver in &facts.drivers {
        eprintln!("driver {:?}", driver.module);
        for found in &driver.functions {
            eprintln!(
                "  {} {} unique {} at {:x?}",
                found.role.name(),
                found.name,
                found.unique,
                found.address
            );
        }
        for not in &driver.excluded {
            eprintln!("  NOT {} {}: {}", not.role.name(), not.name, not.why);
        }
    }
    assert!(facts.layout.get(Field::DeviceMigOps).is_some());
}
