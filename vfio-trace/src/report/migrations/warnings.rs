//! Makes the warnings about a migration that do not depend on the driver.

use super::{details::ShiftedSession, downtime::TimeUncertainty, index::DeviceIndex, side::SideAnalysis};
use crate::{
    event::{FindingSeverity, MigFlags, MigState},
    report::document::{
        DeviceConcurrency, MarkKind, MigrationDocument, MigrationVerdict, PairingReason, PartName,
        ReportWarning, StageOrder, StateSpan,
    },
};

/// Coverage of a side by the recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct SideCoverage {
    /// True if reads or writes may be missing.
    pub(super) data_suffers: bool,
    /// Time up to which all calls on the device were seen; `None`: some may be missing.
    pub(super) calls_until_ns: Option<u64>,
}

/// Time after a migration in which VMMs stop the log of dirty pages, in ns: QEMU does so with the last of its clean-up.
const LOG_STOP_NS: u64 = 1_000_000_000;

/// Adds the warnings about a source.
pub(super) fn of_source(
    found: &SideAnalysis,
    line: &DeviceIndex<'_>,
    streams: &[ShiftedSession<'_>],
    view: SideCoverage,
    out: &mut Vec<ReportWarning>,
) {
    let device = line.device;
    let mut add = |code, severity, at_ns, text| {
        out.push(ReportWarning { code, severity, device: Some(device.nr), at_ns, text });
    };
    let mine = || found.streams(streams);
    let blind = found.side.partial || view.data_suffers;
    let moved = |name: PartName| {
        let parts = mine().flat_map(|stream| &stream.doc.parts).filter(|part| part.part == name);
        parts.fold(0u64, |sum, part| sum.saturating_add(part.bytes))
    };
    if found.stop_copy_ns.is_some() {
        // If bytes may have been read unseen, the number of bytes left is not known.
        for stream in mine().filter(|_| !blind) {
            if let Some((info, before)) = stream.history.last_info()
                && let Some(initial) = info.initial_bytes
            {
                // Only this stream counts, in any state before STOP_COPY.
                let late = stream.doc.parts.iter().filter(|part| part.part == PartName::StopCopy);
                let late = late.fold(0u64, |sum, part| sum.saturating_add(part.bytes));
                let read = stream.doc.bytes.saturating_sub(late).saturating_sub(before);
                let left = initial.saturating_sub(read);
                if left > 0 {
                    let text = format!(
                        "STOP_COPY was entered with {left} initial bytes not read yet: the destination could not \
                         prepare, which costs downtime (QEMU: switchover-ack)"
                    );
                    add("initial-bytes-left", FindingSeverity::Warning, found.stop_copy_ns, text);
                }
            }
        }
        let can = device
            .migration_flags
            .is_some_and(|MigFlags(flags)| flags & vfio_trace_common::uapi::migration_flags::PRE_COPY != 0);
        if can && !found.pre_copy && !found.side.partial {
            let text = "the device can do PRE_COPY, but all of it was moved while it was stopped".to_owned();
            add("no-pre-copy", FindingSeverity::Warning, found.stop_copy_ns, text);
        }
        let until = found.stop_copy_ns.unwrap_or(0);
        let announced = line
            .size(found.side.start_ns.saturating_sub(LEAD_NS), until)
            .and_then(|size| size.stop_copy_bytes);
        if let Some(announced) = announced.filter(|_| found.eof && !blind) {
            let (stop_copy, all) = (moved(PartName::StopCopy), found.bytes);
            if stop_copy > announced {
                let text = format!(
                    "{stop_copy} bytes were moved in STOP_COPY, {announced} were announced (MIG_DATA_SIZE)"
                );
                add("announced-too-little", FindingSeverity::Warning, found.stop_copy_ns, text);
            } else if all < announced {
                let text =
                    format!("{announced} bytes were announced (MIG_DATA_SIZE), {all} were moved in all");
                add("announced-too-much", FindingSeverity::Info, found.stop_copy_ns, text);
            }
        }
    }
    let unread = found.left_transfer && found.stop_copy_ns.is_some() && !found.eof && found.ran_ns.is_none();
    if unread && !blind && !found.misses_uncounted {
        let text = "STOP_COPY was left before read() gave 0 bytes: not all was read".to_owned();
        add("not-read-to-the-end", FindingSeverity::Warning, Some(found.side.end_ns), text);
    }
    if found.stopped_before {
        let text = "the device had been stopped before, or that failed: whether it stood still from then until its state \
                    was seen again is not known, and none of it is in the downtime"
            .to_owned();
        add("stop-failed", FindingSeverity::Warning, Some(found.side.start_ns), text);
    }
    for log in line.logs(found.side.start_ns.saturating_sub(LEAD_NS), found.side.end_ns) {
        let until = found.side.end_ns.saturating_add(LOG_STOP_NS);
        let watched = view.calls_until_ns.is_some_and(|seen| seen >= until);
        if log.stop_ns.is_none() && found.side.verdict != MigrationVerdict::Unfinished && watched {
            let text = "dirty page tracking was not seen to be stopped (no DMA_LOGGING_STOP)".to_owned();
            add("log-left-on", FindingSeverity::Warning, Some(log.start_ns), text);
        }
        if log.reports_failed > 0 {
            let text = format!(
                "{} of {} DMA_LOGGING_REPORT calls failed: what the device has written since is not known",
                log.reports_failed, log.reports
            );
            add("log-report-failed", FindingSeverity::Error, Some(log.start_ns), text);
        }
    }
}

/// Time before the first arc in which MIG_DATA_SIZE and DMA_LOGGING_START may come, in ns.
const LEAD_NS: u64 = 1_000_000_000;

/// Adds the warnings about a side, source or destination.
pub(super) fn of_side(
    found: &SideAnalysis,
    line: &DeviceIndex<'_>,
    streams: &[ShiftedSession<'_>],
    out: &mut Vec<ReportWarning>,
) {
    let device = line.device;
    let mut add = |code, severity, at_ns, text| {
        out.push(ReportWarning { code, severity, device: Some(device.nr), at_ns, text });
    };
    let within = line.marks(found.side.start_ns, found.side.end_ns);
    for mark in within.filter(|mark| mark.kind == MarkKind::Desync) {
        add(
            "desync",
            FindingSeverity::Warning,
            Some(mark.at_ns),
            format!("the device changed its state unseen: {}", mark.text),
        );
    }
    if let Some(cut) = found.cut {
        let what = match cut {
            MarkKind::Reset => "VFIO_DEVICE_RESET",
            MarkKind::PciReset => "a reset of the PCI core",
            MarkKind::Unregister => "the device's removal",
            _ => "the device's close",
        };
        let last = found.arcs.iter().rev().find_map(|arc| arc.to.filter(|_| arc.outcome.is_ok()));
        let state = last.map_or_else(|| "a state that was not seen".to_owned(), |state| state.to_string());
        add(
            "cut-off",
            FindingSeverity::Warning,
            Some(found.side.end_ns),
            format!("{what} ended it in {state}"),
        );
    }
    for stream in found.streams(streams) {
        if stream.doc.calls_after_end > 0 {
            let text = format!(
                "{} calls on the data fd after the driver had ended the session (ENODEV does not mean that the device is gone)",
                stream.doc.calls_after_end
            );
            add("call-after-end", FindingSeverity::Warning, Some(stream.doc.end_ns), text);
        }
        if stream.doc.concurrent_calls > 1 {
            let text = format!("up to {} calls at the same time on one data fd", stream.doc.concurrent_calls);
            add("concurrent-calls", FindingSeverity::Warning, Some(stream.doc.start_ns), text);
        }
        if let Some(missed) = stream.doc.missed_bytes.filter(|missed| *missed > 0) {
            let text = format!("{missed} bytes went over the data fd without a call that was seen");
            add("missed-bytes", FindingSeverity::Info, Some(stream.doc.start_ns), text);
        }
    }
}

/// Facts about a source and a destination together.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairFacts {
    /// Reason why they are taken to belong together.
    pub(super) by: Option<PairingReason>,
    /// True if reads or writes may be missing.
    pub(super) data_suffers: bool,
    /// Error that their clocks add to the time from the one to the other.
    pub(super) apart: TimeUncertainty,
}

/// Adds the warnings about a source and a destination together.
pub(super) fn of_pair(
    (from, leaving): (&SideAnalysis, &DeviceIndex<'_>),
    (to, arriving): (&SideAnalysis, &DeviceIndex<'_>),
    pair: PairFacts,
    out: &mut Vec<ReportWarning>,
) {
    let known = matches!(pair.by, Some(PairingReason::Option | PairingReason::StreamHash));
    let mut differs = |code, at_ns, text: String| {
        let (severity, text) = if known {
            (FindingSeverity::Error, text)
        } else {
            (
                FindingSeverity::Warning,
                format!("{text}; or these two do not belong together: `--pair` says so"),
            )
        };
        out.push(ReportWarning { code, severity, device: Some(to.side.device), at_ns: Some(at_ns), text });
    };
    let done = to.side.verdict == MigrationVerdict::Completed && from.eof;
    // If the stream was cut off, not all of it had to arrive.
    if let Some((read, written)) = from.stream.zip(to.stream)
        && read != written
        && (done || read.bytes == written.bytes)
    {
        differs(
            "stream-differs",
            to.side.end_ns,
            "the destination was given other bytes than were read from the source".to_owned(),
        );
    }
    if done && from.bytes != to.bytes && !pair.data_suffers && !from.side.partial && !to.side.partial {
        differs(
            "bytes-differ",
            to.side.end_ns,
            format!(
                "{} bytes were read from the source, {} written to the destination",
                from.bytes, to.bytes
            ),
        );
    }
    if let Some((back, there)) = from.ran_ns.zip(to.ran_ns)
        && if back <= there {
            still_runs(leaving, back, there, [pair.apart.shorter, pair.apart.longer])
        } else {
            still_runs(arriving, there, back, [pair.apart.longer, pair.apart.shorter])
        }
    {
        differs("both-run", back.max(there), "source and destination both run".to_owned());
    }
}

/// Returns true if a device that ran at one time certainly still ran at a later time, which is a time of the other
/// device, and was not closed until then.
///
/// `off_ns`: largest times by which the later one may have been earlier and later; `None`: not known, so the answer is
/// not known either.
fn still_runs(line: &DeviceIndex<'_>, since_ns: u64, at_ns: u64, off_ns: [Option<u64>; 2]) -> bool {
    let [Some(earlier_ns), Some(later_ns)] = off_ns else { return false };
    if earlier_ns > 0 && at_ns.saturating_sub(since_ns) <= earlier_ns {
        return false;
    }
    let (first_ns, last_ns) = (at_ns.saturating_sub(earlier_ns), at_ns.saturating_add(later_ns));
    let gone = line
        .marks(since_ns, last_ns)
        .any(|mark| matches!(mark.kind, MarkKind::LastClose | MarkKind::Unregister));
    let running = |span: &StateSpan| {
        matches!(
            span.state,
            Some(MigState::RUNNING | MigState::RUNNING_P2P | MigState::PRE_COPY | MigState::PRE_COPY_P2P)
        )
    };
    let runs = |at_ns: u64| line.state_at(at_ns).filter(|span| span.end_ns >= at_ns).is_some_and(running);
    // The device may have stopped and gone on in between. A span that ends at the first time is over by then.
    let mut all = line.states(first_ns, last_ns).filter(|span| span.end_ns > first_ns);
    !gone && runs(first_ns) && runs(last_ns) && all.all(running)
}

/// Adds the warnings about the order of a VM's devices.
pub(super) fn of_order(order: &[StageOrder], out: &mut Vec<ReportWarning>) {
    for one in order.iter().filter(|one| one.order == DeviceConcurrency::Series) {
        // Savings of microseconds are not worth a warning.
        let saved = one.union_ns.saturating_sub(one.longest_ns);
        if saved >= 1_000_000 {
            out.push(ReportWarning {
                code: "in-series",
                severity: FindingSeverity::Info,
                device: None,
                at_ns: None,
                text: format!(
                    "{} devices did {} one after the other; at the same time it would have taken up to {} ms less",
                    one.devices,
                    one.stage.name(),
                    saved / 1_000_000
                ),
            });
        }
    }
}

/// Adds the warnings that belong to no migration.
pub(super) fn of_document(document: &mut MigrationDocument) {
    let mut out = Vec::new();
    for host in &document.hosts {
        let name = &host.label;
        let mut add = |code, text| {
            out.push(ReportWarning {
                code,
                severity: FindingSeverity::Warning,
                device: None,
                at_ns: None,
                text,
            });
        };
        for damage in &host.losses.damage {
            add("recording-damaged", format!("{}: {damage}", host.source));
        }
        if !host.losses.complete {
            add(
                "no-end",
                format!(
                    "{name}: the recording has no end, or goes on in a part that was not given: what was lost in the \
                     last seconds is not known"
                ),
            );
        }
        if host.losses.has_uncounted_misses() && host.losses.lost.is_some() {
            let text = format!(
                "{name}: this kernel does not count the calls that its probes miss (Linux 6.7 and later do): what was not \
                 seen may have happened all the same"
            );
            out.push(ReportWarning {
                code: "misses-not-known",
                severity: FindingSeverity::Info,
                device: None,
                at_ns: None,
                text,
            });
        }
        let mut add = |code, text| {
            out.push(ReportWarning {
                code,
                severity: FindingSeverity::Warning,
                device: None,
                at_ns: None,
                text,
            });
        };
        for lacking in &host.losses.control {
            add("transitions-lacking", format!("{name}: state transitions may be missing: {lacking}"));
        }
        for lacking in &host.losses.data {
            add("data-lacking", format!("{name}: reads or writes are missing: {lacking}"));
        }
        for lacking in &host.losses.other {
            add("events-lacking", format!("{name}: other events are missing: {lacking}"));
        }
        if host.losses.undecoded > 0 {
            add("undecoded", format!("{name}: {} records could not be decoded", host.losses.undecoded));
        }
    }
    let mut left_out = |severity, device, at_ns, text| {
        out.push(ReportWarning { code: "left-out", severity, device, at_ns, text });
    };
    for host in &document.hosts {
        let (name, left) = (&host.label, &host.left_out);
        if let (Some(from), Some(full)) = (left.from_ns, &left.full) {
            let text = format!(
                "{name}: the document has no room for more {full}: {} events from then on are not in it ({} of them failures); \
                 `replay` shows them",
                left.events, left.failed
            );
            left_out(FindingSeverity::Warning, None, Some(from), text);
        }
        if left.device_events > 0 {
            let text = format!(
                "{name}: {} events of devices are not in the document, because there are too many devices",
                left.device_events
            );
            left_out(FindingSeverity::Warning, None, None, text);
        }
        if left.forgotten > 0 {
            let text = format!(
                "{name}: there is more at a time than is kept: {} of the devices, sessions, threads and notes were forgotten, \
                 and what came of them later may be told apart",
                left.forgotten
            );
            left_out(FindingSeverity::Warning, None, None, text);
        }
        if left.findings > 0 {
            let text = format!(
                "{name}: {} findings are not in the document ({} of them errors), because there are too many",
                left.findings, left.errors
            );
            left_out(FindingSeverity::Warning, None, None, text);
        }
    }
    for device in &document.devices {
        let (steps, marks, sizes) = (device.steps_left_out, device.marks_left_out, device.sizes_left_out);
        if steps > 0 || marks > 0 || sizes > 0 {
            let text = format!(
                "{steps} steps, {marks} moments and {sizes} answers about the size were left out, because there are too many"
            );
            left_out(FindingSeverity::Info, Some(device.nr), None, text);
        }
    }
    document.warnings = out;
}
