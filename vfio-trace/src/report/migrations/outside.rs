//! Assigns findings and failures to sides, and the rest to no side.

use std::collections::{HashMap, HashSet};

use super::{
    details::{self, ShiftedSession},
    index::DeviceIndex,
    side::{SideAnalysis, SideRole, failed},
};
use crate::report::{
    document::{OutsideIssues, ReportFinding},
    windows::SpanIndex,
};

/// Returns the time up to which findings on a side's device belong to the side. Later findings on a side that is over
/// belong to something else, however soon they come.
fn until(found: &SideAnalysis, line: &DeviceIndex<'_>) -> u64 {
    let Some(over) = found.over_ns else { return u64::MAX };
    // The request that ended the side returns a little later than its last arc; a finding may be made only then.
    let last = line.requests(over, over).map(|request| request.end_ns).max();
    over.max(found.side.end_ns).max(last.unwrap_or(over))
}

/// Gives each side its findings: those of its data fds, and those of its time. Returns the rest, with the failures
/// outside of all sides.
pub(super) fn assign_findings(
    sides: &mut [SideAnalysis],
    lines: &[DeviceIndex<'_>],
    streams: &[ShiftedSession<'_>],
) -> Vec<OutsideIssues> {
    let mut by_session: HashMap<u32, usize> = HashMap::new();
    let mut by_device: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, found) in sides.iter().enumerate() {
        by_session.extend(found.side.sessions.iter().map(|nr| (*nr, at)));
        by_device.entry(found.side.device).or_default().push(at);
    }
    let mut lost: HashMap<u32, Vec<&ShiftedSession<'_>>> = HashMap::new();
    for stream in streams.iter().filter(|stream| !by_session.contains_key(&stream.doc.nr)) {
        lost.entry(stream.doc.device).or_default().push(stream);
    }
    let mut all = Vec::new();
    for line in lines {
        let device = line.device.nr;
        let mine = by_device.get(&device).map_or(&[][..], Vec::as_slice);
        let lost = lost.get(&device).map_or(&[][..], Vec::as_slice);
        let findings = left(sides, mine, &by_session, line);
        let failures = failures(sides, mine, lost, line);
        if !findings.is_empty() || !failures.is_empty() {
            all.push(OutsideIssues { device, failures, findings });
        }
    }
    all
}

/// Gives a device's sides their findings; returns those that belong to none.
fn left(
    sides: &mut [SideAnalysis],
    mine: &[usize],
    by_session: &HashMap<u32, usize>,
    line: &DeviceIndex<'_>,
) -> Vec<ReportFinding> {
    let spans = mine.iter().enumerate().map(|(place, at)| {
        // Sides are in order; where the next one begins, this one is over.
        let next = mine.get(place + 1).map_or(u64::MAX, |next| sides[*next].side.start_ns.saturating_sub(1));
        (sides[*at].side.start_ns, until(&sides[*at], line).min(next))
    });
    let windows = SpanIndex::new(spans);
    let mut left = Vec::new();
    for finding in line.findings() {
        let of_call = finding.session.and_then(|nr| by_session.get(&nr).copied());
        let side = of_call
            .or_else(|| Some(mine[windows.overlapping_backwards(finding.at_ns, finding.at_ns).next()?]));
        match side {
            Some(at) => sides[at].side.findings.push(finding.clone()),
            None => left.push(finding.clone()),
        }
    }
    left
}

/// Returns the failures of a device that belong to none of its sides. `lost`: data sessions of no side.
fn failures(
    sides: &[SideAnalysis],
    mine: &[usize],
    lost: &[&ShiftedSession<'_>],
    line: &DeviceIndex<'_>,
) -> Vec<crate::report::document::DeviceFailure> {
    let sides = || mine.iter().map(|at| &sides[*at]);
    let arcs: HashSet<(u64, u64, u32)> =
        sides().flat_map(|found| &found.arcs).map(|arc| (arc.start_ns, arc.end_ns, arc.tid)).collect();
    let windows = SpanIndex::new(sides().map(|found| (found.side.start_ns, found.side.end_ns)));
    let leaves = sides().filter(|found| found.role == SideRole::Source);
    let leaving = SpanIndex::new(leaves.map(|found| (found.side.start_ns, found.side.end_ns)));
    let device = line.device;
    let arcs = device
        .arcs
        .iter()
        .filter(|arc| failed(arc.outcome) && !arcs.contains(&(arc.start_ns, arc.end_ns, arc.tid)));
    let requests = device.requests.iter().filter(|request| {
        failed(request.outcome)
            && !line.has_failed_arc(request)
            && windows.overlapping(request.start_ns, request.end_ns).next().is_none()
    });
    let logs = device.dirty_logs.iter().filter(|log| {
        failed(log.outcome) && leaving.overlapping(log.start_ns, log.start_ns).next().is_none()
    });
    let streams = lost.iter().filter_map(|stream| {
        let resumes = stream.doc.direction == Some(crate::event::DataDirection::Resume);
        let role = if resumes { SideRole::Destination } else { SideRole::Source };
        details::of_stream(line, stream, role)
    });
    let mut failures: Vec<_> = arcs
        .map(|arc| details::of_arc(line, arc))
        .chain(requests.map(|request| details::of_request(line, request)))
        .chain(logs.map(|log| details::of_log(line, log)))
        .chain(streams)
        .collect();
    failures.sort_by_key(|failure| failure.at_ns);
    failures
}
