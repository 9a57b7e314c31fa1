//! The terminal: colour or not, and notes on standard error.

use std::io::{self, IsTerminal, Write as _};

use crate::units::human::clean;

/// Rule for colours.
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
    /// Returns true if output to `stream` is to be coloured.
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

/// Prints a line for the person at the terminal, on standard error. Names in it may have any bytes: it is cleaned.
pub(super) fn note(text: &str) {
    print_finished(&clean(text));
}

/// Prints lines that are finished, on standard error: their names are clean, and they may have colours.
pub(super) fn print_finished(text: &str) {
    // A reader that went away is no reason to stop.
    drop(writeln!(io::stderr().lock(), "{text}"));
}
