//! Present condition of one device besides the model's sums: presence, number of openers, certainty of its state.

use crate::{
    event::{EventData, MigState, VfioEvent},
    state::DeviceReport,
};

/// A device as it is known to be. `HostState::devices()` makes it for views.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// Report from which views are made.
    pub report: DeviceReport,
    /// True if it is bound to a driver of vfio.
    pub present: bool,
    /// Number of openers.
    pub open_count: Option<u32>,
    /// Time of the last event of it, CLOCK_MONOTONIC.
    pub changed_ns: u64,
}

/// Facts about a device that the model does not keep.
#[derive(Debug)]
pub(super) struct TrackedDevice {
    /// Its number among all devices, in order of first sight.
    pub(super) number: u64,
    pub(super) present: bool,
    /// Time at which it went; 0 while it is there.
    pub(super) gone_ns: u64,
    /// True if it was about to be taken from vfio, and has not come again since.
    pub(super) leaving: bool,
    /// Its state as read from the driver's memory, if no event that concerns it has come since.
    reading: Option<MigState>,
    /// True if it has no opener left and was not looked at since: its driver may have done anything.
    state_uncertain: bool,
    /// Number of openers.
    pub(super) open_count: Option<u32>,
    pub(super) changed_ns: u64,
}

impl TrackedDevice {
    /// Makes a device that has just been seen for the first time.
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

    /// Takes in an event of the device. Returns the new presence if the device has come or gone with it.
    pub(super) fn apply(&mut self, event: &VfioEvent) -> Option<bool> {
        let certainty = event.data.state_effect().certainty();
        if certainty.is_some() {
            self.reading = None;
        }
        self.state_uncertain = match (&event.data, certainty) {
            (EventData::Close(close), _) => close.may_be_last(),
            // vfio-pci resets a function at its last close without telling the driver.
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

    /// Takes in the state that the inventory has read from the driver's memory; `None`: it could not be read. `before`:
    /// the state that was known.
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

    /// Sets the presence from now on.
    pub(super) fn set_present(&mut self, present: bool, now_ns: u64) {
        (self.present, self.gone_ns) = (present, if present { 0 } else { now_ns });
        self.changed_ns = self.changed_ns.max(now_ns);
    }

    /// Corrects the model's report by the facts kept here.
    pub(super) fn correct(&self, report: &mut DeviceReport) {
        report.state = self.reading.or_else(|| report.state.filter(|_| !self.state_uncertain));
        // A look may have found that its openers are gone.
        if self.open_count == Some(0) {
            report.holders.clear();
        }
    }
}
