//! Data sessions: from the request that starts one to the last close of its fd.

use vfio_trace_common::role::Role;

use crate::event::{DataClose, DataDirection, DataIo, EventData, ReadEnd, VfioEvent, fixture::*};

fn closes(events: &[VfioEvent]) -> Vec<DataClose> {
    let data = events.iter().map(|event| event.data.clone());
    data.filter_map(|data| if let EventData::DataClose(close) = data { Some(close) } else { None }).collect()
}

fn ios(events: &[VfioEvent]) -> Vec<DataIo> {
    let data = events.iter().map(|event| event.data.clone());
    data.filter_map(
        |data| if let EventData::Read(io) | EventData::Write(io) = data { Some(io) } else { None },
    )
    .collect()
}

#[test]
fn the_source_of_a_migration() {
    let events = source().events();
    let [close] = &closes(&events)[..] else { panic!("{events:#?}") };
    assert_eq!((close.session, close.direction), (Some(1), Some(DataDirection::Save)));
    assert_eq!((close.reads, close.writes, close.failed), (5, 0, 0), "ENOMSG is no failure");
    assert_eq!((close.read_bytes, close.missed_bytes), (24 + (1 << 20) + 512, Some(0)));
    assert!(close.ended && !close.partial && close.lifetime_ns.is_some());
    let dry: Vec<Option<ReadEnd>> = ios(&events).into_iter().map(|io| io.dry).collect();
    assert_eq!(dry, [None, Some(ReadEnd::ForNow), None, None, Some(ReadEnd::End)]);
    assert!(ios(&events).iter().all(|io| io.session == Some(1) && !io.ended));
    assert!(events.iter().all(|event| event.device_name() == Some(UUID)));
    let arcs = events.iter().filter(|event| matches!(event.data, EventData::Arc(_))).count();
    let requests = events.iter().filter(|event| matches!(event.data, EventData::SetState(_))).count();
    assert_eq!((arcs, requests), (4, 4));
}

#[test]
fn what_a_signal_interrupted_has_not_failed() {
    let started = |state, file| RecordScript::new(0xd1).device(BDF, "mtty", 7).set(&[STOP, state], file, 31);
    // EINTR, the kernel's own; and ENOIOCTLCMD, which has its number between those.
    for (ret, dry, failed) in [
        (-4, Some(ReadEnd::ForNow), 0),
        (-512, Some(ReadEnd::ForNow), 0),
        (-514, Some(ReadEnd::ForNow), 0),
        (-516, Some(ReadEnd::ForNow), 0),
        (-515, None, 1),
        (-5, None, 1),
    ] {
        for events in [
            started(STOP_COPY, 0xf1).read(0xf1, 64, ret, 0).release(0xf1, 0).events(),
            started(RESUMING, 0xf1).write(0xf1, ret, 0).release(0xf1, 0).events(),
        ] {
            assert_eq!((ios(&events)[0].dry, closes(&events)[0].failed), (dry, failed), "{ret}");
        }
    }
    let events = started(STOP_COPY, 0xf1).read(0xf1, 64, -11, 0).release(0xf1, 0).events();
    assert_eq!((ios(&events)[0].dry, closes(&events)[0].failed), (Some(ReadEnd::ForNow), 0));
    // Of writes nothing is normal in PRE_COPY, and EAGAIN may be a load that went wrong.
    for ret in [-42, -11] {
        let events = started(RESUMING, 0xf1).write(0xf1, ret, 0).release(0xf1, 0).events();
        assert_eq!((ios(&events)[0].dry, closes(&events)[0].failed), (None, 1));
    }
}

#[test]
fn the_destination_of_a_migration() {
    let events = destination().events();
    let [close] = &closes(&events)[..] else { panic!("{events:#?}") };
    assert_eq!((close.direction, close.ended, close.writes), (Some(DataDirection::Resume), true, 3));
    // The driver has set the offset back to 0; that is not a gap.
    assert_eq!((close.position_bytes, close.missed_bytes), (Some(0), Some(0)));
    assert_eq!(close.written_bytes, 24 + (1 << 20) + 512);
}

#[test]
fn a_session_ends_where_the_driver_ends_it() {
    let started = |path: &[u32]| RecordScript::new(0xd1).device(BDF, "mtty", 7).set(path, 0xf1, 31);
    let ended = |script: RecordScript| ios(&script.read(0xf1, 64, -19, 0).events())[0].ended;
    let precopy = started(&[RUNNING, PRE_COPY]);
    assert!(!ended(precopy.clone()));
    assert!(!ended(precopy.clone().set(&[PRE_COPY, PRE_COPY_P2P, STOP_COPY], 0, -1)), "the same fd goes on");
    assert!(ended(precopy.clone().set(&[PRE_COPY, RUNNING], 0, -1)));
    assert!(ended(precopy.clone().set(&[PRE_COPY, PRE_COPY_P2P, RUNNING_P2P], 0, -1)));
    assert!(ended(started(&[STOP, STOP_COPY]).set(&[STOP_COPY, STOP], 0, -1)));
    assert!(ended(started(&[STOP, RESUMING]).set(&[RESUMING, STOP], 0, -1)));
    assert!(ended(precopy.clone().reset(0)));
    assert!(!ended(precopy.clone().reset(-5)));
    assert!(ended(precopy.clone().close(1)));
    assert!(!ended(precopy.clone().close(2)), "others have it open");
    assert!(!ended(precopy.clone().on(0xd2).reset(0)), "another device");
    assert!(ended(precopy.device("other", "mtty", 7)), "its device is gone");
}

#[test]
fn a_request_may_end_one_session_and_start_the_next() {
    let script = RecordScript::new(0xd1)
        .set(&[STOP, RESUMING], 0xf1, 31)
        .set(&[RESUMING, STOP, STOP_COPY], 0xf2, 32)
        .release(0xf1, 0)
        .release(0xf2, 0);
    let closes = closes(&script.events());
    assert_eq!(
        closes.iter().map(|close| (close.session, close.ended)).collect::<Vec<_>>(),
        [(Some(1), true), (Some(2), false)]
    );
}

#[test]
fn late_attach() {
    let script = RecordScript::new(0xd1).device(BDF, "mtty", 7).on(0);
    let events = script.clone().read(0xf1, 512, 512, 4096).release(0xf1, 4608).events();
    assert_eq!(ios(&events)[0].session, Some(1));
    let [close] = &closes(&events)[..] else { panic!("{events:#?}") };
    assert!(close.partial && !close.ended);
    assert_eq!((close.read_bytes, close.missed_bytes, close.lifetime_ns), (512, Some(4096), None));
    assert!(events[1..].iter().all(|event| event.device.is_none()), "nothing told the device");

    let known =
        script.clone().read(0xf1, 512, 512, 0).on(0xd1).read(0xf1, 512, 512, 512).on(0).release(0xf1, -1);
    let names: Vec<Option<String>> =
        known.events()[1..].iter().map(|event| event.device_name().map(str::to_owned)).collect();
    assert_eq!(names, [None, Some(BDF.to_owned()), Some(BDF.to_owned())]);

    let unseen = closes(&script.clone().release(0xf9, -1).events());
    assert!(unseen[0].partial && unseen[0].missed_bytes.is_none() && unseen[0].direction.is_none());
    assert_eq!(ios(&script.read(0, 1, 1, 0).events())[0].session, None, "a record without a file");
}

#[test]
fn a_file_address_used_again_is_a_new_session() {
    let script = RecordScript::new(0xd1)
        .set(&[STOP, STOP_COPY], 0xf1, 31)
        .read(0xf1, 64, 64, 0)
        .set(&[STOP_COPY, STOP], 0, -1)
        .set(&[STOP, STOP_COPY], 0xf1, 31)
        .read(0xf1, 64, 64, 0)
        .release(0xf1, 64);
    let events = script.events();
    assert_eq!(ios(&events).iter().map(|io| io.session).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let [close] = &closes(&events)[..] else { panic!("{events:#?}") };
    assert_eq!((close.session, close.reads, close.ended), (Some(2), 1, false));
}

#[test]
fn what_was_not_seen_is_told_even_if_the_driver_sets_the_offset_back() {
    let script = RecordScript::new(0xd1).set(&[STOP, STOP_COPY], 0xf1, 31).read(0xf1, 64, 64, 0);
    // The next read is lost.
    let script = script.read(0xf1, 64, 64, 128).set(&[STOP_COPY, STOP], 0, -1).release(0xf1, 0);
    let close = &closes(&script.events())[0];
    assert_eq!((close.read_bytes, close.missed_bytes, close.position_bytes), (128, Some(64), Some(0)));
}

#[test]
fn an_offset_that_the_driver_does_not_keep_proves_nothing() {
    let missed = |script: RecordScript| closes(&script.events())[0].missed_bytes;
    let whole = RecordScript::new(0xd1).set(&[STOP, STOP_COPY], 0xf1, 31).read(0xf1, 64, 64, 0);
    assert_eq!(missed(whole.clone().release(0xf1, 0)), Some(0), "one read of all");
    let end = whole.clone().read(0xf1, 64, 64, 64).set(&[STOP_COPY, STOP], 0, -1);
    assert_eq!(missed(end.read(0xf1, 64, -19, 0).release(0xf1, 0)), Some(0), "set back by the driver");
    assert_eq!(missed(whole.read(0xf1, 64, 64, 0).release(0xf1, 0)), None, "it should be at 64 by then");
    let late = RecordScript::new(0xd1).device(BDF, "mtty", 7).on(0).read(0xf1, 64, 64, 0);
    assert_eq!(missed(late.clone().release(0xf1, 0)), None, "who knows what was read before");
    assert_eq!(missed(late.release(0xf1, 64)), Some(0));
}

#[test]
fn the_order_of_parallel_reads_makes_no_gap() {
    let script = RecordScript::new(0xd1)
        .set(&[STOP, STOP_COPY], 0xf1, 31)
        .thread(412, 2)
        .read(0xf1, 64, 64, 64)
        .thread(412, 3)
        .read(0xf1, 64, 64, 0)
        .release(0xf1, 128);
    assert_eq!(closes(&script.events())[0].missed_bytes, Some(0));
}

#[test]
fn precopy_info_and_other_ioctls_of_a_data_fd() {
    let script = RecordScript::new(0xd1).set(&[RUNNING, PRE_COPY], 0xf1, 31);
    let events = script.precopy_info(0xf1, 24, 7).data_ioctl(0xf1, 0x1234, -25, 1, 2).events();
    let [
        ..,
        VfioEvent { data: EventData::PrecopyInfo(info), .. },
        VfioEvent { data: EventData::DataIoctl(other), .. },
    ] = &events[..]
    else {
        panic!("{events:#?}")
    };
    assert_eq!((info.session, info.initial_bytes, info.dirty_bytes), (Some(1), Some(24), Some(7)));
    assert_eq!((other.session, other.cmd, other.outcome.is_ok()), (Some(1), 0x1234, false));
}

#[test]
fn what_outlives_its_device_is_not_another_ones() {
    const FILE: u64 = 0xf1;
    let script =
        RecordScript::new(0xd1).device_in(UUID, "quayside", 7, Role::Register, None).register(0).open(1);
    let script = script.set(&[RUNNING, PRE_COPY], FILE, 31).read(FILE, 64, 24, 0).unregister();
    // As tracers did that described it from memory which was not its own any more.
    let script = script.device_in("junk", "", 0, Role::Read, None).close(1);
    // The data fd is still open, and another device has the address.
    let script = script.device_in("other", "quayside", 7, Role::Register, None).register(0);
    let script = script.on(0).read(FILE, 64, -19, 24).release(FILE, 24);
    let events = script.events();
    let names: Vec<Option<&str>> = events.iter().map(VfioEvent::device_name).collect();
    assert!(!names.contains(&Some("junk")), "{names:?}");
    let of = |kind: &str| -> Vec<Option<&str>> {
        let of_kind = events.iter().filter(|event| event.kind().name() == kind);
        of_kind.map(VfioEvent::device_name).collect()
    };
    assert_eq!(of("close"), [Some(UUID)]);
    assert_eq!(of("read"), [Some(UUID), Some(UUID)]);
    assert_eq!(of("data_close"), [Some(UUID)]);
    assert_eq!(of("register"), [Some(UUID), Some("other")]);
    assert!(closes(&events)[0].ended, "the last close has ended it");
}
