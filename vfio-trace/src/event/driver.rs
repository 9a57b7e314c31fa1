//! Events that driver plug-ins ask for: steps of a driver, images of its structures, and what a plug-in makes of them.

use std::{borrow::Cow, sync::Arc};

use schemars::JsonSchema;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use vfio_trace_common::{capture::moment, role::Role};

use super::{CallOutcome, CaptureNote, DataDirection, MigState};
use crate::kernel::FieldPlace;

/// The arc during which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EnclosingArc {
    /// State it starts from.
    pub from: MigState,
    /// State it leads to.
    pub to: MigState,
}

/// A function of a driver, or one that it called, returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverCall {
    /// The function; `None` if the record that names it is missing.
    pub function: Option<Arc<str>>,
    /// Its module; `None` for the kernel, or if not known.
    pub module: Option<Arc<str>>,
    /// What the driver's plug-in calls this step.
    pub step: Option<Cow<'static, str>>,
    /// What the plug-in reads from its arguments.
    pub detail: Option<String>,
    /// The arc that it is part of.
    pub arc: Option<EnclosingArc>,
    /// The call that its thread was in, as a probe's role.
    #[serde(serialize_with = "role_name")]
    pub within: Option<Role>,
    /// What it returned, if that is a number that is not an errno.
    pub returned: Option<u64>,
    /// How it ended; `Unknown` for functions that do not tell.
    #[serde(flatten)]
    pub outcome: CallOutcome,
    /// Its arguments, as registers. Among them are addresses of the kernel: not for output.
    #[serde(skip)]
    pub args: Vec<u64>,
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn role_name<S: Serializer>(role: &Option<Role>, serializer: S) -> Result<S::Ok, S::Error> {
    role.map(Role::name).serialize(serializer)
}

/// When an image was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMoment {
    /// An arc was about to begin.
    Arc,
    /// The driver's `migration_set_state` had returned.
    SetState,
    /// `read()` on a data fd had returned.
    Read,
    /// `write()` on a data fd had returned.
    Write,
    /// The device was about to be closed.
    Close,
    /// The device was about to be reset.
    Reset,
    /// The device was seen for the first time, or opened.
    Seen,
    /// A step was about to begin.
    StepEnter,
    /// A step was over.
    StepExit,
    /// An ioctl on a data fd had returned.
    DataIoctl,
    /// One that this version does not know.
    Unknown,
}

impl CaptureMoment {
    /// From the wire.
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            moment::ARC => Self::Arc,
            moment::SET_STATE => Self::SetState,
            moment::READ => Self::Read,
            moment::WRITE => Self::Write,
            moment::CLOSE => Self::Close,
            moment::RESET => Self::Reset,
            moment::SEEN => Self::Seen,
            moment::STEP_ENTER => Self::StepEnter,
            moment::STEP_EXIT => Self::StepExit,
            moment::DATA_IOCTL => Self::DataIoctl,
            _ => Self::Unknown,
        }
    }

    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arc => "arc",
            Self::SetState => "set_state",
            Self::Read => "read",
            Self::Write => "write",
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Seen => "seen",
            Self::StepEnter => "step_enter",
            Self::StepExit => "step_exit",
            Self::DataIoctl => "data_ioctl",
            Self::Unknown => "unknown",
        }
    }
}

/// A driver's structure as it was at a moment, copied without a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverImage {
    /// What the bytes mean, and what the plug-in calls them.
    pub layout: Arc<CaptureNote>,
    /// When.
    pub moment: CaptureMoment,
    /// The data session that it belongs to.
    pub session: Option<u32>,
    /// Which way that session went.
    pub direction: Option<DataDirection>,
    /// Whether all of it could be read; what could not is zero.
    pub complete: bool,
    /// The copied bytes.
    pub bytes: Vec<u8>,
    /// Whether secret members are shown.
    pub reveal: bool,
    /// What the plug-in says it shows of the session's stream, from its beginning. Not for output: a hash of so little
    /// tells what it is of.
    pub stream: Option<StreamHash>,
}

/// A hash of the first bytes of a data session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHash {
    /// How many bytes.
    pub bytes: u64,
    /// Their CRC-32 (IEEE).
    pub crc32: u32,
}

impl StreamHash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) }
    }
}

impl DriverImage {
    /// A member's elements, as unsigned numbers; empty if there is no such member.
    pub fn elements(&self, path: &str) -> Vec<u64> {
        self.place(path).map_or_else(Vec::new, |place| elements(place, &self.bytes).collect())
    }

    /// Where a member is.
    pub fn place(&self, path: &str) -> Option<&FieldPlace> {
        self.layout.fields.iter().find(|field| field.path == path)
    }

    /// A member as an unsigned number.
    pub fn value(&self, path: &str) -> Option<u64> {
        elements(self.place(path)?, &self.bytes).next()
    }

    /// `len` bytes from the member on: a structure that is embedded at it.
    pub fn bytes_from(&self, path: &str, len: usize) -> Option<&[u8]> {
        let start = self.place(path)?.offset;
        let start = usize::try_from(start).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

/// A member's elements. A count that the bytes do not bear out ends with them; an element that is no number, at once.
fn elements(place: &FieldPlace, bytes: &[u8]) -> impl Iterator<Item = u64> {
    let element = move |index: u32| {
        if !place.is_number() {
            return None;
        }
        let start = place.offset.checked_add(index.checked_mul(place.size)?)?;
        let end = start.checked_add(place.size)?;
        let bytes = bytes.get(start as usize..end as usize)?;
        let mut word = [0; size_of::<u64>()];
        if cfg!(target_endian = "little") {
            word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        } else {
            word.get_mut(size_of::<u64>() - bytes.len()..)?.copy_from_slice(bytes);
        }
        Some(u64::from_ne_bytes(word))
    };
    (0..place.count).map_while(element)
}

/// A member's value in output: bigger ones as text, because JSON readers lose bits above 2^53.
#[derive(Serialize)]
#[serde(untagged)]
enum MemberValue {
    Number(u64),
    Signed(i64),
    Text(String),
    List(Vec<Self>),
}

impl MemberValue {
    fn of(place: &FieldPlace, value: u64, reveal: bool) -> Self {
        match (place.secret && !reveal, place.size) {
            (true, _) if value != 0 => Self::Text("redacted".to_owned()),
            (_, 8) => Self::Text(format!("{value:#x}")),
            (_, 4) if place.signed => Self::Signed((value as u32).cast_signed().into()),
            _ => Self::Number(value),
        }
    }
}

struct ImageFields<'a>(&'a DriverImage);

impl Serialize for ImageFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let DriverImage { layout, bytes, reveal, .. } = self.0;
        let mut map = serializer.serialize_map(Some(layout.fields.len()))?;
        for place in &layout.fields {
            let mut values: Vec<MemberValue> =
                elements(place, bytes).map(|value| MemberValue::of(place, value, *reveal)).collect();
            match (place.count, values.len()) {
                (1, 1) => map.serialize_entry(&place.path, &values.remove(0))?,
                _ => map.serialize_entry(&place.path, &MemberValue::List(values))?,
            }
        }
        map.end()
    }
}

impl Serialize for DriverImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.layout.name)?;
        map.serialize_entry("structure", &self.layout.structure)?;
        map.serialize_entry("moment", self.moment.name())?;
        map.serialize_entry("session", &self.session)?;
        map.serialize_entry("direction", &self.direction)?;
        map.serialize_entry("complete", &self.complete)?;
        map.serialize_entry("fields", &ImageFields(self))?;
        map.end()
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingSeverity {
    /// Worth knowing.
    Info,
    /// It went on, but not as it should have.
    Warning,
    /// It failed.
    Error,
}

impl FindingSeverity {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a driver's plug-in makes of what happened: which step failed and why, or what went wrong in silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriverFinding {
    /// A stable name, `hisi_acc/mailbox-timeout`.
    #[schemars(regex(pattern = "^[a-z0-9_]+/[a-z0-9-]+$"))]
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// The first step that failed.
    pub step: Option<Cow<'static, str>>,
    /// The error of that step: not always the one that user space got.
    pub errno: Option<Cow<'static, str>>,
    /// One plain sentence.
    pub text: String,
    /// What to look at.
    pub check: Cow<'static, str>,
}

/// The PCI core has reset the device's function: by request of the driver, of user space through sysfs, or of vfio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PciReset {
    /// `flr` for a Function Level Reset; `None` for any other way.
    pub method: Option<&'static str>,
    /// The state that it leads to, as soon as the driver's `reset_done` has run; `None` if that is not certain.
    pub state: Option<MigState>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RecordNote, WireRecord};

    fn place(path: &str, offset: u32, size: u32, count: u32) -> FieldPlace {
        FieldPlace {
            path: path.to_owned(),
            offset,
            size,
            count,
            signed: false,
            secret: path.ends_with("dma"),
            values: Vec::new(),
        }
    }

    fn image(reveal: bool) -> DriverImage {
        let fields = vec![
            place("disabled", 0, 1, 1),
            place("qp_num", 4, 4, 1),
            place("dw", 8, 2, 2),
            place("sqc_dma", 12, 8, 1),
            place("cqc_dma", 20, 8, 1),
            place("cut", 24, 8, 3),
        ];
        let layout = CaptureNote {
            driver: 1,
            id: 0,
            module: "m".to_owned(),
            name: "saving".to_owned(),
            structure: "file".to_owned(),
            fields,
        };
        let mut bytes = vec![1, 0, 0, 0];
        bytes.extend(16u32.to_ne_bytes());
        bytes.extend([7u16, 8].map(u16::to_ne_bytes).concat());
        bytes.extend(0xdead_beefu64.to_ne_bytes());
        bytes.extend(0u64.to_ne_bytes());
        DriverImage {
            layout: Arc::new(layout),
            moment: CaptureMoment::Arc,
            session: Some(3),
            direction: Some(DataDirection::Save),
            complete: true,
            bytes,
            reveal,
            stream: None,
        }
    }

    #[test]
    fn members_are_named_and_secrets_kept() {
        let fields = |reveal| serde_json::to_value(image(reveal)).unwrap()["fields"].to_string();
        let shown = r#"{"cqc_dma":"0x0","cut":[],"disabled":1,"dw":[7,8],"qp_num":16,"sqc_dma":"#;
        assert_eq!(fields(false), format!("{shown}\"redacted\"}}"));
        assert_eq!(fields(true), format!("{shown}\"0xdeadbeef\"}}"));
    }

    #[test]
    fn values_by_path() {
        let image = image(false);
        assert_eq!(image.value("qp_num"), Some(16));
        assert_eq!(image.elements("dw"), [7, 8]);
        assert_eq!(image.value("nothing"), None);
        assert_eq!(image.bytes_from("dw", 4), Some(&image.bytes[8..12]));
        assert_eq!(image.bytes_from("cqc_dma", 9), None);
    }

    #[test]
    fn elements_that_are_no_numbers_end_a_member() {
        let bytes = [1; 32];
        for size in [0, 9, 16, u32::MAX] {
            assert_eq!(elements(&place("x", 0, size, u32::MAX), &bytes).count(), 0, "{size}");
        }
        assert_eq!(elements(&place("x", 0, 1, u32::MAX), &bytes).count(), 32);
        assert_eq!(elements(&place("x", u32::MAX, 8, u32::MAX), &bytes).count(), 0);
    }

    #[test]
    fn a_layout_with_elements_that_are_no_numbers_is_refused() {
        for (size, good) in [(0, false), (1, true), (8, true), (9, false), (u32::MAX, false)] {
            let CaptureNote { driver, id, module, name, structure, .. } =
                image(false).layout.as_ref().clone();
            let fields = vec![place("x", 0, size, u32::MAX)];
            let note = RecordNote::Capture(CaptureNote { driver, id, module, name, structure, fields });
            assert_eq!(WireRecord::decode(&note.record(5).unwrap()).is_ok(), good, "{size}");
        }
    }
}
