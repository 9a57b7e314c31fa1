//! Each function of the plan: attachable, or why not and what that costs.

use super::attempt::{ProbeAttempt, are_off, has_kprobes};
use crate::{
    kernel::{KernelFacts, KernelFiles, VfioCore},
    output::{Check, CheckBlocker, CheckSection, CheckStatus},
    probe::{PlannedProbe, plan},
};

/// All of the plan.
pub(super) fn probes(files: &KernelFiles, facts: &KernelFacts, attempt: &ProbeAttempt) -> Vec<Check> {
    if facts.vfio == VfioCore::NotLoaded {
        let what =
            "vfio is not loaded, or not in this kernel: which of its functions can be probed shows only then";
        let finding =
            Check::ok(CheckSection::Probes, "vfio-core", "vfio", what).with_status(CheckStatus::Unknown);
        if !can_probe(files, facts) {
            return vec![finding];
        }
        return vec![
            finding
                .costs("nothing: tail waits for it and probes it then")
                .todo("load your device's driver (modprobe vfio-pci, for instance) and run doctor again"),
        ];
    }
    let blacklist = files.text("/sys/kernel/debug/kprobes/blacklist").unwrap_or_default();
    let plan = plan(facts);
    let mut findings: Vec<_> =
        plan.iter().map(|planned| judge(planned, files, attempt, &blacklist)).collect();
    if let Some(done) = attempt.done()
        && has_kprobes(files)
        && !done.any()
        && !done.denied
    {
        let what = "not a single function could be probed";
        let none =
            Check::ok(CheckSection::Probes, "vfio-core", "vfio", what).with_status(CheckStatus::Missing);
        findings.push(none.costs("no tracing").blocks(CheckBlocker::Support));
    }
    findings
}

/// Whether functions of this kernel can be probed at all, by whomever: other findings say why not.
fn can_probe(files: &KernelFiles, facts: &KernelFacts) -> bool {
    has_kprobes(files) && !are_off(files) && !facts.lockdown.forbids_tracing()
}

fn judge(planned: &PlannedProbe, files: &KernelFiles, attempt: &ProbeAttempt, blacklist: &str) -> Check {
    let (role, symbol, module) = match planned {
        PlannedProbe::Attach(target) => (target.role, &target.symbol, &target.module),
        PlannedProbe::NotAvailable { role, symbol, module, .. } => (*role, symbol, module),
    };
    let subject = module.as_ref().map_or_else(|| symbol.clone(), |module| format!("{module}:{symbol}"));
    let finding = |what: &str| {
        Check::ok(CheckSection::Probes, role.check_id(), subject.clone(), format!("{}: {what}", role.name()))
    };
    let lost = |why: &str| finding(why).with_status(CheckStatus::Missing).costs(role.loss());
    if let PlannedProbe::NotAvailable { reason, .. } = planned {
        return lost(reason);
    }
    if is_listed(blacklist, symbol) {
        return lost("it is on the kprobe blacklist (/sys/kernel/debug/kprobes/blacklist)");
    }
    if !has_kprobes(files) {
        return lost("this kernel has no kprobes");
    }
    let tried = attempt.done().and_then(|done| {
        let is = |probe: &&crate::event::ProbeReport| {
            probe.role == role && probe.name == *symbol && probe.module == *module
        };
        done.probes.iter().find(is)
    });
    let untried =
        |why: &str| finding(&format!("should be attachable, by its symbol and type; not tried: {why}"));
    match (tried, attempt) {
        (Some(probe), _) if probe.attached => finding("attached, and detached again"),
        // Said once, with the capability.
        (Some(_), ProbeAttempt::Done(done)) if done.denied && !done.any() => {
            untried("the kernel asks for CAP_SYS_ADMIN")
        },
        (Some(probe), _) => lost(probe.reason.as_deref().unwrap_or("it could not be attached")),
        (None, ProbeAttempt::NotTried(why)) => untried(why),
        (None, ProbeAttempt::NoMaps(_) | ProbeAttempt::Done(_)) => {
            finding("not tried").with_status(CheckStatus::Unknown)
        },
    }
}

/// A line has a range of addresses, a tab and a name (`kprobe_blacklist_seq_show()` in kernel/kprobes.c).
fn is_listed(blacklist: &str, symbol: &str) -> bool {
    blacklist.lines().any(|line| line.split_whitespace().nth(1) == Some(symbol))
}

#[cfg(test)]
mod tests {
    use vfio_trace_common::role::Role;

    use super::*;

    #[test]
    fn ids_are_made_of_the_roles_names() {
        for role in Role::ALL {
            assert_eq!(role.check_id(), format!("probe-{}", role.name().replace('_', "-")));
        }
    }

    #[test]
    fn the_blacklist_is_read_by_name() {
        let text = "0xffffffff81000000-0xffffffff81000010\tvfio_x\n0x0-0x0\tother\n";
        assert!(is_listed(text, "vfio_x") && is_listed(text, "other"));
        assert!(!is_listed(text, "vfio") && !is_listed("", "vfio_x"));
    }
}
