//! Lookup of the plug-ins' requests in BTF and symbols, with the reason for each one that cannot be served.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vfio_trace_common::capture::{
    Chain, HOPS, PIECE_LEN, PIECES, PIECES_LEN, Piece, Spec, StepSpec, step_device,
};

use super::{
    btf::{Btf, BtfKind, MemberError, TypeId},
    collection::BtfCollection,
    kallsyms::Kallsyms,
    presence::{FunctionPresence, SymbolLocation, presence},
    private::PrivateLayout,
    wanted::{StepDevice, WantedCapture, WantedDriver, WantedMembers, WantedStep},
};

/// Longest piece in bytes: a multiple of 8 below the limit.
const PIECE: u32 = PIECE_LEN / 8 * 8;
/// Greatest gap between two members that is copied along rather than starting another piece, in bytes.
const GAP: u32 = 16;
/// Greatest depth to which embedded structures are followed.
const MAX_DEPTH: u32 = 4;
/// Greatest number of members of one capture: a file that has more was made to keep the tracer busy.
const MAX_FIELDS: usize = 512;

/// A member within a capture's bytes. Found in BTF for this kernel; recordings keep it (`CaptureNote`), and the
/// decoding of captures uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldPlace {
    /// Dotted path of the member in the structure.
    pub path: String,
    /// Offset in the captured bytes.
    pub offset: u32,
    /// Size of one element in bytes.
    #[serde(deserialize_with = "number_size")]
    pub size: u32,
    /// Number of elements of an array; 1 for any other type.
    pub count: u32,
    /// True if it is a signed integer.
    pub signed: bool,
    /// True if its value is shown only if the user asks for it.
    pub secret: bool,
    /// Names of an enum's values that the plug-in knows, with their numbers in this kernel. Old recordings have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, u64)>,
}

impl FieldPlace {
    /// Returns true if its elements are numbers that can be shown: of one to eight bytes.
    pub const fn is_number(&self) -> bool {
        is_number_size(self.size)
    }
}

const fn is_number_size(size: u32) -> bool {
    size > 0 && size as usize <= size_of::<u64>()
}

/// Refuses a layout whose elements are no numbers: with elements of 0 bytes, only `count` would limit the number of
/// values.
fn number_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = u32::deserialize(deserializer)?;
    let refusal = || serde::de::Error::custom(format_args!("a number of {size} bytes"));
    Some(size).filter(|&size| is_number_size(size)).ok_or_else(refusal)
}

/// Kind of a function's return value, as far as it tells success from failure. Found in BTF; recordings keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReturnKind {
    /// Nothing.
    Void,
    /// A signed integer: an errno if negative.
    Int,
    /// A signed 64-bit integer: an errno if negative.
    Long,
    /// A pointer, or an error pointer.
    Pointer,
    /// Any other number.
    Value,
}

/// Reason why a plug-in's request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnavailableReason {
    /// The driver's device structure is not in its BTF.
    #[error("the BTF of {module} has no struct {structure} that embeds a vfio_device")]
    NoDevice {
        /// Name of the driver's module.
        module: String,
        /// Name of the structure.
        structure: String,
    },
    /// A structure is not in BTF.
    #[error("BTF has no struct {0}")]
    NoStruct(String),
    /// A member cannot be read.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A module is not loaded or has no BTF.
    #[error("module {0} is not loaded, or has no BTF")]
    NoModule(String),
    /// The function cannot be probed.
    #[error("{0}")]
    NoFunction(String),
    /// The function has another type in this kernel.
    #[error("it is a function {0} here: this kernel differs from what vfio-trace knows")]
    OtherType(String),
    /// The requested members do not fit into a record.
    #[error("what is wanted of struct {0} is bigger than a record")]
    TooBig(String),
}

/// A capture that can be made. `plugin_facts()` makes it from the plug-in's request and BTF; the eBPF programs and the
/// notes of the recording get one part each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturePlan {
    /// Instructions for the eBPF programs.
    pub spec: Spec,
    /// Places of the members, for decoding its records.
    pub fields: Vec<FieldPlace>,
    /// Paths of members that this kernel does not have.
    pub missing: Vec<String>,
}

/// A function that can be probed for a step. `plugin_facts()` makes it; the probe plan turns it into a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlan {
    /// Name of its symbol.
    pub symbol: String,
    /// Name of its module, `None` for the kernel.
    pub module: Option<String>,
    /// Address, if known.
    pub address: Option<u64>,
    /// True if no other function has this symbol.
    pub unique: bool,
    /// Instructions for the eBPF programs.
    pub spec: StepSpec,
    /// Kind of its return value.
    pub returns: ReturnKind,
    /// Number of its arguments.
    pub params: u32,
}

/// Results of a plug-in's requests for one driver. Part of the kernel facts; renewed when the driver or one of its
/// libraries is loaded.
#[derive(Debug)]
pub struct PluginFacts {
    /// The requests.
    pub wanted: &'static WantedDriver,
    /// Results in the order of `wanted.captures`.
    pub captures: Vec<Result<CapturePlan, UnavailableReason>>,
    /// Results in the order of `wanted.steps`.
    pub steps: Vec<Result<StepPlan, UnavailableReason>>,
}

/// Looks up all requests for one driver that is there: its module is loaded, or it is built into the kernel.
pub fn plugin_facts(
    wanted: &'static WantedDriver,
    btf: &BtfCollection,
    private: Option<&PrivateLayout>,
    kallsyms: Option<&Kallsyms>,
    built_in: bool,
) -> PluginFacts {
    let no_device = || UnavailableReason::NoDevice {
        module: wanted.module.to_owned(),
        structure: wanted.device.to_owned(),
    };
    let own = if built_in { Some(btf.vmlinux()) } else { btf.module(wanted.module) };
    let driver = own.ok_or_else(|| UnavailableReason::NoModule(wanted.module.to_owned())).and_then(|btf| {
        let private = private.filter(|private| private.container == wanted.device).ok_or_else(no_device)?;
        Ok(DriverResolver { btf, wanted, device_offset: private.device.cast_signed() })
    });
    let captures = wanted.captures.iter().enumerate();
    PluginFacts {
        wanted,
        captures: captures
            .map(|(id, capture)| driver.as_ref().map_err(Clone::clone)?.capture(id as u32, capture))
            .collect(),
        steps: wanted
            .steps
            .iter()
            .map(|step| driver.as_ref().map_err(Clone::clone)?.step(step, btf, kallsyms))
            .collect(),
    }
}

struct DriverResolver<'a> {
    btf: &'a Btf,
    wanted: &'static WantedDriver,
    /// Bytes from the start of the driver's device structure to the `struct vfio_device`.
    device_offset: i64,
}

impl DriverResolver<'_> {
    fn find(&self, structure: &str) -> Result<TypeId, UnavailableReason> {
        self.btf.find_struct(structure).ok_or_else(|| UnavailableReason::NoStruct(structure.to_owned()))
    }

    fn member(&self, structure: TypeId, path: &str) -> Result<super::btf::MemberLocation, UnavailableReason> {
        let path: Vec<&str> = path.split('.').collect();
        Ok(self.btf.member(structure, &path)?)
    }

    fn capture(&self, id: u32, wanted: &WantedCapture) -> Result<CapturePlan, UnavailableReason> {
        let mut spec = Spec { id, when: wanted.when, file: -1, ..Spec::default() };
        let mut at = self.find(self.wanted.device)?;
        // From the vfio_device back to the start of the structure around it.
        let mut offset = -self.device_offset;
        for (hop, path) in wanted.path.iter().enumerate().take(HOPS) {
            let place = self.member(at, path)?;
            spec.from_device.offset[hop] = offset + i64::from(place.offset);
            spec.from_device.hops += 1;
            offset = 0;
            let (pointer, _) = self.btf.resolve(place.type_id).map_err(MemberError::from)?;
            at = pointer.target();
        }
        spec.from_device.offset[wanted.path.len().min(HOPS)] = offset;
        let structure = self.find(wanted.structure)?;
        if let Some(file) = wanted.file {
            spec.file = self.member(structure, file)?.offset.into();
        }
        let mut fields = Vec::new();
        let mut missing = Vec::new();
        match wanted.members {
            WantedMembers::All(own) => self.leaves(structure, own, 0, "", 0, &mut fields)?,
            WantedMembers::Some(paths) => {
                for path in paths {
                    match self.member(structure, path) {
                        Ok(place) => self.leaf(place.type_id, place.offset, path, &mut fields)?,
                        Err(_) => missing.push((*path).to_owned()),
                    }
                }
            },
        }
        fields.sort_by_key(|field| field.offset);
        for field in &mut fields {
            field.secret = wanted.secret.contains(&field.path.as_str());
        }
        for (path, name) in wanted.values {
            if let Some(field) = fields.iter_mut().find(|field| field.path == *path) {
                let place = self.member(structure, path)?;
                let (found, _) = self.btf.resolve(place.type_id).map_err(MemberError::from)?;
                let value = found.values().find(|(other, _)| *other == name.as_bytes());
                field.values.extend(value.map(|(_, number)| ((*name).to_owned(), number)));
            }
        }
        let pieces =
            pieces(&mut fields).ok_or_else(|| UnavailableReason::TooBig(wanted.structure.to_owned()))?;
        spec.pieces_used = pieces.len() as u64;
        for (to, from) in spec.pieces.iter_mut().zip(pieces) {
            *to = from;
        }
        Ok(CapturePlan { spec, fields, missing })
    }

    /// Collects the members that are integers, also of embedded structures that are the driver's own; `own`: names of
    /// these structures, for BTF that does not tell.
    fn leaves(
        &self,
        structure: TypeId,
        own: &[&str],
        base: u32,
        prefix: &str,
        depth: u32,
        fields: &mut Vec<FieldPlace>,
    ) -> Result<(), UnavailableReason> {
        let (found, _) = self.btf.resolve(structure).map_err(MemberError::from)?;
        for member in found.members() {
            if member.bitfield_size != 0 || member.bit_offset % 8 != 0 || fields.len() >= MAX_FIELDS {
                continue;
            }
            let offset = base.saturating_add(member.bit_offset / 8);
            let path = format!("{prefix}{}", String::from_utf8_lossy(member.name));
            let (kind, _) = self.btf.resolve(member.type_id).map_err(MemberError::from)?;
            if kind.kind() == BtfKind::Struct {
                // The kernel's own structures (locks, lists) tell nothing about the device.
                let is_own = if self.btf.is_split() {
                    self.btf.is_own(member.type_id)
                } else {
                    own.iter().any(|name| kind.is_named(name))
                };
                if depth < MAX_DEPTH && is_own {
                    self.leaves(member.type_id, own, offset, &format!("{path}."), depth + 1, fields)?;
                }
            } else {
                self.leaf(member.type_id, offset, &path, fields)?;
            }
        }
        Ok(())
    }

    fn leaf(
        &self,
        id: TypeId,
        offset: u32,
        path: &str,
        fields: &mut Vec<FieldPlace>,
    ) -> Result<(), UnavailableReason> {
        let (found, _) = self.btf.resolve(id).map_err(MemberError::from)?;
        let (element, count) = if found.kind() == BtfKind::Array {
            let (element, _) = self.btf.resolve(found.target()).map_err(MemberError::from)?;
            let count = found.elements();
            (element, count)
        } else {
            (found, 1)
        };
        if matches!(element.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64)
            && !element.is_partial_int()
        {
            let signed = element.kind() == BtfKind::Int && element.is_signed();
            let (path, size) = (path.to_owned(), element.size());
            let place = FieldPlace { path, offset, size, count, signed, secret: false, values: Vec::new() };
            fields.extend(Some(place).filter(FieldPlace::is_number));
        }
        Ok(())
    }

    fn step(
        &self,
        wanted: &WantedStep,
        all: &BtfCollection,
        kallsyms: Option<&Kallsyms>,
    ) -> Result<StepPlan, UnavailableReason> {
        let no_module = || UnavailableReason::NoModule(wanted.module.to_owned());
        let (btf, module) = match all.module(wanted.module) {
            Some(btf) => (btf.as_ref(), Some(wanted.module)),
            None if kallsyms.is_some_and(|symbols| symbols.is_in_kernel(wanted.name)) => {
                (all.vmlinux().as_ref(), None)
            },
            None => return Err(no_module()),
        };
        let spot = match presence(kallsyms, wanted.name, module) {
            FunctionPresence::Present(spot) => spot,
            FunctionPresence::Absent(why) => return Err(UnavailableReason::NoFunction(why)),
            // BTF says that its module has it; attaching the probe shows if the compiler left it.
            FunctionPresence::Unknown => {
                SymbolLocation { symbol: wanted.name.to_owned(), copies: 0, unique: false, address: None }
            },
        };
        let proto = btf
            .functions()
            .find(|function| function.name == wanted.name)
            .map(|function| function.proto)
            .ok_or_else(|| {
                UnavailableReason::NoFunction(
                    "its module's BTF does not list it: the compiler changed its arguments".to_owned(),
                )
            })?;
        if !wanted.params.iter().all(|(index, shape)| btf.param_is(proto, *index, *shape)) {
            return Err(UnavailableReason::OtherType(btf.describe(proto)));
        }
        let (found, _) = btf.resolve(proto).map_err(MemberError::from)?;
        let (returned, _) = btf.resolve(found.target()).map_err(MemberError::from)?;
        let returns = match (returned.kind(), returned.size(), returned.is_signed()) {
            (BtfKind::Void, ..) => ReturnKind::Void,
            (BtfKind::Ptr, ..) => ReturnKind::Pointer,
            (BtfKind::Int, 4, true) => ReturnKind::Int,
            (BtfKind::Int, 8, true) => ReturnKind::Long,
            _ => ReturnKind::Value,
        };
        Ok(StepPlan {
            symbol: spot.symbol,
            module: module.map(str::to_owned),
            address: spot.address,
            unique: spot.unique,
            spec: StepSpec { captures: wanted.captures, ..self.step_device(wanted.device)? },
            returns,
            params: found.len() as u32,
        })
    }

    fn step_device(&self, device: StepDevice) -> Result<StepSpec, UnavailableReason> {
        let mut spec = StepSpec::default();
        let mut chain = Chain::default();
        match device {
            StepDevice::OfThread => {},
            StepDevice::Device(argument) => {
                (spec.device, spec.argument) = (step_device::BY_ARGUMENT, argument);
                chain.offset[0] = self.device_offset;
            },
            StepDevice::MemberOrThread(argument, member) => {
                (spec.device, spec.argument) = (step_device::BY_ARGUMENT_OR_THREAD, argument);
                let member = self.member(self.find(self.wanted.device)?, member)?;
                chain.offset[0] = self.device_offset - i64::from(member.offset);
            },
            StepDevice::OfMember { argument, structure, member, device } => {
                (spec.device, spec.argument) = (step_device::BY_ARGUMENT, argument);
                let structure = self.find(structure)?;
                let (from, to) = (self.member(structure, member)?, self.member(structure, device)?);
                chain.hops = 1;
                chain.offset[0] = i64::from(to.offset) - i64::from(from.offset);
                chain.offset[1] = self.device_offset;
            },
            StepDevice::PciDev(argument) => {
                (spec.device, spec.argument) = (step_device::BY_ARGUMENT, argument);
                let data = self.member(self.find("pci_dev")?, "dev.driver_data")?;
                let vdev = self.member(self.find("vfio_pci_core_device")?, "vdev")?;
                chain.hops = 1;
                chain.offset[0] = data.offset.into();
                chain.offset[1] = vdev.offset.into();
            },
        }
        spec.chain = chain;
        Ok(spec)
    }
}

/// Cuts the bytes of the fields into pieces, and turns the fields' offsets in the structure into offsets in the
/// captured bytes. Returns `None` if it is too much for a record.
fn pieces(fields: &mut [FieldPlace]) -> Option<Vec<Piece>> {
    // Runs of members that lie close to each other.
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for field in fields.iter() {
        let end = field.offset.checked_add(field.size.checked_mul(field.count)?)?;
        match runs.last_mut() {
            Some((_, last)) if field.offset <= last.saturating_add(GAP) => *last = (*last).max(end),
            _ => runs.push((field.offset, end)),
        }
    }
    let mut pieces = Vec::new();
    let mut used: u32 = 0;
    let mut starts = Vec::new();
    for &(start, end) in &runs {
        starts.push((start, end, used));
        let mut at = start;
        while at < end {
            let len = (end - at).min(PIECE);
            if used > PIECES_LEN || pieces.len() >= PIECES {
                return None;
            }
            pieces.push(Piece { offset: at, len });
            at += len;
            used += len;
        }
    }
    for field in fields.iter_mut() {
        let (start, _, place) =
            starts.iter().find(|(start, end, _)| (*start..*end).contains(&field.offset))?;
        field.offset = field.offset - start + place;
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(offset: u32, size: u32, count: u32) -> FieldPlace {
        FieldPlace {
            path: offset.to_string(),
            offset,
            size,
            count,
            signed: false,
            secret: false,
            values: Vec::new(),
        }
    }

    #[test]
    fn members_that_are_close_share_a_piece() {
        let mut fields = [field(8, 4, 1), field(20, 1, 1), field(200, 4, 60), field(1000, 8, 1)];
        let pieces = pieces(&mut fields).unwrap();
        let piece = |offset, len| Piece { offset, len };
        assert_eq!(pieces, [piece(8, 13), piece(200, 120), piece(320, 120), piece(1000, 8)]);
        let places: Vec<u32> = fields.iter().map(|field| field.offset).collect();
        assert_eq!(places, [0, 12, 13, 253]);
    }

    #[test]
    fn too_much_is_refused() {
        assert_eq!(pieces(&mut [field(0, 8, 100)]), None);
        assert_eq!(pieces(&mut [field(0, u32::MAX, 2)]), None);
        let mut many: Vec<_> = (0..17).map(|n| field(n * 100, 1, 1)).collect();
        assert_eq!(pieces(&mut many), None);
    }
}
