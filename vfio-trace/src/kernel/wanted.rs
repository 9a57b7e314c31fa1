//! Requests of driver plug-ins: structures to copy and functions to probe, by name. BTF tells where they are.

use super::btf::TypeShape;

/// All requests for one driver. Its plug-in (`driver/`) declares them as constants; `plugin_facts()` looks them up in
/// BTF and symbols.
#[derive(Debug)]
pub struct WantedDriver {
    /// Name of the driver's module.
    pub module: &'static str,
    /// Name of its `migration_set_state`: tells it from other drivers if it is built into the kernel.
    pub set_state: &'static str,
    /// Names of other modules whose functions are steps.
    pub libraries: &'static [&'static str],
    /// Name of the driver's structure that embeds the `struct vfio_device`.
    pub device: &'static str,
    /// Structures to copy.
    pub captures: &'static [WantedCapture],
    /// Functions to probe, if they exist.
    pub steps: &'static [WantedStep],
}

/// Members of a structure that are copied.
#[derive(Clone, Copy, Debug)]
pub enum WantedMembers {
    /// All integers, enums and arrays of them, also those of embedded structures that are the driver's own. A module's
    /// BTF tells which structures are its own; for a driver that is built into the kernel, they are the ones with these
    /// names.
    All(&'static [&'static str]),
    /// These members, as dotted paths; members that a kernel lacks are left out.
    Some(&'static [&'static str]),
}

/// A structure to copy.
#[derive(Debug)]
pub struct WantedCapture {
    /// Name of the capture in events and views.
    pub name: &'static str,
    /// Pointers to follow from the driver's device structure, each a dotted path in the structure before.
    pub path: &'static [&'static str],
    /// Name of the structure at the end of `path`; the driver's or the kernel's.
    pub structure: &'static str,
    /// The members to copy.
    pub members: WantedMembers,
    /// Name of its member of type `struct file *`: the data fd's file that the structure belongs to.
    pub file: Option<&'static str>,
    /// Moments at which it is copied: bits of `capture::moment`.
    pub when: u32,
    /// Enum values to look up in this kernel: a member of `members` that is an enum, and the name of a value.
    pub values: &'static [(&'static str, &'static str)],
    /// Members whose value is shown only if the user asks for it; otherwise only zero or not zero is shown.
    pub secret: &'static [&'static str],
}

/// Way from a step's arguments to the device.
#[derive(Clone, Copy, Debug)]
pub enum StepDevice {
    /// The device of the call that the thread is in. Calls outside of such a call are not recorded.
    OfThread,
    /// This argument points to the driver's device structure.
    Device(u32),
    /// This argument points to this member of the driver's device structure, or to something else: then the device is
    /// that of the call that the thread is in.
    MemberOrThread(u32, &'static str),
    /// This argument points to a member of one of the driver's structures, and that structure has a pointer to its
    /// device structure.
    OfMember {
        /// Index of the argument.
        argument: u32,
        /// Name of the structure.
        structure: &'static str,
        /// The member that the argument points to, a dotted path.
        member: &'static str,
        /// The pointer to the device structure, a dotted path.
        device: &'static str,
    },
    /// This argument points to a `struct pci_dev` whose driver data is the `struct vfio_pci_core_device`.
    PciDev(u32),
}

/// A function to probe.
#[derive(Debug)]
pub struct WantedStep {
    /// Name of the function.
    pub name: &'static str,
    /// Name of its module. If no such module is loaded, the function is looked for in the kernel itself.
    pub module: &'static str,
    /// Types that its parameters must have, by position: if they differ, its arguments are not the expected ones.
    pub params: &'static [(usize, TypeShape)],
    /// Way to the device that it is called for.
    pub device: StepDevice,
    /// Moments at which the driver's captures are made: bits `moment::STEP_ENTER` and `moment::STEP_EXIT`.
    pub captures: u32,
}
