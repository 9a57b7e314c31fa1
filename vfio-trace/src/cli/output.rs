//! The terminal: colour or not, notes, and standard output that may go away.

use std::io::{self, IsTerminal, Write as _};

use crate::units::human::clean;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ColorMode {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorMode {
    /// Whether to colour what goes to `stream`.
    pub(super) fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            // https://no-color.org: present and not empty.
            Self::Auto => {
                stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            },
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Prints a line for the person at the terminal, on standard error. Names in it may be anybody's.
pub(super) fn note(text: &str) {
    print_finished(&clean(text));
}

/// The same for lines that are finished: whose names are clean, and which may have colours.
pub(super) fn print_finished(text: &str) {
    // Nobody left to read it is no reason to stop.
    drop(writeln!(io::stderr().lock(), "{text}"));
}
