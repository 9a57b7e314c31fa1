//! What a side is made of besides its arcs: sessions, failures, phases.

use super::side::{Found, Role, failed};
use crate::{
    event::{Direction, Errno, Outcome},
    model::{
        document::{Device, DirtyLog, Failure, Finding, Phase, Session, SessionEnd, StepSpan},
        history::SessionHistory,
    },
};

/// A session on the document's clock, and its history on its host's.
pub(super) struct Stream<'a> {
    pub(super) doc: &'a Session,
    pub(super) history: &'a SessionHistory,
    /// What to add to the host's times, in ns.
    pub(super) shift: i128,
}

impl Stream<'_> {
    pub(super) fn at(&self, mono_ns: u64) -> u64 {
        moved(mono_ns, self.shift)
    }
}

/// A time on another clock.
pub(super) fn moved(ns: u64, shift: i128) -> u64 {
    u64::try_from((i128::from(ns) + shift).max(0)).unwrap_or(u64::MAX)
}

/// Gives each session of a device to one of its sides.
pub(super) fn attach(sides: &mut [Found], streams: &[Stream<'_>]) {
    for stream in streams {
        let doc = stream.doc;
        let role = match doc.direction {
            Some(Direction::Resume) => Role::Destination,
            _ => Role::Source,
        };
        let fits = |found: &Found| {
            found.side.device == doc.device
                && found.role == role
                && if doc.partial {
                    found.side.start_ns <= doc.end_ns && doc.start_ns <= found.side.end_ns
                } else {
                    found.side.start_ns <= doc.start_ns
                }
        };
        let Some(found) = sides.iter_mut().rev().find(|found| fits(found)) else { continue };
        found.side.sessions.push(doc.nr);
        found.bytes = found.bytes.saturating_add(doc.bytes);
        found.eof |= stream.history.eof();
        // Of one session: more than one has no one stream.
        found.stream = stream.history.stream().filter(|_| found.side.sessions.len() == 1);
        found.data_failed |= doc.end == SessionEnd::Error;
        if doc.partial && found.side.partial {
            found.side.start_ns = found.side.start_ns.min(doc.start_ns);
        }
        found.side.partial |= doc.partial;
        if !found.left && found.cut.is_none() {
            found.side.end_ns = found.side.end_ns.max(doc.end_ns);
        }
    }
}

/// What failed on a side.
pub(super) fn failures(found: &Found, device: &Device, streams: &[Stream<'_>]) -> Vec<Failure> {
    let mut failures = Vec::new();
    let failure = |what: String, errno: Option<Errno>, start_ns: u64, end_ns: u64| {
        let step = first_failed(&device.steps, start_ns, end_ns);
        Failure {
            at_ns: end_ns,
            what,
            errno: errno.map(|errno| errno.name().into_owned()),
            step: step.map(|step| step.name.clone()),
            step_errno: step.and_then(|step| step.outcome.errno()).map(|errno| errno.name().into_owned()),
        }
    };
    for arc in found.arcs.iter().filter(|arc| failed(arc.outcome)) {
        let to = arc.to.unwrap_or(arc.target);
        failures.push(failure(format!("{} → {to}", arc.from), arc.outcome.errno(), arc.start_ns, arc.end_ns));
    }
    // A request begins before its first arc, and ends after its last.
    let (start, end) = (found.side.start_ns, found.side.end_ns);
    for request in device
        .requests
        .iter()
        .filter(|request| failed(request.outcome) && request.end_ns >= start && request.start_ns <= end)
    {
        let told = device.arcs.iter().any(|arc| {
            failed(arc.outcome) && arc.start_ns >= request.start_ns && arc.end_ns <= request.end_ns
        });
        if !told {
            let what = format!("request for {}", request.target);
            failures.push(failure(what, request.outcome.errno(), request.start_ns, request.end_ns));
        }
    }
    for stream in streams.iter().filter(|stream| found.side.sessions.contains(&stream.doc.nr)) {
        if let Some((start, end)) = stream.history.first_failure() {
            let what = if found.role == Role::Source { "read()" } else { "write()" };
            let step = first_failed(&device.steps, stream.at(start), stream.at(end));
            failures.push(Failure {
                at_ns: stream.at(end),
                what: what.to_owned(),
                errno: stream.doc.errno.clone(),
                step: step.map(|step| step.name.clone()),
                step_errno: step.and_then(|step| step.outcome.errno()).map(|errno| errno.name().into_owned()),
            });
        }
    }
    if found.role == Role::Source {
        let within = |log: &&DirtyLog| (start..=end).contains(&log.start_ns);
        for log in device.dirty_logs.iter().filter(within).filter(|log| failed(log.outcome)) {
            let end = log.start_ns.saturating_add(log.start_duration_ns);
            failures.push(failure("DMA_LOGGING_START".to_owned(), log.outcome.errno(), log.start_ns, end));
        }
    }
    failures.sort_by_key(|failure| failure.at_ns);
    failures
}

/// The step that failed first within a call.
fn first_failed(steps: &[StepSpan], start_ns: u64, end_ns: u64) -> Option<&StepSpan> {
    let within = |step: &&StepSpan| step.start_ns >= start_ns && step.end_ns <= end_ns;
    // The innermost one returns first.
    steps
        .iter()
        .filter(within)
        .filter(|step| matches!(step.outcome, Outcome::Failed(_)))
        .min_by_key(|step| step.end_ns)
}

/// The findings on a device that fall into a side. `until`: start of the next one.
pub(super) fn findings(found: &Found, until: Option<u64>, all: &[Finding]) -> Vec<Finding> {
    let (start, end) = (found.side.start_ns, found.side.end_ns);
    // A finding may come with the close that follows.
    let slack = 1_000_000_000;
    let mine = |finding: &&Finding| {
        finding.device == found.side.device
            && finding.at_ns >= start
            && finding.at_ns <= end.saturating_add(slack)
            && until.is_none_or(|until| finding.at_ns < until)
    };
    all.iter().filter(mine).cloned().collect()
}

/// States and arcs of a side, in order, with the bytes that moved in each.
pub(super) fn phases(found: &Found, device: &Device, streams: &[Stream<'_>]) -> Vec<Phase> {
    let (start, end) = (found.side.start_ns, found.side.end_ns);
    let mut phases: Vec<Phase> = found
        .arcs
        .iter()
        .map(|arc| Phase {
            name: format!("{} → {}", arc.from, arc.to.unwrap_or(arc.target)),
            arc: true,
            start_ns: arc.start_ns,
            end_ns: arc.end_ns,
            bytes: 0,
        })
        .collect();
    let spans = device.states.iter().filter(|span| span.start_ns >= start && span.start_ns < end);
    phases.extend(spans.filter(|span| span.end_ns > span.start_ns).map(|span| Phase {
        name: span.state.map_or_else(|| "unknown".to_owned(), |state| state.to_string()),
        arc: false,
        start_ns: span.start_ns,
        end_ns: span.end_ns.min(end),
        bytes: 0,
    }));
    phases.sort_by_key(|phase| (phase.start_ns, phase.end_ns));
    for stream in streams.iter().filter(|stream| found.side.sessions.contains(&stream.doc.nr)) {
        // From point to point of a series that may be thinned: what falls between two phases goes to the later one.
        let mut before = 0;
        for sample in &stream.doc.series {
            let here = phases.iter_mut().rev().find(|phase| phase.start_ns <= sample.at_ns);
            if let Some(phase) = here {
                phase.bytes = phase.bytes.saturating_add(sample.bytes.saturating_sub(before));
            }
            before = sample.bytes;
        }
    }
    phases
}
