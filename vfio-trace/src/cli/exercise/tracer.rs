//! The live tracer as a witness: it watches its own process drive a device.

use crate::{
    driver::Interpreter,
    event::{Assembler, Event, HOLD_NS, Record},
    exercise::Witness,
    kernel::KernelFiles,
    probe::LoadOptions,
    source::{
        clock::mono_ns,
        live::{Live, LiveError},
    },
};

/// Room for the records of a step's reads: they are taken in every few dozen.
const BUFFER_BYTES: u32 = 4 << 20;

/// Probes, and what they have seen of this process.
pub(super) struct Tracer {
    live: Live,
    assembler: Assembler,
    interpreter: Interpreter,
    pid: u32,
}

impl Tracer {
    /// Attaches all probes. Needs a tokio runtime.
    pub(super) fn start(files: KernelFiles) -> Result<Self, LiveError> {
        let options = LoadOptions { buffer_bytes: BUFFER_BYTES, log: false };
        let (mut live, _changes) = Live::open(files, options, None)?;
        live.enable()?;
        // Devices get their names from it; without, from the first thing that happens to them.
        let _unnamed = live.take_inventory().is_err();
        let (assembler, interpreter) = (Assembler::new(), Interpreter::new(false));
        Ok(Self { live, assembler, interpreter, pid: std::process::id() })
    }

    fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let records = self.live.take();
            if records.is_empty() {
                return events;
            }
            for record in records.iter().filter_map(|bytes| Record::decode(bytes).ok()) {
                let _changes = self.live.follow(&record);
                events.extend(self.assembler.push(&record));
            }
        }
    }
}

impl Witness for Tracer {
    fn events(&mut self) -> Vec<Event> {
        let mut events = self.take();
        // A step is over when its call has returned: nothing of it is still to come.
        events.extend(self.assembler.expire(mono_ns().saturating_add(HOLD_NS)));
        let pid = self.pid;
        self.interpreter.apply(events).into_iter().filter(|event| event.process.pid == pid).collect()
    }

    fn lost(&mut self) -> u64 {
        self.live.report().iter().map(|probe| probe.lost).sum()
    }
}
