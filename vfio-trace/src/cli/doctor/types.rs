//! BTF of the kernel, of vfio and of its users; struct members; migration drivers.

use vfio_trace_common::{layout::Field, role::Role};

use super::losses;
use crate::{
    kernel::{
        KernelFacts, KernelFiles, MissingField, MissingReason, VfioCore, btf::MemberError,
        collection::BtfLoadError,
    },
    output::{Check, CheckSection, CheckStatus},
};

const BUILD_WITH_BTF: &str = "give its BTF with --btf DIR, or build the module with pahole installed and vmlinux in the \
                              kernel headers";

fn finding(id: &'static str, subject: &str, what: impl Into<String>) -> Check {
    Check::ok(CheckSection::Types, id, subject, what)
}

/// What is wrong; what to do is said apart.
fn reason(why: &BtfLoadError) -> String {
    match why {
        BtfLoadError::File { cause, .. } => cause.to_string(),
        BtfLoadError::Btf(error) => error.to_string(),
    }
}

/// BTF and what it gives.
pub(super) fn types(files: &KernelFiles, facts: &KernelFacts) -> Vec<Check> {
    let btf = match &facts.btf {
        Ok(btf) => btf,
        Err(why) => {
            return vec![
                finding("btf-vmlinux", "vmlinux", reason(why))
                    .with_status(CheckStatus::Degraded)
                    .costs(losses::NO_BTF)
                    .todo("give the kernel's BTF with --btf DIR, or use a kernel with CONFIG_DEBUG_INFO_BTF"),
            ];
        },
    };
    let from = |name: &str| {
        let own = files.path("sys/kernel/btf");
        let path = files.btf_path(name);
        if path.starts_with(own) { String::new() } else { format!(", from {}", path.display()) }
    };
    let count = btf.vmlinux().type_count();
    let mut findings = vec![finding("btf-vmlinux", "vmlinux", format!("{count} types{}", from("vmlinux")))];
    let mut module = |id, name: &str, costs: &str| {
        findings.push(match (btf.module(name), btf.failure(name)) {
            (Some(module), _) => finding(id, name, format!("{} types{}", module.type_count(), from(name))),
            (None, Some(why)) => finding(id, name, reason(why))
                .with_status(CheckStatus::Degraded)
                .costs(costs)
                .todo(BUILD_WITH_BTF),
            (None, None) => return,
        });
    };
    if facts.vfio == VfioCore::Module {
        module("btf-vfio", "vfio", losses::NO_VFIO_BTF);
    }
    for name in &facts.users {
        module("btf-module", name, losses::NO_MODULE_BTF);
    }
    findings.extend(members(facts));
    findings
}

/// The struct members that the programs read.
fn members(facts: &KernelFacts) -> Vec<Check> {
    let (later, missing): (Vec<_>, Vec<_>) = facts
        .missing
        .iter()
        .partition(|missing| facts.vfio == VfioCore::NotLoaded && is_of_vfio(missing.field));
    let (absent, lost): (Vec<&MissingField>, Vec<&MissingField>) =
        missing.into_iter().partition(|missing| is_older_kernel(missing, facts));
    let known = Field::ALL.len() - facts.missing.len();
    let mut what = vec![format!("{known} of {} are known", Field::ALL.len())];
    if !later.is_empty() {
        what.push(format!("{} are vfio's, which is not loaded", later.len()));
    }
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|missing| missing.path.as_str()).collect();
        what.push(format!("this kernel is older than {}, and does without", names.join(", ")));
    }
    let mut findings = vec![finding("layout", "struct members", what.join("; "))];
    findings.extend(lost.into_iter().map(|missing| {
        finding("layout-field", &missing.path, missing.why.to_string())
            .with_status(CheckStatus::Degraded)
            .costs(losses::of_field(missing.field))
    }));
    findings
}

fn is_of_vfio(field: Field) -> bool {
    Field::ALL.iter().any(|(other, name, _)| *other == field && name.starts_with("vfio_"))
        // Says that vfio's BTF is needed to understand it.
        || field == Field::FilePrivateData
}

/// Whether the kernel does not need what it does not have.
fn is_older_kernel(missing: &MissingField, facts: &KernelFacts) -> bool {
    match (missing.field, &missing.why) {
        // Up to 6.5 a device fd's private data is the device; only known if vfio's BTF is.
        (Field::DeviceFileDevice, MissingReason::NoStruct { .. }) => {
            facts.layout.get(Field::FilePrivateData).is_some()
        },
        // 6.2 and later.
        (Field::MigGetDataSize, MissingReason::Member(MemberError::Absent { .. })) => true,
        _ => false,
    }
}

/// Migration drivers that are loaded, and how they were recognised.
pub(super) fn drivers(facts: &KernelFacts) -> Vec<Check> {
    let finding = |id, subject: &str, what: String| Check::ok(CheckSection::Drivers, id, subject, what);
    let mut findings = Vec::new();
    for driver in &facts.drivers {
        let name = driver.module.as_deref().unwrap_or("built in");
        let set_state: Vec<_> = driver.of(Role::SetState).map(|one| one.name.as_str()).collect();
        let excluded = driver.excluded.iter().filter(|one| one.role == Role::SetState);
        let set_state = [set_state, excluded.map(|one| one.name.as_str()).collect()].concat();
        findings.push(finding(
            "migration-driver",
            name,
            format!(
                "recognised by the type of {}; {} of its functions can be probed, {} cannot",
                set_state.join(", "),
                driver.functions.len(),
                driver.excluded.len()
            ),
        ));
        // A module has one place for all; of those that are built in each has its own.
        let own = set_state.iter().take(if driver.module.is_some() { 1 } else { usize::MAX });
        for function in own {
            let Some(Err(why)) = facts.private_of(driver, function) else { continue };
            let subject = if driver.module.is_some() { name } else { function };
            findings.push(
                finding("driver-state", subject, why.to_string())
                    .with_status(CheckStatus::Degraded)
                    .costs("the state of its devices is not known before their first arc; sessions that are open already have no device"),
            );
        }
    }
    findings.extend(images(facts));
    if findings.is_empty() {
        let none = |what: &str| finding("migration-driver", "-", what.to_owned());
        findings.push(if facts.vfio == VfioCore::NotLoaded {
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
    findings
}

/// Structures that plug-ins want to copy.
fn images(facts: &KernelFacts) -> impl Iterator<Item = Check> {
    facts.plugins.iter().flat_map(|plugin| {
        plugin.wanted.captures.iter().zip(&plugin.captures).map(|(wanted, plan)| {
            let finding = |what| {
                let subject = format!("{}:{}", plugin.wanted.module, wanted.name);
                Check::ok(CheckSection::Drivers, "driver-image", &subject, what)
            };
            match plan {
                // Other kernels have them.
                Ok(plan) if plan.missing.is_empty() => {
                    finding(format!("{} members of struct {}", plan.fields.len(), wanted.structure))
                },
                Ok(plan) => finding(format!(
                    "{} members of struct {}; not in this kernel: {}",
                    plan.fields.len(),
                    wanted.structure,
                    plan.missing.join(", ")
                )),
                Err(why) => finding(why.to_string())
                    .with_status(CheckStatus::Missing)
                    .costs("images of it, and what is concluded from them"),
            }
        })
    })
}
