//! Privileges, and what the kernel lets anybody do.

use vfio_trace_common::defects::{DEFECTS, Defect, Standing};

use super::attempt::{ProbeAttempt, are_off, has_kprobes};
use crate::{
    kernel::{
        KernelFacts, KernelFiles, KernelVersion,
        caps::{CapSet, LinuxCap, setcap_line},
        security::LockdownMode,
    },
    output::{Check, CheckBlocker, CheckSection, CheckStatus},
};

/// Capabilities, and whether they count.
pub(super) fn privileges(files: &KernelFiles, facts: &KernelFacts, attempt: &ProbeAttempt) -> Vec<Check> {
    let mut findings = Vec::new();
    let outside = files
        .line("/proc/self/uid_map")
        .is_none_or(|line| line.split_whitespace().eq(["0", "0", "4294967295"]));
    let id = "user-namespace";
    findings.push(if outside {
        Check::ok(CheckSection::Privileges, id, "user namespace", "the first one: capabilities count")
    } else {
        Check::ok(
            CheckSection::Privileges,
            id,
            "user namespace",
            "a nested one (a rootless container): capabilities in it do not count for tracing",
        )
        .with_status(CheckStatus::Missing)
        .todo("run it on the host, or in a container that shares the host's user namespace")
        .blocks(CheckBlocker::Permission)
    });
    let held = facts.caps;
    for (cap, id, costs) in [
        (LinuxCap::Bpf, "cap-bpf", "eBPF programs and maps cannot be loaded: no tracing"),
        (
            LinuxCap::Perfmon,
            "cap-perfmon",
            "kprobes cannot be attached, kernel memory cannot be read: no tracing",
        ),
    ] {
        findings.push(if held.has(cap) {
            capability(id, cap, "held")
        } else {
            let missing = capability(id, cap, "not held").with_status(CheckStatus::Missing).costs(costs);
            missing.todo(permit()).blocks(CheckBlocker::Permission)
        });
    }
    findings.push(admin(held, facts.perf_wants_admin, attempt));
    findings.push(if held.has(LinuxCap::Syslog) {
        capability("cap-syslog", LinuxCap::Syslog, "held")
    } else if facts.addresses_hidden.is_none() {
        capability("cap-syslog", LinuxCap::Syslog, "not held, and not needed: the kernel shows its addresses")
    } else {
        capability("cap-syslog", LinuxCap::Syslog, "not held")
            .with_status(CheckStatus::Degraded)
            .costs("kernel addresses are hidden, see below")
            .todo(permit())
    });
    findings
}

fn capability(id: &'static str, cap: LinuxCap, what: &str) -> Check {
    Check::ok(CheckSection::Privileges, id, cap.name(), what)
}

fn permit() -> String {
    let binary = std::env::current_exe();
    let binary = binary.map_or_else(|_| "vfio-trace".to_owned(), |path| path.display().to_string());
    format!("run it as root, or once: {}", setcap_line(&binary))
}

/// CAP_SYS_ADMIN, for kernels that ask for it before any perf event.
fn admin(held: CapSet, wanted: bool, attempt: &ProbeAttempt) -> Check {
    let finding = |what: &str| capability("cap-sys-admin", LinuxCap::SysAdmin, what);
    if held.has(LinuxCap::SysAdmin) {
        return finding("held");
    }
    if !wanted {
        return finding("not held, and not needed");
    }
    match attempt.done() {
        Some(done) if done.any() => finding("not held, and this kernel does not ask for it"),
        Some(done) if done.denied => finding(
            "not held, and this kernel asks for it: kernel.perf_event_paranoid is above 2, as Debian and others have it",
        )
        .with_status(CheckStatus::Missing)
        .costs("kprobes cannot be attached: no tracing")
        .todo("run it as root, or once: sudo sysctl kernel.perf_event_paranoid=2")
        .blocks(CheckBlocker::Permission),
        _ => finding(
            "not held; kernel.perf_event_paranoid is above 2, where Debian's kernels ask for it before any kprobe",
        )
        .with_status(CheckStatus::Unknown)
        .costs("perhaps no tracing: it shows when a probe is attached")
        .todo("run it as root, or once: sudo sysctl kernel.perf_event_paranoid=2"),
    }
}

/// Lockdown, BPF, kprobes, symbols, known defects.
pub(super) fn kernel(files: &KernelFiles, facts: &KernelFacts, attempt: &ProbeAttempt) -> Vec<Check> {
    let mut findings = vec![
        lockdown(files, facts.lockdown),
        bpf(files, attempt),
        kprobes(files),
        symbols(files, facts),
        addresses(facts),
    ];
    let words = KernelVersion::read(files);
    findings.extend(DEFECTS.iter().map(|known| defect(&words, known)));
    findings
}

/// Whether the kernel does harm where it is asked for something that is allowed.
fn defect(words: &KernelVersion, defect: &Defect) -> Check {
    let finding = |what: String| finding("kernel-defect", defect.id, what);
    let Some(suspicion) = words.suspicion(defect) else {
        return finding(match words.standing(defect) {
            Standing::Older => format!("not there: it came with Linux {}", defect.since),
            _ => "mended in this kernel".to_owned(),
        });
    };
    let known = words.standing(defect) == Standing::Affected;
    finding(suspicion)
        .with_status(if known { CheckStatus::Degraded } else { CheckStatus::Unknown })
        .costs(format!("if anything asks for {}: {}. Tracing itself is not concerned", defect.trigger, defect.harm))
        .todo(format!(
            "install a kernel that has the mend ({}, or your distribution's); until then exercise leaves this out by itself",
            defect.mended()
        ))
}

fn finding(id: &'static str, subject: &str, what: impl Into<String>) -> Check {
    Check::ok(CheckSection::Kernel, id, subject, what)
}

fn lockdown(files: &KernelFiles, mode: LockdownMode) -> Check {
    const FILE: &str = "/sys/kernel/security/lockdown";
    let finding = |what: &str| finding("lockdown", "lockdown", what);
    match mode {
        LockdownMode::None if files.exists(FILE) => finding("off"),
        LockdownMode::None => finding("none: the kernel has no lockdown, or securityfs is not mounted"),
        LockdownMode::Integrity => finding("integrity, which allows tracing"),
        LockdownMode::Confidentiality => finding("confidentiality, which refuses kprobes to everybody")
            .with_status(CheckStatus::Missing)
            .costs("no tracing")
            .todo("boot without lockdown=confidentiality (integrity, the mode of Secure Boot, is fine)")
            .blocks(CheckBlocker::Support),
        LockdownMode::Unknown => {
            finding("a mode that vfio-trace does not know").with_status(CheckStatus::Unknown)
        },
    }
}

fn bpf(files: &KernelFiles, attempt: &ProbeAttempt) -> Check {
    // The file comes with CONFIG_BPF_SYSCALL (kernel/bpf/syscall.c).
    let there = files.exists("/proc/sys/kernel/unprivileged_bpf_disabled");
    let finding = |what: String| finding("bpf", "bpf(2)", what);
    match attempt {
        ProbeAttempt::NoMaps(why) => finding(why.clone())
            .with_status(CheckStatus::Missing)
            .costs("no tracing")
            .todo(
                "check that the kernel is 6.1 or newer (docs/requirements.md) and has CONFIG_BPF_SYSCALL, and that nothing (a \
                 container, a security module) keeps bpf(2) from this process",
            )
            .blocks(CheckBlocker::Support),
        ProbeAttempt::Done(done) if !done.refused.is_empty() => {
            let roles: Vec<_> =
                done.refused.iter().map(|(role, why)| format!("{}: {why}", role.name())).collect();
            finding(format!("the kernel refuses programs: {}", roles.join("; ")))
                .with_status(CheckStatus::Degraded)
                .costs("the probes of these roles, see below")
                .todo("report this as a bug, with the kernel's version")
        },
        ProbeAttempt::Done(_) if has_kprobes(files) => finding("maps and all programs load".to_owned()),
        ProbeAttempt::Done(_) => finding("maps load; the programs need kprobes".to_owned()),
        ProbeAttempt::NotTried(why) if there => {
            finding(format!("the kernel has it; whether the programs load was not tried: {why}"))
                .with_status(CheckStatus::Unknown)
        },
        ProbeAttempt::NotTried(_) => {
            finding("the kernel seems to be built without CONFIG_BPF_SYSCALL".to_owned())
                .with_status(CheckStatus::Missing)
                .costs("no tracing")
                .todo("use a kernel with CONFIG_BPF_SYSCALL, as distributions' have")
                .blocks(CheckBlocker::Support)
        },
    }
}

fn kprobes(files: &KernelFiles) -> Check {
    let finding = |what: &str| finding("kprobes", "kprobes", what);
    if !has_kprobes(files) {
        return finding("none (no /sys/bus/event_source/devices/kprobe): built without CONFIG_KPROBE_EVENTS")
            .with_status(CheckStatus::Missing)
            .costs("no tracing")
            .todo("use a kernel with CONFIG_KPROBE_EVENTS, as distributions' have")
            .blocks(CheckBlocker::Support);
    }
    if are_off(files) {
        return finding("switched off in debugfs")
            .with_status(CheckStatus::Missing)
            .costs("probes can be attached, but none ever fires: no tracing")
            .todo("sudo sh -c 'echo 1 >/sys/kernel/debug/kprobes/enabled'")
            .blocks(CheckBlocker::Support);
    }
    finding("there")
}

fn symbols(files: &KernelFiles, facts: &KernelFacts) -> Check {
    let finding = |what: String| finding("kallsyms", "symbols", what);
    match &facts.kallsyms {
        Err(why) => finding(why.to_string())
            .with_status(CheckStatus::Degraded)
            .costs(
                "it cannot be told which functions were inlined or exist twice before a probe is tried; functions \
                 behind pointers have no names",
            )
            .todo("use a kernel with CONFIG_KALLSYMS, as distributions' have"),
        // It is not read before there is something to look for.
        Ok(symbols) if symbols.total() == 0 && files.open("/proc/kallsyms").is_ok() => {
            finding("/proc/kallsyms can be read".to_owned())
        },
        Ok(symbols) if symbols.total() == 0 => {
            finding("/proc/kallsyms cannot be read".to_owned()).with_status(CheckStatus::Degraded)
        },
        Ok(symbols) => finding(format!("{} in /proc/kallsyms", symbols.total())),
    }
}

fn addresses(facts: &KernelFacts) -> Check {
    let finding = |what: String| finding("kernel-addresses", "kernel addresses", what);
    match &facts.addresses_hidden {
        None => finding("shown".to_owned()),
        Some(why) => finding(why.to_string()).with_status(CheckStatus::Degraded).costs(
            "functions that are known through pointers only stay unnamed and are not probed; functions of the same name \
             in one module cannot be told apart; it is not known who holds a device, nor the state of devices before \
             their first arc",
        ),
    }
}
