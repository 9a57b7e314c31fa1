//! Where a verb's output goes: a file that appears whole or not at all, or standard output, whose loss is told.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    thread,
};

use rustix::io::Errno;

use super::error::{CliError, USAGE};
use crate::{
    recording::{
        self, NewFile, OpenAttempt, OutputError, OutputTarget, StopFlag, StoppableFile, TRY_AGAIN,
        refuse_input, room_advice,
    },
    units::advice::ErrorAdvice as _,
};

/// Output of a verb: a file, a FIFO, a device or standard output. It is opened with the first byte; a file is in its
/// place after [`Self::finish`].
pub(super) struct OutFile {
    name: String,
    state: OutFileState,
    /// First error: not all code that writes here looks at the result.
    failed: Option<CliError>,
    /// True if the reader is gone.
    gone: bool,
    /// Flag that is set when waiting for a reader is to end.
    stop: Option<StopFlag>,
    /// True if the verb has a --force that replaces files.
    forcible: bool,
}

enum OutFileState {
    Stdout(BufWriter<StoppableFile<File>>),
    Planned(OutputTarget),
    Open(BufWriter<StoppableFile<NewFile>>),
    /// Closed: no more bytes are written.
    Over,
}

impl OutFile {
    /// Makes an output of a path; `-` is standard output. It is checked that `path` may be written to, and nothing is
    /// changed: a file that is there will be replaced with `force` only, one that is read (`inputs`) never; a FIFO or a
    /// device is written to as it is.
    pub(super) fn create(path: &Path, force: bool, inputs: &[PathBuf]) -> Result<Self, CliError> {
        if path.as_os_str() == "-" {
            return Self::stdout_beside(inputs);
        }
        let target = OutputTarget::inspect(path, force, inputs)?;
        Ok(Self::new(path.display().to_string(), OutFileState::Planned(target)))
    }

    /// Makes an output of a path for a verb that replaces nothing: a file must be new, or empty and ours.
    pub(super) fn create_new(path: &Path) -> Result<Self, CliError> {
        let target = OutputTarget::inspect(path, false, &[]).map_err(|why| told(&why, false))?;
        let name = path.display().to_string();
        Ok(Self { forcible: false, ..Self::new(name, OutFileState::Planned(target)) })
    }

    /// Makes an output of standard output, which may not be one of `inputs` (`>> a.vft`).
    pub(super) fn stdout_beside(inputs: &[PathBuf]) -> Result<Self, CliError> {
        refuse_input(io::stdout(), "standard output", inputs)?;
        let mut out = Self::stdout();
        // It is closed, for instance: nothing is done in vain.
        match out.failed.take() {
            Some(error) => Err(error),
            None => Ok(out),
        }
    }

    /// Makes an output of standard output.
    pub(super) fn stdout() -> Self {
        let name = "standard output".to_owned();
        match recording::stdout() {
            Ok(out) => Self::new(
                name,
                OutFileState::Stdout(BufWriter::with_capacity(1 << 16, StoppableFile::new(out, None))),
            ),
            Err(why) => Self { failed: Some(lost(&name, &why)), ..Self::new(name, OutFileState::Over) },
        }
    }

    fn new(name: String, state: OutFileState) -> Self {
        Self { name, state, failed: None, gone: false, stop: None, forcible: true }
    }

    /// Lets a signal end the wait for the reader of a pipe or a device, where signals do not end the process.
    #[must_use]
    pub(super) fn stopped_by(mut self, stop: StopFlag) -> Self {
        if let OutFileState::Stdout(out) = &mut self.state {
            out.get_mut().stopped_by(stop.clone());
        }
        Self { stop: Some(stop), ..self }
    }

    /// Returns true for a FIFO, a device and standard output: what was written to those is not taken back.
    pub(super) fn is_special(&mut self) -> bool {
        match &mut self.state {
            OutFileState::Planned(target) => target.is_special(),
            OutFileState::Open(out) => out.get_mut().file().is_special(),
            OutFileState::Stdout(_) | OutFileState::Over => true,
        }
    }

    /// Refuses standard output if it is a terminal. `what`: name of the bytes.
    pub(super) fn refuse_terminal(&self, what: &str) -> Result<(), CliError> {
        if !matches!(self.state, OutFileState::Stdout(_)) || !io::stdout().is_terminal() {
            return Ok(());
        }
        Err(CliError::with_code(
            USAGE,
            format!("cannot show {what} on a terminal"),
            "it is binary",
            "choose a file with -o, or pass it on through a pipe",
        ))
    }

    /// Returns true if bytes were lost.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed.is_some() || self.gone
    }

    /// Writes the rest, and puts a file in its place. Returns false if the reader of standard output or of a pipe is
    /// gone, which is a normal end: then nothing more needs to be said.
    pub(super) fn finish(mut self) -> Result<bool, CliError> {
        // Nothing was written: an empty file, then.
        let _noted = self.flush().is_err();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if let OutFileState::Open(out) = &mut self.state {
            let file = out.get_mut().file();
            file.sync().map_err(|why| lost(&self.name, &why))?;
            file.place().map_err(|why| told(&why, self.forcible))?;
        }
        Ok(!self.gone)
    }

    fn open(&mut self) -> Result<(), CliError> {
        let OutFileState::Planned(mut target) = std::mem::replace(&mut self.state, OutFileState::Over) else {
            return Ok(());
        };
        loop {
            match target.open().map_err(|why| told(&why, self.forcible))? {
                OpenAttempt::Ready(file) => {
                    let file = StoppableFile::new(file, self.stop.clone());
                    self.state = OutFileState::Open(BufWriter::with_capacity(1 << 16, file));
                    return Ok(());
                },
                OpenAttempt::NoReader(again) => {
                    if self.stop.as_ref().is_some_and(StopFlag::is_set) {
                        let why = "it was to stop, and nobody reads that pipe yet";
                        return Err(CliError::failed(cannot(&self.name), why, "let something read it first"));
                    }
                    target = again;
                    thread::sleep(TRY_AGAIN);
                },
            }
        }
    }

    fn noting<T>(&mut self, act: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        if matches!(self.state, OutFileState::Planned(_))
            && let Err(error) = self.open()
        {
            self.failed.get_or_insert(error);
        }
        let done = match &mut self.state {
            OutFileState::Stdout(out) => act(out),
            OutFileState::Open(out) => act(out),
            OutFileState::Planned(_) | OutFileState::Over => Err(io::ErrorKind::BrokenPipe.into()),
        };
        done.inspect_err(|why| match why.kind() {
            io::ErrorKind::Interrupted => {},
            io::ErrorKind::BrokenPipe => {
                self.gone = true;
                self.close();
            },
            _ => {
                self.failed.get_or_insert_with(|| lost(&self.name, why));
                self.close();
            },
        })
    }

    /// Closes it. Nothing more is written, not even what is buffered.
    fn close(&mut self) {
        match std::mem::replace(&mut self.state, OutFileState::Over) {
            OutFileState::Stdout(out) => drop(out.into_parts()),
            OutFileState::Open(out) => drop(out.into_parts()),
            OutFileState::Planned(_) | OutFileState::Over => {},
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.noting(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.noting(|out| out.flush())
    }
}

/// Prints a text on standard output, which may not be one of `inputs` (`>> a.vft`). Returns false if the reader is
/// gone: then nothing more needs to be said.
pub(super) fn print(text: &str, inputs: &[PathBuf]) -> Result<bool, CliError> {
    let mut out = OutFile::stdout_beside(inputs)?;
    // What goes wrong here is told at the end.
    let _noted = out.write_all(text.as_bytes()).is_err();
    out.finish()
}

fn cannot(name: &str) -> String {
    format!("cannot write {name}")
}

pub(super) fn lost(name: &str, why: &io::Error) -> CliError {
    if why.raw_os_error() == Some(Errno::BADF.raw_os_error()) {
        return CliError::failed(
            cannot(name),
            why,
            "it is closed, or open for reading only: give a place, such as >FILE or >/dev/null",
        );
    }
    let room = room_advice(why).map(|room| format!("{room}, or ")).unwrap_or_default();
    CliError::failed(cannot(name), why, format!("{room}choose another place; what came out is not whole"))
}

impl From<OutputError> for CliError {
    fn from(error: OutputError) -> Self {
        told(&error, true)
    }
}

/// Makes the error that a user sees. `forcible`: the verb has a --force that replaces files.
fn told(error: &OutputError, forcible: bool) -> CliError {
    let todo = match error {
        OutputError::Exists(_) if !forcible => "choose another name, or move it away".into(),
        _ => error.advice(),
    };
    CliError::with_code(error.exit_code(), cannot(&error.path().display().to_string()), error.reason(), todo)
}

#[cfg(test)]
mod tests;
