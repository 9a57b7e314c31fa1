//! Facts that the checks are made from: gathered once, before any check.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{attempt::ProbeAttempt, inventory::InventoryAttempt, variants::variant_for};
use crate::{
    event::MigFlags,
    kernel::{KernelFacts, KernelFiles, KernelVersion, KprobeSupport, VfioDevice},
    source::snapshot::DeviceFacts,
};

/// All that `doctor` knows of this host. [`DoctorFacts::gather`] reads it once; nothing is read afterwards, so that
/// tests can make up hosts.
#[derive(Debug)]
pub struct DoctorFacts {
    /// Features and permissions of the kernel, as `tail` reads them, too.
    pub kernel: KernelFacts,
    /// Release and version of the running kernel, for known defects.
    pub version: KernelVersion,
    /// Machine, as `uname -m`.
    pub machine: String,
    /// Path of this program, for advice that names it.
    pub program: PathBuf,
    /// True outside of nested user namespaces, in which capabilities do not count; `None` if it is not known.
    pub first_user_namespace: Option<bool>,
    /// True if the kernel shows a lockdown mode.
    pub shows_lockdown: bool,
    /// True if the kernel has bpf(2); `None` if it is not known.
    pub has_bpf: Option<bool>,
    /// Support for kprobes, as sysfs shows it.
    pub kprobe_support: KprobeSupport,
    /// True if kprobes are switched off: then all can be attached and none ever fires.
    pub kprobes_off: bool,
    /// Functions on the kernel's kprobe blacklist, as far as it is readable.
    pub kprobe_blacklist: BTreeSet<String>,
    /// True if /proc is mounted: if not, a file that is not there tells nothing of the kernel.
    pub proc_readable: bool,
    /// True if /proc/kallsyms can be read.
    pub symbols_readable: bool,
    /// True if sysfs can be read: an empty list of devices then means that the host has none.
    pub sysfs_readable: bool,
    /// BTF given with `--btf`, not the kernel's own: the key is `vmlinux` or a module, the value is the file.
    pub btf_files: BTreeMap<String, PathBuf>,
    /// Result of loading and attaching the programs of `tail`.
    pub attempt: ProbeAttempt,
    /// Result of taking the inventory.
    pub inventory: InventoryAttempt,
    /// All VFIO devices.
    pub devices: Vec<DeviceFindings>,
}

/// A VFIO device, and the facts known about it.
#[derive(Clone, Debug)]
pub struct DeviceFindings {
    /// The device as sysfs shows it.
    pub device: VfioDevice,
    /// Facts from the kernel's memory.
    pub memory: MemoryFacts,
    /// True if the running kernel was built with Linux' driver with migration for this device; `None` if there is no
    /// such driver, if the device is bound to another driver than vfio-pci, or if it is not known.
    pub variant_installed: Option<bool>,
}

/// Facts from the kernel's memory about a device, read by the inventory; `None` where that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    /// True if the device has `mig_ops`.
    pub migration: Option<bool>,
    /// True if the device has `log_ops`.
    pub dirty_tracking: Option<bool>,
    /// The device's `migration_flags`.
    pub flags: Option<MigFlags>,
    /// Processes that have the device open.
    pub holders: Vec<u32>,
}

impl DoctorFacts {
    /// Reads all facts; loads and attaches the programs of `tail` for a moment where that may work. Calls `give_up` when
    /// no more capabilities are needed: the rest is read without them.
    ///
    /// # Errors
    ///
    /// Those of `give_up`.
    pub fn gather<E>(files: &KernelFiles, give_up: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        let kernel = KernelFacts::read_for(files, &crate::driver::WANTED);
        let attempt = ProbeAttempt::make(files, &kernel);
        let inventory = InventoryAttempt::make(files, &kernel, &attempt);
        give_up()?;
        Ok(Self::read(files, kernel, attempt, inventory))
    }

    /// Reads the facts that are in files; takes the results of attempts that were made already.
    pub(super) fn read(
        files: &KernelFiles,
        kernel: KernelFacts,
        attempt: ProbeAttempt,
        inventory: InventoryAttempt,
    ) -> Self {
        let proc_readable = files.exists("/proc/self/status");
        // The list of modules is long, and thousands of devices may ask for the same driver.
        let mut asked: BTreeMap<&str, Option<bool>> = BTreeMap::new();
        let devices = VfioDevice::all(files).into_iter().map(|device| {
            let memory = inventory.memory_of(&device.name).or_debugfs(files, &device);
            let release = kernel.release.as_deref();
            let variant = variant_for(&device).filter(|_| device.is_on_plain_driver());
            let variant_installed = variant.and_then(|variant| {
                *asked.entry(variant.driver).or_insert_with(|| variant.is_installed(files, release))
            });
            DeviceFindings { device, memory, variant_installed }
        });
        Self {
            version: KernelVersion::read(files),
            machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("vfio-trace")),
            // A kernel without user namespaces has no such file.
            first_user_namespace: files.line("/proc/self/uid_map").map_or_else(
                || proc_readable.then_some(true),
                |line| Some(line.split_whitespace().eq(["0", "0", "4294967295"])),
            ),
            shows_lockdown: files.exists("/sys/kernel/security/lockdown"),
            // The file comes with CONFIG_BPF_SYSCALL (kernel/bpf/syscall.c).
            has_bpf: files
                .exists("/proc/sys/kernel")
                .then(|| files.exists("/proc/sys/kernel/unprivileged_bpf_disabled")),
            kprobe_support: KprobeSupport::read(files),
            // The file is readable for root only.
            kprobes_off: files.line("/sys/kernel/debug/kprobes/enabled").as_deref() == Some("0"),
            kprobe_blacklist: blacklisted(
                &files.text("/sys/kernel/debug/kprobes/blacklist").unwrap_or_default(),
            ),
            proc_readable,
            symbols_readable: files.open("/proc/kallsyms").is_ok(),
            sysfs_readable: VfioDevice::has_sysfs(files),
            btf_files: given_btf(files, &kernel.users),
            devices: devices.collect(),
            kernel,
            attempt,
            inventory,
        }
    }
}

impl From<&DeviceFacts> for MemoryFacts {
    fn from(facts: &DeviceFacts) -> Self {
        Self {
            migration: facts.migration,
            dirty_tracking: facts.dirty_tracking,
            flags: facts.flags,
            holders: facts.holders.iter().map(|holder| holder.pid).collect(),
        }
    }
}

impl MemoryFacts {
    /// Adds what debugfs shows (6.8 and later, CONFIG_VFIO_DEBUGFS, root only): a folder `migration` where there are
    /// `mig_ops` (`vfio_device_debugfs_init()`). Its files are not read: `state` asks the driver.
    pub(super) fn or_debugfs(mut self, files: &KernelFiles, device: &VfioDevice) -> Self {
        let folder = format!("/sys/kernel/debug/vfio/{}", device.name);
        if self.migration.is_none() && files.exists(&folder) {
            self.migration = Some(files.exists(&format!("{folder}/migration")));
        }
        self
    }
}

/// Returns the names in the list: a line has a range of addresses, a tab and a name (`kprobe_blacklist_seq_show()` in
/// kernel/kprobes.c).
fn blacklisted(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

/// Finds the BTF files that were given with `--btf`.
fn given_btf(files: &KernelFiles, users: &[String]) -> BTreeMap<String, PathBuf> {
    let own = files.path("sys/kernel/btf");
    let names = ["vmlinux", "vfio"].into_iter().chain(users.iter().map(String::as_str));
    names
        .map(|name| (name.to_owned(), files.btf_path(name)))
        .filter(|(_, path)| !path.starts_with(&own))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::inventory;

    #[test]
    fn the_blacklist_is_read_by_name() {
        let names = blacklisted("0xffffffff81000000-0xffffffff81000010\tvfio_x\n0x0-0x0\tother\n");
        assert!(names.contains("vfio_x") && names.contains("other"));
        assert!(!names.contains("vfio") && blacklisted("").is_empty());
    }

    #[test]
    fn debugfs_tells_by_its_folders() {
        let root = inventory::tests::machine();
        root.write("sys/kernel/debug/vfio/0000:3b:00.2/migration/state", "");
        let files = root.files();
        let device = VfioDevice::all(&files).remove(0);
        assert_eq!(MemoryFacts::default().or_debugfs(&files, &device).migration, Some(true));
        std::fs::remove_dir_all(root.path().join("sys/kernel/debug/vfio/0000:3b:00.2/migration")).unwrap();
        assert_eq!(MemoryFacts::default().or_debugfs(&files, &device).migration, Some(false));
        std::fs::remove_dir_all(root.path().join("sys/kernel/debug/vfio/0000:3b:00.2")).unwrap();
        assert_eq!(MemoryFacts::default().or_debugfs(&files, &device).migration, None);
    }
}
