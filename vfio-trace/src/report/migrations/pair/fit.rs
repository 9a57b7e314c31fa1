//! Decides if a source and a destination can be of one migration, and matches their devices.

use super::{DeviceMatch, PairingContext, SideGroup, devices::devices};
use crate::report::{
    document::{MigrationVerdict, PairingReason},
    migrations::side::SideAnalysis,
};

/// Longest time from the end of a source to the beginning of a destination that does not overlap with it, in ns: a
/// stream may be a file.
pub(super) const LATER_NS: u64 = 60_000_000_000;

/// Returns the matched devices of two groups that can be of one migration, and the time between the groups beyond the
/// clocks' tolerance, in ns.
pub(super) fn fit(
    sides: &[SideAnalysis],
    from: &SideGroup,
    to: &SideGroup,
    context: &PairingContext<'_>,
) -> Option<(Vec<DeviceMatch>, u64)> {
    let tolerance = context.tolerance(sides, from, to);
    let after = to.start_ns.saturating_sub(from.end_ns);
    let gap = after.max(from.start_ns.saturating_sub(to.end_ns));
    let at_once = gap <= tolerance.guess;
    let (matched, _) = devices(sides, &from.sides, &to.sides, context, at_once);
    let said = matched.iter().any(|one| one.by == PairingReason::Option);
    // An equal hash is stronger evidence than a clock.
    let sure = matched.iter().any(|one| one.by == PairingReason::StreamHash);
    let most = if sure { tolerance.sure } else { tolerance.guess };
    if matched.is_empty() || (gap > most && !said && !later(sides, &matched, after, most)) {
        return None;
    }
    Some((matched, gap.saturating_sub(tolerance.guess)))
}

/// Returns true if all data that was read may have been written later, out of a file.
fn later(sides: &[SideAnalysis], matched: &[DeviceMatch], after: u64, tolerance: u64) -> bool {
    after > 0
        && after <= LATER_NS.saturating_add(tolerance)
        && matched.iter().all(|one| {
            let (from, to) = (&sides[one.source], &sides[one.destination]);
            from.eof && from.bytes == to.bytes && from.side.verdict == MigrationVerdict::Completed
        })
}
