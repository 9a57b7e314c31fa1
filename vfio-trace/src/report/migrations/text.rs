//! Describes a migration in one sentence.

use crate::report::document::{
    DeviceFailure, DeviceMigration, DowntimeBound, DowntimeBreakdown, MigrationVerdict, TracedDevice,
    VmMigration,
};

/// Coverage of a migration by the recording, as far as the sentence depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MigrationCoverage {
    /// True if the document ends before tracing did.
    pub(super) full: bool,
    /// True if events of a side may be missing.
    pub(super) lacking: bool,
    /// True if a source that seems to have been given up may have been read to its end unseen.
    pub(super) unread: bool,
}

/// Returns the sentence.
pub(super) fn sentence(
    migration: &VmMigration,
    devices: &[TracedDevice],
    view: MigrationCoverage,
    host: &dyn Fn(u32) -> String,
) -> String {
    let name = |at: u32| devices[at as usize].name.as_deref().unwrap_or("an unnamed device");
    let who = |device: &DeviceMigration| match (&device.source, &device.destination) {
        (Some(from), Some(to)) if from.device != to.device => {
            format!("{} → {}", name(from.device), name(to.device))
        },
        (Some(side), _) | (None, Some(side)) => name(side.device).to_owned(),
        (None, None) => String::new(),
    };
    let what = match &migration.devices[..] {
        [one] => who(one),
        many => format!("{} devices ({})", many.len(), many.iter().map(who).collect::<Vec<_>>().join(", ")),
    };
    let where_to = match (&migration.source, &migration.destination) {
        (Some(from), Some(to)) if from.host != to.host => {
            format!(", from {} to {}", host(from.host), host(to.host))
        },
        (Some(_), None) => ", source".to_owned(),
        (None, Some(_)) => ", destination".to_owned(),
        _ => String::new(),
    };
    let how = match migration.verdict {
        MigrationVerdict::Completed => match &migration.downtime {
            Some(downtime) => format!("completed, downtime {}", length(downtime)),
            None => "completed".to_owned(),
        },
        MigrationVerdict::Failed => {
            let failure = first_failure(migration);
            let why = failure.map_or_else(String::new, |failure| format!(": {}", reason(failure)));
            format!("failed{why}{}", after(migration))
        },
        MigrationVerdict::Cancelled => {
            format!("given up, {}{}", given_up(migration, view), after(migration))
        },
        MigrationVerdict::Unfinished if view.full => {
            "not over where the document ends, which has no room for more".to_owned()
        },
        MigrationVerdict::Unfinished => "not over when tracing ended".to_owned(),
    };
    format!("{what}{where_to}: {how}")
}

/// Returns the reason as far as it is known. It does not exclude a failure that may have been missed.
fn given_up(migration: &VmMigration, view: MigrationCoverage) -> &'static str {
    let halved = |device: &DeviceMigration| device.source.is_none() || device.destination.is_none();
    if view.unread {
        "and no failure was seen, but something may be missing: cancelled, a failure, or all was read unseen"
    } else if view.lacking {
        "and no failure was seen, but something may be missing: cancelled, or a failure"
    } else if migration.source.is_none() || migration.destination.is_none() {
        "and nothing seen on this side had failed; the other side was not seen: cancelled, or a failure there or outside VFIO"
    } else if migration.devices.iter().any(halved) {
        "and nothing that was seen had failed; of one device only one side was: cancelled, or a failure there or outside VFIO"
    } else {
        "and nothing in VFIO had failed: cancelled, or a failure outside VFIO"
    }
}

fn first_failure(migration: &VmMigration) -> Option<&DeviceFailure> {
    let sides = migration.devices.iter().flat_map(|device| device.source.iter().chain(&device.destination));
    sides.flat_map(|side| &side.failures).min_by_key(|failure| failure.at_ns)
}

fn reason(failure: &DeviceFailure) -> String {
    let errno = failure.errno.as_deref().map_or_else(String::new, |errno| format!(" {errno}"));
    let step = match (&failure.step, &failure.step_errno) {
        (Some(step), Some(own)) => format!(" (step {step}: {own})"),
        (Some(step), None) => format!(" (step {step})"),
        _ => String::new(),
    };
    format!("{}{errno}{step}", failure.what)
}

fn after(migration: &VmMigration) -> String {
    let recovered = match migration.recovered {
        Some(true) => "; the source runs again",
        Some(false) => "; the source was not seen to run again",
        None => "",
    };
    match &migration.downtime {
        Some(downtime) => format!("{recovered}, downtime {}", length(downtime)),
        None => recovered.to_owned(),
    }
}

fn length(downtime: &DowntimeBreakdown) -> String {
    let (ms, us) = (downtime.total_ns / 1_000_000, downtime.total_ns / 1_000 % 1_000);
    match downtime.bound {
        DowntimeBound::Exact => format!("{ms}.{us:03} ms"),
        DowntimeBound::About => format!("about {ms}.{us:03} ms"),
        DowntimeBound::AtLeast => format!("at least {ms}.{us:03} ms"),
    }
}
