//! Advice about an error, and the exit code with which it ends a verb: said beside the error, where its reasons are known.

use std::{borrow::Cow, error::Error};

/// Exit code where the traced thing failed, for the verbs that judge it, and of what has no code of its own.
pub const FAILED: u8 = 1;
/// Exit code where the command line is wrong.
pub const USAGE: u8 = 2;
/// Exit code of what is not permitted.
pub const NOT_PERMITTED: u8 = 3;
/// Exit code of what is not supported here.
pub const NOT_SUPPORTED: u8 = 4;
/// Exit code where input is damaged, or not of the kind that was asked for.
pub const INPUT: u8 = 5;

/// Exit code where another process has the device, for `mount` only: it tells others [`NOT_PERMITTED`].
pub const IN_USE: u8 = 16;

/// An error that knows what a user can do about it.
///
/// Implemented beside each error of the library that a verb shows as it is; the command line adds what could not be done.
pub trait ErrorAdvice: Error {
    /// Returns the exit code of a verb that this error ends.
    fn exit_code(&self) -> u8;

    /// Says what to do, in one line.
    fn advice(&self) -> Cow<'static, str>;
}
