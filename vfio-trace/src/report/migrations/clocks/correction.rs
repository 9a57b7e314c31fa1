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

/// Returns the smallest change that causality allows; `error`: largest error of the wall clocks. If the demands
/// contradict each other, that is the middle between them.
pub(super) fn choose(least: Option<i128>, most: Option<i128>, error: Option<u64>) -> OffsetCorrection {
    let error = error.map(i128::from);
    // A promise that contradicts causality is ignored.
    let kept =
        |error: i128| least.is_none_or(|least| least <= error) && most.is_none_or(|most| most >= -error);
    let error = error.filter(|error| kept(*error));
    // Contradicting demands come from different times, from a wrong pair, or from noise in a part that was not seen: the
    // middle is as good as any value, and neither demand bounds the error.
    if let Some((least, most)) = contradiction(least, most) {
        let (by, off) = (i128::midpoint(least, most), least - most);
        let within = |error: i128| error.max(off);
        return OffsetCorrection {
            by,
            early: error.map(|error| within(error - by)),
            late: error.map(|error| within(error + by)),
        };
    }
    let by = least.map_or(0, |least| least.max(0));
    let by = most.map_or(by, |most| by.min(most));
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

/// Returns both demands if they cannot be met together.
fn contradiction(least: Option<i128>, most: Option<i128>) -> Option<(i128, i128)> {
    least.zip(most).filter(|(least, most)| least > most)
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
    let exceeds = |error: &u64| {
        let error = i128::from(*error);
        least.is_some_and(|least| least > error) || most.is_some_and(|most| most < -error)
    };
    let broken = error.filter(exceeds);
    let broken = broken.map_or_else(String::new, |error| {
        format!(", although the kernels promise that they are no farther apart than {}", ms(error.into()))
    });
    let how = match (contradiction(least, most), moved, least.is_some() || most.is_some()) {
        (Some((least, most)), ..) => {
            let middle = if moved {
                format!("moved by {}, the middle", ms(chosen.by))
            } else {
                "left as they are, in the middle".to_owned()
            };
            format!(
                "some streams demand at least {} and others at most {}, which is not possible at one time: {middle}{broken}",
                ms(least),
                ms(most)
            )
        },
        (None, true, _) => format!(
            "the wall clocks would have had data written before it was read: moved by {}, as far as causality demands{broken}",
            ms(chosen.by)
        ),
        (None, false, true) => {
            "the wall clocks agree with causality: nothing was written before it was read".to_owned()
        },
        (None, false, false) => {
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
    }

    #[test]
    fn contradicting_demands_bound_nothing_by_themselves() {
        let chosen = |by, early, late| OffsetCorrection { by, early, late };
        // The streams went at different times, and the clocks drifted in between: how far is not known.
        assert_eq!(choose(Some(6), Some(2), None), chosen(4, None, None));
        assert_eq!(choose(Some(6), Some(2), Some(20)), chosen(4, Some(16), Some(24)));
        assert_eq!(choose(Some(-2), Some(-6), Some(20)), chosen(-4, Some(24), Some(16)));
        // No less than what the demands themselves show.
        assert_eq!(choose(Some(6), Some(0), Some(7)), chosen(3, Some(6), Some(10)));
        // One demand breaks the promise.
        assert_eq!(choose(Some(6), Some(2), Some(5)), chosen(4, None, None));
    }

    #[test]
    fn a_description_claims_what_was_found() {
        let text = |least, most, error: Option<u64>| {
            let error = error.map(|ms| ms * 1_000_000);
            let [least, most] = [least, most].map(|ms: Option<i128>| ms.map(|ms| ms * 1_000_000));
            describe(1, 0, choose(least, most, error), (least, most), error).text
        };
        let both =
            "streams demand at least 6.000 ms and others at most 2.000 ms, which is not possible at one time";
        for (error, sure) in [
            (
                None,
                "moved by 4.000 ms, the middle; how far apart they are is not known, because a clock is not synchronised",
            ),
            (
                Some(20),
                "moved by 4.000 ms, the middle; times may be 16.000 ms too early or 24.000 ms too late",
            ),
            (
                Some(5),
                "moved by 4.000 ms, the middle, although the kernels promise that they are no farther apart than \
                       5.000 ms; how far apart they are is not known, because a kernel's promise is broken",
            ),
        ] {
            let told = text(Some(6), Some(2), error);
            assert!(told.contains(both) && told.ends_with(sure), "{told}");
            assert!(!told.contains("as far as causality demands"), "{told}");
        }
        // The middle may be no change at all.
        let told = text(Some(3), Some(-3), Some(20));
        assert!(!told.contains("agree with causality") && !told.contains("moved by"), "{told}");
        assert!(told.contains("left as they are, in the middle"), "{told}");
        for (least, most) in [(Some(6), None), (Some(2), Some(6)), (Some(-6), Some(6)), (None, None)] {
            assert!(!text(least, most, Some(20)).contains("not possible at one time"));
        }
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
