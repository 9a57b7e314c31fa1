//! Checks JSON against the schemas in docs/schema.
//!
//! It knows the part of JSON Schema that they use and stops at anything else. It is stricter than the standard in one
//! point: a field must be named, because an undocumented one is a mistake of ours.

mod pattern;

use serde_json::Value;

/// A schema, ready to check values with.
#[derive(Debug)]
pub struct Schema {
    root: Value,
}

/// Nothing, or what is wrong and where.
pub type Checked = Result<(), String>;

impl Schema {
    /// From its text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root = serde_json::from_str(text).map_err(|error| format!("the schema is no JSON: {error}"))?;
        Ok(Self { root })
    }

    /// The schema itself, for what else there is to compare with it.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Checks a line or document of JSON.
    pub fn check_text(&self, text: &str) -> Checked {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.check_value(&value).map_err(|why| format!("{why}\n{text}"))
    }

    /// Checks a value.
    pub fn check_value(&self, value: &Value) -> Checked {
        self.check(&self.root, value)
    }

    fn check(&self, schema: &Value, value: &Value) -> Checked {
        let schema = schema.as_object().ok_or("a schema is an object")?;
        for (key, rule) in schema {
            let right = match key.as_str() {
                "$schema" | "$id" | "title" | "description" | "$defs" | "additionalProperties" | "then"
                // For those who make types of it.
                | "format" => true,
                "$ref" => {
                    self.check(self.definition(rule)?, value)?;
                    true
                },
                "type" => rule
                    .as_array()
                    .map_or_else(|| is_type(rule, value), |any| any.iter().any(|one| is_type(one, value))),
                "const" => rule == value,
                "enum" => list(key, rule)?.contains(value),
                "minimum" => !value.is_number() || value.as_f64() >= rule.as_f64(),
                "pattern" => {
                    let pattern = rule.as_str().ok_or("a pattern is a text")?;
                    value.as_str().map_or(Ok(true), |text| pattern::matches(pattern, text))?
                },
                "required" => names(rule).iter().all(|name| value.get(name).is_some()),
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if let Some(rule) = rule.get(name) {
                            self.check(rule, value).map_err(|why| format!("{name}: {why}"))?;
                        } else if schema.contains_key("required") {
                            return Err(format!("undocumented field {name}"));
                        }
                    }
                    true
                },
                "items" => {
                    for (index, item) in (0..).zip(value.as_array().into_iter().flatten()) {
                        self.check(rule, item).map_err(|why| format!("item {index}: {why}"))?;
                    }
                    true
                },
                "oneOf" => {
                    list(key, rule)?.iter().filter(|one| self.check(one, value).is_ok()).count() == 1
                },
                "anyOf" => list(key, rule)?.iter().any(|one| self.check(one, value).is_ok()),
                "allOf" => {
                    list(key, rule)?.iter().try_for_each(|one| self.check(one, value))?;
                    true
                },
                "if" => {
                    if self.check(rule, value).is_ok() {
                        self.check(schema.get("then").ok_or("an if without a then")?, value)?;
                    }
                    true
                },
                other => return Err(format!("the checker does not know {other}")),
            };
            if !right {
                return Err(format!("{value} breaks {key}: {rule}"));
            }
        }
        Ok(())
    }

    fn definition(&self, reference: &Value) -> Result<&Value, String> {
        let name = reference
            .as_str()
            .and_then(|name| name.strip_prefix("#/$defs/"))
            .ok_or("the checker knows local $refs only")?;
        self.root.get("$defs").and_then(|all| all.get(name)).ok_or_else(|| format!("no $defs/{name}"))
    }
}

fn list<'v>(key: &str, rule: &'v Value) -> Result<&'v Vec<Value>, String> {
    rule.as_array().ok_or_else(|| format!("{key} is an array"))
}

/// The texts of a list.
pub fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
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
        let schema = Schema::parse(SCHEMA).unwrap();
        for right in [r#"{"kind":"one"}"#, r#"{"kind":null,"parts":["a"]}"#, r#"{"kind":"two","count":3}"#] {
            assert_eq!(schema.check_text(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("[]", "breaks "),
            ("{}", "breaks required"),
            (r#"{"kind":"three"}"#, "kind: \"three\" breaks enum"),
            (r#"{"kind":"one","more":1}"#, "undocumented field more"),
            (r#"{"kind":"one","count":0}"#, "breaks minimum"),
            (r#"{"kind":"one","parts":["a","B"]}"#, "item 1: \"B\" breaks pattern"),
            (r#"{"kind":"two"}"#, "breaks required: [\"count\"]"),
        ] {
            let said = schema.check_text(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_it_does_not_know_stops_it() {
        let said = Schema::parse(r#"{"not":{}}"#).unwrap().check_text("1").unwrap_err();
        assert!(said.contains("does not know not"), "{said}");
        Schema::parse(r##"{"$ref":"#/$defs/none"}"##).unwrap().check_text("1").unwrap_err();
        Schema::parse("{").unwrap_err();
    }
}
