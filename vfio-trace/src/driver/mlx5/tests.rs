//! Tests of the plug-in with events as its driver would cause them: there is no hardware to record from.

use std::sync::{Arc, LazyLock};

use proptest::{prelude::*, sample::select};

use super::{
    Mlx5Plugin,
    explain::{NO_HEADER, READ_HEADER},
};
use crate::{
    driver::{DriverPlugin as _, fixture::*},
    event::{CaptureMoment, CaptureNote, DataIo, EventData, MigState as S, PrecopyInfo, ReadEnd},
};

const ENODEV: u32 = 19;
const EREMOTEIO: u32 = 121;

static CORE: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| {
    let members = [
        ("mig_state", 4, 1),
        ("mdev_detach", 1, 1),
        ("tracker.is_err", 1, 1),
        ("tracker.object_changed", 1, 1),
    ];
    layout("device", &members, &[])
});
static SAVING: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| {
    layout("saving_migf", &[("state", 4, 1), ("max_pos", 8, 1), ("async_data.status", 4, 1)], &[])
});
static RESUMING: LazyLock<Arc<CaptureNote>> = LazyLock::new(|| {
    layout("resuming_migf", &[("state", 4, 1), ("load_state", 4, 1), ("max_pos", 8, 1)], &[])
});
/// Makes a layout of the file being loaded with the values that BTF gives `enum mlx5_vf_load_state`.
fn resuming(values: &[(&str, u64)]) -> Arc<CaptureNote> {
    let mut layout = CaptureNote::clone(&RESUMING);
    layout.fields[1].values = values.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
    Arc::new(layout)
}

/// Layout as in Linux 6.1.
static OLD: LazyLock<Arc<CaptureNote>> =
    LazyLock::new(|| layout("resuming_migf", &[("total_length", 8, 1)], &[]));

fn copied(layout: &Arc<CaptureNote>, values: &[(&str, u64)]) -> EventData {
    EventData::Image(image(layout, CaptureMoment::Arc, values))
}

fn info(initial_bytes: u64, errno: u32) -> EventData {
    EventData::PrecopyInfo(PrecopyInfo {
        session: Some(1),
        initial_bytes: (errno == 0).then_some(initial_bytes),
        dirty_bytes: None,
        flags: None,
        outcome: outcome(errno),
    })
}

fn fed() -> PluginHarness {
    PluginHarness::new(&Mlx5Plugin)
}

type Mlx5FindingKey<'a> = (&'a str, &'a str, &'a str);

#[track_caller]
fn expect(fed: &mut PluginHarness, wanted: &[Mlx5FindingKey<'_>]) {
    let found = fed.found();
    let found: Vec<Mlx5FindingKey<'_>> =
        found.iter().map(|(code, step, errno)| (code.as_str(), step.as_str(), errno.as_str())).collect();
    assert_eq!(found, wanted);
}

#[test]
fn only_what_waits_for_a_save_fails_of_one() {
    let said = |function, errno| {
        let mut fed = fed();
        fed.feed([step(function, errno, &[1, 0])]);
        fed.texts().concat()
    };
    let (query, save) = ("mlx5vf_cmd_query_vhca_migration_state", "mlx5vf_cmd_save_vhca_state");
    let (suspend, resume, load) =
        ("mlx5vf_cmd_suspend_vhca", "mlx5vf_cmd_resume_vhca", "mlx5vf_cmd_load_vhca_state");
    for (errno, words, of_a_save, not) in [
        (ENODEV, "a save had failed before", &[query, save][..], &[suspend, resume, load][..]),
        // mlx5vf_cmd_suspend_vhca() waits too, but does not check the result.
        (512, "a save in progress", &[query, save, suspend], &[resume, load]),
        (4, "a save in progress", &[query, save, suspend], &[resume, load]),
    ] {
        for function in of_a_save {
            assert!(said(function, errno).contains(words), "{function} {errno}");
        }
        for function in not {
            let text = said(function, errno);
            assert!(!text.is_empty() && !text.contains("a save"), "{text}");
        }
    }
    // The firmware's status becomes an ordinary errno: it is not known whether the firmware was asked.
    assert!(said("mlx5vf_cmd_suspend_vhca", 22).contains("or the firmware refused"));
}

#[test]
fn steps_have_names() {
    let mut fed = fed();
    for (function, args, name, detail) in [
        ("mlx5vf_cmd_suspend_vhca", &[1, 0][..], Some("suspend initiator"), None),
        // Bits of a register above a u16 do not belong to it.
        ("mlx5vf_cmd_suspend_vhca", &[1, 0x1_0001], Some("suspend responder"), None),
        ("mlx5vf_cmd_suspend_vhca", &[], Some("suspend"), None),
        ("mlx5vf_cmd_resume_vhca", &[1, 0], Some("resume responder"), None),
        ("mlx5vf_cmd_resume_vhca", &[1, 1], Some("resume initiator"), None),
        // 6.1, 6.12, 7.3
        ("mlx5vf_cmd_query_vhca_migration_state", &[1, 2], Some("query size"), None),
        ("mlx5vf_cmd_query_vhca_migration_state", &[1, 2, 3, 0], Some("query size"), Some("full image")),
        (
            "mlx5vf_cmd_query_vhca_migration_state",
            &[1, 2, 3, 3],
            Some("query size"),
            Some("incremental, final"),
        ),
        (
            "mlx5vf_cmd_query_vhca_migration_state",
            &[1, 2, 3, 4, 5],
            Some("query size"),
            Some("incremental, clean-up"),
        ),
        ("mlx5vf_cmd_save_vhca_state", &[1, 2], Some("begin save"), None),
        ("mlx5vf_cmd_save_vhca_state", &[1, 2, 3, 0, 0], Some("begin save"), Some("full image")),
        (
            "mlx5vf_cmd_save_vhca_state",
            &[1, 2, 3, 1, 1],
            Some("begin save"),
            Some("incremental, go on tracking"),
        ),
        ("mlx5vf_save_callback", &[0, 2], Some("save done"), None),
        ("mlx5vf_cmd_load_vhca_state", &[1, 2, 3], Some("load"), None),
        ("something_else", &[1], None, None),
    ] {
        let event = fed.take(step(function, 0, args));
        let EventData::Step(step) = event.data else { panic!("{event:?}") };
        assert_eq!((step.step.as_deref(), step.detail.as_deref()), (name, detail), "{function} {args:x?}");
    }
    expect(&mut fed, &[]);
}

#[test]
fn every_step_that_is_wanted_has_a_name() {
    let mut fed = fed();
    for wanted in Mlx5Plugin.wanted().steps {
        let event = fed.take(step(wanted.name, 0, &[0; 5]));
        let EventData::Step(step) = event.data else { panic!("{event:?}") };
        assert!(step.step.is_some(), "{}", wanted.name);
    }
}

#[test]
fn commands_fail() {
    for (function, code, name) in [
        ("mlx5vf_cmd_suspend_vhca", "mlx5/suspend", "suspend"),
        ("mlx5vf_cmd_resume_vhca", "mlx5/resume", "resume"),
        ("mlx5vf_cmd_query_vhca_migration_state", "mlx5/query", "query size"),
        ("mlx5vf_cmd_save_vhca_state", "mlx5/save", "begin save"),
        ("mlx5vf_cmd_load_vhca_state", "mlx5/load", "load"),
    ] {
        for (errno, shown) in [
            (107, "ENOTCONN"),
            (EREMOTEIO, "EREMOTEIO"),
            (110, "ETIMEDOUT"),
            (4, "EINTR"),
            (ENODEV, "ENODEV"),
            (12, "ENOMEM"),
        ] {
            let mut fed = fed();
            fed.feed([step(function, errno, &[1, 0])]);
            expect(&mut fed, &[(code, name, shown)]);
        }
    }
    // The caller of a command returns the same error again.
    let mut fed = fed();
    fed.feed([step("mlx5vf_pci_save_device_data", EREMOTEIO, &[1])]);
    expect(&mut fed, &[]);
}

#[test]
fn a_save_fails_behind_the_drivers_back() {
    let mut fed = fed();
    let status = u64::from((-121i32).cast_unsigned());
    fed.feed([step("mlx5vf_save_callback", 0, &[status, 2]), EventData::Read(io(40, ENODEV))]);
    expect(&mut fed, &[("mlx5/save-failed", "save done", "EREMOTEIO")]);
    // Errors of the next session are its own.
    fed.feed([arc(S::STOP_COPY, S::STOP, 0), EventData::Read(io(40, ENODEV))]);
    expect(&mut fed, &[("mlx5/session-over", "read", "ENODEV")]);
    // A record without arguments says nothing.
    fed.feed([step("mlx5vf_save_callback", 0, &[])]);
    expect(&mut fed, &[]);
}

#[test]
fn the_file_tells_of_a_failed_save() {
    let file = |state, status| copied(&SAVING, &[("state", state), ("async_data.status", status)]);
    let mut fed = fed();
    fed.feed([file(3, 0), file(3, 0), file(2, 9), file(2, 9)]);
    expect(&mut fed, &[("mlx5/pre-copy-error", "save done", "-")]);
    fed.feed([file(4, 0), file(1, 0xffff_ff87)]);
    expect(&mut fed, &[("mlx5/save-file-error", "save done", "-")]);
    // At first sight, the condition may be old.
    fed.feed([reset(), file(1, 0)]);
    expect(&mut fed, &[]);
}

#[test]
fn a_failed_tracker() {
    let mut fed = fed();
    let core = |name| copied(&CORE, &[(name, 1)]);
    fed.feed([core("mdev_detach"), core("tracker.is_err"), core("tracker.is_err")]);
    expect(&mut fed, &[("mlx5/tracker-error", "track dirty pages", "-")]);
    fed.feed([core("tracker.object_changed")]);
    expect(&mut fed, &[("mlx5/tracker-error", "track dirty pages", "-")]);
}

#[test]
fn initial_bytes_are_left() {
    let enters = |from| arc(from, S::STOP_COPY, 0);
    let mut fed = fed();
    fed.feed([info(100, 0), EventData::Read(io(40, 0)), enters(S::PRE_COPY_P2P)]);
    expect(&mut fed, &[("mlx5/initial-bytes-left", "final save", "-")]);
    fed.feed([EventData::Read(io(60, 0)), enters(S::PRE_COPY_P2P)]);
    expect(&mut fed, &[]);
    // A later answer counts, an error does not.
    fed.feed([info(100, 0), info(0, 0), enters(S::PRE_COPY_P2P), info(8, 22), enters(S::PRE_COPY)]);
    expect(&mut fed, &[]);
    fed.feed([info(8, 0), reset(), enters(S::PRE_COPY), info(8, 0), arc(S::PRE_COPY_P2P, S::STOP_COPY, 5)]);
    expect(&mut fed, &[]);
}

#[test]
fn a_load_that_was_none() {
    let loads = |events: Vec<EventData>| {
        let mut fed = fed();
        fed.feed(events).feed([arc(S::RESUMING, S::STOP, 0)]);
        fed.codes()
    };
    assert!(loads(vec![]).is_empty());
    // Linux 6.1 loads in this arc, which fails if loading fails.
    assert!(loads(vec![copied(&OLD, &[("total_length", 3)])]).is_empty());
    let older = resuming(&[(NO_HEADER, 0), (READ_HEADER, 1)]);
    let newer = resuming(&[(READ_HEADER, 0)]);
    for (layout, whole, within) in
        [(&older, &[0, 1][..], &[2, 5][..]), (&newer, &[0], &[1, 4]), (&RESUMING, &[0, 1, 5], &[])]
    {
        let file = |state, load_state, max_pos| {
            copied(layout, &[("state", state), ("load_state", load_state), ("max_pos", max_pos)])
        };
        for load_state in whole {
            assert!(loads(vec![file(0, *load_state, 4096)]).is_empty(), "{load_state} {layout:?}");
            for bad in [file(0, *load_state, 0), file(1, *load_state, 4096)] {
                assert_eq!(loads(vec![bad]), ["mlx5/load-incomplete"]);
            }
        }
        for load_state in within {
            assert_eq!(loads(vec![file(0, *load_state, 4096)]), ["mlx5/load-incomplete"], "{layout:?}");
        }
        let failed = [
            step("mlx5vf_cmd_load_vhca_state", EREMOTEIO, &[1]),
            EventData::Write(io(9, EREMOTEIO)),
            file(0, 5, 9),
        ];
        assert_eq!(loads(failed.into()), ["mlx5/load", "mlx5/load-incomplete"]);
    }
}

#[test]
fn an_interrupted_write_has_failed_nothing() {
    let again = |errno| EventData::Write(DataIo { dry: Some(ReadEnd::ForNow), ..io(9, errno) });
    let file = copied(&RESUMING, &[("max_pos", 4096)]);
    let mut fed = fed();
    fed.feed([again(512), again(4), EventData::Write(io(9, 0)), file, arc(S::RESUMING, S::STOP, 0)]);
    expect(&mut fed, &[]);
}

#[test]
fn writes_that_fail() {
    for (errno, wanted) in [
        (95, &[("mlx5/stream-tag", "load", "EOPNOTSUPP")][..]),
        (12, &[("mlx5/stream-size", "load", "ENOMEM")]),
        (ENODEV, &[("mlx5/session-over", "write", "ENODEV")]),
        (14, &[]),
        (0, &[]),
    ] {
        let mut fed = fed();
        fed.feed([EventData::Write(io(9, errno))]);
        expect(&mut fed, wanted);
    }
    // The driver accepts no more data after a failed write: that is not new.
    let mut fed = fed();
    fed.feed([EventData::Write(io(9, 95)), EventData::Write(io(9, ENODEV))]);
    expect(&mut fed, &[("mlx5/stream-tag", "load", "EOPNOTSUPP")]);
}

#[test]
fn it_has_no_files() {
    let mut fed = fed();
    fed.feed([open()]);
    assert_eq!(fed.view("mlx5/data"), "error: there is no file mlx5/data");
    assert!(Mlx5Plugin.files().is_empty());
}

fn any_data() -> impl Strategy<Value = EventData> {
    let errno = select(vec![0, 4, 12, ENODEV, 22, 95, 107, EREMOTEIO, 512, 5000]);
    let names: Vec<&str> = Mlx5Plugin.wanted().steps.iter().map(|step| step.name).collect();
    let steps = (select(names), errno.clone(), proptest::collection::vec(any::<u64>(), 0..6))
        .prop_map(|(name, errno, args)| step(name, errno, &args));
    let layouts = [&CORE, &SAVING, &RESUMING, &OLD].map(|layout| Arc::clone(layout));
    let images =
        (select(layouts.to_vec()), proptest::collection::vec(0..6u8, 0..20)).prop_map(|(layout, bytes)| {
            let EventData::Image(image) = copied(&layout, &[]) else { return open() };
            EventData::Image(crate::event::DriverImage { bytes, ..image })
        });
    let arcs = (0..9u32, 0..9u32, errno.clone()).prop_map(|(from, to, errno)| arc(S(from), S(to), errno));
    prop_oneof![
        steps,
        images,
        arcs,
        (any::<u64>(), errno.clone()).prop_map(|(bytes, errno)| info(bytes, errno)),
        (any::<u64>(), errno.clone()).prop_map(|(bytes, errno)| EventData::Read(io(bytes, errno))),
        (any::<u64>(), errno).prop_map(|(bytes, errno)| EventData::Write(io(bytes, errno))),
        select(vec![open(), close(1), reset(), pci_reset()]),
    ]
}

proptest! {
    #[test]
    fn any_order_of_any_events(events in proptest::collection::vec((1..3u32, any_data()), 0..60)) {
        let mut fed = fed();
        for (nr, data) in events {
            fed.on(nr).take(data);
        }
        for code in fed.codes() {
            prop_assert!(code.starts_with("mlx5/"), "{}", code);
        }
    }
}
