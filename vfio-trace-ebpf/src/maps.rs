//! The maps that the eBPF programs share with each other and with user space.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use vfio_trace_common::{
    capture::{Captures, StepSpec},
    layout::{DriverLayout, Layout, Search},
    stats::{MAX_PROBES, ProbeStats},
};

use crate::{
    capture::Job,
    inflight::{Call, Key},
};

/// Longest bitmap that is counted, in words of 64 bits: 32768 pages, 128 MiB of 4 KiB pages. The traced thread waits
/// meanwhile.
pub const BITMAP_WORDS: usize = 512;

/// Ring buffer of all records, in order. User space chooses its size when it loads the programs.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The switch of all programs: non-zero once all probes are attached.
#[map]
pub static ENABLED: Array<u32> = Array::with_max_entries(1, 0);

/// Table of member offsets; user space replaces it when a module with new types is loaded.
#[map]
pub static LAYOUT: Array<Layout> = Array::with_max_entries(1, 0);

/// Counters by the probe's slot.
#[map]
pub static STATS: PerCpuArray<ProbeStats> = PerCpuArray::with_max_entries(MAX_PROBES, 0);

/// Calls that have begun and not yet returned, by thread and role.
#[map]
pub static IN_FLIGHT: HashMap<Key, Call> = HashMap::with_max_entries(8192, 0);

/// Time (CLOCK_MONOTONIC, ns) of the last sweep of [`IN_FLIGHT`].
#[map]
pub static SWEPT: Array<u64> = Array::with_max_entries(1, 0);

/// A device that user space has been told about, or should have been. The programs make an entry when they first see a
/// device and remove it when the device is unregistered.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KnownDevice {
    /// Address of its driver's `migration_set_state`, or 0.
    pub set_state: u64,
    /// Time at which it was first seen (CLOCK_MONOTONIC, ns): tells it from others that had this address before.
    pub born_ns: u64,
    /// 1 if vfio_unregister_group_dev() has begun, which waits until nothing uses the device.
    pub leaving: u32,
    /// 1 if the record that describes it found no room.
    pub untold: u32,
}

/// The device of a data fd.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FileOwner {
    /// Address of its `struct vfio_device`.
    pub device: u64,
    /// [`KnownDevice::born_ns`] of the device; 0 if the device was not known at that time.
    pub born_ns: u64,
}

/// The device of each data fd, by the address of its `struct file`.
#[map]
pub static FILES: HashMap<u64, FileOwner> = HashMap::with_max_entries(16384, 0);

/// Devices that are gone, by address, until another one is seen there. Later records about such an address do not
/// describe it again, because the memory no longer belongs to the device.
#[map]
pub static GONE: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4096, 0);

/// Devices that user space has been told about, by address.
#[map]
pub static DEVICES: HashMap<u64, KnownDevice> = HashMap::with_max_entries(16384, 0);

/// Offsets of a driver's state and data files, by the address of its `migration_set_state`.
#[map]
pub static DRIVERS: HashMap<u64, DriverLayout> = HashMap::with_max_entries(64, 0);

/// Parameters of the inventory.
#[map]
pub static SEARCH: Array<Search> = Array::with_max_entries(1, 0);

/// vfio-trace's own descriptors of folders below `/sys/class/vfio-dev`.
#[map]
pub static WATCHED: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// The device of each parent `struct device`, by the parent's address.
#[map]
pub static PARENTS: HashMap<u64, u64> = HashMap::with_max_entries(16384, 0);

/// Captures of a driver's memory, by the address of its `migration_set_state`.
#[map]
pub static CAPTURES: HashMap<u64, Captures> = HashMap::with_max_entries(64, 0);

/// Instructions for the functions of driver plug-ins (steps), by the probe's slot.
#[map]
pub static STEPS: Array<StepSpec> = Array::with_max_entries(MAX_PROBES, 0);

/// Zeros, to be copied from.
#[map]
pub static ZEROS: Array<[u64; BITMAP_WORDS]> = Array::with_max_entries(1, 0);

/// The request for captures that a program hands over by tail call.
#[map]
pub static JOB: PerCpuArray<Job> = PerCpuArray::with_max_entries(1, 0);

/// The program that makes captures; set once a driver's plug-in asks for captures.
#[map]
pub static JUMPS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Copy of a bitmap of dirty pages, to be counted.
#[map]
pub static BITMAP: PerCpuArray<[u64; BITMAP_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Offset of the name in `struct module`; 0 if it is not known.
#[map]
pub static MODULE_NAME: Array<u32> = Array::with_max_entries(1, 0);
