//! Tests of limits with very many items of everything, and of documents with many migrations.

use vfio_trace_common::uapi;

use super::*;
use crate::{output::export, report::ModelLimits};

/// Makes one source after the other on one device, each 1 s after the one before.
fn sources(count: u64) -> RecordScript {
    (0..count).fold(leaving(7), |script, nr| leave(script, nr * 1_000 * MS, MIB).close(1).open(1))
}

fn limited(script: &RecordScript, limits: ModelLimits) -> MigrationDocument {
    let mut history = HostHistory::new(host("h"), ANCHOR, Some(0)).with_limits(limits);
    script.events().iter().for_each(|event| history.apply(event));
    let document = documented(&[history]);
    check(&document);
    document
}

fn log(script: RecordScript) -> RecordScript {
    let (start, words) = (script.now, [4096, 2, 0x7f00, 0]);
    let what = uapi::FEATURE_DMA_LOGGING_START | uapi::FEATURE_SET;
    script.wait(1_000).feature(start, what, 0, words, words).wait(MS)
}

fn text(document: &MigrationDocument) -> String {
    crate::output::report_text(document, &jiff::tz::TimeZone::UTC, false)
}

/// Returns the texts about items that were left out.
fn said(document: &MigrationDocument) -> Vec<&str> {
    let warnings = document.warnings.iter().filter(|warning| warning.code == "left-out");
    warnings.map(|warning| warning.text.as_str()).collect()
}

#[test]
fn an_overview_before_more_than_three() {
    let three = text(&traced(&[sources(3)]));
    assert!(!three.contains("  verdict"), "{three}");
    let document = traced(&[sources(4)]);
    let four = text(&document);
    let before = four.split("migration 0:").next().unwrap_or_default();
    let lines: Vec<&str> = before.lines().skip_while(|line| !line.contains("verdict")).collect();
    assert!(lines[0].starts_with("migration") && lines[0].contains("downtime"), "{four}");
    for (nr, migration) in document.migrations.iter().enumerate() {
        assert!(lines[1 + nr].trim_start().starts_with(&nr.to_string()), "{}", lines[1 + nr]);
        assert!(lines[1 + nr].contains(migration.verdict.name()) && lines[1 + nr].ends_with('a'));
    }
    assert_eq!(lines[5..], [""], "one line each:\n{four}");
}

#[test]
fn what_verdicts_are_made_from_ends_at_one_moment() {
    let script = sources(3);
    let whole = limited(&script, ModelLimits::default());
    assert_eq!((whole.migrations.len(), said(&whole).len()), (3, 0));
    let all = whole.devices[0].clone();
    let sessions = whole.sessions.len();
    for (what, limits) in [
        ("arcs", ModelLimits { arcs: all.arcs.len() - 2, ..ModelLimits::default() }),
        ("requests", ModelLimits { requests: all.requests.len() - 2, ..ModelLimits::default() }),
        ("states", ModelLimits { states: all.states.len() - 3, ..ModelLimits::default() }),
        ("sessions", ModelLimits { sessions, ..ModelLimits::default() }),
        ("marks", ModelLimits { all_marks: 4, ..ModelLimits::default() }),
    ] {
        let document = limited(&script, limits);
        let left = &document.hosts[0].left_out;
        assert_eq!(left.full.as_deref(), Some(what));
        assert!(left.events > 0 && left.events < document.hosts[0].events, "{what}: {left:?}");
        let from = left.from_ns.unwrap();
        // Everything before that is unchanged; nothing later is mentioned, or counted as a failure.
        for (one, other) in document.migrations.iter().zip(&whole.migrations) {
            match one.verdict {
                MigrationVerdict::Unfinished => {
                    assert!(one.text.ends_with("which has no room for more"), "{}", one.text);
                },
                _ => assert_eq!(one, other, "{what}"),
            }
        }
        let device = &document.devices[0];
        assert!(device.states.iter().all(|span| span.end_ns <= from), "{what}: {from} {:?}", device.states);
        assert!(device.arcs.iter().all(|arc| arc.end_ns <= from));
        assert_eq!(said(&document).len(), 1, "{what}");
        // In all formats.
        let (mut csv, mut chrome) = (Vec::new(), Vec::new());
        export::write_csv(&document, export::CsvTable::Warnings, &mut csv).unwrap();
        export::write_chrome(&document, &mut chrome).unwrap();
        let page = crate::output::html(&document).unwrap();
        let [csv, chrome] = [csv, chrome].map(|bytes| String::from_utf8(bytes).unwrap());
        for format in [text(&document), csv, chrome, page] {
            assert!(format.contains(&format!("no room for more {what}")), "{what}: {format}");
        }
    }
    let logs = log(log(leaving(7)));
    let document = limited(&logs, ModelLimits { dirty_logs: 1, ..ModelLimits::default() });
    assert_eq!(document.hosts[0].left_out.full.as_deref(), Some("dirty logs"));
    assert_eq!(document.devices[0].dirty_logs.len(), 1);
}

#[test]
fn a_failure_without_room_is_one() {
    let script = sources(2).until(3_000 * MS).set_fails(&[STOP, STOP_COPY], -5);
    let document = limited(&script, ModelLimits { arcs: 5, ..ModelLimits::default() });
    assert!(document.hosts[0].left_out.failed > 0);
    assert!(document.migrations.iter().all(|migration| migration.verdict != MigrationVerdict::Failed));
    assert!(document.failed(), "nobody may take that for a success");
}

#[test]
fn what_has_no_room_is_counted_as_what_has() {
    let flags = uapi::FEATURE_DMA_LOGGING_START | uapi::FEATURE_SET;
    let script = sources(2).until(3_000 * MS);
    let (at, words) = (script.now, [4096, 0, 0, 0]);
    let log = |ret| script.clone().wait(1_000).feature(at, flags, ret, words, words);
    let probe = script.clone().wait(1_000).feature(at, flags | uapi::FEATURE_PROBE, -22, words, words);
    let ended = read_source().until(200 * MS).set(&[STOP_COPY, STOP], 0, -1);
    let late = sources(1).until(2_000 * MS).set(&[STOP, STOP_COPY], FROM + 1, 33);
    for (what, script, limits, failed) in [
        ("a log", log(-5), ModelLimits { arcs: 5, ..ModelLimits::default() }, 1),
        ("no log", log(0), ModelLimits { arcs: 5, ..ModelLimits::default() }, 0),
        ("a question", probe, ModelLimits { arcs: 5, ..ModelLimits::default() }, 0),
        // The document is full with the arc that ends the session.
        ("a late read", ended.read(FROM, 64, -19, 0), ModelLimits { arcs: 4, ..ModelLimits::default() }, 0),
        (
            "no read for now",
            late.clone().read(FROM + 1, 64, -4, 0),
            ModelLimits { arcs: 4, ..ModelLimits::default() },
            0,
        ),
        ("a read", late.read(FROM + 1, 64, -5, 0), ModelLimits { arcs: 4, ..ModelLimits::default() }, 1),
    ] {
        let left = &limited(&script, limits).hosts[0].left_out;
        assert!(left.events > 0 && left.failed == failed, "{what}: {left:?}");
        // The result is the same as with enough room.
        assert_eq!(limited(&script, ModelLimits::default()).failed(), failed > 0, "{what}");
    }
}

#[test]
fn what_ends_a_migration_is_kept_among_many_marks() {
    let mut script = leaving(7);
    for _ in 0..20 {
        script = script.open(2).close(2);
    }
    let at = script.now;
    let script =
        script.until(at.next_multiple_of(MS)).set(&[RUNNING, PRE_COPY], FROM, 31).wait(MS).close(1).open(1);
    let script = script.wait(MS).set(&[RUNNING, PRE_COPY], FROM + 1, 31);
    let limits = ModelLimits { marks: 10, ..ModelLimits::default() };
    let (document, whole) = (limited(&script, limits), limited(&script, ModelLimits::default()));
    // The close cuts the first migration off; without it the second would have begun within the first.
    assert_eq!(document.migrations, whole.migrations);
    assert_eq!(codes(&document.migrations[0]), ["cut-off"]);
    let device = &document.devices[0];
    assert_eq!(device.marks.len() as u64 + device.marks_left_out, whole.devices[0].marks.len() as u64);
    assert_eq!(device.marks.len(), 11);
    assert!(said(&document)[0].contains("moments"), "{:?}", document.warnings);
}

#[test]
fn devices_findings_and_sizes() {
    let scripts: Vec<RecordScript> =
        (0..5).map(|nr| device(0xd1 + nr, &format!("dev{nr}"), 100).data_size(4096)).collect();
    let mut history = HostHistory::new(host("h"), ANCHOR, Some(0))
        .with_limits(ModelLimits { devices: 3, ..ModelLimits::default() });
    scripts.iter().flat_map(RecordScript::events).for_each(|event| history.apply(&event));
    let document = documented(&[history]);
    assert_eq!(document.devices.len(), 3);
    let events = scripts[0].events().len() as u64;
    assert_eq!(document.hosts[0].left_out.device_events, 2 * events);
    assert!(said(&document)[0].contains("too many devices"), "{:?}", said(&document));

    let sizes = (0..5).fold(leaving(7), |script, _| script.data_size(4096));
    let document = limited(&sizes, ModelLimits { sizes: 2, ..ModelLimits::default() });
    assert_eq!((document.devices[0].sizes.len(), document.devices[0].sizes_left_out), (2, 3));
    assert!(said(&document)[0].contains("3 answers"), "{:?}", said(&document));

    let mut history = HostHistory::new(host("h"), ANCHOR, Some(0))
        .with_limits(ModelLimits { findings: 2, ..ModelLimits::default() });
    for at in 0..5 {
        history.apply(&outside::finding("a", at, "x/y"));
    }
    let document = documented(&[history]);
    assert_eq!(document.outside[0].findings.len(), 2);
    let left = &document.hosts[0].left_out;
    assert_eq!((left.findings, left.errors), (3, 3));
    assert!(document.failed() && said(&document)[0].contains("3 findings"));
}
