//! Messages of a live run: on its probes, and on what is not known.

use crate::{
    cli::output::note,
    event::DecodeError,
    probe::ProbeChanges,
    source::{
        live::{LiveError, LiveSource},
        snapshot::InventoryLosses,
    },
    units::human,
};

/// Verbosity of a live run's messages. Each observer of a run has one, and prints with it what it is told.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct LiveNotes {
    verbose: bool,
}

impl LiveNotes {
    /// Makes the notes. `verbose`: also say which functions are probed, and why a record could not be decoded.
    pub(in crate::cli) const fn new(verbose: bool) -> Self {
        Self { verbose }
    }

    /// Returns true if all is to be said.
    pub(super) const fn is_verbose(self) -> bool {
        self.verbose
    }

    /// Says why a record could not be decoded, if all is to be said.
    pub(in crate::cli) fn undecoded(self, error: DecodeError) {
        if self.verbose {
            note(&format!("record not understood: {error}"));
        }
    }

    /// Says which probes were attached and detached, which could not be, and when functions were not probed.
    pub(in crate::cli) fn changes(self, changes: &ProbeChanges) {
        let ProbeChanges { attached, detached, failed, denied: _, gaps, unread } = changes;
        for reason in distinct(detached.iter().map(|(_, reason)| reason.as_str())) {
            let functions = detached.iter().filter(|(_, other)| other == reason);
            let names: Vec<&str> = functions.map(|(function, _)| function.symbol.as_str()).collect();
            note(&format!("no longer probing {}: {reason}", names.join(", ")));
        }
        for gap in gaps {
            // A gap that is not over has its line below: "cannot probe".
            let Some(until) = gap.until_mono_ns else { continue };
            let whose = gap
                .module
                .as_ref()
                .map_or_else(|| "the kernel".to_owned(), |module| format!("module {module}"));
            let names: Vec<&str> = gap.functions.iter().map(|function| function.function.as_str()).collect();
            let for_ns = human::duration(until.saturating_sub(gap.from_mono_ns));
            let most = if gap.from_exact { "" } else { "up to " };
            note(&format!(
                "probing {} of {whose}: {}; not seen for {most}{for_ns}",
                names.join(", "),
                gap.why.text()
            ));
        }
        let told = |symbol: &str| {
            gaps.iter().any(|gap| gap.functions.iter().any(|function| function.function == symbol))
        };
        let quiet: Vec<&str> =
            attached.iter().map(|function| function.symbol.as_str()).filter(|symbol| !told(symbol)).collect();
        if self.verbose && !quiet.is_empty() {
            note(&format!("probing {}", quiet.join(", ")));
        }
        for (function, reason) in failed {
            note(&format!("cannot probe {}: {reason}", function.symbol));
        }
        for (module, reason) in unread {
            note(&format!("states that driver {module} keeps are not read: {reason}"));
        }
    }
}

/// Says that the kernel does not report the loading of modules, where that is so.
pub(super) fn say_unwatched(live: &LiveSource) {
    if let Some(why) = live.unwatched() {
        note(&format!(
            "the kernel does not tell when a module is loaded ({why}): a driver that is loaded later is noticed half a second \
             later, or more"
        ));
    }
}

/// Says what is not known because an inventory has failed.
pub(in crate::cli) fn say_uninformed(error: &LiveError) {
    note(&format!("devices, states and holders are not known until something happens: {error}"));
}

/// Says what an inventory could not tell.
pub(in crate::cli) fn say_missing(looked: InventoryLosses) {
    if let Some(lacks) = looked.describe_losses() {
        note(&lacks);
    }
}

/// Returns each text once, in the order in which they come first.
fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_once() {
        assert_eq!(distinct(["gone", "replaced", "gone"].into_iter()), ["gone", "replaced"]);
    }
}
