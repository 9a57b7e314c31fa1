//! The pipeline gives the same events as assembler and plug-ins one after the other, and counts records that it cannot
//! decode.

use std::{fs::File, path::Path};

use bytes::Bytes;

use super::*;
use crate::{
    event::{GapCause, GapFunction, ProbeGap, RecordNote, fixture},
    recording::{BlockItem, ReaderEntry, RecordingReader},
};

/// Recordings of real runs.
const RECORDINGS: [&str; 3] = [
    "cli/testdata/two-hosts-src.vft",
    "cli/testdata/two-hosts-dst.vft",
    "cli/replay/testdata/mtty-6.12-format-1.vft",
];

/// Item of a stream: a record, or the time.
#[derive(Clone, Debug)]
enum StreamItem {
    Record(Bytes),
    Time(u64),
}

fn recorded(name: &str) -> Vec<StreamItem> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    let mut reader = RecordingReader::open(File::open(path).unwrap()).unwrap();
    let mut items = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            ReaderEntry::Item(BlockItem::Record(bytes)) => items.push(StreamItem::Record(bytes)),
            ReaderEntry::Item(BlockItem::Tick(ns)) => items.push(StreamItem::Time(ns)),
            _ => {},
        }
    }
    items
}

fn piped(items: &[StreamItem]) -> (Vec<VfioEvent>, Pipeline) {
    let (mut pipeline, mut events) = (Pipeline::new(true), Vec::new());
    for item in items {
        let Ok(()) = match item {
            StreamItem::Record(bytes) => {
                let record = WireRecord::decode(bytes);
                pipeline.push(record.as_ref().map_err(|error| *error), &mut events)
            },
            StreamItem::Time(ns) => pipeline.tick(*ns, &mut events),
        };
    }
    let Ok(()) = pipeline.finish(&mut events);
    (events, pipeline)
}

/// Returns the same events, without a pipeline.
fn by_hand(items: &[StreamItem]) -> Vec<VfioEvent> {
    let (mut assembler, mut drivers) = (EventAssembler::new(), PluginDispatcher::new(true));
    let mut events = Vec::new();
    for item in items {
        events.extend(match item {
            StreamItem::Record(bytes) => match WireRecord::decode(bytes) {
                Ok(record) => assembler.push(&record),
                Err(_) => Vec::new(),
            },
            StreamItem::Time(ns) => assembler.expire(*ns),
        });
    }
    events.extend(assembler.finish());
    drivers.apply(events)
}

#[test]
fn recordings_give_the_same_events_as_by_hand() {
    for name in RECORDINGS {
        let items = recorded(name);
        let (events, pipeline) = piped(&items);
        assert!(events.len() > 20, "{name}: {}", events.len());
        assert_eq!(events, by_hand(&items), "{name}");
        assert_eq!((pipeline.undecoded(), pipeline.forgotten()), (0, 0), "{name}");
    }
}

#[test]
fn records_that_cannot_be_decoded_are_counted_and_change_nothing_else() {
    let records = fixture::source().records();
    let records = records.iter().map(|record| StreamItem::Record(fixture::bytes(record).into()));
    let whole: Vec<StreamItem> = records.collect();
    let mut damaged = whole.clone();
    for at in [0, 7, whole.len()] {
        damaged.insert(at, StreamItem::Record(Bytes::from_static(&[0xff; 70])));
    }
    let (events, pipeline) = piped(&damaged);
    assert_eq!(pipeline.undecoded(), 3);
    assert_eq!(events, by_hand(&whole));
}

#[test]
fn gaps_are_told_and_added_up() {
    let gap = |from_mono_ns, until_mono_ns| ProbeGap {
        module: Some("mtty".to_owned()),
        functions: vec![GapFunction { function: "f".to_owned(), role: vfio_trace_common::role::Role::Read }],
        from_mono_ns,
        from_exact: true,
        until_mono_ns,
        why: GapCause::Refused,
    };
    let gaps = [gap(100, Some(150)), gap(300, None)];
    let note = |gap: ProbeGap| StreamItem::Record(RecordNote::ProbeGap(gap).record(400).unwrap().into());
    let (events, pipeline) = piped(&gaps.clone().map(note));
    let told = events.into_iter().filter_map(|event| match event.data {
        EventData::ProbeGap(gap) => Some(gap),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), gaps);
    assert_eq!(pipeline.gap_totals(900), Some(GapTotals { gaps: 2, longest_ns: 600, open: 1 }));
    assert_eq!(Pipeline::new(false).gap_totals(900), None);
}

/// A consumer that takes this many events and no more.
struct LimitedTaker(usize);

impl EventConsumer for LimitedTaker {
    type Error = &'static str;

    fn event(&mut self, _event: VfioEvent) -> Result<(), &'static str> {
        self.0 = self.0.checked_sub(1).ok_or("enough")?;
        Ok(())
    }
}

#[test]
fn the_consumers_error_ends_it() {
    let mut pipeline = Pipeline::new(false);
    let mut taker = LimitedTaker(2);
    let records = fixture::source().records();
    let results: Vec<_> = records.iter().map(|record| pipeline.push(Ok(record), &mut taker)).collect();
    assert_eq!((results.first(), results.last()), (Some(&Ok(())), Some(&Err("enough"))));
}
