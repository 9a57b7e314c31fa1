//! One event per request of user space, with any of its records.

use vfio_trace_common::uapi;

use super::{brief, briefs};
use crate::{
    event::{
        CallOutcome, DeviceFeature, Errno, EventAssembler, EventData, EventKind, FeatureDetail, FeatureOp,
        GetState, HOLD_NS, IovaRange, MigFlags, MigState, RequestOrigin, fixture::*,
    },
    kernel::ReturnKind,
};

#[test]
fn a_request_for_the_state_it_is_in() {
    let script = RecordScript::new(0xd1).set(&[RUNNING], 0, -1);
    assert_eq!(briefs(&script.events()), ["set RUNNING via Ioctl 0 arcs 5µs ok driver ok"]);
}

#[test]
fn no_free_fd_after_the_driver_succeeded() {
    let script = RecordScript::new(0xd1);
    let start = script.now;
    let script =
        script.walk(&[RUNNING, PRE_COPY], 0, 0xf1).set_ioctl(start, PRE_COPY, -24, -1).release(0xf1, 0);
    let events = script.events();
    assert_eq!(
        briefs(&events),
        [
            "RUNNING>PRE_COPY for PRE_COPY 101µs ok",
            "set PRE_COPY via Ioctl 1 arcs session 1 105µs EMFILE driver ok",
            "data_close",
        ]
    );
    let EventData::SetState(data) = &events[1].data else { panic!("{events:#?}") };
    assert_eq!((data.outcome, data.driver_call), (CallOutcome::Failed(Errno::EMFILE), Some(CallOutcome::Ok)));
    assert_eq!(data.data_fd, None);
}

#[test]
fn a_driver_call_outside_an_ioctl_comes_with_the_threads_next_record() {
    let script = RecordScript::new(0xd1).walk(&[RUNNING, STOP], 0, 0).walk(&[STOP, RUNNING], 0, 0);
    assert_eq!(
        briefs(&script.events()),
        [
            "RUNNING>STOP for STOP 101µs ok",
            "set STOP via Driver 1 arcs 102µs ok driver ok",
            "STOP>RUNNING for RUNNING 101µs ok",
            "set RUNNING via Driver 1 arcs 102µs ok driver ok",
        ]
    );
}

#[test]
fn records_of_other_threads_do_not_release_a_held_call() {
    let script = RecordScript::new(0xd1);
    let start = script.now;
    let script = script
        .walk(&[PRE_COPY, STOP_COPY], 0, 0)
        .thread(412, 419)
        .read(0xf1, 64, 64, 0)
        .thread(412, 412)
        .device(BDF, "mtty", 7)
        .set_ioctl(start, STOP_COPY, 0, -1);
    assert_eq!(
        briefs(&script.events()),
        [
            "PRE_COPY>STOP_COPY for STOP_COPY 101µs ok",
            "read ok",
            "set STOP_COPY via Ioctl 1 arcs 115µs ok driver ok",
        ]
    );
}

#[test]
fn a_held_call_is_given_up_in_time_and_said_once() {
    let script = RecordScript::new(0xd1).walk(&[RUNNING, STOP], 0, 0);
    let mut assembler = EventAssembler::new();
    for record in script.records() {
        assembler.push(&record);
    }
    assert!(assembler.expire(script.now).is_empty());
    let late = assembler.expire(script.now + HOLD_NS);
    assert_eq!(briefs(&late), ["set STOP via Driver 1 arcs 102µs ok driver ok"]);
    // Its ioctl returns after all: nothing new in it, except for an error.
    let after = script.now + HOLD_NS;
    let ioctl = |ret| RecordScript::new(0xd1).wait(after).set_ioctl(0, STOP, ret, -1).records()[0].clone();
    assert!(assembler.push(&ioctl(0)).is_empty());
    let mut assembler = EventAssembler::new();
    for record in script.records() {
        assembler.push(&record);
    }
    let events = assembler.push(&ioctl(-14));
    assert_eq!(
        events.iter().map(|event| brief(event).split_once(" arcs").unwrap().0.to_owned()).collect::<Vec<_>>(),
        ["set STOP via Driver 1", "set STOP via Ioctl 0"]
    );
}

#[test]
fn get_state_and_data_size() {
    let script = RecordScript::new(0xd1).get_state(PRE_COPY).data_size(176).driver_get_state(PRE_COPY);
    let events = script.events();
    assert_eq!(events.len(), 3);
    let get = |state, via| {
        EventData::GetState(GetState {
            state: Some(MigState(state)),
            via,
            outcome: CallOutcome::Ok,
            driver_call: Some(CallOutcome::Ok),
        })
    };
    assert_eq!(events[0].data, get(PRE_COPY, RequestOrigin::Ioctl));
    assert_eq!(events[2].data, get(PRE_COPY, RequestOrigin::Driver));
    let EventData::DataSize(size) = &events[1].data else { panic!("{events:#?}") };
    assert_eq!((size.stop_copy_bytes, size.via), (Some(176), RequestOrigin::Ioctl));
}

#[test]
fn an_ioctl_takes_no_call_from_before_it() {
    // The driver's call is debugfs'; the one within the ioctl is lost.
    let script = RecordScript::new(0xd1).driver_get_state(PRE_COPY).wait(1_000);
    let start = script.now;
    let flags = uapi::FEATURE_MIG_DEVICE_STATE | uapi::FEATURE_GET;
    let out = u64::from_ne_bytes([STOP.to_ne_bytes(), [0xff; 4]].concat().try_into().unwrap());
    let events = script.wait(900).feature(start, flags, 0, [0; 4], [out, 0, 0, 0]).events();
    let said: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.data {
            EventData::GetState(data) => Some((data.state, data.via, data.driver_call)),
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
        [
            (Some(MigState::PRE_COPY), RequestOrigin::Driver, Some(CallOutcome::Ok)),
            (Some(MigState::STOP), RequestOrigin::Ioctl, None)
        ]
    );
    assert_eq!(briefs(&events)[1], "desync STOP not PRE_COPY by GetState");
}

#[test]
fn an_ioctl_alone_says_what_it_can() {
    let script = RecordScript::new(0xd1);
    let start = script.now;
    let flags = uapi::FEATURE_MIG_DATA_SIZE | uapi::FEATURE_GET;
    let script = script.set_ioctl(start, STOP, -22, -1).feature(start, flags, -95, [0; 4], [0; 4]);
    let events = script.events();
    assert_eq!(brief(&events[0]), "set STOP via Ioctl 0 arcs 0µs EINVAL driver unseen");
    let EventData::DataSize(size) = &events[1].data else { panic!("{events:#?}") };
    assert_eq!((size.stop_copy_bytes, size.driver_call), (None, None));
}

#[test]
fn features_are_decoded() {
    let get = uapi::FEATURE_GET;
    let set = uapi::FEATURE_SET;
    let script = RecordScript::new(0xd1)
        .feature(0, uapi::FEATURE_MIGRATION | get, 0, [0; 4], [5, 0, 0, 0])
        .feature(0, uapi::FEATURE_DMA_LOGGING_START | set, -95, [4096, 3, 0x7fff, 0], [4096, 3, 0x7fff, 0])
        .feature(0, uapi::FEATURE_DMA_LOGGING_REPORT | get, 0, [1 << 40, 1 << 30, 4096, 0x7fff], [0; 4])
        .feature(0, uapi::FEATURE_MIG_DEVICE_STATE | set | uapi::FEATURE_PROBE, 0, [0; 4], [0; 4])
        .feature(0, uapi::FEATURE_MIG_DEVICE_STATE | get | set, -22, [0; 4], [0; 4])
        .feature(0, 0x63 | set, -25, [0; 4], [0; 4]);
    let said: Vec<(String, &str, Option<FeatureDetail>)> = script
        .events()
        .into_iter()
        .map(|event| {
            let EventData::Feature(call) = event.data else { panic!("{event:?}") };
            (call.feature.unwrap().to_string(), call.op.unwrap().name(), call.detail)
        })
        .collect();
    let log_start = FeatureDetail::LogStart {
        page_size_bytes: Some(4096),
        granted_page_size_bytes: None,
        ranges: Some(words(3)),
        iova_ranges: None,
        span_bytes: None,
    };
    let log_report = FeatureDetail::LogReport {
        iova: Some(1 << 40),
        length_bytes: Some(1 << 30),
        page_size_bytes: Some(4096),
        dirty_pages: None,
    };
    let is = |feature: &str, op, detail| (feature.to_owned(), op, detail);
    assert_eq!(
        said,
        [
            is("MIGRATION", "get", Some(FeatureDetail::Migration { migration_flags: MigFlags(5) })),
            is("DMA_LOGGING_START", "set", Some(log_start)),
            is("DMA_LOGGING_REPORT", "get", Some(log_report)),
            is("MIG_DEVICE_STATE", "probe+set", None),
            is("MIG_DEVICE_STATE", "get+set", None),
            is("feature 99", "set", None),
        ]
    );
}

#[test]
fn dirty_tracking_tells_what_was_asked_and_given() {
    let (start, stop) = (uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_DMA_LOGGING_STOP);
    let report = uapi::FEATURE_DMA_LOGGING_REPORT;
    let script = RecordScript::new(0xd1);
    let at = script.now;
    let words =
        |page| [page, u64::from_ne_bytes([2u32.to_ne_bytes(), [0; 4]].concat().try_into().unwrap()), 1, 0];
    let low = [0x1000, 0xf000];
    let high = [1 << 32, 1 << 20];
    let script = script.wait(70_000).log_ranges(at, 2, &[low, high]).feature(
        at,
        start | uapi::FEATURE_SET,
        0,
        words(4096),
        words(1 << 21),
    );
    let at = script.now;
    let script = script.wait(9_000).log_dirty(at, 9).feature(
        at,
        report | uapi::FEATURE_GET,
        -14,
        [1 << 40, 1 << 30, 4096, 1],
        [0; 4],
    );
    let at = script.now;
    let script = script.wait(8_000).feature(at, stop | uapi::FEATURE_SET, -22, [0; 4], [0; 4]);
    let at = script.now;
    let script = script.wait(7_000).log_dirty(at, 9).feature(
        at,
        report | uapi::FEATURE_GET,
        0,
        [1 << 40, 1 << 30, 4096, 1],
        [0; 4],
    );
    let at = script.now;
    // Not all of them could be read.
    let script = script.wait(6_000).log_ranges(at, 2, &[low]).feature(
        at,
        start | uapi::FEATURE_SET,
        -95,
        words(4096),
        words(4096),
    );
    let at = script.now;
    // None of them.
    let script = script.wait(5_000).log_ranges(at, 2, &[]).feature(
        at,
        start | uapi::FEATURE_SET,
        -14,
        words(4096),
        words(4096),
    );
    let said: Vec<(Option<u64>, Option<Errno>, Option<FeatureDetail>)> = script
        .events()
        .into_iter()
        .map(|event| {
            let EventData::Feature(call) = event.data else { panic!("{event:?}") };
            (event.duration_ns, call.outcome.errno(), call.detail)
        })
        .collect();
    let start = |granted_page_size_bytes, iova_ranges: Option<_>, span_bytes| FeatureDetail::LogStart {
        page_size_bytes: Some(4096),
        granted_page_size_bytes,
        ranges: Some(2),
        iova_ranges,
        span_bytes,
    };
    let report = |dirty_pages| FeatureDetail::LogReport {
        iova: Some(1 << 40),
        length_bytes: Some(1 << 30),
        page_size_bytes: Some(4096),
        dirty_pages,
    };
    let range = |[iova, length_bytes]: [u64; 2]| IovaRange { iova, length_bytes };
    let span = (1 << 32) + (1 << 20) - 0x1000;
    assert_eq!(
        said,
        [
            (Some(70_000), None, Some(start(Some(1 << 21), Some(vec![range(low), range(high)]), Some(span)))),
            (Some(9_000), Some(Errno::EFAULT), Some(report(None))),
            (Some(8_000), Some(Errno::EINVAL), None),
            (Some(7_000), None, Some(report(Some(9)))),
            (Some(6_000), Some(Errno(95)), Some(start(None, Some(vec![range(low)]), None))),
            (Some(5_000), Some(Errno::EFAULT), Some(start(None, None, None))),
        ]
    );
}

#[test]
fn what_could_not_be_read_is_unknown() {
    let said = |script: RecordScript| -> EventData { script.events().pop().unwrap().data };
    let now = RecordScript::new(0xd1).now;
    let set = |ret| RecordScript::new(0xd1).wait(9).set_ioctl(now, STOP, ret, 7);
    // A bad pointer: the kernel could not read the request either. No request for ERROR (0).
    let EventData::Feature(call) = said(set(-14).unread(0xff, 0)) else { panic!() };
    assert_eq!((call.feature, call.op.map(FeatureOp::name)), (Some(DeviceFeature(2)), Some("set")));
    // Not even the header: no PCI_VF_TOKEN (0).
    let EventData::Feature(call) = said(set(-14).unread(0x1ff, 0)) else { panic!() };
    assert_eq!((call.feature, call.op), (None, None));
    // The driver's call within it shows the request, and makes no event of its own.
    let script = RecordScript::new(0xd1).set(&[RUNNING, STOP], 0, 7).unread(0x1ff, 0);
    let events = script.events();
    assert_eq!(events.iter().filter(|event| event.kind() == EventKind::SetState).count(), 1, "{events:?}");
    let EventData::SetState(call) = said(script) else { panic!() };
    assert_eq!(
        (call.target, call.via, call.data_fd, call.arcs),
        (MigState::STOP, RequestOrigin::Ioctl, None, 1)
    );
    let EventData::GetState(call) = said(RecordScript::new(0xd1).get_state(STOP).unread(0x1ff, 0)) else {
        panic!()
    };
    assert_eq!((call.state, call.via), (Some(MigState::STOP), RequestOrigin::Ioctl));
    let EventData::DataSize(call) = said(RecordScript::new(0xd1).data_size(77).unread(0x1ff, 0)) else {
        panic!()
    };
    assert_eq!((call.stop_copy_bytes, call.via), (Some(77), RequestOrigin::Ioctl));
    // Read at return, when it was there.
    let EventData::SetState(call) = said(set(0).unread(0, 1)) else { panic!() };
    assert_eq!((call.target, call.data_fd), (MigState::STOP, Some(7)));
    // The driver's call says it, and no fd is known. It is not fd 0.
    let script = RecordScript::new(0xd1).set(&[RUNNING, STOP], 0, 7).unread(0x11, 0);
    let EventData::SetState(call) = said(script) else { panic!() };
    assert_eq!((call.target, call.data_fd, call.arcs), (MigState::STOP, None, 1));

    let EventData::GetState(call) = said(RecordScript::new(0xd1).get_state(STOP).unread(0x10, 0)) else {
        panic!()
    };
    assert_eq!(call.state, Some(MigState::STOP), "the driver's call says it");
    let EventData::DataSize(call) = said(RecordScript::new(0xd1).data_size(77).unread(0x10, 0)) else {
        panic!()
    };
    assert_eq!(call.stop_copy_bytes, Some(77));

    let log = |late| {
        let flags = uapi::FEATURE_DMA_LOGGING_START | uapi::FEATURE_SET;
        let script = RecordScript::new(0xd1).wait(9).feature(now, flags, 0, [4096, 0, 0, 0], [8192, 0, 0, 0]);
        let EventData::Feature(call) = said(script.unread(0b10, late)) else { panic!() };
        let Some(FeatureDetail::LogStart { page_size_bytes, granted_page_size_bytes, ranges, .. }) =
            call.detail
        else {
            panic!()
        };
        (page_size_bytes, granted_page_size_bytes, ranges)
    };
    assert_eq!(log(0), (Some(4096), Some(8192), None));
    // The kernel has written there by then.
    assert_eq!(log(1), (None, Some(8192), None));
}

#[test]
fn a_log_belongs_to_its_own_ioctl() {
    let flags = uapi::FEATURE_DMA_LOGGING_REPORT | uapi::FEATURE_GET;
    let report = |script: RecordScript, at| script.feature(at, flags, 0, [0, 4096, 4096, 1], [0; 4]);
    let first = RecordScript::new(0xd1).now;
    // The first report's own record is lost.
    let script = report(RecordScript::new(0xd1).wait(9_000).log_dirty(first, 9), first).lose();
    let second = script.now;
    let script = report(script.wait(9_000), second);
    let pages = |script: &RecordScript| {
        let EventData::Feature(call) = script.events().pop().unwrap().data else { panic!() };
        let Some(FeatureDetail::LogReport { dirty_pages, .. }) = call.detail else { panic!() };
        dirty_pages
    };
    assert_eq!(pages(&script), None, "nine pages were the first one's");
    let third = script.now;
    assert_eq!(pages(&report(script.wait(9_000).log_dirty(third, 3), third)), Some(3));
}

/// Returns the first half of a payload word, in this machine's byte order.
fn words(word: u64) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes(bytes[..4].try_into().unwrap())
}

#[test]
fn a_record_that_is_out_of_order_between_processors_ends_no_waiting() {
    // Another processor's record is sent first although it was made last, and the other way round.
    for other_ns in [HOLD_NS - 10_000, 0] {
        let script = RecordScript::new(0xd1);
        let start = script.now;
        let script = script.walk(&[RUNNING, STOP], 0, 0).set_ioctl(start, STOP, 0, -1);
        let other = RecordScript::new(0xd2).thread(7, 7).wait(other_ns).driver_get_state(RUNNING);
        let mut records = script.records();
        let ioctl = records.len() - 1;
        records.splice(ioctl..ioctl, other.records());
        let told = briefs(&assemble(&records));
        assert!(told.contains(&"set STOP via Ioctl 1 arcs 105µs ok driver ok".to_owned()), "{told:?}");
    }
}

#[test]
fn a_note_does_not_move_the_time() {
    // It is made by the reader, which may be behind, and comes before records that the kernel has sent long ago.
    let script = RecordScript::new(0xd1);
    let start = script.now;
    let script = script.walk(&[RUNNING, STOP], 0, 0).set_ioctl(start, STOP, 0, -1);
    let note =
        RecordScript::new(0).wait(HOLD_NS * 10).note(function_note(3, "some_function", ReturnKind::Int));
    let mut records = script.records();
    let ioctl = records.len() - 1;
    records.splice(ioctl..ioctl, note.records());
    let told = briefs(&assemble(&records));
    assert!(told.contains(&"set STOP via Ioctl 1 arcs 105µs ok driver ok".to_owned()), "{told:?}");
}
