//! When the kernel's memory is looked at again, and what is said of looks that have failed.

use std::time::{Duration, Instant};

/// What changes without an event is looked for no more often than this, however often files are read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A look goes over all open files of all processes: it may take this part of the time, one in so many.
const LOOK_SHARE: u32 = 10;

/// The looks so far.
#[derive(Debug, Default)]
pub(super) struct InventorySchedule {
    /// When the last one began, and how long it took.
    last: Option<(Instant, Duration)>,
    /// What has failed and was told. It may fail many times a second.
    told: Option<String>,
    /// One has told the devices' holders.
    informed: bool,
}

impl InventorySchedule {
    /// Returns true if it is time for another one. `stale`: something has happened that only a look tells of. One that has
    /// failed is followed by others as any: what was in the way may be gone.
    pub(super) fn is_due(&self, stale: bool, now: Instant) -> bool {
        let Some((at, took)) = self.last else { return true };
        stale || now.saturating_duration_since(at) >= LOOK_EVERY.max(took * LOOK_SHARE)
    }

    /// Returns true if the devices' holders have been told; else the next look must.
    pub(super) const fn is_informed(&self) -> bool {
        self.informed
    }

    /// One is over; `failed`: why it did not tell anything. Gives whether that is to be said.
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
