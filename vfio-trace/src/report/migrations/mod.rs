//! Makes a document from the histories of hosts: finds sides, pairs them to migrations, and computes verdicts and
//! downtimes.

mod clocks;
mod details;
mod downtime;
mod gaps;
mod hosts;
mod index;
mod outside;
mod pair;
mod shift;
mod side;
mod sweep;
mod text;
mod verdicts;
mod warnings;

use std::collections::{HashMap, HashSet};

pub use self::shift::ClockShift;
use self::{
    clocks::{ClockAlignment, ClockFacts, DriftBounds},
    details::ShiftedSession,
    downtime::TimeUncertainty,
    gaps::ShiftedGap,
    index::DeviceIndex,
    pair::{DeviceMatch, GroupPair, SideGroup},
    side::SideAnalysis,
    verdicts::{integrity, run_again, verdict},
};
use super::{
    document::{
        self, ClockMerge, DOCUMENT_SCHEMA, DOCUMENT_SCHEMA_VERSION, DataSession, DeviceMigration,
        LeftOutCounts, MigrationDocument, MigrationSide, MigrationVerdict, OmittedCounts, OutsideIssues,
        PairingReason, ReportFinding, ReportWarning, TimeFields as _, TracedDevice, TracedHost, VmMigration,
        VmmProcess,
    },
    history::HostHistory,
};
use crate::event::ClockAnchor;

/// Options of a document, from the command line of `report`, `export` and `merge`.
#[derive(Clone, Debug, Default)]
pub struct DocumentOptions {
    /// Version of this program.
    pub version: String,
    /// Pairs of devices that belong together (`--pair`): names of the source's and of the destination's device.
    pub pairs: Vec<(String, String)>,
}

/// Largest distance of two hosts' clocks when looking for pairs, in ns: without the kernels' bounds, or for pairs that
/// are known to belong together.
const APART_NS: u64 = 3600 * 1_000_000_000;
/// Distance of two clocks allowed beyond the kernels' bounds, in ns, for sides that fit no other: after each answer an
/// NTP daemon may set a bound near 0 while it still slews the clock by up to 0.4 s.
const SPARE_NS: u64 = 1_000_000_000;
/// Most rounds of looking for pairs after some were refused.
const ROUNDS: usize = 24;

/// Makes the document of one or several recordings. Times are on the first one's clock.
pub fn document(histories: &[HostHistory], options: &DocumentOptions) -> MigrationDocument {
    document_and_shifts(histories, options).0
}

/// Makes the same, with the shift from each host's CLOCK_MONOTONIC to the document's clock.
pub fn document_and_shifts(
    histories: &[HostHistory],
    options: &DocumentOptions,
) -> (MigrationDocument, Vec<ClockShift>) {
    let facts = ClockFacts::of(histories);
    let clocks = ClockAlignment::of(histories, &facts);
    let mut refused = HashSet::new();
    let mut first = DocumentBuilder::new(histories, &facts, clocks);
    first.pair(options, &mut refused);
    if histories.len() < 2 {
        let shifts = first.clocks.shifts.clone();
        return (first.document(options), shifts);
    }
    let (clocks, drifts, merges) = {
        let streams = first.streams();
        first.clocks.tighten(first.evidence(&streams), &first.wholes)
    };
    drop(first);
    let shifts = clocks.shifts.clone();
    let mut second = DocumentBuilder::new(histories, &facts, clocks);
    second.pair(options, &mut refused);
    (second.drifts, second.merges) = (drifts, merges);
    (second.document(options), shifts)
}

struct DocumentBuilder<'a> {
    histories: &'a [HostHistory],
    facts: &'a ClockFacts,
    clocks: ClockAlignment,
    /// Bounds of each boot's offset, by its first host; empty if there is only one host.
    drifts: Vec<DriftBounds>,
    merges: Vec<ClockMerge>,
    devices: Vec<TracedDevice>,
    sessions: Vec<DataSession>,
    /// Index of the host, and of the session in its history, for each session.
    places: Vec<(usize, usize)>,
    findings: Vec<ReportFinding>,
    /// Gaps of each host.
    gaps: Vec<Vec<ShiftedGap<'a>>>,
    outside: Vec<OutsideIssues>,
    sides: Vec<SideAnalysis>,
    groups: Vec<SideGroup>,
    wholes: Vec<GroupPair>,
}

impl<'a> DocumentBuilder<'a> {
    fn new(histories: &'a [HostHistory], facts: &'a ClockFacts, clocks: ClockAlignment) -> Self {
        let mut assembly = Self {
            histories,
            facts,
            clocks,
            drifts: Vec::new(),
            merges: Vec::new(),
            devices: Vec::new(),
            sessions: Vec::new(),
            places: Vec::new(),
            findings: Vec::new(),
            gaps: Vec::new(),
            outside: Vec::new(),
            sides: Vec::new(),
            groups: Vec::new(),
            wholes: Vec::new(),
        };
        for (host, history) in histories.iter().enumerate() {
            assembly.take_in(host, history);
        }
        assembly.find_sides();
        assembly.groups = pair::groups(&assembly.sides);
        assembly
    }

    /// Adds the devices, sessions and findings of a host, on the document's clock.
    fn take_in(&mut self, host: usize, history: &'a HostHistory) {
        let shift = &self.clocks.shifts[host];
        self.gaps.push(gaps::of_host(history, shift));
        let mut change = |ns: &mut u64| *ns = shift.of(*ns);
        let first_device = self.devices.len() as u32;
        let first_session = self.sessions.len() as u32;
        let until = history.span().map_or(history.host.ended_ns, |(_, last)| last.max(history.host.ended_ns));
        let until = history.left_out.from_ns.unwrap_or(until);
        for device in &history.devices {
            let mut doc = device.document(until);
            doc.each_time(&mut change);
            doc.nr = self.devices.len() as u32;
            doc.host = host as u32;
            for request in &mut doc.requests {
                request.session = request.session.map(|session| session + first_session);
            }
            self.devices.push(doc);
        }
        for (at, session) in history.sessions.iter().enumerate() {
            let mut doc = session.document();
            doc.each_time(&mut change);
            doc.nr = self.sessions.len() as u32;
            doc.device += first_device;
            self.sessions.push(doc);
            self.places.push((host, at));
        }
        self.findings.extend(history.findings.iter().map(|finding| ReportFinding {
            at_ns: shift.of(finding.at_ns),
            device: finding.device + first_device,
            session: finding.session.map(|session| session + first_session),
            ..finding.clone()
        }));
    }

    fn streams(&self) -> Vec<ShiftedSession<'_>> {
        let mut streams = Vec::with_capacity(self.sessions.len());
        for (doc, &(host, at)) in self.sessions.iter().zip(&self.places) {
            let history = &self.histories[host].sessions[at];
            streams.push(ShiftedSession { doc, history, shift: &self.clocks.shifts[host] });
        }
        streams
    }

    fn find_sides(&mut self) {
        let mut sides: Vec<SideAnalysis> = self.devices.iter().flat_map(side::find).collect();
        self.outside = {
            let streams = self.streams();
            details::attach(&mut sides, &streams);
            let lines = DeviceIndex::all(&self.devices, &self.findings);
            let outside = outside::assign_findings(&mut sides, &lines, &streams);
            for found in &mut sides {
                let line = &lines[found.side.device as usize];
                let mut gaps = self.gaps[found.host as usize].iter();
                found.unprobed = gaps.any(|gap| gap.hides(found, line.device));
                found.side.failures = details::failures(found, line, &streams);
                found.side.phases = details::phases(found, line, &streams);
                found.misses_uncounted =
                    self.histories[found.host as usize].host.losses.has_uncounted_misses();
                found.bytes_unseen = self.unseen(found);
                found.judge(self.data_lost(found), self.data_suffers(found));
                if found.data_incomplete {
                    // Plug-ins do not know about losses: initial bytes that seem to be left may have been read unseen.
                    found.side.findings.retain(|finding| !finding.code.ends_with("/initial-bytes-left"));
                }
            }
            outside
        };
        self.sides = sides;
    }

    /// Returns true if reads or writes of a side may be missing.
    fn data_suffers(&self, found: &SideAnalysis) -> bool {
        found.bytes_unseen || self.data_lost(found)
    }

    /// Returns true if reads or writes of a side are missing by the counters, or because functions were not probed.
    fn data_lost(&self, found: &SideAnalysis) -> bool {
        found.unprobed || self.histories[found.host as usize].host.losses.lacks_data()
    }

    /// Returns true if bytes of a side may have moved unseen. Where the kernel does not count missed calls, only the
    /// offset of the data fd can show that none did.
    fn unseen(&self, found: &SideAnalysis) -> bool {
        let mut missed = found.side.sessions.iter().map(|nr| self.sessions[*nr as usize].missed_bytes);
        (found.misses_uncounted && found.side.sessions.is_empty())
            || missed.any(|missed| missed.map_or(found.misses_uncounted, |missed| missed > 0))
    }

    /// Returns true if events of a side may be missing: what was not seen may have happened all the same.
    fn lacks(&self, found: &SideAnalysis) -> bool {
        let HostHistory { host: TracedHost { losses, .. }, left_out, .. } =
            &self.histories[found.host as usize];
        let counted = losses.complete
            && !losses.lacks_transitions()
            && !found.misses_uncounted
            && left_out.forgotten == 0;
        found.side.partial || found.missed_arc || !counted || self.data_suffers(found)
    }

    fn document(mut self, options: &DocumentOptions) -> MigrationDocument {
        let mut unprobed = Vec::new();
        let (mut migrations, rows): (Vec<VmMigration>, Vec<Vec<MatchedPlaces>>) = {
            let facts = MigrationInputs {
                streams: self.streams(),
                lines: DeviceIndex::all(&self.devices, &self.findings),
                comms: self.comms(),
            };
            gaps::warn(&self.gaps, &facts.lines, &facts.streams, &mut unprobed);
            let build = |(nr, whole): (usize, &GroupPair)| self.migration(nr as u32, whole, &facts);
            self.wholes.iter().enumerate().map(build).unzip()
        };
        // Each side belongs to one migration, so its large parts are moved there.
        for (migration, rows) in migrations.iter_mut().zip(rows) {
            for (device, (source, destination, _)) in migration.devices.iter_mut().zip(rows) {
                for (side, at) in [(&mut device.source, source), (&mut device.destination, destination)] {
                    if let Some((side, at)) = side.as_mut().zip(at) {
                        side.phases = std::mem::take(&mut self.sides[at].side.phases);
                    }
                }
            }
        }
        drop(std::mem::take(&mut self.sides));
        for history in self.histories.iter().filter(|history| history.gaps_left_out > 0) {
            unprobed.push(ReportWarning {
                code: "left-out",
                severity: crate::event::FindingSeverity::Warning,
                device: None,
                at_ns: None,
                text: format!(
                    "{} more times in which functions were not probed were not looked at, because there are too many",
                    history.gaps_left_out
                ),
            });
        }
        let hosts: Vec<TracedHost> =
            self.histories.iter().enumerate().map(|(at, history)| self.host(at, history)).collect();
        let origin = wall(self.clocks.origin_ns);
        let mut document = MigrationDocument {
            schema: DOCUMENT_SCHEMA,
            schema_version: DOCUMENT_SCHEMA_VERSION,
            version: options.version.clone(),
            origin,
            duration_ns: hosts.iter().map(|host| host.ended_ns).max().unwrap_or(0),
            hosts,
            merge: std::mem::take(&mut self.merges),
            devices: self.devices,
            sessions: self.sessions,
            migrations,
            outside: self.outside,
            warnings: Vec::new(),
            omitted: OmittedCounts::default(),
        };
        warnings::of_document(&mut document);
        document.warnings.extend(unprobed);
        document
    }

    fn host(&self, at: usize, history: &HostHistory) -> TracedHost {
        let shift = &self.clocks.shifts[at];
        let (first, last) = history.span().unwrap_or((history.host.began_ns, history.host.ended_ns));
        let real = self.facts.distance_ns(at) - shift.first();
        TracedHost {
            nr: at as u32,
            label: label(self.histories, at),
            began_ns: shift.of(history.host.began_ns.min(first)),
            ended_ns: shift.of(history.host.ended_ns.max(last)),
            mono_at_origin_ns: i64::try_from(-shift.first()).unwrap_or(i64::MIN),
            real_at_origin: wall(real),
            left_out: LeftOutCounts {
                from_ns: history.left_out.from_ns.map(|from| shift.of(from)),
                ..history.left_out.clone()
            },
            ..history.host.clone()
        }
    }

    /// Makes a migration without its sides' phases, and the list of sides that its devices are made of.
    fn migration(
        &self,
        nr: u32,
        whole: &GroupPair,
        facts: &MigrationInputs<'_>,
    ) -> (VmMigration, Vec<MatchedPlaces>) {
        let group = |at: Option<usize>| at.map(|at| &self.groups[at]);
        let (from, to) = (group(whole.source), group(whole.destination));
        let members = |group: Option<&SideGroup>| group.map_or_else(Vec::new, |group| group.sides.clone());
        let by_source: HashMap<usize, DeviceMatch> =
            whole.matched.iter().map(|one| (one.source, *one)).collect();
        let taken: HashSet<usize> = whole.matched.iter().map(|one| one.destination).collect();
        let alone = |at: &usize| !taken.contains(at);
        let arrivals = members(to).into_iter().filter(alone).map(|at| (None, Some(at), None));
        let rows = members(from).into_iter().map(|source| {
            let one = by_source.get(&source);
            (Some(source), one.map(|one| one.destination), one.map(|one| one.by))
        });
        let rows: Vec<MatchedPlaces> = rows.chain(arrivals).collect();

        let apart = self.apart(whole, &facts.streams, None);
        // If both run, that may be long after the migration.
        let ran = |(source, destination, _): &MatchedPlaces| {
            let [one, two] = [source, destination].map(|at| at.and_then(|at| self.sides[at].ran_ns));
            one.zip(two).map(|(one, two)| one.max(two))
        };
        let later = rows.iter().filter_map(ran).max();
        let apart_later = later.map_or(apart, |ran| self.apart(whole, &facts.streams, Some(ran)));
        let mut warnings = Vec::new();
        let mut splits = Vec::new();
        let devices: Vec<DeviceMigration> = rows
            .iter()
            .map(|&(source, destination, paired_by)| {
                let [source, destination] = [source, destination].map(|at| at.map(|at| &self.sides[at]));
                let split = self.split(source, destination, (paired_by, whole.rivals), apart, &facts.streams);
                self.look(source, destination, (paired_by, apart_later), facts, &mut warnings);
                let downtime = split.as_ref().map(|split| split.downtime.clone());
                splits.extend(split);
                let mut leaving = source.map(lean);
                let came = |to: &SideAnalysis| to.side.verdict == MigrationVerdict::Completed;
                // Other bytes than were read, all of which were seen, show nothing of this source, however sure the
                // pair is.
                let may_be_its = |from: &SideAnalysis, to: &SideAnalysis| {
                    from.bytes == to.bytes || self.data_suffers(from) || self.data_suffers(to)
                };
                let went = |(from, to): (&SideAnalysis, &SideAnalysis)| {
                    from.resumes_after_handover(to)
                        || (from.may_be_read() && came(to) && may_be_its(from, to))
                };
                let went = source.zip(destination).is_some_and(went);
                if let Some(side) = leaving.as_mut().filter(|_| went) {
                    (side.verdict, side.recovery) = (MigrationVerdict::Completed, None);
                }
                let verdict = verdict(leaving.as_ref(), destination.map(|found| &found.side));
                DeviceMigration {
                    source: leaving,
                    destination: destination.map(lean),
                    paired_by,
                    verdict,
                    downtime,
                    stream: document::StreamTransfer {
                        read_bytes: source.map(|found| found.bytes),
                        written_bytes: destination.map(|found| found.bytes),
                        integrity: integrity(source, destination),
                    },
                }
            })
            .collect();
        let (downtime, order) = downtime::of_vm(&splits.iter().collect::<Vec<_>>());
        warnings::of_order(&order, &mut warnings);
        let worst = |verdict: MigrationVerdict| devices.iter().any(|device| device.verdict == verdict);
        let verdict = [MigrationVerdict::Failed, MigrationVerdict::Cancelled, MigrationVerdict::Unfinished]
            .into_iter()
            .find(|verdict| worst(*verdict))
            .unwrap_or(MigrationVerdict::Completed);
        let gone = from.filter(|_| matches!(verdict, MigrationVerdict::Failed | MigrationVerdict::Cancelled));
        let recovered = gone.and_then(|group| run_again(&group.sides, &self.sides));
        let span = [from, to];
        let mut migration = VmMigration {
            nr,
            verdict,
            recovered,
            text: String::new(),
            start_ns: span.iter().flatten().map(|group| group.start_ns).min().unwrap_or(0),
            end_ns: span.iter().flatten().map(|group| group.end_ns).max().unwrap_or(0),
            source: from.map(|group| self.party(group, facts)),
            destination: to.map(|group| self.party(group, facts)),
            devices,
            downtime,
            order,
            warnings,
        };
        let full = span.iter().flatten().any(|group| {
            let host = self.sides[group.sides[0]].host;
            self.histories[host as usize].left_out.from_ns.is_some()
        });
        let mut sides = rows.iter().flat_map(|(source, destination, _)| source.iter().chain(destination));
        let lacking = sides.any(|at| self.lacks(&self.sides[*at]));
        let unread = rows.iter().zip(&migration.devices).any(|((source, ..), device)| {
            device.verdict == MigrationVerdict::Cancelled
                && source.is_some_and(|at| self.sides[at].may_be_read())
        });
        let view = text::MigrationCoverage { full, lacking, unread };
        migration.text =
            text::sentence(&migration, &self.devices, view, &|host| label(self.histories, host as usize));
        (migration, rows)
    }

    fn split(
        &self,
        source: Option<&SideAnalysis>,
        destination: Option<&SideAnalysis>,
        (by, rivals): (Option<PairingReason>, bool),
        apart: TimeUncertainty,
        streams: &[ShiftedSession<'_>],
    ) -> Option<downtime::DowntimeSplit> {
        let losses = |found: &SideAnalysis| &self.histories[found.host as usize].host.losses;
        downtime::of_device(
            source.map(|found| (found, losses(found))),
            destination.map(|found| (found, losses(found))),
            streams,
            apart,
            by,
            rivals,
        )
    }

    fn look(
        &self,
        source: Option<&SideAnalysis>,
        destination: Option<&SideAnalysis>,
        (by, apart): (Option<PairingReason>, TimeUncertainty),
        facts: &MigrationInputs<'_>,
        out: &mut Vec<ReportWarning>,
    ) {
        let suffers = |found: &SideAnalysis| self.data_suffers(found);
        let line = |found: &SideAnalysis| &facts.lines[found.side.device as usize];
        if let Some(found) = source {
            warnings::of_source(found, line(found), &facts.streams, self.view(found), out);
        }
        for found in source.iter().chain(&destination) {
            warnings::of_side(found, line(found), &facts.streams, out);
        }
        if let (Some(from), Some(to)) = (source, destination) {
            let data_suffers = suffers(from) || suffers(to);
            let pair = warnings::PairFacts { by, data_suffers, apart };
            warnings::of_pair((from, line(from)), (to, line(to)), pair, out);
        }
    }

    /// Returns how completely a side was seen.
    fn view(&self, found: &SideAnalysis) -> warnings::SideCoverage {
        let history = &self.histories[found.host as usize];
        let losses = &history.host.losses;
        let (_, last) = history.span().unwrap_or((0, history.host.ended_ns));
        let ended_ns = self.clocks.shifts[found.host as usize].of(history.host.ended_ns.max(last));
        let calls =
            losses.complete && !losses.lacks_transitions() && !found.unprobed && !found.misses_uncounted;
        warnings::SideCoverage {
            data_suffers: self.data_suffers(found),
            calls_until_ns: calls.then_some(ended_ns),
        }
    }

    /// Returns the names of the threads that asked each device first, by device and process.
    fn comms(&self) -> HashMap<(u32, u32), &str> {
        let mut comms = HashMap::new();
        for device in &self.devices {
            for request in &device.requests {
                comms.entry((device.nr, request.pid)).or_insert(request.comm.as_str());
            }
        }
        comms
    }

    fn party(&self, group: &SideGroup, facts: &MigrationInputs<'_>) -> VmmProcess {
        let found = &self.sides[group.sides[0]];
        let comm = facts.comms.get(&(found.side.device, found.pid)).copied();
        VmmProcess { host: found.host, pid: found.pid, comm: comm.unwrap_or_default().to_owned() }
    }
}

/// Inputs of migrations, indexed for look-ups.
struct MigrationInputs<'a> {
    streams: Vec<ShiftedSession<'a>>,
    lines: Vec<DeviceIndex<'a>>,
    comms: HashMap<(u32, u32), &'a str>,
}

/// Indexes of the source side and destination side of one device of a migration, and the reason why they belong
/// together.
type MatchedPlaces = (Option<usize>, Option<usize>, Option<PairingReason>);

/// Copies a side without its phases, which are most of it.
fn lean(found: &SideAnalysis) -> MigrationSide {
    let side = &found.side;
    MigrationSide {
        phases: Vec::new(),
        sessions: side.sessions.clone(),
        failures: side.failures.clone(),
        findings: side.findings.clone(),
        ..*side
    }
}

/// Returns the name of a host in texts about several hosts.
fn label(histories: &[HostHistory], at: usize) -> String {
    let names: Vec<Option<&str>> = histories.iter().map(|history| history.host.name.as_deref()).collect();
    host_label(&names, at)
}

/// Returns the name of a host in texts about hosts with these names: its own name, with its number if another has the
/// same.
pub fn host_label(names: &[Option<&str>], at: usize) -> String {
    let name = |at: usize| names.get(at).copied().flatten().unwrap_or("host");
    let mine = name(at);
    let alone = (0..names.len()).filter(|other| name(*other) == mine).count() <= 1;
    if alone { mine.to_owned() } else { format!("{mine}#{}", at + 1) }
}

fn wall(real_ns: i128) -> String {
    let real_ns = u64::try_from(real_ns.max(0)).unwrap_or(u64::MAX);
    ClockAnchor { mono_ns: 0, real_ns }.rfc3339(0)
}

#[cfg(test)]
mod tests;
