//! The lines that a person reads while a scenario runs: elapsed time, subject, event.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Error, Result};

/// The printer of one line per step on stdout. Shared by the threads that read QMP.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Prints a line with the elapsed time: `  0.42 s  source: PRE_COPY`.
    pub(crate) fn say(&self, line: &str) {
        let elapsed = self.start.elapsed().as_secs_f64();
        // The reader may have gone (`| head`); the scenario and its clean-up matter more than the line.
        drop(writeln!(io::stdout().lock(), "{elapsed:8.2} s  {line}"));
    }
}

/// Prints an error on stderr: what failed, why, and what to do.
pub(crate) fn complain(program: &str, error: &Error) {
    drop(writeln!(io::stderr().lock(), "{program}: {error:#}"));
}

/// Prints help, version, or an error of the command line. Returns the exit code: help and version are no errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // An error means that the reader has gone, and does not matter.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The first of several errors. Clean-up goes on after a failure, and the first failure is the one to report.
#[derive(Debug, Default)]
pub(crate) struct FirstError(Option<Error>);

impl FirstError {
    /// Keeps an error if it is the first. Returns the value.
    pub(crate) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.get_or_insert(error);
                None
            },
        }
    }

    pub(crate) fn get(&self) -> Option<&Error> {
        self.0.as_ref()
    }

    pub(crate) fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_first_error_is_kept() {
        let mut errors = FirstError::default();
        assert_eq!(errors.note(Ok(1)), Some(1));
        assert!(errors.get().is_none());
        assert_eq!(errors.note::<()>(Err(anyhow!("first"))), None);
        assert_eq!(errors.note::<()>(Err(anyhow!("second"))), None);
        assert_eq!(errors.into_result().unwrap_err().to_string(), "first");
    }
}
