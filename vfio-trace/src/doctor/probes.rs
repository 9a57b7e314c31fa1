//! Checks of each function of the plan: it can be probed, or why not and what is lost.

use super::{Check, CheckBlocker, CheckSection, CheckStatus, DoctorFacts, ProbeAttempt};
use crate::{
    event::ProbeReport,
    kernel::{KprobeSupport, VfioCore},
    probe::{PlannedProbe, plan},
};

/// Makes the checks of all functions of the plan.
pub(super) fn probes(facts: &DoctorFacts) -> Vec<Check> {
    if facts.kernel.vfio == VfioCore::NotLoaded {
        let what = if facts.proc_readable {
            "vfio is not loaded, or not in this kernel: which of its functions can be probed shows only then"
        } else {
            "not known to be loaded: /proc cannot be read"
        };
        let check =
            Check::ok(CheckSection::Probes, "vfio-core", "vfio", what).with_status(CheckStatus::Unknown);
        if !can_probe(facts) {
            return vec![check];
        }
        return vec![
            check
                .costs("nothing: tail waits for it and probes it then")
                .todo("load your device's driver (modprobe vfio-pci, for instance) and run doctor again"),
        ];
    }
    let plan = plan(&facts.kernel);
    let mut checks: Vec<_> = plan.iter().map(|planned| judge(planned, facts)).collect();
    if let Some(done) = facts.attempt.done()
        && facts.kprobe_support == KprobeSupport::Present
        && !done.any()
        && !done.denied
    {
        let what = "not a single function could be probed";
        let none =
            Check::ok(CheckSection::Probes, "vfio-core", "vfio", what).with_status(CheckStatus::Missing);
        checks.push(none.costs("no tracing").blocks(CheckBlocker::Support));
    }
    checks
}

/// Returns true if functions of this kernel can be probed at all, by any process: other checks give the reason if not.
fn can_probe(facts: &DoctorFacts) -> bool {
    facts.kprobe_support == KprobeSupport::Present
        && !facts.kprobes_off
        && !facts.kernel.lockdown.forbids_tracing()
}

fn judge(planned: &PlannedProbe, facts: &DoctorFacts) -> Check {
    let (role, symbol, module) = match planned {
        PlannedProbe::Attach(target) => (target.role, &target.symbol, &target.module),
        PlannedProbe::NotAvailable { role, symbol, module, .. } => (*role, symbol, module),
    };
    let subject = module.as_ref().map_or_else(|| symbol.clone(), |module| format!("{module}:{symbol}"));
    let check = |what: &str| {
        Check::ok(CheckSection::Probes, role.check_id(), subject.clone(), format!("{}: {what}", role.name()))
    };
    let lost = |why: &str| check(why).with_status(CheckStatus::Missing).costs(role.loss());
    if let PlannedProbe::NotAvailable { reason, .. } = planned {
        return lost(reason);
    }
    if facts.kprobe_blacklist.contains(symbol) {
        return lost("it is on the kprobe blacklist (/sys/kernel/debug/kprobes/blacklist)");
    }
    match facts.kprobe_support {
        KprobeSupport::Present => {},
        KprobeSupport::Absent => return lost("this kernel has no kprobes"),
        KprobeSupport::Unknown => {
            return check("not tried: sysfs cannot be read").with_status(CheckStatus::Unknown);
        },
    }
    let tried = facts.attempt.done().and_then(|done| {
        let is =
            |probe: &&ProbeReport| probe.role == role && probe.name == *symbol && probe.module == *module;
        done.probes.iter().find(is)
    });
    let untried =
        |why: &str| check(&format!("should be attachable, by its symbol and type; not tried: {why}"));
    match (tried, &facts.attempt) {
        (Some(probe), _) if probe.attached => check("attached, and detached again"),
        // The check of the capability has said this once already.
        (Some(_), ProbeAttempt::Done(done)) if done.denied && !done.any() => {
            untried("the kernel asks for CAP_SYS_ADMIN")
        },
        (Some(probe), _) => lost(probe.reason.as_deref().unwrap_or("it could not be attached")),
        (None, ProbeAttempt::NotTried(why)) => untried(why),
        (None, ProbeAttempt::NoMaps(_) | ProbeAttempt::Done(_)) => {
            check("not tried").with_status(CheckStatus::Unknown)
        },
    }
}

#[cfg(test)]
mod tests {
    use vfio_trace_common::role::Role;

    #[test]
    fn ids_are_made_of_the_roles_names() {
        for role in Role::ALL {
            assert_eq!(role.check_id(), format!("probe-{}", role.name().replace('_', "-")));
        }
    }
}
