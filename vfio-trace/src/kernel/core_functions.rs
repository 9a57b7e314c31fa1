//! Functions of the vfio and PCI core that are probed. Their types are checked before their arguments are trusted.

use thiserror::Error;
use vfio_trace_common::role::Role;

use super::{
    btf::{Btf, FunctionPrototype, TypeId, TypeShape},
    kallsyms::Kallsyms,
    presence::{FunctionPresence, presence},
};

const DEVICE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("vfio_device"));
const DEVICE_FILE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("vfio_device_file"));
const IOMMUFD: TypeShape = TypeShape::Ptr(&TypeShape::Struct("iommufd_ctx"));
const STATE: TypeShape = TypeShape::Enum("vfio_device_mig_state");
const FILE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("file"));

/// Place of the device among a function's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceArg {
    /// The first argument is a `struct vfio_device *`.
    Device,
    /// The first argument is a `struct vfio_device *`, and the function returns a `struct file *` or an error pointer.
    DeviceToFile,
    /// The first argument is a `struct vfio_device_file *`.
    DeviceFile,
    /// The first argument is a device's `struct file *`.
    File,
    /// The second argument is a device's `struct file *`.
    InodeFile,
    /// The first argument is the `struct pci_dev *` of the device.
    PciDev,
    /// The first argument is the `struct pci_dev *` of the device, and the function makes a Function Level Reset.
    PciDevFlr,
}

struct KnownFunction {
    role: Role,
    name: &'static str,
    takes: DeviceArg,
    prototype: FunctionPrototype,
}

/// Known functions of the vfio core, by role, the newest kernel's function first. 6.1 and 6.12 were read in the source,
/// 6.2 to 6.5 were not: a wrong line costs a probe there and nothing else, because BTF is asked first.
const KNOWN: [KnownFunction; 12] = [
    KnownFunction {
        role: Role::NextState,
        name: "vfio_mig_get_next_state",
        takes: DeviceArg::Device,
        prototype: FunctionPrototype {
            text: "int (struct vfio_device *, enum vfio_device_mig_state, enum vfio_device_mig_state, \
                   enum vfio_device_mig_state *)",
            returns: TypeShape::Signed(4),
            params: &[DEVICE, STATE, STATE, TypeShape::Ptr(&STATE)],
        },
    },
    KnownFunction {
        role: Role::DeviceIoctl,
        name: "vfio_device_fops_unl_ioctl",
        takes: DeviceArg::File,
        prototype: FunctionPrototype {
            text: "long (struct file *, unsigned int, unsigned long)",
            returns: TypeShape::Signed(8),
            params: &[FILE, TypeShape::Unsigned(4), TypeShape::Unsigned(8)],
        },
    },
    // 6.6 and later
    KnownFunction {
        role: Role::Open,
        name: "vfio_df_open",
        takes: DeviceArg::DeviceFile,
        prototype: FunctionPrototype {
            text: "int (struct vfio_device_file *)",
            returns: TypeShape::Signed(4),
            params: &[DEVICE_FILE],
        },
    },
    // 6.2 to 6.5
    KnownFunction {
        role: Role::Open,
        name: "vfio_device_open",
        takes: DeviceArg::Device,
        prototype: FunctionPrototype {
            text: "int (struct vfio_device *, struct iommufd_ctx *)",
            returns: TypeShape::Signed(4),
            params: &[DEVICE, IOMMUFD],
        },
    },
    KnownFunction {
        role: Role::Open,
        name: "vfio_device_open",
        takes: DeviceArg::Device,
        prototype: FunctionPrototype {
            text: "int (struct vfio_device *, struct iommufd_ctx *, struct kvm *)",
            returns: TypeShape::Signed(4),
            params: &[DEVICE, IOMMUFD, TypeShape::Ptr(&TypeShape::Struct("kvm"))],
        },
    },
    // 6.1: returns the file or an error pointer, and the compiler mostly inlines it
    KnownFunction {
        role: Role::Open,
        name: "vfio_device_open",
        takes: DeviceArg::DeviceToFile,
        prototype: FunctionPrototype {
            text: "struct file *(struct vfio_device *)",
            returns: FILE,
            params: &[DEVICE],
        },
    },
    // 6.6 and later
    KnownFunction {
        role: Role::Close,
        name: "vfio_df_close",
        takes: DeviceArg::DeviceFile,
        prototype: FunctionPrototype {
            text: "void (struct vfio_device_file *)",
            returns: TypeShape::Void,
            params: &[DEVICE_FILE],
        },
    },
    // 6.2 to 6.5
    KnownFunction {
        role: Role::Close,
        name: "vfio_device_close",
        takes: DeviceArg::Device,
        prototype: FunctionPrototype {
            text: "void (struct vfio_device *, struct iommufd_ctx *)",
            returns: TypeShape::Void,
            params: &[DEVICE, IOMMUFD],
        },
    },
    // Every version: the release of a device's file. The only one in 6.1.
    KnownFunction {
        role: Role::Close,
        name: "vfio_device_fops_release",
        takes: DeviceArg::InodeFile,
        prototype: FunctionPrototype {
            text: "int (struct inode *, struct file *)",
            returns: TypeShape::Signed(4),
            params: &[TypeShape::Ptr(&TypeShape::Struct("inode")), FILE],
        },
    },
    KnownFunction {
        role: Role::Register,
        name: "vfio_register_group_dev",
        takes: DeviceArg::Device,
        prototype: REGISTER,
    },
    // For devices whose driver pins memory itself: mdev.
    KnownFunction {
        role: Role::Register,
        name: "vfio_register_emulated_iommu_dev",
        takes: DeviceArg::Device,
        prototype: REGISTER,
    },
    KnownFunction {
        role: Role::Unregister,
        name: "vfio_unregister_group_dev",
        takes: DeviceArg::Device,
        prototype: FunctionPrototype {
            text: "void (struct vfio_device *)",
            returns: TypeShape::Void,
            params: &[DEVICE],
        },
    },
];

const REGISTER: FunctionPrototype = FunctionPrototype {
    text: "int (struct vfio_device *)",
    returns: TypeShape::Signed(4),
    params: &[DEVICE],
};

/// Functions of the PCI core (drivers/pci/pci.c), both exported: the one that tries all ways to reset a PCI function,
/// and the usual way.
const PCI: [KnownFunction; 2] = [
    KnownFunction {
        role: Role::PciReset,
        name: "__pci_reset_function_locked",
        takes: DeviceArg::PciDev,
        prototype: PCI_RESET,
    },
    KnownFunction {
        role: Role::PciReset,
        name: "pcie_flr",
        takes: DeviceArg::PciDevFlr,
        prototype: PCI_RESET,
    },
];

const PCI_RESET: FunctionPrototype = FunctionPrototype {
    text: "int (struct pci_dev *)",
    returns: TypeShape::Signed(4),
    params: &[TypeShape::Ptr(&TypeShape::Struct("pci_dev"))],
};

/// Result of looking a core function up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CoreStatus {
    /// A function of the type that the eBPF program expects.
    #[error("found")]
    Ok,
    /// A function with a symbol, but of unknown type.
    #[error("its type cannot be checked: there is no BTF")]
    Unverified,
    /// A function of another type in this kernel: its arguments must not be trusted.
    #[error("it is a function {found} here: this kernel is newer than vfio-trace, which will not guess")]
    PrototypeDiffers {
        /// The type in C.
        found: String,
    },
    /// A function that is not in this kernel, or cannot be probed.
    #[error("{why}")]
    Absent {
        /// The reason.
        why: String,
    },
}

/// A function of the vfio or PCI core that is wanted for a role, as this kernel has it. [`core_functions`] and
/// [`pci_functions`] make it; the probe plan and `doctor` use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreFunction {
    /// Role of the function.
    pub role: Role,
    /// Name of the function.
    pub name: &'static str,
    /// Expected type, in C.
    pub prototype: &'static str,
    /// Place of the device among its arguments.
    pub device_arg: DeviceArg,
    /// Name of its module, `None` if vfio is built in.
    pub module: Option<String>,
    /// Result of looking it up.
    pub status: CoreStatus,
    /// True if no other function of the kernel has this name.
    pub unique: bool,
    /// Address, if known.
    pub address: Option<u64>,
}

/// Returns the names of all functions that [`core_functions`] looks for.
pub fn core_names() -> Vec<&'static str> {
    let mut names: Vec<_> = KNOWN.iter().chain(&PCI).map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Finds the core function for each role: the best one that this kernel has, of several that kernels have had.
///
/// `btf` is vfio's own BTF, `module` is `None` if vfio is built into the kernel.
pub fn core_functions(
    btf: Option<&Btf>,
    module: Option<&str>,
    kallsyms: Option<&Kallsyms>,
) -> Vec<CoreFunction> {
    let names = core_names();
    let listed: Option<Vec<(&str, TypeId)>> = btf.map(|btf| {
        btf.functions()
            .filter(|function| names.binary_search(&function.name).is_ok())
            .map(|function| (function.name, function.proto))
            .collect()
    });
    let all = KNOWN.iter().map(|known| judge(known, btf.zip(listed.as_deref()), module, kallsyms));
    let mut best: Vec<CoreFunction> = Vec::new();
    for function in all {
        // The two ways to register are no alternatives: both are wanted.
        let rivals = |other: &&mut CoreFunction| {
            other.role == function.role && (function.role != Role::Register || other.name == function.name)
        };
        match best.iter_mut().find(rivals) {
            None => best.push(function),
            Some(other) if rank(&function.status) < rank(&other.status) => *other = function,
            Some(_) => {},
        }
    }
    for function in &mut best {
        let mut tried: Vec<_> =
            KNOWN.iter().filter(|known| known.role == function.role).map(|known| known.name).collect();
        tried.dedup();
        let alternatives = tried.len() > 1 && function.role != Role::Register;
        if let (CoreStatus::Absent { why }, true) = (&mut function.status, alternatives) {
            *why = format!("none of {} can be probed in this kernel: {why}", tried.join(", "));
        }
    }
    best
}

/// Finds the PCI core's functions. `btf` is the kernel's.
pub fn pci_functions(btf: Option<&Btf>, kallsyms: Option<&Kallsyms>) -> Vec<CoreFunction> {
    let listed: Option<Vec<(&str, TypeId)>> = btf.map(|btf| {
        let wanted = |name: &str| PCI.iter().any(|known| known.name == name);
        let functions = btf.functions().filter(|function| wanted(function.name));
        functions.map(|function| (function.name, function.proto)).collect()
    });
    PCI.iter().map(|known| judge(known, btf.zip(listed.as_deref()), None, kallsyms)).collect()
}

const fn rank(status: &CoreStatus) -> u8 {
    match status {
        CoreStatus::Ok => 0,
        CoreStatus::Unverified => 1,
        CoreStatus::PrototypeDiffers { .. } => 2,
        CoreStatus::Absent { .. } => 3,
    }
}

fn judge(
    known: &KnownFunction,
    btf: Option<(&Btf, &[(&str, TypeId)])>,
    module: Option<&str>,
    kallsyms: Option<&Kallsyms>,
) -> CoreFunction {
    let mut function = CoreFunction {
        role: known.role,
        name: known.name,
        prototype: known.prototype.text,
        device_arg: known.takes,
        module: module.map(str::to_owned),
        status: CoreStatus::Unverified,
        unique: false,
        address: None,
    };
    let symbol = presence(kallsyms, known.name, module);
    if let FunctionPresence::Present(spot) = &symbol {
        function.unique = spot.unique;
        function.address = spot.address;
    }
    let proto = btf.and_then(|(btf, listed)| {
        let mut protos = listed.iter().filter(|(name, _)| *name == known.name).map(|&(_, proto)| proto);
        let first = protos.next()?;
        let fits = btf.is_function(first, &known.prototype)
            && protos.all(|other| btf.is_function(other, &known.prototype));
        Some((fits, btf.describe(first)))
    });
    function.status = match (symbol, proto) {
        (FunctionPresence::Absent(why), _) => CoreStatus::Absent { why },
        (_, Some((true, _))) => CoreStatus::Ok,
        (_, Some((false, found))) => CoreStatus::PrototypeDiffers { found },
        // pahole leaves functions out whose arguments the compiler changed, or that differ between files.
        (FunctionPresence::Present(_), None) if btf.is_some() => {
            CoreStatus::Absent { why: "BTF does not list it: the compiler changed its arguments".to_owned() }
        },
        (FunctionPresence::Present(_), None) => CoreStatus::Unverified,
        (FunctionPresence::Unknown, None) => {
            CoreStatus::Absent { why: "neither BTF nor symbols list it".to_owned() }
        },
    };
    function
}
