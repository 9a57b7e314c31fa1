//! Tests of missing events: attached in the middle, lost records, a state that changed unseen.

use vfio_trace_common::{role::Role, uapi};

use super::*;
use crate::{
    event::{GapFunction, ProbeGap, RecordNote},
    report::document::SessionEnd,
};

/// Makes a source that is found in a state.
fn found_in(state: u32) -> RecordScript {
    RecordScript::new(0xd1).device_in("a", "mtty", 7, Role::Inventory, Some((state, 1)))
}

/// Makes a document with these losses in the counters.
fn lacking(losses: HostLosses, scripts: &[RecordScript]) -> MigrationDocument {
    let losses = HostLosses { complete: true, missed: Some(0), ..losses };
    let host = TracedHost { losses, ..host("h") };
    documented(&[history_on(host, ANCHOR, Some(0), &together(scripts))])
}

fn names(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn attached_in_pre_copy() {
    let source = found_in(PRE_COPY)
        .until(90 * MS)
        .read(FROM, 1 << 20, 24, 0)
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .until(110 * MS)
        .set(&[PRE_COPY_P2P, STOP_COPY], 0, -1);
    let source =
        read_all(source, 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1).release(FROM, 24 + MIB);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    let side = one_device(&document).source.as_ref().unwrap();
    assert!(side.partial);
    assert_eq!((side.verdict, side.start_ns), (MigrationVerdict::Completed, 90 * MS), "its first read");
    assert_eq!(document.sessions[1].end, SessionEnd::Eof);
    assert!(document.sessions[1].partial);
    // All events that matter were seen.
    assert_eq!(
        (downtime(&document).total_ns, downtime(&document).bound),
        (50 * MS + ARC, DowntimeBound::Exact)
    );
}

#[test]
fn attached_in_pre_copy_p2p() {
    let source = found_in(PRE_COPY_P2P).until(110 * MS).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1);
    let source = read_all(source, 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    // The downtime was longer for sure; but not all was read, and the destination is paired by a guess.
    assert_eq!(
        (downtime(&document).total_ns, downtime(&document).bound),
        (40 * MS + ARC, DowntimeBound::About)
    );
}

#[test]
fn attached_in_pre_copy_p2p_and_taken_back() {
    let script = found_in(PRE_COPY_P2P).until(110 * MS).set(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Cancelled);
    assert_eq!(
        (downtime(&document).total_ns, downtime(&document).bound),
        (2 * ARC + 500, DowntimeBound::AtLeast)
    );
}

#[test]
fn attached_in_stop_copy() {
    let source = read_all(found_in(STOP_COPY), 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
    // The downtime is counted from the first read that was seen.
    assert_eq!(
        (downtime(&document).total_ns, downtime(&document).bound),
        (30 * MS + LEAD + ARC, DowntimeBound::About)
    );
    assert_eq!(downtime(&document).stage(DowntimeStage::Read).unwrap().share_ns, 2 * READ);
}

#[test]
fn attached_in_resuming() {
    let destination = RecordScript::new(0xd2)
        .thread(DESTINATION, DESTINATION)
        .device_in("b", "mtty", 7, Role::Inventory, Some((RESUMING, 1)))
        .until(125 * MS)
        .write(TO, MIB, 24)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .until(150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[whole_source(), destination]);
    check(&document);
    let migration = one(&document);
    assert_eq!(migration.verdict, MigrationVerdict::Completed);
    assert_eq!(downtime(&document).total_ns, 50 * MS + ARC);
    // Fewer bytes were seen written than read, which is no error.
    assert_eq!(codes(migration), [""; 0]);
}

#[test]
fn the_arc_that_stops_is_lost() {
    let source = leaving(7)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(20 * MS)
        .read(FROM, 1 << 20, 24, 0)
        .until(110 * MS)
        .set(&[PRE_COPY_P2P, STOP_COPY], 0, -1);
    let source = read_all(source, 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (40 * MS + ARC, DowntimeBound::About));
    assert!(downtime.why.as_ref().unwrap().contains("an arc was not seen"), "{:?}", downtime.why);
}

#[test]
fn the_arc_that_saves_is_lost() {
    let source = leaving(7)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(20 * MS)
        .read(FROM, 1 << 20, 24, 0)
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1);
    let source = read_all(source, 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (50 * MS + ARC, DowntimeBound::About));
}

#[test]
fn both_arcs_are_lost() {
    let source = leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).until(20 * MS).read(
        FROM,
        1 << 20,
        24,
        0,
    );
    let source = source.until(120 * MS).read(FROM, 1 << 20, MIB, 24).until(145 * MS);
    let source = source.set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    // The device stood still, but it is not known since when; not since PRE_COPY.
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (5 * MS + ARC, DowntimeBound::About));
}

#[test]
fn counters_say_that_arcs_are_lost() {
    let losses = HostLosses { control: names(&["vfio_mig_get_next_state: 3 lost"]), ..HostLosses::default() };
    let document = lacking(losses, &[whole_source(), whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (50 * MS + ARC, DowntimeBound::About));
    assert_eq!(downtime.uncertainty_ns, None);
    assert!(document.warnings.iter().any(|warning| warning.code == "transitions-lacking"));
}

/// Checks that the document does not exclude a migration that may have been missed.
#[test]
fn a_migration_that_may_have_been_lost_is_not_denied() {
    let said = |losses: HostLosses| {
        let document = lacking(losses, &[]);
        crate::output::report_text(&document, &jiff::tz::TimeZone::UTC, false)
    };
    assert!(said(HostLosses::default()).contains("no migration was seen: no device was seen to leave"));
    let text = said(HostLosses { control: names(&["quay_shift: 3 lost"]), ..HostLosses::default() });
    assert!(
        text.contains("no migration was seen; but not all") && !text.contains("no migration was seen:"),
        "{text}"
    );
    let text = said(HostLosses { other: names(&["quay_where: 3 lost"]), ..HostLosses::default() });
    assert!(
        text.contains("no migration was seen:") && text.contains("other events are missing: quay_where"),
        "{text}"
    );
}

#[test]
fn counters_say_that_reads_are_lost() {
    let losses = HostLosses { data: names(&["mtty_save_read: 1 lost"]), ..HostLosses::default() };
    let source = stopped_source().until(130 * MS).read(FROM, 1 << 20, 0, 24 + MIB).until(200 * MS);
    let source = source.set(&[STOP_COPY, STOP], 0, -1).release(FROM, 24 + MIB);
    let document = lacking(losses, &[source, whole_destination()]);
    check(&document);
    let downtimes: Vec<_> = document.migrations.iter().filter_map(|one| one.downtime.as_ref()).collect();
    assert!(!downtimes.is_empty() && downtimes.iter().all(|downtime| downtime.bound != DowntimeBound::Exact));
    let session = document.sessions.iter().find(|session| session.missed_bytes == Some(1 << 20));
    assert_eq!(session.map(|session| session.bytes), Some(24));
    for migration in &document.migrations {
        assert_eq!(migration.verdict, MigrationVerdict::Completed);
        assert!(!codes(migration).contains(&"bytes-differ"));
    }
}

#[test]
fn the_state_changes_unseen() {
    let script = leaving(7)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(400 * MS)
        .get_state(RUNNING)
        .until(900 * MS)
        .get_state(RUNNING);
    let document = traced(&[script]);
    check(&document);
    let marks: Vec<_> = document.devices[0].marks.iter().map(|mark| mark.text.as_str()).collect();
    assert!(marks.iter().any(|text| text.starts_with("found in RUNNING, not in PRE_COPY")), "{marks:?}");
    assert_eq!(one(&document).verdict, MigrationVerdict::Unfinished);
    assert_eq!(one(&document).downtime, None);
}

#[test]
fn an_arc_is_in_progress_when_tracing_ends() {
    let script = stop(leaving(7), 0).until(120 * MS).wait(1_000).next(STOP_COPY, STOP, STOP, 0).wait(5 * MS);
    let document = traced(&[script]);
    check(&document);
    assert!(downtime(&document).bound != DowntimeBound::Exact);
}

#[test]
fn a_recording_without_an_end() {
    let host = TracedHost { losses: HostLosses::default(), ..host("h") };
    let document = documented(&[history_on(host, ANCHOR, None, &together(&[whole_source()]))]);
    assert!(document.warnings.iter().any(|warning| warning.code == "no-end"));
}

#[test]
fn what_a_recording_without_an_end_may_lack_is_marked() {
    let whole = |complete| {
        let traced = host("h");
        let traced = TracedHost { losses: HostLosses { complete, ..traced.losses }, ..traced };
        let records = together(&[whole_source(), whole_destination()]);
        downtime(&documented(&[history_on(traced, ANCHOR, Some(0), &records)])).bound
    };
    assert_eq!((whole(false), whole(true)), (DowntimeBound::About, DowntimeBound::Exact));
}

/// Makes a document in which functions of `module` were not probed from one time to another.
fn unprobed(module: Option<&str>, from: u64, until: Option<u64>) -> MigrationDocument {
    let other = RecordScript::new(0xd9).device("q", "quayside", 7);
    let gap = RecordScript::new(7).until(until.unwrap_or(from)).note(gap_of(
        module,
        &[Role::SetState],
        from,
        until,
    ));
    traced(&[gap, other, whole_source(), whole_destination()])
}

fn gap_of(module: Option<&str>, roles: &[Role], from: u64, until: Option<u64>) -> RecordNote {
    let RecordNote::ProbeGap(gap) = gap_note(from, until) else { panic!() };
    let function = |role: &Role| GapFunction { function: format!("mtty_{}", role.name()), role: *role };
    let functions = roles.iter().map(function).collect();
    RecordNote::ProbeGap(ProbeGap { module: module.map(str::to_owned), functions, ..gap })
}

#[test]
fn a_module_may_have_another_name_than_its_driver() {
    // All functions of the driver nvidia are in nvidia_vgpu_vfio.
    let gap = gap_of(Some("nvidia_vgpu_vfio"), &[Role::SetState], 90 * MS, Some(115 * MS));
    let document =
        traced(&[RecordScript::new(7).until(115 * MS).note(gap), whole_source(), whole_destination()]);
    assert_eq!((not_probed(&document).len(), downtime(&document).bound), (2, DowntimeBound::AtLeast));
}

#[test]
fn a_gap_hides_what_goes_through_its_functions() {
    let of = |scripts: &[RecordScript], role| {
        let gap = gap_of(Some("mtty"), &[role], MS, Some(300 * MS));
        let mut all = vec![RecordScript::new(7).until(300 * MS).note(gap)];
        all.extend(scripts.iter().cloned());
        let document = traced(&all);
        downtime(&document).why.as_ref().is_some_and(|why| why.contains("not probed"))
    };
    let back = || stopped_source().until(200 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1);
    for (role, hidden) in
        [(Role::Read, true), (Role::DataIoctl, true), (Role::Write, false), (Role::SetState, true)]
    {
        assert_eq!(of(&[back()], role), hidden, "{role:?}");
    }
    for (role, hidden) in [(Role::Read, false), (Role::DataIoctl, false), (Role::Write, true)] {
        assert_eq!(of(&[whole_destination()], role), hidden, "{role:?}");
    }
}

#[test]
fn a_probe_that_was_refused_may_be_had_later() {
    let refused = gap_of(Some("mtty"), &[Role::SetState, Role::Read], 2 * MS, None);
    let had = gap_of(Some("mtty"), &[Role::Read, Role::SetState], 2 * MS, Some(3 * MS));
    let part = gap_of(Some("mtty"), &[Role::Read], 2 * MS, Some(3 * MS));
    let bound = |later: Option<RecordNote>| {
        let script = RecordScript::new(7).until(2 * MS).note(refused.clone()).until(3 * MS);
        let script = later.into_iter().fold(script, RecordScript::note);
        downtime(&traced(&[script, whole_source(), whole_destination()])).bound
    };
    assert_eq!(bound(None), DowntimeBound::AtLeast);
    assert_eq!(bound(Some(part)), DowntimeBound::AtLeast);
    assert_eq!(bound(Some(had)), DowntimeBound::Exact);
}

#[test]
fn gaps_that_are_over_take_no_room_of_those_that_are_not() {
    let left_out = |ended: bool| {
        let gaps = (0..40u64).map(|n| {
            let until = ended.then_some(n + 2);
            gap_of(Some(&format!("m{n}")), &[Role::SetState; 500], n + 1, until)
        });
        let script = gaps.fold(RecordScript::new(7).until(10 * MS), RecordScript::note);
        let document = traced(&[script, whole_source(), whole_destination()]);
        document.warnings.iter().any(|warning| warning.code == "left-out")
    };
    assert!(!left_out(true), "no function of them is looked at again");
    assert!(left_out(false));
}

#[test]
fn what_was_read_unseen_is_not_left() {
    let script = |read: bool| {
        let script = leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).precopy_info(FROM, 24, 0);
        let script = if read { script.read(FROM, 1 << 20, 24, 0) } else { script };
        script.until(100 * MS).set(&[PRE_COPY, PRE_COPY_P2P], 0, -1).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1)
    };
    let left = |losses, read| codes(one(&lacking(losses, &[script(read)]))).contains(&"initial-bytes-left");
    assert!(left(HostLosses::default(), false));
    assert!(!left(HostLosses::default(), true));
    assert!(!left(HostLosses { data: names(&["mtty_save_read: 1 lost"]), ..HostLosses::default() }, false));
}

#[test]
fn a_log_that_is_left_on_is_one_that_would_have_been_seen_to_stop() {
    let script = |after: u64| {
        let start = leaving(7).until(5 * MS);
        let at = start.now;
        let flags = uapi::FEATURE_DMA_LOGGING_START | uapi::FEATURE_SET;
        let script = start.feature(at, flags, 0, [4096, 0, 0, 0], [4096, 0, 0, 0]);
        let script = leave(script, 0, MIB);
        script.until(after).get_state(STOP)
    };
    let left = |losses, after| codes(one(&lacking(losses, &[script(after)]))).contains(&"log-left-on");
    assert!(left(HostLosses::default(), 5_000 * MS));
    assert!(!left(HostLosses::default(), 300 * MS));
    assert!(!left(
        HostLosses { control: names(&["vfio_device_fops_unl_ioctl: 1 lost"]), ..HostLosses::default() },
        5_000 * MS
    ));
}

#[test]
fn a_device_that_changes_its_driver_keeps_what_it_did_under_the_first() {
    let script = whole_source().until(400 * MS).close(1).unregister();
    let later = RecordScript::new(0xd7).until(500 * MS).device("a", "vfio-pci", 0).open(1);
    let document = traced(&[script, later]);
    let drivers: Vec<_> = document.devices.iter().map(|device| device.driver.as_deref()).collect();
    assert_eq!(drivers, [Some("mtty"), Some("vfio-pci")]);
    let side = one_device(&document).source.as_ref().unwrap();
    assert_eq!(document.devices[side.device as usize].driver.as_deref(), Some("mtty"));
}

fn not_probed(document: &MigrationDocument) -> Vec<&str> {
    let told = document.warnings.iter().filter(|warning| warning.code == "not-probed");
    told.map(|warning| warning.text.as_str()).collect()
}

#[test]
fn a_device_that_was_used_while_its_driver_was_not_probed() {
    let document = unprobed(Some("mtty"), 90 * MS, Some(115 * MS));
    let told = not_probed(&document);
    let [source, _destination] = told[..] else { panic!("{told:?}") };
    assert_eq!(
        source,
        "the device was used while not all was probed, for 25.000 ms: mtty_set_state of module mtty (loaded while \
         tracing); calls may be missing"
    );
    assert_eq!(downtime(&document).bound, DowntimeBound::AtLeast, "{:?}", downtime(&document).why);
    assert!(downtime(&document).why.as_ref().unwrap().contains("not probed"));

    let open = unprobed(Some("mtty"), 90 * MS, None);
    assert_eq!((not_probed(&open).len(), downtime(&open).bound), (2, DowntimeBound::AtLeast));
    let of_vfio = unprobed(Some("vfio"), 90 * MS, Some(115 * MS));
    assert_eq!((not_probed(&of_vfio).len(), downtime(&of_vfio).bound), (2, DowntimeBound::AtLeast));
}

#[test]
fn a_device_that_was_used_soon_after_its_driver_was_probed() {
    let document = unprobed(Some("mtty"), MS, Some(2 * MS));
    let told = not_probed(&document);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(" after the first probe of mtty_set_state of module mtty"), "{told:?}");
    assert_eq!(downtime(&document).bound, DowntimeBound::Exact);
}

#[test]
fn nothing_is_said_of_a_gap_that_no_device_was_near() {
    // Gaps of another driver, long before any use, and after all.
    for (module, from, until) in [
        ("quayside", 90 * MS, Some(115 * MS)),
        ("mtty", 5_000 * MS, Some(5_100 * MS)),
        ("mtty", 5_000 * MS, None),
    ] {
        let document = unprobed(Some(module), from, until);
        assert_eq!(not_probed(&document), [""; 0], "{module} {from}");
        assert_eq!(downtime(&document).bound, DowntimeBound::Exact);
    }
}

#[test]
fn a_device_that_is_used_after_a_refused_function_was_probed_after_all() {
    let RecordNote::ProbeGap(first) = gap_note(MS, None) else { panic!() };
    let gap = |until| {
        let (module, until_mono_ns) = (Some("mtty".to_owned()), until);
        RecordNote::ProbeGap(ProbeGap { module, until_mono_ns, ..first.clone() })
    };
    let script = || RecordScript::new(7).until(2 * MS).note(gap(None));
    let document = traced(&[script(), whole_source(), whole_destination()]);
    assert_eq!(downtime(&document).bound, DowntimeBound::AtLeast);
    let ended = script().until(3 * MS).note(gap(Some(3 * MS)));
    let document = traced(&[ended, whole_source(), whole_destination()]);
    assert_eq!(downtime(&document).bound, DowntimeBound::Exact, "{:?}", downtime(&document).why);
}

#[test]
fn what_is_closed_does_not_run_again() {
    // The end of the arc was not seen.
    let begun = || leaving(7).until(10 * MS).next(RUNNING, PRE_COPY, PRE_COPY, 0).wait(MS);
    for (script, how) in [
        (begun().close(1), "closed"),
        (begun().close(1).unregister(), "removed"),
        (
            leaving(7).until(10 * MS).set_fails(&[RUNNING, RUNNING_P2P, STOP, STOP_COPY], -5).close(1),
            "failed",
        ),
        (stop(leaving(7), 0).until(120 * MS).set_fails(&[STOP_COPY, STOP], -5).close(1), "failed later"),
    ] {
        let document = traced(&[script]);
        check(&document);
        for migration in &document.migrations {
            assert!(!migration.text.contains("the source runs again"), "{how}: {}", migration.text);
            assert!(migration.recovered != Some(true), "{how}");
        }
    }
    let document = traced(&[begun()]);
    assert!(document.migrations.iter().all(|one| one.recovered != Some(true)));
}
