//! Prints all files of docs/schema as one JSON object, name by name; `cargo xtask schema` puts them there.

use std::{collections::BTreeMap, error::Error, io};

fn main() -> Result<(), Box<dyn Error>> {
    let files: BTreeMap<&str, String> = vfio_trace::cli::schema_files()?.into_iter().collect();
    serde_json::to_writer(io::stdout().lock(), &files)?;
    Ok(())
}
