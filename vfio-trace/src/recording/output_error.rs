//! Why a file cannot be made, and what to do about it.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::units::advice::{ErrorAdvice, FAILED};

/// Reason why there is no output.
///
/// The command line makes its messages from it, for recordings and for all other outputs.
#[derive(Debug, Error)]
pub enum OutputError {
    /// Path of an existing file.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Path of an existing file of another user, which must not be replaced or filled.
    #[error("{} exists already, and belongs to another user", .0.display())]
    Foreign(PathBuf),
    /// Path of a link. It is not followed: it may have been made to point to another file.
    #[error("{} is a symbolic link", .0.display())]
    Link(PathBuf),
    /// Path of an output that is one of its own inputs.
    #[error("{} is what is read", .0.display())]
    Input(PathBuf),
    /// Existing file with the name of a part that is not shown to be one of an older recording of this name.
    #[error("{} exists already, and is not taken for a part of an older recording of this name: {why}", path.display())]
    NoPart {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// Error while writing.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
}

impl OutputError {
    /// Returns the name of the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Exists(path) | Self::Foreign(path) | Self::Link(path) | Self::Input(path) => path,
            Self::NoPart { path, .. } | Self::Io { path, .. } => path,
        }
    }

    /// Says why, without the name.
    pub fn reason(&self) -> String {
        match self {
            Self::Exists(_) => "it exists already".to_owned(),
            Self::Foreign(_) => "it exists already, and belongs to another user".to_owned(),
            Self::Link(_) => "it is a symbolic link, which is not followed".to_owned(),
            Self::Input(_) => "it is what is read".to_owned(),
            Self::NoPart { why, .. } => format!(
                "it exists already, and is not taken for a part of an older recording of this name: {why}"
            ),
            Self::Io { source, .. } => source.to_string(),
        }
    }
}

/// Returns what to do for more room, if an error says that there is none. The system does not tell which limit on file
/// sizes is reached.
pub fn room_advice(why: &io::Error) -> Option<&'static str> {
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("make room"),
        io::ErrorKind::FileTooLarge => {
            Some("a limit on file sizes is reached (ulimit -f, or the file system's): raise it")
        },
        _ => None,
    }
}

/// For verbs that have --force.
impl ErrorAdvice for OutputError {
    fn exit_code(&self) -> u8 {
        FAILED
    }

    fn advice(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                return format!("{}, or choose another place", room_advice(source).unwrap_or_default())
                    .into();
            },
            Self::Exists(_) => "choose another name, or --force to replace it",
            Self::Foreign(_) => "choose another name, in a folder that others cannot write to",
            Self::Link(_) => "give the name of the file that is meant",
            Self::Input(_) => "choose another name; --force does not change that",
            Self::NoPart { .. } => "choose another name, or move it away; --force does not change that",
            Self::Io { .. } => "choose another place, or make room there",
        };
        text.into()
    }
}
