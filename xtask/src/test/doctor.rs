//! `doctor`, in the lab and on this machine: its text, its JSON, its exit code and the behaviour of `tail` must agree.

use std::{collections::BTreeSet, fmt::Write as _, process::Command, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    Check, Found,
    boot::Boot,
    compat::{cases, device},
    documented,
    guest::Left,
    traced::{Traced, text},
};
use crate::{build, workspace};

/// Part of the lab's script for `doctor`.
pub(super) const PART: &str = "doctor";

/// Capabilities that a process keeps, and those that `doctor` must then call missing: exactly these.
const PRIVILEGES: [(&str, &str, &[&str]); 5] = [
    ("none", "", &["CAP_BPF", "CAP_PERFMON"]),
    ("perfmon", "perfmon", &["CAP_BPF"]),
    ("bpf", "bpf", &["CAP_PERFMON"]),
    // Debian's kernels require CAP_SYS_ADMIN as long as perf_event_paranoid is 3.
    ("paranoid", "bpf perfmon", &["CAP_SYS_ADMIN"]),
    ("enough", "bpf perfmon", &[]),
];

/// Kernel on which `doctor` is also run with fewer capabilities: its answer about them does not depend on the kernel.
const UNPRIVILEGED_ON: &str = "6.12";

fn privilege_sets(series: &str) -> &'static [(&'static str, &'static str, &'static [&'static str])] {
    if series == UNPRIVILEGED_ON { &PRIVILEGES } else { &[] }
}

pub(super) fn script(series: &str) -> Result<String> {
    let mut script = "keep() { name=$1; shift; \"$@\" >$name 2>$name.err; echo $? >$name.code; }\n\
         modprobe mtty && modprobe quayside && mdevs mtty-2 1 1 && mdevs quayside-full 2 2 && \
         mdevs quayside-none 3 3 || return 1\n\
         keep text vfio-trace doctor\n\
         keep json vfio-trace doctor --json\n\
         keep tail vfio-trace tail --format ndjson --duration 100ms\n"
        .to_owned();
    for (name, caps, _) in privilege_sets(series) {
        if *name == "enough" {
            script += "sysctl -qw kernel.perf_event_paranoid=2\n";
        }
        let list: Vec<String> = caps.split_whitespace().map(|cap| format!("+{cap}")).collect();
        let list = list.join(",");
        let caps =
            if list.is_empty() { String::new() } else { format!("--inh-caps {list} --ambient-caps {list}") };
        let unprivileged = format!("setpriv --reuid 1000 --regid 1000 --clear-groups {caps} vfio-trace");
        writeln!(
            script,
            "keep {name}.json {unprivileged} doctor --json\nkeep {name}.tail {unprivileged} tail --duration 100ms"
        )?;
    }
    Ok(script)
}

/// Returns the check on a kernel of the lab.
pub(super) fn check(boot: Arc<Boot>) -> Check {
    let wanted = Arc::clone(&boot);
    let run = move |_: &_| {
        let left = boot.part(PART)?;
        in_the_lab(&left, boot.series)
    };
    Check::new(format!("doctor: {}", wanted.series), run).wanting(move || wanted.want(PART))
}

pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("doctor: this machine", |_| on_this_machine())]
}

fn code(left: &Left, name: &str) -> Result<i32> {
    left.file(&format!("{name}.code"))?.trim().parse().context("an exit code is a number")
}

fn in_the_lab(left: &Left, series: &str) -> Result<Found> {
    let report = left.file("json")?;
    let document = one_story(&report, code(left, "json")?)?;
    same_text(&document, &left.file("text")?)?;
    ensure!(code(left, "text")? == code(left, "json")?, "text and JSON have different exit codes");
    ensure!(text(&document, "verdict") == Some("ready"), "it says {:?}", document.get("verdict"));
    let probes = as_attached(&document, &left.traced("tail")?)?;
    let all = cases(series);
    for (number, mdev_type) in [(1, "mtty-2"), (2, "quayside-full"), (3, "quayside-none")] {
        let case = all.iter().find(|case| case.mdev_type == mdev_type).context("no such case")?;
        let expected = if case.flags == 0 { "missing" } else { "ok" };
        let found = status(&document, "device-migration", &device(number))?;
        ensure!(found == expected, "{mdev_type}: device-migration is {found}, not {expected}");
    }
    for driver in ["mtty", "quayside"] {
        let found = status(&document, "migration-driver", driver)?;
        ensure!(found == "ok", "{driver} is {found}");
    }
    let sets = privilege_sets(series);
    for (name, _, missing) in sets {
        privileges(left, name, missing).with_context(|| format!("with capabilities: {name}"))?;
    }
    let mut detail = format!("text, JSON and schema agree; {probes} probes as tail attached them");
    if !sets.is_empty() {
        write!(detail, "; {} sets of capabilities", sets.len())?;
    }
    Ok(Found { detail, tests: (probes + sets.len() + 3) as u64 })
}

/// Checks that exactly the withheld capabilities are called missing, and that `tail` then ends as `doctor` said.
fn privileges(left: &Left, name: &str, missing: &[&str]) -> Result<()> {
    let document = one_story(&left.file(&format!("{name}.json"))?, code(left, &format!("{name}.json"))?)?;
    let named: BTreeSet<&str> = findings(&document)?
        .iter()
        .filter(|finding| text(finding, "blocks") == Some("permission"))
        .filter_map(|finding| text(finding, "subject"))
        .collect();
    ensure!(named == missing.iter().copied().collect(), "it calls {named:?} missing instead of {missing:?}");
    let expected = if missing.is_empty() { 0 } else { 3 };
    let (doctor, tail) = (code(left, &format!("{name}.json"))?, code(left, &format!("{name}.tail"))?);
    ensure!(doctor == expected && tail == expected, "doctor exits with {doctor}, tail with {tail}");
    let said = left.file(&format!("{name}.tail.err"))?;
    for cap in missing {
        ensure!(said.contains(cap), "tail does not name {cap}:\n{said}");
    }
    Ok(())
}

/// Checks `doctor` on this machine, without a lab: its outputs must agree with each other.
fn on_this_machine() -> Result<Found> {
    build::binaries()?;
    let binary = workspace::target_dir()?.join("release/vfio-trace");
    let run = |arguments: &[&str]| -> Result<(String, i32)> {
        let output = Command::new(&binary).args(arguments).output().context("cannot start vfio-trace")?;
        let code = output.status.code().context("it was killed")?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), code))
    };
    let (report, exit) = run(&["doctor", "--json"])?;
    let document = one_story(&report, exit)?;
    let (printed, text_exit) = run(&["doctor"])?;
    ensure!(text_exit == exit, "text exits with {text_exit}, JSON with {exit}");
    same_text(&document, &printed)?;
    let (stream, tail_exit) = run(&["tail", "--format", "ndjson", "--duration", "100ms"])?;
    let verdict = text(&document, "verdict").unwrap_or_default();
    // A device that cannot migrate does not prevent tracing.
    let expected = if verdict == "no_device_migrates" { 0 } else { exit };
    ensure!(tail_exit == expected, "doctor says {verdict}, and tail exits with {tail_exit}");
    let probes = if tail_exit == 0 { as_attached(&document, &Traced::parse(&stream)?)? } else { 0 };
    let count = findings(&document)?.len();
    Ok(Found::one(format!(
        "{verdict}, exit code {exit}, also of tail; {count} findings as text and JSON, {probes} probes as attached"
    )))
}

fn findings(document: &Value) -> Result<&Vec<Value>> {
    document.get("findings").and_then(Value::as_array).context("no findings")
}

fn status<'d>(document: &'d Value, id: &str, subject: &str) -> Result<&'d str> {
    let is = |finding: &&Value| text(finding, "id") == Some(id) && text(finding, "subject") == Some(subject);
    let found = findings(document)?.iter().find(is);
    found.and_then(|finding| text(finding, "status")).with_context(|| format!("no {id} of {subject}"))
}

/// Checks that the document is as its schema says, and that verdict, exit code and findings agree.
fn one_story(report: &str, exit: i32) -> Result<Value> {
    let document: Value = serde_json::from_str(report).context("the report is not JSON")?;
    documented::check_document("doctor-1", report)?;
    let claimed = document.get("exit_code").and_then(Value::as_i64);
    ensure!(claimed == Some(exit.into()), "exit_code is {claimed:?}, it exits with {exit}");
    let findings = findings(&document)?;
    let blocked = |by: &str| findings.iter().any(|finding| text(finding, "blocks") == Some(by));
    let hopeless = |finding: &&Value| text(finding, "id") == Some("device-migration");
    let (devices, without) = (
        findings.iter().filter(hopeless).count(),
        findings.iter().filter(hopeless).filter(|finding| text(finding, "status") == Some("missing")).count(),
    );
    let expected = if blocked("support") {
        ("not_supported", 4)
    } else if blocked("permission") {
        ("not_permitted", 3)
    } else if devices > 0 && devices == without {
        ("no_device_migrates", 1)
    } else {
        ("ready", 0)
    };
    ensure!(
        (text(&document, "verdict"), exit) == (Some(expected.0), expected.1),
        "verdict {:?} with exit code {exit}; by its findings it is {expected:?}",
        document.get("verdict")
    );
    for finding in findings {
        let fine = text(finding, "status") == Some("ok");
        let harm = ["costs", "do", "blocks"].into_iter().find(|name| text(finding, name).is_some());
        ensure!(!fine || harm.is_none(), "a finding is ok and has {harm:?}: {finding}");
    }
    Ok(document)
}

/// Checks that the text has every finding with its status, in the same order, and the right numbers in its last line.
fn same_text(document: &Value, printed: &str) -> Result<()> {
    let mut lines = printed.lines();
    let mut counts = ["ok", "degraded", "missing", "unknown"].map(|status| (status, 0));
    for finding in findings(document)? {
        let field = |name| text(finding, name).unwrap_or_default();
        let (status, subject) = (field("status"), field("subject"));
        let begins = format!("  {status:<8}  {subject}");
        ensure!(lines.any(|line| line.starts_with(&begins)), "the text has no line \"{begins}\" there");
        for (name, count) in &mut counts {
            *count += i32::from(*name == status);
        }
    }
    let last = printed.lines().last().unwrap_or_default();
    let counts = counts.map(|(status, count)| format!("{count} {status}")).join(", ");
    ensure!(last.ends_with(&counts), "the text ends with \"{last}\" instead of \"{counts}\"");
    Ok(())
}

/// Checks that a probe is called ok if and only if `tail` really attached it, and that both know the same probes.
fn as_attached(document: &Value, tail: &Traced) -> Result<usize> {
    let probes = tail.start.get("probes").and_then(Value::as_array).context("tail names no probes")?;
    let mut known = BTreeSet::new();
    for probe in probes {
        let (Some(name), Some(role)) = (text(probe, "name"), text(probe, "role")) else {
            bail!("a probe without name or role: {probe}");
        };
        let id = format!("probe-{}", role.replace('_', "-"));
        let subject =
            text(probe, "module").map_or_else(|| name.to_owned(), |module| format!("{module}:{name}"));
        let said = status(document, &id, &subject)?;
        let attached = probe.get("attached") == Some(&Value::Bool(true));
        ensure!((said == "ok") == attached, "{subject}: doctor says {said}, tail attached it: {attached}");
        known.insert((id, subject));
    }
    for finding in findings(document)? {
        let (id, subject) = (text(finding, "id").unwrap_or_default(), text(finding, "subject"));
        // The inventory is an iterator, not a function.
        if id.starts_with("probe-") && id != "probe-inventory" {
            let key = (id.to_owned(), subject.unwrap_or_default().to_owned());
            ensure!(known.contains(&key), "doctor knows {key:?}, tail does not");
        }
    }
    Ok(known.len())
}
