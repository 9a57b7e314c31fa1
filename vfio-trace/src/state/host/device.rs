//! One device as it is at present, besides what the model adds up: is it there, how often is it open, is its state certain.

use crate::{
    event::{EventData, MigState, VfioEvent},
    state::DeviceReport,
};

/// A device as it is known to be.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// What views are made from.
    pub report: DeviceReport,
    /// It is bound to a driver of vfio.
    pub present: bool,
    /// How often it is open.
    pub open_count: Option<u32>,
    /// When something was heard of it last, CLOCK_MONOTONIC.
    pub changed_ns: u64,
}

/// What there is of a device besides the model.
#[derive(Debug)]
pub(super) struct TrackedDevice {
    /// Its number among all devices, in order of first sight.
    pub(super) number: u64,
    pub(super) present: bool,
    /// Since when it is not; 0 while it is.
    pub(super) gone_ns: u64,
    /// It was about to be taken from vfio, and has not come again since.
    pub(super) leaving: bool,
    /// Its state as read from the driver's memory, if nothing that concerns it has come since.
    reading: Option<MigState>,
    /// Nobody is left who has it open, and no look at it came since: its driver may have done anything.
    state_uncertain: bool,
    /// How often it is open.
    pub(super) open_count: Option<u32>,
    pub(super) changed_ns: u64,
}

impl TrackedDevice {
    /// Makes one that has just been seen for the first time.
    pub(super) const fn new(number: u64, now_ns: u64) -> Self {
        Self {
            number,
            present: true,
            gone_ns: 0,
            leaving: false,
            reading: None,
            state_uncertain: false,
            open_count: None,
            changed_ns: now_ns,
        }
    }

    /// Takes in an event of the device. Gives whether the device has come or gone with it, if it has.
    pub(super) fn apply(&mut self, event: &VfioEvent) -> Option<bool> {
        let certainty = event.data.state_effect().certainty();
        if certainty.is_some() {
            self.reading = None;
        }
        self.state_uncertain = match (&event.data, certainty) {
            (EventData::Close(close), _) => close.may_be_last(),
            // vfio-pci resets a function at its last close in a way that the driver is not told of.
            (EventData::PciReset(_), _) => self.state_uncertain || self.open_count == Some(0),
            (_, Some(true)) => false,
            (_, None | Some(false)) => self.state_uncertain,
        };
        self.open_count = event.data.opens().after(self.open_count);
        self.changed_ns = self.changed_ns.max(event.end_ns);
        let present = event.data.presence()?;
        self.leaving = !present;
        (present != self.present).then_some(present)
    }

    /// Takes in what the inventory has read from the driver's memory; `None`: it could not be read. `before`: the state that
    /// was known.
    pub(super) fn read(
        &mut self,
        reading: Option<MigState>,
        open_count: Option<u32>,
        before: Option<MigState>,
        now_ns: u64,
    ) {
        self.reading = reading;
        self.state_uncertain &= reading.is_none();
        self.open_count = open_count.or(self.open_count);
        if reading.is_some() && reading != before {
            self.changed_ns = self.changed_ns.max(now_ns);
        }
    }

    /// Notes that it is there, or not, from now on.
    pub(super) fn set_present(&mut self, present: bool, now_ns: u64) {
        (self.present, self.gone_ns) = (present, if present { 0 } else { now_ns });
        self.changed_ns = self.changed_ns.max(now_ns);
    }

    /// Mends what the model says of the device by what is known besides.
    pub(super) fn correct(&self, report: &mut DeviceReport) {
        report.state = self.reading.or_else(|| report.state.filter(|_| !self.state_uncertain));
        // A look may have found that those who had it open are gone.
        if self.open_count == Some(0) {
            report.holders.clear();
        }
    }
}
