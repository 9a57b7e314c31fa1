//! Every line is as docs/schema/event-1.json says, and has no field that it does not name.
//!
//! The checker knows the part of JSON Schema that the file uses and stops at anything else. It is stricter than the
//! standard in one point: a field must be named, because an undocumented one is a mistake of ours.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use crate::event::{
    Event, Kind, ProbeReport, SCHEMA, SCHEMA_ID, Start, Summary, event_line, fixture::*, start_line,
    summary_line,
};

struct Checker {
    root: Value,
}

type Checked = Result<(), String>;

impl Checker {
    fn new() -> Self {
        Self { root: serde_json::from_str(SCHEMA).unwrap() }
    }

    fn line(&self, line: &str) -> Checked {
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
                    let target = self.root["$defs"].get(name).ok_or_else(|| format!("no $defs/{name}"))?;
                    self.check(target, value)?;
                    true
                },
                "type" => rule
                    .as_array()
                    .map_or_else(|| is_type(rule, value), |any| any.iter().any(|one| is_type(one, value))),
                "const" => rule == value,
                "enum" => rule.as_array().is_some_and(|any| any.contains(value)),
                "minimum" => !value.is_number() || value.as_f64() >= rule.as_f64(),
                "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
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
                    value.as_array().into_iter().flatten().try_for_each(|item| self.check(rule, item)).is_ok()
                },
                "anyOf" => rule.as_array().unwrap().iter().any(|one| self.check(one, value).is_ok()),
                "allOf" => {
                    rule.as_array().unwrap().iter().try_for_each(|one| self.check(one, value))?;
                    true
                },
                "if" => {
                    if self.check(rule, value).is_ok() {
                        self.check(&schema["then"], value)?;
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

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
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
fn matches(pattern: &str, text: &str) -> bool {
    let inner = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).unwrap();
    let alternatives = inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(inner);
    alternatives.split('|').any(|one| matches_one(one.as_bytes(), text.as_bytes()))
}

fn matches_one(pattern: &[u8], text: &[u8]) -> bool {
    let Some(&first) = pattern.first() else { return text.is_empty() };
    let atom = match first {
        b'[' => pattern.iter().position(|&c| c == b']').unwrap() + 1,
        b'\\' => 2,
        _ => 1,
    };
    let one = |c: &u8| match first {
        b'[' => {
            pattern[1..atom - 1].windows(3).step_by(3).any(|range| (range[0]..=range[2]).contains(c))
                || *c == b'_' && pattern[..atom].contains(&b'_')
        },
        b'\\' => *c == pattern[1],
        _ => *c == first,
    };
    let rest = &pattern[atom..];
    if let Some(rest) = rest.strip_prefix(b"+") {
        let run = text.iter().take_while(|c| one(c)).count();
        return (1..=run).any(|n| matches_one(rest, &text[n..]));
    }
    if let Some(counted) = rest.strip_prefix(b"{") {
        let n = usize::from(counted[0] - b'0');
        return text.len() >= n && text[..n].iter().all(one) && matches_one(&counted[2..], &text[n..]);
    }
    text.first().is_some_and(one) && matches_one(rest, &text[1..])
}

fn check_all(events: &[Event]) -> Checked {
    let checker = Checker::new();
    events.iter().try_for_each(|event| checker.line(&event_line(event, &ANCHOR).unwrap()))
}

#[test]
fn the_checker_refuses_what_is_wrong() {
    let checker = Checker::new();
    let line = event_line(&source().events()[0], &ANCHOR).unwrap();
    assert_eq!(checker.line(&line), Ok(()));
    for (from, to) in [
        ("event/1", "event/2"),
        ("\"kind\":\"device\"", "\"kind\":\"arc\""),
        ("\"kind\":\"device\"", "\"kind\":\"devices\""),
        ("\"pid\":", "\"ppid\":"),
        ("\"pid\":412", "\"pid\":-412"),
        ("000Z", "Z"),
        ("stop-copy", "stop_copy"),
        ("\"migration\":true", "\"migration\":1"),
        ("\"migration\":true", "\"migration\":true,\"more\":1"),
    ] {
        assert!(line.contains(from), "{from}");
        assert!(checker.line(&line.replacen(from, to, 1)).is_err(), "{to}");
    }
    for (pattern, text, right) in [
        ("^(E[A-Z0-9_]+|errno [0-9]+)$", "ENOMSG", true),
        ("^(E[A-Z0-9_]+|errno [0-9]+)$", "errno 4000", true),
        ("^(E[A-Z0-9_]+|errno [0-9]+)$", "einval", false),
        (r"^(STOP|Invalid\([0-9]+\))$", "Invalid(9)", true),
        (r"^(STOP|Invalid\([0-9]+\))$", "Invalid", false),
    ] {
        assert_eq!(matches(pattern, text), right, "{text}");
    }
}

#[test]
fn migrations_are_as_documented() {
    check_all(&source().events()).unwrap();
    check_all(&destination().events()).unwrap();
}

#[test]
fn the_stream_is_as_documented() {
    let checker = Checker::new();
    let probe = ProbeReport {
        name: "vfio_mig_get_next_state".to_owned(),
        role: vfio_trace_common::role::Role::NextState,
        module: None,
        attached: false,
        reason: Some("no such function".to_owned()),
        hits: 0,
        records: 0,
        lost: 0,
        missed: None,
        unmatched: 0,
    };
    let start = Start {
        version: "0.1.0".to_owned(),
        replayed_by: Some("0.2.0".to_owned()),
        kernel: "6.12".to_owned(),
        machine: "x86_64".to_owned(),
        host: None,
        command: vec!["vfio-trace".to_owned()],
        clock: ANCHOR,
        probes: vec![probe.clone()],
    };
    checker.line(&start_line(&start, 1).unwrap()).unwrap();
    let summary = Summary::new(vec![probe], 1, 1, 0, 5);
    checker.line(&summary_line(&summary, &ANCHOR, 9).unwrap()).unwrap();
}

#[test]
fn schema_and_code_know_the_same_kinds() {
    let schema = Checker::new().root;
    let mut kinds: BTreeSet<&str> = names(&schema["properties"]["kind"]["enum"]).into_iter().collect();
    assert!(kinds.remove("start") && kinds.remove("summary"));
    assert_eq!(kinds, Kind::ALL.map(Kind::name).into_iter().collect());
    assert_eq!(schema["properties"]["schema"]["const"], SCHEMA_ID);
    let text = include_str!("../../../../docs/events.md");
    for name in names(&schema["properties"]["kind"]["enum"]) {
        assert!(text.contains(&format!("`{name}`")), "docs/events.md has no {name}");
    }
    for (definition, schema) in schema["$defs"].as_object().unwrap() {
        for name in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(text.contains(&format!("`{name}`")), "docs/events.md has no {definition}.{name}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_is_as_documented(records in proptest::collection::vec(any_record(), 0..40)) {
        prop_assert_eq!(check_all(&assemble(&records)), Ok(()));
    }
}
