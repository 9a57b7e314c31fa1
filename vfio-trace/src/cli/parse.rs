//! Values on the command line: durations and sizes with units.

use std::time::Duration;

use jiff::{Timestamp, civil, fmt::friendly::SpanParser};

use super::past::RecordingMoment;

/// Reads a time span such as `10`, `1.5s`, `200ms`, `5m` and `1h30m`; without a unit it is in seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let span = span(text)?.filter(|span| !span.is_zero()).ok_or_else(|| NO_SPAN.to_owned())?;
    if span <= LONGEST { Ok(span) } else { Err("longer than 100 years (878400h)".to_owned()) }
}

const NO_SPAN: &str = "not a time span such as 10s, 1.5m, 200ms or 1h30m: units are h, m, s and ms";
const UNITS: &str = "use h, m, s or ms";

/// Reads a time span that may be 0; `None` if it is none. One number with a unit may be one that jiff does not take
/// (`.5s`, or without a unit).
fn span(text: &str) -> Result<Option<Duration>, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        // jiff takes them, but nothing here is so short, and `10us` may be a slip of the hand for 10 s.
        _ if text.split(|c: char| !c.is_ascii_alphabetic()).any(is_below_ms) => {
            return Err(format!("a unit in \"{text}\" is too small: {UNITS}"));
        },
        // Only numbers with units: jiff takes signs, commas, `1:30:00` and `2h ago` as well.
        several if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ' ')) => {
            return match SpanParser::new().parse_unsigned_duration(text) {
                Ok(span) => Ok(Some(span)),
                Err(_) if several.contains(|c: char| c.is_ascii_digit()) => Ok(None),
                Err(_) => Err(format!("unknown unit \"{unit}\": {UNITS}")),
            };
        },
        _ => return Err(format!("unknown unit \"{unit}\": {UNITS}")),
    };
    let number = number.parse::<f64>().ok();
    Ok(number.and_then(|number| Duration::try_from_secs_f64(number * factor).ok()))
}

/// Returns true if jiff takes the word for microseconds or nanoseconds.
fn is_below_ms(word: &str) -> bool {
    ["us", "ns", "micro", "nano"].iter().any(|unit| word.starts_with(unit))
}

/// Longest time span: 100 years, which no run and no recording takes. Clocks have room for it after the time that they
/// show.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

/// Reads a moment of a recording such as `2.5s`, `2026-11-22T15:40:20Z`, `2026-11-22 15:40:20.5` and `15:40:20`.
pub(super) fn moment(text: &str) -> Result<RecordingMoment, String> {
    if !text.contains([':', '-']) {
        let after = span(text)?.filter(|after| *after <= LONGEST);
        return after.map(RecordingMoment::After).ok_or_else(|| {
            "not a time in a recording such as 0s, 2.5s, 850ms or 1h30m: units are h, m, s and ms".to_owned()
        });
    }
    // jiff reads a zone in brackets, and drops it.
    if text.contains('[') {
        return Err(
            "a zone in brackets is not read: use Z or an offset, 2026-11-22T15:40:20+01:00".to_owned()
        );
    }
    if let Ok(wall) = text.parse::<Timestamp>() {
        return Ok(RecordingMoment::Wall(wall));
    }
    let wrong = "not a moment such as 2.5s, 2026-11-22T15:40:20Z, 2026-11-22T15:40:20 (local) or 15:40:20";
    let head = text.split(':').next().unwrap_or_default();
    let has_date =
        head.contains('-') || head.split_once(SEPARATORS).is_some_and(|(date, _)| !date.is_empty());
    // jiff's civil types read an offset, and drop it.
    if has_offset(text) {
        let no_date = "a time of day with Z or an offset has no date: use 2026-11-22T15:40:20+01:00";
        return Err(if has_date { wrong } else { no_date }.to_owned());
    }
    let moment = if has_date {
        text.parse::<civil::DateTime>().map(RecordingMoment::Local)
    } else {
        text.parse::<civil::Time>().map(RecordingMoment::Day)
    };
    moment.map_err(|_why| wrong.to_owned())
}

/// Characters that may stand between date and time.
const SEPARATORS: [char; 3] = ['T', 't', ' '];

/// Returns true if Z or an offset follows the time of a moment; without a separator before the time, that is one with
/// a colon.
fn has_offset(text: &str) -> bool {
    let time = text.split_once(SEPARATORS).or_else(|| text.split_once(':')).map_or("", |(_, time)| time);
    let head = text.get(1..).unwrap_or_default();
    time.contains(['+', '-', 'Z', 'z']) || head.contains(['+', 'Z', 'z'])
}

/// Amount of a recording: a limit of `record`, or of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordingAmount {
    /// Bytes.
    Bytes(u64),
    /// Time.
    Time(Duration),
    /// Records.
    Records(u64),
}

/// Reads an amount: `100M` is a size, `10m` a time, `5000` a number of records. K, M, G are capitals, ms, s, m, h are
/// not.
pub(super) fn amount(text: &str) -> Result<RecordingAmount, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    match (unit, unit.chars().next()) {
        ("", _) => number.map(RecordingAmount::Records).ok_or_else(|| "not a number of records".to_owned()),
        (_, Some('K' | 'M' | 'G' | 'B')) => size(text).map(RecordingAmount::Bytes),
        _ => {
            duration(text).map(RecordingAmount::Time).map_err(|why| format!("{why} (or K, M, G for a size)"))
        },
    }
}

/// Reads an amount for a part, which cannot be a number of records.
pub(super) fn part(text: &str) -> Result<RecordingAmount, String> {
    if text.chars().all(|c| c.is_ascii_digit()) {
        return Err("give a size (100M) or a time (1h)".to_owned());
    }
    match amount(text)? {
        RecordingAmount::Records(_) => Err("give a size (100M) or a time (1h)".to_owned()),
        RecordingAmount::Bytes(bytes) if bytes < 64 << 10 => Err("a part has at least 64K".to_owned()),
        other => Ok(other),
    }
}

/// Reads a size of a buffer such as `4M`, `512K` and `65536`, with binary units.
pub(super) fn bytes(text: &str) -> Result<u32, String> {
    let size = size(text)?;
    let size = Some(size).filter(|size| (4096..=1 << 30).contains(size));
    size.and_then(|size| u32::try_from(size).ok()).ok_or_else(|| "not a size between 4K and 1G".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("unknown unit \"{unit}\": use K, M or G")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|size| *size > 0)
        .ok_or_else(|| "not a size such as 512K, 4M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration(".5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("1h 2m 3.5s"), Ok(Duration::from_millis(3_723_500)));
        assert_eq!(duration("2 minutes"), Ok(Duration::from_mins(2)));
        for wrong in [
            "",
            "0",
            "s",
            "-1",
            "1y",
            "1d",
            "1e9",
            "1.2.3",
            "0h0m",
            "-1h30m",
            "1h-5m",
            "+5s",
            "1h, 5m",
            "1:30:00",
            "1h 02:03",
            "1h30m ago",
            "1h30",
            "1h30M",
            "1m1h",
            "99999999999999999999h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn deadlines_do_not_overflow() {
        for long in [
            "878400h",
            "878401h",
            "878400h1ms",
            "99999999999s",
            "10000000000000000000s",
            "18446744073709551615s",
            "18446744073709551614",
            "2562047788015215h30m7s",
            "2562047788015216h1m",
            "5124095576030431h15s",
        ] {
            let span = duration(long);
            assert_eq!(span.is_ok(), long == "878400h", "{long}");
            if let Ok(span) = span {
                assert!(Instant::now().checked_add(span).is_some(), "{long}");
            }
        }
    }

    #[test]
    fn refusals_name_the_units() {
        for text in
            ["1d12h", "PT1H", "1e3", "1h30", "abc", "10us", "1s500us", "10 nanoseconds", "2 micros", "1d"]
        {
            for why in [duration(text).unwrap_err(), moment(text).unwrap_err()] {
                for unit in ["h", "m", "s", "ms"] {
                    let mut words = why.split(|c: char| !c.is_ascii_alphanumeric());
                    assert!(words.any(|word| word == unit), "{text}: {why}");
                }
            }
        }
        assert_eq!(duration("1 minute 30 seconds 5 msecs"), Ok(Duration::from_millis(90_005)));
    }

    #[test]
    fn moments() {
        let wall = |text: &str| Ok(RecordingMoment::Wall(text.parse().unwrap()));
        assert_eq!(moment("850ms"), Ok(RecordingMoment::After(Duration::from_millis(850))));
        assert_eq!(moment("2026-11-22T15:40:20.5Z"), wall("2026-11-22T15:40:20.5Z"));
        assert_eq!(moment("2026-11-22T15:40:20.5+01:00"), wall("2026-11-22T14:40:20.5Z"));
        assert_eq!(moment("15:40:20.25"), Ok(RecordingMoment::Day(civil::time(15, 40, 20, 250_000_000))));
        let local = civil::date(2026, 11, 22).at(15, 40, 20, 0);
        assert_eq!(moment("2026-11-22 15:40:20"), Ok(RecordingMoment::Local(local)));
        assert_eq!(moment("0s"), Ok(RecordingMoment::After(Duration::ZERO)));
        assert_eq!(moment("0"), Ok(RecordingMoment::After(Duration::ZERO)));
        for wrong in [
            "",
            ".",
            "s",
            "1e9",
            "99999999999s",
            "99999999999999999999h",
            "-0s",
            "2.5x",
            "-1s",
            "25:00:00",
            "2026-13-01T00:00:00Z",
            "yesterday",
            "15:40 today",
            "2026-11-22Z",
        ] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(moment("20261122 15:40:20"), Ok(RecordingMoment::Local(local)), "the date counts");
        let midnight = civil::date(2026, 11, 22).at(0, 0, 0, 0);
        assert_eq!(moment("2026-11-22"), Ok(RecordingMoment::Local(midnight)));
        assert_eq!(moment("T15:40:20"), Ok(RecordingMoment::Day(civil::time(15, 40, 20, 0))));
        assert_eq!(moment("2026-11-22t15:40:20-0100"), wall("2026-11-22T16:40:20Z"));
        assert_eq!(moment("20261122T154020-01"), wall("2026-11-22T16:40:20Z"));
    }

    #[test]
    fn no_zone_and_no_offset_is_dropped() {
        for zone in ["+05:00", "-05:00", "+0500", "+05", "-05", "+25:00", "Z", "z", " +05:00", "+05:00:30"] {
            for time in ["20:44:40", "20:44", "20:44:40.5", "T20:44:40"] {
                let why = moment(&format!("{time}{zone}")).unwrap_err();
                assert!(why.contains("no date"), "{time}{zone}: {why}");
            }
            for compact in ["204440", "T204440"] {
                assert!(moment(&format!("{compact}{zone}")).is_err(), "{compact}{zone}");
            }
        }
        for zone in ["[Europe/Berlin]", "[UTC]", "[+05:00]", "[u-ca=gregory]"] {
            for time in [
                "20:44:40",
                "20:44:40+05:00",
                "2026-11-22",
                "2026-11-22T20:44:40",
                "2026-11-22T20:44:40Z",
                "2026-11-22T20:44:40+05:00",
            ] {
                let why = moment(&format!("{time}{zone}")).unwrap_err();
                assert!(why.contains("brackets"), "{time}{zone}: {why}");
            }
        }
        // These have an offset that no clock has, or that leads beyond all times.
        for wrong in
            ["2026-11-22T20:44:40+99:00", "9999-12-31T23:59:59-23:00", "-009999-01-01T00:00:00+23:00"]
        {
            assert!(moment(wrong).unwrap_err().starts_with("not a moment"), "{wrong}");
        }
    }

    #[test]
    fn amounts() {
        assert_eq!(amount("5000"), Ok(RecordingAmount::Records(5000)));
        assert_eq!(amount("10m"), Ok(RecordingAmount::Time(Duration::from_mins(10))));
        assert_eq!(amount("1h30m"), Ok(RecordingAmount::Time(Duration::from_mins(90))));
        assert_eq!(moment("1m30s"), Ok(RecordingMoment::After(Duration::from_secs(90))));
        assert_eq!(amount("10M"), Ok(RecordingAmount::Bytes(10 << 20)));
        assert_eq!(part("64K"), Ok(RecordingAmount::Bytes(64 << 10)));
        for wrong in ["", "0", "0M", "10x", "-1", "1.5M", "M"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
        for wrong in ["5000", "1K", "63K", "0", ""] {
            let why = part(wrong).unwrap_err();
            assert!(!why.contains("records"), "{wrong}: {why}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("4M"), Ok(4 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for wrong in ["", "1", "K", "2G", "99999999999G", "4X", "-4K"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
