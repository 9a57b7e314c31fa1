//! What driver plug-ins asked for: steps and images; and resets by the PCI core.

use std::{collections::BTreeMap, sync::Arc};

use vfio_trace_common::{
    role::Role,
    wire::{self, Header, RESET_BY_FLR},
};

use super::{Assembler, event, took};
use crate::{
    event::{
        CaptureNote, Data, Errno, Event, FunctionNote, Image, Moment, Note, Outcome, PciReset, Step, Within,
        layouts::Layouts,
    },
    kernel::Returns,
};

/// `MAX_ERRNO` (include/linux/err.h): pointers above `-MAX_ERRNO` are errors.
const MAX_ERRNO: u64 = 4095;

/// More than a tracer has probes. What further ones mean stays unknown.
const MAX_FUNCTIONS: usize = 4096;

/// What notes have said.
#[derive(Debug, Default)]
pub(super) struct Notes {
    functions: BTreeMap<u16, Function>,
    captures: Layouts<Arc<CaptureNote>>,
    /// How many functions were forgotten for want of room.
    forgotten: u64,
}

#[derive(Debug)]
struct Function {
    name: Arc<str>,
    module: Option<Arc<str>>,
    returns: Returns,
    params: usize,
}

impl Notes {
    pub(super) fn take(&mut self, note: &Note) {
        match note {
            Note::Function(FunctionNote { probe, function, module, returns, params }) => {
                let function = Function {
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
            Note::Capture(note) => self.captures.insert(note, Arc::new(note.clone())),
            // An event by itself: it explains no other record.
            Note::ProbeGap(_) => {},
        }
    }

    /// How many were forgotten for want of room.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten.saturating_add(self.captures.forgotten())
    }
}

/// How a function ended, and the number it returned if that is no errno.
fn ended(returns: Returns, ret: u64) -> (Outcome, Option<u64>) {
    match returns {
        Returns::Void => (Outcome::Unknown, None),
        Returns::Int => {
            let value = (ret as u32).cast_signed();
            (Outcome::from_ret(value), u64::try_from(value).ok().filter(|&value| value != 0))
        },
        Returns::Long => {
            let value = ret.cast_signed();
            (Outcome::from_ret(value), u64::try_from(value).ok().filter(|&value| value != 0))
        },
        Returns::Pointer if ret > u64::MAX - MAX_ERRNO => {
            (Errno::from_ret(ret.cast_signed()).map_or(Outcome::Unknown, Outcome::Failed), None)
        },
        // An address of the kernel is nobody's business.
        Returns::Pointer => (Outcome::Ok, None),
        Returns::Value => (Outcome::Unknown, Some(ret)),
    }
}

impl Assembler {
    pub(super) fn step(&mut self, header: &Header, body: &wire::Step, out: &mut Vec<Event>) {
        let device = self.devices.get(header.device);
        let function = self.notes.functions.get(&header.probe);
        let (outcome, returned) =
            function.map_or((Outcome::Unknown, None), |function| ended(function.returns, body.ret));
        let args = body.args.iter().take(function.map_or(0, |function| function.params)).copied();
        let arc = self.threads.get(header.tid).and_then(|thread| thread.arc.as_ref());
        // A step that began before the arc did, or is another device's, is not part of it.
        let arc = arc
            .filter(|arc| arc.pointer == header.device && arc.start_ns <= header.start_ns)
            .map(|arc| Within { from: arc.from, to: arc.to });
        let step = Step {
            function: function.map(|function| Arc::clone(&function.name)),
            module: function.and_then(|function| function.module.clone()),
            step: None,
            detail: None,
            arc,
            within: Role::ALL.into_iter().find(|role| *role as u32 == body.within),
            returned,
            outcome,
            args: args.collect(),
        };
        out.push(event(header, device, Some(took(header)), Data::Step(step)));
    }

    pub(super) fn capture(&mut self, header: &Header, body: &wire::Capture, out: &mut Vec<Event>) {
        // Without its note nothing can be said of the bytes.
        let Some(layout) = self.notes.captures.get(body.driver, body.id) else { return };
        let layout = Arc::clone(layout);
        let len = (body.len as usize).min(body.data.len());
        let device = self.devices.get(header.device);
        let session = self.sessions.peek(header.file, header.device);
        let image = Image {
            layout,
            moment: Moment::from_raw(body.moment),
            session: session.map(|session| session.nr),
            direction: session.and_then(|session| session.direction),
            complete: body.failed == 0,
            bytes: body.data.get(..len).unwrap_or_default().to_vec(),
            reveal: false,
            stream: None,
        };
        out.push(event(header, device, None, Data::Image(image)));
    }

    pub(super) fn pci_reset(&mut self, header: &Header, body: wire::PciReset, out: &mut Vec<Event>) {
        let outcome = Outcome::from_ret(body.ret);
        let state = self.reset_to(header, outcome);
        let device = self.devices.get(header.device);
        let method = (body.how & RESET_BY_FLR != 0).then_some("flr");
        let data = Data::PciReset(PciReset { method, state, outcome });
        out.push(event(header, device, Some(took(header)), data));
    }
}
