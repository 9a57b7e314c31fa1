//! Whether a line is as docs/schema/event-1.json says, and has no field that it does not name.
//!
//! The checker knows the part of JSON Schema that the file uses and stops at anything else. It is stricter than the
//! standard in one point: a field must be named, because an undocumented one is a mistake of ours.

use serde_json::Value;

/// The description of events.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The file.
    pub root: Value,
}

/// What is wrong.
type Checked = Result<(), String>;

impl Schema {
    /// Of the events that vfio-trace writes.
    ///
    /// # Errors
    ///
    /// The file is not JSON.
    pub fn of_events() -> serde_json::Result<Self> {
        Ok(Self { root: serde_json::from_str(include_str!("../../../docs/schema/event-1.json"))? })
    }

    /// Checks one line of output.
    ///
    /// # Errors
    ///
    /// What is not as described, and the line.
    pub fn line(&self, line: &str) -> Checked {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        self.check(&self.root, &value).map_err(|why| format!("{why}\n{line}"))
    }

    fn check(&self, schema: &Value, value: &Value) -> Checked {
        let schema = schema.as_object().ok_or("a schema is an object")?;
        for (key, rule) in schema {
            let right = match key.as_str() {
                "$schema" | "$id" | "title" | "description" | "$defs" | "additionalProperties" => true,
                "$ref" => {
                    let name =
                        rule.as_str().and_then(|name| name.strip_prefix("#/$defs/")).ok_or("a local $ref")?;
                    let target = self.root.get("$defs").and_then(|all| all.get(name));
                    self.check(target.ok_or_else(|| format!("no $defs/{name}"))?, value)?;
                    true
                },
                "type" => rule
                    .as_array()
                    .map_or_else(|| is_type(rule, value), |any| any.iter().any(|one| is_type(one, value))),
                "const" => rule == value,
                "enum" => list(rule)?.contains(value),
                "minimum" => !value.is_number() || value.as_f64() >= rule.as_f64(),
                "pattern" => match value.as_str() {
                    Some(text) => matches(rule.as_str().ok_or("a pattern is a text")?, text)?,
                    None => true,
                },
                "required" => {
                    list(rule)?.iter().all(|name| name.as_str().is_some_and(|name| value.get(name).is_some()))
                },
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
                    value.as_array().into_iter().flatten().try_for_each(|item| self.check(rule, item)).is_ok()
                },
                "anyOf" => list(rule)?.iter().any(|one| self.check(one, value).is_ok()),
                "allOf" => {
                    list(rule)?.iter().try_for_each(|one| self.check(one, value))?;
                    true
                },
                "if" => {
                    if self.check(rule, value).is_ok() {
                        self.check(schema.get("then").ok_or("an if without then")?, value)?;
                    }
                    true
                },
                "then" => true,
                other => return Err(format!("the checker does not know {other}")),
            };
            if !right {
                return Err(format!("{value} breaks {key}: {rule}"));
            }
        }
        Ok(())
    }
}

fn list(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{value} is no list"))
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}

/// The patterns of the file: literals, `[…]` classes, `+`, `{n}`, `\x`, one group of alternatives.
fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let inner = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
    let inner = inner.ok_or_else(|| format!("{pattern} does not describe a whole text"))?;
    let alternatives = inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(inner);
    Ok(alternatives.split('|').any(|one| matches_one(one.as_bytes(), text.as_bytes())))
}

fn matches_one(pattern: &[u8], text: &[u8]) -> bool {
    let Some(&first) = pattern.first() else { return text.is_empty() };
    let atom = match first {
        b'[' => pattern.iter().position(|&c| c == b']').map_or(pattern.len(), |end| end + 1),
        b'\\' => pattern.len().min(2),
        _ => 1,
    };
    let (class, rest) = pattern.split_at(atom);
    let one = |c: &u8| match first {
        b'[' => in_class(class.get(1..atom - 1).unwrap_or_default(), *c),
        b'\\' => class.get(1) == Some(c),
        _ => *c == first,
    };
    if let Some(rest) = rest.strip_prefix(b"+") {
        let run = text.iter().take_while(|c| one(c)).count();
        return (1..=run).any(|n| matches_one(rest, &text[n..]));
    }
    if let [b'{', digit, b'}', rest @ ..] = rest {
        let n = usize::from(digit.saturating_sub(b'0'));
        return text.len() >= n && text[..n].iter().all(one) && matches_one(rest, &text[n..]);
    }
    text.first().is_some_and(one) && matches_one(rest, &text[1..])
}

/// Ranges and single characters, a `-` at the end among them.
fn in_class(mut class: &[u8], c: u8) -> bool {
    loop {
        class = match class {
            [] => return false,
            [first, b'-', last, ..] if (first..=last).contains(&&c) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [one, ..] if *one == c => return true,
            [_, rest @ ..] => rest,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_the_file() {
        for (pattern, text, right) in [
            ("^(E[A-Z0-9_]+|errno [0-9]+)$", "ENOMSG", true),
            ("^(E[A-Z0-9_]+|errno [0-9]+)$", "errno 4000", true),
            ("^(E[A-Z0-9_]+|errno [0-9]+)$", "einval", false),
            (r"^(STOP|Invalid\([0-9]+\))$", "Invalid(9)", true),
            (r"^(STOP|Invalid\([0-9]+\))$", "Invalid", false),
            ("^[a-z0-9_]+/[a-z0-9-]+$", "hisi_acc/images-equal", true),
            ("^[a-z0-9_]+/[a-z0-9-]+$", "hisi-acc/images", false),
            ("^[0-9]{4}-[0-9]{2}$", "2025-11", true),
            ("^[0-9]{4}-[0-9]{2}$", "2025-1", false),
        ] {
            assert_eq!(matches(pattern, text), Ok(right), "{text}");
        }
        matches("STOP", "STOP").unwrap_err();
    }
}
