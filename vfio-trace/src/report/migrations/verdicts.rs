//! Judges a device's migration by its sides.

use super::side::{self, SideAnalysis};
use crate::report::document::{MarkKind, MigrationSide, MigrationVerdict, StreamIntegrity};

/// Compares the bytes of both sides by their hashes, if they are known.
pub(super) fn integrity(
    source: Option<&SideAnalysis>,
    destination: Option<&SideAnalysis>,
) -> StreamIntegrity {
    let of = |found: Option<&SideAnalysis>| found.and_then(|found| found.stream);
    match of(source).zip(of(destination)) {
        Some((one, two)) if one == two => StreamIntegrity::Equal,
        Some(_) => StreamIntegrity::Differs,
        None => StreamIntegrity::NotKnown,
    }
}

/// Returns true if all sources run again; `None` if that is not known of one, and the others do.
pub(super) fn run_again(sources: &[usize], all: &[SideAnalysis]) -> Option<bool> {
    let mut again = Some(true);
    for found in sources.iter().filter_map(|at| all.get(*at)) {
        // A device that never left RUNNING need not come back; a device that is not open any more does not run.
        let gone = matches!(found.cut, Some(MarkKind::Close | MarkKind::LastClose | MarkKind::Unregister));
        let back = found.ran_ns.is_some()
            || found.side.recovery.is_some()
            || found.arcs.iter().all(|arc| side::failed(arc.outcome));
        if gone || !back {
            return Some(false);
        }
        if found.state_uncertain {
            again = None;
        }
    }
    again
}

/// Returns the verdict on a device's migration, by those of its sides.
pub(super) fn verdict(
    source: Option<&MigrationSide>,
    destination: Option<&MigrationSide>,
) -> MigrationVerdict {
    let of = |side: Option<&MigrationSide>| side.map(|side| side.verdict);
    match (of(source), of(destination)) {
        (Some(MigrationVerdict::Failed), _) | (_, Some(MigrationVerdict::Failed)) => MigrationVerdict::Failed,
        (Some(MigrationVerdict::Cancelled), _) | (_, Some(MigrationVerdict::Cancelled)) => {
            MigrationVerdict::Cancelled
        },
        (Some(MigrationVerdict::Unfinished), _) | (_, Some(MigrationVerdict::Unfinished)) => {
            MigrationVerdict::Unfinished
        },
        (Some(MigrationVerdict::Completed), _) | (_, Some(MigrationVerdict::Completed)) | (None, None) => {
            MigrationVerdict::Completed
        },
    }
}
