//! Correction of a host's clock, and its error.

use crate::report::document::{ClockMerge, MergeMethod};

/// Change of a host's offset, and its error, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct OffsetCorrection {
    pub(in super::super) by: i128,
    /// Largest amount by which the true change may be larger; `None`: not known.
    pub(in super::super) early: Option<i128>,
    /// Largest amount by which the true change may be smaller; `None`: not known.
    pub(in super::super) late: Option<i128>,
}

impl OffsetCorrection {
    /// Correction of the first host's clock: none.
    pub(in super::super) const NONE: Self = Self { by: 0, early: Some(0), late: Some(0) };

    /// Returns the correction relative to another host's.
    pub(in super::super) fn since(self, from: Self) -> Self {
        let sum = |one: Option<i128>, two: Option<i128>| one.zip(two).map(|(one, two)| one + two);
        Self { by: self.by - from.by, early: sum(self.early, from.late), late: sum(self.late, from.early) }
    }

    /// Returns the same with the error for clocks that were promised to be no farther apart than `promised`. If the
    /// correction exceeds that, the promise may have been kept all the same, because the correction comes from another
    /// time, or from a wrong pair: then it may be wrong by its whole amount and the promise.
    pub(in super::super) fn or_as_promised(self, promised: u64) -> Self {
        let (promised, far) = (i128::from(promised), self.by.abs() + i128::from(promised));
        let more = |error: Option<i128>| error.map(|error| error.max(far));
        match self.by {
            by if by > promised => Self { late: more(self.late), ..self },
            by if by < -promised => Self { early: more(self.early), ..self },
            _ => self,
        }
    }

    /// Returns the same without a bound in the direction of the correction, for a time without a promise, if nothing
    /// bounds it in the other direction: another migration, which may be a wrong pair, does not show how far apart the
    /// clocks were at this time.
    pub(in super::super) const fn or_unpromised(self) -> Self {
        match self {
            Self { by: 1.., early: None, .. } => Self { late: None, ..self },
            Self { by: ..=-1, late: None, .. } => Self { early: None, ..self },
            _ => self,
        }
    }
}

/// Returns the smallest change that causality allows; `error`: largest error of the wall clocks.
pub(super) fn choose(least: Option<i128>, most: Option<i128>, error: Option<u64>) -> OffsetCorrection {
    // Contradicting demands come from noise in a part that was not seen: the middle is as good as any value.
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        let (by, off) = (i128::midpoint(least, most), least - most);
        return OffsetCorrection { by, early: Some(off), late: Some(off) };
    }
    let by = least.map_or(0, |least| least.max(0));
    let by = most.map_or(by, |most| by.min(most));
    let error = error.map(i128::from);
    // A promise that contradicts causality is ignored.
    let kept =
        |error: i128| least.is_none_or(|least| least <= error) && most.is_none_or(|most| most >= -error);
    let error = error.filter(|error| kept(*error));
    let nearer = |one: Option<i128>, two: Option<i128>| match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    };
    OffsetCorrection {
        by,
        early: nearer(most.map(|most| most - by), error.map(|error| error - by)),
        late: nearer(least.map(|least| by - least), error.map(|error| error + by)),
    }
}

/// Describes a change of a host's offset, which was `before`, in numbers and in one sentence.
pub(super) fn describe(
    host: u32,
    before: i128,
    chosen: OffsetCorrection,
    (least, most): (Option<i128>, Option<i128>),
    error: Option<u64>,
) -> ClockMerge {
    let moved = chosen.by != 0;
    let broken = error.filter(|error| chosen.by.unsigned_abs() > u128::from(*error));
    let broken = broken.map_or_else(String::new, |error| {
        format!(", although the kernels promise that they are no farther apart than {}", ms(error.into()))
    });
    let how = match (moved, least.is_some() || most.is_some()) {
        (true, _) => format!(
            "the wall clocks would have had data written before it was read: moved by {}, as far as causality demands{broken}",
            ms(chosen.by)
        ),
        (false, true) => {
            "the wall clocks agree with causality: nothing was written before it was read".to_owned()
        },
        (false, false) => {
            "by the wall clocks; no stream between the hosts was seen that could tell".to_owned()
        },
    };
    // Causality breaks the promise, or there was none.
    let unknown = match error {
        Some(_) => "because a kernel's promise is broken",
        None => "because a clock is not synchronised",
    };
    let sure = match (chosen.early, chosen.late) {
        (Some(early), Some(late)) => {
            format!("times may be {} too early or {} too late", ms(early), ms(late))
        },
        (None, Some(late)) => {
            format!("times may be {} too late; how much too early is not known, {unknown}", ms(late))
        },
        (Some(early), None) => {
            format!("times may be {} too early; how much too late is not known, {unknown}", ms(early))
        },
        (None, None) => format!("how far apart they are is not known, {unknown}"),
    };
    ClockMerge {
        host,
        method: if moved { MergeMethod::Causality } else { MergeMethod::Realtime },
        offset_ns: narrow(before + chosen.by),
        early_ns: chosen.early.map(unsigned),
        late_ns: chosen.late.map(unsigned),
        causal_min_ns: least.map(|least| narrow(before + least)),
        causal_max_ns: most.map(|most| narrow(before + most)),
        clock_error_ns: error,
        text: format!("{how}; {sure}"),
    }
}

/// Formats a time in milliseconds, for people.
fn ms(ns: i128) -> String {
    let us = ns / 1_000;
    format!("{}{}.{:03} ms", if us < 0 { "-" } else { "" }, us.abs() / 1_000, us.abs() % 1_000)
}

pub(super) fn narrow(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

fn unsigned(ns: i128) -> u64 {
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_that_causality_allows() {
        let chosen = |by, early, late| OffsetCorrection { by, early, late };
        assert_eq!(choose(None, None, None), chosen(0, None, None));
        assert_eq!(choose(None, None, Some(5)), chosen(0, Some(5), Some(5)));
        assert_eq!(choose(Some(-3), None, None), chosen(0, None, Some(3)));
        assert_eq!(choose(Some(4), None, Some(9)), chosen(4, Some(5), Some(0)));
        assert_eq!(choose(Some(-3), Some(8), Some(5)), chosen(0, Some(5), Some(3)));
        assert_eq!(choose(None, Some(-8), None), chosen(-8, Some(0), None));
        // The promise is broken.
        assert_eq!(choose(Some(20), None, Some(5)), chosen(20, None, Some(0)));
        // The demands contradict each other.
        assert_eq!(choose(Some(6), Some(2), None), chosen(4, Some(4), Some(4)));
    }

    #[test]
    fn as_promised_or_as_causality_shows() {
        let moved = |by, early, late| OffsetCorrection { by, early, late };
        assert_eq!(moved(2, None, Some(0)).or_as_promised(2), moved(2, None, Some(0)));
        assert_eq!(moved(400, None, Some(0)).or_as_promised(2), moved(400, None, Some(402)));
        assert_eq!(moved(400, None, None).or_as_promised(2), moved(400, None, None));
        assert_eq!(moved(-400, Some(3), Some(9)).or_as_promised(2), moved(-400, Some(402), Some(9)));
    }

    proptest! {
        #[test]
        fn within_the_bounds(least in -100..100i128, room in 0..100i128, error in proptest::option::of(0..200u64)) {
            let most = least + room;
            let chosen = choose(Some(least), Some(most), error);
            prop_assert!((least..=most).contains(&chosen.by));
            prop_assert!(chosen.early.is_some_and(|early| early >= 0 && chosen.by + early <= most));
            prop_assert!(chosen.late.is_some_and(|late| late >= 0 && chosen.by - late >= least));
            // Seen from the other host everything is reversed.
            let other = choose(Some(-most), Some(-least), error);
            prop_assert_eq!((other.by, other.early, other.late), (-chosen.by, chosen.late, chosen.early));
        }
    }
}
