//! The files of docs/schema, each made from the types of its document.

use serde_json::Value;

use crate::{
    doctor::doctor_schema, event::event_schema, exercise::exercise_schema, output::list_schema,
    report::document::json_schema, state::timeline_schema,
};

/// Name of a file of docs/schema, and the function that makes its schema.
type SchemaFile = (&'static str, fn() -> Value);

/// All files of docs/schema.
const FILES: [SchemaFile; 6] = [
    ("doctor-1.json", doctor_schema),
    ("event-1.json", event_schema),
    ("exercise-1.json", exercise_schema),
    ("list-1.json", list_schema),
    ("migration-1.json", json_schema),
    ("timeline-1.json", timeline_schema),
];

/// Makes all schemas; returns the files' names and contents.
///
/// # Errors
///
/// None that schemas can cause; serde's interface has them.
pub fn schema_files() -> serde_json::Result<Vec<(&'static str, String)>> {
    FILES
        .iter()
        .map(|(name, make)| serde_json::to_string_pretty(&make()).map(|text| (*name, format!("{text}\n"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_files_are_what_the_types_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        let made = schema_files().unwrap();
        for (name, text) in &made {
            let kept = fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(
                kept == *text,
                "docs/schema/{name} is not what the types say: `cargo xtask schema` writes it"
            );
        }
        for file in fs::read_dir(&folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(made.iter().any(|(made, _)| *made == name), "nothing makes {name}");
        }
    }
}
