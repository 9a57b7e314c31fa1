//! Pairs sources with destinations on the hosts' clocks, and computes the error that the clocks add to times between
//! sides.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use super::{
    APART_NS, DocumentBuilder, DocumentOptions, ROUNDS, SPARE_NS,
    clocks::{OffsetCorrection, StreamEvidence},
    details::ShiftedSession,
    downtime::TimeUncertainty,
    pair::{self, ClockTolerance, GroupPair, PairingContext},
};

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
            let guess = facts.worst_apart(one, two).map_or(APART_NS, |ns| ns.saturating_add(SPARE_NS));
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
            // An equal hash is stronger evidence than a clock.
            let by_hash = from.stream.is_some() && from.stream == to.stream;
            by_bytes
                && !by_hash
                && *known
                    .borrow_mut()
                    .entry((source, destination))
                    .or_insert_with(|| evidence.is_backwards([source, destination]))
        };
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let context = PairingContext {
                devices: &self.devices,
                pairs: &options.pairs,
                apart_ns: &apart_ns,
                promised: &|side| promised[side],
                refused,
                backwards: &backwards,
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
    /// destination.
    pub(super) fn apart(&self, whole: &GroupPair, streams: &[ShiftedSession<'_>]) -> TimeUncertainty {
        let host = |group: Option<usize>| Some(self.sides[self.groups[group?].sides[0]].host);
        let Some((from, to)) = host(whole.source).zip(host(whole.destination)) else {
            return TimeUncertainty::NOT;
        };
        if self.facts.is_one_clock(from, to) {
            return TimeUncertainty::NOT;
        }
        let correction =
            |host: u32| self.corrections.get(host as usize).copied().unwrap_or(OffsetCorrection::NONE);
        let moved = correction(to).since(correction(from));
        let evidence = self.evidence(streams);
        // Another migration moved the clocks by more than the kernels' present bounds allow: if they were that far
        // apart then, they need not be now. But in this migration, too, nothing is written before it was read.
        let promised = evidence
            .promised_of(whole)
            .map_or_else(|| moved.or_unpromised(), |promised| moved.or_as_promised(promised));
        let slack = whole.matched.iter().filter_map(|pair| evidence.slack_of(pair, whole)).min();
        let late = match (moved.late.zip(slack), promised.late) {
            (Some((before, slack)), late) => {
                let most = slack.max(before);
                Some(late.map_or(most, |late| late.min(most)))
            },
            (None, late) => late,
        };
        let ns = |error: Option<i128>| error.map(|ns| u64::try_from(ns.max(0)).unwrap_or(u64::MAX));
        TimeUncertainty { longer: ns(promised.early), shorter: ns(late) }
    }
}
