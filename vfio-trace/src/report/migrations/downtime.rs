//! Computes the downtime of a device and of a VM: from the first arc that stops it to the end of the arc to RUNNING.
//!
//! The rules follow the meaning of the states in include/uapi/linux/vfio.h. A device stops with the arc that leaves
//! RUNNING or PRE_COPY for a state in which it must not start DMA (RUNNING_P2P, PRE_COPY_P2P), or in which it must not
//! do anything (STOP, STOP_COPY). STOP_COPY -> STOP on the source does not count: VMMs do it when the other side runs
//! already.

use super::{
    details::ShiftedSession,
    side::SideAnalysis,
    sweep::{StageSpan, sweep, union_ns},
};
use crate::{
    event::MigState,
    report::document::{
        ArcSpan, DeviceConcurrency, DowntimeBound, DowntimeBreakdown, DowntimeStage, HostLosses,
        PairingReason, PartName, StageOrder, StageTime,
    },
};

/// A device's downtime with the intervals from which it is made. [`of_device`] makes it; [`of_vm`] combines those of a
/// VM's devices.
pub(super) struct DowntimeSplit {
    pub(super) downtime: DowntimeBreakdown,
    pub(super) spans: Vec<StageSpan>,
    /// This device's part in the error of the VM's total; `vm_why` has the reason. It does not depend on the pairing of
    /// the VM's devices with each other.
    off: TimeUncertainty,
    vm_why: Option<String>,
    /// Pauses that are counted as a stage's time, in ns.
    blurred: Vec<(DowntimeStage, u64)>,
}

/// Adds to each stage the time that may be pauses.
fn blur(stages: &mut [StageTime], blurred: impl Iterator<Item = (DowntimeStage, u64)>) {
    for (stage, ns) in blurred {
        if let Some(time) = stages.iter_mut().find(|time| time.stage == stage) {
            time.blurred_ns = time.blurred_ns.saturating_add(ns).min(time.share_ns);
        }
    }
}

/// Largest error of a time, in ns; `None`: not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeUncertainty {
    /// Largest time by which the true value may be longer.
    pub(super) longer: Option<u64>,
    /// Largest time by which the true value may be shorter.
    pub(super) shorter: Option<u64>,
}

impl TimeUncertainty {
    /// No error: both ends are on one clock.
    pub(super) const NOT: Self = Self { longer: Some(0), shorter: Some(0) };

    /// Returns both errors together; `sum` combines two known values.
    fn and(self, other: Self, sum: fn(u64, u64) -> u64) -> Self {
        let both = |one: Option<u64>, two: Option<u64>| one.zip(two).map(|(one, two)| sum(one, two));
        Self { longer: both(self.longer, other.longer), shorter: both(self.shorter, other.shorter) }
    }

    /// Returns the precision of a figure with this error.
    const fn bound(self) -> DowntimeBound {
        match (self.longer, self.shorter) {
            (Some(0), Some(0)) => DowntimeBound::Exact,
            (_, Some(0)) => DowntimeBound::AtLeast,
            _ => DowntimeBound::About,
        }
    }

    /// Returns the larger of the two errors; `None` if it is not known, or if there is no error.
    fn off_ns(self) -> Option<u64> {
        let off = self.longer.zip(self.shorter).map(|(longer, shorter)| longer.max(shorter));
        off.filter(|_| self != Self::NOT)
    }
}

/// Error of a time that may have been longer by an unknown amount, but not shorter.
const LONGER: TimeUncertainty = TimeUncertainty { longer: None, shorter: Some(0) };
/// Error of a time that may have been longer or shorter by an unknown amount.
const EITHER: TimeUncertainty = TimeUncertainty { longer: None, shorter: None };

/// Reasons why the figures are not exact, and the total error.
struct DowntimeCaveats {
    by: TimeUncertainty,
    why: Vec<String>,
}

impl DowntimeCaveats {
    fn add(&mut self, by: TimeUncertainty, why: impl Into<String>) {
        self.by = self.by.and(by, u64::saturating_add);
        self.why.push(why.into());
    }

    fn why(&self) -> Option<String> {
        (!self.why.is_empty()).then(|| self.why.join("; "))
    }
}

/// Returns the split of one device; `None` if it did not stop. `apart`: error that the two sides' clocks add to the
/// time between them; `by`: reason why the sides are taken to belong together; `rivals`: devices of other VMs fit as
/// well.
pub(super) fn of_device(
    source: Option<(&SideAnalysis, &HostLosses)>,
    destination: Option<(&SideAnalysis, &HostLosses)>,
    streams: &[ShiftedSession<'_>],
    apart: TimeUncertainty,
    by: Option<PairingReason>,
    rivals: bool,
) -> Option<DowntimeSplit> {
    let mut doubts = DowntimeCaveats { by: TimeUncertainty::NOT, why: Vec::new() };
    let (mut spans, mut blurred) = (Vec::new(), Vec::new());
    let from = source.map(|(found, _)| found);
    let to = destination.map(|(found, _)| found);
    let start_ns = match (from, to) {
        (Some(from), _) if from.stop_seen => from.stop_ns?,
        (Some(from), _) => {
            let first = from.stop_ns?;
            doubts.add(LONGER, "the source stood still already when that was seen first");
            let reads = busy(from, streams, PartName::StopCopy);
            let reads = reads.filter_map(|(stream, busy)| Some(stream.at(busy.spans().first()?.0)));
            reads.min().map_or(first, |read| read.min(first))
        },
        (None, Some(to)) => {
            let first = to.arcs.iter().find(|arc| arc.from == MigState::RESUMING)?;
            doubts.add(
                LONGER,
                "the source was not seen: its stop, its reads, and what was written until then are not in it",
            );
            first.start_ns
        },
        (None, None) => return None,
    };
    if from.is_some_and(|from| from.stopped_before) {
        let why =
            "the source had been stopped before, or that failed: how long it stood still then is not known";
        doubts.add(LONGER, why);
    }
    let mut end_ns = start_ns;
    // The downtime ends when the destination runs.
    let arrived =
        to.filter(|to| from.is_none_or(|from| from.ran_ns.is_none() || from.resumes_after_handover(to)));
    let back = from.and_then(|from| from.ran_ns).filter(|_| arrived.is_none());
    if let Some(from) = from {
        for arc in from.arcs.iter().filter(|arc| arc.end_ns >= start_ns) {
            let Some(stage) = source_stage(arc, back.is_some()) else { continue };
            spans.push(StageSpan { stage, start_ns: arc.start_ns, end_ns: arc.end_ns });
            end_ns = end_ns.max(arc.end_ns);
        }
        for (stream, busy) in busy(from, streams, PartName::StopCopy) {
            for (start, end) in busy.spans() {
                spans.push(StageSpan {
                    stage: DowntimeStage::Read,
                    start_ns: stream.at(*start),
                    end_ns: stream.at(*end),
                });
                end_ns = end_ns.max(stream.at(*end));
            }
            blurred.push((DowntimeStage::Read, busy.filled_ns()));
        }
        if let Some(ran) = back {
            end_ns = ran.max(start_ns);
        }
    }
    if let Some(to) = arrived {
        let clip = from.and_then(|from| from.stop_copy_ns).unwrap_or(start_ns);
        for (stream, busy) in busy(to, streams, PartName::Resuming) {
            for (start, end) in busy.spans() {
                let (start_ns, end) = (stream.at(*start).max(clip), stream.at(*end));
                if end > start_ns {
                    spans.push(StageSpan { stage: DowntimeStage::Write, start_ns, end_ns: end });
                    end_ns = end_ns.max(end);
                }
            }
            blurred.push((DowntimeStage::Write, busy.filled_ns()));
        }
        for arc in &to.arcs {
            if let Some(stage) = destination_stage(arc).filter(|_| arc.end_ns > start_ns) {
                spans.push(StageSpan { stage, start_ns: arc.start_ns, end_ns: arc.end_ns });
                end_ns = end_ns.max(arc.end_ns);
            }
        }
        if let Some(ran) = to.ran_ns {
            end_ns = end_ns.max(ran);
        }
    }
    let ran = back.is_some() || arrived.is_some_and(|to| to.ran_ns.is_some());
    if !ran {
        let why = match arrived {
            None => "the destination was not seen: only the source's part is in it",
            Some(_) => "the destination was not seen to run",
        };
        doubts.add(LONGER, why);
    }
    for (found, losses) in source.iter().chain(&destination) {
        if found.arcs.iter().any(|arc| arc.duration_ns.is_none() && arc.end_ns >= start_ns) {
            doubts.add(EITHER, "the end of an arc was not seen");
        }
        if found.missed_arc {
            doubts.add(EITHER, "an arc was not seen");
        }
        if found.unprobed {
            let why = "functions that it goes through were not probed for some of the time";
            doubts.add(LONGER, why);
        }
        if losses.lacks_transitions() {
            doubts.add(EITHER, "state transitions may have been lost");
        } else if losses.lacks_data() {
            doubts.add(EITHER, "reads or writes were lost: their time is in the gap");
        } else if found.bytes_unseen {
            doubts
                .add(EITHER, "reads or writes were not seen, or may not have been: their time is in the gap");
        } else if !losses.complete {
            doubts.add(EITHER, "the recording has no end: what was lost at last is not known");
        }
    }
    if from.is_some() && arrived.is_some() {
        match (apart.longer, apart.shorter) {
            (Some(0), Some(0)) => {},
            (_, Some(0)) => {
                doubts.add(apart, "the destination's clock may be farther behind than causality shows");
            },
            (Some(_), Some(_)) => doubts.add(apart, "the hosts' clocks may differ by that much"),
            _ => doubts.add(apart, "how far the hosts' clocks are apart is not known"),
        }
        if by == Some(PairingReason::Time) {
            doubts.add(EITHER, "nothing but the time tells that these two belong together");
        }
        if by == Some(PairingReason::Order) && rivals {
            doubts.add(
                EITHER,
                "another one fits as well: nothing but their order tells that these two belong together",
            );
        }
    }
    doubts.why.dedup();
    let (off, vm_why) = (doubts.by, doubts.why());
    if from.is_some() && arrived.is_some() && by == Some(PairingReason::Order) && !rivals {
        doubts.add(
            EITHER,
            "another device fits as well: nothing but their order tells that these two belong together",
        );
    }
    let mut stages = sweep(&spans, start_ns, end_ns);
    blur(&mut stages, blurred.iter().copied());
    let downtime = DowntimeBreakdown {
        start_ns,
        end_ns,
        total_ns: end_ns.saturating_sub(start_ns),
        bound: doubts.by.bound(),
        uncertainty_ns: doubts.by.off_ns(),
        why: doubts.why(),
        stages,
    };
    Some(DowntimeSplit { downtime, spans, off, vm_why, blurred })
}

fn busy<'a>(
    found: &'a SideAnalysis,
    streams: &'a [ShiftedSession<'a>],
    part: PartName,
) -> impl Iterator<Item = (&'a ShiftedSession<'a>, &'a crate::report::history::BusyIntervals)> {
    found.streams(streams).filter_map(move |stream| Some((stream, stream.history.busy(part)?)))
}

/// Returns the stage of the source's downtime to which an arc belongs. `back`: the source runs again.
fn source_stage(arc: &ArcSpan, back: bool) -> Option<DowntimeStage> {
    let to = arc.to?;
    match (arc.from, to) {
        (_, MigState::STOP_COPY) => Some(DowntimeStage::Save),
        (MigState::STOP_COPY, _) | (_, MigState::RUNNING) => back.then_some(DowntimeStage::Recover),
        (MigState::STOP | MigState::PRE_COPY_P2P, MigState::RUNNING_P2P) => {
            back.then_some(DowntimeStage::Recover)
        },
        (_, MigState::RUNNING_P2P | MigState::PRE_COPY_P2P | MigState::STOP) => Some(DowntimeStage::Stop),
        _ => None,
    }
}

fn destination_stage(arc: &ArcSpan) -> Option<DowntimeStage> {
    match (arc.from, arc.to?) {
        (MigState::RESUMING, MigState::STOP) => Some(DowntimeStage::Load),
        (MigState::STOP, MigState::RUNNING_P2P) | (_, MigState::RUNNING) => Some(DowntimeStage::Start),
        _ => None,
    }
}

/// Returns the downtime of all devices together, and the order in which they went through each stage.
pub(super) fn of_vm(splits: &[&DowntimeSplit]) -> (Option<DowntimeBreakdown>, Vec<StageOrder>) {
    let Some(start_ns) = splits.iter().map(|split| split.downtime.start_ns).min() else {
        return (None, Vec::new());
    };
    let end_ns = splits.iter().map(|split| split.downtime.end_ns).max().unwrap_or(start_ns);
    let spans: Vec<StageSpan> = splits.iter().flat_map(|split| split.spans.iter().copied()).collect();
    let mut stages = sweep(&spans, start_ns, end_ns);
    blur(&mut stages, splits.iter().flat_map(|split| split.blurred.iter().copied()));
    let mut why: Vec<&str> = splits.iter().filter_map(|split| split.vm_why.as_deref()).collect();
    why.sort_unstable();
    why.dedup();
    // The known error of all devices comes from the same clocks, so it does not add up.
    let off = splits.iter().fold(TimeUncertainty::NOT, |off, split| off.and(split.off, u64::max));
    let downtime = DowntimeBreakdown {
        start_ns,
        end_ns,
        total_ns: end_ns.saturating_sub(start_ns),
        bound: off.bound(),
        uncertainty_ns: off.off_ns(),
        why: (!why.is_empty()).then(|| why.join("; ")),
        stages,
    };
    let order = if splits.len() < 2 { Vec::new() } else { order(splits) };
    (Some(downtime), order)
}

fn order(splits: &[&DowntimeSplit]) -> Vec<StageOrder> {
    let stage_order = |stage: DowntimeStage| {
        let of = |split: &DowntimeSplit| {
            let spans = split.spans.iter().filter(|span| span.stage == stage);
            union_ns(spans.map(|span| (span.start_ns, span.end_ns)))
        };
        let times: Vec<u64> = splits.iter().map(|split| of(split)).filter(|time| *time > 0).collect();
        if times.len() < 2 {
            return None;
        }
        let all = splits.iter().flat_map(|split| &split.spans).filter(|span| span.stage == stage);
        let union_ns = union_ns(all.map(|span| (span.start_ns, span.end_ns)));
        let (sum_ns, longest_ns) = (
            times.iter().fold(0u64, |sum, time| sum.saturating_add(*time)),
            times.iter().copied().max().unwrap_or(0),
        );
        // Time that devices in parallel could have saved at most, and time that they saved.
        let (most, saved) = (sum_ns.saturating_sub(longest_ns), sum_ns.saturating_sub(union_ns));
        let order = if saved.saturating_mul(10) < most {
            DeviceConcurrency::Series
        } else if saved.saturating_mul(10) > most.saturating_mul(9) {
            DeviceConcurrency::Parallel
        } else {
            DeviceConcurrency::Mixed
        };
        Some(StageOrder {
            stage,
            devices: u32::try_from(times.len()).unwrap_or(u32::MAX),
            sum_ns,
            union_ns,
            longest_ns,
            order,
        })
    };
    DowntimeStage::ALL
        .into_iter()
        .filter(|stage| *stage != DowntimeStage::Gap)
        .filter_map(stage_order)
        .collect()
}
