//! Checks JSON of tests against the schemas in docs/schema.
//!
//! It is stricter than they are in one point: a field must be named, because an undocumented one is a mistake of ours.

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

/// Schema that is ready to check values with.
#[derive(Debug)]
pub(crate) struct TestSchema {
    root: Value,
    validator: Validator,
}

impl TestSchema {
    /// Reads a schema from its text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &[])
    }

    /// Reads a schema that refers to others by their `$id`. Nothing is fetched: one that is not given is an error.
    pub(crate) fn parse_with(text: &str, others: &[&str]) -> Result<Self, String> {
        let root = json_of(text)?;
        let mut registry = Registry::new();
        for other in others {
            let other = json_of(other)?;
            let id = other.get("$id").and_then(Value::as_str).ok_or("a schema without $id")?.to_owned();
            registry = registry.add(id, strict(other)).map_err(|error| error.to_string())?;
        }
        let registry = registry.prepare().map_err(|error| error.to_string())?;
        let options = jsonschema::options().with_registry(&registry).offline();
        let validator = options.build(&strict(root.clone())).map_err(|error| error.to_string())?;
        Ok(Self { root, validator })
    }

    /// Returns the schema itself, for what else there is to compare with it.
    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Checks a line or document of JSON.
    pub(crate) fn check_text(&self, text: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.check_value(&value).map_err(|why| format!("{why}\n{text}"))
    }

    /// Checks a value.
    pub(crate) fn check_value(&self, value: &Value) -> Result<(), String> {
        self.validator.validate(value).map_err(|error| {
            format!("{}: {error}; by the schema's {}", error.instance_path(), error.schema_path())
        })
    }
}

/// Returns the texts of a list.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn json_of(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the schema is no JSON: {error}"))
}

/// Forbids fields without a name, wherever a schema says what an object must have.
///
/// Parts of a schema that only add to another (`then`) name some fields and require none: they stay as they are.
fn strict(schema: Value) -> Value {
    match schema {
        Value::Object(parts) => {
            let mut parts: Map<_, _> = parts.into_iter().map(|(name, part)| (name, strict(part))).collect();
            let names_all = |parts: &Map<String, Value>| {
                parts.get("properties").is_some_and(Value::is_object)
                    && parts.get("required").is_some_and(Value::is_array)
            };
            if names_all(&parts) {
                parts.insert("additionalProperties".to_owned(), json!(false));
            }
            Value::Object(parts)
        },
        Value::Array(items) => Value::Array(items.into_iter().map(strict).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r##"{
        "type": "object",
        "properties": {
            "kind": {"enum": ["one", "two", null]},
            "count": {"type": ["integer", "null"], "minimum": 1},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}}
        },
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "two"}}},
        "then": {"required": ["count"]},
        "$defs": {"part": {"pattern": "^[a-z]+$"}}
    }"##;

    #[test]
    fn what_is_wrong_is_named() {
        let schema = TestSchema::parse(SCHEMA).unwrap();
        for right in [r#"{"kind":"one"}"#, r#"{"kind":null,"parts":["a"]}"#, r#"{"kind":"two","count":3}"#] {
            assert_eq!(schema.check_text(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("[]", "is not of type \"object\""),
            ("{}", "\"kind\" is a required property"),
            (r#"{"kind":"three"}"#, "/kind: \"three\" is not one of"),
            (r#"{"kind":"one","more":1}"#, "('more' was unexpected)"),
            (r#"{"kind":"one","count":0}"#, "less than the minimum"),
            (r#"{"kind":"one","parts":["a","B"]}"#, "/parts/1: \"B\" does not match"),
            (r#"{"kind":"two"}"#, "\"count\" is a required property"),
        ] {
            let said = schema.check_text(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_it_refers_to_is_given_and_never_fetched() {
        let schema = r#"{"items": {"$ref": "urn:other:1"}}"#;
        let other = r#"{"$id": "urn:other:1", "properties": {"a": {"type": "null"}}, "required": ["a"]}"#;
        let both = TestSchema::parse_with(schema, &[other]).unwrap();
        assert_eq!(both.check_text(r#"[{"a":null}]"#), Ok(()));
        for wrong in [r#"[{"a":1}]"#, "[{}]", r#"[{"a":null,"b":1}]"#] {
            assert!(both.check_text(wrong).is_err(), "{wrong}");
        }
        for missing in [schema, r##"{"$ref":"#/$defs/none"}"##, r#"{"$ref":"https://example.org/x"}"#, "{"] {
            assert!(TestSchema::parse(missing).is_err(), "{missing}");
        }
    }
}
