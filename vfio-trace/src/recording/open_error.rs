//! Reasons why a file is not read as a recording at all.

use std::io;

use thiserror::Error;
use vfio_trace_common::wire;

use super::header::SCHEMA;

/// Reason why a file is not read as a recording at all.
#[derive(Debug, Error)]
pub enum PartOpenError {
    /// Error while reading.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Empty file.
    #[error("it is empty")]
    Empty,
    /// File of another kind.
    #[error("it is not a recording of vfio-trace")]
    NotRecording,
    /// File that ends within its header.
    #[error("it is cut within its header, so nothing of it can be read")]
    TruncatedHeader,
    /// File without a header that can be read.
    #[error("its header is damaged in both copies, so nothing tells what the rest means")]
    NoHeader,
    /// File of a later version; the version of its framing.
    #[error("it was made by a newer vfio-trace (format {0}); this one reads format 1")]
    Newer(u8),
    /// Records of a later version.
    #[error(
        "its records were made by a newer vfio-trace (records of version {0}); this one reads them up to version {known}",
        known = wire::VERSION
    )]
    NewerRecords(u16),
    /// Header of another version.
    #[error("its header is not one that this vfio-trace reads ({SCHEMA}): a newer one may have made it")]
    OtherHeader,
    /// Header with content that this version does not understand.
    #[error("its header is not understood, it may have been made by a newer vfio-trace: {0}")]
    Header(serde_json::Error),
    /// Byte order of records made on a machine of the other byte order.
    #[error("its records have {0}-endian numbers, which this machine does not read")]
    ByteOrder(String),
}
