//! The document's JSON Schema, made from its types.

#![expect(dead_code, reason = "shapes of types from the room below, for the schema alone")]

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{DOCUMENT_SCHEMA, DOCUMENT_SCHEMA_VERSION, MigrationDocument};

const DESCRIPTION: &str = "The migrations of one host, or of several on one clock; docs/exports.md says more. Readers \
                           ignore fields that they do not know: version 1 may gain some.";

/// How something ended.
#[derive(JsonSchema)]
pub(super) struct OutcomeShape {
    /// `refused`: the core did not let the driver try. `unknown`: its end was not seen.
    result: ResultShape,
    /// Name of the error, or null.
    errno: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename = "Result", rename_all = "snake_case")]
enum ResultShape {
    Ok,
    Failed,
    Refused,
    Unknown,
}

/// Out of the device (`save`) or into it (`resume`).
#[derive(JsonSchema)]
#[schemars(rename = "Direction", rename_all = "snake_case")]
pub(super) enum DirectionShape {
    Save,
    Resume,
}

/// How bad it is.
#[derive(JsonSchema)]
#[schemars(rename = "Severity", rename_all = "snake_case")]
pub(super) enum SeverityShape {
    Info,
    Warning,
    Error,
}

/// A migration state; `Invalid(9)` for one that a newer kernel has.
#[derive(JsonSchema)]
#[schemars(rename = "State", transparent)]
pub(super) struct StateShape(
    #[schemars(regex(
        pattern = "^(ERROR|STOP|RUNNING|STOP_COPY|RESUMING|RUNNING_P2P|PRE_COPY|PRE_COPY_P2P|Invalid\\([0-9]+\\))$"
    ))]
    String,
);

/// The schema, as kept in `docs/schema`.
pub fn json_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        // What is made, not what is read: every field is there.
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<MigrationDocument>()
        .to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".to_owned(), json!("urn:vfio-trace:migration:1"));
        root.insert("title".to_owned(), json!("vfio-trace export --format json"));
        root.insert("description".to_owned(), json!(DESCRIPTION));
        if let Some(fields) = root.get_mut("properties").and_then(Value::as_object_mut) {
            fields.insert("schema".to_owned(), json!({"const": DOCUMENT_SCHEMA}));
            fields.insert("schema_version".to_owned(), json!({"const": DOCUMENT_SCHEMA_VERSION}));
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `UPDATE_GOLDEN=1 cargo test` writes what is there now.
    #[test]
    fn the_file_is_what_the_types_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/migration-1.json");
        let mut made = serde_json::to_string_pretty(&json_schema()).unwrap();
        made.push('\n');
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), made);
    }
}
