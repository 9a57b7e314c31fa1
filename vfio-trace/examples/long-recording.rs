//! Writes a recording through the real writer, for `cargo xtask bench`: of one long migration, or of many short ones.
//!
//! `long-recording FILE CALLS`: as many `read()`s as `write()`s of 32 KiB, a fifth of them in PRE_COPY, with times like
//! those of a fast device: 10 to 80 µs a call, now and then 2 ms.
//!
//! `long-recording FILE MIGRATIONS APART_NS PAIRS`: a migration of some 30 ms begins each `APART_NS`, on the next of
//! `PAIRS` sources and destinations, between two new processes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write as _},
};

use bytes::Bytes;
use vfio_trace::{
    event::{ClockAnchor, MigState, TraceStart},
    recording::{BlockItem, ClockSample, EndReason, PartEnd, PartHeader, PartWriter, SCHEMA},
};
use vfio_trace_common::{
    role::Role,
    uapi,
    wire::{self, Kind, device_known},
};
use zerocopy::{Immutable, IntoBytes};

type Failure = Box<dyn std::error::Error>;

const MS: u64 = 1_000_000;
const PIECE: u32 = 32 << 10;
/// A piece is written so much later than it was read.
const WAY_NS: u64 = 150_000;

/// One side: its device, its data fd, its process.
#[derive(Clone, Copy)]
struct Side {
    device: u64,
    file: u64,
    tgid: u32,
    tid: u32,
}

const SOURCE: Side =
    Side { device: 0xffff_8881_0420_0000, file: 0xffff_8881_0920_1100, tgid: 4120, tid: 4133 };
const DESTINATION: Side =
    Side { device: 0xffff_8881_0510_0000, file: 0xffff_8881_0ab0_7700, tgid: 7770, tid: 7791 };

struct Recorder {
    writer: PartWriter<BufWriter<File>>,
    /// State of a small generator of numbers that look like chance.
    seed: u64,
    calls: u64,
    /// Records that wait for those that end before them, where several things go on at once.
    held: Option<BTreeMap<(u64, u64), Bytes>>,
    held_before: u64,
}

impl Recorder {
    /// A number below `most`, the same ones in every run.
    fn chance(&mut self, most: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % most
    }

    fn record(
        &mut self,
        kind: Kind,
        side: &Side,
        file: u64,
        times: (u64, u64),
        body: &(impl IntoBytes + Immutable),
    ) -> Result<(), Failure> {
        let mut comm = [0; wire::COMM_LEN];
        comm[..15].copy_from_slice(b"qemu-system-x86");
        let body = body.as_bytes();
        let header = wire::Header {
            len: u16::try_from(size_of::<wire::Header>() + body.len())?,
            kind: kind as u16,
            probe: kind as u16,
            cpu: u16::try_from(self.chance(8))?,
            tgid: side.tgid,
            tid: side.tid,
            start_ns: times.0,
            end_ns: times.1,
            device: side.device,
            file,
            comm,
        };
        let record = Bytes::from([header.as_bytes(), body].concat());
        match &mut self.held {
            Some(held) => {
                held.insert((times.1, self.held_before), record);
                self.held_before += 1;
            },
            None => self.writer.push(&BlockItem::Record(record))?,
        }
        Ok(())
    }

    /// Writes what has ended by then.
    fn flush(&mut self, until: u64) -> Result<(), Failure> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let later = held.split_off(&(until, 0));
        for record in std::mem::replace(held, later).into_values() {
            self.writer.push(&BlockItem::Record(record))?;
        }
        Ok(())
    }

    fn open(&mut self, side: &Side, now: u64) -> Result<(), Failure> {
        self.record(Kind::Open, side, 0, (now - 50_000, now), &wire::Open { ret: 0, open_count: 1 })
    }

    fn close(&mut self, side: &Side, pos: i64, now: u64) -> Result<(), Failure> {
        self.record(
            Kind::DataRelease,
            side,
            side.file,
            (now - 1_000, now - 1_000),
            &wire::DataRelease { pos },
        )?;
        self.record(Kind::Close, side, 0, (now, now), &wire::Close { open_count: 1, reserved: 0 })
    }

    /// All of a migration from one device to another.
    fn migration(&mut self, from: &Side, to: &Side, bytes: u32, start: u64) -> Result<(), Failure> {
        use MigState as S;
        let (before, pos) = (4_096, i64::from(4_096 + bytes));
        self.open(to, start)?;
        self.open(from, start)?;
        let ready = self.set(to, &[S::RUNNING, S::RUNNING_P2P, S::STOP, S::RESUMING], to.file, start + MS)?;
        let now = self.set(from, &[S::RUNNING, S::PRE_COPY], from.file, start + 2 * MS)?;
        let now = self.io(Kind::Read, from, now, 4_096, 0)?;
        self.io(Kind::Write, to, now.max(ready) + WAY_NS, 4_096, 0)?;
        let now = self.set(from, &[S::PRE_COPY, S::PRE_COPY_P2P], 0, start + 10 * MS)?;
        let now = self.set(from, &[S::PRE_COPY_P2P, S::STOP_COPY], 0, now)?;
        let now = self.io(Kind::Read, from, now, bytes, before)?;
        let over = self.io(Kind::Read, from, now + 2_000, 0, pos)?;
        let now = self.io(Kind::Write, to, now + WAY_NS, bytes, before)?;
        let now = self.set(to, &[S::RESUMING, S::STOP, S::RUNNING_P2P, S::RUNNING], 0, now)?;
        let left = self.set(from, &[S::STOP_COPY, S::STOP], 0, over)?;
        self.close(from, pos, left + MS)?;
        self.close(to, pos, now + MS)
    }

    fn device(&mut self, side: &Side, name: &str, now: u64) -> Result<(), Failure> {
        let mut body = wire::Device {
            name: [0; wire::NAME_LEN],
            driver: [0; wire::DRIVER_LEN],
            migration_flags: 7,
            mig_ops: 1,
            log_ops: 1,
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
                | device_known::LOG_OPS,
            state: 0,
            seen_by: Role::Open as u32,
            open_count: 0,
            open_device: 0,
        };
        body.name[..name.len()].copy_from_slice(name.as_bytes());
        body.driver[..4].copy_from_slice(b"mlx5");
        self.record(Kind::Device, side, 0, (now, now), &body)
    }

    /// A request along a path, 1 ms an arc; gives when it is over.
    fn set(&mut self, side: &Side, path: &[MigState], file: u64, start: u64) -> Result<u64, Failure> {
        let Some(MigState(target)) = path.last().copied() else { return Ok(start) };
        let mut now = start + 2_000;
        for arc in path.windows(2) {
            let body = wire::NextState { current: arc[0].0, target, next: arc[1].0, ret: 0 };
            self.record(Kind::NextState, side, 0, (now, now + 400), &body)?;
            now += MS;
        }
        let body =
            wire::SetState { target, ret: 0, f_op: 0, read: 0, write: 0, unlocked_ioctl: 0, release: 0 };
        self.record(Kind::SetState, side, file, (start + 1_000, now), &body)?;
        let words = |fd: u32| [u64::from(target) | u64::from(fd) << 32, 0, 0, 0];
        let fd = if file == 0 { u32::MAX } else { 31 };
        let body = wire::Ioctl {
            cmd: uapi::VFIO_DEVICE_FEATURE,
            ret: 0,
            argsz: 16,
            flags: uapi::FEATURE_MIG_DEVICE_STATE | uapi::FEATURE_SET,
            data_in: words(0),
            data_out: words(fd),
            unread: 0,
            late: 0,
        };
        self.record(Kind::Ioctl, side, 0, (start, now + 3_000), &body)?;
        Ok(now + 5_000)
    }

    /// One call; gives when it is over.
    fn io(&mut self, kind: Kind, side: &Side, start: u64, bytes: u32, at: i64) -> Result<u64, Failure> {
        let took = if self.chance(5_000) == 0 { 2 * MS } else { 10_000 + self.chance(70_000) };
        let body = wire::DataIo { requested: PIECE.into(), ret: bytes.into(), pos: at };
        self.record(kind, side, side.file, (start, start + took), &body)?;
        self.calls += 1;
        Ok(start + took)
    }

    /// Pieces from one side to the other; gives when the last one is written.
    fn pieces(&mut self, from: u64, to: u64, start: u64) -> Result<u64, Failure> {
        let (mut read, mut written) = (start, start + WAY_NS);
        for piece in from..to {
            let at = i64::try_from(piece * u64::from(PIECE))?;
            read = self.io(Kind::Read, &SOURCE, read + 1_500, PIECE, at)?;
            written = self.io(Kind::Write, &DESTINATION, written.max(read + WAY_NS), PIECE, at)?;
        }
        Ok(written)
    }
}

/// `recording`: what to call it, so that two can be merged.
fn header(recording: &str) -> PartHeader {
    let clock = ClockAnchor { mono_ns: 0, real_ns: 1_795_000_000_000_000_000 };
    PartHeader {
        schema: SCHEMA.to_owned(),
        wire_version: wire::VERSION,
        byte_order: PartHeader::byte_order().to_owned(),
        recording: recording.to_owned(),
        part: 1,
        boot_id: None,
        began_ns: MS,
        part_began_ns: MS,
        start: TraceStart {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            replayed_by: None,
            kernel: "6.12.0".to_owned(),
            machine: "x86_64".to_owned(),
            host: Some("bench".to_owned()),
            command: vec!["long-recording".to_owned()],
            clock,
            probes: Vec::new(),
        },
        clock: ClockSample { real_ns: clock.real_ns, ..ClockSample::default() },
        settled_ticks: true,
        gaps_told: true,
        drivers: Vec::new(),
        layout: Vec::new(),
    }
}

fn write(file: &str, calls: u64) -> Result<u64, Failure> {
    use MigState as S;
    let writer = PartWriter::new(BufWriter::new(File::create(file)?), &header(file))?;
    let mut recorder = Recorder { writer, seed: 1, calls: 0, held: None, held_before: 0 };
    recorder.device(&SOURCE, "0000:81:00.1", 2 * MS)?;
    recorder.device(&DESTINATION, "0000:c1:00.1", 2 * MS)?;
    let now = recorder.set(
        &DESTINATION,
        &[S::RUNNING, S::RUNNING_P2P, S::STOP, S::RESUMING],
        DESTINATION.file,
        3 * MS,
    )?;
    let now = recorder.set(&SOURCE, &[S::RUNNING, S::PRE_COPY], SOURCE.file, now)?;
    let (pieces, before) = (calls / 2, calls / 10);
    let now = recorder.pieces(0, before, now)?;
    let now = recorder.set(&SOURCE, &[S::PRE_COPY, S::PRE_COPY_P2P], 0, now)?;
    let now = recorder.set(&SOURCE, &[S::PRE_COPY_P2P, S::STOP_COPY], 0, now)?;
    let now = recorder.pieces(before, pieces, now)?;
    let now = recorder.io(Kind::Read, &SOURCE, now, 0, i64::try_from(pieces * u64::from(PIECE))?)?;
    let now = recorder.set(&DESTINATION, &[S::RESUMING, S::STOP, S::RUNNING_P2P, S::RUNNING], 0, now)?;
    let now = recorder.set(&SOURCE, &[S::STOP_COPY, S::STOP], 0, now)?;
    let records = recorder.writer.records();
    recorder.writer.finish(PartEnd {
        mono_ns: now,
        reason: EndReason::Command,
        records,
        probes: Vec::new(),
    })?;
    Ok(recorder.calls)
}

/// Sides of a pair: the source if `other` is 0.
fn side(pair: u64, other: u64, migration: u64) -> Result<Side, Failure> {
    let nr = 2 * migration + other;
    let tgid = u32::try_from(10_000 + nr)?;
    Ok(Side {
        device: 0xffff_8881_0000_0000 + ((2 * pair + other) << 12),
        file: 0xffff_8882_0000_0000 + (nr << 8),
        tgid,
        tid: tgid,
    })
}

fn write_many(file: &str, migrations: u64, apart: u64, pairs: u64) -> Result<u64, Failure> {
    let writer = PartWriter::new(BufWriter::new(File::create(file)?), &header(file))?;
    let held = Some(BTreeMap::new());
    let mut recorder = Recorder { writer, seed: 1, calls: 0, held, held_before: 0 };
    for pair in 0..pairs {
        for other in [0, 1] {
            let name = format!("0000:{:02x}:{:02x}.{other}", pair >> 8 & 0xff, pair & 0xff);
            recorder.device(&side(pair, other, 0)?, &name, 2 * MS)?;
        }
    }
    for nr in 0..migrations {
        let start = 5 * MS + nr * apart;
        recorder.flush(start - MS)?;
        let [from, to] = [side(nr % pairs, 0, nr)?, side(nr % pairs, 1, nr)?];
        // Not many have as many bytes.
        let bytes = 8_192 + 8 * u32::try_from(nr % 1_000)?;
        recorder.migration(&from, &to, bytes, start)?;
    }
    recorder.flush(u64::MAX)?;
    let (now, records) = (5 * MS + migrations * apart + 100 * MS, recorder.writer.records());
    recorder.writer.finish(PartEnd {
        mono_ns: now,
        reason: EndReason::Command,
        records,
        probes: Vec::new(),
    })?;
    Ok(recorder.calls)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let calls = match &arguments[..] {
        [file, calls] => write(file, calls.parse()?)?,
        [file, migrations, apart, pairs] => {
            write_many(file, migrations.parse()?, apart.parse()?, pairs.parse()?)?
        },
        _ => return Err("usage: long-recording FILE CALLS | FILE MIGRATIONS APART_NS PAIRS".into()),
    };
    writeln!(io::stdout(), "{calls}")?;
    Ok(())
}
