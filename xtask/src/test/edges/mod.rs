//! The tool and its surroundings: signals, FIFOs, full disks, capabilities, PID namespaces, drivers that come late.

mod caps;
mod loads;
mod namespaces;
mod signals;

use std::sync::Arc;

use anyhow::Result;

use super::{
    Check, Found,
    boot::{Boot, Part},
    guest::Left,
};

/// A check: its name, its part of the boot, and the function that judges the part's files.
type Edge = (&'static str, &'static str, fn(&Left) -> Result<Found>);

const EDGES: [Edge; 9] = [
    ("edges: SIGHUP ends tail and record", "hangup", signals::hangup),
    ("edges: the time that a command gets to end", "grace", signals::grace),
    ("edges: a full disk", "full", signals::full),
    ("edges: FIFOs", "fifos", signals::fifos),
    ("edges: signals before the start, and Ctrl-C", "early", signals::early),
    ("edges: capabilities given up", "caps", caps::check),
    ("edges: PID namespaces", "namespaces", namespaces::check),
    ("edges: a recorder that waits for vfio", "waits", loads::waits),
    ("edges: a driver that is used at once", "at-once", loads::at_once),
];

pub(super) fn checks() -> Vec<Check> {
    let part = |name, script| Part { name, script };
    let parts = vec![
        // This part comes first, while nothing is loaded.
        part("waits", |_| Ok(loads::script(true))),
        part("at-once", |_| Ok(loads::script(false))),
        part("hangup", |_| Ok(signals::HANGUP.to_owned())),
        part("grace", |_| Ok(signals::grace_script())),
        part("full", |_| Ok(signals::full_script())),
        part("fifos", |_| Ok(signals::fifos_script())),
        part("early", |_| Ok(signals::early_script())),
        part("caps", |_| Ok(caps::script())),
        part("namespaces", |_| Ok(namespaces::script())),
    ];
    let boot = Boot::new("6.12", false, parts);
    let check = |(name, part, judge): Edge| {
        let (wanted, boot) = (Arc::clone(&boot), Arc::clone(&boot));
        Check::new(name, move |_| judge(&boot.part(part)?)).wanting(move || wanted.want(part))
    };
    EDGES.map(check).into()
}
