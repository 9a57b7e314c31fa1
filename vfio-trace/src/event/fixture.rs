//! Test data: scripted records, as a kernel would send them, and whole migrations as QEMU drives them.

use proptest::prelude::*;
use vfio_trace_common::{
    role::Role,
    uapi,
    wire::{self, COMM_LEN, Header, Kind, device_known},
};
use zerocopy::IntoBytes as _;

use super::{
    Assembler, Body, CaptureNote, Event, FunctionNote, GapCause, GapFunction, MigState, Note, ProbeGap,
    Record,
};
use crate::kernel::{FieldPlace, Returns};

pub(crate) const UUID: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const BDF: &str = "0000:75:00.1";
/// Anchor of the golden files: mono 0 is this time.
pub(crate) const ANCHOR: super::ClockAnchor =
    super::ClockAnchor { mono_ns: 0, real_ns: 1_795_362_020_000_000_000 };

pub(crate) const STOP: u32 = MigState::STOP.0;
pub(crate) const RUNNING: u32 = MigState::RUNNING.0;
pub(crate) const STOP_COPY: u32 = MigState::STOP_COPY.0;
pub(crate) const RESUMING: u32 = MigState::RESUMING.0;
pub(crate) const RUNNING_P2P: u32 = MigState::RUNNING_P2P.0;
pub(crate) const PRE_COPY: u32 = MigState::PRE_COPY.0;
pub(crate) const PRE_COPY_P2P: u32 = MigState::PRE_COPY_P2P.0;

/// Writes records: a device, a thread and a clock that calls move on.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    device: u64,
    tgid: u32,
    tid: u32,
    comm: &'static str,
    pub(crate) now: u64,
    records: Vec<Record>,
}

impl Script {
    /// On the device at this address, by QEMU's main thread.
    pub(crate) fn new(device: u64) -> Self {
        Self { device, tgid: 412, tid: 412, comm: "qemu-system-x86", now: 1_000_000, records: Vec::new() }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.clone()
    }

    /// Time passes.
    pub(crate) fn wait(mut self, ns: u64) -> Self {
        self.now += ns;
        self
    }

    /// Time passes until `ns`, which is not over yet.
    pub(crate) fn until(mut self, ns: u64) -> Self {
        assert!(self.now <= ns, "{} is over at {}", ns, self.now);
        self.now = ns;
        self
    }

    /// From now on another thread.
    pub(crate) fn thread(mut self, tgid: u32, tid: u32) -> Self {
        (self.tgid, self.tid) = (tgid, tid);
        self
    }

    /// From now on another device.
    pub(crate) fn on(mut self, device: u64) -> Self {
        self.device = device;
        self
    }

    /// All files so far are others: two scripts that go together must not share any.
    pub(crate) fn other_files(mut self) -> Self {
        for record in self.records.iter_mut().filter(|record| record.header.file != 0) {
            record.header.file += 0x1000;
        }
        self
    }

    /// Takes out the last record: it was lost.
    pub(crate) fn lose(mut self) -> Self {
        self.records.pop();
        self
    }

    fn header(&self, kind: Kind, start_ns: u64, file: u64) -> Header {
        let mut comm = [0; COMM_LEN];
        comm[..self.comm.len()].copy_from_slice(self.comm.as_bytes());
        Header {
            len: 0,
            kind: kind as u16,
            probe: 1,
            cpu: 0,
            tgid: self.tgid,
            tid: self.tid,
            start_ns,
            end_ns: self.now,
            device: self.device,
            file,
            comm,
        }
    }

    fn add(mut self, kind: Kind, start_ns: u64, file: u64, body: Body) -> Self {
        let mut header = self.header(kind, start_ns, file);
        header.len = u16::try_from(size_of::<Header>() + body_bytes(&body).len()).unwrap();
        self.records.push(Record { header, body });
        self
    }

    /// A call that takes `ns` and starts now.
    fn call(mut self, kind: Kind, ns: u64, file: u64, body: Body) -> Self {
        let start = self.now;
        self.now += ns;
        self.add(kind, start, file, body).wait(1_000)
    }

    /// A device of which neither state nor openers can be read, seen at its open.
    pub(crate) fn device(self, name: &str, driver: &str, flags: u64) -> Self {
        self.device_in(name, driver, flags, Role::Open, None)
    }

    /// A device seen by `role`, with its state and how often it is open if these can be read.
    pub(crate) fn device_in(
        self,
        name: &str,
        driver: &str,
        flags: u64,
        role: Role,
        seen: Option<(u32, u32)>,
    ) -> Self {
        let (state, open_count) = seen.unwrap_or_default();
        let mut body = wire::Device {
            name: [0; wire::NAME_LEN],
            driver: [0; wire::DRIVER_LEN],
            migration_flags: flags,
            mig_ops: u64::from(flags != 0),
            log_ops: u64::from(flags & 2 != 0),
            set_state: 0,
            get_state: 0,
            get_data_size: 0,
            log_start: 0,
            log_stop: 0,
            log_read_and_clear: 0,
            known: device_known::NAME
                | device_known::DRIVER
                | device_known::FLAGS
                | device_known::MIG_OPS
                | device_known::LOG_OPS
                | seen.map_or(0, |_| device_known::STATE | device_known::OPEN_COUNT),
            state,
            seen_by: role as u32,
            open_count,
            open_device: 0,
        };
        body.name[..name.len()].copy_from_slice(name.as_bytes());
        body.driver[..driver.len()].copy_from_slice(driver.as_bytes());
        let now = self.now;
        self.add(Kind::Device, now, 0, Body::Device(body))
    }

    pub(crate) fn open(self, open_count: u32) -> Self {
        self.call(Kind::Open, 80_000, 0, Body::Open(wire::Open { ret: 0, open_count }))
    }

    pub(crate) fn close(self, open_count: u32) -> Self {
        self.call(Kind::Close, 0, 0, Body::Close(wire::Close { open_count, reserved: 0 }))
    }

    pub(crate) fn register(self, ret: i32) -> Self {
        self.call(Kind::Register, 300_000, 0, Body::Register(wire::Registered { ret, reserved: 0 }))
    }

    pub(crate) fn unregister(self) -> Self {
        self.call(Kind::Unregister, 0, 0, Body::Unregister)
    }

    /// The inventory finds the script's thread holding the device.
    pub(crate) fn holder(self, fd: u32) -> Self {
        self.call(Kind::Holder, 0, 0, Body::Holder(wire::Holder { fd, reserved: 0 }))
    }

    /// One `vfio_mig_get_next_state()`.
    pub(crate) fn next(self, current: u32, target: u32, next: u32, ret: i32) -> Self {
        self.call(Kind::NextState, 500, 0, Body::NextState(wire::NextState { current, target, next, ret }))
    }

    /// The driver's `set_state`, entered at `start`, returns now.
    pub(crate) fn set_state(self, start: u64, target: u32, ret: i32, file: u64) -> Self {
        let body = wire::SetState { target, ret, f_op: 0, read: 0, write: 0, unlocked_ioctl: 0, release: 0 };
        self.add(Kind::SetState, start, file, Body::SetState(body)).wait(3_000)
    }

    /// VFIO_DEVICE_FEATURE, entered at `start`, returns now.
    pub(crate) fn feature(
        self,
        start: u64,
        flags: u32,
        ret: i32,
        data_in: [u64; 4],
        data_out: [u64; 4],
    ) -> Self {
        let body = wire::Ioctl {
            cmd: uapi::VFIO_DEVICE_FEATURE,
            ret,
            argsz: 16,
            flags,
            data_in,
            data_out,
            unread: 0,
            late: 0,
        };
        self.add(Kind::Ioctl, start, 0, Body::Ioctl(body)).wait(2_000)
    }

    /// What the last ioctl's program could not read (`Ioctl::unread`), or only at return (`Ioctl::late`).
    pub(crate) fn unread(mut self, unread: u32, late: u32) -> Self {
        let Some(Record { body: Body::Ioctl(body), .. }) = self.records.last_mut() else {
            panic!("no ioctl")
        };
        (body.unread, body.late) = (unread, late);
        for word in (0..4).filter(|word| unread & 1 << word != 0) {
            body.data_in[word] = 0;
        }
        for word in (0..4).filter(|word| unread & 0x10 << word != 0) {
            body.data_out[word] = 0;
        }
        self
    }

    /// The ioctl around a request to change the state.
    pub(crate) fn set_ioctl(self, start: u64, target: u32, ret: i32, fd: i32) -> Self {
        let flags = uapi::FEATURE_MIG_DEVICE_STATE | uapi::FEATURE_SET;
        let mut word = [0; 8];
        word[..4].copy_from_slice(&target.to_ne_bytes());
        let input = u64::from_ne_bytes(word);
        word[4..].copy_from_slice(&fd.to_ne_bytes());
        self.feature(start, flags, ret, [input, 0, 0, 0], [u64::from_ne_bytes(word), 0, 0, 0])
    }

    /// The driver's part of a request along `path`, which starts with the current state; each arc takes 100 µs.
    /// The last arc fails with `ret`, if that is not 0.
    pub(crate) fn walk(mut self, path: &[u32], ret: i32, file: u64) -> Self {
        let start = self.now;
        let target = *path.last().unwrap();
        self = self.wait(1_000);
        for step in path.windows(2) {
            self = self.next(step[0], target, step[1], 0).wait(100_000);
        }
        self.set_state(start, target, ret, file)
    }

    /// A whole request of user space, that works.
    pub(crate) fn set(self, path: &[u32], file: u64, fd: i32) -> Self {
        let start = self.now;
        self.wait(1_000).walk(path, 0, file).set_ioctl(start, *path.last().unwrap(), 0, fd)
    }

    /// A request that fails with its last arc.
    pub(crate) fn set_fails(self, path: &[u32], ret: i32) -> Self {
        let start = self.now;
        self.wait(1_000).walk(path, ret, 0).set_ioctl(start, *path.last().unwrap(), ret, -1)
    }

    /// A request whose arcs work, but for the new session there is no fd left (EMFILE).
    pub(crate) fn set_without_fd(self, path: &[u32], file: u64) -> Self {
        let start = self.now;
        self.wait(1_000).walk(path, 0, file).release(file, 0).set_ioctl(start, *path.last().unwrap(), -24, -1)
    }

    pub(crate) fn driver_get_state(self, state: u32) -> Self {
        let start = self.now;
        self.wait(400).got_state(start, state)
    }

    /// The driver's `get_state`, entered at `start`, returns now.
    pub(crate) fn got_state(self, start: u64, state: u32) -> Self {
        self.add(Kind::GetState, start, 0, Body::GetState(wire::GetState { state, ret: 0 })).wait(1_000)
    }

    pub(crate) fn get_state(self, state: u32) -> Self {
        let start = self.now;
        let flags = uapi::FEATURE_MIG_DEVICE_STATE | uapi::FEATURE_GET;
        let mut word = [0xff; 8];
        word[..4].copy_from_slice(&state.to_ne_bytes());
        let out = [u64::from_ne_bytes(word), 0, 0, 0];
        self.wait(700).driver_get_state(state).feature(start, flags, 0, [0; 4], out)
    }

    pub(crate) fn data_size(self, bytes: u64) -> Self {
        let start = self.now;
        let body = wire::DataSize { stop_copy_length: bytes, ret: 0, unread: 0 };
        self.wait(900).call(Kind::DataSize, 5_000, 0, Body::DataSize(body)).feature(
            start,
            uapi::FEATURE_MIG_DATA_SIZE | uapi::FEATURE_GET,
            0,
            [0; 4],
            [bytes, 0, 0, 0],
        )
    }

    pub(crate) fn reset(self, ret: i32) -> Self {
        let start = self.now;
        self.wait(2_000_000).was_reset(start, ret)
    }

    /// VFIO_DEVICE_RESET, entered at `start`, returns now.
    pub(crate) fn was_reset(self, start: u64, ret: i32) -> Self {
        let body = wire::Ioctl {
            cmd: uapi::VFIO_DEVICE_RESET,
            ret,
            argsz: 0,
            flags: 0,
            data_in: [0; 4],
            data_out: [0; 4],
            unread: 0,
            late: 0,
        };
        self.add(Kind::Ioctl, start, 0, Body::Ioctl(body)).wait(1_000)
    }

    pub(crate) fn read(self, file: u64, requested: u64, ret: i64, pos: i64) -> Self {
        self.call(Kind::Read, 9_100, file, Body::Read(wire::DataIo { requested, ret, pos }))
    }

    pub(crate) fn write(self, file: u64, ret: i64, pos: i64) -> Self {
        let requested = u64::try_from(ret).unwrap_or(64);
        self.call(Kind::Write, 12_000, file, Body::Write(wire::DataIo { requested, ret, pos }))
    }

    pub(crate) fn data_ioctl(
        self,
        file: u64,
        cmd: u32,
        ret: i32,
        initial_bytes: u64,
        dirty_bytes: u64,
    ) -> Self {
        let body = wire::PrecopyInfo {
            cmd,
            ret,
            argsz: 24,
            flags: 0,
            initial_bytes,
            dirty_bytes,
            unread: 0,
            reserved: 0,
        };
        self.call(Kind::PrecopyInfo, 2_300, file, Body::PrecopyInfo(body))
    }

    pub(crate) fn precopy_info(self, file: u64, initial_bytes: u64, dirty_bytes: u64) -> Self {
        self.data_ioctl(file, uapi::VFIO_MIG_GET_PRECOPY_INFO, 0, initial_bytes, dirty_bytes)
    }

    pub(crate) fn release(self, file: u64, pos: i64) -> Self {
        self.call(Kind::DataRelease, 0, file, Body::DataRelease(wire::DataRelease { pos }))
    }

    /// User space tells what it knows.
    pub(crate) fn note(self, note: Note) -> Self {
        let now = self.now;
        self.add(Kind::Note, now, 0, Body::Note(note))
    }

    /// A function that a plug-in asked for; the note says which one probe 1 is.
    pub(crate) fn step(self, ns: u64, ret: u64, args: [u64; wire::STEP_ARGS]) -> Self {
        let within = Role::SetState as u32;
        self.call(Kind::Step, ns, 0, Body::Step(wire::Step { ret, args, within, reserved: 0 }))
    }

    /// The PCI core resets the device.
    pub(crate) fn pci_reset(self, ret: i32, how: u32) -> Self {
        self.call(Kind::PciReset, 100_000_000, 0, Body::PciReset(wire::PciReset { ret, how }))
    }

    /// What the ioctl entered at `start` asks to be logged.
    pub(crate) fn log_ranges(self, start: u64, asked: u32, kept: &[[u64; 2]]) -> Self {
        let mut body = wire::LogRanges { asked, kept: kept.len() as u32, ranges: [[0; 2]; wire::LOG_RANGES] };
        body.ranges[..kept.len()].copy_from_slice(kept);
        self.add(Kind::LogRanges, start, 0, Body::LogRanges(Box::new(body)))
    }

    /// What the ioctl entered at `start` found.
    pub(crate) fn log_dirty(self, start: u64, pages: u64) -> Self {
        self.add(Kind::LogDirty, start, 0, Body::LogDirty(wire::LogDirty { pages }))
    }

    /// All of it through a fresh assembler, to the end.
    pub(crate) fn events(&self) -> Vec<Event> {
        assemble(&self.records)
    }
}

/// Records through a fresh assembler, to the end.
pub(crate) fn assemble(records: &[Record]) -> Vec<Event> {
    let mut assembler = Assembler::new();
    let mut events: Vec<Event> = records.iter().flat_map(|record| assembler.push(record)).collect();
    events.extend(assembler.finish());
    events
}

/// The source of a migration, as QEMU drives a device with PRE_COPY and P2P; 412 is QEMU, 415 its migration thread.
pub(crate) fn source() -> Script {
    const FILE: u64 = 0xf11e;
    let logging = uapi::FEATURE_DMA_LOGGING_START;
    let mut script = Script::new(0xd1).device(UUID, "mtty", 7).open(1).wait(40_000);
    let start = script.now;
    script = script
        .wait(900)
        .feature(start, uapi::FEATURE_MIGRATION | uapi::FEATURE_GET, 0, [0; 4], [7, 0, 0, 0])
        .feature(start + 1_500, logging | uapi::FEATURE_PROBE, 0, [0; 4], [0; 4])
        .wait(100_000_000)
        .thread(412, 415)
        .data_size(1 << 20)
        .set(&[RUNNING, PRE_COPY], FILE, 31)
        .precopy_info(FILE, 24, 0);
    let start = script.now;
    script = script
        .wait(30_000)
        .feature(start, logging | uapi::FEATURE_SET, 0, [4096, 2, 0x7f00, 0], [4096, 2, 0x7f00, 0])
        .wait(2_000_000)
        .read(FILE, 1 << 20, 24, 0)
        .read(FILE, 1 << 20, -42, 24)
        .wait(300_000_000)
        .precopy_info(FILE, 0, 0)
        .thread(412, 412)
        .set(&[PRE_COPY, PRE_COPY_P2P], 0, -1)
        .wait(400_000)
        .set(&[PRE_COPY_P2P, STOP_COPY], 0, -1)
        .thread(412, 419)
        .wait(50_000)
        .read(FILE, 1 << 20, 1 << 20, 24)
        .read(FILE, 1 << 20, 512, 24 + (1 << 20))
        .read(FILE, 1 << 20, 0, 24 + (1 << 20) + 512)
        .thread(412, 412)
        .wait(20_000_000)
        .set(&[STOP_COPY, STOP], 0, -1)
        .release(FILE, 24 + (1 << 20) + 512);
    let start = script.now;
    script
        .wait(10_000)
        .feature(start, uapi::FEATURE_DMA_LOGGING_STOP | uapi::FEATURE_SET, 0, [0; 4], [0; 4])
        .close(1)
}

/// The destination of the same migration.
pub(crate) fn destination() -> Script {
    const FILE: u64 = 0xf22e;
    Script::new(0xd2)
        .device(BDF, "hisi_acc_vfio_pci", 7)
        .thread(777, 777)
        .open(1)
        .set(&[RUNNING, RUNNING_P2P, STOP, RESUMING], FILE, 40)
        .wait(1_000_000)
        .write(FILE, 24, 0)
        .wait(300_000_000)
        .thread(777, 780)
        .write(FILE, 1 << 20, 24)
        .write(FILE, 512, 24 + (1 << 20))
        .thread(777, 777)
        .set(&[RESUMING, STOP, RUNNING_P2P], 0, -1)
        .release(FILE, 0)
        .wait(200_000)
        .set(&[RUNNING_P2P, RUNNING], 0, -1)
}

fn body_bytes(body: &Body) -> Vec<u8> {
    let bytes = match body {
        Body::Device(body) => body.as_bytes(),
        Body::NextState(body) => body.as_bytes(),
        Body::SetState(body) => body.as_bytes(),
        Body::GetState(body) => body.as_bytes(),
        Body::DataSize(body) => body.as_bytes(),
        Body::Read(body) | Body::Write(body) => body.as_bytes(),
        Body::PrecopyInfo(body) => body.as_bytes(),
        Body::DataRelease(body) => body.as_bytes(),
        Body::Ioctl(body) => body.as_bytes(),
        Body::Open(body) => body.as_bytes(),
        Body::Close(body) => body.as_bytes(),
        Body::Holder(body) => body.as_bytes(),
        Body::Register(body) => body.as_bytes(),
        Body::Unregister => &[],
        Body::LogRanges(body) => body.as_bytes(),
        Body::LogDirty(body) => body.as_bytes(),
        Body::PciReset(body) => body.as_bytes(),
        Body::Module(body) => body.as_bytes(),
        Body::Step(body) => body.as_bytes(),
        Body::Capture(body) => body.as_bytes(),
        Body::Note(note) => return serde_json::to_vec(note).unwrap(),
    };
    bytes.to_vec()
}

/// The record as it is on the wire.
pub(crate) fn bytes(record: &Record) -> Vec<u8> {
    [record.header.as_bytes(), &body_bytes(&record.body)].concat()
}

fn any_state() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0..8u32, 1 => any::<u32>()]
}

fn any_ret() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(0), 1 => Just(-22), 1 => Just(-24), 1 => Just(-42), 1 => any::<i32>()]
}

fn any_body() -> impl Strategy<Value = (Kind, Body)> {
    let io = (
        any::<u64>(),
        prop_oneof![0..100i64, Just(-42), any::<i64>()],
        prop_oneof![-1..100i64, any::<i64>()],
    )
        .prop_map(|(requested, ret, pos)| wire::DataIo { requested, ret, pos });
    prop_oneof![
        3 => (0..3u8, 0..128u32, any::<u64>(), any_state(), 0..16u32).prop_map(
            |(name, known, flags, state, seen_by)| {
                let script = Script::new(1).device(["", "a", "b"][usize::from(name)], "d", flags);
                let Body::Device(body) = script.records[0].body else { panic!("a device") };
                (Kind::Device, Body::Device(wire::Device { known, state, seen_by, ..body }))
            }
        ),
        6 => (any_state(), any_state(), any_state(), any_ret()).prop_map(|(current, target, next, ret)| {
            (Kind::NextState, Body::NextState(wire::NextState { current, target, next, ret }))
        }),
        4 => (any_state(), any_ret()).prop_map(|(target, ret)| {
            let body = wire::SetState { target, ret, f_op: 0, read: 0, write: 0, unlocked_ioctl: 0, release: 0 };
            (Kind::SetState, Body::SetState(body))
        }),
        1 => (any_state(), any_ret())
            .prop_map(|(state, ret)| (Kind::GetState, Body::GetState(wire::GetState { state, ret }))),
        1 => (any::<u64>(), any_ret()).prop_map(|(stop_copy_length, ret)| {
            (Kind::DataSize, Body::DataSize(wire::DataSize { stop_copy_length, ret, unread: 0 }))
        }),
        2 => io.clone().prop_map(|io| (Kind::Read, Body::Read(io))),
        2 => io.prop_map(|io| (Kind::Write, Body::Write(io))),
        1 => (any::<bool>(), any_ret(), any::<u64>(), any::<u64>()).prop_map(|(info, ret, a, b)| {
            let cmd = if info { uapi::VFIO_MIG_GET_PRECOPY_INFO } else { 7 };
            let script = Script::new(1).data_ioctl(1, cmd, ret, a, b);
            (Kind::PrecopyInfo, script.records[0].body.clone())
        }),
        1 => any::<i64>().prop_map(|pos| (Kind::DataRelease, Body::DataRelease(wire::DataRelease { pos }))),
        6 => (any::<bool>(), 0..14u32, 0..8u32, any_ret(), any_state(), any::<[u64; 3]>()).prop_map(
            |(reset, number, op, ret, state, rest)| {
                let cmd = if reset { uapi::VFIO_DEVICE_RESET } else { uapi::VFIO_DEVICE_FEATURE };
                let data_in = [u64::from(state), rest[0], rest[1], rest[2]];
                let body =
                    wire::Ioctl { cmd, ret, argsz: 24, flags: number | op << 16, data_in, data_out: data_in, unread: 0, late: 0 };
                (Kind::Ioctl, Body::Ioctl(body))
            }
        ),
        1 => (any_ret(), any::<u32>())
            .prop_map(|(ret, open_count)| (Kind::Open, Body::Open(wire::Open { ret, open_count }))),
        1 => any::<u32>().prop_map(|fd| (Kind::Holder, Body::Holder(wire::Holder { fd, reserved: 0 }))),
        1 => any_ret()
            .prop_map(|ret| (Kind::Register, Body::Register(wire::Registered { ret, reserved: 0 }))),
        1 => Just((Kind::Unregister, Body::Unregister)),
        1 => any_driver_body(),
        1 => (0..3u32).prop_map(|n| (Kind::Close, Body::Close(wire::Close { open_count: n, reserved: 0 }))),
    ]
}

fn any_driver_body() -> impl Strategy<Value = (Kind, Body)> {
    prop_oneof![
        any::<[u64; 7]>().prop_map(|words| {
            let [ret, args @ .., _, within] = words;
            let [a, b, c, d] = args;
            let within = (within % 20) as u32;
            (Kind::Step, Body::Step(wire::Step { ret, args: [a, b, c, d, 0], within, reserved: 0 }))
        }),
        (any::<u32>(), 0..3u32, any::<u8>()).prop_map(|(len, id, byte)| {
            let (moment, data) = (1 << (len % 12), [byte; wire::CAPTURE_LEN]);
            let body = wire::Capture { id, moment, address: 1, len, failed: len & 1, driver: 5, data };
            (Kind::Capture, Body::Capture(Box::new(body)))
        }),
        (0..4u32, any::<u32>(), any::<[u64; 2]>()).prop_map(|(asked, kept, range)| {
            let body = wire::LogRanges { asked, kept, ranges: [range; wire::LOG_RANGES] };
            (Kind::LogRanges, Body::LogRanges(Box::new(body)))
        }),
        any::<u64>().prop_map(|pages| (Kind::LogDirty, Body::LogDirty(wire::LogDirty { pages }))),
        (any_ret(), 0..2u32)
            .prop_map(|(ret, how)| (Kind::PciReset, Body::PciReset(wire::PciReset { ret, how }))),
        (0..3u32, 0..4u32).prop_map(|(id, size)| (Kind::Note, Body::Note(capture_note(5, id, size)))),
        Just((Kind::Note, Body::Note(function_note(1, "hisi_qm_mb", Returns::Int)))),
        (0..9u64, proptest::option::of(0..9u64))
            .prop_map(|(from, until)| (Kind::Note, Body::Note(gap_note(from, until)))),
    ]
}

/// What the probe in this slot probes.
/// A driver's function that was not probed for a time.
pub(crate) fn gap_note(from_mono_ns: u64, until_mono_ns: Option<u64>) -> Note {
    Note::ProbeGap(ProbeGap {
        module: Some("mtty".to_owned()),
        functions: vec![GapFunction { function: "mtty_set_state".to_owned(), role: Role::SetState }],
        from_mono_ns,
        from_exact: true,
        until_mono_ns,
        why: GapCause::ModuleLoaded,
    })
}

pub(crate) fn function_note(probe: u16, function: &str, returns: Returns) -> Note {
    let module = Some("hisi_qm".to_owned());
    Note::Function(FunctionNote { probe, function: function.to_owned(), module, returns, params: 5 })
}

fn capture_note(driver: u64, id: u32, size: u32) -> Note {
    let place = FieldPlace {
        path: "a.b".to_owned(),
        offset: size,
        size,
        count: size,
        signed: size == 4,
        secret: id == 1,
    };
    let module = "hisi_acc_vfio_pci".to_owned();
    let structure = "s".to_owned();
    Note::Capture(CaptureNote { driver, id, module, name: "n".to_owned(), structure, fields: vec![place] })
}

/// Any record at all, from few threads, devices and files, so that they meet.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let times = prop_oneof![8 => 0..1_000_000_000u64, 1 => any::<u64>()];
    (any_body(), 0..3u32, 0..3u64, 0..3u64, times.clone(), times).prop_map(
        |((kind, body), tid, device, file, start_ns, end_ns)| {
            let mut header = Script::new(device).thread(1, tid).header(kind, start_ns, file);
            header.end_ns = end_ns;
            header.len = u16::try_from(size_of::<Header>() + body_bytes(&body).len()).unwrap();
            Record { header, body }
        },
    )
}
