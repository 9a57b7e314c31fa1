//! A kernel small enough to read: the structs and functions that matter, and a driver of unfamiliar name.

use std::sync::Arc;

use crate::kernel::{
    btf::{Btf, build::BtfBuilder},
    source::testing::TestRoot,
};

/// Types that all files need, by the id they got.
pub(super) struct CommonTypes {
    pub(super) int: u32,
    pub(super) uint: u32,
    pub(super) pointer: u32,
    device: u32,
    pub(super) file: u32,
    inode: u32,
    buffer: u32,
    source: u32,
    position: u32,
    long: u32,
    ulong: u32,
    ulong_pointer: u32,
}

pub(super) fn vmlinux(b: &mut BtfBuilder) -> CommonTypes {
    let (int, uint) = (b.int("int", 4, true), b.int("unsigned int", 4, false));
    let (long, ulong) = (b.int("long", 8, true), b.int("unsigned long", 8, false));
    let char = b.int("char", 1, true);
    let pointer = b.ptr(0);
    let kobject = b.structure("kobject", 64, &[("name", pointer, 0)]);
    let device = b.structure("device", 720, &[("kobj", kobject, 0), ("driver", pointer, 104 * 8)]);
    b.structure("device_driver", 144, &[("name", pointer, 0)]);
    let pci_dev = b.structure("pci_dev", 3000, &[("dev", device, 200 * 8)]);
    let pci_dev = b.ptr(pci_dev);
    let reset = b.proto(int, &[pci_dev]);
    b.func("pcie_flr", reset);
    let loff = b.typedef("loff_t", long);
    let file = b.structure(
        "file",
        184,
        &[
            ("f_op", pointer, 16 * 8),
            ("private_data", pointer, 32 * 8),
            ("f_inode", pointer, 40 * 8),
            ("f_pos", loff, 64 * 8),
        ],
    );
    let operations = ["read", "write", "unlocked_ioctl", "release"];
    let operations: Vec<_> = (2..).zip(operations).map(|(at, name)| (name, pointer, at * 64)).collect();
    b.structure("file_operations", 264, &operations);
    let inode = b.structure("inode", 600, &[("i_private", pointer, 560 * 8)]);
    b.structure("kernfs_node", 128, &[("priv", pointer, 96 * 8)]);
    let comm = b.array(char, 16);
    b.structure(
        "task_struct",
        9000,
        &[("pid", int, 2400 * 8), ("tgid", int, 2404 * 8), ("comm", comm, 3000 * 8)],
    );
    let constant = b.constant(char);
    CommonTypes {
        device,
        file: b.ptr(file),
        inode: b.ptr(inode),
        buffer: b.ptr(char),
        source: b.ptr(constant),
        position: b.ptr(loff),
        ulong_pointer: b.ptr(ulong),
        int,
        uint,
        pointer,
        long,
        ulong,
    }
}

/// Adds the types that vfio and its drivers share: vfio_device, the state enum, operations. Returns device, pointer to
/// it, enum.
pub(super) fn vfio_types(b: &mut BtfBuilder, c: &CommonTypes, flags_type: u32) -> (u32, u32, u32) {
    let p = c.pointer;
    let device = b.structure(
        "vfio_device",
        960,
        &[
            ("dev", p, 0),
            ("ops", p, 8 * 8),
            ("mig_ops", p, 16 * 8),
            ("log_ops", p, 24 * 8),
            ("migration_flags", flags_type, 96 * 8),
            ("device", c.device, 120 * 8),
            ("open_count", c.uint, 892 * 8),
        ],
    );
    b.structure("vfio_device_ops", 144, &[("open_device", p, 3 * 64)]);
    b.structure(
        "vfio_migration_ops",
        24,
        &[("migration_set_state", p, 0), ("migration_get_state", p, 64), ("migration_get_data_size", p, 128)],
    );
    b.structure(
        "vfio_log_ops",
        24,
        &[("log_start", p, 0), ("log_stop", p, 64), ("log_read_and_clear", p, 128)],
    );
    (device, b.ptr(device), b.enumeration("vfio_device_mig_state", &[("VFIO_DEVICE_STATE_ERROR", 0)]))
}

/// Makes the BTF of vfio itself. `next_state` lets a test change the type of a core function.
pub(super) fn vfio(b: &mut BtfBuilder, c: &CommonTypes, flags_type: u32, trusted: bool) {
    let (_, device, state) = vfio_types(b, c, flags_type);
    let next = b.ptr(state);
    let mut params = vec![device, state, state, next];
    if !trusted {
        params.push(c.int);
    }
    let proto = b.proto(c.int, &params);
    b.func("vfio_mig_get_next_state", proto);
    let proto = b.proto(c.long, &[c.file, c.uint, c.ulong]);
    b.func("vfio_device_fops_unl_ioctl", proto);
    let device_file = b.structure("vfio_device_file", 48, &[("device", device, 0)]);
    let device_file = b.ptr(device_file);
    let proto = b.proto(c.int, &[device_file]);
    b.func("vfio_df_open", proto);
    let proto = b.proto(0, &[device_file]);
    b.func("vfio_df_close", proto);
    let proto = b.proto(c.int, &[device]);
    b.func("vfio_register_group_dev", proto);
    b.func("vfio_register_emulated_iommu_dev", proto);
    let proto = b.proto(0, &[device]);
    b.func("vfio_unregister_group_dev", proto);
    let proto = b.proto(c.int, &[c.inode, c.file]);
    b.func("vfio_device_fops_release", proto);
}

/// Makes the BTF of a driver with its own names; `get_state` has no symbol, and two functions have the type of release.
pub(super) fn driver(b: &mut BtfBuilder, c: &CommonTypes) {
    let (embedded, device, state) = vfio_types(b, c, c.uint);
    let states = b.ptr(state);
    // The device is two levels deep and not at the start; the state is behind it, the data files are before it.
    let crate_file = b.structure("odd_crate", 64, &[("lock", c.ulong, 0), ("papers", c.file, 8 * 8)]);
    let crate_file = b.ptr(crate_file);
    let inner = b.structure("odd_inner", 1000, &[("counter", c.ulong, 0), ("vdev", embedded, 8 * 8)]);
    b.structure(
        "odd_device",
        1200,
        &[
            ("out", crate_file, 0),
            ("other", c.pointer, 8 * 8),
            ("core", inner, 16 * 8),
            ("now", state, 1100 * 8),
        ],
    );
    for (name, returns, params) in [
        ("odd_change", c.file, vec![device, state]),
        ("odd_ask", c.int, vec![device, states]),
        ("odd_size", c.int, vec![device, c.ulong_pointer]),
        ("odd_out", c.long, vec![c.file, c.buffer, c.ulong, c.position]),
        ("odd_in", c.long, vec![c.file, c.source, c.ulong, c.position]),
        ("odd_ioctl", c.long, vec![c.file, c.uint, c.ulong]),
        ("odd_close", c.int, vec![c.inode, c.file]),
        ("odd_debugfs_open", c.int, vec![c.inode, c.file]),
        ("odd_other", c.int, vec![c.int]),
    ] {
        let proto = b.proto(returns, &params);
        b.func(name, proto);
    }
}

pub(super) const MODULES: &str = "\
odd 28672 2 - Live 0xffffffffc0b9d000 (OE)
plain 16384 0 - Live 0xffffffffc0b80000
unrelated 16384 0 - Live 0xffffffffc0b70000
vfio 69632 9 odd,plain, Live 0xffffffffc0b30000
";

pub(super) const SYMBOLS: &str = "\
ffffffff81000000 T _text
ffffffff81000100 t odd_in
ffffffffc0b30000 T vfio_mig_get_next_state\t[vfio]
ffffffffc0b30100 t vfio_device_fops_unl_ioctl\t[vfio]
ffffffffc0b30200 t vfio_df_open\t[vfio]
ffffffffc0b30300 t vfio_device_fops_release\t[vfio]
ffffffffc0b30400 T vfio_register_group_dev\t[vfio]
ffffffffc0b30500 T vfio_register_emulated_iommu_dev\t[vfio]
ffffffffc0b30600 T vfio_unregister_group_dev\t[vfio]
ffffffffc0b9d000 t odd_change\t[odd]
ffffffffc0b9d100 t odd_ask.isra.0\t[odd]
ffffffffc0b9d200 t odd_size\t[odd]
ffffffffc0b9d300 t odd_out\t[odd]
ffffffffc0b9d400 t odd_in\t[odd]
ffffffffc0b9d500 t odd_ioctl\t[odd]
ffffffffc0b9d600 t odd_close\t[odd]
ffffffffc0b9d700 t odd_debugfs_open\t[odd]
";

/// Makes a machine with vfio as a module, a migration driver `odd`, and `plain`, which has no BTF.
pub(super) fn machine() -> TestRoot {
    let root = TestRoot::new();
    let mut b = BtfBuilder::new();
    let common = vmlinux(&mut b);
    let base = Arc::new(Btf::parse("vmlinux", b.finish(), None).unwrap());
    let mut core = BtfBuilder::split(&base);
    vfio(&mut core, &common, common.uint, true);
    let mut odd = BtfBuilder::split(&base);
    driver(&mut odd, &common);
    root.write("sys/kernel/btf/vmlinux", b.finish())
        .write("sys/kernel/btf/vfio", core.finish())
        .write("sys/kernel/btf/odd", odd.finish())
        .write("proc/modules", MODULES)
        .write("proc/kallsyms", SYMBOLS)
        .write("proc/sys/kernel/osrelease", "6.12.0-test\n");
    root
}
