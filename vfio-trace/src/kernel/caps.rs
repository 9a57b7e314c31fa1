//! Capabilities of this process: reading them, and giving up those that it does not need.

use caps::{CapSet as Set, Capability, CapsHashSet, errors::CapsError};
use thiserror::Error;

use super::source::KernelFiles;

/// A capability that matters for tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxCap {
    /// CAP_SYS_ADMIN: stands in for CAP_BPF and CAP_PERFMON.
    SysAdmin,
    /// CAP_SYSLOG: see kernel addresses.
    Syslog,
    /// CAP_PERFMON: attach kprobes, read kernel memory in eBPF.
    Perfmon,
    /// CAP_BPF: load programs and maps.
    Bpf,
    /// CAP_DAC_OVERRIDE: open files of others. Not for tracing.
    DacOverride,
}

impl LinuxCap {
    const TRACING: [Self; 4] = [Self::SysAdmin, Self::Syslog, Self::Perfmon, Self::Bpf];

    /// Returns its name as capabilities(7) has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
            Self::DacOverride => "CAP_DAC_OVERRIDE",
        }
    }

    const fn capability(self) -> Capability {
        match self {
            Self::SysAdmin => Capability::CAP_SYS_ADMIN,
            Self::Syslog => Capability::CAP_SYSLOG,
            Self::Perfmon => Capability::CAP_PERFMON,
            Self::Bpf => Capability::CAP_BPF,
            Self::DacOverride => Capability::CAP_DAC_OVERRIDE,
        }
    }

    /// Returns its number in include/uapi/linux/capability.h.
    const fn bit(self) -> u32 {
        match self {
            Self::SysAdmin => 21,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
            Self::DacOverride => 1,
        }
    }
}

/// A set of capabilities as a bit mask, as in `/proc/self/status`. Read once with the other kernel facts; the commands
/// check it before they trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(u64);

/// A capability that tracing needs and this process lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} is missing: {why}", cap.name())]
pub struct MissingCap {
    /// The capability.
    pub cap: LinuxCap,
    /// The operation that fails without it.
    pub why: &'static str,
    /// True if tracing is impossible without it; false if it only shows less.
    pub essential: bool,
}

/// Reason why capabilities could not be given up.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DropError(#[from] CapsError);

impl CapSet {
    /// Makes a set of these capabilities.
    pub fn of(caps: &[LinuxCap]) -> Self {
        Self(caps.iter().fold(0, |mask, cap| mask | 1 << cap.bit()))
    }

    /// Reads the effective capabilities of the calling thread from `/proc/thread-self/status`, else from
    /// `/proc/self/status`. Without /proc the running kernel is asked.
    ///
    /// They count only if the process is in the first user namespace: tracing is a matter of the whole machine, and
    /// the kernel asks `capable()`. In another namespace (a rootless container) this is empty.
    pub fn effective(files: &KernelFiles) -> Self {
        let first_namespace = files.line("/proc/self/uid_map").is_none_or(|line| {
            // The first namespace maps all ids to themselves.
            line.split_whitespace().eq(["0", "0", "4294967295"])
        });
        let status = files.text("/proc/thread-self/status").or_else(|_| files.text("/proc/self/status"));
        if first_namespace {
            let told = status.ok().and_then(|status| Self::parse_status(&status));
            told.or_else(|| files.are_own().then(Self::of_thread)).unwrap_or_default()
        } else {
            Self(0)
        }
    }

    /// Asks the kernel for the effective capabilities of the calling thread, those that matter here (capget(2)).
    fn of_thread() -> Self {
        let held = caps::read(None, Set::Effective).unwrap_or_default();
        let known = LinuxCap::TRACING.into_iter().chain([LinuxCap::DacOverride]);
        Self::of(&known.filter(|cap| held.contains(&cap.capability())).collect::<Vec<_>>())
    }

    /// Takes `CapEff` out of the text of `/proc/PID/status`.
    pub fn parse_status(text: &str) -> Option<Self> {
        let digits = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(digits.trim(), 16).ok().map(Self)
    }

    /// Returns true if the kernel accepts this set where it asks for `cap`: CAP_SYS_ADMIN stands in for CAP_BPF and
    /// CAP_PERFMON (`bpf_capable()` and `perfmon_capable()` in include/linux/capability.h, 5.8 and later).
    pub fn has(self, cap: LinuxCap) -> bool {
        let own = |cap: LinuxCap| self.0 & 1 << cap.bit() != 0;
        own(cap) || (matches!(cap, LinuxCap::Bpf | LinuxCap::Perfmon) && own(LinuxCap::SysAdmin))
    }

    /// Returns the capabilities that tracing lacks, essential ones first. `perf_wants_admin` is
    /// [`super::security::perf_wants_admin`]: only attaching a probe shows if perf really requires CAP_SYS_ADMIN.
    pub fn missing_for_tracing(self, perf_wants_admin: bool) -> Vec<MissingCap> {
        let needed = [
            MissingCap {
                cap: LinuxCap::Bpf,
                why: "eBPF programs and maps cannot be loaded",
                essential: true,
            },
            MissingCap {
                cap: LinuxCap::Perfmon,
                why: "kprobes cannot be attached to kernel functions",
                essential: true,
            },
            MissingCap {
                cap: LinuxCap::SysAdmin,
                why: "kernel.perf_event_paranoid is above 2, where Debian's kernels ask for it before any kprobe; \
                      sysctl kernel.perf_event_paranoid=2 does without",
                essential: false,
            },
            MissingCap {
                cap: LinuxCap::Syslog,
                why: "kernel addresses may be hidden, then functions that are known by pointer only stay unnamed",
                essential: false,
            },
        ];
        let applies = |need: &MissingCap| need.cap != LinuxCap::SysAdmin || perf_wants_admin;
        needed.into_iter().filter(|need| applies(need) && !self.has(need.cap)).collect()
    }

    /// Returns the smallest part of this set that can trace: [`keep_only`] should keep it.
    pub fn tracing_part(self, perf_wants_admin: bool) -> Vec<LinuxCap> {
        let own = |cap: LinuxCap| self.0 & 1 << cap.bit() != 0;
        let without_admin = own(LinuxCap::Bpf) && own(LinuxCap::Perfmon) && !perf_wants_admin;
        LinuxCap::TRACING
            .into_iter()
            .filter(|&cap| own(cap) && (cap != LinuxCap::SysAdmin || !without_admin))
            .collect()
    }
}

/// Returns the command that gives a binary the capabilities for tracing.
pub fn setcap_line(binary: &str) -> String {
    format!("sudo setcap cap_bpf,cap_perfmon,cap_syslog+ep {binary}")
}

/// Drops all capabilities of the **calling thread** except `keep` from its permitted and effective sets; those of
/// `keep` that it does not have are ignored. Threads and programs that it starts later inherit this, so call it before
/// starting threads.
///
/// The bounding set stays: a child that runs as root gets its full set back on exec.
///
/// # Errors
///
/// [`DropError`] if the kernel refuses, which it has no reason to.
pub fn keep_only(keep: &[LinuxCap]) -> Result<(), DropError> {
    let permitted = caps::read(None, Set::Permitted)?;
    let kept: CapsHashSet =
        keep.iter().map(|cap| cap.capability()).filter(|cap| permitted.contains(cap)).collect();
    // Effective first: it must never exceed what is permitted.
    caps::set(None, Set::Effective, &kept)?;
    caps::set(None, Set::Permitted, &kept)?;
    Ok(())
}

/// Returns true if root runs this: what is denied all the same is denied by something else, mostly a container.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Capabilities with which root finds a program in a folder that is closed to root, such as a home of mode 0700.
const TO_FIND: [Capability; 2] = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH];

/// Drops capabilities as [`keep_only`], but puts aside those that are needed to find a program in a closed folder, for
/// [`start_with`]. They are not effective until then.
///
/// # Errors
///
/// See [`keep_only`].
pub fn put_aside(keep: &[LinuxCap]) -> Result<(), DropError> {
    let permitted = caps::read(None, Set::Permitted)?;
    let kept: CapsHashSet = keep.iter().map(|cap| cap.capability()).collect();
    caps::set(None, Set::Effective, &kept.intersection(&permitted).copied().collect())?;
    let aside = kept.into_iter().chain(TO_FIND).filter(|cap| permitted.contains(cap)).collect();
    caps::set(None, Set::Permitted, &aside)?;
    Ok(())
}

/// Starts a program with the capabilities that were put aside, and drops those.
///
/// # Errors
///
/// See [`keep_only`].
pub fn start_with<T>(start: impl FnOnce() -> T) -> Result<T, DropError> {
    let before = caps::read(None, Set::Effective)?;
    let permitted = caps::read(None, Set::Permitted)?;
    let found = TO_FIND.into_iter().filter(|cap| permitted.contains(cap));
    caps::set(None, Set::Effective, &before.iter().copied().chain(found).collect())?;
    let started = start();
    caps::set(None, Set::Effective, &before)?;
    caps::set(None, Set::Permitted, &before)?;
    Ok(started)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::kernel::source::testing::TestRoot;

    const ROOT: &str = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\n";

    #[test]
    fn what_is_missing_is_told() {
        assert_eq!(CapSet::parse_status(ROOT).unwrap().missing_for_tracing(false), []);
        let missing: Vec<_> =
            CapSet::default().missing_for_tracing(false).iter().map(|need| need.cap).collect();
        assert_eq!(missing, [LinuxCap::Bpf, LinuxCap::Perfmon, LinuxCap::Syslog]);
        let admin = CapSet::of(&[LinuxCap::SysAdmin]);
        assert_eq!(
            admin.missing_for_tracing(false).iter().map(|need| need.cap).collect::<Vec<_>>(),
            [LinuxCap::Syslog]
        );
        assert_eq!(admin.tracing_part(false), [LinuxCap::SysAdmin]);
        let root = CapSet::parse_status(ROOT).unwrap();
        assert_eq!(root.tracing_part(false), [LinuxCap::Syslog, LinuxCap::Perfmon, LinuxCap::Bpf]);
        assert_eq!(
            root.tracing_part(true),
            [LinuxCap::SysAdmin, LinuxCap::Syslog, LinuxCap::Perfmon, LinuxCap::Bpf]
        );
        let split = CapSet::of(&[LinuxCap::Perfmon, LinuxCap::Bpf, LinuxCap::Syslog]);
        assert_eq!(
            split.missing_for_tracing(true).iter().map(|need| need.cap).collect::<Vec<_>>(),
            [LinuxCap::SysAdmin]
        );
        assert_eq!(CapSet::parse_status("CapEff: what"), None);
    }

    #[test]
    fn capabilities_in_a_user_namespace_do_not_count() {
        let root = TestRoot::new();
        root.write("proc/self/status", ROOT).write("proc/self/uid_map", "         0          0 4294967295\n");
        assert!(CapSet::effective(&root.files()).has(LinuxCap::Bpf));
        root.write("proc/self/uid_map", "         0       1000          1\n");
        assert!(!CapSet::effective(&root.files()).has(LinuxCap::Bpf));
    }

    #[test]
    fn without_proc_the_kernel_tells_the_same() {
        let status = KernelFiles::default().text("/proc/thread-self/status").unwrap();
        let (told, asked) = (CapSet::parse_status(&status).unwrap(), CapSet::of_thread());
        for cap in LinuxCap::TRACING.into_iter().chain([LinuxCap::DacOverride]) {
            assert_eq!(asked.0 & 1 << cap.bit(), told.0 & 1 << cap.bit(), "{}", cap.name());
        }
        assert_eq!(
            CapSet::effective(&TestRoot::new().files()),
            CapSet::default(),
            "a copy is of another process"
        );
    }

    #[test]
    fn numbers_are_those_of_the_crate() {
        for cap in LinuxCap::TRACING.into_iter().chain([LinuxCap::DacOverride]) {
            assert_eq!(u32::from(cap.capability().index()), cap.bit());
            assert_eq!(cap.capability().to_string(), cap.name());
        }
    }

    #[test]
    fn only_what_is_kept_stays() {
        // Capabilities are per thread: the other tests keep theirs.
        let dropping = thread::spawn(|| {
            let before = CapSet::effective(&KernelFiles::default());
            keep_only(&[LinuxCap::Bpf]).unwrap();
            (
                before,
                CapSet::effective(&KernelFiles::default()),
                caps::read(None, Set::Permitted).unwrap().len(),
            )
        });
        let (before, after, permitted) = dropping.join().unwrap();
        if before.0 == 0 {
            eprintln!("SKIPPED in part: this process has no capabilities to give up");
        }
        assert_eq!(after.0, before.0 & 1 << LinuxCap::Bpf.bit());
        assert!(permitted <= 1);
    }
}
