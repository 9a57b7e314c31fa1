//! Tests of what is said of a recording, and of how its parts end.

use super::*;
use crate::{
    cli::storing::tests::LatePart, event::GapTotals, recording::fixture::header,
    units::test_folder::TestFolder,
};

fn recorder(full: bool) -> FileRecorder {
    let part: Box<dyn PartOutput> = Box::new(LatePart { full });
    let now = Instant::now();
    FileRecorder {
        output: RecordingOutput::stdout(),
        name: "a.vft".to_owned(),
        writer: PartWriter::new(part, &header()).unwrap(),
        storing: PendingParts::default(),
        header: header(),
        known: PartPreamble::default(),
        part: RecordingLimits::default(),
        part_began: now,
        all: RecordingLimits::default(),
        bytes: 0,
        records: 0,
        undecoded: 0,
        gaps: GapTracker::default(),
        last_record: now,
        sampled: now,
        probes: Vec::new(),
        prompt: false,
        broken: false,
        ending: false,
        notes: LiveNotes::default(),
    }
}

#[test]
fn a_disk_that_tells_late_that_it_is_full_is_heard() {
    let close = |recorder: FileRecorder| recorder.close(5, EndReason::Signal, Vec::new()).err();
    assert!(close(recorder(false)).is_none());
    let told = format!("{:?}", close(recorder(true)).unwrap());
    assert!(told.contains("recording to a.vft has stopped"), "{told}");
    let mut earlier = recorder(false);
    let known = earlier.storing.begin(Box::new(LatePart { full: true }));
    assert!(known.is_err() || close(earlier).is_some(), "a part before the last");
}

#[test]
fn a_part_whose_header_cannot_be_written_does_not_stay() {
    let folder = TestFolder::new();
    // The part before it stays, although only one is to be kept: it is all that there is.
    let mut output = RecordingOutput::create(&folder.path("a.vft"), true, Some(1), false).unwrap();
    assert!(output.open().unwrap());
    let writer = PartWriter::new(output.first().unwrap(), &header()).unwrap();
    assert!(output.keep_first_part().is_empty());
    let mut recorder = FileRecorder { output, writer, ..recorder(false) };
    let mut longer = header().next_part(5, ClockSample::default(), Vec::new());
    longer.start.command.push("x".repeat(2 << 20));
    let told = format!("{:?}", recorder.begin_part(longer).err().unwrap());
    assert!(told.contains("recording to a.vft has stopped"), "{told}");
    assert_eq!((recorder.header.part, recorder.output.parts().count()), (1, 1));
    assert_eq!(folder.names(), ["a.0001.vft"]);
    let next = recorder.header.next_part(5, ClockSample::default(), Vec::new());
    drop(recorder.begin_part(next).unwrap());
    assert_eq!((recorder.header.part, recorder.output.parts().count()), (2, 1));
    assert_eq!(folder.names(), ["a.0002.vft"]);
}

fn closed(probe: ProbeReport, undecoded: u64, gaps: Option<GapTotals>) -> ClosedRecording {
    let summary = TraceSummary { gaps, ..TraceSummary::new(vec![probe], 0, 0, undecoded, 5) };
    ClosedRecording {
        summary,
        duration_ns: 5,
        bytes: 4096,
        records: 17,
        name: "a\x1b[31m.vft".to_owned(),
        parts: 1,
        last_part: 1,
    }
}

fn probe(lost: u64, missed: Option<u64>) -> ProbeReport {
    ProbeReport {
        name: "vfio_pci_open".to_owned(),
        role: vfio_trace_common::role::Role::Open,
        module: None,
        attached: true,
        reason: None,
        hits: 3,
        records: 3,
        lost,
        missed,
        unmatched: 0,
        no_room: 0,
    }
}

#[test]
fn the_account_has_a_line_for_each_probe_and_names_the_file_as_it_may_be_shown() {
    let account = closed(probe(2, Some(0)), 0, None).account(false, true);
    let lines: Vec<&str> = account.lines().collect();
    assert!(lines.len() > 2, "{account}");
    assert!(lines.iter().any(|line| line.contains("vfio_pci_open")), "{account}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("17 records in 5 ns") && last.contains("; 2 lost, 0 missed"), "{account}");
    assert!(last.contains("a\\x1b[31m.vft"), "{account}");
}

#[test]
fn the_last_line_says_that_all_is_there_only_where_it_is() {
    let last = |closed: ClosedRecording| closed.account(false, false).lines().last().unwrap().to_owned();
    let none = Some(GapTotals::default());
    assert!(last(closed(probe(0, Some(0)), 0, none)).ends_with("; 0 lost, 0 missed"));
    let more = |probe: ProbeReport| last(closed(probe, 0, none));
    assert!(more(probe(0, None)).ends_with("; 0 lost, missed: not known"), "not 0");
    assert!(more(ProbeReport { unmatched: 2, ..probe(0, Some(0)) }).ends_with(", 2 unmatched"));
    assert!(more(ProbeReport { no_room: 2, ..probe(0, Some(0)) }).ends_with(", 2 not remembered"));
    assert!(last(closed(probe(0, Some(0)), 2, none)).ends_with(", 2 not understood"));
    let gap = GapTotals { gaps: 2, longest_ns: 7, open: 0 };
    let account = closed(probe(0, Some(0)), 0, Some(gap)).account(false, false);
    assert!(account.ends_with(", 2 gaps in probing") && account.contains("Not all was probed"), "{account}");
}

#[test]
fn a_limit_on_file_sizes_is_told_apart_from_a_full_disk() {
    use rustix::io::Errno;
    for tell in [unbegun, unwritable] {
        let todo = |why: Errno| format!("{:?}", tell("a.vft", &why.into()));
        let (full, limit, other) = (todo(Errno::NOSPC), todo(Errno::FBIG), todo(Errno::IO));
        assert!(full.contains("make room") && !full.contains("ulimit"), "{full}");
        assert!(limit.contains("ulimit -f") && !limit.contains("make room"), "{limit}");
        assert!(!other.contains("ulimit"), "{other}");
    }
}
