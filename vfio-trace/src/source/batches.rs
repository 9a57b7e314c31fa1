//! Records taken a limited number at a time, and the time up to which none is left.

use bytes::Bytes;

/// Records taken at a time: a flood must not keep the caller from its other duties.
const BATCH: usize = 4096;

/// Number of times that a ring is looked at again if its next record is still being written, or came just now.
pub(super) const LOOKS: u32 = 8;

/// The next entry of a ring buffer.
#[derive(Debug)]
pub(super) enum RingEntry {
    /// The next record.
    Record(Bytes),
    /// There is a record that cannot be read yet. It may have been begun long ago, and others may be behind it.
    Unfinished,
    /// There is no record.
    Nothing,
}

/// Takes records in batches, and keeps the time up to which all have been taken.
#[derive(Debug)]
pub(super) struct RecordBatches {
    settled_ns: u64,
}

impl RecordBatches {
    /// Starts with no record before `now_ns`.
    pub(super) const fn new(now_ns: u64) -> Self {
        Self { settled_ns: now_ns }
    }

    /// Returns the time up to which all records have been taken.
    pub(super) const fn settled_ns(&self) -> u64 {
        self.settled_ns
    }

    /// Adds the records that there are to `records`, until they are a batch. `now_ns`: read before `next` is first
    /// called; records that are made later may be missed.
    pub(super) fn take(
        &mut self,
        now_ns: u64,
        mut records: Vec<Bytes>,
        mut next: impl FnMut() -> RingEntry,
    ) -> Vec<Bytes> {
        let mut looks = 0;
        while records.len() < BATCH && looks < LOOKS {
            match next() {
                RingEntry::Record(record) => records.push(record),
                RingEntry::Unfinished => looks += 1,
                RingEntry::Nothing => {
                    self.settled_ns = now_ns;
                    break;
                },
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventAssembler, EventData, RequestOrigin, VfioEvent, WireRecord, fixture::*};

    fn found(record: Option<Bytes>) -> RingEntry {
        record.map_or(RingEntry::Nothing, RingEntry::Record)
    }

    /// Returns the events of a backlog whose reader reads the clock, `late_ns` after the last record, after each batch.
    fn read_late(script: &RecordScript, late_ns: u64) -> (Vec<VfioEvent>, usize) {
        let mut ring = script.records().into_iter().map(|record| Bytes::from(bytes(&record)));
        let (mut batches, mut assembler) = (RecordBatches::new(0), EventAssembler::new());
        let (mut events, mut taken) = (Vec::new(), 0);
        loop {
            let records = batches.take(script.now + late_ns, Vec::new(), || found(ring.next()));
            if records.is_empty() {
                return (events, taken);
            }
            taken += 1;
            for record in &records {
                events.extend(assembler.push(&WireRecord::decode(record).unwrap()));
            }
            events.extend(assembler.expire(batches.settled_ns()));
        }
    }

    #[test]
    fn a_backlog_is_joined_however_late_it_is_read() {
        // An odd number of records per round: batches end between a driver's call and the ioctl around it.
        let calls = 5000;
        let mut script = RecordScript::new(0xd1).device(BDF, "mtty", 7);
        for _ in 0..calls {
            script = script.get_state(RUNNING).set(&[RUNNING, STOP], 0, -1).set(&[STOP, RUNNING], 0, -1);
        }
        let (events, batches) = read_late(&script, 3_000_000_000);
        assert!(batches > 5, "{batches}");
        let (mut requests, mut of_drivers) = (0, 0);
        for event in &events {
            let via = match &event.data {
                EventData::SetState(call) => call.via,
                EventData::GetState(call) => call.via,
                _ => continue,
            };
            requests += 1;
            of_drivers += usize::from(via != RequestOrigin::Ioctl);
        }
        assert_eq!((requests, of_drivers), (3 * calls, 0));
        assert_eq!(events, script.events(), "when it was read makes no difference");
    }

    #[test]
    fn what_nobody_claims_is_given_up_once_the_ring_is_empty() {
        let script = RecordScript::new(0xd1).driver_get_state(RUNNING);
        let (events, _) = read_late(&script, 3_000_000_000);
        assert!(
            matches!(&events[..], [VfioEvent { data: EventData::GetState(call), .. }] if call.via == RequestOrigin::Driver)
        );
    }

    #[test]
    fn a_full_batch_says_nothing_of_the_time() {
        let mut batches = RecordBatches::new(5);
        let mut left = BATCH + 1;
        let mut next = || {
            let Some(less) = left.checked_sub(1) else { return RingEntry::Nothing };
            left = less;
            RingEntry::Record(Bytes::new())
        };
        assert_eq!(batches.take(10, Vec::new(), &mut next).len(), BATCH);
        assert_eq!(batches.settled_ns(), 5);
        assert_eq!(batches.take(20, Vec::new(), &mut next).len(), 1);
        assert_eq!(batches.settled_ns(), 20);
    }

    #[test]
    fn a_record_that_is_being_written_holds_the_time_back() {
        let mut batches = RecordBatches::new(5);
        let mut looks = 0;
        let taken = batches.take(10, Vec::new(), || {
            looks += 1;
            RingEntry::Unfinished
        });
        assert_eq!((taken.len(), batches.settled_ns(), looks), (0, 5, LOOKS));
        // It is finished at the second look.
        let mut ring =
            [RingEntry::Unfinished, RingEntry::Record(Bytes::new()), RingEntry::Nothing].into_iter();
        assert_eq!(batches.take(20, Vec::new(), || ring.next().unwrap()).len(), 1);
        assert_eq!(batches.settled_ns(), 20);
    }
}
