//! Numbers with units as text for people, and names that cannot harm a terminal.

pub use crate::units::visible::clean;

/// Formats a number of bytes in binary units: `24 B`, `1 MiB` if exact, else three digits: `1.46 KiB`.
pub fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 1;
    for name in UNITS {
        unit <<= 10;
        if count.is_multiple_of(unit) && count / unit < 1000 {
            return format!("{} {name}", count / unit);
        }
        if let Some(digits) = three_digits(count, unit) {
            return format!("{digits} {name}");
        }
    }
    format!("{count} B")
}

/// Formats a duration in the unit that fits, with three digits: `640 ns`, `9.10 µs`, `412 ms`, `31.5 s`; from 1000 s on
/// as `16m40s`, `1h02m03s`.
pub fn duration(ns: u64) -> String {
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    for (name, unit) in [("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)] {
        if let Some(digits) = three_digits(ns, unit) {
            return format!("{digits} {name}");
        }
    }
    let seconds = ns / 1_000_000_000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}h{minutes:02}m{seconds:02}s") } else { format!("{minutes}m{seconds:02}s") }
}

/// Formats `value` in units of `unit`, rounded to three significant digits; `None` if that needs four.
fn three_digits(value: u64, unit: u64) -> Option<String> {
    let (value, unit) = (u128::from(value), u128::from(unit));
    let rounded = |scale: u128| (value * scale + unit / 2) / unit;
    Some(match (rounded(100), rounded(10), rounded(1)) {
        (n, ..) if n < 1000 => format!("{}.{:02}", n / 100, n % 100),
        (_, n, _) if n < 1000 => format!("{}.{}", n / 10, n % 10),
        (.., n) if n < 1000 => n.to_string(),
        _ => return None,
    })
}

/// Formats a number with its noun: `1 arc`, `2 arcs`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts() {
        let said: Vec<String> =
            [0, 24, 999, 1000, 1023, 1024, 1500, 1 << 20, (1 << 20) + 512, 3 << 30, u64::MAX]
                .into_iter()
                .map(bytes)
                .collect();
        assert_eq!(
            said,
            [
                "0 B", "24 B", "999 B", "0.98 KiB", "1.00 KiB", "1 KiB", "1.46 KiB", "1 MiB", "1.00 MiB",
                "3 GiB", "16.0 EiB"
            ]
        );
    }

    #[test]
    fn durations() {
        let said: Vec<String> =
            [0, 640, 9_100, 412_000, 999_400, 999_600, 12_345_678, 31_500_000_000, 1_000_000_000_000]
                .into_iter()
                .map(duration)
                .collect();
        assert_eq!(
            said,
            ["0 ns", "640 ns", "9.10 µs", "412 µs", "999 µs", "1.00 ms", "12.3 ms", "31.5 s", "16m40s"]
        );
        assert_eq!(duration(3_723_000_000_000), "1h02m03s");
        assert!(!duration(u64::MAX).is_empty());
    }
}
