//! The switch that turns all programs on or off, and the counters of each probe.

use aya_ebpf::{EbpfContext, helpers::bpf_get_attach_cookie};
use vfio_trace_common::{
    role::cookie,
    stats::{MAX_PROBES, ProbeStats},
};

use crate::maps::{ENABLED, STATS};

/// The attached function that a program runs for, as the cookie of its link describes it. User space makes the cookie
/// when it attaches the probe.
#[derive(Clone, Copy)]
pub struct Probe {
    cookie: u64,
}

impl Probe {
    /// The probe of programs that are attached to no function by a link with a cookie: the inventory and the notice of
    /// modules.
    pub const NONE: Self = Self { cookie: 0 };

    /// Returns the probe of a slot, to count for it.
    #[inline(always)]
    pub fn at(slot: u16) -> Self {
        Self { cookie: u64::from(slot) & cookie::PROBE_MASK }
    }

    /// Returns true if the function makes a Function Level Reset.
    #[inline(always)]
    pub fn is_flr(self) -> bool {
        self.cookie & cookie::IS_FLR != 0
    }

    /// Returns true if the function returns a `struct file *`.
    #[inline(always)]
    pub fn returns_file(self) -> bool {
        self.cookie & cookie::RETURNS_FILE != 0
    }

    /// Returns its slot in the statistics map.
    #[inline(always)]
    pub fn index(self) -> u16 {
        (self.cookie & cookie::PROBE_MASK) as u16
    }

    /// Returns the place of the device among the function's arguments: one of `cookie::TAKES_*`.
    #[inline(always)]
    pub fn takes(self) -> u64 {
        self.cookie & cookie::TAKES_MASK
    }

    #[inline(always)]
    fn stats(self) -> Option<&'static mut ProbeStats> {
        let slot = STATS.get_ptr_mut(u32::from(self.index()) & (MAX_PROBES - 1))?;
        // SAFETY: this CPU's own slot; a program is not preempted by another user of the same slot other than in a
        // nested interrupt, where at worst one count is lost.
        unsafe { slot.as_mut() }
    }

    /// Counts a call that is looked at.
    #[inline(always)]
    pub fn hit(self) {
        if let Some(stats) = self.stats() {
            stats.hits += 1;
        }
    }

    /// Counts a record handed over.
    #[inline(always)]
    pub fn sent(self) {
        if let Some(stats) = self.stats() {
            stats.records += 1;
        }
    }

    /// Counts a record that found the ring buffer full.
    #[inline(always)]
    pub fn lost(self) {
        if let Some(stats) = self.stats() {
            stats.lost += 1;
        }
    }

    /// Counts an entry that a full map could not take.
    #[inline(always)]
    pub fn no_room(self) {
        if let Some(stats) = self.stats() {
            stats.no_room += 1;
        }
    }

    /// Counts a call whose entry and return cannot be brought together.
    #[inline(always)]
    pub fn unmatched(self) {
        if let Some(stats) = self.stats() {
            stats.unmatched += 1;
        }
    }
}

/// Returns the probe that a program runs for, or `None` if tracing is off.
#[inline(always)]
pub fn probe(ctx: &impl EbpfContext) -> Option<Probe> {
    if *ENABLED.get(0)? == 0 {
        return None;
    }
    // SAFETY: the helper takes the program's own context.
    Some(Probe { cookie: unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } })
}
