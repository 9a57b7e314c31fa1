//! The lines a person reads while a scenario runs: elapsed time, who, what.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Error, Result};

/// Writes one line per step to stdout; shared by the threads that read QMP.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// `  0.42 s  source: PRE_COPY`.
    pub(crate) fn say(&self, line: &str) {
        let elapsed = self.start.elapsed().as_secs_f64();
        // Nobody may be reading any more (`| head`); the scenario and its clean-up matter more than the line.
        drop(writeln!(io::stdout().lock(), "{elapsed:8.2} s  {line}"));
    }
}

/// The last word on an error: what, why and what to do, on stderr.
pub(crate) fn complain(program: &str, error: &Error) {
    drop(writeln!(io::stderr().lock(), "{program}: {error:#}"));
}

/// Help, version, or what is wrong with the command line; help and version are no errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody may be reading, and then nobody misses it.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Clean-up goes on after a failure, and the first failure is the one to tell.
#[derive(Debug, Default)]
pub(crate) struct FirstError(Option<Error>);

impl FirstError {
    /// Keeps an error, if it is the first; hands on the value.
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
