//! VFIO's ioctls, each as one safe function: the only unsafe code of this crate.
#![expect(
    unsafe_code,
    reason = "VFIO is an ioctl interface, and no crate wraps its migration features safely"
)]

use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::null_mut;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use vfio_bindings::bindings::vfio as abi;

/// `_IO(VFIO_TYPE, VFIO_BASE + nr)` numbers; the header's macros are not in the bindings.
mod nr {
    pub(super) const GET_API_VERSION: u8 = 0;
    pub(super) const SET_IOMMU: u8 = 2;
    pub(super) const GROUP_GET_STATUS: u8 = 3;
    pub(super) const GROUP_SET_CONTAINER: u8 = 4;
    pub(super) const GROUP_GET_DEVICE_FD: u8 = 6;
    pub(super) const DEVICE_RESET: u8 = 11;
    pub(super) const DEVICE_FEATURE: u8 = 17;
    pub(super) const MIG_GET_PRECOPY_INFO: u8 = 21;
}

type Result<T> = std::result::Result<T, Errno>;

/// One call: a request number and its argument, a pointer or an integer in a pointer's place.
struct Call {
    nr: u8,
    argument: *mut c_void,
}

// SAFETY: all of VFIO's requests are `_IO` numbers, the kernel returns an int, and nothing is read through the
// pointer here. What the pointer must be is the business of the functions below, the only ones that make a `Call`.
unsafe impl Ioctl for Call {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::none(abi::VFIO_TYPE, abi::VFIO_BASE as u8 + self.nr)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _argument: *mut c_void) -> Result<i32> {
        Ok(out)
    }
}

/// Requests whose argument is a plain integer, or none.
fn with_number(fd: impl AsFd, nr: u8, argument: usize) -> Result<i32> {
    debug_assert!(matches!(nr, nr::GET_API_VERSION | nr::SET_IOMMU | nr::DEVICE_RESET));
    let argument = null_mut::<c_void>().wrapping_byte_add(argument);
    // SAFETY: these requests take no pointer; the kernel dereferences nothing.
    unsafe { ioctl(fd, Call { nr, argument }) }
}

/// Requests whose argument is a structure that the kernel reads and writes, no further than `T` goes.
///
/// # Safety
///
/// `T` must be the structure that the request expects, and pointers in it must be valid for what the request does.
unsafe fn with_structure<T>(fd: impl AsFd, nr: u8, structure: &mut T) -> Result<i32> {
    // SAFETY: the pointer is valid for reads and writes of `T` during the call; the rest is the caller's promise.
    unsafe { ioctl(fd, Call { nr, argument: (&raw mut *structure).cast() }) }
}

/// `VFIO_GET_API_VERSION` on the container.
pub(super) fn api_version(container: impl AsFd) -> Result<i32> {
    with_number(container, nr::GET_API_VERSION, 0)
}

/// `VFIO_SET_IOMMU` with type 1 version 2, as QEMU uses it.
pub(super) fn set_type1(container: impl AsFd) -> Result<()> {
    with_number(container, nr::SET_IOMMU, abi::VFIO_TYPE1v2_IOMMU as usize).map(drop)
}

/// `VFIO_GROUP_GET_STATUS`: whether all devices of the group are in VFIO's hands.
pub(super) fn group_is_viable(group: impl AsFd) -> Result<bool> {
    let mut status = abi::vfio_group_status { argsz: size_of::<abi::vfio_group_status>() as u32, flags: 0 };
    // SAFETY: this request fills a `vfio_group_status`, which has no pointers.
    unsafe { with_structure(group, nr::GROUP_GET_STATUS, &mut status) }?;
    Ok(status.flags & abi::VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// `VFIO_GROUP_SET_CONTAINER`.
pub(super) fn set_container(group: impl AsFd, container: impl AsFd) -> Result<()> {
    let mut fd = container.as_fd().as_raw_fd();
    // SAFETY: this request reads an int, the container's fd.
    unsafe { with_structure(group, nr::GROUP_SET_CONTAINER, &mut fd) }.map(drop)
}

/// `VFIO_GROUP_GET_DEVICE_FD`: opens the device.
pub(super) fn device_fd(group: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let argument = name.as_ptr().cast_mut().cast();
    // SAFETY: this request reads a nul-terminated string, and writes nothing.
    let fd = unsafe { ioctl(group, Call { nr: nr::GROUP_GET_DEVICE_FD, argument }) }?;
    // SAFETY: on success the result is a new fd, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `VFIO_DEVICE_RESET`.
pub(super) fn reset(device: impl AsFd) -> Result<()> {
    with_number(device, nr::DEVICE_RESET, 0).map(drop)
}

/// Operation of a `VFIO_DEVICE_FEATURE` call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeatureOp {
    Get,
    Set,
    /// PROBE alone: is the feature known at all?
    Probe,
    /// PROBE with GET: can it be read?
    ProbeGet,
    /// PROBE with SET: can it be written?
    ProbeSet,
}

impl FeatureOp {
    const fn flags(self) -> u32 {
        match self {
            Self::Get => abi::VFIO_DEVICE_FEATURE_GET,
            Self::Set => abi::VFIO_DEVICE_FEATURE_SET,
            Self::Probe => abi::VFIO_DEVICE_FEATURE_PROBE,
            Self::ProbeGet => abi::VFIO_DEVICE_FEATURE_PROBE | abi::VFIO_DEVICE_FEATURE_GET,
            Self::ProbeSet => abi::VFIO_DEVICE_FEATURE_PROBE | abi::VFIO_DEVICE_FEATURE_SET,
        }
    }
}

/// `struct vfio_device_feature` with its payload in the place of the flexible array.
#[repr(C)]
struct Feature<T> {
    argsz: u32,
    flags: u32,
    payload: T,
}

/// # Safety
///
/// `T` must be the payload of this feature, and pointers in it must be valid for what the feature does.
unsafe fn feature<T>(device: impl AsFd, number: u32, op: FeatureOp, payload: T) -> Result<T> {
    let argsz = size_of::<Feature<T>>() as u32;
    let mut feature = Feature { argsz, flags: number | op.flags(), payload };
    // SAFETY: header and payload are what the request reads and writes, and argsz says how much that is; pointers in
    // the payload are the caller's promise.
    unsafe { with_structure(device, nr::DEVICE_FEATURE, &mut feature) }?;
    Ok(feature.payload)
}

/// Asks for a feature without using it.
pub(super) fn probe(device: impl AsFd, number: u32, op: FeatureOp) -> Result<()> {
    if matches!(op, FeatureOp::Get | FeatureOp::Set) {
        return Err(Errno::INVAL);
    }
    // SAFETY: with PROBE the kernel looks at the header only.
    unsafe { feature(device, number & abi::VFIO_DEVICE_FEATURE_MASK, op, ()) }
}

/// `VFIO_DEVICE_FEATURE_MIGRATION` GET.
pub(super) fn migration_flags(device: impl AsFd) -> Result<u64> {
    let payload = abi::vfio_device_feature_migration { flags: 0 };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload = unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIGRATION, FeatureOp::Get, payload) }?;
    Ok(payload.flags)
}

/// `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` GET.
pub(super) fn state(device: impl AsFd) -> Result<u32> {
    let payload = abi::vfio_device_feature_mig_state { device_state: 0, data_fd: -1 };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FeatureOp::Get, payload) }?;
    Ok(payload.device_state)
}

/// `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` SET: the data fd, if the last arc opened one.
pub(super) fn set_state(device: impl AsFd, state: u32) -> Result<Option<OwnedFd>> {
    let payload = abi::vfio_device_feature_mig_state { device_state: state, data_fd: -1 };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FeatureOp::Set, payload) }?;
    if payload.data_fd < 0 {
        return Ok(None);
    }
    // SAFETY: on success a data fd that is not negative is new, and nobody else's.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(payload.data_fd) }))
}

/// `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE` GET.
pub(super) fn data_size(device: impl AsFd) -> Result<u64> {
    let payload = abi::vfio_device_feature_mig_data_size { stop_copy_length: 0 };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, FeatureOp::Get, payload) }?;
    Ok(payload.stop_copy_length)
}

/// A range of I/O addresses and the page size to track it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DmaRange {
    pub(crate) iova: u64,
    pub(crate) length: u64,
    pub(crate) page_size: u64,
}

/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_START` SET with one range: the page size that the device chose.
pub(super) fn log_start(device: impl AsFd, range: DmaRange) -> Result<u64> {
    let mut ranges = [abi::vfio_device_feature_dma_logging_range { iova: range.iova, length: range.length }];
    let payload = abi::vfio_device_feature_dma_logging_control {
        page_size: range.page_size,
        num_ranges: ranges.len() as u32,
        __reserved: 0,
        ranges: ranges.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: this is the feature's payload; the kernel reads `num_ranges` ranges, which outlive the call.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_START, FeatureOp::Set, payload) }?;
    Ok(payload.page_size)
}

/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP` SET.
pub(super) fn log_stop(device: impl AsFd) -> Result<()> {
    // SAFETY: this feature has no payload.
    unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, FeatureOp::Set, ()) }
}

/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT` GET: how many pages the device says it wrote.
pub(super) fn log_report(device: impl AsFd, range: DmaRange) -> Result<u64> {
    let pages = range.length.div_ceil(range.page_size.max(1));
    // The kernel writes one bit per page, in words of 64.
    let words = usize::try_from(pages.div_ceil(64)).map_err(|_too_many| Errno::OVERFLOW)?;
    let mut bitmap = vec![0_u64; words];
    let payload = abi::vfio_device_feature_dma_logging_report {
        iova: range.iova,
        length: range.length,
        page_size: range.page_size,
        bitmap: bitmap.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: this is the feature's payload; the bitmap has a bit for every page and outlives the call.
    unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, FeatureOp::Get, payload) }?;
    Ok(bitmap.iter().map(|word| u64::from(word.count_ones())).sum())
}

/// Result of `VFIO_MIG_GET_PRECOPY_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrecopyInfo {
    pub(crate) initial_bytes: u64,
    pub(crate) dirty_bytes: u64,
}

/// `VFIO_MIG_GET_PRECOPY_INFO` on a data fd.
pub(super) fn precopy_info(data: impl AsFd) -> Result<PrecopyInfo> {
    let argsz = size_of::<abi::vfio_precopy_info>() as u32;
    let mut info = abi::vfio_precopy_info { argsz, flags: 0, initial_bytes: 0, dirty_bytes: 0 };
    // SAFETY: this request fills a `vfio_precopy_info`, which has no pointers.
    unsafe { with_structure(data, nr::MIG_GET_PRECOPY_INFO, &mut info) }?;
    Ok(PrecopyInfo { initial_bytes: info.initial_bytes, dirty_bytes: info.dirty_bytes })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn request_numbers_are_the_headers() {
        let number = |nr| Call { nr, argument: null_mut() }.opcode();
        assert_eq!(number(nr::DEVICE_RESET), 0x3b6f);
        assert_eq!(number(nr::DEVICE_FEATURE), 0x3b75);
        assert_eq!(number(nr::MIG_GET_PRECOPY_INFO), 0x3b79);
    }

    #[test]
    fn what_is_no_vfio_file_says_so() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(state(&null), Err(Errno::NOTTY));
        assert_eq!(api_version(&null), Err(Errno::NOTTY));
        assert_eq!(precopy_info(&null), Err(Errno::NOTTY));
        assert_eq!(set_state(&null, 1).unwrap_err(), Errno::NOTTY);
    }
}
