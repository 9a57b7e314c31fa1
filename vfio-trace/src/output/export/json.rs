//! Writes the document itself; docs/schema/migration-1.json describes every field.

use std::io::{self, Write};

use crate::{report::document::MigrationDocument, units::visible};

/// Writes the document on one line, or with `pretty` on many.
///
/// # Errors
///
/// Errors of `out`.
pub fn write_json(document: &MigrationDocument, pretty: bool, mut out: impl Write) -> io::Result<()> {
    visible::write_json(document, pretty, &mut out)?;
    out.write_all(b"\n")
}
