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
    /// Least and largest change that streams demand at any time, or the change itself.
    demanded: (i128, i128),
}

impl OffsetCorrection {
    /// Correction of the first host's clock: none.
    pub(in super::super) const NONE: Self = Self { by: 0, early: Some(0), late: Some(0), demanded: (0, 0) };

    /// Makes a correction with its least and its largest true value. If these contradict each other, a pair is wrong, or
    /// something was not seen: then neither bounds the error.
    pub(super) fn bounded(
        by: i128,
        (least, most): (Option<i128>, Option<i128>),
        demanded: (i128, i128),
    ) -> Self {
        if contradiction(least, most).is_some() {
            return Self { by, early: None, late: None, demanded };
        }
        // The choice may be outside of the bounds, because streams that bound nothing demand it.
        let far = |far: i128| far.max(0);
        Self {
            by,
            early: most.map(|most| far(most - by)),
            late: least.map(|least| far(by - least)),
            demanded,
        }
    }

    /// Returns the correction relative to another host's.
    pub(in super::super) fn since(self, from: Self) -> Self {
        let sum = |one: Option<i128>, two: Option<i128>| one.zip(two).map(|(one, two)| one + two);
        Self {
            by: self.by - from.by,
            early: sum(self.early, from.late),
            late: sum(self.late, from.early),
            demanded: (self.demanded.0 - from.demanded.1, self.demanded.1 - from.demanded.0),
        }
    }

    /// Returns the same with a further demand.
    pub(in super::super) fn demanding(self, least: i128) -> Self {
        Self { demanded: (self.demanded.0, self.demanded.1.max(least)), ..self }
    }

    /// Returns the same with the error for a time at which the clocks were promised to be no farther apart than
    /// `promised_ns`. If a stream demands more, the promise was broken then. It may have been kept all the same, because
    /// that stream went at another time, or is a wrong pair's: in its direction nothing is promised, in the other one
    /// nothing but the promise counts.
    pub(in super::super) fn as_promised(self, promised_ns: u64) -> Self {
        let promised = i128::from(promised_ns);
        let (low, high) = (self.demanded.0 < -promised, self.demanded.1 > promised);
        let always = self.or_as_always_promised(promised_ns);
        match (low, high) {
            (false, true) => Self { late: Some(promised + self.by), ..always },
            (true, false) => Self { early: Some(promised - self.by), ..always },
            _ => always,
        }
    }

    /// Returns the same with the error for all times, at all of which the clocks were promised to be no farther apart
    /// than `promised`. In a direction in which a stream shows the promise broken, it counts for nothing.
    pub(super) fn or_as_always_promised(self, promised: u64) -> Self {
        let promised = i128::from(promised);
        let early = (self.demanded.1 <= promised).then_some(promised - self.by);
        let late = (self.demanded.0 >= -promised).then_some(promised + self.by);
        Self { early: nearer(self.early, early), late: nearer(self.late, late), ..self }
    }

    /// Returns the same with the error for all times, at some of which the clocks were promised to be no farther apart
    /// than `promised`. If the correction exceeds that, the promise may have been kept all the same, because the
    /// correction comes from another time, or from a wrong pair: then it may be wrong by its whole amount and the
    /// promise.
    pub(super) fn or_as_promised(self, promised: u64) -> Self {
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

    /// Returns the same with the error for a time at which a stream shows that the true change is smaller by `late` at
    /// most.
    pub(in super::super) fn shown(self, late: i128) -> Self {
        let early = self.early.map(|early| early.max(-late));
        Self { early, late: nearer(self.late, Some(late.max(0))), ..self }
    }
}

/// Returns the smaller one of two bounds that may not be known.
fn nearer(one: Option<i128>, two: Option<i128>) -> Option<i128> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

/// Returns the smallest change that causality allows. If the demands contradict each other, that is the middle between
/// them: they come from different times, from a wrong pair, or from noise in a part that was not seen, so that it is as
/// good as any value.
pub(super) fn choose(least: Option<i128>, most: Option<i128>) -> i128 {
    if let Some((least, most)) = contradiction(least, most) {
        return i128::midpoint(least, most);
    }
    let by = least.map_or(0, |least| least.max(0));
    most.map_or(by, |most| by.min(most))
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
        None => "because a clock was not synchronised at some time",
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

    /// Makes the correction of a boot whose streams demand these, at one time.
    fn bounded(least: Option<i128>, most: Option<i128>) -> OffsetCorrection {
        let by = choose(least, most);
        let demanded = (most.map_or(by, |most| most.min(by)), least.map_or(by, |least| least.max(by)));
        OffsetCorrection::bounded(by, (least, most), demanded)
    }

    fn figures(chosen: OffsetCorrection) -> (i128, Option<i128>, Option<i128>) {
        (chosen.by, chosen.early, chosen.late)
    }

    #[test]
    fn the_nearest_that_causality_allows() {
        let of = |least, most, error: Option<u64>| {
            let chosen = bounded(least, most);
            figures(error.map_or(chosen, |error| chosen.or_as_always_promised(error)))
        };
        assert_eq!(of(None, None, None), (0, None, None));
        assert_eq!(of(None, None, Some(5)), (0, Some(5), Some(5)));
        assert_eq!(of(Some(-3), None, None), (0, None, Some(3)));
        assert_eq!(of(Some(4), None, Some(9)), (4, Some(5), Some(0)));
        assert_eq!(of(Some(-3), Some(8), Some(5)), (0, Some(5), Some(3)));
        assert_eq!(of(None, Some(-8), None), (-8, Some(0), None));
        // The promise is broken.
        assert_eq!(of(Some(20), None, Some(5)), (20, None, Some(0)));
        // The demands contradict each other: nothing but the promise bounds the error.
        assert_eq!(of(Some(6), Some(2), None), (4, None, None));
        assert_eq!(of(Some(6), Some(2), Some(20)), (4, Some(16), Some(24)));
        assert_eq!(of(Some(-2), Some(-6), Some(20)), (-4, Some(24), Some(16)));
        assert_eq!(of(Some(6), Some(2), Some(5)), (4, None, Some(9)));
        assert_eq!(of(Some(-2), Some(-6), Some(5)), (-4, Some(9), None));
    }

    #[test]
    fn as_promised_or_as_streams_show() {
        let of = |least, most, promised| figures(bounded(least, most).as_promised(promised));
        assert_eq!(of(Some(2), None, 2), (2, Some(0), Some(0)));
        // The promise bounds in the direction that no stream shows broken.
        assert_eq!(of(Some(400), None, 2), (400, None, Some(402)));
        assert_eq!(of(None, Some(-400), 2), (-400, Some(402), None));
        assert_eq!(of(Some(400), Some(-400), 2), (0, None, None));
        // A correction within the promise is no more certain at other times.
        let other = OffsetCorrection { late: None, ..bounded(Some(20), None) };
        assert_eq!(figures(other.as_promised(50)), (20, Some(30), Some(70)));
        // This time's own stream breaks the promise.
        assert_eq!(figures(other.demanding(60).as_promised(50)), (20, None, Some(70)));
        assert_eq!(figures(other.shown(3)), (20, None, Some(3)));
        // No error is negative.
        let within = bounded(Some(20), Some(25));
        assert_eq!(figures(within), (20, Some(5), Some(0)));
        assert_eq!(figures(within.shown(-8)), (20, Some(8), Some(0)));
        let outside = |by| figures(OffsetCorrection::bounded(by, (Some(10), Some(12)), (2, 10)));
        assert_eq!([outside(6), outside(14)], [(6, Some(6), Some(0)), (14, Some(0), Some(4))]);
        let always = |promised| figures(bounded(Some(400), None).or_as_promised(promised));
        assert_eq!([always(2), always(400)], [(400, None, Some(402)), (400, None, Some(0))]);
    }

    #[test]
    fn a_description_claims_what_was_found() {
        let text = |least, most, error: Option<u64>| {
            let error = error.map(|ms| ms * 1_000_000);
            let [least, most] = [least, most].map(|ms: Option<i128>| ms.map(|ms| ms * 1_000_000));
            let chosen = bounded(least, most);
            let chosen = error.map_or(chosen, |error| chosen.or_as_always_promised(error));
            describe(1, 0, chosen, (least, most), error).text
        };
        let both =
            "streams demand at least 6.000 ms and others at most 2.000 ms, which is not possible at one time";
        for (error, sure) in [
            (
                None,
                "moved by 4.000 ms, the middle; how far apart they are is not known, because a clock was not synchronised at some time",
            ),
            (
                Some(20),
                "moved by 4.000 ms, the middle; times may be 16.000 ms too early or 24.000 ms too late",
            ),
            (
                Some(5),
                "moved by 4.000 ms, the middle, although the kernels promise that they are no farther apart than \
                       5.000 ms; times may be 9.000 ms too late; how much too early is not known, because a kernel's promise is broken",
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

    proptest! {
        #[test]
        fn within_the_bounds(least in -100..100i128, room in 0..100i128, error in proptest::option::of(0..200u64)) {
            let most = least + room;
            let of = |least, most| {
                let chosen = bounded(Some(least), Some(most));
                error.map_or(chosen, |error| chosen.or_as_always_promised(error))
            };
            let chosen = of(least, most);
            prop_assert!((least..=most).contains(&chosen.by));
            prop_assert!(chosen.early.is_some_and(|early| early >= 0 && chosen.by + early <= most));
            prop_assert!(chosen.late.is_some_and(|late| late >= 0 && chosen.by - late >= least));
            // Seen from the other host everything is reversed.
            let other = of(-most, -least);
            prop_assert_eq!((other.by, other.early, other.late), (-chosen.by, chosen.late, chosen.early));
        }
    }
}
