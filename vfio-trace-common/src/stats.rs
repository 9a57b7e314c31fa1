//! Counters that the eBPF programs keep per probe.

/// Number of slots of the statistics map: more attached functions than any host has drivers for. Slot 0 is that of the
/// inventory, which is attached to no function.
pub const MAX_PROBES: u32 = 256;

/// The inventory's slot.
pub const INVENTORY_SLOT: u16 = 0;

/// Counters of one probe on one CPU, in the `STATS` map. The eBPF programs count, user space adds up the CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeStats {
    /// Number of calls of the function that were looked at.
    pub hits: u64,
    /// Number of records handed to the ring buffer.
    pub records: u64,
    /// Number of records lost because the ring buffer was full.
    pub lost: u64,
    /// Number of calls whose return could not be matched, or whose arguments found no room to be remembered.
    pub unmatched: u64,
    /// Number of devices and files that found no room in the programs' maps, and so are not remembered.
    pub no_room: u64,
}

const _: () = assert!(size_of::<ProbeStats>() == 40);
