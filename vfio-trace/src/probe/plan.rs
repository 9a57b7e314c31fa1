//! Plan of the functions to probe, made from the facts about the kernel. No I/O.

use vfio_trace_common::role::{Role, cookie};

use crate::{
    kernel::{
        CoreFunction, CoreStatus, DeviceArg, DriverFunctions, FunctionCandidate, KernelFacts, KernelSymbol,
        PluginFacts, StepPlan,
    },
    sys::ProbeLocation,
};

/// Function to probe.
///
/// Made from the kernel facts by [`plan()`], or from a pointer that an eBPF program has seen. The manager attaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Role of the function, which selects the eBPF programs.
    pub role: Role,
    /// Symbol of the function.
    pub symbol: String,
    /// Name of its module; `None` for the kernel image.
    pub module: Option<String>,
    /// Address, if it is known.
    pub address: Option<u64>,
    /// True if no other function has this symbol.
    pub unique: bool,
    /// Bits of the kprobe's cookie: `cookie::TAKES_*`, and other facts about the function that its programs need.
    pub cookie_bits: u64,
    /// Facts about a step that the programs and the readers of its records need; `None` for other functions.
    pub step: Option<StepPlan>,
}

/// Line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedProbe {
    /// Function to be attached.
    Attach(ProbeTarget),
    /// Function that is wanted but cannot be probed.
    NotAvailable {
        /// Role of the function.
        role: Role,
        /// Symbol of the function.
        symbol: String,
        /// Name of its module.
        module: Option<String>,
        /// Reason.
        reason: String,
    },
}

impl PlannedProbe {
    /// Returns the order in which functions are attached, lowest first: see [`Role::urgency`].
    pub const fn urgency(&self) -> u8 {
        let role = match self {
            Self::Attach(target) => target.role,
            Self::NotAvailable { role, .. } => *role,
        };
        role.urgency()
    }
}

impl ProbeTarget {
    /// Makes the target for a function that was found through a pointer.
    pub fn from_pointer(role: Role, symbol: KernelSymbol) -> Self {
        Self {
            role,
            symbol: symbol.name,
            module: symbol.module,
            address: (symbol.addr != 0).then_some(symbol.addr),
            unique: false,
            cookie_bits: cookie::TAKES_DEVICE,
            step: None,
        }
    }

    fn from_step(step: &StepPlan) -> Self {
        Self {
            role: Role::Step,
            symbol: step.symbol.clone(),
            module: step.module.clone(),
            address: step.address,
            unique: step.unique,
            cookie_bits: cookie::TAKES_DEVICE,
            step: Some(step.clone()),
        }
    }

    fn from_core(function: &CoreFunction) -> Self {
        Self {
            role: function.role,
            symbol: function.name.to_owned(),
            module: function.module.clone(),
            address: function.address,
            unique: function.unique,
            cookie_bits: match function.device_arg {
                DeviceArg::Device => cookie::TAKES_DEVICE,
                DeviceArg::DeviceToFile => cookie::TAKES_DEVICE | cookie::RETURNS_FILE,
                DeviceArg::DeviceFile => cookie::TAKES_DEVICE_FILE,
                DeviceArg::File => cookie::TAKES_FILE,
                DeviceArg::InodeFile => cookie::TAKES_INODE_FILE,
                DeviceArg::PciDev => cookie::TAKES_DEVICE,
                DeviceArg::PciDevFlr => cookie::IS_FLR,
            },
            step: None,
        }
    }

    fn from_candidate(module: Option<&str>, candidate: &FunctionCandidate) -> Self {
        Self {
            role: candidate.role,
            symbol: candidate.symbol.clone(),
            module: module.map(str::to_owned),
            address: candidate.address,
            unique: candidate.unique,
            cookie_bits: cookie::TAKES_DEVICE,
            step: None,
        }
    }

    /// Returns the places to try, best first. The name alone works everywhere, but several functions may have it. Some
    /// kernels refuse `module:name`, and some tracers may not see addresses.
    pub fn places(&self) -> Vec<ProbeLocation> {
        let mut places = Vec::new();
        if self.unique || (self.address.is_none() && self.module.is_none()) {
            places.push(ProbeLocation::Name(self.symbol.clone()));
        }
        if let Some(module) = &self.module {
            places.push(ProbeLocation::Name(format!("{module}:{}", self.symbol)));
        }
        if let Some(address) = self.address {
            places.push(ProbeLocation::Address(address));
        }
        places
    }
}

/// Returns all functions that are worth probing on this kernel, those of the core first.
pub fn plan(facts: &KernelFacts) -> Vec<PlannedProbe> {
    let core = facts.core.iter().map(core_function);
    let drivers = facts.drivers.iter().flat_map(driver_functions);
    core.chain(drivers).chain(facts.plugins.iter().flat_map(steps)).collect()
}

fn steps(plugin: &PluginFacts) -> impl Iterator<Item = PlannedProbe> {
    plugin.wanted.steps.iter().zip(&plugin.steps).map(|(wanted, step)| match step {
        Ok(step) => PlannedProbe::Attach(ProbeTarget::from_step(step)),
        Err(why) => PlannedProbe::NotAvailable {
            role: Role::Step,
            symbol: wanted.name.to_owned(),
            module: Some(wanted.module.to_owned()),
            reason: why.to_string(),
        },
    })
}

fn core_function(function: &CoreFunction) -> PlannedProbe {
    // Without BTF the types cannot be checked. The types of these two have never changed; those of open and close have.
    let stable = matches!(function.role, Role::NextState | Role::DeviceIoctl);
    match &function.status {
        CoreStatus::Ok => PlannedProbe::Attach(ProbeTarget::from_core(function)),
        CoreStatus::Unverified if stable => PlannedProbe::Attach(ProbeTarget::from_core(function)),
        CoreStatus::Unverified | CoreStatus::PrototypeDiffers { .. } | CoreStatus::Absent { .. } => {
            PlannedProbe::NotAvailable {
                role: function.role,
                symbol: function.name.to_owned(),
                module: function.module.clone(),
                reason: function.status.to_string(),
            }
        },
    }
}

fn driver_functions(driver: &DriverFunctions) -> impl Iterator<Item = PlannedProbe> {
    let module = driver.module.as_deref();
    let there = driver
        .functions
        .iter()
        .map(move |candidate| PlannedProbe::Attach(ProbeTarget::from_candidate(module, candidate)));
    let gone = driver.excluded.iter().map(move |excluded| PlannedProbe::NotAvailable {
        role: excluded.role,
        symbol: excluded.name.clone(),
        module: module.map(str::to_owned),
        reason: excluded.why.clone(),
    });
    there.chain(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(unique: bool, module: Option<&str>, address: Option<u64>) -> ProbeTarget {
        ProbeTarget {
            role: Role::Read,
            symbol: "save_read".to_owned(),
            module: module.map(str::to_owned),
            address,
            unique,
            cookie_bits: cookie::TAKES_DEVICE,
            step: None,
        }
    }

    #[test]
    fn an_open_that_returns_a_file_is_read_as_such() {
        let open = |takes| CoreFunction {
            role: Role::Open,
            name: "vfio_device_open",
            prototype: "",
            device_arg: takes,
            module: None,
            status: CoreStatus::Ok,
            unique: true,
            address: None,
        };
        assert_eq!(ProbeTarget::from_core(&open(DeviceArg::Device)).cookie_bits, cookie::TAKES_DEVICE);
        let takes = ProbeTarget::from_core(&open(DeviceArg::DeviceToFile)).cookie_bits;
        assert_eq!(takes & cookie::TAKES_MASK, cookie::TAKES_DEVICE);
        assert_ne!(takes & cookie::RETURNS_FILE, 0);
    }

    #[test]
    fn name_then_module_then_address() {
        let name = |text: &str| ProbeLocation::Name(text.to_owned());
        assert_eq!(
            target(true, Some("m"), Some(1)).places(),
            [name("save_read"), name("m:save_read"), ProbeLocation::Address(1)]
        );
        // Another function of that name must not be probed by mistake.
        assert_eq!(
            target(false, Some("m"), Some(1)).places(),
            [name("m:save_read"), ProbeLocation::Address(1)]
        );
        assert_eq!(target(false, None, Some(1)).places(), [ProbeLocation::Address(1)]);
        assert_eq!(target(false, None, None).places(), [name("save_read")]);
    }
}
