//! The user's selection of events: `--device`, `--kind`, `--pid`.

use super::{EventKind, VfioEvent};

/// The user's selection of events. An empty list lets everything pass; lists are combined with "and", the entries of
/// one list with "or".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Device names or their beginnings. A PCI address may leave out its domain if that is 0000, as lspci does.
    pub devices: Vec<String>,
    /// Kinds of events.
    pub kinds: Vec<EventKind>,
    /// Processes or threads.
    pub pids: Vec<u32>,
}

impl EventFilter {
    /// Returns true if the event passes. An event whose device is not known passes only if `devices` is empty.
    pub fn matches(&self, event: &VfioEvent) -> bool {
        let Self { devices, kinds, pids } = self;
        let process = &event.process;
        (kinds.is_empty() || kinds.contains(&event.kind()))
            && (pids.is_empty() || pids.contains(&process.pid) || pids.contains(&process.tid))
            && (devices.is_empty()
                || event.device_name().is_some_and(|name| devices.iter().any(|want| is_device(name, want))))
    }
}

fn is_device(name: &str, want: &str) -> bool {
    name.starts_with(want) || name.strip_prefix("0000:").is_some_and(|short| short.starts_with(want))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{DeviceClose, DeviceRef, EventData, EventProcess};

    fn event(device: Option<&str>) -> VfioEvent {
        VfioEvent {
            start_ns: 0,
            end_ns: 0,
            duration_ns: None,
            device: device.map(|name| DeviceRef { nr: 1, name: Some(Arc::from(name)), driver: None }),
            process: EventProcess { pid: 412, tid: 415, comm: String::new() },
            data: EventData::Close(DeviceClose { open_count: None }),
        }
    }

    #[test]
    fn devices_by_name_or_beginning() {
        let wants = |want: &str| EventFilter { devices: vec![want.to_owned()], ..EventFilter::default() };
        let pci = event(Some("0000:75:00.1"));
        for (want, matches) in [
            ("0000:75:00.1", true),
            ("0000:75", true),
            ("75:00.1", true),
            ("5:00.1", false),
            ("0000:76", false),
        ] {
            assert_eq!(wants(want).matches(&pci), matches, "{want}");
        }
        assert!(!wants("0000").matches(&event(None)));
        assert!(EventFilter::default().matches(&event(None)));
    }

    #[test]
    fn lists_are_combined_with_and() {
        let filter = |kinds: &[EventKind], pids: &[u32]| EventFilter {
            devices: Vec::new(),
            kinds: kinds.to_vec(),
            pids: pids.to_vec(),
        };
        assert!(filter(&[EventKind::Arc, EventKind::Close], &[415]).matches(&event(None)));
        assert!(filter(&[], &[412]).matches(&event(None)));
        assert!(!filter(&[EventKind::Arc], &[412]).matches(&event(None)));
        assert!(!filter(&[EventKind::Close], &[1]).matches(&event(None)));
    }
}
