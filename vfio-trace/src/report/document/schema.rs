//! JSON Schema of the document, made from its types.

use serde_json::{Value, json};

use super::{DOCUMENT_SCHEMA, DOCUMENT_SCHEMA_VERSION, MigrationDocument};
use crate::units::schema::{SchemaHead, narrow, schema_of};

const HEAD: SchemaHead = SchemaHead {
    name: DOCUMENT_SCHEMA,
    title: "vfio-trace export --format json",
    description: "The migrations of one host, or of several on one clock; docs/exports.md says more. Readers \
                  ignore fields that they do not know: version 1 may gain some.",
};

/// Makes the schema, as kept in `docs/schema`.
pub fn json_schema() -> Value {
    let mut schema = schema_of::<MigrationDocument>(&HEAD);
    narrow(schema.pointer_mut("/properties/schema_version"), "const", json!(DOCUMENT_SCHEMA_VERSION));
    schema
}
