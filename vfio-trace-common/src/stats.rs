//! What the eBPF programs count, per probe.

/// Slots of the statistics map: more attached functions than any host has drivers for. Slot 0 is the inventory's,
/// which is attached to none.
pub const MAX_PROBES: u32 = 256;

/// The inventory's slot.
pub const INVENTORY_SLOT: u16 = 0;

/// Counters of one probe on one CPU, in the `STATS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeStats {
    /// Calls of the function that were looked at.
    pub hits: u64,
    /// Records handed to the ring buffer.
    pub records: u64,
    /// Records lost because the ring buffer was full.
    pub lost: u64,
    /// Calls whose return could not be matched, or that found no room to remember their arguments.
    pub unmatched: u64,
    /// What found no room in the programs' maps: a device or a file that is not remembered.
    pub no_room: u64,
}

const _: () = assert!(size_of::<ProbeStats>() == 40);
