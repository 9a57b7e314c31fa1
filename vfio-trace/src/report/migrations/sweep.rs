//! Computes the share of each stage in a window of time from the stages' intervals.

use crate::report::document::{DowntimeStage, StageTime};

/// An interval in which a stage was in progress, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StageSpan {
    pub(super) stage: DowntimeStage,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

/// All stages but the gap, in their order of precedence.
const BUSY: [DowntimeStage; 7] = [
    DowntimeStage::Stop,
    DowntimeStage::Save,
    DowntimeStage::Read,
    DowntimeStage::Write,
    DowntimeStage::Load,
    DowntimeStage::Start,
    DowntimeStage::Recover,
];

/// Returns the time of each stage between two times. Stages without any time are left out, but never the gap.
pub(super) fn sweep(spans: &[StageSpan], start_ns: u64, end_ns: u64) -> Vec<StageTime> {
    let clipped = spans.iter().filter_map(|span| {
        let clip = StageSpan {
            stage: span.stage,
            start_ns: span.start_ns.max(start_ns),
            end_ns: span.end_ns.min(end_ns),
        };
        (clip.start_ns < clip.end_ns).then_some(clip)
    });
    let mut edges: Vec<(u64, usize, bool)> = Vec::new();
    for span in clipped {
        let Some(stage) = BUSY.iter().position(|stage| *stage == span.stage) else { continue };
        edges.push((span.start_ns, stage, true));
        edges.push((span.end_ns, stage, false));
    }
    edges.sort_unstable();
    let (mut share, mut busy, mut open) = ([0u64; BUSY.len()], [0u64; BUSY.len()], [0u32; BUSY.len()]);
    let (mut gap, mut at) = (0, start_ns);
    for (edge, stage, begins) in edges.into_iter().chain([(end_ns, 0, false)]) {
        let passed = edge.saturating_sub(at);
        match open.iter().position(|calls| *calls > 0) {
            Some(first) => share[first] += passed,
            None => gap += passed,
        }
        for (time, _) in busy.iter_mut().zip(open).filter(|(_, calls)| *calls > 0) {
            *time += passed;
        }
        at = at.max(edge);
        open[stage] = if begins { open[stage] + 1 } else { open[stage].saturating_sub(1) };
    }
    let time = |stage: DowntimeStage| {
        let time = match BUSY.iter().position(|other| *other == stage) {
            Some(at) => StageTime { stage, share_ns: share[at], busy_ns: busy[at], blurred_ns: 0 },
            None => StageTime { stage, share_ns: gap, busy_ns: gap, blurred_ns: 0 },
        };
        (time.busy_ns > 0 || stage == DowntimeStage::Gap).then_some(time)
    };
    DowntimeStage::ALL.into_iter().filter_map(time).collect()
}

/// Returns the time covered by at least one of the spans, in ns.
pub(super) fn union_ns(spans: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut spans: Vec<(u64, u64)> = spans.collect();
    spans.sort_unstable();
    let (mut sum, mut until) = (0u64, 0);
    for (start, end) in spans {
        sum += end.saturating_sub(start.max(until));
        until = until.max(end);
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(stage: DowntimeStage, start_ns: u64, end_ns: u64) -> StageSpan {
        StageSpan { stage, start_ns, end_ns }
    }

    #[test]
    fn what_overlaps_counts_for_the_first_stage() {
        let spans = [
            span(DowntimeStage::Stop, 90, 110),
            span(DowntimeStage::Read, 120, 150),
            span(DowntimeStage::Read, 160, 170),
            span(DowntimeStage::Write, 140, 180),
            span(DowntimeStage::Start, 190, 250),
        ];
        let times = sweep(&spans, 100, 200);
        let got: Vec<_> = times.iter().map(|time| (time.stage.name(), time.share_ns, time.busy_ns)).collect();
        let expected =
            [("stop", 10, 10), ("read", 40, 40), ("gap", 20, 20), ("write", 20, 40), ("start", 10, 10)];
        assert_eq!(got, expected);
        let empty = sweep(&[], 5, 9);
        assert_eq!((empty.len(), empty[0].stage, empty[0].share_ns), (1, DowntimeStage::Gap, 4));
    }

    #[test]
    fn covered_once() {
        assert_eq!(union_ns([(5, 7), (0, 2), (1, 3), (6, 6)].into_iter()), 5);
    }

    proptest! {
        #[test]
        fn shares_add_up(
            spans in proptest::collection::vec((0..7usize, 0..100u64, 0..30u64), 0..40),
            start in 0..50u64,
            length in 0..80u64,
        ) {
            let spans: Vec<StageSpan> =
                spans.into_iter().map(|(stage, at, len)| span(BUSY[stage], at, at + len)).collect();
            let times = sweep(&spans, start, start + length);
            prop_assert_eq!(times.iter().map(|time| time.share_ns).sum::<u64>(), length);
            for time in &times {
                prop_assert!(time.share_ns <= time.busy_ns);
                let covered = spans
                    .iter()
                    .filter(|span| span.stage == time.stage)
                    .map(|span| (span.start_ns.max(start), span.end_ns.min(start + length)))
                    .filter(|(start, end)| start < end);
                if time.stage != DowntimeStage::Gap {
                    prop_assert_eq!(time.busy_ns, union_ns(covered));
                }
            }
        }
    }
}
