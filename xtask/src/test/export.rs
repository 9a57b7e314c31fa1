//! `export`, read with other programs: Perfetto's own definitions, a JSON Schema validator, Python's csv; and each
//! format compared with the JSON document (py/exports.py). Perfetto's trace_processor is no part of it: its package for
//! Python has the definitions only, and downloads the program from elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{Check, Found, documented, guest::Lab, hisi, host::HOST_CRATES};
use crate::{
    cmd,
    setup::{kernel::Driver, python},
    workspace,
};

const TABLES: [&str; 15] = [
    "migrations",
    "downtime",
    "devices",
    "states",
    "arcs",
    "requests",
    "steps",
    "marks",
    "sessions",
    "parts",
    "samples",
    "dirty_logs",
    "failures",
    "findings",
    "warnings",
];

/// Part of every result, as a reminder of what was not tested.
const NOT_RUN: &str = "trace_processor NOT run: not in the package index";

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("export: every kind of thing", fixture),
        Check::new("export: kept recording", kept),
        Check::new("export: schemas", schemas),
        Check::new("export: recorded in the lab", recorded).alone(),
    ]
}

/// Makes an empty folder for files.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Exports recordings in all formats into a folder and reads them with other programs. Returns the text for the result.
pub(super) fn check(files: &[PathBuf], folder: &Path) -> Result<String> {
    empty(folder)?;
    export(files, folder)?;
    Ok(format!("{}; {NOT_RUN}", read(folder)?))
}

/// Reads the exports in a folder with other programs.
fn read(folder: &Path) -> Result<String> {
    let python = python::ready(&python::EXPORT)?;
    let root = workspace::root();
    let mut command = Command::new(python);
    command
        .arg("-I")
        .arg(root.join("xtask/src/test/py/exports.py"))
        .arg(root.join("docs/schema"))
        .arg(folder);
    cmd::stdout(&mut command).with_context(|| format!("exports in {}", folder.display()))
}

fn vfio_trace(arguments: &[&str], files: &[PathBuf]) -> Result<Vec<u8>> {
    let program = workspace::bin_dir()?.join("vfio-trace");
    let output = cmd::run(Command::new(program).args(arguments).args(files))?;
    Ok(output.stdout)
}

/// Exports recordings in all formats: some to standard output, some with `-o`. Both must write the same.
fn export(files: &[PathBuf], folder: &Path) -> Result<()> {
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    for (format, name) in
        [("json", "export.json"), ("chrome", "export.chrome.json"), ("perfetto", "export.perfetto")]
    {
        let bytes = vfio_trace(&["export", "--format", format], files)?;
        let path = folder.join(name);
        let name = path.to_str().context("the folder's name is not UTF-8")?;
        vfio_trace(&["export", "--format", format, "-o", name], files)?;
        ensure!(fs::read(&path)? == bytes, "-o {name} is not what standard output has");
    }
    for table in TABLES {
        let bytes = vfio_trace(&["export", "--format", "csv", "--table", table], files)?;
        put(&format!("export.{table}.csv"), &bytes)?;
    }
    let events = vfio_trace(&["export", "--format", "ndjson"], files)?;
    let replayed = vfio_trace(&["replay", "--format", "ndjson"], files)?;
    ensure!(events == replayed, "export --format ndjson has other bytes than replay");
    put("events.ndjson", &events)
}

/// Checks the document of the unit tests, which has more than any recording: two hosts, slices that overlap, unknown
/// values.
fn fixture(lab: &Lab) -> Result<Found> {
    let folder = lab.folder().join("export-fixture");
    empty(&folder)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "--lib"]).args(HOST_CRATES).current_dir(workspace::root());
    cargo.args(["--", "--ignored", "--exact", "output::export::tests::files_for_others"]);
    cmd::run(cargo.env("VFIO_TRACE_EXPORT_DIR", &folder))?;
    Ok(Found::one(format!("{}; {NOT_RUN}", read(&folder)?)))
}

/// Checks that the schemas refer to each other by names that validators find, and that what is not as they say is refused.
fn schemas(_lab: &Lab) -> Result<Found> {
    let python = python::ready(&python::EXPORT)?;
    let root = workspace::root();
    let events = root.join("vfio-trace/src/cli/replay/testdata/mtty-6.12-format-1.ndjson");
    let mut command = Command::new(python);
    command
        .arg("-I")
        .arg(root.join("xtask/src/test/py/schemas.py"))
        .arg(root.join("docs/schema"))
        .arg(&events);
    let said = cmd::stdout(&mut command)?;
    let stream = fs::read_to_string(&events).with_context(|| format!("cannot read {}", events.display()))?;
    let refused = documented::check_refusals(&stream)?;
    Ok(Found::one(format!("{}; {refused} wrong events refused", said.trim())))
}

fn kept(lab: &Lab) -> Result<Found> {
    let file = workspace::root().join("vfio-trace/src/cli/replay/testdata/mtty-6.12-format-1.vft");
    Ok(Found::one(check(&[file], &lab.folder().join("export-kept"))?))
}

/// Checks the recordings of one boot: migrations of VMs, one of which fails, and of a driver's devices with steps and
/// findings.
fn recorded(lab: &Lab) -> Result<Found> {
    let script = "modprobe mtty; vfio-trace record -o rec.vft -- sh -c '\
                    lab-hisi precopy sqc-read dev-id; lab-migrate --scenario ok; \
                    lab-migrate --scenario mismatch; lab-migrate --scenario cancel; true' >rec.out 2>rec.err; \
                  code=$?; chmod a+r rec.vft; ls -l >names; [ $code = 0 ]";
    let guest = hisi::boot("6.12", false, Driver::HisiNoinline, "export-recorded", script)?;
    let folder = lab.folder().join("export-lab");
    let said = check(&[guest.results.join("rec.vft")], &folder)?;
    let text = fs::read_to_string(folder.join("export.migrations.csv"))?;
    for verdict in ["completed", "failed", "cancelled"] {
        ensure!(text.contains(&format!(",{verdict},")), "no migration has {verdict}:\n{text}");
    }
    for table in ["steps", "findings", "failures", "samples"] {
        let rows = fs::read_to_string(folder.join(format!("export.{table}.csv")))?.lines().count();
        ensure!(rows > 1, "the table {table} is empty");
    }
    Ok(Found::one(said))
}
