//! One VFIO device, opened through its group, and the data fd of its migration.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;

use super::sys::{self, DmaRange, FeatureOp, PrecopyInfo};
use crate::mdev;
use crate::states::MigState;

type Raw<T> = std::result::Result<T, Errno>;

/// An open device. The order of the fields is the order of closing: as QEMU does it, from the inside out.
#[derive(Debug)]
pub(crate) struct Device {
    data: Option<OwnedFd>,
    fd: OwnedFd,
    _group: File,
    _container: File,
}

impl Device {
    /// Container, group, type 1 IOMMU, device.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let node = mdev::group(name).map(mdev::group_node)?;
        let container =
            open("/dev/vfio/vfio").context("cannot open /dev/vfio/vfio; modprobe vfio, and run as root")?;
        let version = sys::api_version(&container).context("VFIO_GET_API_VERSION failed")?;
        if version != 0 {
            bail!("VFIO's API version here is {version}, this program knows 0");
        }
        let group = open(&node).with_context(|| {
            format!("cannot open {} of {name}; is another process using it?", node.display())
        })?;
        if !sys::group_is_viable(&group).context("VFIO_GROUP_GET_STATUS failed")? {
            bail!("the group of {name} is not viable; bind all of its devices to VFIO drivers");
        }
        sys::set_container(&group, &container).context("VFIO_GROUP_SET_CONTAINER failed")?;
        sys::set_type1(&container).context("VFIO_SET_IOMMU failed; modprobe vfio_iommu_type1")?;
        let fd = sys::device_fd(&group, &CString::new(name)?)
            .with_context(|| format!("VFIO_GROUP_GET_DEVICE_FD failed for {name}"))?;
        Ok(Self { data: None, fd, _group: group, _container: container })
    }

    pub(crate) fn migration_flags(&self) -> Raw<u64> {
        sys::migration_flags(&self.fd)
    }

    pub(crate) fn state(&self) -> Raw<MigState> {
        sys::state(&self.fd).map(MigState)
    }

    /// Sets the state. A new data fd replaces the old one, which is closed; returned is whether there is a new one.
    pub(crate) fn set_state(&mut self, state: MigState) -> Raw<Option<i32>> {
        let data = sys::set_state(&self.fd, state.0)?;
        let number = data.as_ref().map(AsRawFd::as_raw_fd);
        if data.is_some() {
            self.data = data;
        }
        Ok(number)
    }

    pub(crate) fn data_size(&self) -> Raw<u64> {
        sys::data_size(&self.fd)
    }

    pub(crate) fn probe(&self, feature: u32, op: FeatureOp) -> Raw<()> {
        sys::probe(&self.fd, feature, op)
    }

    pub(crate) fn reset(&self) -> Raw<()> {
        sys::reset(&self.fd)
    }

    pub(crate) fn log_start(&self, range: DmaRange) -> Raw<u64> {
        sys::log_start(&self.fd, range)
    }

    pub(crate) fn log_stop(&self) -> Raw<()> {
        sys::log_stop(&self.fd)
    }

    pub(crate) fn log_report(&self, range: DmaRange) -> Raw<u64> {
        sys::log_report(&self.fd, range)
    }

    pub(crate) fn precopy_info(&self) -> Raw<PrecopyInfo> {
        sys::precopy_info(self.data()?)
    }

    /// One read() of the data fd.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Raw<usize> {
        rustix::io::read(self.data()?, buffer)
    }

    /// One write() to the data fd.
    pub(crate) fn write(&self, bytes: &[u8]) -> Raw<usize> {
        rustix::io::write(self.data()?, bytes)
    }

    /// Closes the data fd; says whether there was one.
    pub(crate) fn close_data(&mut self) -> bool {
        self.data.take().is_some()
    }

    /// Without a data fd the answer is the one that the kernel gives for a closed fd.
    fn data(&self) -> Raw<&OwnedFd> {
        self.data.as_ref().ok_or(Errno::BADF)
    }
}

fn open(path: impl AsRef<std::path::Path>) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
