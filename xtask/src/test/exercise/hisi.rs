//! All plans on hisi_acc_vfio_pci, whose defects are named by its plug-in.

use anyhow::{Context as _, Result, ensure};

use super::{EX, Found, Report, items, refused, text_of};
use crate::{
    setup::kernel::Driver,
    test::{guest::Left, hisi::boot},
};

/// Script for the `debug` file of a mounted tree: exit code 0 and 2, an unknown plan, a device that is held; and all of
/// it without --allow-exercise.
const TREE: &str = r#"
m=/run/mnt; mkdir -p $m; d=$m/vfio/$1/migration/hisi_acc/debug
up() {
    : >mount.err; vfio-trace mount "$@" $m 2>mount.err & pid=$!
    until grep -q 'mounted on' mount.err; do kill -0 $pid || exit 1; sleep 0.1; done
}
put() { echo $2 | tee $d >$1.out 2>$1.err; echo $? >$1.code; cat $d >$1.text; }
up; stat -c %a $d >mode.closed; cat /sys/kernel/debug/hisi_sim/$1/commands >before; put closed 0
cat /sys/kernel/debug/hisi_sim/$1/commands >after; sh -c "echo 0 >$m/vfio/$1/migration/state" 2>state.err
kill $pid; wait $pid
up --allow-exercise; stat -c %a $d >mode.open; put save 0; put io 2; put wrong 3
lab-step --device $1 get pause=/run/go >/dev/null & held=$!
until [ -e /run/go.paused ]; do kill -0 $held || exit 1; sleep 0.1; done
put held 1; : >/run/go; wait $held
kill $pid; wait $pid
"#;

fn debug_file(left: &Left) -> Result<()> {
    let said = |name: &str, file: &str| left.file(&format!("{name}.{file}"));
    for (name, code, error, text) in [
        ("closed", false, "Operation not permitted", "nothing was run"),
        ("save", true, "", "plan save: exit code 0\n"),
        ("io", true, "", "plan io-test: exit code 0\n"),
        ("wrong", false, "Invalid argument", "plan io-test: exit code 0\n"),
        ("held", false, "busy", "plan resume: exit code 3\n"),
    ] {
        let (ended, errors, file) = (said(name, "code")?, said(name, "err")?, said(name, "text")?);
        ensure!((ended.trim() == "0") == code && errors.contains(error), "debug, {name}: {ended}{errors}");
        ensure!(file.starts_with(text), "debug, {name}: {file}");
    }
    ensure!(said("save", "text")?.contains("verdict: passed"), "debug: {}", said("save", "text")?);
    ensure!(said("held", "text")?.contains("lab-step (process "), "debug: {}", said("held", "text")?);
    ensure!(left.file("before")? == left.file("after")?, "something was done without --allow-exercise");
    ensure!(
        left.file("state.err")?.contains("Read-only"),
        "state can be written: {}",
        left.file("state.err")?
    );
    let modes = (left.file("mode.closed")?, left.file("mode.open")?);
    ensure!(modes == ("444\n".to_owned(), "644\n".to_owned()), "modes are {modes:?}");
    Ok(())
}

pub(super) fn check(series: &str) -> Result<Found> {
    // A whole image needs a VF whose guest has loaded a driver: opening a VF resets it.
    let script = format!(
        "{EX}\
         set -- $LAB_ZIP\n\
         lab-hisi stop-copy >steps || {{ tail -1 steps >&2; exit 1; }}\n\
         ex all $1 --yes --plan all --to $2 --count 2\n\
         ex danger $1 --yes --plan faults\n\
         ex faults $2 --yes --plan resume,faults --in /run/hisi --force\n\
         echo cache-wb >/sys/kernel/debug/hisi_sim/$1/fault\n\
         ex paused $1 --yes --plan save\n\
         echo clear >/sys/kernel/debug/hisi_sim/$1/fault\n"
    );
    // One kernel is enough: 6.12 is the main target, and nothing in the tree depends on the kernel.
    let tree = series == "6.12";
    let script = if tree { [&script, TREE].concat() } else { script };
    let guest = boot(series, false, Driver::Hisi, &format!("exercise-hisi-{series}"), &script)?;
    let left = guest.left("");
    // The driver checks only the first image that it loads: on 7.3 since it was opened, on 6.12 since its module
    // was loaded.
    let old = series == "6.12";
    let all = Report::parse(&left, "all", 0)?;
    let verdicts = all.verdicts()?;
    for plan in ["io-test", "save", "precopy"] {
        ensure!(verdicts.get(plan) == Some(&"passed"), "{plan}: {verdicts:?}");
    }
    ensure!(verdicts.get("matrix") == Some(&"warned"), "matrix: {verdicts:?}");
    ensure!(verdicts.get("faults") == Some(&"skipped"), "faults were not left out: {verdicts:?}");
    let stages = all.list("stages")?;
    let io = stages.iter().find(|stage| text_of(stage, "plan") == "io-test").context("no io-test")?;
    let note = items(io, "steps").first().map(|step| text_of(step, "note")).unwrap_or_default();
    ensure!(note.starts_with("region 2 at 0x300: 0x0000"), "io-test: {note}");
    let mailbox = stages
        .iter()
        .flat_map(|stage| items(stage, "steps"))
        .flat_map(|step| items(step, "driver_steps"))
        .filter(|step| text_of(step, "name") == "stop queues")
        .count();
    ensure!(mailbox > 0, "no step of the driver was seen");
    refused(&left, "danger", 2, &["dangerous", "--force"])?;
    let faults = Report::parse(&left, "faults", 1)?;
    let found = faults.found("faults")?;
    let defect = if old { "hisi_acc/stale-match" } else { "hisi_acc/mismatch-loaded" };
    let (_, verdict, codes) =
        found.iter().find(|(name, ..)| *name == "wrong device").context("no wrong device")?;
    ensure!(*verdict == "failed" && codes.contains(&defect), "wrong device: {verdict}, {codes:?}");
    for (name, verdict, codes) in &found {
        let short = ["nothing written", "truncated to a half", "last byte missing"].contains(name);
        ensure!(
            !short || (*verdict != "failed" && codes.contains(&"hisi_acc/stream-truncated")),
            "{name}: {codes:?}"
        );
    }
    if tree {
        debug_file(&left)?;
    }
    let paused = Report::parse(&left, "paused", 1)?;
    let codes: Vec<&str> = paused.found("save")?.into_iter().flat_map(|(_, _, codes)| codes).collect();
    ensure!(
        ["hisi_acc/cache-writeback", "hisi_acc/queues-paused"].iter().all(|code| codes.contains(code)),
        "a stop that fails is explained by {codes:?}"
    );
    let end = paused.list("end")?.first().context("no end")?;
    Ok(Found::one(format!(
        "all plans, {} arcs, {mailbox} stops of queues seen; {defect}, paused queues named; left {}",
        all.arcs()? + faults.arcs()?,
        text_of(end, "state")
    )))
}
