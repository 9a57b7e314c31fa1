//! Checks of the privileges of this process.

use super::{Check, CheckBlocker, CheckSection, CheckStatus, DoctorFacts};
use crate::kernel::caps::{LinuxCap, setcap_line};

/// Makes the check of the user namespace: capabilities count in the first one only.
pub(super) fn user_namespace(facts: &DoctorFacts) -> Vec<Check> {
    let check = |what: &str| Check::ok(CheckSection::Privileges, "user-namespace", "user namespace", what);
    vec![match facts.first_user_namespace {
        Some(true) => check("the first one: capabilities count"),
        Some(false) => {
            check("a nested one (a rootless container): capabilities in it do not count for tracing")
                .with_status(CheckStatus::Missing)
                .todo("run it on the host, or in a container that shares the host's user namespace")
                .blocks(CheckBlocker::Permission)
        },
        None => check("not known: /proc cannot be read")
            .with_status(CheckStatus::Unknown)
            .todo("mount it: mount -t proc proc /proc"),
    }]
}

/// Makes the checks of the capabilities that nothing works without.
pub(super) fn needed(facts: &DoctorFacts) -> Vec<Check> {
    let needed = [
        (LinuxCap::Bpf, "cap-bpf", "eBPF programs and maps cannot be loaded: no tracing"),
        (
            LinuxCap::Perfmon,
            "cap-perfmon",
            "kprobes cannot be attached, kernel memory cannot be read: no tracing",
        ),
    ];
    let check = |(cap, id, costs)| {
        if facts.kernel.caps.has(cap) {
            return capability(id, cap, "held");
        }
        let missing = capability(id, cap, "not held").with_status(CheckStatus::Missing).costs(costs);
        missing.todo(permit(facts)).blocks(CheckBlocker::Permission)
    };
    needed.map(check).into()
}

/// Makes the check of CAP_SYS_ADMIN, for kernels that ask for it before any perf event.
pub(super) fn admin(facts: &DoctorFacts) -> Vec<Check> {
    let check = |what: &str| capability("cap-sys-admin", LinuxCap::SysAdmin, what);
    if facts.kernel.caps.has(LinuxCap::SysAdmin) {
        return vec![check("held")];
    }
    if !facts.proc_readable {
        let what = "not held; whether this kernel asks for it is not known: /proc cannot be read";
        return vec![check(what).with_status(CheckStatus::Unknown)];
    }
    if !facts.kernel.perf_wants_admin {
        return vec![check("not held, and not needed")];
    }
    vec![match facts.attempt.done() {
        Some(done) if done.any() => check("not held, and this kernel does not ask for it"),
        Some(done) if done.denied => check(
            "not held, and this kernel asks for it: kernel.perf_event_paranoid is above 2, as Debian and others have it",
        )
        .with_status(CheckStatus::Missing)
        .costs("kprobes cannot be attached: no tracing")
        .todo("run it as root, or once: sudo sysctl kernel.perf_event_paranoid=2")
        .blocks(CheckBlocker::Permission),
        _ => check(
            "not held; kernel.perf_event_paranoid is above 2, where Debian's kernels ask for it before any kprobe",
        )
        .with_status(CheckStatus::Unknown)
        .costs("perhaps no tracing: it shows when a probe is attached")
        .todo("run it as root, or once: sudo sysctl kernel.perf_event_paranoid=2"),
    }]
}

/// Makes the check of CAP_SYSLOG, without which the kernel hides its addresses.
pub(super) fn syslog(facts: &DoctorFacts) -> Vec<Check> {
    let check = |what: &str| capability("cap-syslog", LinuxCap::Syslog, what);
    vec![if facts.kernel.caps.has(LinuxCap::Syslog) {
        check("held")
    } else if !facts.symbols_readable {
        check("not held").with_status(CheckStatus::Unknown).costs("kernel addresses may be hidden, see below")
    } else if facts.kernel.addresses_hidden.is_none() {
        check("not held, and not needed: the kernel shows its addresses")
    } else {
        check("not held")
            .with_status(CheckStatus::Degraded)
            .costs("kernel addresses are hidden, see below")
            .todo(permit(facts))
    }]
}

fn capability(id: &'static str, cap: LinuxCap, what: &str) -> Check {
    Check::ok(CheckSection::Privileges, id, cap.name(), what)
}

fn permit(facts: &DoctorFacts) -> String {
    let program = facts.program.display().to_string();
    format!("run it as root, or once: {}", setcap_line(&program))
}
