//! Checks of the BTF of the kernel, of vfio and of its users, and of struct members.

use vfio_trace_common::layout::Field;

use super::{Check, CheckSection, CheckStatus, DoctorFacts, losses};
use crate::kernel::{
    KernelFacts, MissingField, MissingReason, VfioCore, btf::MemberError, collection::BtfLoadError,
};

const BUILD_WITH_BTF: &str = "give its BTF with --btf DIR, or build the module with pahole installed and vmlinux in the \
                              kernel headers";

fn check(id: &'static str, subject: &str, what: impl Into<String>) -> Check {
    Check::ok(CheckSection::Types, id, subject, what)
}

/// Returns the reason why BTF was not loaded, without the advice.
fn reason(why: &BtfLoadError) -> String {
    match why {
        BtfLoadError::File { cause, .. } => cause.to_string(),
        BtfLoadError::Btf(error) => error.to_string(),
    }
}

/// Makes the checks of each BTF: if it was found, and what is lost without it.
pub(super) fn types(facts: &DoctorFacts) -> Vec<Check> {
    let kernel = &facts.kernel;
    let btf = match &kernel.btf {
        Ok(btf) => btf,
        Err(why) => {
            return vec![
                check("btf-vmlinux", "vmlinux", reason(why))
                    .with_status(CheckStatus::Degraded)
                    .costs(losses::NO_BTF)
                    .todo(if facts.sysfs_readable {
                        "give the kernel's BTF with --btf DIR, or use a kernel with CONFIG_DEBUG_INFO_BTF"
                    } else {
                        "mount sysfs (mount -t sysfs sysfs /sys), or give the kernel's BTF with --btf DIR"
                    }),
            ];
        },
    };
    let from = |name: &str| match facts.btf_files.get(name) {
        Some(path) => format!(", from {}", path.display()),
        None => String::new(),
    };
    let count = btf.vmlinux().type_count();
    let mut checks = vec![check("btf-vmlinux", "vmlinux", format!("{count} types{}", from("vmlinux")))];
    let mut module = |id, name: &str, costs: &str| {
        checks.push(match (btf.module(name), btf.failure(name)) {
            (Some(module), _) => check(id, name, format!("{} types{}", module.type_count(), from(name))),
            (None, Some(why)) => check(id, name, reason(why))
                .with_status(CheckStatus::Degraded)
                .costs(costs)
                .todo(BUILD_WITH_BTF),
            (None, None) => return,
        });
    };
    if kernel.vfio == VfioCore::Module {
        module("btf-vfio", "vfio", losses::NO_VFIO_BTF);
    }
    for name in &kernel.users {
        module("btf-module", name, losses::NO_MODULE_BTF);
    }
    checks.extend(members(kernel, facts.proc_readable));
    checks
}

/// Makes the checks of the struct members that the programs read.
fn members(facts: &KernelFacts, proc_readable: bool) -> Vec<Check> {
    let (later, missing): (Vec<_>, Vec<_>) = facts
        .missing
        .iter()
        .partition(|missing| facts.vfio == VfioCore::NotLoaded && is_of_vfio(missing.field));
    let (absent, lost): (Vec<&MissingField>, Vec<&MissingField>) =
        missing.into_iter().partition(|missing| is_older_kernel(missing, facts));
    let known = Field::ALL.len() - facts.missing.len();
    let mut what = vec![format!("{known} of {} are known", Field::ALL.len())];
    if !later.is_empty() {
        let is_not = if proc_readable { "is not loaded" } else { "is not known to be loaded" };
        what.push(format!("{} are vfio's, which {is_not}", later.len()));
    }
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|missing| missing.path.as_str()).collect();
        what.push(format!("this kernel is older than {}, and does without", names.join(", ")));
    }
    let mut checks = vec![check("layout", "struct members", what.join("; "))];
    checks.extend(lost.into_iter().map(|missing| {
        check("layout-field", &missing.path, missing.why.to_string())
            .with_status(CheckStatus::Degraded)
            .costs(losses::of_field(missing.field))
    }));
    checks
}

fn is_of_vfio(field: Field) -> bool {
    Field::ALL.iter().any(|(other, name, _)| *other == field && name.starts_with("vfio_"))
        // A member of struct file, which only makes sense with vfio's BTF.
        || field == Field::FilePrivateData
}

/// Returns true if a member is missing only because this kernel is too old to need it.
fn is_older_kernel(missing: &MissingField, facts: &KernelFacts) -> bool {
    match (missing.field, &missing.why) {
        // Up to 6.5 a device fd's private data is the device; that is only known with vfio's BTF.
        (Field::DeviceFileDevice, MissingReason::NoStruct { .. }) => {
            facts.layout.get(Field::FilePrivateData).is_some()
        },
        // The callback exists in 6.2 and later.
        (Field::MigGetDataSize, MissingReason::Member(MemberError::Absent { .. })) => true,
        _ => false,
    }
}
