//! Properties that hold for any records, and for a migration with any of its records lost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::event::{
    ArcStep, CallOutcome, EventData, MigState, RecordBody, VfioEvent, WireRecord, event_line, fixture::*,
};

fn arcs(events: &[VfioEvent]) -> impl Iterator<Item = (&VfioEvent, &ArcStep)> {
    events
        .iter()
        .filter_map(|event| if let EventData::Arc(arc) = &event.data { Some((event, arc)) } else { None })
}

/// Returns the records of a source and a destination on one host at the same time.
fn migration() -> Vec<WireRecord> {
    let mut records = [source().records(), destination().records()].concat();
    records.sort_by_key(|record| record.header.end_ns);
    records
}

fn requests(events: &[VfioEvent]) -> usize {
    events.iter().filter(|event| matches!(event.data, EventData::SetState(_))).count()
}

proptest! {
    #[test]
    fn any_records(records in proptest::collection::vec(any_record(), 0..60)) {
        let events = assemble(&records);
        prop_assert_eq!(&events, &assemble(&records), "the same records give the same events");

        let told: BTreeSet<(u32, u32, Option<u32>)> = records
            .iter()
            .filter_map(|record| match record.body {
                RecordBody::NextState(body) => {
                    Some((body.current, body.target, (body.ret >= 0).then_some(body.next)))
                },
                _ => None,
            })
            .collect();
        for (event, arc) in arcs(&events) {
            prop_assert!(told.contains(&(arc.from.0, arc.target.0, arc.to.map(|MigState(to)| to))), "{:?}", arc);
            prop_assert_eq!(arc.to.is_none(), matches!(arc.outcome, CallOutcome::Refused(_)));
            prop_assert!(event.duration_ns.is_none() || event.end_ns >= event.start_ns);
        }
        let begun = records.iter().filter(|record| match record.body {
            RecordBody::NextState(body) => body.ret < 0 || body.current != body.next,
            _ => false,
        });
        prop_assert_eq!(arcs(&events).count(), begun.count(), "every arc is reported, and once");
        for event in &events {
            prop_assert!(event_line(event, &ANCHOR).is_ok());
        }
    }

    #[test]
    fn a_migration_with_losses(lost in proptest::collection::vec(any::<bool>(), 64), share in 0..4usize) {
        let all = migration();
        let kept: Vec<WireRecord> = all
            .iter()
            .zip(lost.iter().cycle().enumerate())
            .filter(|(_, (at, lost))| !(**lost && at % 4 <= share))
            .map(|(record, _)| record.clone())
            .collect();
        let whole = assemble(&all);
        let truth: BTreeMap<u64, &VfioEvent> = arcs(&whole).map(|(event, _)| (event.start_ns, event)).collect();
        let returns: BTreeSet<u64> = all
            .iter()
            .filter(|record| matches!(record.body, RecordBody::Ioctl(_)))
            .map(|record| record.header.end_ns)
            .collect();
        let events = assemble(&kept);
        for (event, arc) in arcs(&events) {
            let real = truth.get(&event.start_ns).copied();
            prop_assert!(real.is_some(), "an arc that never began");
            let Some(VfioEvent { data: EventData::Arc(real_arc), end_ns, .. }) = real else { continue };
            prop_assert_eq!((arc.from, arc.to, arc.target), (real_arc.from, real_arc.to, real_arc.target));
            prop_assert!(matches!(arc.outcome, CallOutcome::Ok | CallOutcome::Unknown), "nothing failed");
            // An end that is given is the real one, or the return of the ioctl around it.
            if event.duration_ns.is_some() {
                prop_assert!(event.end_ns == *end_ns || returns.contains(&event.end_ns));
            }
        }
        prop_assert!(requests(&events) <= requests(&whole), "no request is reported twice");
        let moved = |events: &[VfioEvent]| -> u64 {
            events.iter().map(|event| match &event.data {
                EventData::Read(io) | EventData::Write(io) => io.bytes.unwrap_or(0),
                _ => 0,
            }).sum()
        };
        prop_assert!(moved(&events) <= moved(&whole));
    }
}
