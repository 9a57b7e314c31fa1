//! Errors as users see them: one line what, one line why, one line what to do; and exit codes.

use super::output;
use crate::{
    kernel::caps::DropError,
    source::{live::LiveError, recording::RecordingError},
    units::{advice::ErrorAdvice, human::clean},
};

pub(super) use crate::units::advice::{FAILED, IN_USE, INPUT, NOT_PERMITTED, NOT_SUPPORTED, USAGE};

/// Error as a user sees it. Made where a verb gives up, printed once at the end of it.
#[derive(Debug)]
pub(super) struct CliError {
    what: String,
    why: String,
    todo: String,
    /// Exit code of the verb.
    pub(super) code: u8,
}

impl CliError {
    /// Makes an error with exit code 1. `what`: what could not be done; `why`: the reason; `todo`: what to do about it.
    pub(super) fn failed(what: impl Into<String>, why: impl ToString, todo: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.to_string(), todo: todo.into(), code: FAILED }
    }

    /// Makes an error with an exit code of its own.
    pub(super) fn with_code(
        code: u8,
        what: impl Into<String>,
        why: impl ToString,
        todo: impl Into<String>,
    ) -> Self {
        Self { code, ..Self::failed(what, why, todo) }
    }

    /// Makes an error of one that has its own advice and exit code. `what`: what could not be done.
    pub(super) fn advised(what: impl Into<String>, error: &impl ErrorAdvice) -> Self {
        Self::with_code(error.exit_code(), what, error, error.advice())
    }

    /// Makes an error that only a change of the program can mend.
    pub(super) fn bug(what: impl Into<String>, why: impl ToString) -> Self {
        Self::failed(what, why, "report this as a bug")
    }

    /// Returns what could not be done and the reason, in one line.
    pub(super) fn sentence(&self) -> String {
        format!("{}: {}", self.what, self.why)
    }

    /// Prints it on standard error.
    pub(super) fn print(&self) {
        let [what, why, todo] = [&self.what, &self.why, &self.todo].map(|text| clean(text));
        output::print_finished(&format!("error: {what}\n  why: {why}\n  do:  {todo}"));
    }
}

impl From<LiveError> for CliError {
    fn from(error: LiveError) -> Self {
        Self::advised("cannot trace", &error)
    }
}

impl From<DropError> for CliError {
    fn from(error: DropError) -> Self {
        Self::bug("cannot give up capabilities", error)
    }
}

impl From<RecordingError> for CliError {
    fn from(error: RecordingError) -> Self {
        Self::advised("cannot read the recording", &error)
    }
}
