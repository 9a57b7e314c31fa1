//! How a migration ended: judged from what is known of its sides.

use super::side::{self, SideAnalysis};
use crate::report::document::{MarkKind, MigrationSide, MigrationVerdict, StreamIntegrity};

/// Whether both sides had the same bytes, where their hashes are known.
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

/// Whether all sources run again; `None`: of one that is not known, and the others do.
pub(super) fn run_again(sources: &[usize], all: &[SideAnalysis]) -> Option<bool> {
    let mut again = Some(true);
    for found in sources.iter().filter_map(|at| all.get(*at)) {
        // One that never left RUNNING need not come back; one that nobody has open any more does not run.
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

/// How a device's migration ended, from what is known of its sides.
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
