//! Tracks of a document for timeline viewers: slices, instants and counters, with the document's fields as arguments.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{lanes::lanes, words::word};
use crate::{
    event::{DataDirection, MigState},
    report::{
        document::{
            ArcSpan, DataSession, DeviceFailure, MigrationDocument, MigrationSide, OutsideIssues,
            ReportFinding, ReportWarning, TracedDevice, VmMigration,
        },
        windows::SpanIndex,
    },
};

/// Owner of a track. A number is an index into the document's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrackOwner {
    /// Owner of tracks about no host or device in particular.
    All,
    Host(usize),
    Device(usize),
}

/// One row of the timeline. The writers for Perfetto and Chrome get it from [`each_track`].
pub(super) struct ExportTrack<'d> {
    pub(super) owner: TrackOwner,
    pub(super) name: String,
    pub(super) content: TrackContent<'d>,
}

/// Entries of a track.
pub(super) enum TrackContent<'d> {
    /// Slices in order of their beginning; no two overlap unless one is within the other.
    Slices(Vec<TrackSlice<'d>>),
    Instants(Vec<TrackInstant<'d>>),
    /// Values at times in ns.
    Counter(CounterUnit, Vec<(u64, u64)>),
}

/// Unit of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CounterUnit {
    Bytes,
    Pages,
}

impl CounterUnit {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Pages => "pages",
        }
    }
}

/// Function that returns the document's fields of an entry, without its times and its lists. It is called when the
/// entry is written, because there may be many entries.
pub(super) type TrackArgs<'d> = Box<dyn Fn() -> Value + 'd>;

/// Something with a duration.
pub(super) struct TrackSlice<'d> {
    pub(super) name: String,
    pub(super) category: &'static str,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) args: TrackArgs<'d>,
    /// Number of the arrow that begins here.
    pub(super) arrow_to: Option<u64>,
    /// Number of the arrow that ends here.
    pub(super) arrow_from: Option<u64>,
}

impl<'d> TrackSlice<'d> {
    pub(super) fn new(category: &'static str, name: impl Into<String>, start_ns: u64, end_ns: u64) -> Self {
        let end_ns = end_ns.max(start_ns);
        let (name, args): (_, TrackArgs<'d>) = (name.into(), Box::new(|| Value::Null));
        Self { name, category, start_ns, end_ns, args, arrow_to: None, arrow_from: None }
    }

    fn with(self, args: TrackArgs<'d>) -> Self {
        Self { args, ..self }
    }
}

/// Something at a single time.
pub(super) struct TrackInstant<'d> {
    pub(super) name: String,
    pub(super) category: &'static str,
    pub(super) at_ns: u64,
    pub(super) args: TrackArgs<'d>,
}

/// Fields to leave out: those that the place on the track shows, and those that would fill the screen.
const LEFT_OUT: &[&str] = &[
    "start_ns",
    "end_ns",
    "at_ns",
    "first_ns",
    "last_ns",
    "stop_ns",
    "series",
    "precopy_info",
    "parts",
    "devices",
    "warnings",
    "downtime",
    "buckets",
];

/// Returns the document's fields of an item as arguments.
fn args(of: &impl Serialize) -> TrackArgs<'_> {
    Box::new(move || trimmed(of))
}

/// Returns the same with another field.
fn args_and<'d>(of: &'d impl Serialize, name: &'static str, value: impl Into<Value>) -> TrackArgs<'d> {
    let value = value.into();
    Box::new(move || {
        let mut args = trimmed(of);
        if let Some(fields) = args.as_object_mut() {
            fields.insert(name.to_owned(), value.clone());
        }
        args
    })
}

fn trimmed(of: &impl Serialize) -> Value {
    // Everything in the document can be JSON.
    let mut value = serde_json::to_value(of).unwrap_or_default();
    trim(&mut value);
    value
}

fn trim(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
            fields.values_mut().for_each(trim);
        },
        Value::Array(items) => items.iter_mut().for_each(trim),
        _ => {},
    }
}

/// Calls `show` for each track of a document, owner by owner.
pub(super) fn each_track<'d, E>(
    document: &'d MigrationDocument,
    mut show: impl FnMut(ExportTrack<'d>) -> Result<(), E>,
) -> Result<(), E> {
    let arrows = arrows(document);
    of_all(document).into_iter().try_for_each(&mut show)?;
    let concerns = concerns(document);
    for (at, _) in document.hosts.iter().enumerate() {
        of_host(document, at).try_for_each(&mut show)?;
        let here = |(_, device): &(usize, &TracedDevice)| device.host as usize == at;
        for (nr, device) in document.devices.iter().enumerate().filter(here) {
            of_device(document, device, &concerns[nr], &arrows).into_iter().try_for_each(&mut show)?;
        }
    }
    Ok(())
}

/// Makes one track of slices, or several where they overlap.
fn rows<'d>(
    owner: TrackOwner,
    name: &str,
    slices: Vec<TrackSlice<'d>>,
) -> impl Iterator<Item = ExportTrack<'d>> + use<'d> {
    let name = name.to_owned();
    lanes(slices).into_iter().enumerate().map(move |(lane, slices)| ExportTrack {
        owner,
        name: if lane == 0 { name.clone() } else { format!("{name} ({})", lane + 1) },
        content: TrackContent::Slices(slices),
    })
}

/// Makes a track of instants in order of their times, if there are any.
fn instants<'d>(
    owner: TrackOwner,
    name: &str,
    mut instants: Vec<TrackInstant<'d>>,
) -> Option<ExportTrack<'d>> {
    instants.sort_by_key(|instant| instant.at_ns);
    let name = name.to_owned();
    (!instants.is_empty()).then_some(ExportTrack { owner, name, content: TrackContent::Instants(instants) })
}

fn counter(
    owner: TrackOwner,
    name: &str,
    unit: CounterUnit,
    points: impl Iterator<Item = (u64, u64)>,
) -> Option<ExportTrack<'static>> {
    let mut points: Vec<(u64, u64)> = points.collect();
    points.sort_by_key(|(at_ns, _)| *at_ns);
    let name = name.to_owned();
    (!points.is_empty()).then_some(ExportTrack { owner, name, content: TrackContent::Counter(unit, points) })
}

fn of_all(document: &MigrationDocument) -> Vec<ExportTrack<'_>> {
    let mut slices = Vec::new();
    let mut warnings = Vec::new();
    for migration in &document.migrations {
        let nr = migration.nr;
        let name = format!("migration {nr}: {}", migration.verdict.name());
        slices.push(
            TrackSlice::new("migration", name, migration.start_ns, migration.end_ns).with(args(migration)),
        );
        if let Some(downtime) = &migration.downtime {
            let args = args_and(downtime, "migration", nr);
            slices
                .push(TrackSlice::new("downtime", "downtime", downtime.start_ns, downtime.end_ns).with(args));
        }
        let of_none = migration.warnings.iter().filter(|warning| warning.device.is_none());
        warnings.extend(of_none.map(|warning| of_warning(warning, Some(migration))));
    }
    let of_none = document.warnings.iter().filter(|warning| warning.device.is_none());
    warnings.extend(of_none.map(|warning| of_warning(warning, None)));
    let warnings = instants(TrackOwner::All, "warnings", warnings);
    rows(TrackOwner::All, "migrations", slices).chain(warnings).collect()
}

fn of_warning<'d>(warning: &'d ReportWarning, migration: Option<&VmMigration>) -> TrackInstant<'d> {
    let args = args_and(warning, "migration", migration.map(|migration| migration.nr));
    // A warning without a time is shown at the beginning of its migration.
    let at_ns = warning.at_ns.or_else(|| migration.map(|migration| migration.start_ns)).unwrap_or(0);
    TrackInstant { name: warning.code.to_owned(), category: "warning", at_ns, args }
}

fn of_host(document: &MigrationDocument, at: usize) -> impl Iterator<Item = ExportTrack<'_>> {
    let host = &document.hosts[at];
    let traced = TrackSlice::new("host", "traced", host.began_ns, host.ended_ns).with(args(host));
    rows(TrackOwner::Host(at), "tracing", vec![traced])
}

/// Entries of the document's common lists that concern one device.
#[derive(Clone, Default)]
struct DeviceEntries<'d> {
    sessions: Vec<&'d DataSession>,
    migrations: Vec<&'d VmMigration>,
    /// Issues of no migration.
    outside: Vec<&'d OutsideIssues>,
    warnings: Vec<&'d ReportWarning>,
}

/// Returns the entries of each device, by the device's index.
fn concerns(document: &MigrationDocument) -> Vec<DeviceEntries<'_>> {
    let mut of = vec![DeviceEntries::default(); document.devices.len()];
    for session in &document.sessions {
        if let Some(of) = of.get_mut(session.device as usize) {
            of.sessions.push(session);
        }
    }
    for outside in &document.outside {
        if let Some(of) = of.get_mut(outside.device as usize) {
            of.outside.push(outside);
        }
    }
    for warning in &document.warnings {
        if let Some(of) = warning.device.and_then(|device| of.get_mut(device as usize)) {
            of.warnings.push(warning);
        }
    }
    for migration in &document.migrations {
        let sides = migration.devices.iter().flat_map(|device| [&device.source, &device.destination]);
        let warned = migration.warnings.iter().filter_map(|warning| warning.device);
        let mut devices: Vec<u32> = sides.flatten().map(|side| side.device).chain(warned).collect();
        devices.sort_unstable();
        devices.dedup();
        for nr in devices {
            if let Some(of) = of.get_mut(nr as usize) {
                of.migrations.push(migration);
            }
        }
    }
    of
}

fn of_device<'d>(
    document: &'d MigrationDocument,
    device: &'d TracedDevice,
    concerns: &DeviceEntries<'d>,
    arrows: &FlowArrows,
) -> Vec<ExportTrack<'d>> {
    let nr = device.nr as usize;
    let owner = TrackOwner::Device(nr);
    let mut tracks = Vec::new();
    let states = device.states.iter().map(|span| {
        let name = span.state.map_or_else(|| "not known".to_owned(), |state| state.to_string());
        TrackSlice::new("state", name, span.start_ns, span.end_ns).with(args(span))
    });
    tracks.extend(rows(owner, "state", states.collect()));
    let arcs = device.arcs.iter().enumerate().map(|(at, arc)| {
        let to = arc.to.map_or_else(|| "?".to_owned(), |to| to.to_string());
        let slice =
            TrackSlice::new("arc", format!("{} → {to}", arc.from), arc.start_ns, arc.end_ns).with(args(arc));
        let arrow = |ends: &BTreeMap<(usize, usize), u64>| ends.get(&(nr, at)).copied();
        TrackSlice { arrow_to: arrow(&arrows.begins), arrow_from: arrow(&arrows.ends), ..slice }
    });
    tracks.extend(rows(owner, "arcs", arcs.collect()));
    let requests = device.requests.iter().map(|request| {
        let name = format!("set_state {}", request.target);
        TrackSlice::new("request", name, request.start_ns, request.end_ns).with(args(request))
    });
    tracks.extend(rows(owner, "requests", requests.collect()));
    // Steps of one thread are nested; steps of different threads are independent.
    let mut threads: BTreeMap<u32, Vec<TrackSlice<'_>>> = BTreeMap::new();
    for step in &device.steps {
        let slice = TrackSlice::new("step", step.name.clone(), step.start_ns, step.end_ns).with(args(step));
        threads.entry(step.tid).or_default().push(slice);
    }
    for (tid, steps) in threads {
        tracks.extend(rows(owner, &format!("steps of thread {tid}"), steps));
    }
    let sessions = || concerns.sessions.iter().copied();
    tracks.extend(rows(owner, "data", sessions().flat_map(of_session).collect()));
    let logs = device.dirty_logs.iter().map(|log| {
        // A log that was not stopped lasts until the end of the trace.
        let end = document.hosts.get(device.host as usize).map_or(document.duration_ns, |host| host.ended_ns);
        let args = args_and(log, "stopped", log.stop_ns.is_some());
        TrackSlice::new("dirty_log", "dirty tracking", log.start_ns, log.stop_ns.unwrap_or(end)).with(args)
    });
    tracks.extend(rows(owner, "dirty tracking", logs.collect()));
    tracks.extend(rows(owner, "downtime", of_downtime(&concerns.migrations, nr)));
    let marks = device.marks.iter().map(|mark| TrackInstant {
        name: word(&mark.kind),
        category: "mark",
        at_ns: mark.at_ns,
        args: args(mark),
    });
    tracks.extend(instants(owner, "marks", marks.collect()));
    tracks.extend(instants(owner, "findings", of_findings(concerns, nr)));
    let bytes = |direction| {
        let of = move |session: &&DataSession| session.direction == Some(direction);
        sessions().filter(of).flat_map(|session| &session.series).map(|point| (point.at_ns, point.bytes))
    };
    let info = || sessions().flat_map(|session| &session.precopy_info);
    let initial = info().filter_map(|point| Some((point.at_ns, point.initial_bytes?)));
    let dirty = info().filter_map(|point| Some((point.at_ns, point.dirty_bytes?)));
    let sizes = device.sizes.iter().filter_map(|point| Some((point.at_ns, point.stop_copy_bytes?)));
    let reports = device.dirty_logs.iter().flat_map(|log| &log.series);
    let pages = reports.filter_map(|point| Some((point.at_ns, point.dirty_pages?)));
    tracks.extend(counter(owner, "read_bytes", CounterUnit::Bytes, bytes(DataDirection::Save)));
    tracks.extend(counter(owner, "written_bytes", CounterUnit::Bytes, bytes(DataDirection::Resume)));
    tracks.extend(counter(owner, "initial_bytes", CounterUnit::Bytes, initial));
    tracks.extend(counter(owner, "dirty_bytes", CounterUnit::Bytes, dirty));
    tracks.extend(counter(owner, "stop_copy_bytes", CounterUnit::Bytes, sizes));
    tracks.extend(counter(owner, "dirty_pages", CounterUnit::Pages, pages));
    tracks
}

fn of_session(session: &DataSession) -> impl Iterator<Item = TrackSlice<'_>> {
    let direction = session.direction.map_or("?", DataDirection::name);
    let name = format!("session {} ({direction})", session.session);
    let whole = TrackSlice::new("session", name, session.start_ns, session.end_ns).with(args(session));
    let parts = session.parts.iter().map(|part| {
        let args = args_and(part, "session", session.session);
        TrackSlice::new("part", part.part.name(), part.first_ns, part.last_ns).with(args)
    });
    std::iter::once(whole).chain(parts)
}

/// Returns the downtimes of a device's migrations by stage. They are shown on the source, or on the destination if only
/// that was seen.
fn of_downtime<'d>(migrations: &[&'d VmMigration], nr: usize) -> Vec<TrackSlice<'d>> {
    let mut slices = Vec::new();
    for migration in migrations {
        for device in &migration.devices {
            let side = device.source.as_ref().or(device.destination.as_ref());
            if let (Some(side), Some(downtime)) = (side, &device.downtime)
                && side.device as usize == nr
            {
                let args = args_and(downtime, "migration", migration.nr);
                slices.push(
                    TrackSlice::new("downtime", "downtime", downtime.start_ns, downtime.end_ns).with(args),
                );
            }
        }
    }
    slices
}

fn of_failure(failure: &DeviceFailure) -> TrackInstant<'_> {
    let name = format!("failed: {}", failure.what);
    TrackInstant { name, category: "failure", at_ns: failure.at_ns, args: args(failure) }
}

fn of_finding(finding: &ReportFinding) -> TrackInstant<'_> {
    let name = finding.code.clone();
    TrackInstant { name, category: "finding", at_ns: finding.at_ns, args: args(finding) }
}

/// Returns the failures, findings and warnings of a device, within its migrations and outside of them.
fn of_findings<'d>(concerns: &DeviceEntries<'d>, nr: usize) -> Vec<TrackInstant<'d>> {
    let mut found = Vec::new();
    let here = |warning: &&ReportWarning| warning.device.is_some_and(|device| device as usize == nr);
    for &migration in &concerns.migrations {
        let sides = migration.devices.iter().flat_map(|device| [&device.source, &device.destination]);
        for side in sides.flatten().filter(|side| side.device as usize == nr) {
            found.extend(side.failures.iter().map(of_failure));
            found.extend(side.findings.iter().map(of_finding));
        }
        found.extend(
            migration.warnings.iter().filter(here).map(|warning| of_warning(warning, Some(migration))),
        );
    }
    for outside in &concerns.outside {
        found.extend(outside.failures.iter().map(of_failure));
        found.extend(outside.findings.iter().map(of_finding));
    }
    found.extend(concerns.warnings.iter().map(|warning| of_warning(warning, None)));
    found
}

/// Numbers of arrows from one arc to another, by index of the device and of the arc.
#[derive(Default)]
struct FlowArrows {
    begins: BTreeMap<(usize, usize), u64>,
    ends: BTreeMap<(usize, usize), u64>,
}

/// Makes the arrows from a source's last arc to STOP_COPY to the destination's arc that loads the data.
fn arrows(document: &MigrationDocument) -> FlowArrows {
    let spans =
        |device: &TracedDevice| SpanIndex::new(device.arcs.iter().map(|arc| (arc.start_ns, arc.end_ns)));
    let windows: Vec<SpanIndex> = document.devices.iter().map(spans).collect();
    let last = |side: &Option<MigrationSide>, wanted: fn(&ArcSpan) -> bool| {
        let side = side.as_ref()?;
        let device = side.device as usize;
        let arcs = &document.devices.get(device)?.arcs;
        let within = |arc: &ArcSpan| side.start_ns <= arc.start_ns && arc.end_ns <= side.end_ns;
        let mut near = windows.get(device)?.overlapping_backwards(side.start_ns, side.end_ns);
        let at = near.find(|at| within(&arcs[*at]) && wanted(&arcs[*at]))?;
        Some(((device, at), arcs[at].start_ns))
    };
    let mut arrows = FlowArrows::default();
    let mut number = 0;
    for device in document.migrations.iter().flat_map(|migration| &migration.devices) {
        let from = last(&device.source, |arc| arc.to == Some(MigState::STOP_COPY));
        let to =
            last(&device.destination, |arc| (arc.from, arc.to) == (MigState::RESUMING, Some(MigState::STOP)));
        // With badly merged clocks an arrow could point backwards.
        if let (Some((from, saved_ns)), Some((to, loaded_ns))) = (from, to)
            && saved_ns <= loaded_ns
        {
            number += 1;
            arrows.begins.insert(from, number);
            arrows.ends.insert(to, number);
        }
    }
    arrows
}
