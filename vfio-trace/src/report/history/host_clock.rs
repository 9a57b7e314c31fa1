//! History of a host's clocks over a recording: the time that the host slept, and the steps of its wall clock.

use crate::event::ClockAnchor;

/// Smallest difference that counts as a step, see [`crate::event::WallClock`].
const MIN_STEP_NS: i128 = 1_000_000;
/// Most steps that are kept; beyond that, times before the oldest step are treated as times just after it.
const MAX_STEPS: usize = 1024;
/// Most promises that are kept; beyond that, the worse one of each two.
const MAX_PROMISES: usize = 4096;

/// Value that holds from a time of CLOCK_MONOTONIC on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ValueSince<T> {
    from_ns: u64,
    value: T,
}

/// Clocks of a host. CLOCK_MONOTONIC, the clock of the records, stands still while the host sleeps; CLOCK_BOOTTIME does
/// not. Otherwise both run alike. CLOCK_REALTIME runs like CLOCK_BOOTTIME until it is set.
///
/// [`HostHistory`](super::HostHistory) updates it with each clock reading of the recording; the merge of several hosts'
/// clocks uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostClock {
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC in ns; never empty.
    asleep: Vec<ValueSince<i128>>,
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME in ns; never empty.
    set: Vec<ValueSince<i128>>,
    /// The kernel's bound for the wall clock's distance from UTC (`maxerror` of adjtimex(2)), in ns; `None`: the clock
    /// was not synchronised. Never empty.
    promised: Vec<ValueSince<Option<u64>>>,
    /// Time of the last reading; `None`: CLOCK_BOOTTIME is not known yet.
    sampled_ns: Option<u64>,
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new(ClockAnchor::default(), None)
    }
}

impl HostClock {
    pub(super) fn new(anchor: ClockAnchor, error_ns: Option<u64>) -> Self {
        Self {
            asleep: vec![ValueSince { from_ns: 0, value: 0 }],
            set: vec![ValueSince { from_ns: 0, value: anchor.distance_ns() }],
            promised: vec![ValueSince { from_ns: 0, value: error_ns }],
            sampled_ns: None,
        }
    }

    /// Takes in a later reading of the clocks, which were read at most `read_ns` apart. Of times between two readings
    /// that differ, each belongs to the nearer reading.
    pub(super) fn sample(&mut self, found: ClockAnchor, boot_ns: u64, read_ns: u64, error_ns: Option<u64>) {
        // 0 means that the clocks were not read.
        if found.real_ns == 0 || boot_ns == 0 || self.sampled_ns.is_some_and(|last| found.mono_ns < last) {
            return;
        }
        let asleep = i128::from(boot_ns) - i128::from(found.mono_ns);
        let ahead_ns = i128::from(found.real_ns) - i128::from(boot_ns);
        let Some(last_ns) = self.sampled_ns.replace(found.mono_ns) else {
            // Sleep before the first reading does not matter by itself, but the wall clock's lead over CLOCK_MONOTONIC
            // includes it.
            self.asleep = vec![ValueSince { from_ns: 0, value: asleep }];
            for set in &mut self.set {
                set.value -= asleep;
            }
            self.set_to(found.mono_ns, ahead_ns, read_ns);
            self.promise(found.mono_ns, error_ns);
            return;
        };
        let from_ns = last_ns.midpoint(found.mono_ns);
        // Time asleep never shrinks.
        if asleep - self.asleep_at(u64::MAX) > MIN_STEP_NS + i128::from(read_ns) {
            push(&mut self.asleep, ValueSince { from_ns, value: asleep });
        }
        self.set_to(from_ns, ahead_ns, read_ns);
        self.promise(from_ns, error_ns);
    }

    fn set_to(&mut self, from_ns: u64, ahead_ns: i128, read_ns: u64) {
        let step = ahead_ns - at(&self.set, u64::MAX);
        if step.abs() > MIN_STEP_NS + i128::from(read_ns) {
            push(&mut self.set, ValueSince { from_ns, value: ahead_ns });
        }
    }

    /// Takes in the kernel's bound from a time on. A bound that is a little better changes nothing: the one before
    /// stays true.
    fn promise(&mut self, from_ns: u64, error_ns: Option<u64>) {
        let stays = match (at(&self.promised, u64::MAX), error_ns) {
            (Some(before), Some(now)) => (before / 2..=before).contains(&now),
            (before, now) => before == now,
        };
        if stays {
            return;
        }
        if self.promised.len() >= MAX_PROMISES {
            let worse = |pair: &[ValueSince<Option<u64>>]| {
                let worst =
                    pair.iter().map(|one| one.value).try_fold(0, |most, value| Some(most.max(value?)));
                pair.first().map(|first| ValueSince { from_ns: first.from_ns, value: worst })
            };
            self.promised = self.promised.chunks(2).filter_map(worse).collect();
        }
        self.promised.push(ValueSince { from_ns, value: error_ns });
    }

    /// Returns CLOCK_BOOTTIME minus CLOCK_MONOTONIC at a time of the latter.
    pub(crate) fn asleep_at(&self, mono_ns: u64) -> i128 {
        at(&self.asleep, mono_ns)
    }

    /// Returns the times at which the host slept: the time of CLOCK_MONOTONIC, and CLOCK_BOOTTIME minus CLOCK_MONOTONIC
    /// before and after.
    pub(crate) fn sleeps(&self) -> impl Iterator<Item = (u64, i128, i128)> {
        let pairs = self.asleep.iter().zip(self.asleep.iter().skip(1));
        pairs.map(|(before, after)| (after.from_ns, before.value, after.value))
    }

    /// Returns CLOCK_REALTIME minus CLOCK_BOOTTIME at a time of CLOCK_MONOTONIC.
    pub(crate) fn ahead_at(&self, mono_ns: u64) -> i128 {
        at(&self.set, mono_ns)
    }

    /// Returns the worst of the kernel's bounds from one time of CLOCK_MONOTONIC to another, for wall times that are
    /// computed with this distance from CLOCK_BOOTTIME: a bound is one for the wall clock as it was set at its time.
    pub(crate) fn worst_error(&self, first_ns: u64, last_ns: u64, ahead_ns: i128) -> Option<u64> {
        let changes = since(&self.promised, first_ns, last_ns).chain(since(&self.set, first_ns, last_ns));
        std::iter::once(first_ns).chain(changes).try_fold(0, |worst, at_ns| {
            let off = u64::try_from(self.ahead_at(at_ns).abs_diff(ahead_ns)).unwrap_or(u64::MAX);
            Some(self.error_at(at_ns)?.saturating_add(off).max(worst))
        })
    }

    /// Returns the kernel's bound at a time of CLOCK_MONOTONIC.
    pub(crate) fn error_at(&self, mono_ns: u64) -> Option<u64> {
        at(&self.promised, mono_ns)
    }
}

fn push<T>(all: &mut Vec<ValueSince<T>>, next: ValueSince<T>) {
    if all.len() >= MAX_STEPS {
        all.remove(0);
    }
    all.push(next);
}

/// Returns the times after the first one and up to the last one at which the value changed.
fn since<T>(all: &[ValueSince<T>], first_ns: u64, last_ns: u64) -> impl Iterator<Item = u64> {
    let later = all.partition_point(|since| since.from_ns <= first_ns);
    let times = all.iter().skip(later).map(|since| since.from_ns);
    times.take_while(move |from_ns| *from_ns <= last_ns)
}

/// Returns the value at a time of CLOCK_MONOTONIC.
fn at<T: Copy + Default>(all: &[ValueSince<T>], mono_ns: u64) -> T {
    let later = all.partition_point(|since| since.from_ns <= mono_ns);
    all.get(later.saturating_sub(1)).map(|since| since.value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn promised(all: impl IntoIterator<Item = Option<u64>>) -> HostClock {
        let mut clocks = HostClock::new(ClockAnchor { mono_ns: 0, real_ns: SECOND }, Some(1_000_000));
        for (number, error_ns) in (1..).zip(all) {
            let mono_ns = number * 10 * SECOND;
            let found = ClockAnchor { mono_ns, real_ns: mono_ns + SECOND };
            clocks.sample(found, mono_ns, 0, error_ns);
        }
        clocks
    }

    #[test]
    fn a_promise_counts_until_the_kernel_takes_it_back() {
        let clocks = promised([Some(900_000), None, Some(40_000_000), Some(45_000_000), Some(3)]);
        let at = |second: u64| clocks.error_at(second * SECOND);
        assert_eq!([at(0), at(9), at(14)], [Some(1_000_000); 3], "no step, and a little better");
        assert_eq!(at(20), None, "the source of time was lost");
        assert_eq!([at(30), at(40), at(50)], [Some(40_000_000), Some(45_000_000), Some(3)]);
    }

    #[test]
    fn a_promise_is_one_for_the_clock_as_it_was_set() {
        let mut clocks = promised([Some(1_000_000); 3]);
        // After 30 s the clock was set by an hour; after 40 s nothing was promised.
        let hour = 3_600 * SECOND;
        for (at, error_ns) in [(40, Some(3_000_000)), (60, None)] {
            let mono_ns = at * SECOND;
            let found = ClockAnchor { mono_ns, real_ns: mono_ns + SECOND + hour };
            clocks.sample(found, mono_ns, 0, error_ns);
        }
        let (before, after) = (i128::from(SECOND), i128::from(SECOND + hour));
        let worst = |first, last, ahead| clocks.worst_error(first * SECOND, last * SECOND, ahead);
        assert_eq!(worst(0, 34, before), Some(1_000_000));
        assert_eq!(worst(0, 35, before), Some(3_000_000 + hour));
        assert_eq!(
            (worst(0, 34, after), worst(0, 40, after)),
            (Some(1_000_000 + hour), Some(1_000_000 + hour))
        );
        assert_eq!(worst(35, 49, after), Some(3_000_000));
        assert_eq!((worst(35, 50, after), worst(70, u64::MAX / SECOND, after)), (None, None));
    }

    #[test]
    fn of_very_many_promises_the_worse_ones_are_kept() {
        let errors: Vec<Option<u64>> =
            (1..20_000).map(|number| (number != 700).then_some(number * SECOND)).collect();
        let clocks = promised(errors.iter().copied());
        assert!(clocks.promised.len() <= MAX_PROMISES);
        for (number, error_ns) in (1..).zip(errors) {
            let known = clocks.error_at(number * 10 * SECOND);
            assert!(known.is_none_or(|known| error_ns.is_some_and(|error_ns| known >= error_ns)), "{number}");
        }
        assert!(clocks.error_at(u64::MAX).is_some());
    }
}
