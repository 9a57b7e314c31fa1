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
    event::{Assembler, Event, LossTotals, ProbeReport, Record},
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
        // Its reads, writes and resets, whatever function met it first, are those of no device.
        let forgotten = told(&[(probe.no_room, "not remembered")]);
        losses.control.extend(forgotten.clone());
        losses.data.extend(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(name: &str, role: Role) -> ProbeReport {
        ProbeReport {
            name: name.to_owned(),
            role,
            module: None,
            attached: true,
            reason: None,
            hits: 9,
            records: 9,
            lost: 0,
            missed: Some(0),
            unmatched: 0,
            no_room: 0,
        }
    }

    fn counted(probes: &[ProbeReport]) -> Losses {
        let mut losses = Losses::default();
        count(&mut losses, Some(probes));
        losses
    }

    #[test]
    fn what_a_driver_that_is_unloaded_has_missed_is_not_forgotten() {
        let read = ProbeReport { missed: Some(3), ..probe("mtty_save_read", Role::Read) };
        let gone = ProbeReport { attached: false, ..read.clone() };
        assert_eq!(counted(&[read]).missed, Some(3));
        let losses = counted(&[gone, probe("f", Role::Write)]);
        assert_eq!(
            (losses.missed, &losses.data[..]),
            (Some(3), &["mtty_save_read: 3 missed".to_owned()][..])
        );
        let cannot_tell = ProbeReport { attached: false, missed: None, ..probe("g", Role::Read) };
        assert_eq!(counted(&[cannot_tell, probe("f", Role::Write)]).missed, None);
    }

    #[test]
    fn what_found_no_room_touches_states_and_bytes() {
        let losses = counted(&[ProbeReport { no_room: 2, ..probe("quay_shift", Role::SetState) }]);
        assert_eq!(losses.no_room, Some(2));
        assert!(losses.control_suffers() && losses.data_suffers(), "{losses:?}");
        assert_eq!(losses.data, ["quay_shift: 2 not remembered"]);
        assert_eq!(counted(&[probe("f", Role::SetState)]).no_room, Some(0));
    }

    #[test]
    fn a_loss_of_any_function_is_told() {
        for role in Role::ALL {
            let losses = counted(&[ProbeReport { lost: 1, ..probe("f", role) }]);
            let told = [&losses.control, &losses.data, &losses.other];
            assert_eq!(told.iter().map(|texts| texts.len()).sum::<usize>(), 1, "{role:?}: {losses:?}");
        }
        assert!(counted(&[ProbeReport { lost: 1, ..probe("f", Role::Open) }]).control_suffers());
    }
}
