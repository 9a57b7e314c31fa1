//! Recordings with checksums that are right and with anything in them: what a recorder would never write.

use std::fs::File;

use bytes::Bytes;
use serde_json::{Value, json};
use vfio_trace::{
    event::{ClockAnchor, ProbeReport, TraceStart},
    recording::{
        BlockItem, ClockSample, DriverFacts, EndReason, LayoutMember, PartEnd, PartHeader, PartWriter,
        ReaderEntry, RecordingReader, SCHEMA,
    },
};
use vfio_trace_common::{
    role::Role,
    uapi,
    wire::{self, Kind},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::tool::testdata;

const HEADER: usize = size_of::<wire::Header>();

/// A header like that of a real recording.
pub(crate) fn header(recording: &str, host: Option<&str>) -> PartHeader {
    PartHeader {
        schema: SCHEMA.to_owned(),
        wire_version: wire::VERSION,
        byte_order: PartHeader::byte_order().to_owned(),
        recording: recording.to_owned(),
        part: 1,
        boot_id: Some(recording.to_owned()),
        began_ns: 1_000_000,
        part_began_ns: 1_000_000,
        start: TraceStart {
            version: "0.1.0".to_owned(),
            replayed_by: None,
            kernel: "6.12.0".to_owned(),
            machine: "x86_64".to_owned(),
            host: host.map(str::to_owned),
            command: vec!["vfio-trace".to_owned()],
            clock: ClockAnchor { mono_ns: 0, real_ns: 1_795_362_020_000_000_000 },
            probes: Vec::new(),
        },
        clock: ClockSample::default(),
        settled_ticks: true,
        gaps_told: true,
        drivers: Vec::new(),
        layout: Vec::new(),
    }
}

/// A whole recording of some items.
pub(crate) fn recording(header: &PartHeader, items: &[BlockItem]) -> Vec<u8> {
    let mut writer = PartWriter::new(Vec::new(), header).unwrap();
    let end =
        items.iter().find_map(|item| if let BlockItem::End(end) = item { Some(end.clone()) } else { None });
    for item in items.iter().filter(|item| !matches!(item, BlockItem::End(_))) {
        writer.push(item).unwrap();
    }
    let signal =
        PartEnd { mono_ns: 60_000_000_000, reason: EndReason::Signal, records: 0, probes: Vec::new() };
    writer.finish(end.unwrap_or(signal)).unwrap().0
}

/// The records and times of a real recording.
pub(crate) fn real(name: &str) -> Vec<BlockItem> {
    let mut reader = RecordingReader::open(File::open(testdata(name)).unwrap()).unwrap();
    let mut items = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            ReaderEntry::Item(BlockItem::End(_)) => {},
            ReaderEntry::Item(item) => items.push(item),
            ReaderEntry::Part(_) | ReaderEntry::Damage(_) => panic!("{name} is one part"),
        }
    }
    items
}

/// A real recording, to which its host has added that its wall clock was set `ahead_ns` forward after all of that, and that
/// a device was opened.
pub(crate) fn set_afterwards(name: &str, ahead_ns: u64) -> Vec<u8> {
    const LATER: u64 = 20_000_000_000;
    let header = RecordingReader::open(File::open(testdata(name)).unwrap()).unwrap().header().clone();
    let mut items = real(name);
    let kind = |item: &BlockItem| {
        if let BlockItem::Record(bytes) = item { vfio_trace::event::WireRecord::kind(bytes) } else { None }
    };
    let open = items.iter().rfind(|item| kind(item) == Some(Kind::Open)).unwrap().clone();
    let last = items.iter().rfind(|item| matches!(item, BlockItem::Clock(_))).unwrap().clone();
    let (BlockItem::Record(bytes), BlockItem::Clock(clock)) = (open, last) else { panic!("as found") };
    for later in [LATER, 2 * LATER] {
        items.push(BlockItem::Clock(ClockSample {
            mono_ns: clock.mono_ns + later,
            boot_ns: clock.boot_ns + later,
            real_ns: clock.real_ns + later + ahead_ns,
            ..clock
        }));
    }
    let (mut head, _) = wire::Header::read_from_prefix(&bytes).unwrap();
    (head.start_ns, head.end_ns) = (clock.mono_ns + 3 * LATER, clock.mono_ns + 3 * LATER);
    let mut bytes = bytes.to_vec();
    bytes[..HEADER].copy_from_slice(head.as_bytes());
    items.push(BlockItem::Record(bytes.into()));
    let end = PartEnd {
        mono_ns: clock.mono_ns + 4 * LATER,
        reason: EndReason::Signal,
        records: 0,
        probes: Vec::new(),
    };
    items.push(BlockItem::End(end));
    recording(&header, &items)
}

/// Numbers that look like any and are the same each time.
pub(crate) struct SeededRandom(u64);

impl SeededRandom {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// splitmix64.
    const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, most: u64) -> u64 {
        self.roll() % most
    }

    const fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn time(&mut self) -> u64 {
        match self.below(8) {
            0 => self.of(&[0, 1, u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64]),
            1 => self.roll(),
            _ => self.below(60_000_000_000),
        }
    }

    fn word(&mut self) -> u32 {
        match self.below(10) {
            0 => self.of(&[u32::MAX, 1 << 31, i32::MAX as u32]),
            1 => self.roll() as u32,
            2 => -(self.of(&[1i32, 5, 12, 22, 24, 42, 4095])) as u32,
            _ => self.below(8) as u32,
        }
    }

    fn name(&mut self) -> String {
        match self.below(8) {
            0 => "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m".to_owned(),
            1 => "a\0b\u{7f}\u{85}FORGED\u{2028}FORGED".to_owned(),
            2 => "x\nFORGED\r".repeat(410),
            3 => String::new(),
            4 => "../../../etc/passwd/..".to_owned(),
            5 => "\"><script>alert(1)</script>=cmd|' /C calc'!A0,\"".to_owned(),
            6 => format!("{}\u{e0041}\u{feff}", "\u{202e}\u{2066}gnp.exe".repeat(4)),
            _ => "\u{1b}[2J\u{202e}x\u{2066}\r\nFORGED\u{2028}FORGED\u{85}FORGED\u{200f}\u{e0041}".to_owned(),
        }
    }

    /// Bytes of a field of a fixed size, ended within a character or not at all.
    fn fill(&mut self, field: &mut [u8]) {
        field.fill(0);
        let name = self.name().replace('\0', "\u{1}");
        let bytes = if self.once_in(8) { &b"\xff\xfe\x9b\xc2"[..] } else { name.as_bytes() };
        let len = bytes.len().min(field.len());
        field[..len].copy_from_slice(&bytes[..len]);
    }

    fn probe(&mut self) -> ProbeReport {
        let count = |dice: &mut Self| dice.of(&[0, 0, 1, u64::MAX]);
        ProbeReport {
            name: self.name(),
            role: self.of(&[Role::Read, Role::SetState, Role::Step, Role::DeviceIoctl]),
            module: (!self.once_in(3)).then(|| self.name()),
            attached: !self.once_in(3),
            reason: self.once_in(2).then(|| self.name()),
            hits: count(self),
            records: count(self),
            lost: count(self),
            missed: (!self.once_in(3)).then(|| count(self)),
            unmatched: count(self),
            no_room: count(self),
        }
    }

    pub(crate) fn header(&mut self) -> PartHeader {
        let recording = format!("{}{}", self.name(), self.roll());
        let mut header = header(&recording, None);
        header.boot_id = self.once_in(2).then(|| self.name());
        (header.began_ns, header.part_began_ns) = (self.time(), self.time());
        header.part = self.of(&[0, 1, 1, 1, u32::MAX]);
        header.start = TraceStart {
            version: self.name(),
            replayed_by: self.once_in(2).then(|| self.name()),
            kernel: self.name(),
            machine: self.name(),
            host: (!self.once_in(4)).then(|| self.name()),
            command: (0..self.below(4)).map(|_| self.name()).collect(),
            clock: ClockAnchor { mono_ns: self.time(), real_ns: self.time() },
            probes: (0..self.below(4)).map(|_| self.probe()).collect(),
        };
        header.clock = self.clock();
        header.drivers =
            vec![DriverFacts { module: Some(self.name()), functions: vec![(self.name(), self.name())] }];
        header.layout = vec![LayoutMember { path: self.name(), offset_bytes: Some(self.word()) }];
        (header.settled_ticks, header.gaps_told) = (self.once_in(2), self.once_in(2));
        header
    }

    fn clock(&mut self) -> ClockSample {
        ClockSample {
            mono_ns: self.time(),
            boot_ns: self.time(),
            real_ns: self.time(),
            tai_ns: self.once_in(2).then(|| self.time()),
            error_ns: self.time(),
            utc_error_ns: self.once_in(2).then(|| self.time()),
        }
    }

    /// An item that is no record.
    fn other(&mut self) -> BlockItem {
        match self.below(3) {
            0 => BlockItem::Tick(self.time()),
            1 => BlockItem::Clock(self.clock()),
            _ => BlockItem::Probes(vec![self.probe(), self.probe()]),
        }
    }

    pub(crate) fn end(&mut self) -> BlockItem {
        let reason = self.of(&[EndReason::Rotated, EndReason::Command, EndReason::Failed, EndReason::Other]);
        let probes = (0..3).map(|_| self.probe()).collect();
        BlockItem::End(PartEnd { mono_ns: self.time(), reason, records: self.time(), probes })
    }

    /// An end with as many losses as there are numbers for.
    pub(crate) fn counters(&mut self) -> BlockItem {
        let most = |dice: &mut Self, role| ProbeReport {
            role,
            attached: true,
            hits: u64::MAX,
            records: u64::MAX,
            lost: u64::MAX,
            missed: Some(u64::MAX),
            unmatched: u64::MAX,
            no_room: u64::MAX,
            ..dice.probe()
        };
        let probes = [Role::Read, Role::Read, Role::SetState].map(|role| most(self, role)).to_vec();
        BlockItem::End(PartEnd { mono_ns: u64::MAX, reason: EndReason::Signal, records: u64::MAX, probes })
    }

    /// Any record, of few devices, files and threads, so that they meet.
    fn record(&mut self) -> Vec<u8> {
        let kinds =
            [1u16, 2, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 32, 99];
        let kind = self.of(&kinds);
        let mut body: Vec<u8> = (0..self.of(&[2, 4, 6, 10, 12, 22, 48, 66, 104]))
            .flat_map(|_| self.word().to_ne_bytes())
            .collect();
        if Kind::from_raw(kind) == Some(Kind::Device) {
            body.resize(size_of::<wire::Device>(), 0);
            self.fill(&mut body[..wire::NAME_LEN]);
            self.fill(&mut body[wire::NAME_LEN..wire::NAME_LEN + wire::DRIVER_LEN]);
            if self.once_in(2) {
                body[wire::NAME_LEN..wire::NAME_LEN + 18].copy_from_slice(b"hisi_acc_vfio_pci\0");
            }
            body[168..172].copy_from_slice(&self.of(&[0x7fu32, 0x7f, 0x3f, 0, u32::MAX]).to_ne_bytes());
        }
        if Kind::from_raw(kind) == Some(Kind::Ioctl) {
            let cmd =
                self.of(&[uapi::VFIO_DEVICE_FEATURE, uapi::VFIO_DEVICE_FEATURE, uapi::VFIO_DEVICE_RESET, 7]);
            body[..4].copy_from_slice(&cmd.to_ne_bytes());
        }
        self.with_header(kind, &body)
    }

    fn with_header(&mut self, kind: u16, body: &[u8]) -> Vec<u8> {
        let mut comm = [0; wire::COMM_LEN];
        self.fill(&mut comm);
        let whole = (HEADER + body.len()) as u16;
        let head = wire::Header {
            len: if self.once_in(30) { self.roll() as u16 } else { whole },
            kind,
            probe: self.below(4) as u16,
            cpu: self.roll() as u16,
            tgid: self.word(),
            tid: self.below(4) as u32,
            start_ns: self.time(),
            end_ns: self.time(),
            device: self.below(4),
            file: self.below(4),
            comm,
        };
        [head.as_bytes(), body].concat()
    }

    fn note(&mut self) -> Vec<u8> {
        let fields: Vec<Value> = (0..self.below(4))
            .map(|_| {
                json!({"path": self.name(), "offset": self.word(), "size": self.below(9), "count": self.word(),
                       "signed": self.once_in(2), "secret": self.once_in(2)})
            })
            .collect();
        let note = match self.below(4) {
            0 => {
                json!({"note": "function", "probe": self.below(4), "function": self.name(), "module": self.name(),
                        "returns": "int", "params": self.word()})
            },
            1 => {
                json!({"note": "capture", "driver": self.below(4), "id": self.below(4), "module": self.name(),
                        "name": self.name(), "structure": self.name(), "fields": fields})
            },
            2 => json!({"note": "probe_gap", "module": self.name(),
                        "functions": [{"function": self.name(), "role": "set_state"}],
                        "from_mono_ns": self.time(), "from_exact": self.once_in(2),
                        "until_mono_ns": self.time(), "why": "module_loaded"}),
            _ => json!({"note": self.name()}),
        };
        self.with_header(Kind::Note as u16, note.to_string().as_bytes())
    }

    /// Images of structures whose members claim to have as many elements as there are numbers, of a size that is none.
    pub(crate) fn images(&mut self) -> Vec<BlockItem> {
        let mut items = Vec::new();
        for (id, size) in [0, 1, 8, 9, u32::MAX].into_iter().enumerate() {
            let fields = [json!({"path": "x", "offset": 0, "size": size, "count": u32::MAX,
                                 "signed": false, "secret": id % 2 == 0})];
            let note = json!({"note": "capture", "driver": 5, "id": id, "module": "m", "name": "n",
                              "structure": "s", "fields": fields});
            let mut body = [0; 32 + wire::CAPTURE_LEN];
            let words = [id as u32, 1, 0, 0, wire::CAPTURE_LEN as u32].map(u32::to_ne_bytes).concat();
            body[..20].copy_from_slice(&words);
            body[24..32].copy_from_slice(&5u64.to_ne_bytes());
            for (kind, body) in [(Kind::Note, note.to_string().as_bytes()), (Kind::Capture, &body)] {
                items.push(BlockItem::Record(self.with_header(kind as u16, body).into()));
            }
        }
        items
    }

    /// Records of all kinds with anything in them.
    pub(crate) fn anything(&mut self, count: usize) -> Vec<BlockItem> {
        (0..count)
            .map(|_| match self.below(12) {
                0 => self.other(),
                1 => BlockItem::Record(self.note().into()),
                2 => BlockItem::Repeated(self.record().into()),
                _ => BlockItem::Record(self.record().into()),
            })
            .collect()
    }

    /// Disguises what really happened: by others and at other times.
    pub(crate) fn disguised(&mut self, items: Vec<BlockItem>, times: bool) -> Vec<BlockItem> {
        let (mut all, drivers) = (Vec::new(), self.once_in(2));
        for item in items {
            if self.once_in(10) {
                all.push(self.other());
            }
            let BlockItem::Record(bytes) = item else { continue };
            all.push(BlockItem::Record(self.disguise(&bytes, times, drivers).into()));
        }
        all
    }

    fn disguise(&mut self, bytes: &Bytes, times: bool, drivers: bool) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let (mut head, _) = wire::Header::read_from_prefix(&bytes).unwrap();
        self.fill(&mut head.comm);
        if times {
            (head.start_ns, head.end_ns) = match self.below(4) {
                // Backwards from the end.
                0 => (u64::MAX - head.start_ns, u64::MAX - head.end_ns),
                1 => (head.end_ns, head.start_ns),
                _ => (head.start_ns, self.time()),
            };
        }
        match Kind::from_raw(head.kind) {
            Some(Kind::Device) => {
                // The same for the same device, so that its history is one.
                let mut own = Self::new(head.device);
                own.fill(&mut bytes[HEADER..HEADER + wire::NAME_LEN]);
                if drivers {
                    self.fill(
                        &mut bytes[HEADER + wire::NAME_LEN..HEADER + wire::NAME_LEN + wire::DRIVER_LEN],
                    );
                }
            },
            Some(Kind::Note) => {
                let mut note: Value = serde_json::from_slice(&bytes[HEADER..]).unwrap();
                for field in ["function", "module", "name", "structure"] {
                    if note.get(field).is_some() && self.once_in(2) {
                        note[field] = self.name().into();
                    }
                }
                bytes.truncate(HEADER);
                bytes.extend(note.to_string().as_bytes());
                head.len = bytes.len() as u16;
            },
            _ => {},
        }
        bytes[..HEADER].copy_from_slice(head.as_bytes());
        bytes
    }

    /// So many data sessions that are begun and never used or ended.
    pub(crate) fn sessions(&mut self, count: u64) -> Vec<BlockItem> {
        let mut all = Vec::new();
        for number in 0..count {
            let body: Vec<u8> = [4u32, 0].iter().flat_map(|word| word.to_ne_bytes()).chain([0; 40]).collect();
            let mut bytes = self.with_header(Kind::SetState as u16, &body);
            let (mut head, _) = wire::Header::read_from_prefix(&bytes).unwrap();
            (head.len, head.device, head.file) = ((HEADER + body.len()) as u16, number % 7, 0x1000 + number);
            (head.start_ns, head.end_ns) = (number * 1000, number * 1000 + 10);
            bytes[..HEADER].copy_from_slice(head.as_bytes());
            all.push(BlockItem::Record(bytes.into()));
            all.push(BlockItem::Record(self.record().into()));
        }
        all
    }

    /// So many devices, all with names that hurt.
    pub(crate) fn devices(&mut self, count: u64) -> Vec<BlockItem> {
        let mut all = Vec::new();
        for number in 0..count {
            let mut body = vec![0; size_of::<wire::Device>()];
            let name = format!("{number}\u{1b}[31m\u{202e}\nFORGED");
            body[..name.len()].copy_from_slice(name.as_bytes());
            self.fill(&mut body[wire::NAME_LEN..wire::NAME_LEN + wire::DRIVER_LEN]);
            body[96] = 7;
            body[104] = 1;
            body[168] = 0x7f;
            body[172] = (number % 9) as u8;
            let mut bytes = self.with_header(Kind::Device as u16, &body);
            let (mut head, _) = wire::Header::read_from_prefix(&bytes).unwrap();
            (head.len, head.device) = ((HEADER + body.len()) as u16, 0x1000 + number);
            (head.start_ns, head.end_ns) = (number, number);
            bytes[..HEADER].copy_from_slice(head.as_bytes());
            all.push(BlockItem::Record(bytes.into()));
        }
        all
    }
}
