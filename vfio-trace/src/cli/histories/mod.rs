//! Recordings, read to their end into histories for `report`, `export`, `merge`, `replay`. A file may hold several.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use vfio_trace_common::role::Role;

use super::{
    error::{CliError, USAGE},
    host::{self, HostArgs},
    output::note,
    recording::{self, Demand, ProgressLine, RecordSink},
};
use crate::{
    event::{LossTotals, ProbeGap, ProbeReport, WireRecord},
    pipeline::Pipeline,
    recording::{ClockSample, RecordingDamage},
    report::{
        HostHistory,
        document::{HostLosses, TracedHost},
    },
    source::recording::{RecordingError, RecordingSource, refuse_pipes},
};

/// Largest number of parts that are all named.
const NAMED: usize = 4;

/// Histories of recordings, each read to its end. [`read`] makes them; `report`, `export`, `merge`, and
/// `replay` of a merged one, work on them.
pub(super) struct RecordingHistories {
    /// Histories in the order in which their recordings were given.
    pub(super) all: Vec<HostHistory>,
    /// True if something is missing of one of them.
    pub(super) damaged: bool,
    /// Pairs of devices that belong together, as was said when the recordings were merged.
    pub(super) pairs: Vec<(String, String)>,
    /// Names of all devices that were met, also of hosts that were not asked for; each with the number of recordings
    /// that have it.
    pub(super) names: BTreeMap<String, usize>,
    /// True if there may have been other devices, or devices without a known name.
    pub(super) names_incomplete: bool,
}

/// Reads files; parts of one recording become one history.
pub(super) fn read(files: &[PathBuf]) -> Result<RecordingHistories, CliError> {
    let HistoryFiles { recordings, unread } = recordings(files)?;
    let mut histories = RecordingHistories {
        all: Vec::new(),
        damaged: !unread.is_empty(),
        pairs: Vec::new(),
        names: BTreeMap::new(),
        names_incomplete: !unread.is_empty(),
    };
    for text in &unread {
        note(text);
    }
    // Each recording, and the files that it is in: those that a merged file has behind the first are met on the way.
    let mut met: BTreeMap<String, String> = BTreeMap::new();
    for parts in recordings {
        let mut next = Some(RecordingSource::open(&parts)?);
        while let Some(mut recording) = next {
            let second = source(&parts);
            if let Some(first) = met.insert(recording.header().recording.clone(), second.clone()) {
                return Err(RecordingError::Again { first, second }.into());
            }
            // All recordings of a file have the same pairs: keep each once.
            for pair in recording.merge().map_or(&[][..], |merge| &merge.pairs) {
                if !histories.pairs.contains(pair) {
                    histories.pairs.push(pair.clone());
                }
            }
            let (mut history, damaged) = history(&mut recording, &parts)?;
            // The recording of an unread file is not known: it may be any of these.
            history.host_mut().losses.damage.extend(unread.iter().cloned());
            let named: BTreeSet<&String> =
                history.devices.iter().filter_map(|device| device.doc.name.as_ref()).collect();
            for name in named {
                *histories.names.entry(name.clone()).or_default() += 1;
            }
            histories.names_incomplete |= lacks(&history) || !recording::not_given(&recording).is_empty();
            histories.all.push(history);
            histories.damaged |= damaged;
            next = recording.other();
        }
    }
    Ok(histories)
}

/// Returns true if there may have been devices of which a history has nothing, or no name.
fn lacks(history: &HostHistory) -> bool {
    let HostHistory { host: TracedHost { losses, .. }, left_out, gaps, gaps_left_out, devices, .. } = history;
    // Steps run within calls that other probes see: a gap in them hides no device.
    let hides = |gap: &ProbeGap| gap.functions.iter().any(|function| function.role != Role::Step);
    let whole = losses.complete
        && !losses.lacks_transitions()
        && !losses.lacks_data()
        && losses.other.is_empty()
        && left_out.forgotten == 0
        && left_out.device_events == 0
        && left_out.from_ns.is_none()
        && *gaps_left_out == 0
        && !gaps.iter().any(hides)
        && devices.iter().all(|device| device.doc.name.is_some());
    !whole
}

/// Reads files as [`read`] does; keeps only the host of `--host`, if that is given.
pub(super) fn read_of(files: &[PathBuf], host: &HostArgs) -> Result<RecordingHistories, CliError> {
    let mut histories = read(files)?;
    if let Some(wanted) = &host.host {
        let names: Vec<Option<String>> =
            histories.all.iter_mut().map(|history| history.host_mut().name.clone()).collect();
        let at = host::find(wanted, &names)?;
        histories.all = vec![histories.all.swap_remove(at)];
    }
    Ok(histories)
}

/// Files, by recording.
pub(super) struct HistoryFiles {
    /// Recordings in the order in which they are met first; the parts of each in their own order.
    pub(super) recordings: Vec<Vec<PathBuf>>,
    /// Files that cannot be read, a sentence each.
    unread: Vec<String>,
}

/// Reads the header of each file, and groups the files by recording.
pub(super) fn recordings(files: &[PathBuf]) -> Result<HistoryFiles, CliError> {
    if let [one] = files {
        return Ok(HistoryFiles { recordings: vec![vec![one.clone()]], unread: Vec::new() });
    }
    if files.iter().any(|file| file.as_os_str() == "-") {
        return Err(CliError::with_code(
            USAGE,
            "cannot read standard input among other files",
            "files are looked into to see which belong together",
            "pass all as files",
        ));
    }
    refuse_pipes(files)?;
    let mut recordings: Vec<(String, Vec<(u32, PathBuf)>)> = Vec::new();
    let (mut unread, mut first) = (Vec::new(), None);
    for file in files {
        let (id, part) = match RecordingSource::open(std::slice::from_ref(file)) {
            Ok(recording) => (recording.header().recording.clone(), recording.header().part),
            // The newest part may be empty yet: the others are read without it.
            Err(RecordingError::Open { name, source }) => {
                let damage = RecordingDamage::Unread { why: source.to_string() };
                unread.push(format!("{name}: {damage}"));
                first.get_or_insert(RecordingError::Open { name, source });
                continue;
            },
            Err(error) => return Err(error.into()),
        };
        match recordings.iter_mut().find(|(known, _)| *known == id) {
            Some((_, parts)) => parts.push((part, file.clone())),
            None => recordings.push((id, vec![(part, file.clone())])),
        }
    }
    if let Some(first) = first.filter(|_| recordings.is_empty()) {
        return Err(first.into());
    }
    let in_order = |(_, mut parts): (String, Vec<(u32, PathBuf)>)| {
        parts.sort_by_key(|(part, _)| *part);
        parts.into_iter().map(|(_, file)| file).collect()
    };
    Ok(HistoryFiles { recordings: recordings.into_iter().map(in_order).collect(), unread })
}

/// Sink that makes a history of a recording's records.
struct HistoryReader {
    pipeline: Pipeline,
    history: HostHistory,
}

impl RecordSink for HistoryReader {
    fn demand(&self) -> Demand {
        Demand::All
    }

    fn record(&mut self, bytes: &Bytes) -> Result<(), CliError> {
        let record = WireRecord::decode(bytes);
        let Ok(()) = self.pipeline.push(record.as_ref().map_err(|error| *error), &mut self.history);
        Ok(())
    }

    fn tick(&mut self, ns: u64) -> Result<(), CliError> {
        let Ok(()) = self.pipeline.tick(ns, &mut self.history);
        Ok(())
    }

    fn clock(&mut self, sample: ClockSample) {
        self.history.sample(sample.anchor(), sample.boot_ns, sample.error_ns, sample.utc_error_ns);
    }

    fn reads_others(&self) -> bool {
        true
    }
}

/// Returns one recording's history, and true if something is missing of it.
fn history(recording: &mut RecordingSource, parts: &[PathBuf]) -> Result<(HostHistory, bool), CliError> {
    let header = recording.header();
    let source = source(parts);
    let start = &header.start;
    let host = TracedHost {
        name: start.host.clone(),
        kernel: start.kernel.clone(),
        machine: start.machine.clone(),
        boot_id: header.boot_id.clone(),
        source: source.clone(),
        traced_by: start.version.clone(),
        command: start.command.clone(),
        began_ns: header.part_began_ns,
        ended_ns: header.part_began_ns,
        ..TracedHost::default()
    };
    let mut reader = HistoryReader {
        pipeline: Pipeline::new(false),
        history: HostHistory::new(host, start.clock, header.clock.utc_error_ns),
    };
    let mut through = recording::read(recording, &mut reader, ProgressLine::new("reading"))?;
    if let Some(failed) = through.failed.take() {
        return Err(failed.into());
    }
    let HistoryReader { mut pipeline, mut history } = reader;
    let Ok(()) = pipeline.finish(&mut history);
    let damaged = through.is_damaged();
    let ended = recording.ended();
    for text in recording::not_given(recording) {
        note(&format!("{source}: {text}"));
    }
    let mut losses = HostLosses {
        complete: ended.as_ref().is_some_and(|ended| ended.continued.is_none()),
        undecoded: pipeline.undecoded(),
        damage: through.damage,
        ..HostLosses::default()
    };
    let counted = match &ended {
        Some(ended) => Some(ended.probes.clone()),
        None => recording.last_probes(),
    };
    count(&mut losses, counted.as_deref());
    let host = history.host_mut();
    host.ended_ns = ended.map_or(host.ended_ns, |ended| ended.mono_ns);
    host.losses = losses;
    history.left_out.forgotten = pipeline.forgotten();
    Ok((history, damaged))
}

/// Returns the names of a recording's files; of more than [`NAMED`] only the first and the last.
fn source(parts: &[PathBuf]) -> String {
    match parts {
        [first, .., last] if parts.len() > NAMED => {
            format!("{} … {} ({} parts)", name(first), name(last), parts.len())
        },
        _ => parts.iter().map(|path| name(path)).collect::<Vec<_>>().join(" "),
    }
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Adds the probes' losses: totals, and by what they were lost of.
fn count(losses: &mut HostLosses, probes: Option<&[ProbeReport]>) {
    let Some(probes) = probes else { return };
    let LossTotals { lost, missed, unmatched, no_room } = LossTotals::of(probes);
    losses.lost = Some(lost);
    losses.missed = missed;
    losses.unmatched = Some(unmatched);
    losses.no_room = Some(no_room);
    for probe in probes {
        let counts =
            [(probe.lost, "lost"), (probe.missed.unwrap_or(0), "missed"), (probe.unmatched, "unmatched")];
        let told = |counts: &[(u64, &str)]| {
            let lacking = counts.iter().filter(|(count, _)| *count > 0);
            let lacking: Vec<String> = lacking.map(|(count, what)| format!("{count} {what}")).collect();
            (!lacking.is_empty()).then(|| format!("{}: {}", probe.name, lacking.join(", ")))
        };
        let place = match probe.role {
            Role::Read | Role::Write => &mut losses.data,
            Role::NextState
            | Role::SetState
            | Role::DeviceIoctl
            | Role::PciReset
            | Role::Open
            | Role::Close
            | Role::Unregister => &mut losses.control,
            _ => &mut losses.other,
        };
        place.extend(told(&counts));
        // A device that was not remembered: its reads, writes and resets are of no device, whatever function met it
        // first.
        let forgotten = told(&[(probe.no_room, "not remembered")]);
        losses.control.extend(forgotten.clone());
        losses.data.extend(forgotten);
    }
}

#[cfg(test)]
mod tests;
