//! The lines a person reads while a scenario runs: elapsed time, who, what.

use std::io::{self, Write as _};
use std::time::Instant;

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
pub(crate) fn complain(program: &str, error: &anyhow::Error) {
    drop(writeln!(io::stderr().lock(), "{program}: {error:#}"));
}
