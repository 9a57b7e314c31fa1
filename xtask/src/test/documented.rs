//! Checks JSON against docs/schema with a validator that others use (py/documented.py).

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};

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
