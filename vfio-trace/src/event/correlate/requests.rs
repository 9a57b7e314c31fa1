//! Ioctls on a device fd, around the driver's calls within them.

use vfio_trace_common::{
    uapi,
    wire::{self, Header},
};

use super::{
    EventAssembler, as_refused, event,
    ioctl::{self, DeviceRequest},
    thread::HeldCall,
    took,
};
use crate::event::{
    CallOutcome, DataSize, DeviceFeature, DeviceReset, Errno, EventData, EventKind, FeatureCall, FeatureOp,
    GetState, MigState, RequestOrigin, SetState, VfioEvent,
};

impl EventAssembler {
    pub(in crate::event) fn ioctl(&mut self, header: &Header, body: &wire::Ioctl, out: &mut Vec<VfioEvent>) {
        let outcome = CallOutcome::from_ret(body.ret);
        let request = match DeviceRequest::of(body) {
            // The held call within it shows the request.
            DeviceRequest::Feature(None) => self.thread(header.tid).within(header),
            request => request,
        };
        let (kind, request) = match request {
            DeviceRequest::SetState(target) => return self.set_state_ioctl(header, body, target, out),
            DeviceRequest::GetState => (EventKind::GetState, DeviceRequest::GetState),
            DeviceRequest::DataSize => (EventKind::DataSize, DeviceRequest::DataSize),
            DeviceRequest::Reset => return self.reset(header, outcome, out),
            request @ DeviceRequest::Feature(_) => (EventKind::Feature, request),
        };
        let log = self.thread(header.tid).log.take().filter(|log| log.start_ns == header.start_ns);
        let held = self.thread(header.tid).claim(kind, header, out);
        let reported = self.thread(header.tid).has_reported(kind, header, outcome);
        self.left_request(header, out);
        if held.is_none() && reported {
            return;
        }
        if request == DeviceRequest::GetState && held.is_none() {
            self.shown(header, ioctl::mig_state(body).0.filter(|_| outcome.is_ok()), out);
        }
        let device = self.devices.get(header.device);
        let (device, call) = match held {
            Some(held) => (device.or(held.event.device), Some(held.event.data)),
            None => (device, None),
        };
        let driver_call = call.as_ref().and_then(EventData::outcome);
        let ok = outcome.is_ok();
        let via = RequestOrigin::Ioctl;
        let data = match (request, call) {
            (DeviceRequest::Feature(called), _) => {
                let detail = called.and_then(|(feature, op)| ioctl::detail(feature, op, body, log));
                let (feature, op) = called.unzip();
                EventData::Feature(FeatureCall { feature, op, detail, outcome })
            },
            (DeviceRequest::DataSize, call) => {
                let stop_copy_bytes = ioctl::output(body, 0).filter(|_| ok).or(match call {
                    Some(EventData::DataSize(call)) => call.stop_copy_bytes,
                    _ => None,
                });
                EventData::DataSize(DataSize { stop_copy_bytes, via, outcome, driver_call })
            },
            (_, call) => {
                let state = ioctl::mig_state(body).0.filter(|_| ok).or(match call {
                    Some(EventData::GetState(call)) => call.state,
                    _ => None,
                });
                EventData::GetState(GetState { state, via, outcome, driver_call })
            },
        };
        out.push(event(header, device, Some(took(header)), data));
    }

    pub(super) fn reset(&mut self, header: &Header, outcome: CallOutcome, out: &mut Vec<VfioEvent>) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        self.thread(header.tid).log = None;
        let state = self.reset_to(header, outcome);
        let event = self.call_event(header, EventData::Reset(DeviceReset { state, outcome }));
        self.end_with(header.device, event, out);
    }

    /// Takes in a reset of the device. Returns the state that the device is in now, if that is certain.
    pub(super) fn reset_to(&mut self, header: &Header, outcome: CallOutcome) -> Option<MigState> {
        if !outcome.is_ok() {
            return None;
        }
        let busy = self.is_busy(header.device);
        self.states.reset(header, busy).filter(|_| self.devices.may_migrate(header.device))
    }

    pub(super) fn set_state_ioctl(
        &mut self,
        header: &Header,
        body: &wire::Ioctl,
        target: Option<MigState>,
        out: &mut Vec<VfioEvent>,
    ) {
        let ret = CallOutcome::from_ret(body.ret);
        self.thread(header.tid).log = None;
        let held = self.thread(header.tid).claim(EventKind::SetState, header, out);
        let reported = self.thread(header.tid).has_reported(EventKind::SetState, header, ret);
        let asked = held.as_ref().and_then(|held| match &held.event.data {
            EventData::SetState(call) => Some(call.target),
            _ => None,
        });
        let Some(target) = asked.or(target) else {
            // The request could not be read, and no call of the driver was seen.
            self.left_request(header, out);
            let device = self.devices.get(header.device);
            let (feature, op) = (
                DeviceFeature(uapi::FEATURE_MIG_DEVICE_STATE),
                FeatureOp { set: true, ..FeatureOp::default() },
            );
            let data = FeatureCall { feature: Some(feature), op: Some(op), detail: None, outcome: ret };
            out.push(event(header, device, Some(took(header)), EventData::Feature(data)));
            return;
        };
        // Without the driver's record an arc may still be open. An error that the core can add after the driver was
        // through (no free fd, bad address) does not tell how the arc ended.
        let arc_outcome = match ret.errno() {
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EFAULT) => CallOutcome::Unknown,
            _ => ret,
        };
        self.end_request_arc(header, target, arc_outcome, out);
        let (arcs, refused) = self.thread(header.tid).end_request(header.start_ns);
        if held.is_none() {
            if reported {
                return;
            }
            self.request_ended(header, target, arcs, arc_outcome);
        }
        let device = self.devices.get(header.device);
        let (device, call) = match held {
            Some(HeldCall {
                event: VfioEvent { device: named, data: EventData::SetState(call), .. },
                ..
            }) => (device.or(named), Some(call)),
            _ => (device, None),
        };
        let driver_call = call.as_ref().map(|call| call.outcome);
        let refused = driver_call.map_or(refused, |call| matches!(call, CallOutcome::Refused(_)));
        let data = SetState {
            target,
            via: RequestOrigin::Ioctl,
            arcs: call.as_ref().map_or(arcs, |call| call.arcs),
            data_fd: ret.is_ok().then(|| ioctl::mig_state(body).1).flatten(),
            session: call.as_ref().and_then(|call| call.session),
            outcome: if refused { as_refused(ret) } else { ret },
            driver_call,
        };
        out.push(event(header, device, Some(took(header)), EventData::SetState(data)));
    }
}
