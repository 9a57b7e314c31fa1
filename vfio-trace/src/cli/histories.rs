//! Recordings read to their end into histories: what `report`, `export` and `merge` work on. A file may hold several.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use vfio_trace_common::role::Role;

use super::{
    error::{CliError, USAGE},
    events::too_many,
    host::{self, HostArgs},
    output::note,
    recording::{self, Progress, Taker, Wants},
};
use crate::{
    driver::Interpreter,
    event::{Assembler, Event, ProbeReport, Record},
    model::{
        History,
        document::{Host, Losses},
    },
    source::recording::Recording,
    store::ClockSample,
};

/// Recordings, each whole.
pub(super) struct Histories {
    /// In the order in which they were given.
    pub(super) all: Vec<History>,
    /// Whether something is missing of one of them.
    pub(super) damaged: bool,
    /// Devices that belong together, as was said when they were merged.
    pub(super) pairs: Vec<(String, String)>,
}

/// Reads files: parts of one recording become one history.
pub(super) fn read(files: &[PathBuf]) -> Result<Histories, CliError> {
    let mut histories = Histories { all: Vec::new(), damaged: false, pairs: Vec::new() };
    for parts in recordings(files)? {
        let mut next = Some(Recording::open(&parts)?);
        while let Some(mut recording) = next {
            // Said once for all recordings of a file.
            for pair in recording.merge().map_or(&[][..], |merge| &merge.pairs) {
                if !histories.pairs.contains(pair) {
                    histories.pairs.push(pair.clone());
                }
            }
            let (history, damaged) = history(&mut recording, &parts)?;
            histories.all.push(history);
            histories.damaged |= damaged;
            next = recording.other();
        }
    }
    Ok(histories)
}

/// The same, of one host only if that is asked for.
pub(super) fn read_of(files: &[PathBuf], host: &HostArgs) -> Result<Histories, CliError> {
    let mut histories = read(files)?;
    if let Some(wanted) = &host.host {
        let names: Vec<Option<String>> =
            histories.all.iter_mut().map(|history| history.host_mut().name.clone()).collect();
        let at = host::find(wanted, &names)?;
        histories.all = vec![histories.all.swap_remove(at)];
    }
    Ok(histories)
}

/// Files by recording, in the order in which each recording is met first.
pub(super) fn recordings(files: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, CliError> {
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

/// Turns records into a history.
struct Reader {
    history: History,
    assembler: Assembler,
    interpreter: Interpreter,
    undecoded: u64,
}

impl Reader {
    fn take(&mut self, events: Vec<Event>) {
        for event in self.interpreter.apply(events) {
            self.history.apply(&event);
        }
    }
}

impl Taker for Reader {
    fn wants(&self) -> Wants {
        Wants::All
    }

    fn record(&mut self, bytes: &Bytes) -> Result<(), CliError> {
        match Record::decode(bytes) {
            Ok(record) => {
                let events = self.assembler.push(&record);
                self.take(events);
            },
            Err(_) => self.undecoded += 1,
        }
        Ok(())
    }

    fn tick(&mut self, ns: u64) -> Result<(), CliError> {
        let events = self.assembler.expire(ns);
        self.take(events);
        Ok(())
    }

    fn clock(&mut self, sample: ClockSample) {
        self.history.sample(sample.anchor(), sample.boot_ns, sample.error_ns, sample.utc_error_ns);
    }

    fn reads_others(&self) -> bool {
        true
    }
}

/// One recording's history, and whether something is missing of it.
fn history(recording: &mut Recording, parts: &[PathBuf]) -> Result<(History, bool), CliError> {
    let header = recording.header();
    let names: Vec<String> = parts.iter().map(|path| name(path)).collect();
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
    let mut reader = Reader {
        history: History::new(host, start.clock, header.clock.utc_error_ns),
        assembler: Assembler::new(),
        interpreter: Interpreter::new(false),
        undecoded: 0,
    };
    let mut through = recording::read(recording, &mut reader, Progress::new("reading"))?;
    if let Some(failed) = through.failed.take() {
        return Err(failed.into());
    }
    let rest = reader.assembler.finish();
    reader.take(rest);
    let damaged = through.damaged();
    let ended = recording.ended();
    let forgotten = reader.assembler.forgotten().saturating_add(reader.interpreter.forgotten());
    if let Some(text) = too_many(forgotten) {
        note(&text);
        through.damage.push(text);
    }
    let mut losses = Losses {
        complete: ended.is_some(),
        undecoded: reader.undecoded,
        damage: through.damage,
        ..Losses::default()
    };
    let counted = match &ended {
        Some(ended) => Some(ended.probes.clone()),
        None => recording.last_probes(),
    };
    count(&mut losses, counted.as_deref());
    let mut history = reader.history;
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
    let total = |count: fn(&ProbeReport) -> u64| probes.iter().map(count).fold(0, u64::saturating_add);
    losses.lost = Some(total(|probe| probe.lost));
    losses.unmatched = Some(total(|probe| probe.unmatched));
    losses.missed = probes
        .iter()
        .filter(|probe| probe.attached)
        .try_fold(0u64, |sum, probe| Some(sum.saturating_add(probe.missed?)));
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
