//! Devices and VFIO groups through sysfs: creates and removes mediated devices, finds their holders and their knobs.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::io::Errno;

use crate::wait;

const DEVICES: &str = "/sys/bus/mdev/devices";
const PARENTS: &str = "/sys/class/mdev_bus";

/// Device names that tests can rely on, by position: source and destination come first.
pub(crate) const DEFAULT_UUIDS: [&str; 4] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "33333333-3333-3333-3333-333333333333",
    "44444444-4444-4444-4444-444444444444",
];

/// A mediated device that this process created. It is removed when dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct Mdev {
    uuid: String,
    timeout: Duration,
    keep: bool,
}

impl Mdev {
    /// Creates a device in its initial state. A device of that name which no process has open is replaced: a device's
    /// migration state outlives its close, so a left-over is no clean start.
    pub(crate) fn create(uuid: &str, mdev_type: &str, timeout: Duration) -> Result<Self> {
        if sysfs(uuid).exists() {
            remove(uuid, timeout)?;
        }
        let create = supported_type(mdev_type)?.join("create");
        fs::write(&create, uuid).with_context(|| {
            format!("cannot create {uuid} through {}; are all ports of the parent in use?", create.display())
        })?;
        let device = Self { uuid: uuid.to_owned(), timeout, keep: false };
        // devtmpfs creates the group's node in another thread.
        wait::until(&format!("the VFIO group of {uuid}"), timeout, || {
            Ok(group(uuid).ok().filter(|number| group_node(*number).exists()))
        })?;
        Ok(device)
    }

    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// Removes the device now and returns the error that dropping would swallow.
    pub(crate) fn remove(mut self) -> Result<()> {
        if std::mem::replace(&mut self.keep, true) {
            return Ok(());
        }
        remove(&self.uuid, self.timeout)
    }
}

impl Drop for Mdev {
    fn drop(&mut self) {
        if !self.keep {
            // Only reached after a failure, which is the error to report.
            drop(remove(&self.uuid, self.timeout));
        }
    }
}

/// Returns the sysfs directory of a mediated device, which need not exist.
pub(crate) fn sysfs(uuid: &str) -> PathBuf {
    Path::new(DEVICES).join(uuid)
}

/// Returns the number of the IOMMU group of an mdev or a PCI device.
pub(crate) fn group(name: &str) -> Result<u32> {
    let link = [sysfs(name), pci_sysfs(name)]
        .into_iter()
        .map(|device| device.join("iommu_group"))
        .find(|link| link.exists())
        .with_context(|| {
            format!("{name} is neither an mdev nor a PCI device with an IOMMU group here; see {DEVICES}")
        })?;
    let target = fs::read_link(&link).with_context(|| format!("cannot read {}", link.display()))?;
    target
        .file_name()
        .and_then(|number| number.to_str()?.parse().ok())
        .with_context(|| format!("{} does not name a group", target.display()))
}

/// Returns the group's node, `/dev/vfio/N`.
pub(crate) fn group_node(number: u32) -> PathBuf {
    Path::new("/dev/vfio").join(number.to_string())
}

/// Returns the module that offers an mdev type: `quayside` for `quayside-full`, as a type is named after its parent's
/// driver.
pub(crate) fn module(mdev_type: &str) -> &str {
    mdev_type.split_once('-').map_or(mdev_type, |(driver, _)| driver)
}

/// Returns the sysfs directory of a PCI device, which need not exist.
pub(crate) fn pci_sysfs(address: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

/// Returns the driver that a device is bound to.
pub(crate) fn driver(name: &str) -> Option<String> {
    let target = [sysfs(name), pci_sysfs(name)]
        .into_iter()
        .find_map(|device| fs::read_link(device.join("driver")).ok())?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// Unbinds a PCI device from its driver and binds it again, so that the driver's state of it is fresh.
pub(crate) fn rebind(address: &str) -> Result<()> {
    let driver = fs::canonicalize(pci_sysfs(address).join("driver"))
        .with_context(|| format!("{address} is no PCI device with a driver"))?;
    for verb in ["unbind", "bind"] {
        write_attribute(&driver.join(verb), address)
            .with_context(|| format!("cannot {verb} {address} in {}", driver.display()))?;
    }
    Ok(())
}

/// Reads a file of sysfs or debugfs.
pub(crate) fn read_attribute(path: &Path) -> Result<String, Errno> {
    fs::read_to_string(path).map_err(|error| os_error(&error))
}

/// Writes a file of sysfs or debugfs.
pub(crate) fn write_attribute(path: &Path, value: &str) -> Result<(), Errno> {
    // Not fs::write: the file exists, and must not be created or truncated.
    let mut file = OpenOptions::new().write(true).open(path).map_err(|error| os_error(&error))?;
    file.write_all(value.as_bytes()).map_err(|error| os_error(&error))
}

fn os_error(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Returns the path of a device's knob: in one of `folders` or, if there are none, among the driver's attributes.
/// Drivers put those into a group of their own, whose name is the driver's.
pub(crate) fn knob(device: &str, folders: &[PathBuf], name: &str) -> Result<PathBuf> {
    let mut folders = folders.to_vec();
    if folders.is_empty() {
        let driver = driver(device).with_context(|| format!("{device} has no driver; see {DEVICES}"))?;
        folders.push(sysfs(device).join(driver));
    }
    let inside = !name.starts_with('/') && name.split('/').all(|part| part != "..");
    let mut paths = folders.iter().map(|folder| folder.join(name));
    paths.find(|path| inside && path.is_file()).with_context(|| {
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("{device} has no knob `{name}`; see {}", folders.join(" and "))
    })
}

fn supported_type(mdev_type: &str) -> Result<PathBuf> {
    let parents = fs::read_dir(PARENTS).with_context(|| {
        format!("{PARENTS} is not there: no mdev driver is loaded; modprobe {}", module(mdev_type))
    })?;
    parents
        .flatten()
        .map(|parent| parent.path().join("mdev_supported_types").join(mdev_type))
        .find(|path| path.is_dir())
        .with_context(|| {
            format!("no parent in {PARENTS} offers the mdev type {mdev_type}; see its mdev_supported_types")
        })
}

/// Removes a device. Removing an open device blocks in the kernel, and no signal ends that: so this looks for holders
/// first, then removes it in another thread.
fn remove(uuid: &str, timeout: Duration) -> Result<()> {
    let node = group(uuid).map(group_node)?;
    wait::until(&format!("{uuid} to be closed"), timeout, || Ok(holders(&node).is_empty().then_some(())))
        .with_context(|| {
            format!("{uuid} cannot be removed, it is held by {}; end that first", holders(&node).join(", "))
        })?;
    let path = sysfs(uuid).join("remove");
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || drop(done.send(fs::write(path, "1"))));
    match outcome.recv_timeout(timeout) {
        Ok(result) => result.with_context(|| format!("the kernel refused to remove {uuid}"))?,
        Err(_) => bail!(
            "timed out after {} s waiting for {uuid} to be removed; see dmesg for who holds it",
            timeout.as_secs()
        ),
    }
    wait::until(
        &format!("{uuid} to vanish from sysfs"),
        timeout,
        || Ok((!sysfs(uuid).exists()).then_some(())),
    )
}

/// Returns the processes that have a file open, as `comm (pid)`.
fn holders(file: &Path) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|process| {
            fs::read_dir(process.path().join("fd")).is_ok_and(|fds| {
                fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file))
            })
        })
        .map(|process| {
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} ({})", comm.trim(), process.file_name().to_string_lossy())
        })
        .collect()
}

/// Returns the UUID at a position of the default list.
pub(crate) fn default_uuid(index: usize) -> Result<&'static str> {
    DEFAULT_UUIDS
        .get(index)
        .copied()
        .ok_or_else(|| anyhow!("at most {} devices can be created in one run", DEFAULT_UUIDS.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_held_by_this_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = holders(file.path());
        let path = file.into_temp_path();
        assert!(held.iter().any(|holder| holder.ends_with(&format!("({})", std::process::id()))), "{held:?}");
        assert!(holders(&path).is_empty());
    }

    #[test]
    fn a_type_tells_its_module() {
        assert_eq!(module("mtty-2"), "mtty");
        assert_eq!(module("quayside-full"), "quayside");
        assert_eq!(module("odd"), "odd");
    }

    #[test]
    fn an_unknown_device_is_named_in_the_error() {
        let error = group("no-such-device").unwrap_err().to_string();
        assert!(error.contains("no-such-device"), "{error}");
    }
}
