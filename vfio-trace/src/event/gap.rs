//! Times in which functions were there and not probed: what happened in them was not seen.

use serde::{Deserialize, Serialize};
use vfio_trace_common::role::Role;

use super::report::{role_name, role_of};

/// Functions of one module that were not probed for a time while the run went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeGap {
    /// The module; `None` for the kernel image.
    pub module: Option<String>,
    /// Its functions.
    pub functions: Vec<GapFunction>,
    /// Since when they could be called, CLOCK_MONOTONIC in ns.
    pub from_mono_ns: u64,
    /// Whether that is when the kernel says that the module was loaded; else it is the earliest possible.
    pub from_exact: bool,
    /// When all of them were probed; `None`: they are not.
    pub until_mono_ns: Option<u64>,
    /// How it came to it.
    pub why: GapCause,
}

/// A function that was not probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapFunction {
    /// Its symbol.
    pub function: String,
    /// What it is for.
    #[serde(serialize_with = "role_name", deserialize_with = "role_of")]
    pub role: Role,
}

/// Why functions were probed late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// Their module was loaded while tracing.
    ModuleLoaded,
    /// They became known through a pointer only: their types are not in any BTF.
    FoundByPointer,
    /// The kernel refused the probe.
    Refused,
}

impl GapCause {
    /// Words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ModuleLoaded => "loaded while tracing",
            Self::FoundByPointer => "found through a pointer",
            Self::Refused => "the kernel refused the probe",
        }
    }
}

impl ProbeGap {
    /// Whether a device of this driver goes through these functions, or may do so.
    pub fn concerns(&self, driver: Option<&str>) -> bool {
        // A module has underscores, where its driver may have dashes.
        let same = |module: &str, driver: &str| module.bytes().map(plain).eq(driver.bytes().map(plain));
        match (self.module.as_deref(), driver) {
            (None | Some("vfio"), _) | (Some(_), None) => true,
            (Some(module), Some(driver)) => same(module, driver),
        }
    }
}

const fn plain(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// What all gaps come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GapTotals {
    /// How many there were.
    #[serde(rename = "probe_gaps")]
    pub gaps: u64,
    /// The longest of them; of one that is not over, up to the end of the run.
    #[serde(rename = "longest_probe_gap_ns")]
    pub longest_ns: u64,
    /// How many are not over.
    #[serde(rename = "open_probe_gaps")]
    pub open: u64,
}

/// Open gaps whose functions are kept; there are never more than functions to probe, except in a recording that means harm.
const MOST_OPEN: usize = 256;

/// Gaps, as they are told one after the other.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    told: u64,
    longest_ns: u64,
    open: Vec<ProbeGap>,
    /// Open ones that are not kept: how many, and since when the first.
    rest: u64,
    rest_from_ns: Option<u64>,
}

impl Gaps {
    /// Takes in one. It may be what ends an open one: its functions are probed now.
    pub fn add(&mut self, gap: &ProbeGap) {
        self.told += 1;
        let Some(until_ns) = gap.until_mono_ns else {
            if self.open.len() < MOST_OPEN {
                self.open.push(gap.clone());
            } else {
                self.rest += 1;
                let from_ns = self.rest_from_ns.unwrap_or(gap.from_mono_ns);
                self.rest_from_ns = Some(from_ns.min(gap.from_mono_ns));
            }
            return;
        };
        let mut longest_ns = until_ns.saturating_sub(gap.from_mono_ns);
        self.open.retain_mut(|open| {
            if open.module != gap.module {
                return true;
            }
            open.functions.retain(|function| !gap.functions.contains(function));
            if open.functions.is_empty() {
                longest_ns = longest_ns.max(until_ns.saturating_sub(open.from_mono_ns));
            }
            !open.functions.is_empty()
        });
        self.longest_ns = self.longest_ns.max(longest_ns);
    }

    /// What they come to if the run ends at `end_ns`.
    pub fn totals(&self, end_ns: u64) -> GapTotals {
        let open = self.open.iter().map(|gap| gap.from_mono_ns).chain(self.rest_from_ns);
        let open = open.map(|from_ns| end_ns.saturating_sub(from_ns));
        GapTotals {
            gaps: self.told,
            longest_ns: open.fold(self.longest_ns, u64::max),
            open: self.rest + self.open.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(functions: &[&str], from_mono_ns: u64, until_mono_ns: Option<u64>) -> ProbeGap {
        let function = |name: &&str| GapFunction { function: (*name).to_owned(), role: Role::Read };
        ProbeGap {
            module: Some("mtty".to_owned()),
            functions: functions.iter().map(function).collect(),
            from_mono_ns,
            from_exact: true,
            until_mono_ns,
            why: GapCause::Refused,
        }
    }

    fn totals(told: &[ProbeGap], end_ns: u64) -> (u64, u64, u64) {
        let mut gaps = Gaps::default();
        for gap in told {
            gaps.add(gap);
        }
        let GapTotals { gaps, longest_ns, open } = gaps.totals(end_ns);
        (gaps, longest_ns, open)
    }

    #[test]
    fn an_open_gap_is_as_long_as_the_run_goes_on() {
        assert_eq!(totals(&[], 900), (0, 0, 0));
        assert_eq!(totals(&[gap(&["f"], 100, Some(150))], 900), (1, 50, 0));
        assert_eq!(totals(&[gap(&["f"], 100, None), gap(&["g"], 100, Some(150))], 900), (2, 800, 1));
    }

    #[test]
    fn a_gap_is_over_when_all_of_its_functions_are_probed() {
        let open = gap(&["f", "g"], 100, None);
        let [f, g] = [gap(&["f"], 300, Some(400)), gap(&["g"], 300, Some(600))];
        assert_eq!(totals(&[open.clone(), f.clone()], 900), (2, 800, 1));
        assert_eq!(totals(&[open.clone(), f, g], 900), (3, 500, 0));
        let other = ProbeGap { module: None, ..gap(&["f", "g"], 300, Some(400)) };
        assert_eq!(totals(&[open, other], 900), (2, 800, 1), "of another module");
    }

    #[test]
    fn open_gaps_without_end_are_counted_and_not_kept() {
        let mut gaps = Gaps::default();
        for n in 0..1_000 {
            gaps.add(&gap(&["f"], 1_000 - n, None));
        }
        assert_eq!(gaps.totals(1_000), GapTotals { gaps: 1_000, longest_ns: 999, open: 1_000 });
        assert_eq!(gaps.open.len(), MOST_OPEN);
    }
}
