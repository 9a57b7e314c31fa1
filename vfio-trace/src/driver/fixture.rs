//! Test data for plug-ins: events as the assembler makes them, and a harness that feeds them to a plug-in.

use std::sync::Arc;

use vfio_trace_common::role::Role;

use super::{DriverPlugin, PluginDevices, ViewStyle};
use crate::{
    event::{
        ArcStep, CallOutcome, CaptureMoment, CaptureNote, DataIo, DeviceClose, DeviceOpen, DeviceRef,
        DeviceReset, DriverCall, DriverImage, EnclosingArc, Errno, EventData, EventProcess, MigState,
        PciReset, RequestOrigin, SetState, VfioEvent,
    },
    kernel::FieldPlace,
};

/// Makes the outcome of a call from 0 or an errno.
pub(crate) fn outcome(errno: u32) -> CallOutcome {
    if errno == 0 { CallOutcome::Ok } else { CallOutcome::Failed(Errno(errno)) }
}

/// Makes a layout with these members (name, bytes per element, number of elements), one behind the other as in the
/// kernel's structures.
pub(crate) fn layout(name: &str, members: &[(&str, u32, u32)], secret: &[&str]) -> Arc<CaptureNote> {
    let mut offset = 0;
    let field = |&(path, size, count): &(&str, u32, u32)| {
        let place = FieldPlace {
            path: path.to_owned(),
            offset,
            size,
            count,
            signed: false,
            secret: secret.contains(&path),
            values: Vec::new(),
        };
        offset += size * count;
        place
    };
    Arc::new(CaptureNote {
        driver: 1,
        id: name.bytes().map(u32::from).sum(),
        module: String::new(),
        name: name.to_owned(),
        structure: String::new(),
        fields: members.iter().map(field).collect(),
    })
}

/// Makes an image with these values. A value fills all elements of its member; members that are not named are zero.
pub(crate) fn image(layout: &Arc<CaptureNote>, moment: CaptureMoment, values: &[(&str, u64)]) -> DriverImage {
    let mut bytes = Vec::new();
    for field in &layout.fields {
        let value = values.iter().find(|(path, _)| *path == field.path).map_or(0, |(_, value)| *value);
        for _ in 0..field.count {
            bytes.extend_from_slice(&value.to_le_bytes()[..field.size as usize]);
        }
    }
    let layout = Arc::clone(layout);
    DriverImage {
        layout,
        moment,
        session: Some(1),
        direction: None,
        complete: true,
        bytes,
        reveal: false,
        stream: None,
    }
}

/// Makes a step: a function that returned an int, within an arc.
pub(crate) fn step(function: &str, errno: u32, args: &[u64]) -> EventData {
    let arc = Some(EnclosingArc { from: MigState::RUNNING, to: MigState::STOP });
    step_of(arc, Some(Role::SetState), function, errno, args)
}

/// Moves a step into `write()`, or out of all migration calls.
pub(crate) fn moved_to(within: Option<Role>, step: EventData) -> EventData {
    match step {
        EventData::Step(step) => EventData::Step(DriverCall { arc: None, within, ..step }),
        other => other,
    }
}

fn step_of(
    arc: Option<EnclosingArc>,
    within: Option<Role>,
    function: &str,
    errno: u32,
    args: &[u64],
) -> EventData {
    EventData::Step(DriverCall {
        function: Some(function.into()),
        module: None,
        step: None,
        detail: None,
        arc,
        within,
        returned: None,
        outcome: outcome(errno),
        args: args.to_vec(),
    })
}

pub(crate) fn arc(from: MigState, to: MigState, errno: u32) -> EventData {
    EventData::Arc(ArcStep { from, to: Some(to), target: to, outcome: outcome(errno) })
}

pub(crate) fn set_state(target: MigState, errno: u32) -> EventData {
    let outcome = outcome(errno);
    EventData::SetState(SetState {
        target,
        via: RequestOrigin::Ioctl,
        arcs: 1,
        data_fd: None,
        session: None,
        outcome,
        driver_call: None,
    })
}

pub(crate) fn io(bytes: u64, errno: u32) -> DataIo {
    DataIo {
        session: Some(1),
        bytes: (errno == 0).then_some(bytes),
        requested_bytes: bytes,
        offset_bytes: None,
        dry: None,
        ended: false,
        outcome: outcome(errno),
    }
}

pub(crate) fn open() -> EventData {
    EventData::Open(DeviceOpen { open_count: Some(1), state: None, outcome: CallOutcome::Ok })
}

pub(crate) const fn close(open_count: u32) -> EventData {
    EventData::Close(DeviceClose { open_count: Some(open_count) })
}

pub(crate) const fn reset() -> EventData {
    EventData::Reset(DeviceReset { state: Some(MigState::RUNNING), outcome: CallOutcome::Ok })
}

pub(crate) const fn pci_reset() -> EventData {
    EventData::PciReset(PciReset {
        method: Some("flr"),
        state: Some(MigState::RUNNING),
        outcome: CallOutcome::Ok,
    })
}

/// Devices of a plug-in, and the findings since they were last taken.
#[derive(Debug)]
pub(crate) struct PluginHarness {
    devices: Box<dyn PluginDevices>,
    now_ns: u64,
    nr: u32,
    pid: u32,
    found: Vec<(String, String, String)>,
    texts: Vec<String>,
}

impl PluginHarness {
    pub(crate) fn new(plugin: &dyn DriverPlugin) -> Self {
        Self {
            devices: plugin.devices(),
            now_ns: 5_000_000_000,
            nr: 1,
            pid: 7,
            found: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// Switches to another device.
    pub(crate) const fn on(&mut self, nr: u32) -> &mut Self {
        self.nr = nr;
        self
    }

    /// Switches to another process.
    pub(crate) const fn by(&mut self, pid: u32) -> &mut Self {
        self.pid = pid;
        self
    }

    /// Feeds an event to the plug-in, and returns it as the plug-in has completed it.
    pub(crate) fn take(&mut self, data: EventData) -> VfioEvent {
        self.now_ns += 1_000_000;
        let mut event = VfioEvent {
            start_ns: self.now_ns,
            end_ns: self.now_ns,
            duration_ns: None,
            device: Some(DeviceRef {
                nr: self.nr,
                name: Some(format!("0000:75:00.{}", self.nr).into()),
                driver: None,
            }),
            process: EventProcess { pid: self.pid, ..EventProcess::default() },
            data,
        };
        for finding in self.devices.apply(self.nr, &mut event) {
            let word = |word: Option<_>| {
                word.map_or_else(|| "-".to_owned(), |word: std::borrow::Cow<'_, str>| word.into())
            };
            assert!(!finding.text.is_empty() && !finding.check.is_empty(), "{finding:?}");
            assert!(finding.text.is_ascii() || finding.text.contains('→'), "{finding:?}");
            self.texts.push(finding.text.clone());
            self.found.push((finding.code.into(), word(finding.step), word(finding.errno)));
        }
        event
    }

    pub(crate) fn feed(&mut self, events: impl IntoIterator<Item = EventData>) -> &mut Self {
        for data in events {
            self.take(data);
        }
        self
    }

    /// Takes code, step and errno of the findings since the last call.
    pub(crate) fn found(&mut self) -> Vec<(String, String, String)> {
        self.texts.clear();
        std::mem::take(&mut self.found)
    }

    /// Takes the texts of the findings since the last call.
    pub(crate) fn texts(&mut self) -> Vec<String> {
        self.found.clear();
        std::mem::take(&mut self.texts)
    }

    /// Takes the codes of the findings since the last call.
    pub(crate) fn codes(&mut self) -> Vec<String> {
        self.found().into_iter().map(|(code, ..)| code).collect()
    }

    /// Returns a file's text, or the error that it gives.
    pub(crate) fn view(&self, file: &str) -> String {
        self.styled(file, ViewStyle::ByName, false)
    }

    pub(crate) fn styled(&self, file: &str, style: ViewStyle, annotate: bool) -> String {
        let text = self.devices.view(self.nr, file, style, annotate);
        text.unwrap_or_else(|error| format!("error: {error}"))
    }
}
