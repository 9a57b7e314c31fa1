//! The document itself; docs/schema/migration-1.json describes every field.

use std::io::{self, Write};

use crate::model::document::Document;

/// Writes it on one line, or with `pretty` on many.
///
/// # Errors
///
/// Those of `out`.
pub fn write_json(document: &Document, pretty: bool, mut out: impl Write) -> io::Result<()> {
    if pretty {
        serde_json::to_writer_pretty(&mut out, document)?;
    } else {
        serde_json::to_writer(&mut out, document)?;
    }
    out.write_all(b"\n")
}
