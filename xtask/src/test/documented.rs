//! Checks JSON against docs/schema with a validator that others use (py/documented.py).

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::{setup::python, workspace};

/// Checks lines of events, as `tail --format ndjson` prints them.
pub(super) fn check_lines(text: &str) -> Result<()> {
    let checked = check("event-1", "lines", text)?;
    let lines = text.lines().count();
    ensure!(checked == lines, "{checked} of {lines} lines were checked against docs/schema/event-1.json");
    Ok(())
}

/// Checks a document against a schema, given by its file name without extension.
pub(super) fn check_document(schema: &str, text: &str) -> Result<()> {
    check(schema, "document", text).map(|_one| ())
}

/// Name of a field that no schema has.
const UNKNOWN: &str = "undocumented";

/// Checks the checking itself with the first event of each kind in a good stream: an additional field, a missing one and one
/// of another type must each be refused for just that, in the event and in its data. Returns the number of refusals.
pub(super) fn check_refusals(stream: &str) -> Result<usize> {
    check_lines(stream)?;
    let (mut kinds, mut refusals) = (Vec::new(), 0);
    for line in stream.lines() {
        let event: Map<String, Value> = serde_json::from_str(line).context("a line is no JSON object")?;
        let kind = event.get("kind").cloned().context("an event without kind")?;
        if kinds.contains(&kind) {
            continue;
        }
        let data = event.get("data").and_then(Value::as_object).context("an event without data")?;
        // Those of the event itself are the same in all kinds.
        let outer = if kinds.is_empty() { wrong(&event, "comm") } else { Vec::new() };
        let first = data.keys().next().map_or(UNKNOWN, String::as_str);
        let inner = wrong(data, first).into_iter().map(|(why, data)| {
            let mut event = event.clone();
            event.insert("data".to_owned(), data.into());
            (why, event)
        });
        for (why, event) in outer.into_iter().chain(inner) {
            let text = format!("{}\n", Value::from(event));
            match check_lines(&text) {
                Ok(()) => bail!("{kind}: not refused, though it must be for: {why}\n{text}"),
                // An error of the checker is no refusal.
                Err(error) => ensure!(error.to_string().contains(&why), "{kind}: not for {why}: {error:#}"),
            }
            refusals += 1;
        }
        kinds.push(kind);
    }
    ensure!(kinds.len() > 2, "a stream without events: {kinds:?}");
    Ok(refusals)
}

/// Returns an object with a field too many, with `field` missing and with `field` of another type, each with the words of the
/// refusal. An object without fields can only have one too many.
fn wrong(good: &Map<String, Value>, field: &str) -> Vec<(String, Map<String, Value>)> {
    let mut more = good.clone();
    more.insert(UNKNOWN.to_owned(), json!(1));
    let mut all = vec![(format!("('{UNKNOWN}' was unexpected)"), more)];
    let mut less = good.clone();
    if let Some(value) = less.remove(field) {
        all.push((format!("\"{field}\" is a required property"), less));
        let bad = if value.is_object() { json!("") } else { json!({}) };
        let mut other = good.clone();
        other.insert(field.to_owned(), bad.clone());
        all.push((format!("/{field}: {bad} is not "), other));
    }
    all
}

/// Returns the number of things checked.
fn check(schema: &str, form: &str, text: &str) -> Result<usize> {
    let root = workspace::root();
    let mut python = Command::new(python::ready(&python::EXPORT)?)
        .arg("-I")
        .arg(root.join("xtask/src/test/py/documented.py"))
        .arg(root.join(format!("docs/schema/{schema}.json")))
        .arg(form)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start Python")?;
    let mut input = python.stdin.take().context("no standard input")?;
    // Beside the reading of its output: it may end early.
    let output = thread::scope(|scope| {
        scope.spawn(move || drop(input.write_all(text.as_bytes())));
        python.wait_with_output()
    })
    .context("cannot read what Python says")?;
    if !output.status.success() {
        bail!("docs/schema/{schema}.json: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().with_context(|| format!("the validator said {said:?}"))
}
