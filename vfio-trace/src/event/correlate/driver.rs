//! Records that driver plug-ins asked for (steps and images), and resets by the PCI core.

use std::{collections::BTreeMap, sync::Arc};

use vfio_trace_common::{
    role::Role,
    wire::{self, Header, RESET_BY_FLR},
};

use super::{EventAssembler, event, took};
use crate::{
    event::{
        CallOutcome, CaptureMoment, CaptureNote, DriverCall, DriverImage, EnclosingArc, Errno, EventData,
        FunctionNote, PciReset, RecordNote, VfioEvent, layouts::CaptureLayouts,
    },
    kernel::ReturnKind,
};

/// `MAX_ERRNO` (include/linux/err.h): pointers above `-MAX_ERRNO` are errors.
const MAX_ERRNO: u64 = 4095;

/// Most functions that are kept: more than a tracer has probes. Further ones stay without a name.
const MAX_FUNCTIONS: usize = 4096;

/// Contents of the notes so far.
#[derive(Debug, Default)]
pub(super) struct NoteTable {
    functions: BTreeMap<u16, NotedFunction>,
    captures: CaptureLayouts<Arc<CaptureNote>>,
    /// Number of functions that were forgotten because the table was full.
    forgotten: u64,
}

#[derive(Debug)]
struct NotedFunction {
    name: Arc<str>,
    module: Option<Arc<str>>,
    returns: ReturnKind,
    params: usize,
}

impl NoteTable {
    pub(super) fn take(&mut self, note: &RecordNote) {
        match note {
            RecordNote::Function(FunctionNote { probe, function, module, returns, params }) => {
                let function = NotedFunction {
                    name: function.as_str().into(),
                    module: module.as_deref().map(Into::into),
                    returns: *returns,
                    params: *params as usize,
                };
                if self.functions.len() < MAX_FUNCTIONS || self.functions.contains_key(probe) {
                    self.functions.insert(*probe, function);
                } else {
                    self.forgotten += 1;
                }
            },
            RecordNote::Capture(note) => self.captures.insert(note, Arc::new(note.clone())),
            // An event by itself: it explains no other record.
            RecordNote::ProbeGap(_) => {},
        }
    }

    /// Returns the number of entries that were forgotten because a table was full.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten.saturating_add(self.captures.forgotten())
    }
}

/// Returns a function's outcome, and the number it returned if that is not an errno.
fn ended(returns: ReturnKind, ret: u64) -> (CallOutcome, Option<u64>) {
    match returns {
        ReturnKind::Void => (CallOutcome::Unknown, None),
        ReturnKind::Int => {
            let value = (ret as u32).cast_signed();
            (CallOutcome::from_ret(value), u64::try_from(value).ok().filter(|&value| value != 0))
        },
        ReturnKind::Long => {
            let value = ret.cast_signed();
            (CallOutcome::from_ret(value), u64::try_from(value).ok().filter(|&value| value != 0))
        },
        ReturnKind::Pointer if ret > u64::MAX - MAX_ERRNO => {
            (Errno::from_ret(ret.cast_signed()).map_or(CallOutcome::Unknown, CallOutcome::Failed), None)
        },
        // A kernel address must not be shown.
        ReturnKind::Pointer => (CallOutcome::Ok, None),
        ReturnKind::Value => (CallOutcome::Unknown, Some(ret)),
    }
}

impl EventAssembler {
    pub(in crate::event) fn step(&mut self, header: &Header, body: &wire::Step, out: &mut Vec<VfioEvent>) {
        let device = self.devices.get(header.device);
        let function = self.notes.functions.get(&header.probe);
        let (outcome, returned) =
            function.map_or((CallOutcome::Unknown, None), |function| ended(function.returns, body.ret));
        let args = body.args.iter().take(function.map_or(0, |function| function.params)).copied();
        let arc = self.threads.get(header.tid).and_then(|thread| thread.arc.as_ref());
        // A step that began before the arc did, or is another device's, is not part of it.
        let arc = arc
            .filter(|arc| arc.pointer == header.device && arc.start_ns <= header.start_ns)
            .map(|arc| EnclosingArc { from: arc.from, to: arc.to });
        let step = DriverCall {
            function: function.map(|function| Arc::clone(&function.name)),
            module: function.and_then(|function| function.module.clone()),
            step: None,
            detail: None,
            arc,
            within: Role::from_raw(body.within),
            returned,
            outcome,
            args: args.collect(),
        };
        out.push(event(header, device, Some(took(header)), EventData::Step(step)));
    }

    pub(in crate::event) fn capture(
        &mut self,
        header: &Header,
        body: &wire::Capture,
        out: &mut Vec<VfioEvent>,
    ) {
        // Without its note the bytes have no meaning.
        let Some(layout) = self.notes.captures.get(body.driver, body.id) else { return };
        let layout = Arc::clone(layout);
        let len = (body.len as usize).min(body.data.len());
        let device = self.devices.get(header.device);
        let session = self.sessions.peek(header.file, header.device);
        let image = DriverImage {
            layout,
            moment: CaptureMoment::from_raw(body.moment),
            session: session.map(|session| session.nr),
            direction: session.and_then(|session| session.direction),
            complete: body.failed == 0,
            bytes: body.data.get(..len).unwrap_or_default().to_vec(),
            reveal: false,
            stream: None,
        };
        out.push(event(header, device, None, EventData::Image(image)));
    }

    pub(in crate::event) fn pci_reset(
        &mut self,
        header: &Header,
        body: wire::PciReset,
        out: &mut Vec<VfioEvent>,
    ) {
        let outcome = CallOutcome::from_ret(body.ret);
        let state = self.reset_to(header, outcome);
        let method = (body.how & RESET_BY_FLR != 0).then_some("flr");
        let data = EventData::PciReset(PciReset { method, state, outcome });
        let event = self.call_event(header, data);
        self.end_with(header.device, event, out);
    }
}
