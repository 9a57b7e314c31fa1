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

    use serde_json::json;

    use super::*;

    /// Returns the places of properties without a description. Those of conditions only repeat the name of one.
    fn undescribed(schema: &Value, place: &str) -> Vec<String> {
        let mut found = Vec::new();
        match schema {
            Value::Object(parts) => {
                for (name, field) in parts.get("properties").and_then(Value::as_object).into_iter().flatten()
                {
                    let text = field.get("description").and_then(Value::as_str).unwrap_or_default();
                    if text.is_empty() {
                        found.push(format!("{place}/properties/{name}"));
                    }
                }
                let parts = parts.iter().filter(|(name, _)| !matches!(name.as_str(), "if" | "then" | "else"));
                found.extend(parts.flat_map(|(name, part)| undescribed(part, &format!("{place}/{name}"))));
            },
            Value::Array(parts) => {
                let parts = parts.iter().enumerate();
                found.extend(parts.flat_map(|(nr, part)| undescribed(part, &format!("{place}/{nr}"))));
            },
            _ => {},
        }
        found
    }

    #[test]
    fn every_field_is_described() {
        for (name, make) in FILES {
            assert_eq!(undescribed(&make(), ""), Vec::<String>::new(), "{name}");
        }
        let holes = json!({
            "properties": {"a": {"type": "string"}, "b": {"description": ""}, "c": {"description": "C."}},
            "allOf": [{"if": {"properties": {"a": {"const": 1}}}}, {"properties": {"d": true}}],
            "$defs": {"B": {"properties": {"e": {"type": "integer"}}}},
        });
        let mut found = undescribed(&holes, "");
        found.sort();
        let expected = ["/$defs/B/properties/e", "/allOf/1/properties/d", "/properties/a", "/properties/b"];
        assert_eq!(found, expected);
    }

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
