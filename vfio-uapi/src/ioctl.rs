//! VFIO's ioctls on container, group, device and data fd, each as one safe function.
#![expect(
    unsafe_code,
    reason = "VFIO is an ioctl interface, and no crate wraps its migration features safely"
)]

use std::{
    ffi::{CStr, c_void},
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::null_mut,
};

use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
};
use vfio_bindings::bindings::vfio as abi;

/// `_IO(VFIO_TYPE, VFIO_BASE + nr)` numbers: macros, which the bindings do not have.
mod nr {
    pub(super) const GET_API_VERSION: u8 = 0;
    pub(super) const SET_IOMMU: u8 = 2;
    pub(super) const GROUP_GET_STATUS: u8 = 3;
    pub(super) const GROUP_SET_CONTAINER: u8 = 4;
    pub(super) const GROUP_GET_DEVICE_FD: u8 = 6;
    pub(super) const DEVICE_GET_INFO: u8 = 7;
    pub(super) const DEVICE_GET_REGION_INFO: u8 = 8;
    pub(super) const DEVICE_RESET: u8 = 11;
    pub(super) const DEVICE_FEATURE: u8 = 17;
    pub(super) const DEVICE_BIND_IOMMUFD: u8 = 18;
    pub(super) const MIG_GET_PRECOPY_INFO: u8 = 21;
}

/// Result of a call, or the errno that it failed with.
pub type VfioResult<T> = Result<T, Errno>;

/// The value of `VFIO_API_VERSION`: the only one there ever was.
pub const API_VERSION: i32 = 0;

/// One call: a request number and its argument, a pointer or an integer in a pointer's place.
struct VfioIoctl {
    nr: u8,
    argument: *mut c_void,
}

// SAFETY: all of VFIO's requests are `_IO` numbers, the kernel returns an int, and nothing is read through the pointer
// here. The functions below, the only ones that make a `VfioIoctl`, see to it that the pointer fits the request.
unsafe impl Ioctl for VfioIoctl {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::none(abi::VFIO_TYPE, abi::VFIO_BASE as u8 + self.nr)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _argument: *mut c_void) -> VfioResult<i32> {
        Ok(out)
    }
}

/// Makes a request whose argument is a plain integer, or that has none.
fn with_number(fd: impl AsFd, nr: u8, argument: usize) -> VfioResult<i32> {
    debug_assert!(matches!(nr, nr::GET_API_VERSION | nr::SET_IOMMU | nr::DEVICE_RESET));
    let argument = null_mut::<c_void>().wrapping_byte_add(argument);
    // SAFETY: these requests take no pointer; the kernel dereferences nothing.
    unsafe { ioctl(fd, VfioIoctl { nr, argument }) }
}

/// Makes a request whose argument is a structure that the kernel reads and writes, no further than `T` goes.
///
/// # Safety
///
/// `T` must be the structure that the request expects, and pointers in it must be valid for what the request does.
unsafe fn with_structure<T>(fd: impl AsFd, nr: u8, structure: &mut T) -> VfioResult<i32> {
    // SAFETY: the pointer is valid for reads and writes of `T` during the call; the rest is the caller's promise.
    unsafe { ioctl(fd, VfioIoctl { nr, argument: (&raw mut *structure).cast() }) }
}

/// Makes a `VFIO_GET_API_VERSION` request on a container.
pub fn api_version(container: impl AsFd) -> VfioResult<i32> {
    with_number(container, nr::GET_API_VERSION, 0)
}

/// Makes a `VFIO_SET_IOMMU` request with type 1 version 2, as QEMU uses it. It maps no memory.
pub fn set_type1(container: impl AsFd) -> VfioResult<()> {
    with_number(container, nr::SET_IOMMU, abi::VFIO_TYPE1v2_IOMMU as usize).map(drop)
}

/// Returns true if all devices of the group are bound for VFIO: `VFIO_GROUP_GET_STATUS`.
pub fn group_is_viable(group: impl AsFd) -> VfioResult<bool> {
    let mut status = abi::vfio_group_status { argsz: size_of::<abi::vfio_group_status>() as u32, flags: 0 };
    // SAFETY: this request fills a `vfio_group_status`, which has no pointers.
    unsafe { with_structure(group, nr::GROUP_GET_STATUS, &mut status) }?;
    Ok(status.flags & abi::VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// Makes a `VFIO_GROUP_SET_CONTAINER` request.
pub fn set_container(group: impl AsFd, container: impl AsFd) -> VfioResult<()> {
    let mut fd = container.as_fd().as_raw_fd();
    // SAFETY: this request reads an int, the container's fd.
    unsafe { with_structure(group, nr::GROUP_SET_CONTAINER, &mut fd) }.map(drop)
}

/// Opens the device: `VFIO_GROUP_GET_DEVICE_FD`.
pub fn device_fd(group: impl AsFd, name: &CStr) -> VfioResult<OwnedFd> {
    let argument = name.as_ptr().cast_mut().cast();
    // SAFETY: this request reads a nul-terminated string, and writes nothing.
    let fd = unsafe { ioctl(group, VfioIoctl { nr: nr::GROUP_GET_DEVICE_FD, argument }) }?;
    // SAFETY: on success the result is a new fd, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the device: `VFIO_DEVICE_BIND_IOMMUFD` on its own character device. It maps no memory.
pub fn bind_iommufd(device: impl AsFd, iommufd: impl AsFd) -> VfioResult<()> {
    // Without the token's pointer, which kernels before 6.18 do not know.
    const ARGSZ: usize = std::mem::offset_of!(abi::vfio_device_bind_iommufd, token_uuid_ptr);
    let iommufd = iommufd.as_fd().as_raw_fd();
    let mut bind = abi::vfio_device_bind_iommufd {
        argsz: ARGSZ as u32,
        iommufd,
        ..abi::vfio_device_bind_iommufd::default()
    };
    // SAFETY: this request reads and writes a `vfio_device_bind_iommufd`; its only pointer is left out by argsz and
    // flags.
    unsafe { with_structure(device, nr::DEVICE_BIND_IOMMUFD, &mut bind) }.map(drop)
}

/// Resets the device: `VFIO_DEVICE_RESET`.
pub fn reset(device: impl AsFd) -> VfioResult<()> {
    with_number(device, nr::DEVICE_RESET, 0).map(drop)
}

/// Returns true if the device supports `VFIO_DEVICE_RESET`: `VFIO_DEVICE_GET_INFO`.
pub fn can_reset(device: impl AsFd) -> VfioResult<bool> {
    let argsz = size_of::<abi::vfio_device_info>() as u32;
    let mut info = abi::vfio_device_info { argsz, ..abi::vfio_device_info::default() };
    // SAFETY: this request fills a `vfio_device_info`, which has no pointers, no further than argsz.
    unsafe { with_structure(device, nr::DEVICE_GET_INFO, &mut info) }?;
    Ok(info.flags & abi::VFIO_DEVICE_FLAGS_RESET != 0)
}

/// A region of a device, such as a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Offset of the region in the device fd, in bytes.
    pub offset: u64,
    /// Its length in bytes; 0 if the device has no such region.
    pub length: u64,
    /// True if read(2) works on it.
    pub readable: bool,
}

/// Returns a region of the device: `VFIO_DEVICE_GET_REGION_INFO`.
pub fn region(device: impl AsFd, index: u32) -> VfioResult<RegionInfo> {
    let argsz = size_of::<abi::vfio_region_info>() as u32;
    let mut info = abi::vfio_region_info { argsz, index, ..abi::vfio_region_info::default() };
    // SAFETY: this request fills a `vfio_region_info`, which has no pointers, no further than argsz.
    unsafe { with_structure(device, nr::DEVICE_GET_REGION_INFO, &mut info) }?;
    let readable = info.flags & abi::VFIO_REGION_INFO_FLAG_READ != 0;
    Ok(RegionInfo { offset: info.offset, length: info.size, readable })
}

/// Operation of a `VFIO_DEVICE_FEATURE` request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureOp {
    /// Reads the feature.
    Get,
    /// Sets it.
    Set,
    /// PROBE alone: asks if the feature is known at all.
    Probe,
    /// PROBE with GET: asks if it can be read.
    ProbeGet,
    /// PROBE with SET: asks if it can be set.
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
struct FeatureBuffer<T> {
    argsz: u32,
    flags: u32,
    payload: T,
}

/// Makes a `VFIO_DEVICE_FEATURE` request and returns its payload.
///
/// # Safety
///
/// `T` must be the payload of this feature, and pointers in it must be valid for what the feature does.
unsafe fn feature<T>(device: impl AsFd, number: u32, op: FeatureOp, payload: T) -> VfioResult<T> {
    let argsz = size_of::<FeatureBuffer<T>>() as u32;
    let mut feature = FeatureBuffer { argsz, flags: number | op.flags(), payload };
    // SAFETY: header and payload are what the request reads and writes, and argsz says how much that is; pointers in
    // the payload are the caller's promise.
    unsafe { with_structure(device, nr::DEVICE_FEATURE, &mut feature) }?;
    Ok(feature.payload)
}

/// Asks for a feature without using it; `op` is one of those with PROBE.
pub fn probe(device: impl AsFd, number: u32, op: FeatureOp) -> VfioResult<()> {
    if matches!(op, FeatureOp::Get | FeatureOp::Set) {
        return Err(Errno::INVAL);
    }
    // SAFETY: with PROBE the kernel looks at the header only.
    unsafe { feature(device, number & abi::VFIO_DEVICE_FEATURE_MASK, op, ()) }
}

/// Returns the device's migration_flags (`VFIO_MIGRATION_*` bits): `VFIO_DEVICE_FEATURE_MIGRATION` GET.
pub fn migration_flags(device: impl AsFd) -> VfioResult<u64> {
    let payload = abi::vfio_device_feature_migration { flags: 0 };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload = unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIGRATION, FeatureOp::Get, payload) }?;
    Ok(payload.flags)
}

const UNSET: abi::vfio_device_feature_mig_state =
    abi::vfio_device_feature_mig_state { device_state: 0, data_fd: -1 };

/// Returns the number of the device's state: `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` GET.
pub fn state(device: impl AsFd) -> VfioResult<u32> {
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FeatureOp::Get, UNSET) }?;
    Ok(payload.device_state)
}

/// Sets the device's state and returns the data fd, if the last arc opened one: `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`
/// SET.
pub fn set_state(device: impl AsFd, state: u32) -> VfioResult<Option<OwnedFd>> {
    let payload = abi::vfio_device_feature_mig_state { device_state: state, ..UNSET };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FeatureOp::Set, payload) }?;
    if payload.data_fd < 0 {
        return Ok(None);
    }
    // SAFETY: on success a data fd that is not negative is new, and nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(payload.data_fd) }))
}

/// Returns the estimated length of STOP_COPY's data in bytes: `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE` GET.
pub fn data_size(device: impl AsFd) -> VfioResult<u64> {
    let payload = abi::vfio_device_feature_mig_data_size { stop_copy_length: 0 };
    // SAFETY: this is the feature's payload, and it has no pointers.
    let payload =
        unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, FeatureOp::Get, payload) }?;
    Ok(payload.stop_copy_length)
}

/// A range of I/O addresses and the page size to track it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaRange {
    /// First I/O address.
    pub iova: u64,
    /// Length in bytes.
    pub length: u64,
    /// Size of a page in bytes.
    pub page_size: u64,
}

/// Starts dirty page tracking of one range and returns the page size that the device chose:
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_START` SET.
pub fn log_start(device: impl AsFd, range: DmaRange) -> VfioResult<u64> {
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

/// Stops dirty page tracking: `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP` SET.
pub fn log_stop(device: impl AsFd) -> VfioResult<()> {
    // SAFETY: this feature has no payload.
    unsafe { feature(device, abi::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, FeatureOp::Set, ()) }
}

/// Returns how many pages the device says it wrote: `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT` GET.
pub fn log_report(device: impl AsFd, range: DmaRange) -> VfioResult<u64> {
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

/// Answer to `VFIO_MIG_GET_PRECOPY_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrecopyInfo {
    /// Bytes that should be read before STOP_COPY.
    pub initial_bytes: u64,
    /// Bytes that changed since they were read.
    pub dirty_bytes: u64,
}

/// Returns what a data fd has left to read: `VFIO_MIG_GET_PRECOPY_INFO`.
pub fn precopy_info(data: impl AsFd) -> VfioResult<PrecopyInfo> {
    let argsz = size_of::<abi::vfio_precopy_info>() as u32;
    let mut info = abi::vfio_precopy_info { argsz, flags: 0, initial_bytes: 0, dirty_bytes: 0 };
    // SAFETY: this request fills a `vfio_precopy_info`, which has no pointers.
    unsafe { with_structure(data, nr::MIG_GET_PRECOPY_INFO, &mut info) }?;
    Ok(PrecopyInfo { initial_bytes: info.initial_bytes, dirty_bytes: info.dirty_bytes })
}

#[cfg(test)]
mod tests {
    use vfio_trace_common::uapi;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_programs_in_the_kernel() {
        let number = |nr: u8| u32::from(abi::VFIO_TYPE) << 8 | (abi::VFIO_BASE + u32::from(nr));
        assert_eq!(number(nr::DEVICE_RESET), uapi::VFIO_DEVICE_RESET);
        assert_eq!(number(nr::DEVICE_FEATURE), uapi::VFIO_DEVICE_FEATURE);
        assert_eq!(number(nr::MIG_GET_PRECOPY_INFO), uapi::VFIO_MIG_GET_PRECOPY_INFO);
    }

    #[test]
    fn what_is_no_vfio_device_says_so() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(state(&file), Err(Errno::NOTTY));
        assert_eq!(set_state(&file, 2).map(|fd| fd.is_some()), Err(Errno::NOTTY));
        assert_eq!(api_version(&file), Err(Errno::NOTTY));
        assert_eq!(probe(&file, 1, FeatureOp::Get), Err(Errno::INVAL));
        assert_eq!(probe(&file, 1, FeatureOp::ProbeGet), Err(Errno::NOTTY));
        assert_eq!(reset(&file), Err(Errno::NOTTY));
        assert_eq!(region(&file, 2), Err(Errno::NOTTY));
        assert_eq!(precopy_info(&file), Err(Errno::NOTTY));
    }
}
