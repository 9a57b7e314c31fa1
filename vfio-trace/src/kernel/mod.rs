//! What this kernel offers: symbols, BTF, modules, capabilities.
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
pub mod errno;
pub mod facts;
pub mod inventory;
pub mod kallsyms;
pub mod layout;
pub mod modules;
pub mod plugin;
mod presence;
mod present;
pub mod private;
pub mod process;
pub mod security;
pub mod source;
pub mod stamp;
pub mod wanted;

#[cfg(test)]
mod tests;

pub use self::{
    btf::Btf,
    collection::BtfCollection,
    core_functions::{CoreFunction, CoreStatus, Takes},
    defects::KernelWords,
    discover::{Candidate, DriverFunctions},
    facts::{KernelFacts, VfioCore},
    inventory::{Bus, VfioDevice, is_named},
    kallsyms::{Kallsyms, Symbol},
    layout::{MissingField, MissingReason},
    modules::Modules,
    plugin::{CapturePlan, FieldPlace, PluginFacts, Returns, StepPlan, Unavailable},
    private::{NoPrivate, Private},
    source::KernelFiles,
    stamp::Stamp,
    wanted::{CaptureWanted, DriverWanted, Members, StepDevice, StepWanted},
};
