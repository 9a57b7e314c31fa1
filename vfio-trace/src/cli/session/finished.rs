//! The end of a live run, and the report on the traced command.

use std::process::ExitStatus;

use super::StopCause;
use crate::cli::{
    child::TracedCommand,
    error::{CliError, FAILED},
    output::note,
};

/// A live run that is over; all of its records were taken. `LiveRun::run` makes it for `tail` and `record`.
pub(in crate::cli) struct FinishedRun {
    /// Cause of its end.
    pub(in crate::cli) why: StopCause,
    /// Time at which the probes were off, CLOCK_MONOTONIC in ns.
    pub(in crate::cli) ended_ns: u64,
    /// Error of the consumer of the records, if it had one.
    pub(in crate::cli) error: Option<CliError>,
    /// The traced command, if there is one.
    pub(super) traced: Option<TracedCommand>,
    /// Exit status of the command, if it has ended.
    pub(super) status: Option<ExitStatus>,
}

impl FinishedRun {
    /// Says how the command ended, if not well, or that it goes on; returns the exit code.
    pub(in crate::cli) fn code(&mut self) -> u8 {
        if let Some(said) = self.of_command() {
            note(&said);
        }
        self.quiet_code()
    }

    /// Returns the phrase on the command; `None` if it ended well, or if there is none. Its status is read anew: it may
    /// have ended while output waited for its reader.
    fn of_command(&mut self) -> Option<String> {
        let traced = self.traced.as_mut()?;
        self.status = self.status.or_else(|| traced.has_ended());
        let well = self.status.is_some_and(|status| status.success());
        (!well).then(|| traced.describe(self.status))
    }

    /// Returns the exit code; says nothing.
    pub(in crate::cli) fn quiet_code(&self) -> u8 {
        if self.status.is_some_and(|status| !status.success()) { FAILED } else { 0 }
    }
}

/// Says what becomes of a command that was started, when an error ends the run.
pub(in crate::cli) fn say_left_command(traced: Option<TracedCommand>) {
    let _of_the_error =
        FinishedRun { why: StopCause::Enough, ended_ns: 0, error: None, traced, status: None }.code();
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, time::Duration};

    use rustix::process::Signal;

    use super::*;
    use crate::cli::signals::ReceivedSignal;

    #[test]
    fn of_a_command_that_ended_meanwhile_nobody_says_that_it_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let done = |script: &str| {
            let command = ["sh", "-c", script].map(OsString::from);
            let traced = TracedCommand::start(&command).unwrap();
            FinishedRun { why: StopCause::Enough, ended_ns: 0, error: None, traced, status: None }
        };
        // With nothing left for it to wait for, its end is a matter of moments.
        let said_in_the_end = |mut done: FinishedRun| loop {
            match done.of_command() {
                Some(said) if said.contains("goes on") => std::thread::sleep(Duration::from_millis(5)),
                said => break (said, done.code()),
            }
        };
        assert_eq!(said_in_the_end(done("exit 0")), (None, 0), "nothing is left to say of it");
        assert_eq!(said_in_the_end(done("exit 7")), (Some("sh exited with 7".to_owned()), FAILED));
        let mut alone =
            FinishedRun { why: StopCause::Enough, ended_ns: 0, error: None, traced: None, status: None };
        assert_eq!((alone.of_command(), alone.code()), (None, 0), "there is no command");
        let mut lasts = done("exec sleep 60");
        let (said, code) = (lasts.of_command(), lasts.code());
        lasts.traced.unwrap().signal(ReceivedSignal { signal: Signal::KILL, by_terminal: false });
        assert_eq!((said.as_deref(), code), (Some("sh goes on without being traced"), 0));
    }
}
