//! Every request from every state, cell by cell against the golden path table.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Case, Seen};
use crate::test::{
    guest::Left,
    paths::{Cell, STATES, Table},
    steps::within,
    traced::{Traced, data, text},
};

pub(super) fn check(left: &Left, case: &Case, _series: &str) -> Result<Seen> {
    let traced = left.traced("tail.ndjson")?;
    let steps = left.records(&format!("matrix.{}", case.mdev_type))?;
    let table = Table::of(case.flags)?;
    let flags = steps.iter().find(|step| text(step, "step") == Some("flags")).context("no flags")?;
    let flags = flags.pointer("/values/flags").and_then(Value::as_u64);
    ensure!(flags == Some(case.flags.into()), "it announces flags {flags:?} instead of {}", case.flags);
    let (mut equal, mut refused, mut wrong) = (0, 0, Vec::new());
    let mut before = None;
    for step in &steps {
        let told = |name| step.get("values").and_then(|values| text(values, name));
        if let (Some(from), Some(to)) = (told("from"), told("to")) {
            match (table.cell(from, to), compare(&traced, step, before, &table)) {
                (_, Err(error)) => wrong.push(format!("{from} to {to}: {error:#}")),
                (Some(_), Ok(())) if table.states.contains(&to) => equal += 1,
                (_, Ok(())) => refused += 1,
            }
        }
        before = Some(step);
    }
    let cells = table.cells().count();
    ensure!(wrong.is_empty(), "{equal} of {cells} cells equal; wrong:\n{}", wrong.join("\n"));
    // The refusals: every state but ERROR to every state, without the cells.
    let others = (STATES.len() - 1) * STATES.len() - cells;
    ensure!(
        equal == cells && refused == others,
        "{equal} of {cells} cells and {refused} of {others} refusals: some were not tried"
    );
    Ok(Seen::new(format!("{equal}/{cells}, {refused}/{others} refused"), equal + refused))
}

/// Compares one cell: the tracer's account of the request, user space's result, and the device's state afterwards.
fn compare(traced: &Traced, step: &Value, before: Option<&Value>, table: &Table) -> Result<()> {
    let values = step.get("values").context("a step without values")?;
    let from = text(values, "from").context("a cell without from")?;
    let to = text(values, "to").context("a cell without to")?;
    let Some(expected) = table.cell(from, to) else {
        return unreachable(traced, step, before, from);
    };
    let set = within(traced, step, "set_state");
    let [set] = set.as_slice() else { bail!("the trace has {} set_state events in its time", set.len()) };
    let got = path(&within(traced, step, "arc"), from, to)?;
    let (after, result) = (text(values, "state_after"), text(data(set), "errno"));
    ensure!(got == expected, "expected {}, got {}", show(&expected), show(&got));
    ensure!(result == text(step, "errno"), "set_state says {result:?}, user space {:?}", step.get("errno"));
    ensure!(text(data(set), "target") == Some(to), "set_state says target {:?}", data(set).get("target"));
    let (arcs, end, errno) = match &expected {
        Cell::Arcs(arcs) => (arcs.len(), to, None),
        Cell::Refused => (0, from, Some("EINVAL")),
    };
    ensure!(result == errno, "expected {}, got {result:?}", show(&expected));
    let counted = data(set).get("arcs").and_then(Value::as_u64);
    ensure!(counted == Some(arcs as u64), "set_state counts {counted:?} arcs instead of {arcs}");
    ensure!(after == Some(end), "the kernel says that it is in {after:?} now, instead of {end}");
    Ok(())
}

/// Checks a cell whose first state the device does not have: the request for it was refused, before the step.
fn unreachable(traced: &Traced, step: &Value, before: Option<&Value>, from: &str) -> Result<()> {
    ensure!(
        step.pointer("/values/from_reached") == Some(&Value::Bool(false)),
        "it was in {from}, which it does not have"
    );
    let mut between = step.clone();
    let start = before.and_then(|before| before.get("end_ns")).context("no step before it")?;
    if let Some(step) = between.as_object_mut() {
        step.insert("start_ns".to_owned(), start.clone());
    }
    let set = within(traced, &between, "set_state");
    let refused = set.iter().filter(|set| text(data(set), "target") == Some(from)).collect::<Vec<_>>();
    let [set] = refused.as_slice() else { bail!("{from} was asked for {} times", refused.len()) };
    ensure!(text(data(set), "errno") == Some("EINVAL"), "{from} was not refused: {}", data(set));
    let arcs = within(traced, &between, "arc");
    let arcs: Vec<&Value> = arcs.into_iter().filter(|arc| text(data(arc), "target") == Some(from)).collect();
    let state = arcs.first().and_then(|arc| text(data(arc), "from")).unwrap_or_default();
    let got = path(&arcs, state, from)?;
    ensure!(got == Cell::Refused, "{from} should be refused, got {}", show(&got));
    Ok(())
}

/// Returns the cell that a request's arcs make. Each arc must begin where the last one ended, the first in `from`.
fn path(arcs: &[&Value], from: &str, target: &str) -> Result<Cell> {
    let mut states: Vec<&'static str> = Vec::new();
    let mut at = from;
    for (number, arc) in (1..).zip(arcs) {
        let arc = data(arc);
        ensure!(text(arc, "target") == Some(target), "arc {number} has target {:?}", arc.get("target"));
        ensure!(text(arc, "from") == Some(at), "arc {number} begins in {:?}, not in {at}", arc.get("from"));
        match (text(arc, "result"), text(arc, "errno"), text(arc, "to")) {
            (Some("refused"), Some("EINVAL"), None) if arcs.len() == 1 => return Ok(Cell::Refused),
            (Some("ok"), None, Some(to)) => {
                at = to;
                states.push(STATES.into_iter().find(|state| *state == to).context("an arc to nowhere")?);
            },
            _ => bail!("arc {number} is {arc}"),
        }
    }
    Ok(Cell::Arcs(states))
}

fn show(cell: &Cell) -> String {
    match cell {
        Cell::Refused => "EINVAL".to_owned(),
        Cell::Arcs(arcs) if arcs.is_empty() => "no arc".to_owned(),
        Cell::Arcs(arcs) => arcs.join("→"),
    }
}
