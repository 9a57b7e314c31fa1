//! What was not seen: attached in the middle, lost records, a state that changed unseen.

use vfio_trace_common::role::Role;

use super::*;
use crate::{
    event::{Note, ProbeGap},
    model::document::SessionEnd,
};

/// A source that is found in a state.
fn found_in(state: u32) -> Script {
    Script::new(0xd1).device_in("a", "mtty", 7, Role::Inventory, Some((state, 1)))
}

/// The same with losses that the counters tell.
fn lacking(losses: Losses, scripts: &[Script]) -> Document {
    let host = Host { losses: Losses { complete: true, ..losses }, ..host("h") };
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
    assert_eq!((side.verdict, side.start_ns), (Verdict::Completed, 90 * MS), "its first read");
    assert_eq!(document.sessions[1].end, SessionEnd::Eof);
    assert!(document.sessions[1].partial);
    // All that matters was seen.
    assert_eq!((downtime(&document).total_ns, downtime(&document).bound), (50 * MS + ARC, Bound::Exact));
}

#[test]
fn attached_in_pre_copy_p2p() {
    let source = found_in(PRE_COPY_P2P).until(110 * MS).set(&[PRE_COPY_P2P, STOP_COPY], 0, -1);
    let source = read_all(source, 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    assert_eq!((downtime(&document).total_ns, downtime(&document).bound), (40 * MS + ARC, Bound::AtLeast));
}

#[test]
fn attached_in_pre_copy_p2p_and_taken_back() {
    let script = found_in(PRE_COPY_P2P).until(110 * MS).set(&[PRE_COPY_P2P, RUNNING_P2P, RUNNING], 0, -1);
    let document = traced(&[script]);
    check(&document);
    assert_eq!(one(&document).verdict, Verdict::Cancelled);
    assert_eq!((downtime(&document).total_ns, downtime(&document).bound), (2 * ARC + 500, Bound::AtLeast));
}

#[test]
fn attached_in_stop_copy() {
    let source = read_all(found_in(STOP_COPY), 0, MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    assert_eq!(one(&document).verdict, Verdict::Completed);
    // From the first read that was seen.
    assert_eq!(
        (downtime(&document).total_ns, downtime(&document).bound),
        (30 * MS + LEAD + ARC, Bound::AtLeast)
    );
    assert_eq!(downtime(&document).stage(Stage::Read).unwrap().share_ns, 2 * READ);
}

#[test]
fn attached_in_resuming() {
    let destination = Script::new(0xd2)
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
    assert_eq!(migration.verdict, Verdict::Completed);
    assert_eq!(downtime(&document).total_ns, 50 * MS + ARC);
    // That fewer bytes were seen written than read is nobody's fault.
    assert_eq!(codes(migration), [""; 0]);
}

#[test]
fn the_arc_that_stops_is_lost() {
    let source = leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).until(110 * MS).set(
        &[PRE_COPY_P2P, STOP_COPY],
        0,
        -1,
    );
    let source = read_all(source, 0, 24 + MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (40 * MS + ARC, Bound::AtLeast));
    assert!(downtime.why.as_ref().unwrap().contains("an arc was not seen"), "{:?}", downtime.why);
}

#[test]
fn the_arc_that_saves_is_lost() {
    let source = leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31).until(100 * MS).set(
        &[PRE_COPY, PRE_COPY_P2P],
        0,
        -1,
    );
    let source = read_all(source, 0, 24 + MIB).until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (50 * MS + ARC, Bound::About));
}

#[test]
fn both_arcs_are_lost() {
    let source = leaving(7).until(10 * MS).set(&[RUNNING, PRE_COPY], FROM, 31);
    let source = source.until(120 * MS).read(FROM, 1 << 20, 24 + MIB, 0).until(145 * MS);
    let source = source.set(&[STOP_COPY, STOP], 0, -1);
    let document = traced(&[source, whole_destination()]);
    check(&document);
    // It stood still, since when is not known; but not since PRE_COPY.
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (5 * MS + ARC, Bound::AtLeast));
}

#[test]
fn counters_say_that_arcs_are_lost() {
    let losses = Losses { control: names(&["vfio_mig_get_next_state: 3 lost"]), ..Losses::default() };
    let document = lacking(losses, &[whole_source(), whole_destination()]);
    check(&document);
    let downtime = downtime(&document);
    assert_eq!((downtime.total_ns, downtime.bound), (50 * MS + ARC, Bound::About));
    assert_eq!(downtime.uncertainty_ns, None);
    assert!(document.warnings.iter().any(|warning| warning.code == "transitions-lacking"));
}

/// What may just not have been seen is not denied.
#[test]
fn a_migration_that_may_have_been_lost_is_not_denied() {
    let said = |losses: Losses| {
        let document = lacking(losses, &[]);
        crate::sink::report_text(&document, &jiff::tz::TimeZone::UTC, false)
    };
    assert!(said(Losses::default()).contains("no migration: no device left RUNNING"));
    let text = said(Losses { control: names(&["quay_shift: 3 lost"]), ..Losses::default() });
    assert!(text.contains("no migration was seen; but not all") && !text.contains("no migration:"), "{text}");
    let text = said(Losses { other: names(&["quay_where: 3 lost"]), ..Losses::default() });
    assert!(
        text.contains("no migration:") && text.contains("other events are missing: quay_where"),
        "{text}"
    );
}

#[test]
fn counters_say_that_reads_are_lost() {
    let losses = Losses { data: names(&["mtty_save_read: 1 lost"]), ..Losses::default() };
    let source = stopped_source().until(130 * MS).read(FROM, 1 << 20, 0, 24 + MIB).until(200 * MS);
    let source = source.set(&[STOP_COPY, STOP], 0, -1).release(FROM, 24 + MIB);
    let document = lacking(losses, &[source, whole_destination()]);
    check(&document);
    let downtimes: Vec<_> = document.migrations.iter().filter_map(|one| one.downtime.as_ref()).collect();
    assert!(!downtimes.is_empty() && downtimes.iter().all(|downtime| downtime.bound != Bound::Exact));
    let session = document.sessions.iter().find(|session| session.missed_bytes == Some(1 << 20));
    assert_eq!(session.map(|session| session.bytes), Some(24));
    for migration in &document.migrations {
        assert_eq!(migration.verdict, Verdict::Completed);
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
    assert_eq!(one(&document).verdict, Verdict::Unfinished);
    assert_eq!(one(&document).downtime, None);
}

#[test]
fn an_arc_is_in_progress_when_tracing_ends() {
    let script = stop(leaving(7), 0).until(120 * MS).wait(1_000).next(STOP_COPY, STOP, STOP, 0).wait(5 * MS);
    let document = traced(&[script]);
    check(&document);
    assert!(downtime(&document).bound != Bound::Exact);
}

#[test]
fn a_recording_without_an_end() {
    let host = Host { losses: Losses::default(), ..host("h") };
    let document = documented(&[history_on(host, ANCHOR, None, &together(&[whole_source()]))]);
    assert!(document.warnings.iter().any(|warning| warning.code == "no-end"));
}

/// What is said of functions of `module` that were not probed from one time to another.
fn unprobed(module: Option<&str>, from: u64, until: Option<u64>) -> Document {
    let Note::ProbeGap(gap) = gap_note(from, until) else { panic!() };
    let gap = Note::ProbeGap(ProbeGap { module: module.map(str::to_owned), ..gap });
    traced(&[Script::new(7).until(until.unwrap_or(from)).note(gap), whole_source(), whole_destination()])
}

fn not_probed(document: &Document) -> Vec<&str> {
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
    assert_eq!(downtime(&document).bound, Bound::AtLeast, "{:?}", downtime(&document).why);
    assert!(downtime(&document).why.as_ref().unwrap().contains("not probed"));

    let open = unprobed(Some("mtty"), 90 * MS, None);
    assert_eq!((not_probed(&open).len(), downtime(&open).bound), (2, Bound::AtLeast));
    let of_vfio = unprobed(Some("vfio"), 90 * MS, Some(115 * MS));
    assert_eq!((not_probed(&of_vfio).len(), downtime(&of_vfio).bound), (2, Bound::AtLeast));
}

#[test]
fn a_device_that_was_used_soon_after_its_driver_was_probed() {
    let document = unprobed(Some("mtty"), MS, Some(2 * MS));
    let told = not_probed(&document);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(" after the first probe of mtty_set_state of module mtty"), "{told:?}");
    assert_eq!(downtime(&document).bound, Bound::Exact);
}

#[test]
fn nothing_is_said_of_a_gap_that_no_device_was_near() {
    // Of another driver; before any use by far; after all.
    for (module, from, until) in [
        ("quayside", 90 * MS, Some(115 * MS)),
        ("mtty", 5_000 * MS, Some(5_100 * MS)),
        ("mtty", 5_000 * MS, None),
    ] {
        let document = unprobed(Some(module), from, until);
        assert_eq!(not_probed(&document), [""; 0], "{module} {from}");
        assert_eq!(downtime(&document).bound, Bound::Exact);
    }
}

#[test]
fn a_device_that_is_used_after_a_refused_function_was_probed_after_all() {
    let Note::ProbeGap(first) = gap_note(MS, None) else { panic!() };
    let gap = |until| {
        let (module, until_mono_ns) = (Some("mtty".to_owned()), until);
        Note::ProbeGap(ProbeGap { module, until_mono_ns, ..first.clone() })
    };
    let script = || Script::new(7).until(2 * MS).note(gap(None));
    let document = traced(&[script(), whole_source(), whole_destination()]);
    assert_eq!(downtime(&document).bound, Bound::AtLeast);
    let ended = script().until(3 * MS).note(gap(Some(3 * MS)));
    let document = traced(&[ended, whole_source(), whole_destination()]);
    assert_eq!(downtime(&document).bound, Bound::Exact, "{:?}", downtime(&document).why);
}
