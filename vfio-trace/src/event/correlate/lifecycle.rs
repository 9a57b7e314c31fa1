//! A device comes and goes: register, open, hold, close, unregister.

use vfio_trace_common::wire::{self, Header};

use super::{EventAssembler, event, known_count};
use crate::event::{
    CallOutcome, DeviceClose, DeviceHeld, DeviceOpen, DeviceRegister, DeviceUnregister, EventData, VfioEvent,
};

impl EventAssembler {
    pub(in crate::event) fn open(&mut self, header: &Header, body: wire::Open, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        let (open_count, outcome) = (known_count(body.open_count), CallOutcome::from_ret(body.ret));
        let mut data = DeviceOpen { open_count, state: None, outcome };
        let reading = self.states.take_reading(header.device, header.tid);
        data.state = reading.as_ref().filter(|reading| !reading.busy).map(|reading| reading.found);
        if data.is_first() {
            // No other process has it open, so nothing can be in progress; some drivers have just made it RUNNING.
            data.state = reading.map(|reading| reading.found);
            self.states.opened(header.device, data.state, header.end_ns);
        } else if let Some(reading) = reading {
            self.conclude(&reading, out);
        }
        out.push(self.call_event(header, EventData::Open(data)));
    }

    pub(in crate::event) fn close(&mut self, header: &Header, body: wire::Close, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        let open_count = known_count(body.open_count);
        let data = DeviceClose { open_count };
        if data.may_be_last() {
            self.states.closed(header.device);
        }
        if data.is_last() {
            self.overtake(header);
        }
        let device = self.devices.get(header.device);
        self.end_with(header.device, event(header, device, None, EventData::Close(data)), out);
    }

    pub(in crate::event) fn holder(&mut self, header: &Header, body: wire::Holder, out: &mut Vec<VfioEvent>) {
        let device = self.devices.get(header.device);
        out.push(event(header, device, None, EventData::Held(DeviceHeld { fd: body.fd })));
    }

    pub(in crate::event) fn register(
        &mut self,
        header: &Header,
        body: wire::Registered,
        out: &mut Vec<VfioEvent>,
    ) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        let outcome = CallOutcome::from_ret(body.ret);
        if !outcome.is_ok() {
            self.devices.leave(header.device);
        }
        out.push(self.call_event(header, EventData::Register(DeviceRegister { outcome })));
    }

    pub(in crate::event) fn unregister(&mut self, header: &Header, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        out.extend(self.states.take_held_desyncs(|pointer, _| pointer == header.device));
        self.states.forget(header.device);
        self.devices.leave(header.device);
        let device = self.devices.get(header.device);
        out.push(event(header, device, None, EventData::Unregister(DeviceUnregister {})));
    }
}
