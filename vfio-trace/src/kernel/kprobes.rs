//! Support for kprobes, as sysfs shows it: they are attached through a PMU whose number only sysfs tells.

use super::source::KernelFiles;

/// Support of this kernel for kprobes that are attached through perf events. Without sysfs it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KprobeSupport {
    /// sysfs has their PMU.
    Present,
    /// sysfs has other PMUs or buses, and not this one.
    Absent,
    /// sysfs is not mounted, or hidden from this process.
    Unknown,
}

impl KprobeSupport {
    /// Looks for the PMU in sysfs.
    pub fn read(files: &KernelFiles) -> Self {
        if files.line("/sys/bus/event_source/devices/kprobe/type").is_some() {
            return Self::Present;
        }
        // Where a folder cannot be read, its list is empty.
        let lacks = |folder: &str, name: &str| {
            let names = files.list(folder);
            !names.is_empty() && !names.iter().any(|found| found == name)
        };
        let is_absent = lacks("/sys/bus/event_source/devices", "kprobe") || lacks("/sys/bus", "event_source");
        if is_absent { Self::Absent } else { Self::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::testing::TestRoot;

    #[test]
    fn what_is_not_seen_is_not_said_to_be_absent() {
        let host = |names: &[&str]| {
            let root = TestRoot::new();
            for name in names {
                root.write(name, "8\n");
            }
            KprobeSupport::read(&root.files())
        };
        let (other, kprobe) =
            ("sys/bus/event_source/devices/software/type", "sys/bus/event_source/devices/kprobe/type");
        assert_eq!(host(&[other, kprobe]), KprobeSupport::Present);
        assert_eq!(host(&[other]), KprobeSupport::Absent);
        assert_eq!(
            host(&["sys/bus/pci/x"]),
            KprobeSupport::Absent,
            "without perf events there are none either"
        );
        assert_eq!(host(&[]), KprobeSupport::Unknown);
        assert_eq!(host(&["sys/kernel/x"]), KprobeSupport::Unknown);
        let unread = "sys/bus/event_source/devices/kprobe/perf_event_mux_interval_ms";
        assert_eq!(host(&[other, unread]), KprobeSupport::Unknown, "it is there");
    }
}
