//! Facts about this kernel: symbols, BTF, modules, capabilities, devices.
//!
//! [`KernelFacts::read`] finds out everything once, [`KernelFacts::refresh`] keeps up with modules that come and go.
//! Nothing here needs privileges to run, loads anything, or touches a device.

pub mod btf;
mod btf_dir;
pub mod caps;
pub mod collection;
pub mod core_functions;
pub mod defects;
pub mod discover;
pub mod facts;
pub mod inventory;
pub mod kallsyms;
pub mod kprobes;
pub mod layout;
pub mod modules;
pub mod plugin;
mod presence;
mod present;
pub mod private;
pub mod process;
pub mod scan;
pub mod security;
pub mod source;
pub mod stamp;
pub mod wanted;

#[cfg(test)]
mod tests;

pub use self::{
    btf::Btf,
    collection::BtfCollection,
    core_functions::{CoreFunction, CoreStatus, DeviceArg},
    defects::KernelVersion,
    discover::{DriverFunctions, FunctionCandidate},
    facts::{KernelFacts, VfioCore},
    inventory::{DeviceBus, VfioDevice, is_named},
    kallsyms::{Kallsyms, KernelSymbol},
    kprobes::KprobeSupport,
    layout::{MissingField, MissingReason},
    modules::ModuleList,
    plugin::{CapturePlan, FieldPlace, PluginFacts, ReturnKind, StepPlan, UnavailableReason},
    private::{PrivateLayout, PrivateLayoutError},
    scan::{ModuleArrival, ModuleScan},
    source::KernelFiles,
    stamp::ModuleStamp,
    wanted::{StepDevice, WantedCapture, WantedDriver, WantedMembers, WantedStep},
};
