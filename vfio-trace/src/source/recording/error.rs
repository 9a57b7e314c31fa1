//! Why nothing of a recording can be shown, and what to do about it.

use std::{borrow::Cow, io, path::Path};

use rustix::io::Errno;
use thiserror::Error;

use crate::{
    recording::{PartOpenError, RecordingOutput},
    units::advice::{ErrorAdvice, INPUT},
};

/// Error for which nothing of a recording can be shown, or no more of it.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// A file cannot be opened.
    #[error("cannot open {name}: {source}")]
    File {
        /// Name that the user gave.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not one that can be read.
    #[error("cannot read {name}: {source}")]
    Open {
        /// Name that the user gave.
        name: String,
        /// Reason for which it cannot be read.
        source: PartOpenError,
    },
    /// The files do not belong together.
    #[error("{first} and {second} are parts of different recordings")]
    Different {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The same part twice.
    #[error("{first} and {second} are the same part of one recording")]
    Twice {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The same recording in two files, each of which has others, too, or twice in one.
    #[error("{}", again(first, second))]
    Again {
        /// One.
        first: String,
        /// The other; the same name if it is there twice.
        second: String,
    },
    /// One file has several recordings, and others are parts of one of them.
    #[error("{name} has several recordings, and {other} is a part of one of them")]
    Mixed {
        /// The one.
        name: String,
        /// The other.
        other: String,
    },
    /// One of several files can be read only once, and they are looked into first.
    #[error("{name} is a pipe or a device, which can be read only once")]
    Pipe {
        /// Name that the user gave.
        name: String,
    },
    /// Reading failed halfway.
    #[error("cannot read on in {name}: {source}")]
    Read {
        /// Name that the user gave.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

fn again(first: &str, second: &str) -> String {
    if first == second {
        format!("a recording is in {first} twice")
    } else {
        format!("the same recording is in {first} and in {second}")
    }
}

impl ErrorAdvice for RecordingError {
    fn exit_code(&self) -> u8 {
        INPUT
    }

    fn advice(&self) -> Cow<'static, str> {
        let text = match self {
            Self::File { name, source } if source.kind() == io::ErrorKind::NotFound => {
                return parts_of(name).map_or(
                    Cow::Borrowed("check the name; `vfio-trace record -o FILE` makes one"),
                    Cow::Owned,
                );
            },
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "recordings are readable for who made them only: copy it, or change its owner or mode"
            },
            Self::Open {
                source:
                    PartOpenError::Newer(_)
                    | PartOpenError::NewerRecords(_)
                    | PartOpenError::OtherHeader
                    | PartOpenError::Header(_),
                ..
            } => "use the vfio-trace that made it, or a newer one",
            Self::Open { source: PartOpenError::ByteOrder(_), .. } => {
                "read it on a machine like the one that it was made on"
            },
            Self::Open { source: PartOpenError::NotRecording | PartOpenError::Empty, .. } => {
                "give a file that `vfio-trace record` made"
            },
            Self::Different { .. } => {
                "give the parts of one recording, or put those of several hosts together with `vfio-trace merge`"
            },
            Self::Twice { .. } => "give each part once",
            Self::Again { .. } => "give each recording once, its parts one after another",
            Self::Mixed { name, .. } => {
                let text = format!("give {name} alone, or the parts of one recording as they were recorded");
                return text.into();
            },
            Self::Pipe { .. } => {
                "store what comes out of it in a file first, or give all parts through one pipe: cat PARTS | vfio-trace … -"
            },
            Self::Open { source: PartOpenError::Io(source), .. }
            | Self::Read { source, .. }
            | Self::File { source, .. } => system_advice(source),
            Self::Open { source: PartOpenError::TruncatedHeader | PartOpenError::NoHeader, .. } => COPY_AGAIN,
        };
        text.into()
    }
}

const COPY_AGAIN: &str = "copy the file again from where it was made";

/// Returns the advice for an error of the system: another copy helps only where the file was found and its content is the
/// matter.
fn system_advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => "check the name",
        // A folder, a socket, a device without a driver.
        Some(Errno::ISDIR | Errno::NXIO | Errno::NODEV | Errno::INVAL) => {
            "give a file that `vfio-trace record` made"
        },
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n)",
        Some(Errno::NOMEM) => "let it have more memory (a container may have a limit)",
        _ => COPY_AGAIN,
    }
}

/// Returns the advice for a name without a number, if there are parts with numbers.
fn parts_of(name: &str) -> Option<String> {
    let path = Path::new(name);
    let first = RecordingOutput::part_name(path, 1);
    let parts = format!("{}.*", path.with_extension("").display());
    first
        .exists()
        .then(|| format!("it has parts, give them instead: {parts}, or cat {parts} | vfio-trace … -"))
}
