//! A copy of a driver's structure, made at a certain moment.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use vfio_trace_common::capture::moment;

use super::payload::{DataDirection, EventMark, EventPayload, OpenCount};
use crate::event::{
    CallOutcome, CaptureNote, EventCells, EventProcess, SessionEnding, StateEffect, VfioEvent,
};
use crate::kernel::FieldPlace;

/// Moment at which an image was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
    /// A moment that this version does not know.
    Unknown,
}

impl CaptureMoment {
    /// Converts from the wire.
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

    /// Returns the name used in output.
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

/// A copy of a driver's structure, made at a certain moment without a lock. The eBPF program copies the bytes that a
/// plug-in asked for; the note's layout decodes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverImage {
    /// Layout of the bytes, and the plug-in's name for them.
    pub layout: Arc<CaptureNote>,
    /// Moment of the copy.
    pub moment: CaptureMoment,
    /// The data session that it belongs to.
    pub session: Option<u32>,
    /// Direction of that session.
    pub direction: Option<DataDirection>,
    /// True if all of it could be read; unread bytes are zero.
    pub complete: bool,
    /// The copied bytes.
    pub bytes: Vec<u8>,
    /// True if secret members are shown.
    pub reveal: bool,
    /// Hash of the beginning of the session's stream, if the plug-in says that the image shows it. Not for output: a
    /// hash of so few bytes gives away their contents.
    pub stream: Option<StreamHash>,
}

/// A hash of the first bytes of a data session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHash {
    /// Number of bytes hashed.
    pub bytes: u64,
    /// Their CRC-32 (IEEE).
    pub crc32: u32,
}

impl StreamHash {
    /// Computes the hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) }
    }
}

impl DriverImage {
    /// Returns a member's elements, as unsigned numbers; empty if there is no such member.
    pub fn elements(&self, path: &str) -> Vec<u64> {
        self.place(path).map_or_else(Vec::new, |place| elements(place, &self.bytes).collect())
    }

    /// Returns a member's place.
    pub fn place(&self, path: &str) -> Option<&FieldPlace> {
        self.layout.fields.iter().find(|field| field.path == path)
    }

    /// Returns a member as an unsigned number.
    pub fn value(&self, path: &str) -> Option<u64> {
        elements(self.place(path)?, &self.bytes).next()
    }

    /// Returns `len` bytes from the member on: a structure that is embedded at it.
    pub fn bytes_from(&self, path: &str, len: usize) -> Option<&[u8]> {
        let start = self.place(path)?.offset;
        let start = usize::try_from(start).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

/// Returns a member's elements. A count that exceeds the bytes ends with them; an element that is no number ends the
/// list at once.
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

/// Members of an image.
struct ImageMembers<'a>(&'a DriverImage);

impl Serialize for ImageMembers<'_> {
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
        let fields = ImageFields {
            name: &self.layout.name,
            structure: &self.layout.structure,
            moment: self.moment,
            session: self.session,
            direction: self.direction,
            complete: self.complete,
            fields: ImageMembers(self),
        };
        fields.serialize(serializer)
    }
}

/// A copy of a driver's structure, made at a certain moment without a lock.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DriverImage")]
struct ImageFields<'a> {
    /// The plug-in's name for it.
    name: &'a str,
    /// Its type in the kernel.
    structure: &'a str,
    /// Moment of the copy.
    moment: CaptureMoment,
    /// The data session that it belongs to.
    session: Option<u32>,
    /// Direction of that session.
    direction: Option<DataDirection>,
    /// True if all of it could be read; unread bytes are zero.
    complete: bool,
    /// Values by the kernel's member names: numbers, 64-bit ones as 0x text, arrays of these, or `redacted`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    fields: ImageMembers<'a>,
}

impl JsonSchema for DriverImage {
    fn schema_name() -> Cow<'static, str> {
        ImageFields::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        ImageFields::json_schema(generator)
    }
}

impl EventPayload for DriverImage {
    fn outcome(&self) -> Option<CallOutcome> {
        None
    }

    fn state_effect(&self) -> StateEffect {
        StateEffect::None
    }

    fn session_ending(&self) -> Option<SessionEnding> {
        None
    }

    fn presence(&self) -> Option<bool> {
        None
    }

    fn opens(&self) -> OpenCount {
        OpenCount::AsBefore
    }

    fn is_failure(&self) -> bool {
        false
    }

    fn mark(&self, _process: &EventProcess) -> Option<EventMark> {
        None
    }

    fn describe(&self, _event: &VfioEvent, cells: &mut EventCells<'_>) {
        cells.subject(&self.layout.name);
        cells.more(&format!("at {}", self.moment.name()));
        cells.session(self.session);
        if !self.complete {
            cells.more("not all readable");
        }
    }
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
