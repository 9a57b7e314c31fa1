//! Kernel settings that hide information from a tracer: lockdown, kptr_restrict, perf_event_paranoid.

use thiserror::Error;

use super::{
    caps::{CapSet, LinuxCap},
    source::KernelFiles,
};

/// The kernel's lockdown mode, `/sys/kernel/security/lockdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockdownMode {
    /// Off, or the kernel has no lockdown.
    None,
    /// Protects the kernel from being changed. Tracing works.
    Integrity,
    /// Also keeps the kernel's memory from being read: kprobes and bpf_probe_read_kernel are refused
    /// (LOCKDOWN_KPROBES, LOCKDOWN_BPF_READ_KERNEL in include/linux/security.h).
    Confidentiality,
    /// The file has something else; no mode should be assumed.
    Unknown,
}

impl LockdownMode {
    /// Reads the mode; without the file (no lockdown, or securityfs not mounted) it is [`LockdownMode::None`].
    pub fn read(files: &KernelFiles) -> Self {
        files.line("/sys/kernel/security/lockdown").map_or(Self::None, |text| Self::parse(&text))
    }

    /// Parses `[none] integrity confidentiality`: the mode in brackets is the one in force.
    pub fn parse(text: &str) -> Self {
        let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        match chosen {
            Some("none") => Self::None,
            Some("integrity") => Self::Integrity,
            Some("confidentiality") => Self::Confidentiality,
            _ => Self::Unknown,
        }
    }

    /// Returns true if kprobes are refused for all processes.
    pub const fn forbids_tracing(self) -> bool {
        matches!(self, Self::Confidentiality)
    }
}

/// Reason why kernel addresses read as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressRestriction {
    /// `kptr_restrict` is 2.
    #[error(
        "kernel.kptr_restrict is 2, which hides addresses from everybody: sysctl -w kernel.kptr_restrict=1"
    )]
    KptrRestrict,
    /// This process lacks CAP_SYSLOG.
    #[error("kernel addresses are shown only with CAP_SYSLOG (kernel.kptr_restrict is {kptr_restrict})")]
    NoSyslog {
        /// The setting: 0 or 1.
        kptr_restrict: i64,
    },
}

/// Returns the reason why /proc/kallsyms hides addresses from a process with `held`, `None` if it shows them. Follows
/// `kallsyms_show_value()` (kernel/kallsyms.c in 6.1): with `kptr_restrict` 0 addresses are shown if perf is open to
/// users or with CAP_SYSLOG, with 1 only with CAP_SYSLOG, with 2 never.
pub fn addresses_hidden(files: &KernelFiles, held: CapSet) -> Option<AddressRestriction> {
    let number = |name: &str| files.line(name).and_then(|text| text.parse::<i64>().ok());
    // Both defaults are those of a kernel that has just started.
    let kptr_restrict = number("/proc/sys/kernel/kptr_restrict").unwrap_or(0);
    let paranoid = number("/proc/sys/kernel/perf_event_paranoid").unwrap_or(2);
    match kptr_restrict {
        0 if paranoid <= 1 => None,
        0 | 1 => (!held.has(LinuxCap::Syslog)).then_some(AddressRestriction::NoSyslog { kptr_restrict }),
        _ => Some(AddressRestriction::KptrRestrict),
    }
}

/// Returns true if perf may require CAP_SYS_ADMIN itself, so that CAP_PERFMON is not enough for a kprobe: distribution
/// kernels have levels of `kernel.perf_event_paranoid` above upstream's 2 (Debian: 3, its default), and Debian's patch
/// to `perf_event_open()` checks that capability there.
pub fn perf_wants_admin(files: &KernelFiles) -> bool {
    files
        .line("/proc/sys/kernel/perf_event_paranoid")
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|level| level > 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::testing::TestRoot;

    #[test]
    fn levels_above_upstreams_ask_for_more() {
        for (level, wants) in [("-1", false), ("2", false), ("3", true), ("4", true), ("what", false)] {
            let root = TestRoot::new();
            root.write("proc/sys/kernel/perf_event_paranoid", level);
            assert_eq!(perf_wants_admin(&root.files()), wants, "{level}");
        }
        assert!(!perf_wants_admin(&TestRoot::new().files()));
    }

    #[test]
    fn the_mode_in_brackets_counts() {
        assert_eq!(LockdownMode::parse("[none] integrity confidentiality"), LockdownMode::None);
        assert_eq!(LockdownMode::parse("none [integrity] confidentiality\n"), LockdownMode::Integrity);
        assert!(LockdownMode::parse("none integrity [confidentiality]").forbids_tracing());
        assert_eq!(LockdownMode::parse("integrity"), LockdownMode::Unknown);
        assert_eq!(LockdownMode::read(&TestRoot::new().files()), LockdownMode::None);
    }

    #[test]
    fn addresses_are_hidden_as_the_kernel_does_it() {
        let with = CapSet::of(&[LinuxCap::Syslog]);
        let none = CapSet::default();
        let table = [
            ("0", "1", none, None),
            ("0", "2", none, Some(AddressRestriction::NoSyslog { kptr_restrict: 0 })),
            ("0", "2", with, None),
            ("1", "-1", none, Some(AddressRestriction::NoSyslog { kptr_restrict: 1 })),
            ("1", "4", with, None),
            ("2", "-1", with, Some(AddressRestriction::KptrRestrict)),
        ];
        for (restrict, paranoid, held, expected) in table {
            let root = TestRoot::new();
            root.write("proc/sys/kernel/kptr_restrict", restrict);
            root.write("proc/sys/kernel/perf_event_paranoid", paranoid);
            assert_eq!(addresses_hidden(&root.files(), held), expected, "{restrict} {paranoid}");
        }
    }
}
