//! One boot for many checks: a script in parts. Each part has a folder of its own, and none can spoil another.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt::Write as _,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::guest::{Guest, Lab, Left};
use crate::lab::{self, guest::Extras};

/// Shell functions for each part, which runs in its own folder. Processes and files that it leaves do not disturb the
/// next.
const PRELUDE: &str = r#"
device() { printf '%08d-0000-4000-8000-000000000000' $1; }
# mdevs TYPE FIRST LAST: creates devices by number, and waits until they can be opened.
mdevs() {
    for number in $(seq $2 $3); do
        device $number >"$(echo /sys/class/mdev_bus/*/mdev_supported_types/$1/create)" || return 1
    done
    for number in $(seq $2 $3); do
        group=$(readlink /sys/bus/mdev/devices/$(device $number)/iommu_group)
        until [ -e /dev/vfio/${group##*/} ]; do sleep 0.05; done
    done
}
unmake() { for made in /sys/bus/mdev/devices/*; do [ ! -e $made ] || echo 1 >$made/remove || return 1; done; }
# hold NAME ARGUMENTS: lab-step in the background, with its records in NAME.
hold() { name=$1; shift; lab-step --json $name "$@" >$name.out 2>&1 & held=$!; all="$all $held"; }
# await WHAT CONDITION: until a condition holds, for a while.
await() {
    tries=0; what=$1; shift
    until "$@"; do
        tries=$((tries + 1)); [ $tries -le 600 ] || { echo "$what: waited in vain" >&2; return 1; }
        sleep 0.1
    done
}
lines() { [ "$(cat $1 2>/dev/null | wc -l)" -ge $2 ]; }
release() { [ -z "$all" ] || { kill -KILL $all; wait; } 2>/dev/null; all=; unmake; }
now() { cut -d' ' -f1 /proc/uptime; }
part() {
    mkdir -p $LAB_RESULTS/$1; cd $LAB_RESULTS/$1; rm -rf /run/part; mkdir /run/part; all=; began=$(now)
    ( "part_$(echo $1 | tr - _)"; code=$?; release || code=1; exit $code ) >stdout 2>stderr
    echo $? >code; echo "$(now) $began" >took
}
"#;

/// Time limit of all parts together, beside another VM.
const PATIENCE: Duration = Duration::from_mins(15);

/// A part of a boot's script. A check asks for it with [`Boot::want`] and reads its files with [`Boot::part`].
pub(super) struct Part {
    pub(super) name: &'static str,
    /// Returns the shell script for a series.
    pub(super) script: fn(&str) -> Result<String>,
}

/// A boot that several checks share. It runs when the first of them needs it, with the parts that any of them wants.
pub(super) struct Boot {
    pub(super) series: &'static str,
    debugfs: bool,
    parts: Vec<Part>,
    wanted: Mutex<BTreeSet<&'static str>>,
    guest: OnceLock<Result<Guest, String>>,
}

thread_local! {
    /// Boots of which this thread has wanted parts since [`take_wanted`].
    static WANTED: RefCell<BTreeSet<String>> = RefCell::default();
}

/// Returns the boots of which parts were wanted since the last call: the boots that a check shares with others.
pub(super) fn take_wanted() -> BTreeSet<String> {
    WANTED.take()
}

impl Boot {
    pub(super) fn new(series: &'static str, debugfs: bool, parts: Vec<Part>) -> Arc<Self> {
        let (wanted, guest) = (Mutex::default(), OnceLock::new());
        Arc::new(Self { series, debugfs, parts, wanted, guest })
    }

    /// Notes that a check will ask for this part. Parts that no check wants are not run.
    pub(super) fn want(&self, part: &'static str) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(part);
        WANTED.with_borrow_mut(|wanted| wanted.insert(format!("boot {self:p}")));
    }

    /// Returns the folder of a part, if the part succeeded.
    pub(super) fn part(&self, name: &str) -> Result<Left> {
        let guest = self.guest.get_or_init(|| self.run().map_err(|error| format!("{error:#}")));
        let guest = guest.as_ref().map_err(|error| anyhow!(error.clone()))?;
        let left = guest.left(name);
        let code =
            left.file("code").with_context(|| format!("part {name} did not end: {}", guest.outcome))?;
        let said = left.file("stderr").unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(6)..].join("\n");
        ensure!(code.trim() == "0", "part {name} failed with {}; it said:\n{last}", code.trim());
        ensure!(guest.warnings.is_empty(), "the guest kernel warned: {}", guest.warnings.join("; "));
        Ok(left)
    }

    fn run(&self) -> Result<Guest> {
        let kernel = lab::ready(self.series, false)?;
        let lab = Lab::with(kernel, Extras { debugfs: self.debugfs, driver: None })?;
        let mut script = PRELUDE.to_owned();
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for Part { name, script: body } in self.parts.iter().filter(|part| wanted.contains(part.name)) {
            let function = name.replace('-', "_");
            write!(script, "part_{function}() {{\n{}\n}}\npart {name}\n", body(self.series)?)?;
        }
        script.push_str("exit 0\n");
        let kind = if self.debugfs { "debugfs" } else { "stock" };
        // Several boots may be of one kernel and kind, at the same time: the name of the first part tells them apart.
        let first = self.parts.first().map_or("", |part| part.name);
        lab.boot(&format!("boot-{}-{kind}-{first}", self.series), &script, PATIENCE)
    }
}
