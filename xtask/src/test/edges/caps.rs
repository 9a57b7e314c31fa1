//! Capabilities of a verb while it waits: in a write to a full pipe, or in a driver's delay.

use anyhow::{Result, ensure};

use crate::test::{Found, compat::device, guest::Left};

/// Script that runs a verb whose standard output is full, and looks at its capabilities while it waits for that.
const WATCH: &str = "
import fcntl, os, subprocess, sys, time
read, write = os.pipe()
fcntl.fcntl(write, 1031, 4096)
os.set_blocking(write, False)
try:
    while True:
        os.write(write, b' ' * 64)
except BlockingIOError:
    os.set_blocking(write, True)
verb = subprocess.Popen(sys.argv[1:], stdout=write)
pipe = os.readlink(f'/proc/self/fd/{write}')
os.close(write)
def waits():
    words = open(f'/proc/{verb.pid}/syscall').read().split()
    # Of x86-64: write(2), to a descriptor that need not be 1; poll(2) and ppoll(2), in which outputs wait that signals end.
    writes = words[0] == '1' and os.readlink(f'/proc/{verb.pid}/fd/{int(words[1], 16)}') == pipe
    return writes or words[0] in ('7', '271')
times = 0
for _ in range(1200):
    times = times + 1 if waits() else 0
    if times == 5:
        break
    time.sleep(0.05)
else:
    sys.exit('it never wrote')
held = []
for task in sorted(os.listdir(f'/proc/{verb.pid}/task'), key=int):
    status = open(f'/proc/{verb.pid}/task/{task}/status').read().splitlines()
    held += [line.split()[1] for line in status if line.startswith(('CapPrm', 'CapEff'))]
verb.kill()
print(*held)
";

pub(super) fn script() -> String {
    let own = device(1);
    format!(
        r#"
        modprobe -a vfio_iommu_type1 quayside && mdevs quayside-full 1 1 || return 1
        cat >watch.py <<'END'
{WATCH}
END
        sysctl -qw kernel.perf_event_paranoid=2
        grep CapEff /proc/self/status >before
        for verb in list "list --json" "show 0 state" doctor "doctor --json" tail "tail --format ndjson" "record -o -"; do
            echo "$verb: $(python3 watch.py vfio-trace $verb 2>>watch.err)" >>seen
        done
        knobs=/sys/bus/mdev/devices/{own}/quayside
        echo 'STOP STOP_COPY 3000000' >$knobs/delay_us || return 1
        for how in "" --no-trace; do
            vfio-trace exercise {own} --yes --plan save $how >exercise.out 2>&1 & run=$!; all="$all $run"
            await delay grep -qx 'state 1' $knobs/where || return 1
            echo "exercise $how: $(grep -h 'CapPrm\|CapEff' /proc/$run/task/*/status | cut -f2 | tr '\n' ' ')" >>seen
            wait $run || return 1
        done
        "#
    )
}

/// Bits of CAP_SYSLOG, CAP_PERFMON, CAP_BPF.
const TRACING: u64 = 1 << 34 | 1 << 38 | 1 << 39;
/// Bit of CAP_DAC_OVERRIDE.
const FILES: u64 = 1 << 1;

pub(super) fn check(left: &Left) -> Result<Found> {
    let before = left.file("before")?;
    ensure!(!before.contains("\t0000000000000000"), "there was nothing to give up: {before}");
    let seen = left.file("seen")?;
    let mut threads = 0;
    for line in seen.lines() {
        let (verb, held) = line.split_once(": ").unwrap_or((line, ""));
        let may = match verb.split(' ').next() {
            Some("tail" | "record") => TRACING,
            Some("exercise") if verb.ends_with("--no-trace") => FILES,
            Some("exercise") => TRACING | FILES,
            _ => 0,
        };
        let held: Vec<u64> =
            held.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        ensure!(!held.is_empty(), "{line}: {}", left.file("watch.err").unwrap_or_default());
        ensure!(held.iter().all(|held| held & !may == 0), "{verb} holds more than {may:x}: {held:x?}");
        // The first thread is the one that does the work.
        ensure!(held[..2] == [may, may], "{verb} holds {held:x?}, not {may:x}");
        threads += held.len() / 2;
    }
    let verbs = seen.lines().count();
    ensure!(verbs == 10, "{seen}");
    Ok(Found::one(format!(
        "{verbs} runs, {threads} threads: none for list, show, doctor; of the others what they need"
    )))
}
