//! `mount`: the tree against `show`, the kernel's own debugfs, and the expectations of everyday programs.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found, any_kernel,
    boot::{Boot, Part},
    guest::{Guest, Lab, Left},
    traced::text,
};
use crate::lab::{self, guest::Extras};

const DEVICES: [&str; 3] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "33333333-3333-3333-3333-333333333333",
];

/// In a folder of its own: `up ARGS` mounts and waits for it, `held N` waits for lab-step's Nth line, `gone` for the
/// mount's end; `code NAME COMMAND…` keeps a command's exit code and streams.
const PRELUDE: &str = r#"
home=$PWD; m=/run/mnt; mkdir -p $m
first=11111111-1111-1111-1111-111111111111
die() { echo "$*" >&2; cat mount.err step >&2; exit 1; }
code() { name=$1; shift; "$@" >$name.out 2>$name.err; echo $? >$name.code; }
serving() { until grep -q 'mounted on' mount.err; do kill -0 $pid || die no mount; sleep 0.1; done; }
up() { : >mount.err; vfio-trace mount "$@" $m 2>mount.err & pid=$!; serving; }
held() {
    until [ "$(cat held 2>/dev/null | wc -l)" -ge $1 ]; do
        kill -0 $step 2>/dev/null || die lab-step ended; sleep 0.05
    done
}
gone() { for i in $(seq 50); do grep -q " $m " /proc/mounts || return 0; sleep 0.1; done; die still mounted; }
"#;

/// A check, its part of the boot, about how long that takes, and what judges it.
type MountCheck = (&'static str, &'static str, u32, fn(&Left) -> Result<Found>);

const SHARED: [MountCheck; 4] = [
    ("mount: files", "files", 80, files),
    ("mount: live", "live", 40, live),
    ("mount: ends", "ends", 85, ends),
    ("mount: users", "users", 70, users),
];

pub(super) fn checks() -> Vec<Check> {
    let part = |name, script| Part { name, script };
    let parts = vec![
        // First, while nothing is loaded.
        part("live", |_| Ok(shared(LIVE))),
        part("files", |_| Ok(shared(&files_script()))),
        part("ends", |_| Ok(shared(ENDS))),
        // Last: it lowers perf_event_paranoid, and opens /dev/fuse to all.
        part("users", |_| Ok(shared(USERS))),
    ];
    let boot = Boot::new(any_kernel(), false, parts);
    let check = |(name, part, seconds, judge): MountCheck| {
        let (wanted, boot) = (Arc::clone(&boot), Arc::clone(&boot));
        Check::new(name, move |_| judge(&boot.part(part)?))
            .lasting(seconds)
            .wanting(move || wanted.want(part))
    };
    let mut checks = Vec::from(SHARED.map(check));
    checks.push(Check::new("mount: as debugfs on 7.3", |_| debugfs("7.3")));
    checks.push(Check::new("mount: on 6.1", |_| old("6.1")));
    checks
}

/// A part of the boot. However its script ends, nothing of it is left, nor a driver: each more that there is to probe
/// makes every start of the next part's longer.
fn shared(script: &str) -> String {
    format!(
        "{PRELUDE}
        ( {script} )
        ended=$?; pkill -KILL -x vfio-trace; pkill -KILL -x lab-step
        umount -alt fuse.vfio-trace; while mountpoint -q $m; do umount -l $m || return 1; done
        unmake && modprobe -r quayside mtty && return $ended
        "
    )
}

/// A script with a boot of its own.
fn run(lab: &Lab, name: &str, script: &str) -> Result<Guest> {
    lab.run(name, &format!("cd $LAB_RESULTS || exit 1; {PRELUDE}{script}"))
}

fn code(left: &Left, name: &str, expected: i32, words: &[&str]) -> Result<()> {
    let code = left.file(&format!("{name}.code"))?;
    let said = left.file(&format!("{name}.err"))?;
    ensure!(
        code.trim() == expected.to_string(),
        "{name} exited with {} instead of {expected}: {said}",
        code.trim()
    );
    for word in words {
        ensure!(said.contains(word), "{name} does not say {word:?}:\n{said}");
    }
    Ok(())
}

/// Actions of quayside's first device, each with the state after it.
const WALK: [(&str, &str); 11] = [
    ("set=RUNNING_P2P", "RUNNING_P2P"),
    ("set=STOP", "STOP"),
    ("set=STOP_COPY", "STOP_COPY"),
    ("reset", "RUNNING"),
    ("set=PRE_COPY", "PRE_COPY"),
    ("set=PRE_COPY_P2P", "PRE_COPY_P2P"),
    ("reset", "RUNNING"),
    ("set=RESUMING", "RESUMING"),
    ("reset", "RUNNING"),
    ("set=STOP!EIO", "RUNNING_P2P"),
    ("set=RUNNING", "RUNNING"),
];

fn files_script() -> String {
    let steps = WALK.map(|(step, _)| format!("{step} sleep=1500")).join(" ");
    let steps = steps.replace("set=STOP!EIO", "knob=fail:'RUNNING_P2P STOP EIO' set=STOP!EIO");
    format!(
        r#"
        modprobe -a quayside mtty || exit 1
        up
        lab-step --json held --create quayside-full --create quayside-none --create mtty-2 3:set=STOP {steps} \
            1:set=STOP sleep=90000 >step 2>&1 & step=$!
        f=$m/vfio/$first/migration/state
        i=0; lines=5
        while [ $i -lt {walk} ]; do
            [ $i -ne 9 ] || lines=$((lines + 1))
            # Held within its sleep for as long as it takes to look.
            held $lines; kill -STOP $step
            cat $f >cat.$i || die cat; stat -c %s $f >size.$i; vfio-trace show $first state >show.$i || die show
            [ "$(wc -l <held)" -eq $lines ] || die "looked too late at step $i"
            kill -CONT $step
            i=$((i + 1)); lines=$((lines + 2))
        done
        held $lines
        find $m -printf '%P %y %n %m\n' | sort >find; find $m -printf '%i %p\n' | sort >inodes.1
        grep -r 'STOP' $m >grep.1; grep -rl p2p $m >grep.2
        for file in $(find $m -type f); do
            cp $file copy || die cp; cp --sparse=never -p $file copy.p || die cp -p; cmp $file copy || die cmp
            tail=$(tail -c 4 $file | od -c) ; [ "$tail" = "$(tail -c 4 copy | od -c)" ] || die tail $file
            echo "$(stat -c %s $file) $(cat $file | wc -c) $(wc -c <$file) $(stat -c %s copy) $(du -b $file | cut -f1) $file"
            [ $(stat -c %Y $file) = $(stat -c %Y copy.p) ] || die mtime $file
        done >sizes
        cp -r $m/vfio tree; find $m -printf '%i %p\n' | sort >inodes.2
        for file in $(find tree -name timeline.json); do python3 -m json.tool $file >/dev/null || die json $file; done
        kill -KILL $step; wait $step
        for n in 1 3; do
            device=$(echo $first | tr 1 $n)
            cat $m/vfio/$device/migration/state >closed.$n.cat; vfio-trace show $device state >closed.$n.show
        done
        for device in $(ls $m/vfio); do
            echo 1 >/sys/bus/mdev/devices/$device/remove || die remove
            [ ! -e $m/vfio/$device ] || die $device is still there
        done
        [ -z "$(ls $m/vfio)" ] || die not empty
        echo $first >/sys/class/mdev_bus/quayside/mdev_supported_types/quayside-full/create || die create
        cat $m/vfio/$first/migration/state >new || die not there at once
        cp $m/vfio/$first/timeline.json again.json
        find $m -printf '%i %p\n' | sort >inodes.3
        kill $pid; wait $pid || die exit code $?
        "#,
        walk = WALK.len()
    )
}

/// Every state, and every file, by the programs that people use.
fn files(left: &Left) -> Result<Found> {
    for (i, (step, state)) in WALK.iter().enumerate() {
        let [cat, show, size] = ["cat", "show", "size"].map(|name| left.file(&format!("{name}.{i}")));
        let (cat, show) = (cat?, show?);
        ensure!(
            cat == show && cat == format!("{state}\n"),
            "after {step} (step {i}) the file says {cat:?}, `show` {show:?}"
        );
        ensure!(size?.trim() == cat.len().to_string(), "after {step} the size is wrong");
    }
    let found = left.file("find")?;
    let expected = tree();
    ensure!(found == expected, "the tree is\n{found}instead of\n{expected}");
    let sizes = left.file("sizes")?;
    for line in sizes.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        ensure!(
            fields.len() == 6 && fields[..5].iter().all(|size| *size == fields[0]),
            "sizes differ: {line}"
        );
    }
    ensure!(
        left.file("grep.1")?.contains(&format!("{}/migration/state:STOP\n", DEVICES[2])),
        "grep -r finds no state"
    );
    ensure!(left.file("grep.2")?.lines().count() >= 2, "grep -r finds no features");
    ensure!(left.file("inodes.1")? == left.file("inodes.2")?, "inode numbers are not stable");
    let first: Vec<String> = left.file("inodes.1")?.lines().map(str::to_owned).collect();
    let again = left.file("inodes.3")?;
    ensure!(
        again.lines().all(|line| first.iter().any(|known| known == line)),
        "a device that came again has other inodes:\n{again}"
    );
    for (n, state) in [(1, "RUNNING\n"), (3, "STOP\n")] {
        let [cat, show] = ["cat", "show"].map(|name| left.file(&format!("closed.{n}.{name}")));
        let (cat, show) = (cat?, show?);
        ensure!(
            cat == show && cat == state,
            "after its last close {n} is {cat:?} in the tree, {show:?} by `show`"
        );
    }
    ensure!(left.file("new")? == "RUNNING\n", "a new device is {:?}", left.file("new")?);
    let events = timeline(left)?;
    Ok(Found {
        detail: format!("{} states equal, {} files, {events} events", WALK.len() + 2, sizes.lines().count()),
        tests: 1,
    })
}

/// `find -printf '%P %y %n %m'` of all three devices.
fn tree() -> String {
    let mut lines = vec![" d 3 555".to_owned(), "vfio d 5 555".to_owned()];
    for (device, migrates) in DEVICES.iter().zip([true, false, true]) {
        lines.push(format!("vfio/{device} d {} 555", if migrates { 3 } else { 2 }));
        if migrates {
            lines.push(format!("vfio/{device}/migration d 2 555"));
            lines.push(format!("vfio/{device}/migration/features f 1 444"));
            lines.push(format!("vfio/{device}/migration/state f 1 444"));
        }
        lines.push(format!("vfio/{device}/timeline.json f 1 444"));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The arcs of the first device, in its timeline.
fn timeline(left: &Left) -> Result<usize> {
    let document: Value = serde_json::from_str(&left.file(&format!("tree/{}/timeline.json", DEVICES[0]))?)
        .context("timeline.json")?;
    ensure!(text(&document, "schema") == Some("vfio-trace.timeline/1"), "timeline.json has another schema");
    ensure!(text(&document, "driver") == Some("quayside"), "driver {:?}", document.get("driver"));
    for field in ["dropped", "lost", "undecoded"] {
        ensure!(document.get(field).and_then(Value::as_u64) == Some(0), "{field}: {:?}", document.get(field));
    }
    let events = document.get("events").and_then(Value::as_array).context("no events")?;
    let count = |kind: &str| events.iter().filter(|event| text(event, "kind") == Some(kind)).count();
    // To RUNNING_P2P, STOP, STOP_COPY: 1 each; PRE_COPY and PRE_COPY_P2P: 1 each; RESUMING: 3; STOP that fails: 2;
    // RUNNING: 1; STOP: 2.
    ensure!(
        (count("arc"), count("reset"), count("set_state")) == (13, 3, 9),
        "{} arcs, {} resets, {} requests",
        count("arc"),
        count("reset"),
        count("set_state")
    );
    ensure!(
        count("desync") == 0,
        "the timeline has desyncs: {:?}",
        events.iter().find(|event| text(event, "kind") == Some("desync"))
    );
    let again: Value = serde_json::from_str(&left.file("again.json")?).context("again.json")?;
    let more = again.get("events").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(more > events.len(), "the timeline of a device that came again does not go on");
    Ok(events.len())
}

/// `diff -r` with the kernel's own tree.
fn debugfs(series: &str) -> Result<Found> {
    let extras = Extras { debugfs: true, driver: None };
    let lab = Lab::with(lab::ready(series, false)?, extras)?;
    let script = r"
        modprobe -a quayside mtty || exit 1
        up
        lab-step --json held --create quayside-full --create quayside-none --create mtty-2 --create quayside-full \
            set=STOP_COPY 3:set=RESUMING 4:set=PRE_COPY sleep=90000 >step 2>&1 & step=$!
        held 7
        code diff diff -r -x timeline.json /sys/kernel/debug/vfio $m/vfio
        find /sys/kernel/debug/vfio -type f | wc -l >count
        kill -KILL $step; kill $pid; wait $pid || die exit code $?
    ";
    let guest = run(&lab, &format!("mount-debugfs-{series}"), script)?;
    ensure!(guest.file("diff.code")?.trim() == "0", "the trees differ:\n{}", guest.file("diff.out")?);
    ensure!(guest.file("count")?.trim() == "6", "debugfs has {} files", guest.file("count")?.trim());
    Ok(Found::one("diff -r with /sys/kernel/debug/vfio: 6 files, 4 devices, no difference"))
}

const LIVE: &str = r#"
    up --verbose --events 5
    [ -z "$(ls $m/vfio)" ] || die devices without vfio
    modprobe quayside || exit 1
    # Probes of a module that was just loaded take a moment.
    until grep -q quay_shift mount.err; do kill -0 $pid || die no probes; sleep 0.1; done
    lab-step --json held --create quayside-full knob=delay_us:'RUNNING_P2P STOP 9000000' set=RUNNING_P2P sleep=2000 \
        set=STOP sleep=90000 >step 2>&1 & step=$!
    f=$m/vfio/$first/migration/state
    held 3
    exec 7<$f 8<$m/vfio/$first/timeline.json
    held 4
    sleep 2
    before=$(date +%s%N); cat $f >slow; ls -lR $m >/dev/null; after=$(date +%s%N)
    echo $(((after - before) / 1000000)) >slow.took
    [ "$(wc -l <held)" -eq 4 ] || die the arc was over
    held 5
    cat $f >then
    cat <&7 >snapshot; stat -L -c %s /proc/self/fd/7 >/dev/null; python3 -m json.tool <&8 >snapshot.json || die json
    cp $m/vfio/$first/timeline.json timeline.json

    refuse() { name=$1; shift; "$@" 2>refused.$name && die "$name was not refused"; grep -q 'Read-only' refused.$name || die "$name: $(cat refused.$name)"; }
    refuse write sh -c "echo x >$f"; refuse append sh -c "echo x >>$f"; refuse create sh -c "echo x >$m/vfio/x"
    refuse rm rm -f $f; refuse mkdir mkdir $m/x; refuse rmdir rmdir $m/vfio/$first/migration; refuse mv mv $f $m/y
    refuse touch touch $f; refuse chmod chmod 777 $f; refuse ln ln -s x $m/z; refuse truncate truncate -s 0 $f
    cat $f >unchanged
    # A look at what goes away in the meantime.
    exec 9<$f; cd $m/vfio/$first/migration
    kill -KILL $step; wait $step; echo 1 >/sys/bus/mdev/devices/$first/remove
    ls 2>/dev/null && die its folder is still there; cat state 2>/dev/null && die its file is still there
    cd $home; cat <&9 >kept; exec 7<&- 8<&- 9<&-
    modprobe -r quayside; ls $m/vfio
    kill $pid; wait $pid || die exit code $?
"#;

/// A slow driver, a file that is open, what must be refused.
fn live(left: &Left) -> Result<Found> {
    for (file, state) in [
        ("slow", "RUNNING_P2P"),
        ("then", "STOP"),
        ("snapshot", "RUNNING_P2P"),
        ("unchanged", "STOP"),
        ("kept", "STOP"),
    ] {
        let text = left.file(file)?;
        ensure!(text == format!("{state}\n"), "{file}: {text:?} instead of {state}");
    }
    let took: u64 = left.file("slow.took")?.trim().parse().context("took")?;
    // The arc takes 9 s, and the script saw that it was not over.
    ensure!(took < 7000, "reading during a slow arc took {took} ms");
    let arcs = |name: &str| -> Result<(u64, usize, usize)> {
        let document: Value = serde_json::from_str(&left.file(name)?).with_context(|| name.to_owned())?;
        let events = document.get("events").and_then(Value::as_array).context("no events")?;
        let arcs = events.iter().filter(|event| text(event, "kind") == Some("arc")).count();
        Ok((document.get("dropped").and_then(Value::as_u64).unwrap_or(0), events.len(), arcs))
    };
    let (before, now) = (arcs("snapshot.json")?, arcs("timeline.json")?);
    ensure!(before.2 == 1 && now.2 == 2, "arcs in the timelines: {before:?}, then {now:?}");
    ensure!(now.1 == 5 && now.0 >= 1, "--events 5: {now:?}");
    ensure!(left.file("mount.err")?.contains("vfio is not loaded yet"), "it does not say that it waits");
    Ok(Found::one(format!(
        "a read during a slow arc took {took} ms, open files stay as they were, 11 changes refused"
    )))
}

const ENDS: &str = r#"
    modprobe mtty || exit 1
    mkdir $m/below; code missing vfio-trace mount /run/nothing; code file vfio-trace mount /etc/passwd
    for signal in INT TERM; do
        up; [ ! -e $m/below ] || die not mounted
        kill -$signal $pid; wait $pid || die "SIG$signal: $?"
        [ -e $m/below ] || die "still mounted after SIG$signal"
    done
    grep -q 'not empty' mount.err || die does not tell that it hides something
    rmdir $m/below
    for signal in KILL HUP ABRT; do
        up; kill -$signal $pid; wait $pid; gone; ls $m || die ls after $signal
    done
    # From a terminal or a service manager, a signal may go to all of them; a shell's cwd may be inside.
    up; cd $m/vfio; kill -KILL $pid; cd $home; gone
    up; code busy vfio-trace mount $m
    code umount umount $m; wait $pid || die "after umount: $?"; grep -q 'somebody else' mount.err || die silent
    up; exec 7<$m/vfio; kill -TERM $pid; wait $pid || die "busy: $?"; exec 7<&-; gone

    # Nobody is left to unmount.
    up; guard=$(pgrep -f 'mount-guar[d]'); kill -KILL $guard; kill -KILL $pid; wait $pid; sleep 0.5
    code dead ls $m; ln -s mnt /run/link
    : >mount.err; vfio-trace mount /run/link 2>mount.err & pid=$!; serving; ls $m/vfio || die not recovered
    cp mount.err recovered
    # Only the guard is left, and only the server.
    guard=$(pgrep -f 'mount-guar[d]'); kill -KILL $guard; sleep 0.2; ls $m/vfio || die needs its guard to serve
    code late sh -c "kill -TERM $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done"; wait $pid; echo $? >unguarded.code
    cp mount.err unguarded.err; umount -l $m 2>/dev/null; gone
    up; mount -t tmpfs top $m; kill -TERM $pid; wait $pid; echo $? >covered.code; cp mount.err covered.err
    umount $m; umount -l $m; gone
    mkdir '/run/a b\c'; vfio-trace mount '/run/a b\c' 2>mount.err & pid=$!; serving; kill -KILL $pid; wait $pid
    sleep 1; grep fuse.vfio-trace /proc/mounts && die 'a b\c is still mounted'

    mv /dev/fuse /dev/other; code nofuse vfio-trace mount $m; mv /dev/other /dev/fuse
    up; ls $m/vfio || die at the end; kill $pid; wait $pid || die at the end
    pgrep -f 'mount-guar[d]' && die a guard is left
    true
"#;

/// Every way in which it may end, and what is left then.
fn ends(left: &Left) -> Result<Found> {
    code(left, "missing", 2, &["cannot mount on /run/nothing", "no such directory", "mkdir -p"])?;
    code(left, "file", 2, &["not a directory"])?;
    code(left, "busy", 1, &["another vfio-trace"])?;
    code(left, "umount", 0, &[])?;
    code(left, "dead", 2, &["Transport endpoint is not connected"])?;
    code(left, "unguarded", 1, &["cannot unmount", "umount -l"])?;
    code(left, "covered", 1, &["cannot unmount"])?;
    code(left, "nofuse", 4, &["/dev/fuse", "modprobe fuse"])?;
    let recovered = left.file("recovered")?;
    ensure!(recovered.contains("dead mount"), "it does not say what it took away:\n{recovered}");
    Ok(Found::one(
        "INT, TERM, KILL, HUP, ABRT, umount, dead mounts, no guard, no /dev/fuse; always mountable again",
    ))
}

const USERS: &str = r#"
    modprobe quayside || exit 1
    echo $first >/sys/class/mdev_bus/quayside/mdev_supported_types/quayside-full/create || die create
    drop="setpriv --reuid 1000 --regid 1000 --clear-groups"; as() { $drop "$@"; }
    caps="--inh-caps +bpf,+perfmon,+syslog --ambient-caps +bpf,+perfmon,+syslog"
    f=$m/vfio/$first/migration/state
    up; code closed as ls $m/vfio; code own cat $f; kill $pid; wait $pid
    up --allow-other; code open as cat $f; code write as sh -c "echo x >$f"; kill $pid; wait $pid

    sysctl -qw kernel.perf_event_paranoid=2; up; grep CapEff /proc/$pid/status >caps; kill $pid; wait $pid
    code device as $caps vfio-trace mount $m
    chmod 666 /dev/fuse
    code plain as vfio-trace mount $m
    # fusermount3 wants the mount point to be the user's.
    mine=/run/mine; mkdir $mine; chown 1000:1000 $mine
    code helper as $caps env PATH=$(dirname $(command -v vfio-trace)) vfio-trace mount $mine
    code notmine as $caps vfio-trace mount $m
    code other as $caps vfio-trace mount --allow-other $mine
    user() { : >mount.err; $drop $caps vfio-trace mount $mine 2>mount.err & pid=$!; serving; }
    user; code byuser as cat $mine/vfio/$first/migration/state; code byroot cat $mine/vfio/$first/migration/state
    kill $pid; wait $pid || die user: $?
    grep $mine /proc/mounts && die $mine is still mounted
    user; kill -KILL $pid; wait $pid; sleep 1; grep $mine /proc/mounts && die $mine is still mounted
    user; pkill -KILL -f 'mount-guar[d]'; kill -KILL $pid; wait $pid; user; kill $pid; wait $pid || die not recovered
    true
"#;

/// Checks the users that may look, and those that may mount.
fn users(left: &Left) -> Result<Found> {
    code(left, "closed", 2, &["Permission denied"])?;
    for name in ["own", "open", "byuser"] {
        code(left, name, 0, &[])?;
        ensure!(left.file(&format!("{name}.out"))? == "RUNNING\n", "{name} reads something else");
    }
    code(left, "byroot", 1, &["Permission denied"])?;
    code(left, "write", 2, &["Read-only file system"])?;
    code(left, "device", 3, &["/dev/fuse"])?;
    code(left, "plain", 3, &["CAP_BPF"])?;
    code(left, "helper", 3, &["CAP_SYS_ADMIN", "fusermount3 is not installed"])?;
    code(left, "notmine", 3, &["fusermount3 says"])?;
    code(left, "other", 3, &["user_allow_other"])?;
    // CAP_BPF, CAP_PERFMON, CAP_SYSLOG: neither CAP_SYS_ADMIN nor anything else.
    let caps = left.file("caps")?;
    ensure!(caps.trim().ends_with("000000c400000000"), "while it serves it has {caps}");
    Ok(Found::one(
        "others only with --allow-other; root's mount gives up CAP_SYS_ADMIN; a user's goes by fusermount3",
    ))
}

/// A kernel whose FUSE is a module.
fn old(series: &str) -> Result<Found> {
    let lab = Lab::new(lab::ready(series, false)?)?;
    let script = "
        modprobe quayside || exit 1
        code without vfio-trace mount $m
        [ -e /dev/fuse ] || modprobe fuse || exit 1
        up
        lab-step --json held --create quayside-full --create quayside-none set=STOP_COPY sleep=90000 >step 2>&1 & step=$!
        held 3
        cat $m/vfio/$first/migration/state >cat; vfio-trace show $first state >show; cat $m/vfio/$first/migration/features >features
        kill -KILL $step $pid; wait $pid; gone
    ";
    let guest = run(&lab, &format!("mount-{series}"), script)?;
    let (cat, show) = (guest.file("cat")?, guest.file("show")?);
    ensure!(cat == show && cat == "STOP_COPY\n", "the file says {cat:?}, `show` {show:?}");
    ensure!(
        guest.file("features")?.starts_with("stop-copy\np2p\n"),
        "features are {:?}",
        guest.file("features")?
    );
    Ok(Found::one("state, features, and unmounting after kill -9"))
}
