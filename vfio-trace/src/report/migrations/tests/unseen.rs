//! Tests of events that may have been missed: on the other side, by losses, or in calls that a kernel does not count as
//! missed. The document must not exclude them.

use super::*;
use crate::report::document::PairingReason;

/// Makes a source that stops and goes back.
fn back() -> RecordScript {
    stop(leaving(7), 0).until(200 * MS).set(&[STOP_COPY, STOP, RUNNING_P2P, RUNNING], 0, -1).release(FROM, 24)
}

/// Makes a destination that is closed before all is loaded.
fn unloaded() -> RecordScript {
    arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(30 * MS)
        .write(TO, 24, 0)
        .until(205 * MS)
        .release(TO, 24)
        .close(1)
}

/// Makes a document of a host with these losses.
fn with(losses: HostLosses, scripts: &[RecordScript]) -> MigrationDocument {
    let host = TracedHost { losses, ..host("h") };
    let document = documented(&[history_on(host, ANCHOR, Some(0), &together(scripts))]);
    check(&document);
    document
}

/// Makes a document of a host whose kernel does not count what its probes miss.
fn uncounted(scripts: &[RecordScript]) -> MigrationDocument {
    with(HostLosses { missed: None, ..host("h").losses }, scripts)
}

fn text(document: &MigrationDocument) -> &str {
    assert_eq!(one(document).verdict, MigrationVerdict::Cancelled);
    &one(document).text
}

const NOTHING_FAILED: &str = "nothing in VFIO had failed";

#[test]
fn that_nothing_failed_is_said_of_what_was_seen_whole() {
    assert!(text(&traced(&[back(), unloaded()])).contains(NOTHING_FAILED));
    for side in [back(), unloaded()] {
        let document = traced(&[side]);
        let said = text(&document);
        assert!(!said.contains(NOTHING_FAILED) && said.contains("the other side was not seen"), "{said}");
    }
    let whole = || host("h").losses;
    let lost = |name: &str| vec![format!("{name}: 1 lost")];
    for losses in [
        HostLosses { control: lost("vfio_mig_get_next_state"), ..whole() },
        HostLosses { data: lost("mtty_save_read"), ..whole() },
        HostLosses { damage: vec!["parts 2 to 3 are missing".to_owned()], ..whole() },
        HostLosses { complete: false, ..whole() },
        HostLosses { undecoded: 1, ..whole() },
        HostLosses { missed: None, ..whole() },
    ] {
        for sides in [&[back(), unloaded()][..], &[back()]] {
            let document = with(losses.clone(), sides);
            let said = text(&document);
            assert!(!said.contains(NOTHING_FAILED) && said.contains("something may be missing"), "{said}");
        }
    }
}

#[test]
fn nothing_is_judged_from_calls_that_nobody_counts() {
    let no_eof = stop(leaving(7), 0).until(120 * MS).read(FROM, 1 << 20, MIB, 24).until(200 * MS);
    let no_eof = no_eof.set(&[STOP_COPY, STOP], 0, -1).release(FROM, 24 + MIB);
    let given_up = traced(&[no_eof.clone(), whole_destination()]);
    assert_eq!(
        (one(&given_up).verdict, &codes(one(&given_up))[..]),
        (MigrationVerdict::Cancelled, &["not-read-to-the-end"][..])
    );
    // A paused guest is asked for STOP when its migration is cancelled.
    for sides in [std::slice::from_ref(&no_eof), &[no_eof.clone(), unloaded()]] {
        let document = uncounted(sides);
        let said = text(&document);
        assert!(said.contains("something may be missing") && said.contains("read unseen"), "{said}");
        assert!(!codes(one(&document)).contains(&"not-read-to-the-end"));
    }
    let document = uncounted(&[no_eof.clone(), whole_destination()]);
    assert_eq!(
        (one(&document).verdict, &codes(one(&document))[..]),
        (MigrationVerdict::Completed, &[""; 0][..])
    );
    // The offsets show that all bytes were seen.
    assert_eq!(downtime(&document).bound, DowntimeBound::Exact);
    // So is a stranger known that was given fewer: it shows nothing of this source.
    let document = uncounted(&[no_eof.clone(), arrive(arriving(7), 0, 4096)]);
    assert_eq!(one_device(&document).paired_by, Some(PairingReason::Time));
    assert!(text(&document).contains("read unseen"));
    // If it is said that they belong together, the bytes differ all the same.
    let pairs = vec![("a".to_owned(), "b".to_owned())];
    let host = TracedHost { losses: HostLosses { missed: None, ..host("h").losses }, ..host("h") };
    let fewer = together(&[no_eof.clone(), arrive(arriving(7), 0, 4096)]);
    let document = clocks::document_of(&[history_on(host, ANCHOR, Some(0), &fewer)], &pairs);
    assert_eq!(one_device(&document).paired_by, Some(PairingReason::Option));
    assert!(text(&document).contains("read unseen"));
    // If bytes may be missing, nothing is known of the difference: this fd was not closed while tracing went on.
    let open = stop(leaving(7), 0).until(120 * MS).read(FROM, 1 << 20, MIB, 24).until(200 * MS);
    let document = uncounted(&[open.set(&[STOP_COPY, STOP], 0, -1), arrive(arriving(7), 0, 4096)]);
    assert_eq!(one_device(&document).paired_by, Some(PairingReason::Time));
    assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
    let document = uncounted(&[no_eof, whole_destination()]);

    let told: Vec<&str> = document.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(told, ["misses-not-known"]);
    let text = crate::output::report_text(&uncounted(&[]), &jiff::tz::TimeZone::UTC, false);
    assert!(text.contains("no migration was seen; whether all"), "{text}");
}

#[test]
fn what_no_offset_tells_is_not_read_to_the_end() {
    // The fd is not closed while tracing goes on; the driver counts no offset.
    let open = stop(leaving(7), 0).until(120 * MS).read(FROM, 1 << 20, MIB, 24).until(200 * MS);
    let open = open.set(&[STOP_COPY, STOP], 0, -1);
    let no_offset = leaving(7)
        .until(10 * MS)
        .set(&[RUNNING, PRE_COPY], FROM, 31)
        .until(20 * MS)
        .read(FROM, 1 << 20, 24, 0)
        .until(100 * MS)
        .set(&[PRE_COPY, PRE_COPY_P2P, STOP_COPY], 0, -1)
        .until(120 * MS)
        .read(FROM, 1 << 20, MIB, 0)
        .until(200 * MS)
        .set(&[STOP_COPY, STOP], 0, -1)
        .release(FROM, 0);
    for source in [open, no_offset] {
        for sides in [std::slice::from_ref(&source), &[source.clone(), unloaded()]] {
            let document = uncounted(sides);
            let said = text(&document);
            assert!(said.contains("something may be missing") && said.contains("read unseen"), "{said}");
        }
        // The destination ran, which shows that all was loaded.
        let document = uncounted(&[source.clone(), whole_destination()]);
        assert_eq!(one(&document).verdict, MigrationVerdict::Completed);
        assert_eq!(downtime(&document).bound, DowntimeBound::About);
    }
}

#[test]
fn bytes_that_went_by_unseen_are_no_difference() {
    let no_write = arriving(7)
        .until(5 * MS)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], TO, 40)
        .until(125 * MS)
        .write(TO, MIB, 24)
        .until(140 * MS)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .release(TO, 24 + MIB)
        .until(150 * MS)
        .set(&[RUNNING_P2P, RUNNING], 0, -1);
    for document in [uncounted(&[whole_source(), no_write.clone()]), traced(&[whole_source(), no_write])] {
        assert_eq!(
            (one(&document).verdict, &codes(one(&document))[..]),
            (MigrationVerdict::Completed, &["missed-bytes"][..])
        );
        assert_eq!(downtime(&document).bound, DowntimeBound::About);
    }
}
