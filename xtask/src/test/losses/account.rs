//! Two accounts of the same calls: the driver's own, and the tracer's.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::{
    guest::Left,
    traced::{Traced, data, text},
};

/// Calls by the driver's own count, while it was traced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    pub(super) read: u64,
    /// Those of them that were around another one.
    pub(super) nests: u64,
    pub(super) set_state: u64,
    get_state: u64,
    data_size: u64,
    next_state: u64,
}

impl Called {
    /// From what the driver said before and after.
    pub(super) fn between(left: &Left, name: &str) -> Result<Self> {
        let [before, after] =
            [counts(left, &format!("{name}.before"))?, counts(left, &format!("{name}.after"))?];
        let more = |names: &[&str]| {
            names.iter().try_fold(0, |sum, name| {
                let (before, after) =
                    before.get(*name).zip(after.get(*name)).with_context(|| format!("no {name}"))?;
                anyhow::Ok(sum + after.checked_sub(*before).context("a count went down")?)
            })
        };
        let called = Self {
            read: more(&["unloads", "unload_errors", "nests"])?,
            nests: more(&["nests"])?,
            set_state: more(&["shifts", "shift_errors"])?,
            get_state: more(&["glances"])?,
            data_size: more(&["tonnages"])?,
            next_state: more(&["arcs", "arc_errors"])?,
        };
        ensure!(called.set_state > 0 && called.read > 0, "nothing was done: {called:?}");
        Ok(called)
    }

    /// By what the tracer calls them. Each call of the driver's operations came through one ioctl.
    pub(super) fn by_role(&self) -> [(&'static str, u64); 6] {
        [
            ("read", self.read),
            ("set_state", self.set_state),
            ("get_state", self.get_state),
            ("data_size", self.data_size),
            ("next_state", self.next_state),
            ("device_ioctl", self.set_state + self.get_state + self.data_size),
        ]
    }
}

/// quayside's `where`, its counters by name.
fn counts(left: &Left, name: &str) -> Result<BTreeMap<String, u64>> {
    let text = left.file(name)?;
    let counts = text.lines().filter_map(|line| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    Ok(counts.collect())
}

/// A tracer's counts for one kind of function.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfRole {
    /// Events that rely on a call of it having been seen.
    pub(super) seen: u64,
    pub(super) lost: u64,
    pub(super) missed: Option<u64>,
    pub(super) unmatched: u64,
    pub(super) no_room: u64,
}

/// A tracer's account.
#[derive(Debug)]
pub(super) struct Account {
    roles: BTreeMap<String, OfRole>,
    pub(super) lost: u64,
    pub(super) records: u64,
}

impl Account {
    /// Of a whole stream; its sums must be those of its probes.
    pub(super) fn of(traced: &Traced) -> Result<Self> {
        let mut roles: BTreeMap<String, OfRole> = BTreeMap::new();
        let probes = traced.summary.get("probes").and_then(Value::as_array).context("no probes")?;
        let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
        let (mut lost, mut records, mut unmatched) = (0, 0, 0);
        for probe in probes {
            let role = text(probe, "role").context("a probe without a role")?;
            let attached = probe.get("attached") == Some(&Value::Bool(true));
            let none = OfRole { missed: Some(0), ..OfRole::default() };
            let one = roles.entry(role.to_owned()).or_insert(none);
            one.lost += number(probe, "lost").context("lost")?;
            one.unmatched += number(probe, "unmatched").context("unmatched")?;
            one.no_room += number(probe, "no_room").unwrap_or(0);
            if attached {
                one.missed = one.missed.zip(number(probe, "missed")).map(|(sum, missed)| sum + missed);
            }
            lost += number(probe, "lost").context("lost")?;
            unmatched += number(probe, "unmatched").context("unmatched")?;
            records += number(probe, "records").context("records")?;
        }
        for (name, sum) in [("lost", lost), ("unmatched", unmatched)] {
            let told = number(&traced.summary, name);
            ensure!(told == Some(sum), "the summary counts {told:?} {name}, its probes {sum}");
        }
        let mut account = Self { roles, lost, records };
        for event in &traced.events {
            account.count(event);
        }
        Ok(account)
    }

    fn count(&mut self, event: &Value) {
        let mut seen = |role: &str| self.roles.entry(role.to_owned()).or_default().seen += 1;
        let data = data(event);
        match text(event, "kind") {
            Some("read") => seen("read"),
            Some("arc") => seen("next_state"),
            Some("feature" | "reset") => seen("device_ioctl"),
            Some(kind @ ("set_state" | "get_state" | "data_size")) => {
                if data.get("driver_call").is_some_and(|call| !call.is_null()) {
                    seen(kind);
                }
                if text(data, "via") == Some("ioctl") {
                    seen("device_ioctl");
                }
            },
            _ => {},
        }
    }

    /// Of one kind of function.
    pub(super) fn role(&self, role: &str) -> OfRole {
        self.roles.get(role).copied().unwrap_or_default()
    }
}
