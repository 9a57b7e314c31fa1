//! A vfio that is built into the kernel, and drivers that are.

use std::{fmt::Write as _, fs, sync::Arc};

use vfio_trace_common::{capture::step_device, role::Role};

use super::{fixture, names, status};
use crate::kernel::{btf::build::BtfBuilder, source::testing::TestRoot, *};

#[test]
fn a_built_in_vfio_has_drivers_among_all_modules_and_in_the_kernel() {
    let root = TestRoot::new();
    let mut b = BtfBuilder::new();
    let common = fixture::vmlinux(&mut b);
    fixture::vfio(&mut b, &common, common.uint, true);
    fixture::driver(&mut b, &common);
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    let mut odd = BtfBuilder::split(&base);
    fixture::driver(&mut odd, &common);
    let mut other = BtfBuilder::split(&base);
    other.forward("nothing");
    let symbols = [&fixture::SYMBOLS.replace("\t[vfio]", ""), "ffffffff81000200 t odd_change\n"].concat();
    root.write("sys/kernel/btf/vmlinux", b.finish())
        .write("sys/kernel/btf/odd", odd.finish())
        .write("sys/kernel/btf/unrelated", other.finish())
        .write("proc/modules", "odd 1 0 - Live 0x0\nunrelated 1 0 - Live 0x0\n")
        .write("proc/kallsyms", symbols);
    let mut facts = KernelFacts::read(&root.files());
    assert_eq!((facts.vfio, facts.users.as_slice()), (VfioCore::BuiltIn, ["odd".to_owned()].as_slice()));
    let [kernel, odd] = facts.drivers.as_slice() else { panic!("{:?}", facts.drivers) };
    assert_eq!((kernel.module.as_deref(), names(kernel, Role::SetState)), (None, vec!["odd_change"]));
    assert_eq!(names(kernel, Role::Write), [""; 0], "too many functions of the kernel have this type");
    assert_eq!(names(odd, Role::Write), ["odd_in"]);
    assert_eq!(status(&facts, Role::NextState), ("vfio_mig_get_next_state", CoreStatus::Ok));
    assert_eq!(facts.missing, []);
    // Each has its own place: the module in its own BTF, the other in the kernel's.
    for driver in [kernel, odd] {
        let private = facts.private_of(driver, "odd_change").unwrap().as_ref().unwrap();
        assert_eq!(
            (private.state.as_str(), private.layout.state, private.files[0].as_str()),
            ("now", 1076, "out")
        );
    }
    assert!(!facts.refresh(&root.files(), facts.scan(&root.files())));
}

/// A driver that a plug-in knows.
static KNOWN: WantedDriver = WantedDriver {
    module: "known_vfio_pci",
    set_state: "known_change",
    libraries: &["known_library"],
    device: "known_device",
    captures: &[WantedCapture {
        name: "file",
        path: &["saving"],
        structure: "known_file",
        members: WantedMembers::All(&["known_data"]),
        file: Some("filp"),
        when: 0,
        values: &[("phase", "KNOWN_READ"), ("phase", "KNOWN_GONE"), ("none", "KNOWN_READ")],
        secret: &[],
    }],
    steps: &[WantedStep {
        name: "known_step",
        module: "known_library",
        params: &[],
        device: StepDevice::Device(0),
        captures: 0,
    }],
};
static WANTED: [&WantedDriver; 1] = [&KNOWN];

/// Makes the BTF of the library that it takes a step from.
fn library(base: &Arc<Btf>, common: &fixture::CommonTypes) -> Vec<u8> {
    let mut library = BtfBuilder::split(base);
    let proto = library.proto(common.int, &[common.int]);
    library.func("known_step", proto);
    library.finish()
}

/// Makes a kernel with vfio, `odd` and more drivers with the given names built in.
fn kernel(drivers: &[&str]) -> TestRoot {
    let root = TestRoot::new();
    let mut b = BtfBuilder::new();
    let common = fixture::vmlinux(&mut b);
    fixture::vfio(&mut b, &common, common.uint, true);
    fixture::driver(&mut b, &common);
    let mut symbols = fixture::SYMBOLS.replace("\t[vfio]", "").replace("\t[odd]", "");
    for (number, name) in drivers.iter().enumerate() {
        let lock = b.structure("mutex", 32, &[("owner", common.uint, 0)]);
        let data = b.structure("known_data", 8, &[("number", common.uint, 0), ("lock", lock, 32)]);
        let (embedded, device, state) = fixture::vfio_types(&mut b, &common, common.uint);
        let phase = b.enumeration("known_phase", &[("KNOWN_WAIT", 0), ("KNOWN_READ", 7)]);
        let file = b.structure(
            &format!("{name}_file"),
            64,
            &[
                ("filp", common.file, 0),
                ("lock", lock, 64),
                ("data", data, 128),
                ("done", common.uint, 256),
                ("phase", phase, 288),
            ],
        );
        let file = b.ptr(file);
        let own = b.structure(
            &format!("{name}_device"),
            1200,
            &[("vdev", embedded, 0), ("mig_state", state, 8000 + 32 * number as u32), ("saving", file, 9000)],
        );
        let own = b.ptr(own);
        let proto = b.proto(common.file, &[device, state]);
        b.func(&format!("{name}_change"), proto);
        let proto = b.proto(common.int, &[own]);
        b.func(&format!("{name}_step"), proto);
        writeln!(symbols, "ffffffff8200{number}000 t {name}_change").unwrap();
        writeln!(symbols, "ffffffff8200{number}100 t {name}_step").unwrap();
    }
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    root.write("sys/kernel/btf/vmlinux", b.finish())
        // Of a module that is not loaded.
        .write("sys/kernel/btf/known_library", library(&base, &common))
        .write("proc/modules", "")
        .write("proc/kallsyms", symbols);
    root
}

#[test]
fn a_driver_in_the_kernel_has_its_state_and_its_plug_in() {
    let mut facts = KernelFacts::read_for(&kernel(&["known"]).files(), &WANTED);
    assert_eq!(facts.vfio, VfioCore::BuiltIn);
    let [driver] = facts.drivers.as_slice() else { panic!("{:?}", facts.drivers) };
    assert_eq!(names(driver, Role::SetState), ["odd_change", "known_change"]);
    let state = |name| facts.private_of(driver, name).unwrap().as_ref().unwrap().layout.state;
    assert_eq!(
        (state("odd_change"), state("known_change")),
        (1076, 1000),
        "each its own, and not the other's"
    );
    let plugin = facts.plugin_of(driver, "known_change").unwrap();
    assert!(facts.plugin_of(driver, "odd_change").is_none());
    let fields = &plugin.captures[0].as_ref().unwrap().fields;
    let paths: Vec<_> = fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["data.number", "done", "phase"], "of the driver's own structures, not of its locks");
    let values: Vec<_> = fields.iter().flat_map(|field| &field.values).collect();
    assert_eq!(values, [&("KNOWN_READ".to_owned(), 7)], "what is not there is left out");
    let step = plugin.steps[0].as_ref().unwrap();
    assert_eq!((step.module.as_deref(), step.address), (None, Some(0xffff_ffff_8200_0100)));
    assert_eq!(step.spec.device, step_device::BY_ARGUMENT);
    assert_eq!(facts.private_named("known_vfio_pci").unwrap().as_ref().unwrap().container, "known_device");
    // Nothing tells which driver this belongs to.
    assert!(facts.private_named("odd").is_none());
    facts.built_in.remove("known_change");
    assert!(facts.private_named("odd").is_some());
}

#[test]
fn of_several_drivers_in_the_kernel_that_nobody_knows_none_is_guessed() {
    let facts = KernelFacts::read_for(&kernel(&["known", "third"]).files(), &WANTED);
    let driver = &facts.drivers[0];
    let why = |name| facts.private_of(driver, name).unwrap().as_ref().unwrap_err().to_string();
    for name in ["odd_change", "third_change"] {
        let why = why(name);
        assert!(why.contains("odd_device.now, third_device.mig_state") && !why.contains("known"), "{why}");
    }
    assert!(facts.private_of(driver, "known_change").unwrap().is_ok());
}

/// Makes a kernel with vfio built in; `known_vfio_pci` and the library that it takes a step from are modules.
fn driver_and_library_are_modules() -> TestRoot {
    let root = TestRoot::new();
    let mut b = BtfBuilder::new();
    let common = fixture::vmlinux(&mut b);
    fixture::vfio(&mut b, &common, common.uint, true);
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    let mut own = BtfBuilder::split(&base);
    let (embedded, device, state) = fixture::vfio_types(&mut own, &common, common.uint);
    let known = own.structure("known_device", 1200, &[("vdev", embedded, 0), ("mig_state", state, 8000)]);
    own.ptr(known);
    let proto = own.proto(common.file, &[device, state]);
    own.func("known_change", proto);
    let mut symbols = fixture::SYMBOLS.replace("\t[vfio]", "").replace("\t[odd]", "");
    symbols.push_str("ffffffffc2000000 t known_change\t[known_vfio_pci]\n");
    symbols.push_str("ffffffffc3000000 T known_step\t[known_library]\n");
    root.write("sys/kernel/btf/vmlinux", b.finish())
        .write("sys/kernel/btf/known_vfio_pci", own.finish())
        .write("sys/kernel/btf/known_library", library(&base, &common))
        .write("proc/modules", BOTH)
        .write("proc/kallsyms", symbols);
    root
}

const LIBRARY: &str = "known_library 1 0 - Live 0xffffffffc3000000\n";
const BOTH: &str = "known_library 1 1 known_vfio_pci, Live 0xffffffffc3000000\n\
                    known_vfio_pci 1 0 - Live 0xffffffffc2000000\n";

/// Returns module and address of the one step.
fn step(facts: &KernelFacts) -> Result<(Option<&str>, Option<u64>), String> {
    let step = facts.plugins[0].steps[0].as_ref().map_err(ToString::to_string)?;
    Ok((step.module.as_deref(), step.address))
}

#[test]
fn a_library_that_is_a_module_is_known_where_vfio_is_built_in() {
    let root = driver_and_library_are_modules();
    let files = root.files();
    let mut facts = KernelFacts::read_for(&files, &WANTED);
    assert_eq!(
        (facts.vfio, facts.users.as_slice()),
        (VfioCore::BuiltIn, ["known_vfio_pci".to_owned()].as_slice())
    );
    let found = Ok((Some("known_library"), Some(0xffff_ffff_c300_0000)));
    assert_eq!(step(&facts), found);
    // When another module is loaded, all are looked at again.
    root.write("proc/modules", format!("{BOTH}unrelated 1 0 - Live 0xffffffffc4000000\n"));
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!(step(&facts), found);
}

#[test]
fn a_library_that_was_there_before_its_driver_is_known_as_soon_as_that_comes() {
    let root = driver_and_library_are_modules();
    let files = root.files();
    root.write("proc/modules", LIBRARY);
    let mut facts = KernelFacts::read_for(&files, &WANTED);
    assert_eq!(facts.plugins.len(), 0);
    root.write("proc/modules", BOTH);
    assert!(facts.add_modules(&files, facts.scan(&files)) && facts.add_plugins());
    assert_eq!(step(&facts), Ok((Some("known_library"), None)));
}

#[test]
fn a_step_of_a_module_is_not_looked_for_in_the_kernel() {
    let root = driver_and_library_are_modules();
    root.remove("sys/kernel/btf/known_library");
    let why = "module known_library is not loaded, or has no BTF".to_owned();
    assert_eq!(step(&KernelFacts::read_for(&root.files(), &WANTED)), Err(why));
}

#[test]
fn a_driver_in_the_kernel_has_steps_in_a_module_once_that_comes() {
    let root = kernel(&["known"]);
    let symbols = fs::read_to_string(root.path().join("proc/kallsyms")).unwrap();
    let symbols = symbols.lines().filter(|line| !line.contains("known_step")).collect::<Vec<_>>().join("\n");
    root.write("proc/kallsyms", &symbols);
    let files = root.files();
    let mut facts = KernelFacts::read_for(&files, &WANTED);
    assert_eq!(step(&facts), Err("module known_library is not loaded, or has no BTF".to_owned()));
    root.write("proc/modules", LIBRARY);
    root.write("proc/kallsyms", format!("{symbols}\nffffffffc3000000 T known_step\t[known_library]\n"));
    assert!(facts.add_modules(&files, facts.scan(&files)) && facts.add_plugins());
    assert_eq!(step(&facts), Ok((Some("known_library"), None)));
    assert!(facts.plugins[0].captures[0].is_ok(), "of the driver in the kernel");
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!(step(&facts), Ok((Some("known_library"), Some(0xffff_ffff_c300_0000))));
}
