//! `vfio-trace replay`: a recording's events as `tail` would have shown them, on any machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    error::{CliError, INPUT},
    events::{EventArgs, Stream},
    output::note,
    progress::Progress,
};
use crate::{
    event::{Record, Start},
    source::recording::{Next, Recording, RecordingError},
    store::OpenError,
};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The recording; all or some parts of it in any order if it has several; - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    events: EventArgs,
}

/// `vfio-trace replay`.
pub(super) fn main(args: &Args) -> Result<u8, CliError> {
    if args.files.len() > 1 && args.files.iter().any(|file| file.as_os_str() == "-") {
        return Err(CliError::with_code(
            super::error::USAGE,
            "cannot read standard input among other files",
            "parts are put in order by looking into each before",
            "pass all parts as files, or all through the pipe: cat trace.*.vft | vfio-trace replay -",
        ));
    }
    let mut recording = Recording::open(&args.files)?;
    let mut stream = Stream::to_stdout(&args.events, recording.header().start.clock);
    replay(&mut recording, &mut stream, &args.events, env!("CARGO_PKG_VERSION"))
}

fn replay<W: io::Write>(
    recording: &mut Recording,
    stream: &mut Stream<W>,
    args: &EventArgs,
    version: &str,
) -> Result<u8, CliError> {
    let (start, began) = recording.start();
    let start = Start { replayed_by: Some(version.to_owned()), ..start };
    stream.start(&start, began)?;
    let mut progress = Progress::new("replaying");
    let mut damaged = false;
    let mut failed = None;
    let mut last_ns = began;
    loop {
        // What the probes have counted is at the end: a file is read to there, a stream may go on for days.
        let full = stream.is_full();
        if full && (stream.is_gone() || recording.progress().1.is_none()) {
            break;
        }
        match recording.next() {
            Ok(Some(Next::Record(_) | Next::Tick(_))) if full => {},
            Ok(Some(Next::Record(bytes))) => {
                let record = Record::decode(&bytes);
                last_ns = record.as_ref().map_or(last_ns, |record| record.header.end_ns.max(last_ns));
                stream.push(record.as_ref().map_err(|error| *error))?;
            },
            Ok(Some(Next::Tick(ns))) => stream.expire(ns)?,
            Ok(Some(Next::Damage { name, damage })) => {
                progress.clear();
                note(&format!("{name}: {damage}"));
                damaged = true;
            },
            Ok(Some(Next::Other { name })) => {
                progress.clear();
                note(&format!(
                    "{name}: another recording follows, which is left out: replay them one by one"
                ));
                damaged = true;
            },
            Ok(None) => break,
            Err(error) => {
                failed = Some(error);
                break;
            },
        }
        // Events come out of a pipe as blocks come in: what waits for input must not hold back output.
        if recording.is_waiting() {
            stream.flush();
            progress.show(recording.progress());
        }
    }
    progress.clear();
    stream.finish()?;
    let ended = recording.ended();
    let stopped = (stream.is_full() && !damaged).then_some(last_ns);
    let ended_ns = ended.as_ref().map(|ended| ended.mono_ns).or(stopped);
    let probes = ended.as_ref().map_or_else(|| recording.last_probes(), |ended| Some(ended.probes.clone()));
    stream.account(args, probes.as_deref(), began, ended_ns)?;
    if let Some(part) = ended.and_then(|ended| ended.continued) {
        note(&format!("the recording goes on in part {part}, which was not given"));
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(if damaged { INPUT } else { 0 }),
    }
}

impl From<RecordingError> for CliError {
    fn from(error: RecordingError) -> Self {
        let todo = match &error {
            RecordingError::File { name, source } if source.kind() == io::ErrorKind::NotFound => {
                parts_of(name)
                    .unwrap_or_else(|| "check the name; `vfio-trace record -o FILE` makes one".to_owned())
            },
            RecordingError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "recordings are readable for who made them only: copy it, or change its owner or mode"
                    .to_owned()
            },
            RecordingError::Open { source: OpenError::Newer(_) | OpenError::Header(_), .. } => {
                "use the vfio-trace that made it, or a newer one".to_owned()
            },
            RecordingError::Open { source: OpenError::ByteOrder(_), .. } => {
                "replay it on a machine like the one that it was made on".to_owned()
            },
            RecordingError::Open { source: OpenError::Foreign | OpenError::Empty, .. } => {
                "give a file that `vfio-trace record` made".to_owned()
            },
            RecordingError::Different { .. } | RecordingError::Twice { .. } => {
                "give the parts of one recording, each once".to_owned()
            },
            RecordingError::Open { .. } | RecordingError::Read { .. } | RecordingError::File { .. } => {
                "copy the file again from where it was made".to_owned()
            },
        };
        Self::with_code(INPUT, "cannot replay", error, todo)
    }
}

/// What to give instead of a name without a number.
fn parts_of(name: &str) -> Option<String> {
    let path = Path::new(name);
    let first = crate::store::Output::part_name(path, 1);
    let parts = format!("{}.*", path.with_extension("").display());
    first.exists().then(|| format!("it has parts: vfio-trace replay {parts}"))
}

#[cfg(test)]
mod tests;
