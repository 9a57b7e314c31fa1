//! A recording gives what the records themselves give; and recordings of old versions stay readable.

use std::{cell::RefCell, fs::File, path::Path, rc::Rc};

use proptest::prelude::*;

use super::*;
use crate::{
    cli::error::INPUT,
    event::fixture::*,
    recording::{BlockItem, EndReason, PartEnd, PartHeader, PartWriter, fixture::header},
    source::recording::RecordingItem,
    units::test_folder::TestFolder,
};

/// Item that a live run hands over: a record, or the time.
#[derive(Clone, Debug)]
pub(in crate::cli) enum GivenItem {
    Record(Vec<u8>),
    Time(u64),
}

pub(in crate::cli) fn any_given() -> impl Strategy<Value = GivenItem> {
    prop_oneof![
        8 => any_record().prop_map(|record| GivenItem::Record(bytes(&record))),
        1 => proptest::collection::vec(any::<u8>(), 0..90).prop_map(GivenItem::Record),
        1 => any::<u32>().prop_map(|ns| GivenItem::Time(ns.into())),
    ]
}

fn ndjson() -> EventArgs {
    EventArgs { format: EventFormat::Ndjson, ..EventArgs::default() }
}

fn end(mono_ns: u64, reason: EndReason) -> PartEnd {
    PartEnd { mono_ns, reason, records: 0, probes: Vec::new() }
}

/// Returns the output of `tail`.
fn live(given: &[GivenItem], args: &EventArgs) -> Vec<u8> {
    let mut out = Vec::new();
    let header = header();
    let mut stream = EventPrinter::new(args, header.start.clock, &mut out, false);
    stream.start(&header.start, header.began_ns).unwrap();
    for given in given {
        match given {
            GivenItem::Record(bytes) => {
                let record = WireRecord::decode(bytes);
                stream.push(record.as_ref().map_err(|error| *error)).unwrap();
            },
            GivenItem::Time(ns) => stream.tick(*ns).unwrap(),
        }
    }
    stream.finish().unwrap();
    stream.account(args, ProbeCounts::Complete(&[]), header.began_ns, Some(9_000_000_000)).unwrap();
    drop(stream);
    out
}

/// Returns the parts of a recording of these items, with so many records each.
pub(in crate::cli) fn record(given: &[GivenItem], part_len: usize) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut header = header();
    let chunks: Vec<&[GivenItem]> =
        if given.is_empty() { vec![&[]] } else { given.chunks(part_len).collect() };
    for (at, chunk) in chunks.iter().enumerate() {
        let mut writer = PartWriter::new(Vec::new(), &header).unwrap();
        if at > 0 {
            // Whoever has read the part before must not take these in again.
            writer.push(&BlockItem::Repeated(bytes(&source().records()[0]).into())).unwrap();
        }
        for given in *chunk {
            let item = match given {
                GivenItem::Record(bytes) => BlockItem::Record(bytes.clone().into()),
                GivenItem::Time(ns) => BlockItem::Tick(*ns),
            };
            writer.push(&item).unwrap();
        }
        let last = at + 1 == chunks.len();
        let reason = if last { EndReason::Signal } else { EndReason::Rotated };
        parts.push(writer.finish(end(9_000_000_000, reason)).unwrap().0);
        header = header.next_part(5, header.clock, Vec::new());
    }
    parts
}

fn replayed(stream: Vec<u8>, args: &EventArgs) -> (Vec<u8>, u8) {
    let mut out = Vec::new();
    let mut recording = RecordingSource::from_stream("test", Box::new(io::Cursor::new(stream))).unwrap();
    let mut stream = EventPrinter::new(args, recording.header().start.clock, &mut out, false);
    let code = replay(&mut recording, &mut stream, args, "test").unwrap();
    drop(stream);
    (out, code)
}

/// Takes away the mark of a replay, the only difference from a live run.
fn without_mark(ndjson: Vec<u8>) -> String {
    String::from_utf8(ndjson).unwrap().replacen("\"replayed_by\":\"test\"", "\"replayed_by\":null", 1)
}

proptest! {
    #[test]
    fn replay_gives_what_live_gave(
        given in proptest::collection::vec(any_given(), 0..60),
        part_len in 1..80usize,
    ) {
        let parts = record(&given, part_len);
        let (out, code) = replayed(parts.concat(), &ndjson());
        prop_assert_eq!(without_mark(out), String::from_utf8(live(&given, &ndjson())).unwrap());
        prop_assert_eq!(code, 0);
        let text = EventArgs { utc: true, quiet: true, ..EventArgs::default() };
        prop_assert_eq!(replayed(parts.concat(), &text).0, live(&given, &text));
    }
}

pub(in crate::cli) fn migration() -> Vec<GivenItem> {
    let mut records = [source().records(), destination().records()].concat();
    records.sort_by_key(|record| record.header.end_ns);
    records.iter().map(|record| GivenItem::Record(bytes(record))).collect()
}

#[test]
fn a_recording_without_its_end_has_no_summary() {
    let whole = record(&migration(), 1000).concat();
    let (out, code) = replayed(whole[..whole.len() - 200].to_vec(), &ndjson());
    assert_eq!(code, INPUT);
    let out = String::from_utf8(out).unwrap();
    assert!(!out.contains("\"kind\":\"summary\""), "{out}");
    assert!(out.starts_with("{\"schema\":\"vfio-trace.event/1\",\"kind\":\"start\""), "{out}");
}

#[test]
fn a_stream_that_is_not_read_to_its_end_has_no_summary_made_up() {
    let whole = record(&migration(), 1000).concat();
    let some = EventArgs { count: Some(2), ..ndjson() };
    let (out, code) = replayed(whole, &some);
    assert_eq!(code, 0);
    let out = String::from_utf8(out).unwrap();
    assert!(out.lines().count() == 3 && !out.contains("\"kind\":\"summary\""), "{out}");
}

#[test]
fn a_missing_part_is_told() {
    let parts = record(&migration(), 10);
    assert!(parts.len() > 3);
    let without = [&parts[0][..], &parts[2], &parts[3]].concat();
    assert_eq!(replayed(without, &ndjson()).1, INPUT);
    // The last ones alone are what --keep leaves.
    let (out, code) = replayed(parts[parts.len() - 1].clone(), &ndjson());
    assert_eq!(code, 0);
    assert!(String::from_utf8(out).unwrap().contains(UUID), "what is repeated tells the device's name");
}

#[test]
fn a_limit_ends_a_file_with_its_summary() {
    let args = EventArgs { count: Some(3), ..ndjson() };
    let folder = TestFolder::new();
    let path = folder.put("limit.vft", &record(&migration(), 1000).concat());
    let mut out = Vec::new();
    let code = show(std::slice::from_ref(&path), &HostArgs::default(), &args, &mut out, false).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!((code, out.lines().count()), (0, 5));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [start, .., shown, summary] = &lines[..] else { panic!("{out}") };
    assert_eq!(summary["kind"], "summary");
    // The recording goes on to 9 s, of which nothing is shown.
    let [began_ns, shown_ns, end_ns] = [start, shown, summary].map(|line| line["mono_ns"].as_u64().unwrap());
    assert!((shown_ns..1_000_000_000).contains(&end_ns), "{out}");
    assert_eq!(summary["data"]["duration_ns"], end_ns - began_ns, "{out}");
}

/// A pipe that has one block at a time.
struct SlowPipe {
    blocks: Vec<Vec<u8>>,
    log: Rc<RefCell<Vec<usize>>>,
}

impl io::Read for SlowPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.log.borrow_mut().push(self.blocks.len());
        if self.blocks.is_empty() {
            return Ok(0);
        }
        let block = self.blocks.remove(0);
        buffer[..block.len()].copy_from_slice(&block);
        Ok(block.len())
    }
}

#[test]
fn events_come_out_as_blocks_come_in() {
    let mut blocks = Vec::new();
    let mut written = 0;
    let mut writer = PartWriter::new(Vec::new(), &header()).unwrap();
    for given in migration() {
        let GivenItem::Record(bytes) = given else { continue };
        writer.push(&BlockItem::Record(bytes.into())).unwrap();
        writer.flush().unwrap();
        blocks.push(usize::try_from(writer.written()).unwrap());
    }
    let all = writer.finish(end(9, EndReason::Signal)).unwrap().0;
    let cuts: Vec<Vec<u8>> =
        blocks.iter().map(|to| all[std::mem::replace(&mut written, *to)..*to].to_vec()).collect();
    let count = cuts.len();
    let log = Rc::new(RefCell::new(Vec::new()));
    let slow = SlowPipe { blocks: cuts, log: Rc::clone(&log) };
    let mut recording = RecordingSource::from_stream("test", Box::new(slow)).unwrap();
    assert!(
        matches!(recording.next(), Ok(Some(RecordingItem::Clock(_)))),
        "the clocks of the part's beginning"
    );
    for read in 1..=count {
        assert!(matches!(recording.next(), Ok(Some(RecordingItem::Record(_)))));
        assert!(recording.is_waiting());
        assert_eq!(log.borrow().len(), read, "it has read ahead");
    }
}

/// Replays recordings of real runs (testdata/README.md) and compares the ndjson with golden files.
#[test]
fn recordings_of_all_versions_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/replay/testdata");
    let files =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = files.filter_map(|name| name.strip_suffix(".vft").map(str::to_owned)).collect();
    assert!(names.contains(&"mtty-6.12-format-1".to_owned()));
    for name in names {
        let mut recording = Vec::new();
        io::Read::read_to_end(&mut File::open(root.join(format!("{name}.vft"))).unwrap(), &mut recording)
            .unwrap();
        let (out, code) = replayed(recording, &ndjson());
        assert_eq!(code, 0);
        let golden = root.join(format!("{name}.ndjson"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &out).unwrap();
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(String::from_utf8(out).unwrap() == want, "{name}: not what {} has", golden.display());
    }
}

/// Replays a recording without gap counts: no gap among its records does not mean that there was none.
#[test]
fn gaps_of_a_recording_that_does_not_tell_them_are_not_known() {
    let last = |gaps_told| {
        let writer = PartWriter::new(Vec::new(), &PartHeader { gaps_told, ..header() }).unwrap();
        let stream = writer.finish(end(9, EndReason::Signal)).unwrap().0;
        let out = String::from_utf8(replayed(stream, &ndjson()).0).unwrap();
        out.lines().last().unwrap().to_owned()
    };
    assert!(last(true).contains(r#""probe_gaps":0,"#), "{}", last(true));
    assert!(!last(false).contains("probe_gaps"), "{}", last(false));
}

/// Recorders up to 0.1.0 wrote the time of their clock although records were still to come.
#[test]
fn old_ticks_that_came_too_early_do_not_take_requests_apart() {
    let mut script = RecordScript::new(0xd1);
    let mut given = Vec::new();
    for _ in 0..10 {
        let from = script.records().len();
        script = script.get_state(RUNNING);
        given.extend(script.records()[from..].iter().map(|record| GivenItem::Record(bytes(record))));
    }
    let late = script.now + 3_000_000_000;
    // Between a driver's call and the ioctl around it.
    given.insert(given.len() / 2, GivenItem::Time(late));
    given.insert(1, GivenItem::Time(late));
    let stream = |settled_ticks| {
        let mut writer = PartWriter::new(Vec::new(), &PartHeader { settled_ticks, ..header() }).unwrap();
        for given in &given {
            let item = match given {
                GivenItem::Record(bytes) => BlockItem::Record(bytes.clone().into()),
                GivenItem::Time(ns) => BlockItem::Tick(*ns),
            };
            writer.push(&item).unwrap();
        }
        writer.finish(end(late, EndReason::Signal)).unwrap().0
    };
    let by_driver = |settled| {
        let out = String::from_utf8(replayed(stream(settled), &ndjson()).0).unwrap();
        assert_eq!(out.matches("\"kind\":\"get_state\"").count(), 10, "{out}");
        out.matches("\"via\":\"driver\"").count()
    };
    assert_eq!((by_driver(false), by_driver(true)), (0, 10));
}

/// Makes a recording of two opens, and of the clocks between them, with boot time `slept_ns` ahead.
fn stepped(by_ns: u64, slept_ns: u64) -> Vec<u8> {
    let mut writer = PartWriter::new(Vec::new(), &header()).unwrap();
    let records = RecordScript::new(0xd1).open(1).wait(9_000_000_000).close(0).records();
    let [one, two] = [0, records.len() - 1].map(|at| BlockItem::Record(bytes(&records[at]).into()));
    let mono_ns = 5_000_000_000;
    let sample = ClockSample {
        mono_ns,
        boot_ns: mono_ns + slept_ns,
        real_ns: ANCHOR.real_ns + mono_ns + by_ns,
        ..ClockSample::default()
    };
    for item in [one, BlockItem::Clock(sample), two] {
        writer.push(&item).unwrap();
    }
    writer.finish(end(20_000_000_000, EndReason::Signal)).unwrap().0
}

/// Returns hour, minute and second of each line's wall time.
fn hours(stream: Vec<u8>) -> Vec<String> {
    let out = String::from_utf8(replayed(stream, &ndjson()).0).unwrap();
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["time"].as_str().unwrap()[11..19].to_owned()).collect()
}

#[test]
fn times_stay_right_after_a_step_and_after_a_sleep() {
    let hour = 3_600_000_000_000;
    assert_eq!(hours(stepped(0, 0)), ["15:40:20", "15:40:20", "15:40:29", "15:40:40"]);
    assert_eq!(hours(stepped(900_000, 0)), hours(stepped(0, 0)), "that is no step");
    let after = ["15:40:20", "15:40:20", "16:40:29", "16:40:40"];
    assert_eq!(hours(stepped(hour, 0)), after, "the clock was put forward");
    assert_eq!(hours(stepped(hour, hour)), after, "the host slept");
}
