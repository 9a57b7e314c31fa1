//! Discovery of the functions of migration drivers by their types, without a table of drivers.
//!
//! A driver that implements `vfio_migration_ops.migration_set_state` has a function of its type, and kernel functions
//! are only ever stored in operations of their own type. A module that has one is a migration driver; its functions of
//! the types of file operations are candidates for the data file. Pointers that are seen later tell which of them
//! really are.

use std::collections::HashMap;

use vfio_trace_common::role::Role;

use super::{
    btf::{Btf, FunctionPrototype, TypeId, TypeShape},
    kallsyms::Kallsyms,
    presence::{FunctionPresence, presence},
};

const DEVICE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("vfio_device"));
const STATE: TypeShape = TypeShape::Enum("vfio_device_mig_state");
const FILE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("file"));
const INT: TypeShape = TypeShape::Signed(4);
// long, ssize_t, loff_t; size_t, unsigned long: all of these are 64 bits wide where the tracer runs.
const LONG: TypeShape = TypeShape::Signed(8);
const ULONG: TypeShape = TypeShape::Unsigned(8);

/// Types of a driver's functions (include/linux/vfio.h and fs.h, 6.1 to 7.3); those that name a vfio type come first.
pub const DRIVER_PROTOTYPES: [(Role, FunctionPrototype); 7] = [
    (
        Role::SetState,
        FunctionPrototype {
            text: "struct file *(struct vfio_device *, enum vfio_device_mig_state)",
            returns: FILE,
            params: &[DEVICE, STATE],
        },
    ),
    (
        Role::GetState,
        FunctionPrototype {
            text: "int (struct vfio_device *, enum vfio_device_mig_state *)",
            returns: INT,
            params: &[DEVICE, TypeShape::Ptr(&STATE)],
        },
    ),
    (
        Role::DataSize,
        FunctionPrototype {
            text: "int (struct vfio_device *, unsigned long *)",
            returns: INT,
            params: &[DEVICE, TypeShape::Ptr(&ULONG)],
        },
    ),
    (
        Role::Read,
        FunctionPrototype {
            text: "ssize_t (struct file *, char *, size_t, loff_t *)",
            returns: LONG,
            params: &[FILE, TypeShape::Ptr(&TypeShape::Char), ULONG, TypeShape::Ptr(&LONG)],
        },
    ),
    (
        Role::Write,
        FunctionPrototype {
            text: "ssize_t (struct file *, const char *, size_t, loff_t *)",
            returns: LONG,
            params: &[FILE, TypeShape::ConstPtr(&TypeShape::Char), ULONG, TypeShape::Ptr(&LONG)],
        },
    ),
    (
        Role::DataIoctl,
        FunctionPrototype {
            text: "long (struct file *, unsigned int, unsigned long)",
            returns: LONG,
            params: &[FILE, TypeShape::Unsigned(4), ULONG],
        },
    ),
    (
        Role::Release,
        FunctionPrototype {
            text: "int (struct inode *, struct file *)",
            returns: INT,
            params: &[TypeShape::Ptr(&TypeShape::Struct("inode")), FILE],
        },
    ),
];

/// A function of a driver that may play a role. Found in the driver's BTF; the probe plan chooses from these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCandidate {
    /// Role that its type fits.
    pub role: Role,
    /// Name in the source.
    pub name: String,
    /// Name of the symbol to attach to: the name, unless clang added a suffix.
    pub symbol: String,
    /// True if no other function of the kernel or of any module has this name: it can be attached by name alone. False
    /// if no symbols are known.
    pub unique: bool,
    /// Number of functions of this name in this module; above 1 only an address tells them apart. 0 if unknown.
    pub copies: usize,
    /// Address, if known.
    pub address: Option<u64>,
}

/// A function whose type fits, but which cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedFunction {
    /// Role that its type fits.
    pub role: Role,
    /// Name in the source.
    pub name: String,
    /// Reason why it cannot be probed.
    pub why: String,
}

/// Functions of one migration driver. Made by [`driver_functions`] when the driver is found in BTF, and again with
/// symbols; the probe plan uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverFunctions {
    /// Name of the module; `None` for all drivers that are built into the kernel together. For these only roles are
    /// known that a vfio type gives away: thousands of the kernel's functions have the type of a read.
    pub module: Option<String>,
    /// Candidates, in the order of BTF. A role can have several.
    pub functions: Vec<FunctionCandidate>,
    /// Functions of a fitting type without a symbol.
    pub excluded: Vec<ExcludedFunction>,
}

impl DriverFunctions {
    /// Returns the candidates for a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &FunctionCandidate> {
        self.functions.iter().filter(move |candidate| candidate.role == role)
    }
}

/// Finds the functions of a driver by type, as BTF lists them; `None` if this is not a migration driver's BTF. Looks at
/// the file's own functions only, so for a module never at the kernel's.
pub fn typed_functions(btf: &Btf, module: Option<&str>) -> Option<Vec<(Role, String)>> {
    // Every driver has many functions of one type, and none of most types.
    let mut known: HashMap<TypeId, Option<Role>> = HashMap::new();
    let count = if module.is_some() { DRIVER_PROTOTYPES.len() } else { 3 };
    let prototypes = DRIVER_PROTOTYPES.get(..count).unwrap_or_default();
    let functions: Vec<_> = btf
        .functions()
        .filter_map(|function| {
            let role = known.entry(function.proto).or_insert_with(|| {
                prototypes
                    .iter()
                    .find(|(_, wanted)| btf.is_function(function.proto, wanted))
                    .map(|(role, _)| *role)
            });
            Some(((*role)?, function.name.to_owned()))
        })
        .collect();
    functions.iter().any(|(role, _)| *role == Role::SetState).then_some(functions)
}

/// Sorts typed functions into those that can be probed and those that cannot.
pub fn driver_functions(
    module: Option<&str>,
    typed: Vec<(Role, String)>,
    kallsyms: Option<&Kallsyms>,
) -> DriverFunctions {
    let mut driver =
        DriverFunctions { module: module.map(str::to_owned), functions: Vec::new(), excluded: Vec::new() };
    for (role, name) in typed {
        match presence(kallsyms, &name, module) {
            FunctionPresence::Present(spot) => driver.functions.push(FunctionCandidate {
                role,
                name,
                symbol: spot.symbol,
                unique: spot.unique,
                copies: spot.copies,
                address: spot.address,
            }),
            FunctionPresence::Unknown => driver.functions.push(FunctionCandidate {
                role,
                symbol: name.clone(),
                name,
                unique: false,
                copies: 0,
                address: None,
            }),
            FunctionPresence::Absent(why) => driver.excluded.push(ExcludedFunction { role, name, why }),
        }
    }
    driver
}
