//! Finds the devices whose driver functions were not probed for some time: calls in that time are missing from all
//! figures.

use vfio_trace_common::role::Role;

use super::{
    details::ShiftedSession,
    index::DeviceIndex,
    shift::ClockShift,
    side::{SideAnalysis, SideRole as Side},
};
use crate::{
    event::{DriverModules, FindingSeverity, GapFunction, GapReach, ProbeGap},
    report::{
        document::{ReportWarning, TracedDevice},
        history::HostHistory,
        windows::SpanIndex,
    },
};

/// Longest time after a gap in which an event may have begun within the gap, in ns.
const NEAR_NS: u64 = 1_000_000_000;

/// A gap on the document's clock.
pub(super) struct ShiftedGap<'a> {
    told: &'a ProbeGap,
    from_ns: u64,
    /// End of the gap; `None`: not over.
    until_ns: Option<u64>,
    reach: GapReach<'a>,
}

/// Returns the gaps of a host, without gaps of steps alone, which hide no call on a device.
pub(super) fn of_host<'a>(history: &'a HostHistory, shift: &ClockShift) -> Vec<ShiftedGap<'a>> {
    let steps = |gap: &&ProbeGap| gap.functions.iter().all(|function| function.role == Role::Step);
    let hiding = history.gaps.iter().filter(|gap| !steps(gap));
    let drivers: DriverModules =
        history.devices.iter().filter_map(|device| device.doc.driver.as_deref()).collect();
    let moved = hiding.map(|gap| ShiftedGap {
        told: gap,
        reach: gap.reach(&drivers),
        from_ns: shift.of(gap.from_mono_ns),
        until_ns: gap.until_mono_ns.map(|until| shift.of(until)),
    });
    moved.collect()
}

impl ShiftedGap<'_> {
    /// Returns true if the device's driver goes through these functions, or may do so.
    fn concerns(&self, device: &TracedDevice) -> bool {
        self.reach.has(device.driver.as_deref())
    }

    fn until_ns(&self) -> u64 {
        self.until_ns.unwrap_or(u64::MAX)
    }

    /// Returns true if the device may have gone through these functions while they were not probed.
    pub(super) fn hides(&self, found: &SideAnalysis, device: &TracedDevice) -> bool {
        let side = &found.side;
        let goes_through = |function: &GapFunction| match function.role {
            Role::Read | Role::DataIoctl => found.role == Side::Source,
            Role::Write => found.role == Side::Destination,
            Role::Step => false,
            _ => true,
        };
        self.told.functions.iter().any(goes_through)
            && self.concerns(device)
            && side.start_ns < self.until_ns()
            && self.from_ns < side.end_ns
    }

    fn sentence(&self, first_use_ns: u64) -> String {
        let names: Vec<&str> =
            self.told.functions.iter().map(|function| function.function.as_str()).collect();
        let whose = match &self.told.module {
            Some(module) => format!(" of module {module}"),
            None => " of the kernel".to_owned(),
        };
        let what = format!("{}{whose} ({})", names.join(", "), self.told.why.text());
        match self.until_ns {
            Some(until) if first_use_ns >= until => format!(
                "the device was used {} after the first probe of {what}: whether it was used before is not known",
                millis(first_use_ns - until)
            ),
            Some(until) => {
                let most = if self.told.from_exact { "" } else { "up to " };
                let length = millis(until.saturating_sub(self.from_ns));
                format!(
                    "the device was used while not all was probed, for {most}{length}: {what}; calls may be missing"
                )
            },
            None => format!("the device was used and not all was probed: {what}; calls may be missing"),
        }
    }
}

fn millis(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

/// Adds a warning for each device that was used in a gap or soon after, about its first gap.
pub(super) fn warn(
    gaps: &[Vec<ShiftedGap<'_>>],
    lines: &[DeviceIndex<'_>],
    streams: &[ShiftedSession<'_>],
    out: &mut Vec<ReportWarning>,
) {
    if gaps.iter().all(Vec::is_empty) {
        return;
    }
    let mut sessions = vec![Vec::new(); lines.len()];
    for stream in streams {
        if let Some(of) = sessions.get_mut(stream.doc.device as usize) {
            of.push((stream.doc.start_ns, stream.doc.end_ns));
        }
    }
    for (line, sessions) in lines.iter().zip(sessions) {
        let device = line.device;
        let windows = SpanIndex::new(sessions.iter().copied());
        let first_use = |gap: &ShiftedGap<'_>| {
            let until = gap.until_ns().saturating_add(NEAR_NS);
            let requests = line.requests(gap.from_ns, until).map(|request| request.start_ns);
            let sessions = windows.overlapping(gap.from_ns, until).filter_map(|at| Some(sessions.get(at)?.0));
            requests.chain(sessions).min()
        };
        let host = gaps.get(device.host as usize).map_or(&[][..], Vec::as_slice);
        let mine = host.iter().filter(|gap| gap.concerns(device));
        let told = mine.filter_map(|gap| Some((gap, first_use(gap)?))).min_by_key(|(gap, _)| gap.from_ns);
        if let Some((gap, first_use_ns)) = told {
            out.push(ReportWarning {
                code: "not-probed",
                severity: FindingSeverity::Warning,
                device: Some(device.nr),
                at_ns: Some(gap.from_ns),
                text: gap.sentence(first_use_ns),
            });
        }
    }
}
