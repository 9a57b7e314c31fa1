//! JSON Schemas out of the types that are written, for docs/schema.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Value, json};

/// Description of a document in its schema, besides its fields.
#[derive(Clone, Copy, Debug)]
pub struct SchemaHead {
    /// Value of the document's field `schema`: `vfio-trace.list/1`.
    pub name: &'static str,
    /// Title of the schema: the document, and the verb that prints it.
    pub title: &'static str,
    /// Description of the schema: the page that explains the fields, and what readers may rely on.
    pub description: &'static str,
}

/// Makes the schema of a document.
pub fn schema_of<T: JsonSchema>(head: &SchemaHead) -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        // What is made, not what is read: every field is there.
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    if let Some(root) = schema.as_object_mut() {
        let id = format!("urn:{}", head.name.replace(['.', '/'], ":"));
        root.insert("$id".to_owned(), json!(id));
        root.insert("title".to_owned(), json!(head.title));
        root.insert("description".to_owned(), json!(head.description));
    }
    narrow(schema.pointer_mut("/properties/schema"), "const", json!(head.name));
    schema
}

/// Allows a field only what is said here (`const`, `enum`) in place of all values of its type; its description stays.
pub(crate) fn narrow(field: Option<&mut Value>, keyword: &str, allowed: Value) {
    if let Some(Value::Object(field)) = field {
        field.retain(|name, _| name == "description");
        field.insert(keyword.to_owned(), allowed);
    }
}

/// Leaves out of `required` what the first versions of vfio-trace did not write: their documents stay what they are.
pub(crate) fn came_later(names: &'static [&'static str]) -> impl Fn(&mut Schema) {
    move |schema| {
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !name.as_str().is_some_and(|name| names.contains(&name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[schemars(transform = came_later(&["second"]))]
    #[expect(dead_code, reason = "for its schema")]
    struct MadeUp {
        /// Its name.
        schema: &'static str,
        /// The first.
        first: u32,
        second: Option<String>,
    }

    #[test]
    fn a_document_has_its_names_and_its_fields() {
        let head = SchemaHead { name: "vfio-trace.made-up/1", title: "a", description: "b" };
        let schema = schema_of::<MadeUp>(&head);
        assert_eq!(schema["$id"], "urn:vfio-trace:made-up:1");
        assert_eq!(
            schema["properties"]["schema"],
            json!({"const": "vfio-trace.made-up/1", "description": "Its name."})
        );
        assert_eq!(schema["properties"]["first"]["description"], "The first.");
        assert_eq!((&schema["title"], &schema["description"]), (&json!("a"), &json!("b")));
        assert_eq!(schema["required"], json!(["schema", "first"]));
    }
}
