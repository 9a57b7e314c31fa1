//! Checks of the migration drivers that are loaded, and of the data that their plug-ins get.

use vfio_trace_common::role::Role;

use super::{Check, CheckSection, CheckStatus, DoctorFacts};
use crate::kernel::{KernelFacts, VfioCore};

/// Makes one check per loaded migration driver: its name, and the sign by which it was recognised.
pub(super) fn drivers(facts: &DoctorFacts) -> Vec<Check> {
    let (facts, proc_readable) = (&facts.kernel, facts.proc_readable);
    let check = |id, subject: &str, what: String| Check::ok(CheckSection::Drivers, id, subject, what);
    let mut checks = Vec::new();
    for driver in &facts.drivers {
        let name = driver.module.as_deref().unwrap_or("built in");
        let set_state: Vec<_> = driver.of(Role::SetState).map(|one| one.name.as_str()).collect();
        let excluded = driver.excluded.iter().filter(|one| one.role == Role::SetState);
        let set_state = [set_state, excluded.map(|one| one.name.as_str()).collect()].concat();
        checks.push(check(
            "migration-driver",
            name,
            format!(
                "recognised by the type of {}; {} of its functions can be probed, {} cannot",
                set_state.join(", "),
                driver.functions.len(),
                driver.excluded.len()
            ),
        ));
        // A module is at one place for all its functions; each built-in function has its own.
        let own = set_state.iter().take(if driver.module.is_some() { 1 } else { usize::MAX });
        for function in own {
            let Some(Err(why)) = facts.private_of(driver, function) else { continue };
            let subject = if driver.module.is_some() { name } else { function };
            checks.push(
                check("driver-state", subject, why.to_string())
                    .with_status(CheckStatus::Degraded)
                    .costs("the state of its devices is not known before their first arc; sessions that are open already have no device"),
            );
        }
    }
    checks.extend(images(facts));
    if checks.is_empty() {
        let none = |what: &str| check("migration-driver", "-", what.to_owned());
        checks.push(if facts.vfio == VfioCore::NotLoaded && !proc_readable {
            none("not known: /proc cannot be read").with_status(CheckStatus::Unknown)
        } else if facts.vfio == VfioCore::NotLoaded {
            none("vfio is not loaded, so there is no driver").with_status(CheckStatus::Unknown)
        } else if facts.btf.is_err() {
            none("without BTF drivers cannot be recognised").with_status(CheckStatus::Unknown)
        } else if facts.without_btf().next().is_some() {
            none("none recognised among the loaded modules that have BTF").with_status(CheckStatus::Unknown)
        } else {
            none("no loaded module is a migration driver")
                .with_status(CheckStatus::Degraded)
                .costs("nothing can migrate here now; tail probes a driver as soon as it is loaded")
                .todo("load the driver of your device; see the devices below")
        });
    }
    checks
}

/// Makes the checks of the structures that plug-ins want to copy.
fn images(facts: &KernelFacts) -> impl Iterator<Item = Check> {
    facts.plugins.iter().flat_map(|plugin| {
        plugin.wanted.captures.iter().zip(&plugin.captures).map(|(wanted, plan)| {
            let check = |what| {
                let subject = format!("{}:{}", plugin.wanted.module, wanted.name);
                Check::ok(CheckSection::Drivers, "driver-image", &subject, what)
            };
            match plan {
                // Structures of other drivers are on other kernels.
                Ok(plan) if plan.missing.is_empty() => {
                    check(format!("{} members of struct {}", plan.fields.len(), wanted.structure))
                },
                Ok(plan) => check(format!(
                    "{} members of struct {}; not in this kernel: {}",
                    plan.fields.len(),
                    wanted.structure,
                    plan.missing.join(", ")
                )),
                Err(why) => check(why.to_string())
                    .with_status(CheckStatus::Missing)
                    .costs("images of it, and what is concluded from them"),
            }
        })
    })
}
