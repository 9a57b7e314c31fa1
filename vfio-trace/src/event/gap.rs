//! Times in which functions could be called but were not probed: their calls were not seen.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{GapFunction, ProbeGap};

impl ProbeGap {
    /// Returns the devices that may go through these functions; `drivers`: the drivers of all devices.
    pub fn reach(&self, drivers: &DriverModules) -> GapReach<'_> {
        match self.module.as_deref() {
            None | Some("vfio") => GapReach(None),
            Some(module) => GapReach(Some(plain(module)).filter(|module| drivers.0.contains(&**module))),
        }
    }
}

/// Devices that a gap concerns: those of one driver, or (`None`) any, if the functions' module has the name of no
/// device's driver.
#[derive(Clone, Debug)]
pub struct GapReach<'a>(Option<Cow<'a, str>>);

impl GapReach<'_> {
    /// Returns true if devices of this driver are among them, or may be: `None` is a driver that is not known.
    pub fn has(&self, driver: Option<&str>) -> bool {
        let Some((module, driver)) = self.0.as_ref().zip(driver) else { return true };
        *module == plain(driver)
    }
}

/// Drivers of all devices, as their modules are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverModules(BTreeSet<String>);

impl<'a> FromIterator<&'a str> for DriverModules {
    fn from_iter<I: IntoIterator<Item = &'a str>>(drivers: I) -> Self {
        let mut all = BTreeSet::new();
        for driver in drivers {
            let name = plain(driver);
            if !all.contains(&*name) {
                all.insert(name.into_owned());
            }
        }
        Self(all)
    }
}

/// Returns the name with underscores: a module has underscores where its driver may have dashes.
fn plain(name: &str) -> Cow<'_, str> {
    if name.contains('-') { name.replace('-', "_").into() } else { name.into() }
}

/// Returns the functions of a gap as a set.
pub(crate) fn functions_of(gap: &ProbeGap) -> HashSet<&GapFunction> {
    gap.functions.iter().collect()
}

/// Totals over all gaps of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GapTotals {
    /// Number of gaps.
    #[serde(rename = "probe_gaps")]
    pub gaps: u64,
    /// Length of the longest gap; one that is not over counts up to the end of the run.
    #[serde(rename = "longest_probe_gap_ns")]
    pub longest_ns: u64,
    /// Number of gaps that are not over.
    #[serde(rename = "open_probe_gaps")]
    pub open: u64,
}

/// Most bytes that are kept of open gaps. There are never as many functions to probe, except in a malicious recording.
const MOST_BYTES: usize = 1 << 20;
/// Memory cost of a function besides its name.
const FUNCTION_BYTES: usize = 128;

/// Follows gaps from note to note.
#[derive(Clone, Debug, Default)]
pub struct GapTracker {
    told: u64,
    longest_ns: u64,
    /// Open gaps by number: start time, and number of functions that are still not probed.
    open: BTreeMap<u64, (u64, usize)>,
    /// Functions that are not probed, by module, each with the numbers of the open gaps that wait for it.
    waiting: HashMap<Option<String>, HashMap<GapFunction, Vec<u64>>>,
    bytes: usize,
    /// Open gaps that are not kept: their number, and the start of the first.
    rest: u64,
    rest_from_ns: Option<u64>,
}

impl GapTracker {
    /// Takes in one gap. It may end an open one, whose functions are probed now.
    pub fn add(&mut self, gap: &ProbeGap) {
        self.told += 1;
        let Some(until_ns) = gap.until_mono_ns else { return self.begin(gap) };
        let mut longest_ns = until_ns.saturating_sub(gap.from_mono_ns);
        if let Some(waiting) = self.waiting.get_mut(&gap.module) {
            for function in &gap.functions {
                let Some(gaps) = waiting.remove(function) else { continue };
                self.bytes = self.bytes.saturating_sub(gaps.len() * cost(gap, function));
                for nr in gaps {
                    let Some((from_ns, left)) = self.open.get_mut(&nr) else { continue };
                    *left -= 1;
                    if *left == 0 {
                        longest_ns = longest_ns.max(until_ns.saturating_sub(*from_ns));
                        self.open.remove(&nr);
                    }
                }
            }
            if waiting.is_empty() {
                self.waiting.remove(&gap.module);
            }
        }
        self.longest_ns = self.longest_ns.max(longest_ns);
    }

    fn begin(&mut self, gap: &ProbeGap) {
        let functions = functions_of(gap);
        let bytes: usize = functions.iter().map(|function| cost(gap, function)).sum();
        if functions.is_empty() || self.bytes + bytes > MOST_BYTES {
            self.rest += 1;
            let from_ns = self.rest_from_ns.unwrap_or(gap.from_mono_ns);
            self.rest_from_ns = Some(from_ns.min(gap.from_mono_ns));
            return;
        }
        self.bytes += bytes;
        self.open.insert(self.told, (gap.from_mono_ns, functions.len()));
        let waiting = self.waiting.entry(gap.module.clone()).or_default();
        for function in functions {
            match waiting.get_mut(function) {
                Some(gaps) => gaps.push(self.told),
                None => _ = waiting.insert(function.clone(), vec![self.told]),
            }
        }
    }

    /// Returns the totals if the run ends at `end_ns`.
    pub fn totals(&self, end_ns: u64) -> GapTotals {
        let open = self.open.values().map(|(from_ns, _)| *from_ns).chain(self.rest_from_ns);
        let open = open.map(|from_ns| end_ns.saturating_sub(from_ns));
        GapTotals {
            gaps: self.told,
            longest_ns: open.fold(self.longest_ns, u64::max),
            open: self.rest + self.open.len() as u64,
        }
    }
}

/// Returns the memory cost of keeping a function of an open gap.
fn cost(gap: &ProbeGap, function: &GapFunction) -> usize {
    let module = gap.module.as_ref().map_or(0, String::len);
    FUNCTION_BYTES + module + function.function.len()
}

#[cfg(test)]
mod tests {
    use vfio_trace_common::role::Role;

    use super::*;
    use crate::event::GapCause;

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
        let mut gaps = GapTracker::default();
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
        let mut gaps = GapTracker::default();
        for n in 0..100_000 {
            gaps.add(&gap(&["f"], 100_000 - n, None));
        }
        assert_eq!(gaps.totals(100_000), GapTotals { gaps: 100_000, longest_ns: 99_999, open: 100_000 });
        assert!(gaps.open.len() * FUNCTION_BYTES <= MOST_BYTES, "{}", gaps.open.len());
        let long = "f".repeat(1 << 16);
        (0..1_000).for_each(|n| gaps.add(&gap(&[&format!("{long}{n}")], 5, None)));
        assert!(gaps.bytes <= MOST_BYTES);
        gaps.add(&gap(&["f"], 5, Some(100_000)));
        assert_eq!(
            (gaps.open.len(), gaps.bytes, gaps.waiting.len()),
            (0, 0, 0),
            "what is over takes no room"
        );
    }

    #[test]
    fn the_end_of_a_gap_is_no_look_at_all_that_is_open() {
        let names: Vec<String> = (0..2_000).map(|n| format!("f{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut gaps = GapTracker::default();
        (0..256).for_each(|_| gaps.add(&gap(&names, 5, None)));
        let kept: usize = gaps.waiting.values().flat_map(HashMap::values).map(Vec::len).sum();
        assert!(kept * FUNCTION_BYTES <= MOST_BYTES, "{kept}");
        let twice = [&names[..], &names[..]].concat();
        gaps.add(&gap(&twice, 5, Some(9)));
        let GapTotals { longest_ns, open, .. } = gaps.totals(9);
        assert_eq!((longest_ns, open), (4, 256 - (kept / 2_000) as u64));
    }
}
