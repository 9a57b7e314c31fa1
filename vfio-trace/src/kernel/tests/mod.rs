//! Tests of the facts as a whole, on a small made-up kernel and, when asked to, on real ones.

mod built_in;
mod fixture;
mod loading;
mod real;

use std::sync::Arc;

use vfio_trace_common::{layout::Field, role::Role};

use self::fixture::machine;
use super::{btf::build::BtfBuilder, *};

fn names(driver: &DriverFunctions, role: Role) -> Vec<&str> {
    driver.of(role).map(|candidate| candidate.name.as_str()).collect()
}

fn status(facts: &KernelFacts, role: Role) -> (&'static str, CoreStatus) {
    let function = facts.core.iter().find(|function| function.role == role).unwrap();
    (function.name, function.status.clone())
}

#[test]
fn a_driver_nobody_knows_is_found_by_its_types() {
    let root = machine();
    let facts = KernelFacts::read(&root.files());
    assert_eq!((facts.release.as_deref(), facts.vfio), (Some("6.12.0-test"), VfioCore::Module));
    assert_eq!(facts.users, ["odd", "plain"]);
    let [driver] = facts.drivers.as_slice() else { panic!("{:?}", facts.drivers) };
    assert_eq!(driver.module.as_deref(), Some("odd"));
    assert_eq!(names(driver, Role::SetState), ["odd_change"]);
    assert_eq!(names(driver, Role::DataSize), ["odd_size"]);
    assert_eq!(names(driver, Role::Read), ["odd_out"]);
    assert_eq!(names(driver, Role::Write), ["odd_in"]);
    assert_eq!(names(driver, Role::DataIoctl), ["odd_ioctl"]);
    assert_eq!(names(driver, Role::Release), ["odd_close", "odd_debugfs_open"]);
    assert_eq!(names(driver, Role::GetState), [""; 0]);
    assert!(driver.excluded[0].name == "odd_ask" && driver.excluded[0].why.contains("odd_ask.isra.0"));
    let write = driver.of(Role::Write).next().unwrap();
    assert_eq!((write.unique, write.copies, write.address), (false, 1, Some(0xffff_ffff_c0b9_d400)));
    assert!(driver.of(Role::Read).next().unwrap().unique);
    let without: Vec<_> = facts.without_btf().map(|(name, _)| name).collect();
    assert_eq!(without, ["plain"]);
}

#[test]
fn the_layout_is_complete_and_core_functions_are_checked() {
    let root = machine();
    let facts = KernelFacts::read(&root.files());
    assert_eq!(facts.missing, []);
    let expected = [
        (Field::DeviceMigOps, 16),
        (Field::DeviceMigrationFlags, 96),
        (Field::DeviceOpenCount, 892),
        (Field::DeviceFileDevice, 0),
        (Field::DevDriver, 104),
        (Field::FilePos, 64),
        (Field::FopRelease, 40),
    ];
    for (field, offset) in expected {
        assert_eq!(facts.layout.get(field), Some(offset), "{field:?}");
    }
    assert_eq!(status(&facts, Role::NextState), ("vfio_mig_get_next_state", CoreStatus::Ok));
    assert_eq!(status(&facts, Role::Open), ("vfio_df_open", CoreStatus::Ok));
    // vfio_df_close has no symbol: the release of the device's file stands in.
    assert_eq!(status(&facts, Role::Close), ("vfio_device_fops_release", CoreStatus::Ok));
    assert_eq!(status(&facts, Role::Unregister), ("vfio_unregister_group_dev", CoreStatus::Ok));
    // Both ways to register are wanted, not one of them.
    let registers: Vec<_> = facts.core.iter().filter(|function| function.role == Role::Register).collect();
    assert!(registers.len() == 2 && registers.iter().all(|function| function.status == CoreStatus::Ok));
    // The PCI core's two: this kernel's BTF has one of them, and its symbols none.
    assert_eq!(facts.core.len(), 9);
    let resets = facts.core.iter().filter(|function| function.role == Role::PciReset);
    assert!(
        resets.map(|function| &function.status).all(|status| matches!(status, CoreStatus::Absent { .. }))
    );
}

#[test]
fn a_drivers_state_and_files_are_found_in_its_own_structure() {
    let facts = KernelFacts::read(&machine().files());
    let private = facts.private["odd"].as_ref().unwrap();
    assert_eq!((private.container.as_str(), private.state.as_str()), ("odd_device", "now"));
    // odd_device.core.vdev is at 16 + 8.
    assert_eq!((private.layout.state_known, private.layout.state), (1, 1100 - 24));
    assert_eq!(private.files, ["out"]);
    assert_eq!((private.layout.files[0].pointer, private.layout.files[0].file), (-24, 8));
}

#[test]
fn two_states_in_one_driver_are_no_answer() {
    let root = machine();
    let mut b = BtfBuilder::new();
    let common = fixture::vmlinux(&mut b);
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    let mut odd = BtfBuilder::split(&base);
    fixture::driver(&mut odd, &common);
    let state = odd.enumeration("vfio_device_mig_state", &[("VFIO_DEVICE_STATE_ERROR", 0)]);
    let device = odd.structure("vfio_device", 960, &[]);
    odd.structure("odd_twin", 1100, &[("vdev", device, 0), ("a", state, 1000 * 8), ("b", state, 1004 * 8)]);
    root.write("sys/kernel/btf/odd", odd.finish());
    let facts = KernelFacts::read(&root.files());
    let why = facts.private["odd"].as_ref().unwrap_err().to_string();
    assert!(why.contains("odd_device.now") && why.contains("odd_twin.a"), "{why}");
}

#[test]
fn a_core_function_without_any_stand_in_says_what_was_tried() {
    let root = machine();
    root.write("proc/kallsyms", fixture::SYMBOLS.replace("vfio_df_open", "other"));
    let (_, CoreStatus::Absent { why }) = status(&KernelFacts::read(&root.files()), Role::Open) else {
        panic!()
    };
    assert!(why.starts_with("none of vfio_df_open, vfio_device_open can be probed"), "{why}");
}

#[test]
fn what_differs_is_not_trusted() {
    let root = machine();
    let mut b = BtfBuilder::new();
    let common = fixture::vmlinux(&mut b);
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    let mut core = BtfBuilder::split(&base);
    fixture::vfio(&mut core, &common, common.pointer, false);
    root.write("sys/kernel/btf/vfio", core.finish());
    let facts = KernelFacts::read(&root.files());
    let (_, CoreStatus::PrototypeDiffers { found }) = status(&facts, Role::NextState) else { panic!() };
    assert!(found.starts_with("int (struct vfio_device *, enum vfio_device_mig_state,"), "{found}");
    let [missing] = facts.missing.as_slice() else { panic!("{:?}", facts.missing) };
    assert_eq!(missing.field, Field::DeviceMigrationFlags);
    assert_eq!(
        missing.to_string(),
        "vfio_device.migration_flags: it is void * (8 bytes) here, not an integer of 4 bytes: \
         this kernel is newer than vfio-trace, which will not guess"
    );
}

#[test]
fn without_vfios_btf_the_drivers_tells_structs_but_private_data_is_not_guessed() {
    let root = machine();
    root.remove("sys/kernel/btf/vfio");
    let facts = KernelFacts::read(&root.files());
    assert_eq!(facts.layout.get(Field::DeviceMigOps), Some(16));
    let missing: Vec<_> = facts.missing.iter().map(|missing| missing.field).collect();
    assert_eq!(missing, [Field::DeviceFileDevice, Field::FilePrivateData]);
    assert_eq!(status(&facts, Role::NextState), ("vfio_mig_get_next_state", CoreStatus::Unverified));
    assert_eq!(facts.without_btf().count(), 2);
    assert_eq!(facts.drivers.len(), 1);
}

#[test]
fn nothing_at_all_is_a_fact_too() {
    let root = source::testing::TestRoot::new();
    let facts = KernelFacts::read(&root.files());
    assert!(facts.btf.is_err() && facts.modules.is_err() && facts.kallsyms.is_err());
    assert_eq!((facts.vfio, facts.layout.known, facts.drivers.len()), (VfioCore::NotLoaded, 0, 0));
    let (_, CoreStatus::Absent { why }) = status(&facts, Role::Open) else { panic!() };
    assert!(why.starts_with("vfio is not loaded"), "{why}");
    let text = facts.btf.unwrap_err().to_string();
    assert!(text.contains("sys/kernel/btf/vmlinux") && text.contains("CONFIG_DEBUG_INFO_BTF"), "{text}");
}

#[test]
fn refreshing_follows_modules_that_come_and_go() {
    let root = machine();
    let files = root.files();
    root.write("proc/modules", "unrelated 16384 0 - Live 0xffffffffc0b70000\n");
    let mut facts = KernelFacts::read(&files);
    assert_eq!((facts.vfio, facts.users.len(), facts.drivers.len()), (VfioCore::NotLoaded, 0, 0));
    assert!(facts.layout.get(Field::FilePos).is_some() && facts.layout.get(Field::FilePrivateData).is_none());

    root.write("proc/modules", fixture::MODULES);
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!((facts.vfio, facts.drivers.len(), facts.missing.len()), (VfioCore::Module, 1, 0));
    assert!(!facts.refresh(&files, facts.scan(&files)));

    root.write("proc/modules", fixture::MODULES.replace("unrelated 16384", "unrelated 20480"));
    assert!(!facts.refresh(&files, facts.scan(&files)), "a module that has nothing to do with vfio");
    root.write("proc/modules", fixture::MODULES.replace("0xffffffffc0b9d000", "0xffffffffc0c00000"));
    assert!(facts.refresh(&files, facts.scan(&files)), "a driver that was loaded again");
    root.write("proc/modules", "");
    assert!(facts.refresh(&files, facts.scan(&files)));
    assert_eq!(facts.drivers, []);
}

#[test]
fn a_module_that_goes_from_loading_to_live_is_the_same_load() {
    let root = machine();
    let files = root.files();
    root.write("sys/module/odd/initstate", "coming\n");
    let loading = fixture::MODULES.replace("odd 28672 2 - Live", "odd 32768 2 - Loading");
    root.write("proc/modules", &loading);
    let mut facts = KernelFacts::read(&files);
    let before = facts.load_of(&files, "odd").unwrap();
    // Its init function has run: it is smaller now.
    root.write("proc/modules", fixture::MODULES);
    assert!(!facts.refresh(&files, facts.scan(&files)));
    assert!(facts.load_of(&files, "odd").unwrap().is_same(&before));
}

#[test]
fn a_driver_that_comes_is_known_by_its_btf_before_its_symbols_are() {
    let root = machine();
    let files = root.files();
    let without = fixture::MODULES.split_once('\n').unwrap().1;
    root.write("proc/modules", without.replace("odd,", ""));
    let mut facts = KernelFacts::read(&files);
    assert_eq!((facts.drivers.len(), facts.vfio), (0, VfioCore::Module));
    assert!(!facts.add_modules(&files, facts.scan(&files)), "nothing has come");
    root.write("proc/modules", fixture::MODULES);
    // As slow as it likes.
    root.remove("proc/kallsyms");
    assert!(facts.add_modules(&files, facts.scan(&files)));
    let [driver] = facts.drivers.as_slice() else { panic!("{:?}", facts.drivers) };
    assert_eq!(names(driver, Role::SetState), ["odd_change"]);
    assert_eq!(names(driver, Role::Read), ["odd_out"]);
    assert!(driver.functions.iter().all(|function| !function.unique && function.address.is_none()));
    assert_eq!(facts.private["odd"].as_ref().unwrap().state, "now");
    root.write("proc/kallsyms", fixture::SYMBOLS);
    assert!(facts.refresh(&files, facts.scan(&files)), "the rest is still to be looked up");
    assert!(facts.drivers[0].of(Role::Read).next().unwrap().unique);
}
