//! Calls on a data fd: read, write, ioctl, release.

use vfio_trace_common::{
    uapi,
    wire::{self, Header, precopy_unread},
};

use super::{EventAssembler, event, took};
use crate::event::{
    CallOutcome, DataDirection, DataIo, DataIoctl, Errno, EventData, PrecopyInfo, ReadEnd, VfioEvent,
};

impl EventAssembler {
    pub(in crate::event) fn data_io(
        &mut self,
        header: &Header,
        body: wire::DataIo,
        direction: DataDirection,
        out: &mut Vec<VfioEvent>,
    ) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        let outcome = CallOutcome::from_ret(body.ret);
        let bytes = u64::try_from(body.ret).ok();
        let offset_bytes = u64::try_from(body.pos).ok();
        let device = self.devices.get(header.device);
        let session = self.sessions.of(header.file, header.device, device.clone());
        let dry = match (direction, body.ret) {
            (DataDirection::Save, 0) if body.requested > 0 => Some(ReadEnd::End),
            (DataDirection::Save, _) if matches!(outcome.errno(), Some(Errno::ENOMSG | Errno::EAGAIN)) => {
                Some(ReadEnd::ForNow)
            },
            _ if outcome.errno().is_some_and(Errno::is_interrupted) => Some(ReadEnd::ForNow),
            _ => None,
        };
        let mut data = DataIo {
            session: None,
            bytes,
            requested_bytes: body.requested,
            offset_bytes,
            dry,
            ended: false,
            outcome,
        };
        let mut named = device;
        if let Some(session) = session {
            let failed = outcome.errno().is_some() && dry.is_none();
            session.io(direction, failed, bytes.unwrap_or(0), offset_bytes);
            data.session = Some(session.nr);
            data.ended = session.ended;
            named = session.device.clone().or(named);
        }
        let data = match direction {
            DataDirection::Save => EventData::Read(data),
            DataDirection::Resume => EventData::Write(data),
        };
        out.push(event(header, named, Some(took(header)), data));
    }

    pub(in crate::event) fn data_ioctl(
        &mut self,
        header: &Header,
        body: &wire::PrecopyInfo,
        out: &mut Vec<VfioEvent>,
    ) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        let outcome = CallOutcome::from_ret(body.ret);
        let device = self.devices.get(header.device);
        let of = self.sessions.of(header.file, header.device, device.clone());
        let (session, device) = match of {
            Some(session) => (Some(session.nr), session.device.clone().or(device)),
            None => (None, device),
        };
        let data = if body.cmd == uapi::VFIO_MIG_GET_PRECOPY_INFO {
            let known = |bit: u32| outcome.is_ok() && body.unread & bit == 0;
            EventData::PrecopyInfo(PrecopyInfo {
                session,
                initial_bytes: known(precopy_unread::INITIAL).then_some(body.initial_bytes),
                dirty_bytes: known(precopy_unread::DIRTY).then_some(body.dirty_bytes),
                flags: known(precopy_unread::FLAGS).then_some(body.flags),
                outcome,
            })
        } else {
            EventData::DataIoctl(DataIoctl { session, cmd: body.cmd, outcome })
        };
        out.push(event(header, device, Some(took(header)), data));
    }

    pub(in crate::event) fn data_release(
        &mut self,
        header: &Header,
        body: wire::DataRelease,
        out: &mut Vec<VfioEvent>,
    ) {
        self.release_held(header.tid, out);
        self.left_request(header, out);
        let device = self.devices.get(header.device);
        let Some(session) = self.sessions.close(header.file, header.device, device.clone()) else { return };
        let account = session.account(u64::try_from(body.pos).ok(), header.end_ns);
        out.push(event(header, session.device.or(device), None, EventData::DataClose(account)));
    }
}
