//! The one way from raw records to events: decoded records go through the assembler and drivers' plug-ins, others are
//! counted.

mod consumer;
#[cfg(test)]
mod tests;

pub use self::consumer::EventConsumer;
use crate::{
    driver::PluginDispatcher,
    event::{DecodeError, EventAssembler, EventData, GapTotals, GapTracker, VfioEvent, WireRecord},
};

/// One stream of records on its way to events. Every part that shows, keeps or judges events has one for each host, and
/// gives it the host's records and the time in their order, live or from a recording; each call passes the events that
/// it completes, in order, to an [`EventConsumer`]. Pure: times are CLOCK_MONOTONIC in ns, and come from the caller.
#[derive(Debug, Default)]
pub struct Pipeline {
    assembler: EventAssembler,
    drivers: PluginDispatcher,
    /// Gaps so far; `None`: none has come.
    gaps: Option<GapTracker>,
    undecoded: u64,
}

impl Pipeline {
    /// Makes a pipeline that has seen nothing. `reveal`: show the secret members of images.
    pub fn new(reveal: bool) -> Self {
        Self { drivers: PluginDispatcher::new(reveal), ..Self::default() }
    }

    /// Takes in the next record as [`WireRecord::decode`] gives it. One that cannot be decoded is counted, and changes
    /// nothing else: records do not depend on each other.
    ///
    /// # Errors
    ///
    /// The consumer's own; the rest of what the record has completed is lost then. The same goes for [`Self::tick`] and
    /// [`Self::finish`].
    pub fn push<C: EventConsumer>(
        &mut self,
        record: Result<&WireRecord, DecodeError>,
        consumer: &mut C,
    ) -> Result<(), C::Error> {
        let Ok(record) = record else {
            self.undecoded += 1;
            return Ok(());
        };
        let events = self.assembler.push(record);
        self.hand_on(events, consumer)
    }

    /// Advances the clock when there are no records. All records up to then must have been pushed: see
    /// [`EventAssembler::expire`].
    pub fn tick<C: EventConsumer>(&mut self, now_ns: u64, consumer: &mut C) -> Result<(), C::Error> {
        let events = self.assembler.expire(now_ns);
        self.hand_on(events, consumer)
    }

    /// Ends the stream: passes on the events still in flight.
    pub fn finish<C: EventConsumer>(&mut self, consumer: &mut C) -> Result<(), C::Error> {
        let events = self.assembler.finish();
        self.hand_on(events, consumer)
    }

    fn hand_on<C: EventConsumer>(
        &mut self,
        events: Vec<VfioEvent>,
        consumer: &mut C,
    ) -> Result<(), C::Error> {
        for event in self.drivers.apply(events) {
            if let EventData::ProbeGap(gap) = &event.data {
                self.gaps.get_or_insert_default().add(gap);
            }
            consumer.event(event)?;
        }
        Ok(())
    }

    /// Returns the number of records that could not be decoded.
    pub const fn undecoded(&self) -> u64 {
        self.undecoded
    }

    /// Returns the number of devices, sessions, threads and notes that were forgotten because there were more than any
    /// host has: see [`EventAssembler::forgotten`].
    pub fn forgotten(&self) -> u64 {
        self.forgotten_with(0)
    }

    /// Returns the same for a consumer that has forgotten `devices` devices itself: each counts once, even if forgotten
    /// in several places.
    pub fn forgotten_with(&self, devices: u64) -> u64 {
        self.assembler.forgotten(self.drivers.forgotten().max(devices))
    }

    /// Returns the totals of the gaps if the run ends at `end_ns`; `None` if there was no gap.
    pub fn gap_totals(&self, end_ns: u64) -> Option<GapTotals> {
        self.gaps.as_ref().map(|gaps| gaps.totals(end_ns))
    }

    /// Returns drivers' plug-ins with their knowledge of devices, for views.
    pub const fn drivers(&self) -> &PluginDispatcher {
        &self.drivers
    }

    /// Returns the plug-ins likewise, once no more records come.
    pub fn into_drivers(self) -> PluginDispatcher {
        self.drivers
    }
}
