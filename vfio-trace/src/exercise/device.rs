//! An open device and its data fd. Dropping it always brings the device back to RUNNING before it is closed.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
};

use rustix::io::Errno as Raw;
use thiserror::Error;
use vfio_uapi::ioctl as vfio;

use crate::{
    event::{Errno, MigFlags, MigState},
    kernel::VfioDevice,
};

/// Result of a call, or the errno that it failed with.
pub(super) type CallResult<T> = Result<T, Errno>;

fn errno(raw: Raw) -> Errno {
    Errno(raw.raw_os_error().unsigned_abs())
}

/// Reason why a device cannot be opened.
#[derive(Debug, Error)]
pub enum DeviceOpenError {
    /// Neither a group nor a character device of its own exists.
    #[error("it has no node in /dev/vfio: neither a group's nor its own")]
    NoNode,
    /// Failure to open a node.
    #[error("cannot open {path}: {why}")]
    Node {
        /// Path of the node.
        path: String,
        /// Error of open(2).
        why: io::Error,
    },
    /// Number of a group with a device that is not bound to a VFIO driver.
    #[error("its group {0} is not viable: not all of its devices are bound to VFIO drivers")]
    NotViable(u32),
    /// Version of VFIO's API in this kernel, which is not 0.
    #[error("VFIO's API version here is {0}, not 0")]
    Version(i32),
    /// Failure of a call.
    #[error("{call} failed with {}", .errno.name())]
    Call {
        /// Name of the call.
        call: &'static str,
        /// Errno that it failed with.
        errno: Errno,
    },
    /// Device name with a zero byte.
    #[error("its name has a zero byte")]
    Name,
}

const BIND: &str = "VFIO_DEVICE_BIND_IOMMUFD";
const SET_IOMMU: &str = "VFIO_SET_IOMMU";

impl DeviceOpenError {
    /// Returns true if the reason is that another process has the device open.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Node { why, .. } => why.raw_os_error() == Some(Raw::BUSY.raw_os_error()),
            Self::Call { errno: is, .. } => *is == errno(Raw::BUSY),
            _ => false,
        }
    }

    /// Returns another meaning that an errno may have besides "busy". Binding a device gives EINVAL if it is open
    /// already, and whatever its driver returns if it refuses to open the device. It gives EPERM if its group belongs
    /// to another process, and if interrupts are not isolated.
    pub(super) fn open_refusal(&self) -> Option<OpenRefusal> {
        let Self::Call { call, errno: is } = self else { return None };
        match *call {
            BIND if *is == errno(Raw::PERM) => Some(OpenRefusal::Interrupts { may_be_busy: true }),
            BIND if *is == errno(Raw::INVAL) => Some(OpenRefusal::Driver),
            SET_IOMMU if *is == errno(Raw::PERM) => Some(OpenRefusal::Interrupts { may_be_busy: false }),
            _ => None,
        }
    }

    /// Returns the node that may not be opened, if that is the reason.
    pub(super) fn denied_path(&self) -> Option<&str> {
        match self {
            Self::Node { path, why } if why.kind() == io::ErrorKind::PermissionDenied => Some(path),
            _ => None,
        }
    }
}

/// Reason why no process may open a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenRefusal {
    /// Interrupts are not isolated: the device could raise some that are not its own.
    Interrupts {
        /// True if the errno is the same when another process has the device.
        may_be_busy: bool,
    },
    /// The driver may refuse. The errno is the same when another process has the device.
    Driver,
}

fn call<T>(call: &'static str, done: vfio::VfioResult<T>) -> Result<T, DeviceOpenError> {
    done.map_err(|raw| DeviceOpenError::Call { call, errno: errno(raw) })
}

fn node(path: &str) -> Result<File, DeviceOpenError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|why| DeviceOpenError::Node { path: path.to_owned(), why })
}

/// A group in a container of its own: an IOMMU domain without mappings.
#[derive(Debug)]
pub(super) struct VfioGroup {
    number: u32,
    file: File,
    _container: File,
}

impl VfioGroup {
    fn open(number: u32) -> Result<Rc<Self>, DeviceOpenError> {
        let container = node("/dev/vfio/vfio")?;
        let version = call("VFIO_GET_API_VERSION", vfio::api_version(&container))?;
        if version != vfio::API_VERSION {
            return Err(DeviceOpenError::Version(version));
        }
        let file = node(&format!("/dev/vfio/{number}"))?;
        if !call("VFIO_GROUP_GET_STATUS", vfio::group_is_viable(&file))? {
            return Err(DeviceOpenError::NotViable(number));
        }
        call("VFIO_GROUP_SET_CONTAINER", vfio::set_container(&file, &container))?;
        call(SET_IOMMU, vfio::set_type1(&container))?;
        Ok(Rc::new(Self { number, file, _container: container }))
    }
}

/// Files that have to stay open besides the device's fd.
#[derive(Debug)]
enum IommuBackend {
    Group(Rc<VfioGroup>),
    /// iommufd shared by all devices of this run: a group can be used through one iommufd only.
    Iommufd(Rc<File>),
}

const IOMMUFD: &str = "/dev/iommu";

/// An open device.
#[derive(Debug)]
pub(super) struct OpenDevice {
    data: Option<OwnedFd>,
    fd: OwnedFd,
    anchor: IommuBackend,
    /// True if the device may be in another state than RUNNING.
    reset_needed: bool,
}

impl OpenDevice {
    /// Opens a device through its own character device and iommufd if both exist, otherwise through its group, which
    /// may be one that is open in `others`.
    pub(super) fn open(device: &VfioDevice, others: &[&Self]) -> Result<Self, DeviceOpenError> {
        if let Some(vfio) = device.vfio.as_ref().filter(|_| device.cdev && Path::new(IOMMUFD).exists()) {
            let path = format!("/dev/vfio/devices/{vfio}");
            match node(&path) {
                Ok(fd) => {
                    let open = others.iter().find_map(|other| match &other.anchor {
                        IommuBackend::Iommufd(file) => Some(Rc::clone(file)),
                        IommuBackend::Group(_) => None,
                    });
                    let iommufd = open.map_or_else(|| node(IOMMUFD).map(Rc::new), Ok)?;
                    return Self::bound(fd, iommufd);
                },
                // A container may have been given the group's node only.
                Err(DeviceOpenError::Node { why, .. })
                    if why.kind() == io::ErrorKind::NotFound && device.group.is_some() => {},
                Err(why) => return Err(why),
            }
        }
        let number = device.group.ok_or(DeviceOpenError::NoNode)?;
        let open = others.iter().find_map(|other| match &other.anchor {
            IommuBackend::Group(group) if group.number == number => Some(Rc::clone(group)),
            _ => None,
        });
        let group = open.map_or_else(|| VfioGroup::open(number), Ok)?;
        Self::of_group(device, group)
    }

    /// Closes the device and opens it again, so that the driver's data per open is fresh. Its group stays open: it can
    /// be opened once only, and may be shared with another device of this run.
    pub(super) fn reopen(self, device: &VfioDevice) -> Result<Self, DeviceOpenError> {
        let iommufd = match &self.anchor {
            IommuBackend::Group(group) => {
                let group = Rc::clone(group);
                drop(self);
                return Self::of_group(device, group);
            },
            IommuBackend::Iommufd(iommufd) => Rc::clone(iommufd),
        };
        drop(self);
        let vfio = device.vfio.as_ref().ok_or(DeviceOpenError::NoNode)?;
        Self::bound(node(&format!("/dev/vfio/devices/{vfio}"))?, iommufd)
    }

    fn bound(device: File, iommufd: Rc<File>) -> Result<Self, DeviceOpenError> {
        call(BIND, vfio::bind_iommufd(&device, &*iommufd))?;
        Ok(Self {
            data: None,
            fd: device.into(),
            anchor: IommuBackend::Iommufd(iommufd),
            reset_needed: false,
        })
    }

    fn of_group(device: &VfioDevice, group: Rc<VfioGroup>) -> Result<Self, DeviceOpenError> {
        let name = CString::new(device.name.as_str()).map_err(|_zero| DeviceOpenError::Name)?;
        let fd = call("VFIO_GROUP_GET_DEVICE_FD", vfio::device_fd(&group.file, &name))?;
        Ok(Self { data: None, fd, anchor: IommuBackend::Group(group), reset_needed: false })
    }

    /// Returns `group` or `cdev`, the way in which the device was opened.
    pub(super) const fn via(&self) -> &'static str {
        match self.anchor {
            IommuBackend::Group(_) => "group",
            IommuBackend::Iommufd(_) => "cdev",
        }
    }

    pub(super) fn flags(&self) -> CallResult<MigFlags> {
        vfio::migration_flags(&self.fd).map(MigFlags).map_err(errno)
    }

    pub(super) fn can_reset(&self) -> bool {
        vfio::can_reset(&self.fd).unwrap_or(false)
    }

    /// Returns the state, and remembers whether the device has to be brought back to RUNNING. If the state cannot be
    /// read, the remembered fact stays.
    pub(super) fn state(&mut self) -> CallResult<MigState> {
        let state = vfio::state(&self.fd).map(MigState).map_err(errno);
        if let Ok(state) = state {
            self.reset_needed = state != MigState::RUNNING;
        }
        state
    }

    /// Asks for a state. A new data fd replaces the old one. Returns true if there is a new one.
    pub(super) fn set_state(&mut self, state: MigState) -> CallResult<bool> {
        self.reset_needed = true;
        let data = vfio::set_state(&self.fd, state.0).map_err(errno)?;
        let new = data.is_some();
        if new {
            self.data = data;
        }
        Ok(new)
    }

    pub(super) fn reset(&mut self) -> CallResult<()> {
        self.data = None;
        vfio::reset(&self.fd).map_err(errno)
    }

    pub(super) fn close_data(&mut self) {
        self.data = None;
    }

    pub(super) fn data_size(&self) -> CallResult<u64> {
        vfio::data_size(&self.fd).map_err(errno)
    }

    /// Returns initial_bytes and dirty_bytes.
    pub(super) fn precopy_info(&self) -> CallResult<(u64, u64)> {
        let info = vfio::precopy_info(self.data()?).map_err(errno)?;
        Ok((info.initial_bytes, info.dirty_bytes))
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> CallResult<usize> {
        rustix::io::retry_on_intr(|| rustix::io::read(self.data.as_ref().ok_or(Raw::BADF)?, &mut *buffer))
            .map_err(errno)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> CallResult<usize> {
        rustix::io::retry_on_intr(|| rustix::io::write(self.data.as_ref().ok_or(Raw::BADF)?, bytes))
            .map_err(errno)
    }

    /// Returns 32 bits of a region, little-endian as in PCI.
    pub(super) fn register(&self, region: u32, offset: u64) -> CallResult<u32> {
        let place = vfio::region(&self.fd, region).map_err(errno)?;
        let mut word = [0; 4];
        if !place.readable || offset.saturating_add(4) > place.length {
            return Err(Errno::EINVAL);
        }
        match rustix::io::pread(&self.fd, &mut word, place.offset.saturating_add(offset)) {
            Ok(4) => Ok(u32::from_le_bytes(word)),
            Ok(_) => Err(errno(Raw::IO)),
            Err(raw) => Err(errno(raw)),
        }
    }

    fn data(&self) -> CallResult<&OwnedFd> {
        self.data.as_ref().ok_or_else(|| errno(Raw::BADF))
    }
}

impl Drop for OpenDevice {
    /// Brings the device back to RUNNING where the run did not end in order: an error on the way, or a panic.
    fn drop(&mut self) {
        self.data = None;
        if self.reset_needed {
            // If the device cannot be reset, it is closed as it is: it is too late to report the error.
            let _closed_as_it_is = vfio::reset(&self.fd).is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_because_somebody_else_has_it() {
        let failed = |call, errno| DeviceOpenError::Call { call, errno: Errno(errno) };
        for call in [BIND, "VFIO_GROUP_GET_DEVICE_FD"] {
            assert!(failed(call, 16).is_busy() && failed(call, 16).open_refusal().is_none(), "{call}");
            assert!(!failed(call, 12).is_busy() && failed(call, 12).open_refusal().is_none(), "{call}");
        }
        for errno in [22, 1] {
            assert!(
                !failed(BIND, errno).is_busy() && failed(BIND, errno).open_refusal().is_some(),
                "{errno}"
            );
        }
        assert_eq!(failed(SET_IOMMU, 1).open_refusal(), Some(OpenRefusal::Interrupts { may_be_busy: false }));
        assert_eq!(failed(SET_IOMMU, 22).open_refusal(), None);
    }

    #[test]
    fn a_state_that_cannot_be_read_tells_nothing() {
        let file = || File::open("/dev/null").unwrap();
        let anchor = IommuBackend::Iommufd(Rc::new(file()));
        let mut device = OpenDevice { data: None, fd: file().into(), anchor, reset_needed: false };
        device.state().unwrap_err();
        assert!(!device.reset_needed, "nothing was asked of it: it is closed as it was found");
        device.set_state(MigState::STOP).unwrap_err();
        device.state().unwrap_err();
        assert!(device.reset_needed, "it may be anywhere: it is reset before it is closed");
    }
}
