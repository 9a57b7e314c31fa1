//! Schedule for reading the kernel's memory again, and the report of looks that have failed.

use std::time::{Duration, Instant};

/// Shortest time between two looks for changes that make no event, however often files are read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Share of the time that looks may take, one part in so many: one that asks for holders goes over all open files of
/// all processes.
const LOOK_SHARE: u32 = 10;

/// Schedule of looks, and the results so far.
#[derive(Debug, Default)]
pub(super) struct InventorySchedule {
    /// Start of the last look, and the time that it took.
    last: Option<(Instant, Duration)>,
    /// Last failure that was reported. The same one may come many times a second.
    told: Option<String>,
    /// True once a look has found the devices' holders.
    informed: bool,
}

impl InventorySchedule {
    /// Returns true if it is time for another look. `stale`: something has happened that only a look can tell more of.
    /// A look that has failed is followed by others like any look: the cause may have gone.
    pub(super) fn is_due(&self, stale: bool, now: Instant) -> bool {
        let Some((at, took)) = self.last else { return true };
        stale || now.saturating_duration_since(at) >= LOOK_EVERY.max(took * LOOK_SHARE)
    }

    /// Returns true if a look has found the devices' holders; if not, the next one must.
    pub(super) const fn is_informed(&self) -> bool {
        self.informed
    }

    /// Takes the result of a look; `failed`: the reason of its failure. Returns true if that is to be reported.
    pub(super) fn done(&mut self, began: Instant, now: Instant, failed: Option<&str>) -> bool {
        self.last = Some((began, now.saturating_duration_since(began)));
        self.informed |= failed.is_none();
        let Some(why) = failed.filter(|why| self.told.as_deref() != Some(*why)) else { return false };
        self.told = Some(why.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_failed_is_not_the_last() {
        let mut looks = InventorySchedule::default();
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        assert!(looks.is_due(false, began));
        assert!(looks.done(began, at(5), Some("no memory")));
        assert!(!looks.is_informed() && !looks.is_due(false, at(49)), "a tenth of the time");
        assert!(looks.is_due(false, at(50)) && looks.is_due(true, at(6)));
        assert!(!looks.done(at(50), at(51), Some("no memory")), "it was told");
        assert!(looks.done(at(100), at(101), Some("no descriptors")) && !looks.is_informed());
        assert!(!looks.done(at(200), at(201), None) && looks.is_informed());
        assert!(!looks.is_due(false, at(219)) && looks.is_due(false, at(220)));
    }
}
