//! Why something is not read as a recording at all.

use std::io;

use thiserror::Error;
use vfio_trace_common::wire;

use super::header::SCHEMA;

/// Why something is not read as a recording at all.
#[derive(Debug, Error)]
pub enum PartOpenError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// It is something else.
    #[error("it is not a recording of vfio-trace")]
    NotRecording,
    /// It ends within its header.
    #[error("it is cut within its header, so nothing of it can be read")]
    TruncatedHeader,
    /// Its header cannot be read.
    #[error("its header is damaged in both copies, so nothing tells what the rest means")]
    NoHeader,
    /// A later version made it.
    #[error("it was made by a newer vfio-trace (format {0}); this one reads format 1")]
    Newer(u8),
    /// A later version made its records.
    #[error(
        "its records were made by a newer vfio-trace (records of version {0}); this one reads them up to version {known}",
        known = wire::VERSION
    )]
    NewerRecords(u16),
    /// Its header is one of another version.
    #[error("its header is not one that this vfio-trace reads ({SCHEMA}): a newer one may have made it")]
    OtherHeader,
    /// The header says what this version does not understand.
    #[error("its header is not understood, it may have been made by a newer vfio-trace: {0}")]
    Header(serde_json::Error),
    /// Made on a machine of the other byte order.
    #[error("its records have {0}-endian numbers, which this machine does not read")]
    ByteOrder(String),
}
