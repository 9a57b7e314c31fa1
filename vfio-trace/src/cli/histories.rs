//! Recordings read to their end into histories: what `report`, `export` and `merge` work on.

use std::path::{Path, PathBuf};

use vfio_trace_common::role::Role;

use super::{
    error::{CliError, USAGE},
    output::note,
    progress::Progress,
};
use crate::{
    driver::Interpreter,
    event::{Assembler, ProbeReport, Record},
    model::{
        History,
        document::{Host, Losses},
    },
    source::recording::{Next, Recording, RecordingError},
};

/// Recordings, each whole.
pub(super) struct Histories {
    /// In the order in which they were given.
    pub(super) all: Vec<History>,
    /// Whether something is missing of one of them.
    pub(super) damaged: bool,
}

/// Reads files: parts of one recording become one history.
pub(super) fn read(files: &[PathBuf]) -> Result<Histories, CliError> {
    let mut histories = Histories { all: Vec::new(), damaged: false };
    for parts in recordings(files)? {
        let mut recording = Recording::open(&parts)?;
        let (history, damaged) = history(&mut recording, &parts)?;
        histories.all.push(history);
        histories.damaged |= damaged;
    }
    Ok(histories)
}

/// Files by recording, in the order in which each recording is met first.
fn recordings(files: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, CliError> {
    if let [one] = files {
        return Ok(vec![vec![one.clone()]]);
    }
    if files.iter().any(|file| file.as_os_str() == "-") {
        return Err(CliError::with_code(
            USAGE,
            "cannot read standard input among other files",
            "files are looked into to see which belong together",
            "pass all as files",
        ));
    }
    let mut recordings: Vec<(String, Vec<PathBuf>)> = Vec::new();
    for file in files {
        let id = Recording::open(std::slice::from_ref(file))?.header().recording.clone();
        match recordings.iter_mut().find(|(known, _)| *known == id) {
            Some((_, parts)) => parts.push(file.clone()),
            None => recordings.push((id, vec![file.clone()])),
        }
    }
    Ok(recordings.into_iter().map(|(_, parts)| parts).collect())
}

fn history(recording: &mut Recording, parts: &[PathBuf]) -> Result<(History, bool), RecordingError> {
    let header = recording.header();
    let names: Vec<String> = parts.iter().map(|path: &PathBuf| name(path)).collect();
    let start = &header.start;
    let host = Host {
        name: start.host.clone(),
        kernel: start.kernel.clone(),
        machine: start.machine.clone(),
        boot_id: header.boot_id.clone(),
        source: names.join(" "),
        traced_by: start.version.clone(),
        command: start.command.clone(),
        began_ns: header.part_began_ns,
        ended_ns: header.part_began_ns,
        ..Host::default()
    };
    let mut history = History::new(host, start.clock, header.clock.utc_error_ns);
    let (mut assembler, mut interpreter) = (Assembler::new(), Interpreter::new(false));
    let mut progress = Progress::new("reading");
    let mut losses = Losses::default();
    let mut take = |history: &mut History, events| {
        for event in interpreter.apply(events) {
            history.apply(&event);
        }
    };
    while let Some(next) = recording.next()? {
        match next {
            Next::Record(bytes) => match Record::decode(&bytes) {
                Ok(record) => take(&mut history, assembler.push(&record)),
                Err(_) => losses.undecoded += 1,
            },
            Next::Tick(ns) => take(&mut history, assembler.expire(ns)),
            Next::Damage { name, damage } => {
                progress.clear();
                note(&format!("{name}: {damage}"));
                losses.damage.push(damage.to_string());
            },
            Next::Other { name } => {
                progress.clear();
                note(&format!(
                    "{name}: another recording follows, which is left out: give it as a file of its own"
                ));
                losses.damage.push("another recording follows in the same file".to_owned());
            },
        }
        if recording.is_waiting() {
            progress.show(recording.progress());
        }
    }
    progress.clear();
    take(&mut history, assembler.finish());
    let ended = recording.ended();
    losses.complete = ended.is_some();
    let counted = match &ended {
        Some(ended) => Some(ended.probes.clone()),
        None => recording.last_probes(),
    };
    count(&mut losses, counted.as_deref());
    let damaged = !losses.damage.is_empty();
    let host = history.host_mut();
    host.ended_ns = ended.map_or(host.ended_ns, |ended| ended.mono_ns);
    host.losses = losses;
    Ok((history, damaged))
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// What the probes have lost, and of what.
fn count(losses: &mut Losses, probes: Option<&[ProbeReport]>) {
    let Some(probes) = probes else { return };
    losses.lost = Some(probes.iter().map(|probe| probe.lost).sum());
    losses.unmatched = Some(probes.iter().map(|probe| probe.unmatched).sum());
    losses.missed =
        probes.iter().filter(|probe| probe.attached).try_fold(0u64, |sum, probe| Some(sum + probe.missed?));
    for probe in probes {
        let mut lacking = Vec::new();
        for (count, what) in
            [(probe.lost, "lost"), (probe.missed.unwrap_or(0), "missed"), (probe.unmatched, "unmatched")]
        {
            if count > 0 {
                lacking.push(format!("{count} {what}"));
            }
        }
        if lacking.is_empty() {
            continue;
        }
        let text = format!("{}: {}", probe.name, lacking.join(", "));
        match probe.role {
            Role::Read | Role::Write => losses.data.push(text),
            Role::NextState | Role::SetState | Role::DeviceIoctl | Role::PciReset | Role::Close => {
                losses.control.push(text);
            },
            _ => {},
        }
    }
}
