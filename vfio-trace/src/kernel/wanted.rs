//! What a driver plug-in wants of the kernel: structures to copy, functions to probe. Said by name; BTF finds them.

use super::btf::TypeShape;

/// What is wanted for one driver.
#[derive(Debug)]
pub struct WantedDriver {
    /// The driver's module.
    pub module: &'static str,
    /// Its `migration_set_state`: tells it from others where it is no module, but built into the kernel.
    pub set_state: &'static str,
    /// Other modules whose functions are steps.
    pub libraries: &'static [&'static str],
    /// The driver's structure that embeds the `struct vfio_device`.
    pub device: &'static str,
    /// Structures to copy.
    pub captures: &'static [WantedCapture],
    /// Functions to probe, if they exist.
    pub steps: &'static [WantedStep],
}

/// Members to copy.
#[derive(Clone, Copy, Debug)]
pub enum WantedMembers {
    /// All integers, enums and arrays of them, also those of structures of the driver's own that are embedded. Which these
    /// are only a module's BTF tells; of a driver that is built into the kernel, those of these names.
    All(&'static [&'static str]),
    /// These, as dotted paths; kernels that lack one do without it.
    Some(&'static [&'static str]),
}

/// A structure to copy.
#[derive(Debug)]
pub struct WantedCapture {
    /// What it is called in events and views.
    pub name: &'static str,
    /// Pointers to follow from the driver's device structure, each a dotted path in the structure before.
    pub path: &'static [&'static str],
    /// The structure at the end of `path`; of the driver, or of the kernel.
    pub structure: &'static str,
    /// What to copy of it.
    pub members: WantedMembers,
    /// Its member of type `struct file *`: the data file that it belongs to.
    pub file: Option<&'static str>,
    /// Bits of `capture::moment`.
    pub when: u32,
    /// Values of enums whose number in this kernel is asked for: a member of `members` that is one, and a value's name.
    pub values: &'static [(&'static str, &'static str)],
    /// Members whose value is not shown unless asked for, although that they are zero or not is.
    pub secret: &'static [&'static str],
}

/// How a step's arguments lead to the device.
#[derive(Clone, Copy, Debug)]
pub enum StepDevice {
    /// The device of the call that the thread is in. Calls outside of one are not looked at.
    OfThread,
    /// This argument points to the driver's device structure.
    Device(u32),
    /// This argument points to this member of the driver's device structure, or to something else: then it is the
    /// device of the call that the thread is in.
    MemberOrThread(u32, &'static str),
    /// This argument points to a member of one of the driver's structures, which has a pointer to its device structure.
    OfMember {
        /// Which argument.
        argument: u32,
        /// The structure.
        structure: &'static str,
        /// What the argument points to, a dotted path.
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
    /// Its name.
    pub name: &'static str,
    /// Its module; of several the first that is there, the kernel itself last.
    pub module: &'static str,
    /// Parameters that must be of these types, by position: else its arguments are not what is expected.
    pub params: &'static [(usize, TypeShape)],
    /// Which device it is about.
    pub device: StepDevice,
    /// Whether the driver's captures are made when it begins or ends: `moment::STEP_ENTER`, `moment::STEP_EXIT`.
    pub captures: u32,
}
