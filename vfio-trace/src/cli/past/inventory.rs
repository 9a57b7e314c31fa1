//! Progress of the inventory with which a recording begins: it takes its time, and before it is over the recording does not
//! tell which devices there were.

use vfio_trace_common::role::Role;

use crate::event::{RecordBody, WireRecord};

/// Share of a recording that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadExtent {
    /// All records that concern devices.
    All,
    /// A part of them.
    Part,
    /// All that were recorded; records that concern devices were lost before.
    Lost,
}

/// Progress of the inventory with which a recording begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InventoryProgress {
    /// Start of the recording, as all times here CLOCK_MONOTONIC in ns.
    began: u64,
    /// Time of the inventory's last record.
    last: Option<u64>,
    /// Time of the tick that ended the inventory; `None` while it is not over.
    over: Option<u64>,
}

impl InventoryProgress {
    /// Makes that of the first part that is read. A later part begins with what those before it have told of all
    /// devices.
    pub(super) const fn of_part(part: u32, began_ns: u64) -> Self {
        Self { began: began_ns, last: None, over: if part > 1 { Some(0) } else { None } }
    }

    /// Returns true if this is a record of an inventory.
    pub(super) fn has(record: &WireRecord) -> bool {
        match &record.body {
            RecordBody::Device(body) => body.seen_by == Role::Inventory as u32,
            RecordBody::Holder(_) => true,
            _ => false,
        }
    }

    /// Takes in the next record. Older recorders told the time before they had taken all records up to it: one of an
    /// inventory that is not later says that it was not over.
    pub(super) fn record(&mut self, record: &WireRecord) {
        let ns = record.header.end_ns;
        if Self::has(record) && self.over.is_none_or(|over| ns <= over) {
            self.over = None;
            self.last = Some(self.last.map_or(ns, |last| last.max(ns)));
        }
    }

    /// Takes in a time up to which the recorder has taken all records. Where there are many, that may be one before the
    /// inventory, of which it has not taken all.
    pub(super) fn tick(&mut self, ns: u64) {
        if !self.is_over() && ns > self.began && self.last.is_none_or(|last_ns| ns >= last_ns) {
            self.over = Some(ns);
        }
    }

    /// Returns true if all devices had been looked at, as far as was read.
    pub(super) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Returns the reason why a device may have been there at a moment without being known. `is_over`: the recording's
    /// end was read.
    pub(super) fn unknown(&self, at_ns: u64, is_over: bool, read: ReadExtent) -> Option<String> {
        if let Some(last_ns) = self.last.filter(|last_ns| at_ns < *last_ns) {
            let after = last_ns.saturating_sub(self.began).div_ceil(1_000_000);
            return Some(format!(
                "which devices there were is not known before all had been looked at, {}.{:03} s after the recording began",
                after / 1_000,
                after % 1_000
            ));
        }
        let why = match read {
            ReadExtent::Part => "not all of the recording could be read: devices may be missing",
            ReadExtent::Lost => {
                "records of devices were lost when the recording was made: devices may be missing"
            },
            ReadExtent::All if self.last.is_none() && !self.is_over() && !is_over => {
                "the recording ends before all devices had been looked at: devices may be missing"
            },
            ReadExtent::All => return None,
        };
        Some(why.to_owned())
    }
}
