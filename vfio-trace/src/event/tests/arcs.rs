//! Tests of the beginnings and ends of arcs.

use super::{brief, briefs};
use crate::event::{EventAssembler, HOLD_NS, VfioEvent, fixture::*};

fn script() -> RecordScript {
    RecordScript::new(0xd1).device(BDF, "hisi_acc_vfio_pci", 5)
}

#[test]
fn a_request_with_two_arcs() {
    let events = script().set(&[RUNNING, STOP, STOP_COPY], 0xf1, 31).events();
    assert_eq!(
        briefs(&events),
        [
            "RUNNING>STOP for STOP_COPY 101µs ok",
            "STOP>STOP_COPY for STOP_COPY 101µs ok",
            "set STOP_COPY via Ioctl 2 arcs fd 31 session 1 208µs ok driver ok",
        ]
    );
    let [_, first, second, request] = &events[..] else { panic!("{events:#?}") };
    assert!(first.start_ns > request.start_ns && first.end_ns < second.start_ns);
    assert!(second.end_ns < request.end_ns);
    assert_eq!(first.device_name(), Some(BDF));
}

#[test]
fn arcs_come_out_when_they_end() {
    let mut assembler = EventAssembler::new();
    let counts: Vec<usize> = script()
        .set(&[RUNNING, STOP, STOP_COPY], 0, 31)
        .records()
        .iter()
        .map(|record| assembler.push(record).len())
        .collect();
    // Device, NextState (begins), NextState (ends the first), SetState (ends the second), Ioctl.
    assert_eq!(counts, [1, 0, 1, 1, 1]);
}

#[test]
fn refused() {
    let start = script().now;
    let script = script()
        .next(STOP_COPY, PRE_COPY, 0, -22)
        .set_state(start, PRE_COPY, -22, 0)
        .set_ioctl(start, PRE_COPY, -22, -1);
    assert_eq!(
        briefs(&script.events()),
        [
            "STOP_COPY>- for PRE_COPY ? refused EINVAL",
            "set PRE_COPY via Ioctl 0 arcs 4µs refused EINVAL driver refused",
        ]
    );
    assert_eq!(
        briefs(
            &RecordScript::new(1)
                .next(STOP_COPY, PRE_COPY, 0, -22)
                .set_ioctl(start, PRE_COPY, -22, -1)
                .events()
        ),
        [
            "STOP_COPY>- for PRE_COPY ? refused EINVAL",
            "set PRE_COPY via Ioctl 0 arcs 1µs refused EINVAL driver unseen",
        ]
    );
}

#[test]
fn failed_in_the_middle() {
    let start = script().now;
    let script = script()
        .walk(&[RUNNING, RUNNING_P2P, STOP], -110, 0)
        .set_ioctl(start, STOP, -110, -1)
        .wait(5_000)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    assert_eq!(
        briefs(&script.events()),
        [
            "RUNNING>RUNNING_P2P for STOP 101µs ok",
            "RUNNING_P2P>STOP for STOP 101µs ETIMEDOUT",
            "set STOP via Ioctl 2 arcs 207µs ETIMEDOUT driver failed",
            "RUNNING_P2P>RUNNING for RUNNING 101µs ok",
            "set RUNNING via Ioctl 1 arcs 106µs ok driver ok",
        ]
    );
}

#[test]
fn the_ioctl_ends_the_arc_if_the_drivers_return_is_lost() {
    let start = script().now;
    let lost = script().walk(&[RUNNING, STOP, STOP_COPY], 0, 0xf1).lose();
    assert_eq!(
        briefs(&lost.clone().set_ioctl(start, STOP_COPY, 0, 31).events()),
        [
            "RUNNING>STOP for STOP_COPY 101µs ok",
            "STOP>STOP_COPY for STOP_COPY 104µs ok",
            "set STOP_COPY via Ioctl 2 arcs fd 31 207µs ok driver unseen",
        ]
    );
    assert_eq!(brief(&lost.clone().set_ioctl(start, STOP_COPY, -110, -1).events()[2]), {
        "STOP>STOP_COPY for STOP_COPY 104µs ETIMEDOUT"
    });
    // An error that may have come after the driver was through says nothing about the arc.
    assert_eq!(brief(&lost.clone().set_ioctl(start, STOP_COPY, -24, -1).events()[2]), {
        "STOP>STOP_COPY for STOP_COPY ? unknown"
    });
    assert_eq!(
        briefs(&lost.read(0xf1, 64, 64, 0).events())[1..],
        ["STOP>STOP_COPY for STOP_COPY ? unknown", "read ok"],
        "neither came: the thread does something else"
    );
}

#[test]
fn a_lost_next_state_leaves_an_end_unknown() {
    let first = script().next(RUNNING, STOP_COPY, RUNNING_P2P, 0).wait(100_000);
    let start = script().now;
    // RUNNING_P2P → STOP is lost.
    let last = first.clone().wait(100_000).next(STOP, STOP_COPY, STOP_COPY, 0).wait(100_000);
    assert_eq!(
        briefs(&last.set_state(start, STOP_COPY, 0, 0).events()),
        [
            "RUNNING>RUNNING_P2P for STOP_COPY ? unknown",
            "STOP>STOP_COPY for STOP_COPY 101µs ok",
            "set STOP_COPY via Driver 2 arcs 303µs ok driver ok",
        ]
    );
    // All that follow are lost: the request worked, so did its arcs, at unknown times.
    assert_eq!(
        briefs(&first.set_state(start, STOP_COPY, 0, 0).events()),
        ["RUNNING>RUNNING_P2P for STOP_COPY ? ok", "set STOP_COPY via Driver 1 arcs 101µs ok driver ok",]
    );
}

#[test]
fn a_request_never_ends_another_ones_arc() {
    // Both returns of the first request are lost; the next one comes 30 s later.
    let script = script().walk(&[RUNNING, PRE_COPY], 0, 0).lose().wait(30_000_000_000).set(
        &[PRE_COPY, PRE_COPY_P2P],
        0,
        -1,
    );
    assert_eq!(
        briefs(&script.events()),
        [
            "RUNNING>PRE_COPY for PRE_COPY ? unknown",
            "PRE_COPY>PRE_COPY_P2P for PRE_COPY_P2P 101µs ok",
            "set PRE_COPY_P2P via Ioctl 1 arcs 106µs ok driver ok",
        ]
    );
    // The same when only the driver's return of the second request comes.
    let script = RecordScript::new(1).next(RUNNING, STOP, STOP, 0).wait(1_000_000_000);
    let start = script.now;
    assert_eq!(
        briefs(&script.wait(500).set_state(start, STOP, 0, 0).events()),
        ["RUNNING>STOP for STOP ? unknown", "set STOP via Driver 0 arcs 0µs ok driver ok"]
    );
}

#[test]
fn threads_and_devices_interleave() {
    let mut records =
        RecordScript::new(0xd1).thread(412, 1).set(&[RUNNING, RUNNING_P2P, STOP], 0, -1).records();
    records
        .extend(RecordScript::new(0xd2).thread(412, 2).set(&[RUNNING, RUNNING_P2P, STOP], 0, -1).records());
    records.sort_by_key(|record| record.header.end_ns);
    let events = assemble(&records);
    for tid in [1, 2] {
        let own: Vec<VfioEvent> = events.iter().filter(|event| event.process.tid == tid).cloned().collect();
        assert_eq!(
            briefs(&own),
            [
                "RUNNING>RUNNING_P2P for STOP 101µs ok",
                "RUNNING_P2P>STOP for STOP 101µs ok",
                "set STOP via Ioctl 2 arcs 208µs ok driver ok",
            ]
        );
    }
}

#[test]
fn another_threads_arc_does_not_end_this_one_at_once() {
    // Thread 2 gets the driver's lock before thread 1 has returned.
    let one = RecordScript::new(0xd1).thread(412, 1);
    let start = one.now;
    let one = one.next(RUNNING, STOP, STOP, 0).wait(100_000).thread(412, 2).next(STOP, RUNNING, RUNNING, 0);
    let returned = one.clone().thread(412, 1).set_state(start, STOP, 0, 0);
    assert_eq!(brief(&returned.events()[0]), "RUNNING>STOP for STOP 102µs ok");

    let mut assembler = EventAssembler::new();
    for record in one.records() {
        assert!(assembler.push(&record).is_empty());
    }
    assert!(assembler.expire(one.now).is_empty());
    let late = assembler.expire(one.now + HOLD_NS);
    assert_eq!(briefs(&late), ["RUNNING>STOP for STOP ? unknown"]);
    assert_eq!(briefs(&assembler.finish()), ["STOP>RUNNING for RUNNING ? unknown"]);
}

#[test]
fn a_device_that_replaces_another_ends_its_arcs() {
    let script = RecordScript::new(0xd1)
        .device("a", "mtty", 7)
        .thread(412, 1)
        .next(RUNNING, STOP, STOP, 0)
        .thread(412, 2)
        .device("b", "mtty", 7)
        .open(1);
    let events = script.events();
    let names: Vec<Option<&str>> = events.iter().map(VfioEvent::device_name).collect();
    assert_eq!(names, [Some("a"), Some("a"), Some("b"), Some("b")]);
    assert_eq!(brief(&events[1]), "RUNNING>STOP for STOP ? unknown");
    let numbers: Vec<u32> = events.iter().filter_map(|event| Some(event.device.as_ref()?.nr)).collect();
    assert_eq!(numbers, [1, 1, 2, 2]);
}

#[test]
fn devices_are_reported_once_and_when_they_change() {
    let script = RecordScript::new(0xd1).open(1).device(BDF, "a", 7).open(1).device(BDF, "a", 7).open(2);
    let events = script.device(BDF, "a", 3).on(0).open(1).events();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind().name()).collect();
    assert_eq!(kinds, ["open", "device", "open", "open", "device", "open"]);
    let names: Vec<Option<&str>> = events.iter().map(VfioEvent::device_name).collect();
    assert_eq!(names, [None, Some(BDF), Some(BDF), Some(BDF), Some(BDF), None]);
    assert_eq!(events[0].device.as_ref().map(|device| device.nr), Some(1));
    assert_eq!(events[2].device.as_ref().map(|device| device.nr), Some(2));
    assert_eq!(events[5].device, None);
}
