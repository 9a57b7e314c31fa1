//! Paths, times and sums, from scripted records.

use vfio_trace_common::role::Role;

use super::{DeviceReport, HolderReport, PathEntry, StatePath, TraceModel, TraceReport};
use crate::event::{MigState, fixture::*};

fn report(script: &RecordScript) -> TraceReport {
    let mut model = TraceModel::new();
    for event in script.events() {
        model.apply(&event);
    }
    model.report(None)
}

fn path(script: &RecordScript) -> String {
    report(script).devices[0].path.text(100)
}

fn start() -> RecordScript {
    RecordScript::new(0xd1).device(BDF, "mtty", 7)
}

#[test]
fn a_source() {
    let report = report(&source());
    let [device] = &report.devices[..] else { panic!("{report:#?}") };
    assert_eq!(device.path.text(100), "RUNNING → PRE_COPY → PRE_COPY_P2P → STOP_COPY → STOP");
    assert_eq!(device.state, Some(MigState::STOP));
    assert_eq!((device.arcs.ok, device.requests, device.sessions, device.opens), (4, 4, 1, 1));
    assert_eq!((device.read.calls, device.read.failed, device.read.bytes), (5, 0, 24 + (1 << 20) + 512));
    let in_states: u64 = device.states.iter().map(|state| state.time_ns).sum();
    assert_eq!(in_states + device.arcs_ns + device.uncertain_ns, report.duration_ns, "no time is lost");
    assert_eq!(device.uncertain_ns, 0);
    let running = device.states.iter().find(|state| state.state == MigState::RUNNING).unwrap();
    assert!((100_000_000..101_000_000).contains(&running.time_ns), "since first sight: {running:?}");
}

#[test]
fn there_is_room_for_so_many_devices_and_sessions() {
    let mut model = TraceModel::new().with_room_for(2);
    let scripts: Vec<RecordScript> = (0..5)
        .map(|nr| RecordScript::new(0xd1 + nr).device(&format!("dev{nr}"), "mtty", 7).open(1))
        .collect();
    let events: Vec<_> = scripts.iter().flat_map(RecordScript::events).collect();
    for event in &events {
        model.apply(event);
    }
    let report = model.report(None);
    assert_eq!((report.devices.len(), report.device_events_left_out), (2, 6));
    assert!(crate::output::closing_table(&report, false).contains("6 events of other devices"));

    let session = |nr: u32| start().release(u64::from(nr), 0).events().pop().unwrap();
    let mut model = TraceModel::new();
    for nr in 0..3_000u32 {
        let mut event = session(1);
        if let crate::event::EventData::DataClose(close) = &mut event.data {
            close.session = Some(nr);
        }
        model.apply(&event);
        model.apply(&event);
    }
    assert_eq!(model.report(None).devices[0].sessions, 3_000);
}

#[test]
fn lost_records_leave_a_gap() {
    let jump = start().set(&[RUNNING, PRE_COPY], 0, -1).wait(1_000).set(&[STOP_COPY, STOP], 0, -1);
    assert_eq!(path(&jump), "RUNNING → PRE_COPY → ? → STOP_COPY → STOP");
    let device = &report(&jump).devices[0];
    assert!(device.uncertain_ns > 0, "PRE_COPY is not known to have lasted");
    assert!(device.states.iter().all(|state| state.state != MigState::PRE_COPY || state.time_ns == 0));
}

#[test]
fn a_reset_leads_to_running() {
    let script = start().set(&[RUNNING, PRE_COPY], 0, -1).reset(0);
    assert_eq!(path(&script), "RUNNING → PRE_COPY → reset → RUNNING");
    let device = &report(&script).devices[0];
    assert_eq!((device.state, device.resets), (Some(MigState::RUNNING), 1));
    assert_eq!(device.uncertain_ns, 2_000_000, "while it was reset");
}

#[test]
fn a_reset_during_a_request_leaves_the_state_open() {
    let script = start().set(&[RUNNING, PRE_COPY], 0, -1);
    let at = script.now;
    let script = script.next(PRE_COPY, STOP_COPY, STOP_COPY, 0).thread(412, 2).reset(0).thread(412, 412);
    let script = script.set_state(at, STOP_COPY, 0, 0).set_ioctl(at, STOP_COPY, 0, -1);
    let script = script.wait(1_000_000).get_state(RUNNING);
    let device = &report(&script).devices[0];
    assert_eq!((device.state, device.resets, device.desyncs), (Some(MigState::RUNNING), 1, 0));
}

#[test]
fn attached_in_the_middle() {
    let seen = Some((PRE_COPY, 1));
    let script = RecordScript::new(0xd1).thread(9, 9).device_in(BDF, "mtty", 7, Role::Inventory, seen);
    let script = script.thread(412, 415).holder(23).wait(1_000_000);
    let device = &report(&script).devices[0];
    assert_eq!((device.state, device.path.text(9)), (Some(MigState::PRE_COPY), "PRE_COPY".to_owned()));
    let qemu = |fd| HolderReport { pid: 412, comm: "qemu-system-x86".to_owned(), fd };
    assert_eq!(device.holders, [qemu(Some(23))]);
    let device = &report(&script.clone().set(&[PRE_COPY, STOP_COPY], 0, -1)).devices[0];
    assert_eq!((device.path.text(9), device.uncertain_ns), ("PRE_COPY → STOP_COPY".to_owned(), 0));
    assert!(device.states.iter().any(|time| time.state == MigState::PRE_COPY && time.time_ns > 1_000_000));

    let again = script.open(2);
    assert_eq!(report(&again).devices[0].holders, [qemu(Some(23)), qemu(None)]);
    assert_eq!(report(&again.clone().close(2)).devices[0].holders, [qemu(Some(23))]);
    assert_eq!(report(&again.thread(5, 5).close(1)).devices[0].holders, [], "nobody is left");
    let found_later = RecordScript::new(0xd1).device(BDF, "mtty", 7).open(1).holder(23).holder(23);
    assert_eq!(report(&found_later).devices[0].holders, [qemu(Some(23))]);
}

#[test]
fn a_desync_leaves_a_gap() {
    let script = start().set(&[RUNNING, PRE_COPY], 0, -1).wait(1_000);
    for (found, shown) in
        [(RUNNING, "RUNNING → PRE_COPY → ? → RUNNING"), (STOP, "RUNNING → PRE_COPY → ? → STOP")]
    {
        let script = script.clone().get_state(found);
        assert_eq!(path(&script), shown);
        assert_eq!(report(&script).devices[0].desyncs, 1);
        let at = found;
        assert_eq!(path(&script.set(&[at, RUNNING_P2P], 0, -1)), format!("{shown} → RUNNING_P2P"));
    }
}

#[test]
fn a_reopened_device_leaves_no_gap() {
    let script = start().open(1).set(&[RUNNING, STOP], 0, -1).close(1).wait(1_000_000);
    let open = |state| script.clone().device_in(BDF, "mtty", 7, Role::Open, Some((state, 1))).open(1);
    assert_eq!(path(&open(RUNNING)), "RUNNING → STOP → RUNNING");
    assert_eq!(path(&open(STOP)), "RUNNING → STOP");
    let unreadable = script.clone().device(BDF, "mtty", 7).open(1);
    assert_eq!(report(&script).devices[0].state, Some(MigState::STOP), "as it was left");
    assert_eq!(report(&unreadable).devices[0].state, None);
}

#[test]
fn devices_come_and_go() {
    let script = start().set(&[RUNNING, STOP], 0, -1).unregister();
    let device = &report(&script).devices[0];
    assert_eq!((device.gone, device.state), (true, None));
    let again =
        |ret| script.clone().device_in(BDF, "mtty", 7, Role::Register, Some((RUNNING, 0))).register(ret);
    let back = report(&again(0));
    assert_eq!(back.devices.len(), 1, "known by its name");
    assert_eq!((back.devices[0].gone, back.devices[0].state), (false, Some(MigState::RUNNING)));
    assert!(report(&again(-16)).devices[0].gone);
}

fn time_in(device: &DeviceReport, state: MigState) -> u64 {
    device.states.iter().find(|time| time.state == state).map_or(0, |time| time.time_ns)
}

#[test]
fn a_device_that_is_gone_has_no_more_time() {
    let script = start().set(&[RUNNING, STOP], 0, -1).wait(10_000_000).unregister();
    let mut model = TraceModel::new();
    for event in script.events() {
        model.apply(&event);
    }
    let left = model.report(None);
    assert_eq!(left.devices, model.report(Some(script.now + 5_000_000_000)).devices, "it was not there");
    let [device] = &left.devices[..] else { panic!("{left:#?}") };
    let stopped = time_in(device, MigState::STOP);
    assert!((10_000_000..10_100_000).contains(&stopped), "up to its end: {device:?}");
    assert_eq!(device.uncertain_ns, 0, "{device:?}");
    let sum: u64 = device.states.iter().map(|time| time.time_ns).sum();
    assert_eq!(sum + device.arcs_ns, left.duration_ns);

    let script = script.wait(1_000_000_000);
    let again = |state| {
        let seen = Some((state, 0));
        let back = script.clone().device_in(BDF, "mtty", 7, Role::Register, seen).register(0);
        report(&back.wait(3_000_000).get_state(state)).devices[0].clone()
    };
    let same = again(STOP);
    let more = time_in(&same, MigState::STOP) - stopped;
    assert!((3_000_000..4_000_000).contains(&more) && same.uncertain_ns < 1_000, "{same:?}");
    let other = again(RUNNING);
    assert_eq!(time_in(&other, MigState::STOP), stopped, "{other:?}");
    assert!(other.uncertain_ns < 1_000, "{other:?}");
}

#[test]
fn a_state_that_was_lost_is_not_made_up() {
    let script = start().open(1).set(&[RUNNING, STOP], 0, -1).wait(2_000_000).close(1);
    let script = script.device(BDF, "mtty", 7).open(1).wait(5_000_000);
    let device = &report(&script.clone().get_state(STOP)).devices[0];
    assert!((5_000_000..6_000_000).contains(&device.uncertain_ns), "{device:?}");
    assert!((2_000_000..3_000_000).contains(&time_in(device, MigState::STOP)), "{device:?}");
    let device = &report(&script.get_state(STOP).wait(7_000_000).get_state(STOP)).devices[0];
    assert!((9_000_000..10_000_000).contains(&time_in(device, MigState::STOP)), "{device:?}");
}

#[test]
fn a_state_that_was_seen_again_has_lasted_until_then() {
    let script = start().set(&[RUNNING, PRE_COPY], 0, -1).wait(7_000_000).get_state(PRE_COPY);
    let device = &report(&script.wait(1_000).set(&[STOP_COPY, STOP], 0, -1)).devices[0];
    assert_eq!(device.path.text(9), "RUNNING → PRE_COPY → ? → STOP_COPY → STOP");
    assert!((7_000_000..7_100_000).contains(&time_in(device, MigState::PRE_COPY)), "{device:?}");
    assert!((1_000..100_000).contains(&device.uncertain_ns), "{device:?}");
}

#[test]
fn a_failed_arc_stays_where_it_was_if_that_turns_out_so() {
    let script = start();
    let at = script.now;
    let script = script.walk(&[RUNNING, STOP], -110, 0).set_ioctl(at, STOP, -110, -1);
    assert_eq!(report(&script).devices[0].state, None);
    let back = script.clone().set(&[RUNNING, PRE_COPY], 0, -1);
    assert_eq!(path(&back), "RUNNING → PRE_COPY");
    let error = script.get_state(0);
    assert_eq!(path(&error), "RUNNING → ERROR");
    let device = &report(&error).devices[0];
    assert_eq!((device.arcs.failed, device.requests_failed), (1, 1));
}

#[test]
fn events_that_come_late_do_not_turn_the_state_back() {
    // The request to STOP is held for an ioctl while another thread goes on to RUNNING.
    let script =
        start().thread(412, 1).walk(&[RUNNING, STOP], 0, 0).thread(412, 2).set(&[STOP, RUNNING], 0, -1);
    let report = report(&script);
    assert_eq!(path(&script), "RUNNING → STOP → RUNNING");
    assert_eq!((report.devices[0].state, report.devices[0].requests), (Some(MigState::RUNNING), 2));
    // An arc without an end, noticed late.
    let script = start().thread(412, 1).next(RUNNING, STOP, STOP, 0).wait(1_000).thread(412, 2);
    let script = script.set(&[STOP, RUNNING], 0, -1);
    assert_eq!(path(&script), "STOP → RUNNING");
    assert_eq!(super::tests::report(&script).devices[0].state, Some(MigState::RUNNING));
}

#[test]
fn devices_without_a_name_stay_apart() {
    let script = RecordScript::new(0xd1).set(&[RUNNING, STOP], 0, -1).on(0xd2).set(&[STOP, RESUMING], 0, -1);
    let report = report(&script);
    let paths: Vec<String> = report.devices.iter().map(|device| device.path.text(9)).collect();
    assert_eq!(paths, ["RUNNING → STOP", "STOP → RESUMING"]);
    assert!(report.devices.iter().all(|device| device.device.is_none()));
}

#[test]
fn the_present_state_counts_up_to_the_given_time() {
    let mut model = TraceModel::new();
    let script = start().set(&[RUNNING, STOP], 0, -1);
    for event in script.events() {
        model.apply(&event);
    }
    let time = |until| model.report(Some(until)).devices[0].states[0].time_ns;
    assert_eq!(time(script.now + 5_000_000) - time(script.now), 5_000_000);
    assert_eq!(model.report(None), model.report(Some(0)), "never less than was seen");
}

#[test]
fn long_paths_are_cut() {
    let mut path = StatePath::default();
    for n in 0..70 {
        path.push(PathEntry::State(if n % 2 == 0 { MigState::STOP } else { MigState::RUNNING }));
    }
    assert_eq!((path.steps.len(), path.more), (StatePath::MAX, 6));
    assert_eq!(path.text(2), "STOP → RUNNING → … (+68 more)");
}
