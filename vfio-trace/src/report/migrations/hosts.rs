//! Pairs sources with destinations on the hosts' clocks, and computes the error that the clocks add to times between
//! sides.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use super::{
    APART_NS, DocumentBuilder, DocumentOptions, ROUNDS, SPARE_NS,
    clocks::{DriftRate, OffsetCorrection, StreamEvidence, StreamSlack},
    details::ShiftedSession,
    downtime::TimeUncertainty,
    pair::{self, ClockTolerance, GroupPair, PairingContext},
};
use crate::report::document::PairingReason;

impl DocumentBuilder<'_> {
    /// Finds the pairs. `refused`: sources and destinations that do not belong together, although they look so.
    pub(super) fn pair(&mut self, options: &DocumentOptions, refused: &mut HashSet<(usize, usize)>) {
        let wholes = self.find_pairs(options, refused);
        self.wholes = wholes;
    }

    /// Looks for pairs repeatedly, each time without the pairs that were refused before.
    fn find_pairs(&self, options: &DocumentOptions, refused: &mut HashSet<(usize, usize)>) -> Vec<GroupPair> {
        let streams = self.streams();
        let evidence = self.evidence(&streams);
        let facts = self.facts;
        let apart_ns = |one: u32, two: u32| {
            if facts.is_one_clock(one, two) {
                return ClockTolerance { guess: 0, sure: 0 };
            }
            let guess = facts.always_apart(one, two).map_or(APART_NS, |ns| ns.saturating_add(SPARE_NS));
            ClockTolerance { guess: guess.min(APART_NS), sure: APART_NS }
        };
        let promised: Vec<Option<u64>> =
            self.sides.iter().map(|found| facts.promised(found, self.histories, &streams)).collect();
        // This is asked before a pair is made: otherwise each round would refuse only one of the many pairs that may
        // have the same number of bytes.
        let known: RefCell<HashMap<(usize, usize), bool>> = RefCell::default();
        let backwards = |source: usize, destination: usize| {
            let (from, to) = (&self.sides[source], &self.sides[destination]);
            let by_bytes = from.bytes > 0 && from.bytes == to.bytes;
            by_bytes
                && *known
                    .borrow_mut()
                    .entry((source, destination))
                    .or_insert_with(|| evidence.is_backwards([source, destination]))
        };
        let shared = pair::shared_hashes(&self.sides, &self.groups);
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let context = PairingContext {
                devices: &self.devices,
                pairs: &options.pairs,
                apart_ns: &apart_ns,
                promised: &|side| promised[side],
                refused,
                backwards: &backwards,
                shared: &shared,
            };
            let wholes = pair::pair_groups(&self.sides, &self.groups, &context);
            let wrong = self.clocks.find_refused(evidence, &wholes, refused);
            if wrong.is_empty() {
                return wholes;
            }
            refused.extend(wrong);
            last = wholes;
        }
        // The pairs that the last round refused are none either.
        for whole in &mut last {
            whole.matched.retain(|one| !refused.contains(&(one.source, one.destination)));
        }
        pair::split(&mut last, &self.groups);
        last
    }

    /// Returns the evidence about the clocks.
    pub(super) fn evidence<'b>(&'b self, streams: &'b [ShiftedSession<'b>]) -> StreamEvidence<'b> {
        StreamEvidence {
            histories: self.histories,
            facts: self.facts,
            devices: &self.devices,
            sides: &self.sides,
            streams,
        }
    }

    /// Returns the error that the hosts' clocks add to the time from an event on a migration's source to one on its
    /// destination. `until_ns`: time of the last such event; `None`: the migration's end.
    pub(super) fn apart(
        &self,
        whole: &GroupPair,
        streams: &[ShiftedSession<'_>],
        until_ns: Option<u64>,
    ) -> TimeUncertainty {
        let host = |group: Option<usize>| Some(self.sides[self.groups[group?].sides[0]].host);
        let Some((from, to)) = host(whole.source).zip(host(whole.destination)) else {
            return TimeUncertainty::NOT;
        };
        if self.facts.is_one_clock(from, to) {
            return TimeUncertainty::NOT;
        }
        let (first_ns, end_ns) = self.handover(whole);
        let later_ns = until_ns.filter(|until| *until > end_ns);
        let (first_ns, last_ns) =
            self.clocks.span_on_first(first_ns, later_ns.unwrap_or(end_ns), self.histories);
        // What other migrations show of the clocks holds at their times, and is worth less the farther away they are.
        let correction = |host: u32| match self.facts.boot(host as usize) {
            0 => OffsetCorrection::NONE,
            boot => {
                self.drifts.get(boot).map_or(OffsetCorrection::NONE, |drift| drift.over(first_ns, last_ns))
            },
        };
        let moved = correction(to).since(correction(from));
        let evidence = self.evidence(streams);
        // A pair by time alone shows nothing of the clocks.
        let shown = whole.matched.iter().filter(|pair| pair.by != PairingReason::Time);
        let slacks = shown.filter_map(|pair| evidence.slack_of(pair, whole));
        let slack = slacks.reduce(StreamSlack::and);
        let demanded = slack.map_or(moved, |slack| moved.demanding(moved.by - slack.least));
        // The promise of the migration's time is none for later.
        let promised = match later_ns {
            None => evidence.promised_of(whole),
            Some(_) => self.facts.always_apart(from, to),
        };
        let promised =
            promised.map_or_else(|| demanded.or_unpromised(), |promised| demanded.as_promised(promised));
        // In this migration, too, nothing is written before it was read.
        let told = slack.map_or(promised, |slack| {
            let written_ns = self.clocks.on_first((to, slack.until_ns), self.facts);
            let passed = later_ns.map_or(0, |_| last_ns - written_ns);
            promised.shown(slack.then + DriftRate::APART.of(passed))
        });
        let ns = |error: Option<i128>| error.map(|ns| u64::try_from(ns.max(0)).unwrap_or(u64::MAX));
        TimeUncertainty { longer: ns(told.early), shorter: ns(told.late) }
    }

    /// Returns the time from the stop of a migration's source to the end of its destination.
    fn handover(&self, whole: &GroupPair) -> (u64, u64) {
        let sides = |group: Option<usize>| group.map_or(&[][..], |group| &self.groups[group].sides);
        let stops = sides(whole.source).iter().map(|at| &self.sides[*at]);
        let stop = stops.map(|found| found.stop_ns.unwrap_or(found.side.end_ns)).min();
        let end = sides(whole.destination).iter().map(|at| self.sides[*at].side.end_ns).max();
        let (stop, end) = (stop.or(end).unwrap_or(0), end.or(stop).unwrap_or(0));
        (stop.min(end), stop.max(end))
    }
}
