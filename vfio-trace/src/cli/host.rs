//! `--host`: one host of a merged recording, as if its recording had been given alone.

use std::{fs, path::PathBuf, slice};

use super::{
    error::{CliError, USAGE},
    recording,
};
use crate::{report::host_label, source::recording::RecordingSource};

/// Options that choose a host; to be flattened into the arguments of a verb that reads recordings.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct HostArgs {
    /// Of a merged recording, only this host, as if its own recording had been given: its name, or its number from 1.
    #[arg(long, value_name = "NAME|N")]
    pub(super) host: Option<String>,
}

impl HostArgs {
    /// Opens the recording of `--host`; without it the first.
    pub(super) fn open(&self, files: &[PathBuf]) -> Result<RecordingSource, CliError> {
        let first = recording::open(files)?;
        let Some(wanted) = &self.host else { return Ok(first) };
        let [file] = files else {
            // Parts of one recording, which has one host.
            find(wanted, &[name(&first)])?;
            return Ok(first);
        };
        if file.as_os_str() == "-" || fs::metadata(file).is_ok_and(|there| !there.is_file()) {
            return in_stream(wanted, first);
        }
        let mut names = Vec::new();
        let mut next = Some(first);
        while let Some(recording) = next {
            names.push(name(&recording));
            next = after(recording)?;
        }
        Ok(nth(file, find(wanted, &names)?)?.without_others())
    }
}

/// Opens the recording with this number, from 0, in a file of several.
pub(super) fn nth(file: &PathBuf, number: usize) -> Result<RecordingSource, CliError> {
    let mut recording = RecordingSource::open(slice::from_ref(file))?;
    for _ in 0..number {
        recording = after(recording)?.ok_or_else(|| recording::changed(file))?;
    }
    Ok(recording)
}

/// Returns the index of the host that is meant: by its name as `replay` and `report` give it, or by its number.
pub(super) fn find(wanted: &str, names: &[Option<String>]) -> Result<usize, CliError> {
    let plain: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();
    let labels: Vec<String> = (0..names.len()).map(|at| host_label(&plain, at)).collect();
    let called = labels.iter().position(|label| label == wanted);
    let number = || wanted.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < names.len());
    if let Some(at) = called.or_else(number) {
        return Ok(at);
    }
    Err(unknown(wanted, &plain, &labels))
}

fn unknown(wanted: &str, names: &[Option<&str>], labels: &[String]) -> CliError {
    let same = names.iter().filter(|name| **name == Some(wanted)).count();
    let (what, why) = if same > 1 {
        (format!("which host {wanted}?"), format!("{same} have this name"))
    } else {
        (format!("the recording has no host {wanted}"), "none that it has is called so".to_owned())
    };
    let all: Vec<String> = (1..).zip(labels).map(|(nr, label)| format!("{nr} ({label})")).collect();
    CliError::with_code(USAGE, what, why, format!("give the number or the name of one: {}", all.join(", ")))
}

/// Returns the first recording of a stream with this name or number: a stream can be read only once.
fn in_stream(wanted: &str, first: RecordingSource) -> Result<RecordingSource, CliError> {
    let mut names = Vec::new();
    let mut next = Some(first);
    while let Some(recording) = next {
        names.push(name(&recording));
        // The recordings that follow are not known yet: the first of this name is taken.
        if names.len() == find(wanted, &names).map_or(0, |at| at + 1) {
            return Ok(recording.without_others());
        }
        next = after(recording)?;
    }
    let plain: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();
    let labels: Vec<String> = (0..names.len()).map(|at| host_label(&plain, at)).collect();
    Err(unknown(wanted, &plain, &labels))
}

fn name(recording: &RecordingSource) -> Option<String> {
    recording.header().start.host.clone()
}

/// Reads a recording to its end; returns the one that follows in its stream, if any.
fn after(mut recording: RecordingSource) -> Result<Option<RecordingSource>, CliError> {
    while recording.next()?.is_some() {}
    Ok(recording.other())
}
