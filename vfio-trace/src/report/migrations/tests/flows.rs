//! Tests of migrations that succeed, with the figures of their downtime.

use super::*;
use crate::report::document::{PairingReason, PartName, SessionEnd};

#[test]
fn with_p2p_and_pre_copy() {
    let document = traced(&[whole_source(), whole_destination()]);
    check(&document);
    let device = one_device(&document);
    assert_eq!(device.verdict, MigrationVerdict::Completed);
    assert_eq!(device.paired_by, Some(PairingReason::StreamBytes));
    assert_eq!(
        (device.stream.read_bytes, device.stream.written_bytes),
        (Some(24 + (1 << 20)), Some(24 + (1 << 20)))
    );
    let downtime = downtime(&document);
    // From the arc at 100 ms to the end of the arc at 150 ms.
    assert_eq!(downtime.total_ns, 50 * MS + ARC);
    assert_eq!((downtime.bound, &downtime.why), (DowntimeBound::Exact, &None));
    assert_eq!(
        shares(downtime),
        [
            (DowntimeStage::Stop, ARC),
            (DowntimeStage::Save, ARC),
            // The read of PRE_COPY does not count; the one that gives 0 bytes does.
            (DowntimeStage::Read, 2 * READ),
            (DowntimeStage::Write, WRITE),
            (DowntimeStage::Load, ARC),
            (DowntimeStage::Start, 2 * ARC),
        ]
    );
    let busy = 5 * ARC + 2 * READ + WRITE;
    assert_eq!(downtime.stage(DowntimeStage::Gap).unwrap().share_ns, 50 * MS + ARC - busy);
    assert_eq!(device.downtime.as_ref(), Some(downtime));
    assert_eq!(codes(one(&document)), [""; 0]);
    let ends: Vec<SessionEnd> = document.sessions.iter().map(|session| session.end).collect();
    assert_eq!(ends, [SessionEnd::Arc, SessionEnd::Eof], "the destination's began first");
    let parts: Vec<_> =
        document.sessions[1].parts.iter().map(|part| (part.part, part.bytes, part.calls)).collect();
    assert_eq!(parts, [(PartName::PreCopy, 24, 1), (PartName::StopCopy, 1 << 20, 2)]);
    assert!(one(&document).text.contains("completed, downtime 50.101 ms"), "{}", one(&document).text);
}

#[test]
fn without_p2p() {
    let source = leaving(5)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(100 * MS)
        .set(&[PRE_COPY, STOP_COPY], 0, -1)
        .until(120 * MS)
        .read(FROM, 1 << 20, 176, 0)
        .read(FROM, 1 << 20, 0, 176)
        .until(200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1);
    let destination = arriving(5)
        .until(5 * MS)
        .set(&[RUNNING, STOP, RESUMING], TO, 40)
        .until(125 * MS)
        .write(TO, 176, 0)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING], 0, -1);
    let document = traced(&[source, destination]);
    check(&document);
    let downtime = downtime(&document);
    // The arc that stops the device is the one that saves.
    assert_eq!(downtime.total_ns, 40 * MS + 2 * ARC + 500);
    assert_eq!(
        shares(downtime),
        [
            (DowntimeStage::Save, ARC),
            (DowntimeStage::Read, 2 * READ),
            (DowntimeStage::Write, WRITE),
            (DowntimeStage::Load, ARC),
            (DowntimeStage::Start, ARC)
        ]
    );
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
}

#[test]
fn without_pre_copy() {
    let source = leaving(3)
        .until(100 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, STOP_COPY], FROM, 31)
        .until(120 * MS)
        .read(FROM, 1 << 20, 4096, 0)
        .read(FROM, 1 << 20, 0, 4096)
        .until(200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1);
    let destination = arriving(3)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(125 * MS)
        .write(TO, 4096, 0)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .until(150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[source, destination]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!(downtime.total_ns, 50 * MS + ARC);
    assert_eq!(shares(downtime)[..2], [(DowntimeStage::Stop, 2 * ARC), (DowntimeStage::Save, ARC)]);
    assert_eq!(downtime.bound, DowntimeBound::Exact);
}

#[test]
fn pre_copy_that_could_have_been() {
    let source = leaving(7)
        .until(100 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, STOP_COPY], FROM, 31)
        .read(FROM, 1 << 20, 96, 0)
        .read(FROM, 1 << 20, 0, 96)
        .set(&[STOP_COPY, STOP], 0, -1);
    assert_eq!(codes(one(&traced(&[source]))), ["no-pre-copy"]);
}

#[test]
fn the_source_alone() {
    let document = traced(&[whole_source()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
    // The downtime ends with the last read: STOP_COPY → STOP is done when the other side runs already.
    assert_eq!(downtime.total_ns, 30 * MS + READ - LEAD);
    assert_eq!(downtime.bound, DowntimeBound::AtLeast);
    assert_eq!(
        shares(downtime),
        [(DowntimeStage::Stop, ARC), (DowntimeStage::Save, ARC), (DowntimeStage::Read, 2 * READ)]
    );
}

#[test]
fn the_destination_alone() {
    let document = traced(&[whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
    assert_eq!((downtime.total_ns, downtime.bound), (10 * MS + ARC, DowntimeBound::AtLeast));
    assert_eq!(shares(downtime), [(DowntimeStage::Load, ARC), (DowntimeStage::Start, 2 * ARC)]);
}

#[test]
fn reads_and_writes_at_the_same_time() {
    // The write begins within the read, and ends after it: time in which both were in progress counts for the read.
    let source = stopped_source().until(120 * MS).read(FROM, 1 << 20, MIB, 24).until(130 * MS);
    let source = source.read(FROM, 1 << 20, 0, 24 + MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let destination = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, 24, 0)
        .until(130 * MS + 5_000)
        .write(TO, MIB, 24)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .until(150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[source, destination]);
    check(&document);
    let downtime = downtime(&document);
    let time = |stage| downtime.stage(stage).map(|time| (time.share_ns, time.busy_ns)).unwrap();
    assert_eq!(time(DowntimeStage::Read), (2 * READ, 2 * READ));
    assert_eq!(time(DowntimeStage::Write), (WRITE - (READ - 5_000), WRITE));
}

#[test]
fn a_write_of_pre_copy_that_ends_in_stop_copy() {
    // The write began before the source had reached STOP_COPY: only the time after that counts.
    let destination = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(110 * MS + LEAD + ARC - 2_000)
        .write(TO, 24, 0)
        .until(125 * MS)
        .write(TO, MIB, 24)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .until(150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[whole_source(), destination]);
    check(&document);
    assert_eq!(downtime(&document).stage(DowntimeStage::Write).unwrap().busy_ns, 2 * WRITE - 2_000);
}

#[test]
fn back_from_p2p_and_there_again() {
    let source = leaving(7)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(20 * MS)
        .read(FROM, 1 << 20, 24, 0)
        .until(50 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(60 * MS)
        .set(&[PRE_COPY_P2P, PRE_COPY], 0, -1)
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(110 * MS)
        .set(&[PRE_COPY_P2P, STOP_COPY], 0, -1)
        .until(120 * MS)
        .read(FROM, 1 << 20, MIB, 24)
        .until(130 * MS)
        .read(FROM, 1 << 20, 0, 24 + MIB)
        .until(200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    // The first stop is over and does not count.
    assert_eq!(downtime(&document).total_ns, 50 * MS + ARC);
    assert_eq!(shares(downtime(&document))[0], (DowntimeStage::Stop, ARC));
}

#[test]
fn threads_of_their_own_for_data() {
    // As with QEMU's multifd: neither reads nor writes come from the thread of the ioctls.
    let source = stopped_source()
        .thread(SOURCE, 500)
        .until(120 * MS)
        .read(FROM, 1 << 20, MIB, 24)
        .thread(SOURCE, 501)
        .until(130 * MS)
        .read(FROM, 1 << 20, 0, 24 + MIB)
        .thread(SOURCE, SOURCE)
        .until(200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1);
    let destination = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, 24, 0)
        .thread(DESTINATION, 900)
        .until(125 * MS)
        .write(TO, MIB, 24)
        .thread(DESTINATION, DESTINATION)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .until(150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[source, destination]);
    check(&document);
    assert_eq!(document.sessions[1].threads, [SOURCE, 500, 501]);
    assert_eq!(document.sessions[0].threads, [DESTINATION, 900]);
    assert_eq!(downtime(&document), downtime(&traced(&[whole_source(), whole_destination()])));
}

#[test]
fn a_stream_that_was_a_file() {
    // All data is written 20 s later.
    let late = 20_000 * MS;
    let destination = arriving(7)
        .until(late)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .write(TO, 24 + MIB, 0)
        .until(late + 10 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .until(late + 20 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[whole_source(), destination]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
    assert_eq!(downtime(&document).total_ns, late + 20 * MS - 100 * MS + ARC);
}

#[test]
fn a_second_look_gives_the_same() {
    let scripts = [whole_source(), whole_destination()];
    let json = |document: &MigrationDocument| serde_json::to_string(document).unwrap();
    assert_eq!(json(&traced(&scripts)), json(&traced(&scripts)));
}

#[test]
fn a_reset_after_it_changes_nothing() {
    let before = traced(&[whole_source(), whole_destination()]);
    let after = traced(&[whole_source().reset(0).close(1), whole_destination().reset(0)]);
    check(&after);
    let facts = |document: &MigrationDocument| {
        let migration = one(document);
        let end = migration.end_ns;
        (migration.verdict, migration.recovered, migration.downtime.clone(), end, codes(migration))
    };
    assert_eq!(facts(&before), facts(&after));
}

#[test]
fn more_calls_than_are_kept() {
    // 20 000 reads with 900 ns and, every tenth time, 5 µs between them.
    let mut source = stopped_source().until(120 * MS);
    let reads = 20_000;
    for read in 0..reads {
        source = source.read(FROM, 64, 64, 24 + read * 64);
        if read % 10 == 9 {
            source = source.wait(5_000);
        }
    }
    let end = source.now;
    let source =
        source.read(FROM, 64, 0, 24 + reads * 64).until(end + 10 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source]);
    check(&document);
    let downtime = downtime(&document);
    // The total is unchanged; the stage took less than its share, and `blurred_ns` says so.
    assert_eq!(downtime.total_ns, end + READ - 100 * MS - LEAD);
    let read = downtime.stage(DowntimeStage::Read).unwrap();
    let real = (reads as u64 + 1) * READ;
    assert!(
        read.blurred_ns > 0 && read.share_ns - read.blurred_ns <= real && read.share_ns >= real,
        "{read:?}"
    );
    assert!(downtime.why.as_ref().is_some_and(|why| !why.contains("kept")), "{:?}", downtime.why);
}

#[test]
fn phases_have_what_their_states_parts_have_however_many_calls_there_are() {
    let mut script = leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).until(20 * MS);
    for nr in 0..5_000 {
        script = script.read(FROM, 4096, 4096, nr * 4096);
    }
    let (at, mut pos) = (script.now.next_multiple_of(MS), 5_000 * 4096);
    let mut script =
        script.until(at).set(&[PRE_COPY, PRE_COPY_P2P], 0, -1).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1);
    for bytes in [1 << 20, 1 << 19, 77] {
        script = script.read(FROM, 1 << 20, bytes, pos);
        pos += bytes;
    }
    let script = script.read(FROM, 1 << 20, 0, pos).wait(MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[script]);
    check(&document);
    let phases = &one_device(&document).source.as_ref().unwrap().phases;
    let bytes =
        |name: &str| phases.iter().filter(|phase| phase.name == name).map(|phase| phase.bytes).sum::<u64>();
    let part =
        |name| document.sessions[0].parts.iter().find(|part| part.part == name).map_or(0, |part| part.bytes);
    assert_eq!((bytes("PRE_COPY"), part(PartName::PreCopy)), (5_000 * 4096, 5_000 * 4096));
    assert_eq!((bytes("STOP_COPY"), part(PartName::StopCopy)), ((3 << 19) + 77, (3 << 19) + 77));
    assert_eq!(phases.iter().map(|phase| phase.bytes).sum::<u64>(), document.sessions[0].bytes);
}
