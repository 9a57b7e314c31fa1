//! Records that user space makes: facts needed to understand the kernel's records, live or from a recording.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use vfio_trace_common::{
    record::{DecodeError, RecordPayload},
    wire::{self, COMM_LEN, Header},
};
use zerocopy::IntoBytes as _;

use super::ProbeGap;
use crate::kernel::{FieldPlace, ReturnKind};

/// Contents of a note; in a record: its JSON text. The source writes notes into the stream of records before those they
/// explain, so that a recording has all that its replay needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum RecordNote {
    /// A probed function: the meaning of `Header::probe` of a [`wire::Step`].
    Function(FunctionNote),
    /// A driver's structure: the meaning of the bytes of a [`wire::Capture`].
    Capture(CaptureNote),
    /// Functions that were not probed for a time.
    ProbeGap(ProbeGap),
}

/// A function that steps come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionNote {
    /// Its slot: `Header::probe`.
    pub probe: u16,
    /// Its name.
    pub function: String,
    /// Its module, `None` for the kernel.
    pub module: Option<String>,
    /// Meaning of its return value.
    pub returns: ReturnKind,
    /// Number of its parameters.
    pub params: u32,
}

/// A structure that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureNote {
    /// `wire::Capture::driver`.
    pub driver: u64,
    /// `wire::Capture::id`.
    pub id: u32,
    /// The driver's module.
    pub module: String,
    /// The plug-in's name for it.
    pub name: String,
    /// Its type in the kernel.
    pub structure: String,
    /// Places of the members within the bytes.
    pub fields: Vec<FieldPlace>,
}

impl CaptureNote {
    /// Returns the number of an enum's value in the traced kernel; `None`: not known.
    pub fn number(&self, member: &str, name: &str) -> Option<u64> {
        let field = self.fields.iter().find(|field| field.path == member)?;
        field.values.iter().find(|(other, _)| other == name).map(|(_, number)| *number)
    }
}

impl RecordPayload for RecordNote {
    fn decode(_kind: wire::Kind, body: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(body).map_err(|_why| DecodeError::NotANote)
    }

    fn encode(&self) -> Cow<'_, [u8]> {
        // A note that cannot be written, which no type here is, cannot be read either.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl RecordNote {
    /// Makes a record of the note, with the time `now_ns` (CLOCK_MONOTONIC). Returns `None` if it is too long for one.
    pub fn record(&self, now_ns: u64) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(self).ok()?;
        let len = u16::try_from(size_of::<Header>() + text.len()).ok()?;
        let header = Header {
            len,
            kind: wire::Kind::Note as u16,
            probe: 0,
            cpu: 0,
            tgid: 0,
            tid: 0,
            start_ns: now_ns,
            end_ns: now_ns,
            device: 0,
            file: 0,
            comm: [0; COMM_LEN],
        };
        let mut record = header.as_bytes().to_vec();
        record.extend(text);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RecordBody, WireRecord};

    #[test]
    fn a_note_is_a_record_like_any_other() {
        let note = RecordNote::Function(FunctionNote {
            probe: 7,
            function: "hisi_qm_mb".to_owned(),
            module: Some("hisi_qm".to_owned()),
            returns: ReturnKind::Int,
            params: 5,
        });
        let record = WireRecord::decode(&note.record(5).unwrap()).unwrap();
        assert_eq!(record.header.end_ns, 5);
        assert_eq!(record.body, RecordBody::Note(note));
    }

    #[test]
    fn other_text_is_refused() {
        let note = RecordNote::Capture(CaptureNote {
            driver: u64::MAX,
            id: 0,
            module: String::new(),
            name: String::new(),
            structure: String::new(),
            fields: Vec::new(),
        });
        let mut bytes = note.record(5).unwrap();
        assert_eq!(WireRecord::decode(&bytes).unwrap().body, RecordBody::Note(note));
        let last = bytes.len() - 1;
        bytes[last] = b'?';
        WireRecord::decode(&bytes).unwrap_err();
    }
}
