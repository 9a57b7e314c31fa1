//! The time zone of wall times: that of the system or of TZ, and errors where it cannot be told.

use jiff::tz::TimeZone;

use super::{
    error::{CliError, USAGE},
    output::note,
};

/// Returns the zone of the times that are shown: UTC if asked for, or, with a note, if the local one is not known.
pub(super) fn display_zone(utc: bool) -> TimeZone {
    if utc {
        return TimeZone::UTC;
    }
    local().unwrap_or_else(|why| {
        note(&format!("times are in UTC: {why}"));
        TimeZone::UTC
    })
}

/// Returns the zone of times on the command line; an error if it is not known: a guess would be another moment.
pub(super) fn input_zone() -> Result<TimeZone, CliError> {
    local().map_err(|why| {
        let todo = "give the time in UTC (2026-11-22T15:40:20Z) or with its offset (+01:00)";
        CliError::with_code(USAGE, "cannot tell which moment --at means", why, todo)
    })
}

fn local() -> Result<TimeZone, String> {
    let set = std::env::var("TZ").ok().filter(|name| !name.is_empty());
    of(set.as_deref(), TimeZone::try_system())
}

/// Returns the zone. `set`: TZ; `found`: the system's zone.
fn of(set: Option<&str>, found: Result<TimeZone, jiff::Error>) -> Result<TimeZone, String> {
    match (found, set) {
        (Ok(zone), _) if !zone.is_unknown() => Ok(zone),
        // A system that has no zone is in UTC, as for every other program.
        (_, None) => Ok(TimeZone::UTC),
        (_, Some(name)) => Err(format!(
            "TZ={name} is no time zone that is known here (the data of zones are in /usr/share/zoneinfo, package tzdata)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz};

    use super::*;

    #[test]
    fn a_zone_that_is_not_known_is_said() {
        let none = || TimeZone::get("Nowhere/At_All");
        let why = of(Some("Nowhere/At_All"), none()).unwrap_err();
        assert!(why.contains("TZ=Nowhere/At_All") && why.contains("tzdata"), "{why}");
        assert_eq!(of(Some("Nowhere/At_All"), Ok(TimeZone::unknown())).unwrap_err(), why);
        assert_eq!(of(None, none()).unwrap(), TimeZone::UTC);
        let zone = TimeZone::fixed(tz::offset(5));
        assert_eq!(of(Some("x"), Ok(zone.clone())).unwrap(), zone);
    }

    /// The crate reads the system's data: without that, every name was UTC.
    #[test]
    fn names_of_zones_are_found() {
        assert!(
            std::path::Path::new("/usr/share/zoneinfo").exists(),
            "this test needs tzdata, as Debian has it"
        );
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let summer: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        assert_eq!(berlin.to_offset(summer), tz::offset(2));
    }
}
