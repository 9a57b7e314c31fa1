//! What driver plug-ins asked for: steps and images; and resets by the PCI core.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use vfio_trace_common::{
    role::Role,
    wire::{self, Header, RESET_BY_FLR},
};

use super::{Assembler, event, took};
use crate::{
    event::{
        CaptureNote, Data, Errno, Event, FunctionNote, Image, Moment, Note, Outcome, PciReset, Step, Within,
    },
    kernel::Returns,
};

/// `MAX_ERRNO` (include/linux/err.h): pointers above `-MAX_ERRNO` are errors.
const MAX_ERRNO: u64 = 4095;

/// More than a tracer has probes. What further ones mean stays unknown.
const MAX_FUNCTIONS: usize = 4096;
/// A few per driver, and each time that it is loaded. Beyond it the oldest are forgotten.
const MAX_CAPTURES: usize = 512;

/// What notes have said.
#[derive(Debug, Default)]
pub(super) struct Notes {
    functions: BTreeMap<u16, Function>,
    captures: BTreeMap<(u64, u32), Arc<CaptureNote>>,
    /// In the order in which they were told.
    order: VecDeque<(u64, u32)>,
    /// How many were forgotten for want of room.
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
            Note::Capture(note) => {
                let key = (note.driver, note.id);
                if self.captures.insert(key, Arc::new(note.clone())).is_none() {
                    self.order.push_back(key);
                    self.replace(&note.module);
                }
                if self.order.len() > MAX_CAPTURES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.captures.remove(&oldest);
                    self.forgotten += 1;
                }
            },
            // An event by itself: it explains no other record.
            Note::ProbeGap(_) => {},
        }
    }

    /// Forgets what was said of a module before it was loaded anew, but for the last time: no image will come of that.
    fn replace(&mut self, module: &str) {
        let of = |key: &(u64, u32)| self.captures.get(key).is_some_and(|note| note.module == module);
        let mut loaded: Vec<u64> = Vec::new();
        for (driver, _) in self.order.iter().filter(|key| of(key)) {
            if !loaded.contains(driver) {
                loaded.push(*driver);
            }
        }
        let Some(older) = loaded.len().checked_sub(2).and_then(|older| loaded.get(..older)) else { return };
        let old: Vec<(u64, u32)> =
            self.order.iter().filter(|key| of(key) && older.contains(&key.0)).copied().collect();
        self.order.retain(|key| !old.contains(key));
        self.captures.retain(|key, _| !old.contains(key));
    }

    /// How many were forgotten for want of room.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
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
        let Some(layout) = self.notes.captures.get(&(body.driver, body.id)) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_loaded_again_and_again_makes_room() {
        let mut notes = Notes::default();
        let mut tell = |module: &str, driver: u64, ids: u32| {
            for id in 0..ids {
                let (module, name, structure) = (module.to_owned(), String::new(), String::new());
                let fields = Vec::new();
                notes.take(&Note::Capture(CaptureNote { driver, id, module, name, structure, fields }));
            }
        };
        tell("mlx5_vfio_pci", 1, 3);
        (1_000..1_200).for_each(|driver| tell("hisi_acc_vfio_pci", driver, 5));
        assert_eq!((notes.forgotten(), notes.captures.len(), notes.order.len()), (0, 13, 13));
        // Also what the last load but one has left to say.
        for key in [(1, 0), (1_198, 4), (1_199, 0)] {
            assert!(notes.captures.contains_key(&key), "{key:?}");
        }
    }
}
