//! Output files go only to allowed places and harm nothing that is there: written as root to every kind of file.

use anyhow::{Context as _, Result, ensure};

use super::{EX, Found, Report, ended, refused};
use crate::test::{compat::device, guest::Left};

/// Shell functions. `there NAME FILE` keeps the facts about a file: type, mode, owner, size, device number, and
/// contents.
/// `same NAME FILE` keeps whether they are the same.
const FACTS: &str = "
facts() { stat -c '%F %a %u:%g %s %t:%T %i' $1; [ ! -f $1 ] || cat $1; }
there() { facts $2 >$1.before; }
same() { facts $2 >$1.after; cmp -s $1.before $1.after; echo $? >$1.same; }
";

pub(super) fn script() -> String {
    let [quay, held, third] = [1, 2, 3].map(device);
    format!(
        r#"{EX}{FACTS}
        modprobe -a vfio_iommu_type1 quayside && mdevs quayside-full 1 3 || return 1
        at=/run/part
        arcs() {{ grep '^arcs ' /sys/bus/mdev/devices/{third}/quayside/where >>arcs; }}
        save() {{ name=$1; shift; ex $name {quay} --yes --plan save "$@"; }}
        # A run that must not begin: of a device that no other run touches.
        never() {{ name=$1; shift; ex $name {third} --yes --plan save "$@"; arcs; }}

        there null /dev/null; save null --out /dev/null; same null /dev/null
        there junit-null /dev/null; save junit-null --junit /dev/null; same junit-null /dev/null
        there full /dev/full; save full --out /dev/full; same full /dev/full
        save whole --out $at/image; facts $at/image | head -1 >whole.facts
        mktemp -p $at >mine; save mine --out $(cat mine); facts $(cat mine) | head -1 >mine.facts

        echo precious >$at/precious; ln -s precious $at/link; there link $at/precious
        never link --junit $at/link; never link-out --out $at/link --force; same link $at/precious
        there exists $at/precious; never exists --out $at/precious; never exists-junit --junit $at/precious; same exists $at/precious
        : >$at/empty; echo theirs >$at/theirs; chown 1234:1234 $at/empty $at/theirs; chmod 666 $at/empty $at/theirs
        there empty $at/empty; never empty --out $at/empty; never empty-junit --junit $at/empty; same empty $at/empty
        there theirs $at/theirs; never theirs --out $at/theirs; same theirs $at/theirs

        mkfifo $at/pipe
        vfio-trace exercise {quay} --yes --plan save --out $at/pipe --json >fifo.json 2>fifo.err & run=$!
        await opened sh -c '[ "$(ls -l /proc/'$run'/fd 2>/dev/null | grep -c "vfio/[0-9]")" -ge 1 ]' || return 1
        sleep 1; kill -INT $run; wait $run; echo $? >fifo.code
        vfio-trace list --json >fifo.list

        hold held --device {held} set=PRE_COPY pause=$at/go
        await hold [ -e $at/go.paused ] || return 1
        : >$at/waiting; there busy $at/waiting
        ex busy {held} --yes --plan save --out $at/waiting --junit $at/busy.xml; same busy $at/waiting
        ls $at/busy.xml >busy.made 2>&1
        : >$at/go; wait $held

        record() {{ name=$1; shift; vfio-trace record "$@" >$name.out 2>$name.err; echo $? >$name.code; }}
        there rec-empty $at/empty; record rec-empty -o $at/empty -- true; same rec-empty $at/empty
        mkdir $at/night; record night -o $at/night/night.vft --rotate 64K -- true
        record other -o $at/night/night.20261122.vft -- true
        there night $at/night/night.20261122.vft; stat -c %i $at/night/night.0001.vft >night.part
        record night-again -o $at/night/night.vft --rotate 64K --force -- true; same night $at/night/night.20261122.vft
        stat -c %i $at/night/night.0001.vft >>night.part
        record typo -o $at/typo.vft -- no-such-command; ls $at/typo.vft >typo.left 2>&1; record typo-again -o $at/typo.vft -- true

        over() {{ name=$1; shift; there $name $at/typo.vft; vfio-trace "$@" >$name.out 2>$name.err; echo $? >$name.code; same $name $at/typo.vft; }}
        ln $at/typo.vft $at/hard.vft; ln -s typo.vft $at/soft.vft
        over over-report report $at/typo.vft -o $at/typo.vft --force
        over over-export export $at/typo.vft --format json -o $at/typo.vft --force
        over over-hard export $at/typo.vft --format csv -o $at/hard.vft --force
        over over-soft report $at/soft.vft --html -o $at/typo.vft --force
        over over-link report $at/typo.vft --json -o $at/soft.vft --force

        quiet="lab-step --device {quay} set=STOP_COPY read-all set=RUNNING"
        vfio-trace tail -- sh -c "$quiet >/dev/null 2>&1; touch $at/tailed" >/dev/full 2>tail-full.err; echo $? >tail-full.code
        ls $at/tailed >tailed
        {{ vfio-trace tail -- sh -c "sleep 1; $quiet; $quiet" 2>tail-head.err; echo $? >tail-head.code; }} | head -n 1 >tail-head.out
        "#
    )
}

/// Checks that a file is as it was.
fn unchanged(left: &Left, name: &str) -> Result<()> {
    let same = left.file(&format!("{name}.same"))?;
    ensure!(
        same.trim() == "0",
        "{name}: before\n{}after\n{}",
        left.file(&format!("{name}.before"))?,
        left.file(&format!("{name}.after"))?
    );
    Ok(())
}

pub(super) fn check(left: &Left, _series: &str) -> Result<Found> {
    for name in ["null", "junit-null"] {
        Report::parse(left, name, 0)?.says(name, "save passed")?;
        unchanged(left, name)?;
        let before = left.file(&format!("{name}.before"))?;
        ensure!(before.starts_with("character special file 666 0:0"), "/dev/null was {before}");
    }
    // A full disk is no failure of the device: all its steps succeeded.
    refused(left, "full", 1, &["cannot write /dev/full", "No space left", "make room"])?;
    unchanged(left, "full")?;
    let full = left.json("full.json")?;
    let steps = full.pointer("/stages/0/steps").and_then(|steps| steps.as_array()).context("no steps")?;
    ensure!(
        steps.iter().all(|step| step.get("as_expected") == Some(&true.into())),
        "the device is blamed: {full}"
    );
    for name in ["whole", "mine"] {
        ended(left, name, 0)?;
        let facts = left.file(&format!("{name}.facts"))?;
        let [.., mode, owner, size, _, _] = facts.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{name}: {facts}")
        };
        ensure!(mode == "600" && owner == "0:0" && size != "0", "{name} is {facts}");
    }
    for (name, why) in [
        ("link", "symbolic link"),
        ("link-out", "symbolic link"),
        ("exists", "exists already"),
        ("exists-junit", "exists already"),
        ("empty", "another user"),
        ("empty-junit", "another user"),
        ("theirs", "exists already"),
    ] {
        refused(left, name, 2, &["cannot write ", why])?;
    }
    for name in ["link", "exists", "empty", "theirs", "busy", "rec-empty", "night"] {
        unchanged(left, name)?;
    }
    // The driver's own count of arcs.
    let arcs = left.file("arcs")?;
    ensure!(
        !arcs.is_empty() && arcs.lines().all(|line| line == "arcs 0"),
        "a device was driven all the same: {arcs}"
    );
    refused(left, "fifo", 1, &["nobody reads that pipe yet"])?;
    let list = left.json("fifo.list")?;
    let rows = list.get("devices").and_then(|rows| rows.as_array()).context("no devices")?;
    ensure!(rows.iter().all(|row| row.get("open_count") == Some(&0.into())), "a device is open: {list}");
    refused(left, "busy", 3, &["is in use"])?;
    ensure!(
        left.file("busy.made")?.contains("No such file"),
        "--junit was made: {}",
        left.file("busy.made")?
    );
    recordings(left)?;
    refused(left, "tail-full", 1, &["cannot write standard output", "No space left", "make room"])?;
    ensure!(left.file("tailed")?.contains("tailed"), "the traced command did not go on");
    ensure!(left.file("tail-full.err")?.matches("error:").count() == 1, "{}", left.file("tail-full.err")?);
    ended(left, "tail-head", 0)?;
    let (said, out) = (left.file("tail-head.err")?, left.file("tail-head.out")?);
    ensure!(out.starts_with("TIME") && !said.contains("lost") && !said.contains("error"), "{out}{said}");
    Ok(Found::one(
        "--out and --junit onto devices, a full one, links, files of others, a FIFO and a busy device's; record, report, export \
         and tail the same",
    ))
}

fn recordings(left: &Left) -> Result<()> {
    refused(left, "rec-empty", 1, &["another user"])?;
    ended(left, "night", 0)?;
    ended(left, "night-again", 0)?;
    let account = left.file("night.err")?;
    ensure!(account.lines().count() > 3 && !account.contains("\\n"), "the account is no table: {account}");
    let parts = left.file("night.part")?;
    let mut inodes = parts.lines();
    ensure!(inodes.next() != inodes.next(), "the older part was not replaced: {parts}");
    ensure!(left.file("typo.code")?.trim() != "0", "a command that is not there was started");
    ensure!(left.file("typo.left")?.contains("No such file"), "a file was left: {}", left.file("typo.left")?);
    ended(left, "typo-again", 0)?;
    for name in ["over-report", "over-export", "over-hard", "over-soft"] {
        refused(left, name, 1, &["it is what is read"])?;
        unchanged(left, name)?;
    }
    refused(left, "over-link", 1, &["cannot write "])?;
    unchanged(left, "over-link")
}
