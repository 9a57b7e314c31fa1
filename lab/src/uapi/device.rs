//! One VFIO device, opened through its group, and the data fd of its migration.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;

use vfio_uapi::ioctl::{self as sys, DmaRange, FeatureOp, PrecopyInfo};

use crate::mdev;
use crate::states::MigState;

type Raw<T> = std::result::Result<T, Errno>;

/// Enough for one ioctl.
const STACK: usize = 64 << 10;

/// An open device. The order of the fields is the order of closing: as QEMU does it, from the inside out.
#[derive(Debug)]
pub(crate) struct Device {
    data: Option<OwnedFd>,
    hoard: Vec<OwnedFd>,
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
        Ok(Self { data: None, hoard: Vec::new(), fd, _group: group, _container: container })
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

    /// Sets the state from so many threads at the same time and, when all are through, once more by each of them, one
    /// after the other. They drop what they get. Gives how many calls succeeded, and how many there were.
    pub(crate) fn set_state_crowded(
        &self,
        state: MigState,
        threads: usize,
    ) -> std::io::Result<(usize, usize)> {
        let (fd, turn) = (&self.fd, Mutex::new(()));
        // How many are through, and how many there are: not known before all have started.
        let (through, all) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let call = || usize::from(sys::set_state(fd, state.0).is_ok());
        let twice = || {
            let first = call();
            through.fetch_add(1, Ordering::SeqCst);
            while through.load(Ordering::SeqCst) < all.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(50));
            }
            let _mine = turn.lock();
            first + call()
        };
        thread::scope(|scope| {
            let builder = || thread::Builder::new().stack_size(STACK);
            let started: std::io::Result<Vec<_>> =
                (0..threads).map(|_number| builder().spawn_scoped(scope, twice)).collect();
            all.store(started.as_ref().map_or(0, Vec::len), Ordering::SeqCst);
            let fine = started?.into_iter().filter_map(|thread| thread.join().ok()).sum();
            Ok((fine, 2 * threads))
        })
    }

    /// Lets so many data sessions begin and end, and keeps their files until the data fd is closed.
    pub(crate) fn hoard(&mut self, files: usize) -> Raw<usize> {
        for _file in 0..files {
            let data = sys::set_state(&self.fd, MigState::PRE_COPY.0)?;
            self.hoard.extend(data);
            sys::set_state(&self.fd, MigState::RUNNING.0)?;
        }
        Ok(self.hoard.len())
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
        let hoarded = !std::mem::take(&mut self.hoard).is_empty();
        self.data.take().is_some() || hoarded
    }

    /// Without a data fd the answer is the one that the kernel gives for a closed fd.
    fn data(&self) -> Raw<&OwnedFd> {
        self.data.as_ref().ok_or(Errno::BADF)
    }
}

fn open(path: impl AsRef<std::path::Path>) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
