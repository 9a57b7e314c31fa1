//! Checks of features and settings of the kernel: lockdown, BPF, kprobes, symbols, known defects.

use vfio_trace_common::defects::{DEFECTS, Defect, Standing};

use super::{Check, CheckBlocker, CheckSection, CheckStatus, DoctorFacts, ProbeAttempt};
use crate::kernel::{KernelFacts, KernelVersion, KprobeSupport, security::LockdownMode};

fn check(id: &'static str, subject: &str, what: impl Into<String>) -> Check {
    Check::ok(CheckSection::Kernel, id, subject, what)
}

/// Makes the checks of known kernel defects, one check each: such a kernel does harm on a request that is allowed.
pub(super) fn defects(facts: &DoctorFacts) -> Vec<Check> {
    DEFECTS.iter().map(|known| defect(&facts.version, known)).collect()
}

fn defect(words: &KernelVersion, defect: &Defect) -> Check {
    let check = |what: String| check("kernel-defect", defect.id, what);
    let Some(suspicion) = words.suspicion(defect) else {
        return check(match words.standing(defect) {
            Standing::Older => format!("not there: it came with Linux {}", defect.since),
            _ => "mended in this kernel".to_owned(),
        });
    };
    let known = words.standing(defect) == Standing::Affected;
    check(suspicion)
        .with_status(if known { CheckStatus::Degraded } else { CheckStatus::Unknown })
        .costs(format!("if anything asks for {}: {}. Tracing itself is not concerned", defect.trigger, defect.harm))
        .todo(format!(
            "install a kernel that has the mend ({}, or your distribution's); until then exercise leaves this out by itself",
            defect.mended()
        ))
}

/// Makes the check of lockdown: the confidentiality mode forbids tracing.
pub(super) fn lockdown(facts: &DoctorFacts) -> Vec<Check> {
    let check = |what: &str| check("lockdown", "lockdown", what);
    vec![match facts.kernel.lockdown {
        LockdownMode::None if facts.shows_lockdown => check("off"),
        LockdownMode::None if !facts.sysfs_readable => {
            check("not known: sysfs cannot be read").with_status(CheckStatus::Unknown)
        },
        LockdownMode::None => check("none: the kernel has no lockdown, or securityfs is not mounted"),
        LockdownMode::Integrity => check("integrity, which allows tracing"),
        LockdownMode::Confidentiality => check("confidentiality, which refuses kprobes to everybody")
            .with_status(CheckStatus::Missing)
            .costs("no tracing")
            .todo("boot without lockdown=confidentiality (integrity, the mode of Secure Boot, is fine)")
            .blocks(CheckBlocker::Support),
        LockdownMode::Unknown => {
            check("a mode that vfio-trace does not know").with_status(CheckStatus::Unknown)
        },
    }]
}

/// Makes the check of bpf(2): maps and programs can be loaded.
pub(super) fn bpf(facts: &DoctorFacts) -> Vec<Check> {
    let check = |what: String| check("bpf", "bpf(2)", what);
    vec![match &facts.attempt {
        ProbeAttempt::NoMaps(why) => check(why.clone())
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
            check(format!("the kernel refuses programs: {}", roles.join("; ")))
                .with_status(CheckStatus::Degraded)
                .costs("the probes of these roles, see below")
                .todo("report this as a bug, with the kernel's version")
        },
        ProbeAttempt::Done(_) if facts.kprobe_support == KprobeSupport::Present => check("maps and all programs load".to_owned()),
        ProbeAttempt::Done(_) => check("maps load; the programs need kprobes".to_owned()),
        ProbeAttempt::NotTried(why) if facts.has_bpf != Some(false) => {
            let has = if facts.has_bpf.is_some() {
                "the kernel has it"
            } else {
                "that the kernel has it is not known: /proc/sys cannot be read"
            };
            check(format!("{has}; whether the programs load was not tried: {why}"))
                .with_status(CheckStatus::Unknown)
        },
        ProbeAttempt::NotTried(_) => check("the kernel seems to be built without CONFIG_BPF_SYSCALL".to_owned())
            .with_status(CheckStatus::Missing)
            .costs("no tracing")
            .todo("use a kernel with CONFIG_BPF_SYSCALL, as distributions' have")
            .blocks(CheckBlocker::Support),
    }]
}

/// Makes the check of kprobes: the kernel has them, and they fire.
pub(super) fn kprobes(facts: &DoctorFacts) -> Vec<Check> {
    let check = |what: &str| check("kprobes", "kprobes", what);
    vec![if facts.kprobe_support == KprobeSupport::Unknown {
        check("not known: sysfs cannot be read, which alone tells how they are attached")
            .with_status(CheckStatus::Unknown)
            .costs("no tracing from here")
            .todo("mount it (mount -t sysfs sysfs /sys), or let this container or user see /sys/bus/event_source")
            .blocks(CheckBlocker::Permission)
    } else if facts.kprobe_support == KprobeSupport::Absent {
        check("none (no /sys/bus/event_source/devices/kprobe): built without CONFIG_KPROBE_EVENTS")
            .with_status(CheckStatus::Missing)
            .costs("no tracing")
            .todo("use a kernel with CONFIG_KPROBE_EVENTS, as distributions' have")
            .blocks(CheckBlocker::Support)
    } else if facts.kprobes_off {
        check("switched off in debugfs")
            .with_status(CheckStatus::Missing)
            .costs("probes can be attached, but none ever fires: no tracing")
            .todo("sudo sh -c 'echo 1 >/sys/kernel/debug/kprobes/enabled'")
            .blocks(CheckBlocker::Support)
    } else {
        check("there")
    }]
}

/// Makes the check of symbols: functions can be found by name, and told apart by address.
pub(super) fn symbols(facts: &DoctorFacts) -> Vec<Check> {
    vec![names(facts), addresses(&facts.kernel, facts.symbols_readable)]
}

fn names(facts: &DoctorFacts) -> Check {
    let check = |what: String| check("kallsyms", "symbols", what);
    match &facts.kernel.kallsyms {
        Err(why) => check(why.to_string())
            .with_status(CheckStatus::Degraded)
            .costs(
                "it cannot be told which functions were inlined or exist twice before a probe is tried; functions \
                 behind pointers have no names",
            )
            .todo(if facts.proc_readable {
                "use a kernel with CONFIG_KALLSYMS, as distributions' have"
            } else {
                "mount /proc: mount -t proc proc /proc"
            }),
        // The list of symbols is not read before there is something to look for.
        Ok(symbols) if symbols.total() == 0 && facts.symbols_readable => check("/proc/kallsyms can be read".to_owned()),
        Ok(symbols) if symbols.total() == 0 => {
            check("/proc/kallsyms cannot be read".to_owned()).with_status(CheckStatus::Degraded)
        },
        Ok(symbols) => check(format!("{} in /proc/kallsyms", symbols.total())),
    }
}

fn addresses(kernel: &KernelFacts, readable: bool) -> Check {
    let check = |what: String| check("kernel-addresses", "kernel addresses", what);
    if !readable {
        let what = "not known: /proc/kallsyms cannot be read";
        return check(what.to_owned()).with_status(CheckStatus::Unknown);
    }
    match &kernel.addresses_hidden {
        None => check("shown".to_owned()),
        Some(why) => check(why.to_string()).with_status(CheckStatus::Degraded).costs(
            "functions that are known through pointers only stay unnamed and are not probed; functions of the same name \
             in one module cannot be told apart; it is not known who holds a device, nor the state of devices before \
             their first arc",
        ),
    }
}
