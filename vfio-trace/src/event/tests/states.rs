//! Tests of a device's known state, and of the causes of a desync.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vfio_trace_common::role::Role;

use super::briefs;
use crate::event::{
    DeviceSeen, EventAssembler, EventData, HOLD_NS, MigState, VfioEvent, WireRecord, fixture::*,
};

const FLAGS: u64 = 7;

/// Makes a device that the inventory of thread 9 finds in this state, long ago.
fn found(state: u32) -> RecordScript {
    let seen = Some((state, 1));
    RecordScript::new(0xd1)
        .thread(9, 9)
        .device_in(BDF, "mtty", FLAGS, Role::Inventory, seen)
        .wait(HOLD_NS)
        .thread(412, 412)
}

/// Adds the same device, read again by a program of this thread.
fn seen_again(script: RecordScript, role: Role, state: u32) -> RecordScript {
    script.device_in(BDF, "mtty", FLAGS, role, Some((state, 2)))
}

fn desyncs(events: &[VfioEvent]) -> Vec<String> {
    briefs(events).into_iter().filter(|text| text.starts_with("desync")).collect()
}

#[test]
fn the_state_at_attach_is_told_at_once() {
    for state in [PRE_COPY, STOP_COPY, RESUMING] {
        let events = found(state).events();
        let [
            VfioEvent {
                data: EventData::Device(DeviceSeen { state: told, open_count, seen_by, .. }), ..
            },
        ] = &events[..]
        else {
            panic!("{events:#?}")
        };
        assert_eq!((*told, *open_count, *seen_by), (Some(MigState(state)), Some(1), Some(Role::Inventory)));
        let next = if state == PRE_COPY { RUNNING } else { STOP };
        assert!(desyncs(&found(state).set(&[state, next], 0, -1).events()).is_empty());
    }
    let script = RecordScript::new(0xd1).device(BDF, "mtty", FLAGS).open(1);
    let events = script.set(&[STOP_COPY, STOP], 0, -1).events();
    assert!(matches!(&events[0].data, EventData::Device(DeviceSeen { state: None, open_count: None, .. })));
    assert!(desyncs(&events).is_empty(), "what is not known does not mismatch");
}

#[test]
fn a_changed_state_is_no_news_of_the_device() {
    let script = seen_again(found(PRE_COPY).set(&[PRE_COPY, STOP_COPY], 0, -1), Role::Open, STOP_COPY);
    let events = script.open(2).events();
    assert_eq!(events.iter().filter(|event| matches!(event.data, EventData::Device(_))).count(), 1);
    let Some(VfioEvent { data: EventData::Open(open), .. }) = events.last() else { panic!("{events:#?}") };
    assert_eq!(open.state, Some(MigState::STOP_COPY));
}

#[test]
fn an_arc_from_elsewhere() {
    let script = found(PRE_COPY).set(&[STOP_COPY, STOP], 0, -1).set(&[STOP, RUNNING_P2P], 0, -1);
    assert_eq!(
        briefs(&script.events()),
        [
            "desync STOP_COPY not PRE_COPY by Arc",
            "STOP_COPY>STOP for STOP 101µs ok",
            "set STOP via Ioctl 1 arcs 106µs ok driver ok",
            "STOP>RUNNING_P2P for RUNNING_P2P 101µs ok",
            "set RUNNING_P2P via Ioctl 1 arcs 106µs ok driver ok",
        ]
    );
    let script = found(PRE_COPY).next(STOP, PRE_COPY, 0, -22);
    assert_eq!(
        briefs(&script.events()),
        ["desync STOP not PRE_COPY by Arc", "STOP>- for PRE_COPY ? refused EINVAL"]
    );
}

#[test]
fn get_state_tells() {
    let script = found(PRE_COPY).get_state(PRE_COPY).get_state(STOP).get_state(STOP);
    assert_eq!(
        briefs(&script.events()),
        ["get_state ok", "desync STOP not PRE_COPY by GetState", "get_state ok", "get_state ok"]
    );
    assert_eq!(desyncs(&found(PRE_COPY).driver_get_state(RUNNING).events()).len(), 1);
}

#[test]
fn a_desync_to_running_waits_for_the_reset_that_may_explain_it() {
    let script = found(PRE_COPY);
    let start = script.now;
    let seen = script.clone().wait(2_000_000).thread(412, 2).driver_get_state(RUNNING);
    let explained = seen.clone().thread(412, 1).was_reset(start, 0);
    assert_eq!(briefs(&explained.events()), ["reset to RUNNING ok", "get_state ok"]);
    let later = seen.clone().wait(HOLD_NS).thread(412, 1).reset(0);
    assert_eq!(desyncs(&later.events()).len(), 1, "one that comes too late does not");
    let after = seen.clone().thread(412, 1).reset(0);
    assert_eq!(desyncs(&after.events()).len(), 1, "nor does one that began afterwards");

    let mut assembler = EventAssembler::new();
    for record in seen.records() {
        assembler.push(&record);
    }
    assert_eq!(desyncs(&assembler.expire(seen.now + HOLD_NS)), ["desync RUNNING not PRE_COPY by GetState"]);

    // It comes behind the arc then, with the time before it.
    let events = script.set(&[RUNNING, STOP], 0, -1).events();
    let [_, arc, _, desync] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(briefs(&events)[2], "desync RUNNING not PRE_COPY by Arc");
    assert!(desync.end_ns <= arc.start_ns);
}

#[test]
fn how_arcs_end_decides_what_is_known() {
    let after = |script: RecordScript| desyncs(&script.get_state(RESUMING).events());
    let script = found(PRE_COPY);
    let start = script.now;
    let request =
        |ret| script.clone().walk(&[PRE_COPY, STOP_COPY], ret, 0).set_ioctl(start, STOP_COPY, ret, -1);
    assert_eq!(after(request(0)), ["desync RESUMING not STOP_COPY by GetState"]);
    assert_eq!(after(request(-5)), [""; 0], "where a failed arc leaves the device is up to the driver");
    let refused = script.clone().next(PRE_COPY, RESUMING, 0, -22).set_ioctl(start, RESUMING, -22, -1);
    assert_eq!(after(refused), ["desync RESUMING not PRE_COPY by GetState"]);
    let unseen = script.clone().walk(&[PRE_COPY, STOP_COPY], 0, 0).lose().read(0xf1, 1, 1, 0);
    assert_eq!(after(unseen), [""; 0], "its end is not known");
    // Arcs of the request were lost; it worked.
    let first = script.clone().next(PRE_COPY, STOP, PRE_COPY_P2P, 0).set_state(start, STOP, 0, 0);
    assert_eq!(after(first), ["desync RESUMING not STOP by GetState"]);
    let none = script.clone().wait(1_000).set_ioctl(start, STOP, 0, -1);
    assert_eq!(after(none), ["desync RESUMING not STOP by GetState"]);
}

#[test]
fn a_reset_leads_to_running() {
    let script = found(STOP_COPY).reset(0);
    assert_eq!(
        briefs(&script.clone().set(&[RUNNING, PRE_COPY], 0, -1).events())[..2],
        ["reset to RUNNING ok", "RUNNING>PRE_COPY for PRE_COPY 101µs ok"]
    );
    assert_eq!(desyncs(&script.get_state(STOP).events()), ["desync STOP not RUNNING by GetState"]);
    let failed = found(STOP_COPY).reset(-5).get_state(STOP_COPY);
    assert_eq!(briefs(&failed.events()), ["reset to ? EIO", "get_state ok"]);
    let none = RecordScript::new(0xd1).device(BDF, "vfio-pci", 0).reset(0);
    assert_eq!(briefs(&none.events()), ["reset to ? ok"], "a device without migration has no state");
    // Put off by the driver until the request of another thread is over.
    let script = found(RUNNING);
    let start = script.now;
    let script = script.next(RUNNING, STOP, STOP, 0).thread(412, 2).reset(0).thread(412, 412);
    let script =
        script.set_state(start, STOP, 0, 0).set_ioctl(start, STOP, 0, -1).set(&[RUNNING, PRE_COPY], 0, -1);
    assert_eq!(briefs(&script.events())[0], "reset to ? ok");
    assert_eq!(desyncs(&script.events()), [""; 0]);
}

#[test]
fn a_closed_device_is_its_drivers() {
    // mlx5 and its like make it RUNNING when it is opened, mtty leaves it where it was.
    for state in [RUNNING, STOP] {
        let script = found(STOP_COPY).set(&[STOP_COPY, STOP], 0, -1).close(1);
        let script = seen_again(script, Role::Open, state).open(1).set(&[state, RUNNING_P2P], 0, -1);
        assert_eq!(desyncs(&script.events()), [""; 0]);
        let opens: Vec<Option<MigState>> = script
            .events()
            .iter()
            .filter_map(|event| if let EventData::Open(open) = &event.data { Some(open.state) } else { None })
            .collect();
        assert_eq!(opens, [Some(MigState(state))]);
    }
    let unreadable = found(STOP).close(1).device(BDF, "mtty", FLAGS).open(1).set(&[RUNNING, STOP], 0, -1);
    assert_eq!(desyncs(&unreadable.events()), [""; 0]);
    assert_eq!(desyncs(&found(STOP).close(1).get_state(RUNNING).events()), [""; 0]);
    let lost = found(STOP).close(1).open(1).lose().set(&[RUNNING, PRE_COPY], 0, -1);
    assert_eq!(desyncs(&lost.events()), [""; 0], "its open was lost");
    assert_eq!(desyncs(&found(STOP).close(2).get_state(RUNNING).events()).len(), 1, "somebody has it open");
}

#[test]
fn what_was_read_without_a_lock_counts_when_its_thread_goes_on() {
    let read = |script: RecordScript, state| seen_again(script.thread(412, 2), Role::Open, state);
    let script = read(found(PRE_COPY), STOP).open(2);
    assert_eq!(desyncs(&script.events()), ["desync STOP not PRE_COPY by Device"]);
    // The device was read after the next arc, whose record came later.
    let ahead = read(found(PRE_COPY), STOP_COPY).thread(412, 412);
    let ahead = ahead.set(&[PRE_COPY, STOP_COPY], 0, -1).set(&[STOP_COPY, STOP], 0, -1);
    assert_eq!(desyncs(&ahead.thread(412, 2).open(2).get_state(STOP).events()), [""; 0]);
    let script = read(found(PRE_COPY), STOP_COPY).thread(412, 412);
    let script = script.next(PRE_COPY, STOP_COPY, STOP_COPY, 0).thread(412, 2).open(2);
    assert_eq!(desyncs(&script.events()), [""; 0], "and is still on the way");
    // A thread that is found to hold the device does not go on by that.
    let held =
        read(found(PRE_COPY), STOP_COPY).holder(23).thread(412, 412).set(&[PRE_COPY, STOP_COPY], 0, -1);
    assert_eq!(desyncs(&held.events()), [""; 0]);
    // The driver has yet to carry out the reset.
    let script = read(found(PRE_COPY).reset(0), PRE_COPY).open(2).get_state(RUNNING);
    assert_eq!(desyncs(&script.events()), [""; 0]);
    // In the middle of an arc.
    let script = found(PRE_COPY);
    let start = script.now;
    for state in [PRE_COPY, STOP_COPY] {
        let arc = script.clone().next(PRE_COPY, STOP_COPY, STOP_COPY, 0);
        let script = read(arc, state).open(2).thread(412, 412).set_state(start, STOP_COPY, 0, 0);
        assert_eq!(desyncs(&script.set(&[STOP_COPY, STOP], 0, -1).events()), [""; 0]);
    }
    // By the inventory: its thread has nothing more to say.
    let script = seen_again(found(PRE_COPY).thread(9, 9), Role::Inventory, STOP);
    let mut assembler = EventAssembler::new();
    for record in script.records() {
        assert!(desyncs(&assembler.push(&record)).is_empty());
    }
    assert_eq!(desyncs(&assembler.expire(script.now + HOLD_NS)), ["desync STOP not PRE_COPY by Device"]);
}

#[test]
fn late_answers_are_no_desync() {
    // Thread 2 asks, gets PRE_COPY, and returns after thread 1 has gone on.
    let script = found(PRE_COPY);
    let start = script.now;
    let late = script.wait(500).thread(412, 1).set(&[PRE_COPY, STOP_COPY], 0, -1).thread(412, 2);
    let late = late.got_state(start, PRE_COPY).thread(412, 1).set(&[STOP_COPY, STOP], 0, -1);
    assert_eq!(desyncs(&late.events()), [""; 0]);
    // Thread 1's request returns after thread 2's next one.
    let script = found(PRE_COPY).thread(412, 1);
    let start = script.now;
    let late = script.next(PRE_COPY, STOP_COPY, STOP_COPY, 0).wait(100_000).thread(412, 2);
    let late = late.set(&[STOP_COPY, STOP], 0, -1).thread(412, 1).set_state(start, STOP_COPY, 0, 0);
    assert_eq!(desyncs(&late.thread(412, 2).get_state(STOP).events()), [""; 0]);
}

#[test]
fn devices_come_and_go() {
    let seen =
        |script: RecordScript, role, state| script.device_in(BDF, "mtty", FLAGS, role, Some((state, 0)));
    let script =
        seen(RecordScript::new(0xd1).thread(1, 1), Role::Register, RUNNING).register(0).thread(412, 412);
    let script = seen(script, Role::Open, RUNNING).open(1).set(&[RUNNING, STOP], 0xf1, -1);
    // Removed while a process has it open, which closes it after that.
    let script = seen(script.thread(1, 1).unregister().thread(412, 412), Role::Close, STOP);
    let script = script.release(0xf1, 0).close(1);
    let script = seen(script.thread(1, 1), Role::Register, RUNNING).register(0).thread(412, 412);
    let events = seen(script, Role::Open, RUNNING).open(1).set(&[RUNNING, STOP], 0, -1).events();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind().name()).collect();
    assert_eq!(
        kinds,
        [
            "device",
            "register",
            "open",
            "arc",
            "set_state",
            "unregister",
            "data_close",
            "close",
            "device",
            "register",
            "open",
            "arc",
            "set_state"
        ]
    );
    let numbers: Vec<u32> = events.iter().filter_map(|event| Some(event.device.as_ref()?.nr)).collect();
    assert_eq!(numbers, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    assert!(events.iter().all(|event| event.device_name() == Some(BDF)));
    let failed = seen(RecordScript::new(0xd1), Role::Register, RUNNING).register(-16).events();
    assert_eq!(briefs(&failed), ["register EBUSY"]);
}

#[test]
fn holders_are_told_with_their_process() {
    let events = found(RUNNING).thread(777, 778).holder(23).events();
    let [_, VfioEvent { data: EventData::Held(holder), process, duration_ns: None, .. }] = &events[..] else {
        panic!("{events:#?}")
    };
    assert_eq!((holder.fd, process.pid, process.tid), (23, 777, 778));
}

/// Complete actions of one thread on the device: no other thread can act in between, but its last records may come
/// late.
#[derive(Clone, Debug)]
enum DeviceAction {
    Walk(Vec<u32>, bool),
    Get,
    Reset,
    OpenAgain,
    Reopen(bool),
}

fn any_deed() -> impl Strategy<Value = DeviceAction> {
    let path = proptest::collection::vec(1..8u32, 1..4);
    prop_oneof![
        4 => (path, any::<bool>()).prop_map(|(path, fails)| DeviceAction::Walk(path, fails)),
        3 => Just(DeviceAction::Get),
        1 => Just(DeviceAction::Reset),
        2 => Just(DeviceAction::OpenAgain),
        1 => any::<bool>().prop_map(DeviceAction::Reopen),
    ]
}

/// The records of what a call does at its end.
type ReturnRecords = Box<dyn Fn(RecordScript) -> RecordScript>;

/// Acts as a typical driver; returns the records that its calls leave: those made with its lock held or before, and
/// those of the returns.
fn act(script: RecordScript, deed: &DeviceAction, state: &mut u32) -> (RecordScript, ReturnRecords) {
    let start = script.now;
    let script = script.wait(1_000);
    match deed.clone() {
        DeviceAction::Walk(path, fails) => {
            let target = *path.last().unwrap();
            let mut script = script;
            for next in path {
                if next != *state {
                    script = script.next(*state, target, next, 0).wait(100_000);
                    if fails && next == target {
                        let end = move |script: RecordScript| {
                            script.set_state(start, target, -5, 0).set_ioctl(start, target, -5, -1)
                        };
                        return (script, Box::new(end));
                    }
                    *state = next;
                }
            }
            let end = move |script: RecordScript| {
                script.set_state(start, target, 0, 0).set_ioctl(start, target, 0, -1)
            };
            (script, Box::new(end))
        },
        DeviceAction::Get => {
            let state = *state;
            (script, Box::new(move |script| script.got_state(start, state)))
        },
        DeviceAction::Reset => {
            *state = RUNNING;
            (script.wait(1_000_000), Box::new(move |script| script.was_reset(start, 0)))
        },
        DeviceAction::OpenAgain => {
            (seen_again(script, Role::Open, *state), Box::new(|script| script.open(2)))
        },
        DeviceAction::Reopen(resets) => {
            if resets {
                *state = RUNNING;
            }
            let seen = Some((*state, 1));
            let script = script.close(1).device_in(BDF, "mtty", FLAGS, Role::Open, seen).open(1);
            (script, Box::new(|script| script))
        },
    }
}

/// Returns the records of deeds by changing threads. One that is `late` returns only after the next one, of another
/// thread.
fn lossless(deeds: &[(DeviceAction, u32, bool)]) -> Vec<WireRecord> {
    let (mut script, mut state) = (found(RUNNING), RUNNING);
    let mut pending: Option<(u32, ReturnRecords)> = None;
    for (deed, tid, late) in deeds {
        // The last close is not possible while a thread is in the middle of a call.
        let waits = |other: u32| other != *tid && !matches!(deed, DeviceAction::Reopen(_));
        if let Some((other, end)) = pending.take_if(|(other, _)| !waits(*other)) {
            script = end(script.thread(412, other));
        }
        let (began, end) = act(script.thread(412, *tid), deed, &mut state);
        script = began;
        if *late && pending.is_none() {
            pending = Some((*tid, end));
            continue;
        }
        script = end(script);
        if let Some((other, end)) = pending.take() {
            script = end(script.thread(412, other));
        }
        script = script.wait(10_000);
    }
    match pending {
        Some((tid, end)) => end(script.thread(412, tid)).records(),
        None => script.records(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_desync_without_a_loss(
        deeds in proptest::collection::vec((any_deed(), 1..4u32, any::<bool>()), 0..20),
    ) {
        let events = assemble(&lossless(&deeds));
        prop_assert_eq!(desyncs(&events), [""; 0]);
    }

    #[test]
    fn an_unseen_change_is_told_once(
        deeds in proptest::collection::vec((any_deed(), 1..4u32), 0..10), to in 1..8u32,
    ) {
        let deeds: Vec<(DeviceAction, u32, bool)> = deeds.into_iter().map(|(deed, tid)| (deed, tid, false)).collect();
        let mut script = found(RUNNING);
        let mut state = RUNNING;
        for (deed, tid, _) in &deeds {
            let (began, end) = act(script.thread(412, *tid), deed, &mut state);
            script = end(began).wait(10_000);
        }
        // Settle where a failure may have left it, then let it change behind our backs.
        script = script.get_state(state);
        let kinds: BTreeSet<String> = desyncs(&script.get_state(to).get_state(to).events()).into_iter().collect();
        prop_assert_eq!(kinds.len(), usize::from(to != state));
    }
}
