//! The maps.

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

/// Longest bitmap that is counted: 32768 pages, 128 MiB of 4 KiB pages. The caller waits meanwhile.
pub const BITMAP_WORDS: usize = 512;

/// All records, in order. User space chooses the size when it loads the programs.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// One word: non-zero once all probes are attached.
#[map]
pub static ENABLED: Array<u32> = Array::with_max_entries(1, 0);

/// Where struct members are; user space replaces it when a module with new types is loaded.
#[map]
pub static LAYOUT: Array<Layout> = Array::with_max_entries(1, 0);

/// Counters by probe.
#[map]
pub static STATS: PerCpuArray<ProbeStats> = PerCpuArray::with_max_entries(MAX_PROBES, 0);

/// Calls that have begun and not yet returned.
#[map]
pub static IN_FLIGHT: HashMap<Key, Call> = HashMap::with_max_entries(8192, 0);

/// One word: when [`IN_FLIGHT`] was full and was looked through.
#[map]
pub static SWEPT: Array<u64> = Array::with_max_entries(1, 0);

/// A device that user space has been told about, or was to be.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KnownDevice {
    /// The address of its driver's `migration_set_state`, or 0.
    pub set_state: u64,
    /// When it was first seen: tells it from others that had this address before.
    pub born_ns: u64,
    /// 1: it is being taken from vfio, which waits until nobody has anything to do with it.
    pub leaving: u32,
    /// 1: the record that was to tell of it found no room.
    pub untold: u32,
}

/// The device of a data fd.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FileOwner {
    /// Its address.
    pub device: u64,
    /// Its [`KnownDevice::born_ns`]; 0 if it was not known then.
    pub born_ns: u64,
}

/// The device of each data fd's `struct file`.
#[map]
pub static FILES: HashMap<u64, FileOwner> = HashMap::with_max_entries(16384, 0);

/// Devices that are gone, by address, until another one is seen there: what is still heard of them is not described
/// again, because that memory is no longer theirs.
#[map]
pub static GONE: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4096, 0);

/// Devices that user space has been told about.
#[map]
pub static DEVICES: HashMap<u64, KnownDevice> = HashMap::with_max_entries(16384, 0);

/// How to get at what a driver keeps, by the address of its `migration_set_state`.
#[map]
pub static DRIVERS: HashMap<u64, DriverLayout> = HashMap::with_max_entries(64, 0);

/// What the inventory looks for.
#[map]
pub static SEARCH: Array<Search> = Array::with_max_entries(1, 0);

/// Our own descriptors of folders below `/sys/class/vfio-dev`.
#[map]
pub static WATCHED: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// The device of each parent `struct device`.
#[map]
pub static PARENTS: HashMap<u64, u64> = HashMap::with_max_entries(16384, 0);

/// What to copy of a driver's memory, by the address of its `migration_set_state`.
#[map]
pub static CAPTURES: HashMap<u64, Captures> = HashMap::with_max_entries(64, 0);

/// What to do for a driver plug-in's functions, by the probe's slot.
#[map]
pub static STEPS: Array<StepSpec> = Array::with_max_entries(MAX_PROBES, 0);

/// Nothing, to be copied from.
#[map]
pub static ZEROS: Array<[u64; BITMAP_WORDS]> = Array::with_max_entries(1, 0);

/// The capture that a program has asked for and hands over by tail call.
#[map]
pub static JOB: PerCpuArray<Job> = PerCpuArray::with_max_entries(1, 0);

/// The program that makes captures, once there is a driver whose plug-in wants some.
#[map]
pub static JUMPS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Where a bitmap of dirty pages is copied to, to be counted.
#[map]
pub static BITMAP: PerCpuArray<[u64; BITMAP_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Where `struct module` has its name; 0: not known.
#[map]
pub static MODULE_NAME: Array<u32> = Array::with_max_entries(1, 0);
