//! Document for tests: two hosts on one clock, a migration that worked, one that failed, and every value that can be
//! unknown.

use crate::{
    event::{CallOutcome, DataDirection, Errno, FindingSeverity, MigFlags, MigState},
    report::document::{
        ArcSpan, BytesSample, ClockMerge, DOCUMENT_SCHEMA, DOCUMENT_SCHEMA_VERSION, DataSession,
        DeviceConcurrency, DeviceFailure, DeviceMark, DeviceMigration, DirtyLog, DirtyReport, DowntimeBound,
        DowntimeBreakdown, DowntimeStage, HostLosses, Log2Histogram, MarkKind, MergeMethod,
        MigrationDocument, MigrationPhase, MigrationSide, MigrationVerdict, OutsideIssues, PairingReason,
        PartName, PrecopySample, ReportFinding, ReportWarning, SessionEnd, SessionPart, SizeSample,
        SourceRecovery, StageOrder, StageTime, StateRequest, StateSpan, StepSpan, StreamIntegrity,
        StreamTransfer, TracedDevice, TracedHost, VmMigration, VmmProcess,
    },
};

const SOURCE: &str = "0000:75:00.1";
const DESTINATION: &str = "11111111-2222-3333-4444-555555555555";
const FAILED: CallOutcome = CallOutcome::Failed(Errno::EINVAL);

fn host(nr: u32, name: Option<&str>, mono_at_origin_ns: i64) -> TracedHost {
    TracedHost {
        nr,
        name: name.map(str::to_owned),
        label: name.map_or_else(|| format!("host{nr}.vft"), |name| format!("{name}#1")),
        kernel: "6.12.0".to_owned(),
        machine: "aarch64".to_owned(),
        boot_id: name.map(|name| format!("boot-of-{name}")),
        source: format!("host{nr}.vft"),
        traced_by: "0.1.0".to_owned(),
        command: vec!["vfio-trace".to_owned(), "record".to_owned(), "-o=a,b".to_owned()],
        began_ns: u64::from(nr) * 500,
        ended_ns: 9_000_000_001,
        mono_at_origin_ns,
        real_at_origin: "2026-11-22T20:44:33.000000001Z".to_owned(),
        events: 77,
        losses: HostLosses {
            complete: nr == 0,
            lost: Some(3),
            damage: vec!["a block is \"gone\"".to_owned()],
            ..HostLosses::default()
        },
        ..TracedHost::default()
    }
}

/// Makes arcs at these times, each a bit longer than 1 µs, and the states between them.
fn went(path: &[(MigState, MigState, u64)]) -> (Vec<StateSpan>, Vec<ArcSpan>) {
    let mut states = Vec::new();
    let mut since = 1000;
    let arcs = path.iter().map(|&(from, to, start_ns)| {
        let end_ns = start_ns + 1001;
        states.push(StateSpan { state: Some(from), start_ns: since, end_ns: start_ns });
        since = end_ns;
        let duration_ns = Some(1001);
        ArcSpan {
            from,
            to: Some(to),
            target: to,
            start_ns,
            end_ns,
            duration_ns,
            pid: 40,
            tid: 41,
            outcome: CallOutcome::Ok,
        }
    });
    let arcs = arcs.collect();
    states.push(StateSpan { state: None, start_ns: since, end_ns: 9_000_000_001 });
    (states, arcs)
}

fn step(name: &str, tid: u32, start_ns: u64, end_ns: u64) -> StepSpan {
    StepSpan {
        name: name.to_owned(),
        function: (tid == 41).then(|| format!("hisi_{name}")),
        detail: Some("cmd 0x4, \"get\"".to_owned()),
        start_ns,
        end_ns,
        tid,
        outcome: if tid == 41 { FAILED } else { CallOutcome::Unknown },
    }
}

fn source() -> TracedDevice {
    let (states, mut arcs) = went(&[
        (MigState::RUNNING, MigState::PRE_COPY, 10_000),
        (MigState::PRE_COPY, MigState::STOP_COPY, 2_000_000),
        (MigState::STOP_COPY, MigState::STOP, 5_000_000),
    ]);
    // The first was refused by the core; the end of the second was not seen while the next arc was in progress.
    arcs.push(ArcSpan { to: None, outcome: CallOutcome::Refused(Errno::EINVAL), ..arcs[0] });
    arcs.push(ArcSpan {
        start_ns: 10_500,
        end_ns: 12_000,
        duration_ns: None,
        outcome: CallOutcome::Unknown,
        ..arcs[0]
    });
    let request = StateRequest {
        target: MigState::PRE_COPY,
        start_ns: 9_000,
        end_ns: 12_000,
        arcs: 1,
        session: Some(0),
        pid: 40,
        tid: 41,
        comm: "CPU 0,\"KVM\"\n".to_owned(),
        outcome: CallOutcome::Ok,
    };
    let report = |at_ns, dirty_pages| DirtyReport { at_ns, duration_ns: 10, dirty_pages };
    let log = DirtyLog {
        start_ns: 8_000,
        start_duration_ns: 300,
        stop_ns: None,
        stop_duration_ns: None,
        page_size_bytes: Some(4096),
        granted_page_size_bytes: None,
        ranges: Some(2),
        span_bytes: Some(1 << 52),
        reports: 3,
        reports_failed: 1,
        reports_ns: 30,
        dirty_pages: 12,
        reports_uncounted: 1,
        series: vec![report(20_000, Some(12)), report(30_000, None), report(40_000, Some(0))],
        outcome: CallOutcome::Ok,
    };
    TracedDevice {
        nr: 0,
        host: 0,
        name: Some(SOURCE.to_owned()),
        driver: Some("hisi_acc_vfio_pci".to_owned()),
        migration_flags: Some(MigFlags(5)),
        dirty_tracking: Some(true),
        states,
        arcs,
        requests: vec![request],
        // Steps nested, one after the other, of no length, and one of another thread across them.
        steps: vec![
            step("outer", 41, 2_000_100, 2_000_900),
            step("inner", 41, 2_000_100, 2_000_400),
            step("inner", 41, 2_000_400, 2_000_900),
            step("none", 41, 2_000_900, 2_000_900),
            step("other", 77, 2_000_300, 2_001_300),
        ],
        steps_left_out: 2,
        marks: vec![
            DeviceMark {
                kind: MarkKind::Open,
                at_ns: 1000,
                text: "by qemu 40".to_owned(),
                pid: 40,
                outcome: CallOutcome::Ok,
            },
            DeviceMark {
                kind: MarkKind::PciReset,
                at_ns: 6_000_000,
                text: "FLR".to_owned(),
                pid: 0,
                outcome: FAILED,
            },
        ],
        marks_left_out: 0,
        sizes: vec![
            SizeSample { at_ns: 9_500, stop_copy_bytes: Some(u64::MAX) },
            SizeSample { at_ns: 9_600, stop_copy_bytes: None },
        ],
        sizes_left_out: 3,
        dirty_logs: vec![
            log.clone(),
            DirtyLog { start_ns: 7_000, stop_ns: Some(7_100), outcome: FAILED, series: Vec::new(), ..log },
        ],
    }
}

fn destination() -> TracedDevice {
    let (states, arcs) = went(&[
        (MigState::STOP, MigState::RESUMING, 11_000),
        (MigState::RESUMING, MigState::STOP, 5_500_000),
        (MigState::STOP, MigState::RUNNING, 5_600_000),
    ]);
    let name = Some(DESTINATION.to_owned());
    TracedDevice { nr: 1, host: 1, name, states, arcs, ..TracedDevice::default() }
}

fn session(nr: u32, direction: Option<DataDirection>, parts: &[(PartName, u64, u64)]) -> DataSession {
    let histogram = |values: &[u64]| {
        let mut made = Log2Histogram::default();
        for value in values {
            made.add(*value);
        }
        made
    };
    let part = |&(part, first_ns, last_ns): &(PartName, u64, u64)| SessionPart {
        part,
        first_ns,
        last_ns,
        calls: 3,
        empty: 1,
        eof: 0,
        failed: 0,
        bytes: 140,
        blocked_ns: 900,
        busy_ns: 800,
        bytes_per_s: (last_ns > first_ns).then(|| 140 * 1_000_000_000 / (last_ns - first_ns)),
        size_bytes: histogram(&[40, 100]),
        latency_ns: histogram(&[100, 300, 500]),
    };
    DataSession {
        nr,
        device: nr.min(1),
        session: nr + 5,
        direction,
        start_ns: 12_000,
        end_ns: 5_400_000,
        partial: nr == 2,
        end: if nr == 0 { SessionEnd::Eof } else { SessionEnd::Arc },
        errno: (nr == 2).then(|| "EIO".to_owned()),
        bytes: 280,
        missed_bytes: (nr != 2).then_some(0),
        parts: parts.iter().map(part).collect(),
        threads: vec![41, 77],
        concurrent_calls: 2,
        series: vec![
            BytesSample { at_ns: 12_000, bytes: 0 },
            BytesSample { at_ns: 15_000, bytes: 140 },
            BytesSample { at_ns: 5_300_000, bytes: 280 },
        ],
        precopy_info: if nr == 0 {
            let sample =
                |at_ns, initial_bytes, dirty_bytes| PrecopySample { at_ns, initial_bytes, dirty_bytes };
            vec![
                sample(13_000, Some(40), Some(0)),
                sample(14_000, Some(0), None),
                sample(14_500, None, Some(9)),
            ]
        } else {
            Vec::new()
        },
        precopy_info_calls: 3,
        precopy_info_ns: 333,
        calls_after_end: 0,
    }
}

fn downtime(end_ns: u64) -> DowntimeBreakdown {
    let time = |stage, ns| StageTime { stage, share_ns: ns, busy_ns: ns, blurred_ns: 0 };
    DowntimeBreakdown {
        start_ns: 2_000_000,
        end_ns,
        total_ns: end_ns - 2_000_000,
        bound: DowntimeBound::About,
        uncertainty_ns: None,
        why: Some("clocks".to_owned()),
        stages: vec![time(DowntimeStage::Stop, 1000), time(DowntimeStage::Gap, end_ns - 2_001_000)],
    }
}

fn side(device: u32, end_ns: u64) -> MigrationSide {
    MigrationSide {
        device,
        sessions: vec![device],
        start_ns: 10_000,
        end_ns,
        verdict: MigrationVerdict::Completed,
        recovery: None,
        partial: false,
        phases: vec![MigrationPhase {
            name: "PRE_COPY → STOP_COPY".to_owned(),
            arc: true,
            start_ns: 2_000_000,
            end_ns: 2_001_001,
            bytes: 0,
        }],
        failures: Vec::new(),
        findings: Vec::new(),
    }
}

fn warning(device: Option<u32>, at_ns: Option<u64>) -> ReportWarning {
    ReportWarning {
        code: "initial-bytes-left",
        severity: FindingSeverity::Warning,
        device,
        at_ns,
        text: "STOP_COPY began, and 40 bytes were left; \"why\", is not known".to_owned(),
    }
}

fn migration(nr: u32, verdict: MigrationVerdict, devices: Vec<DeviceMigration>) -> VmMigration {
    VmMigration {
        nr,
        verdict,
        recovered: (nr == 1).then_some(true),
        text: format!("migration, {nr}"),
        start_ns: 10_000 + u64::from(nr) * 1_000_000,
        end_ns: 6_000_000,
        source: Some(VmmProcess { host: 0, pid: 40, comm: "qemu".to_owned() }),
        destination: (nr == 0).then(|| VmmProcess { host: 1, pid: 99, comm: "qemu".to_owned() }),
        devices,
        downtime: (nr == 0).then(|| downtime(5_601_001)),
        order: vec![StageOrder {
            stage: DowntimeStage::Save,
            devices: 2,
            sum_ns: 4,
            union_ns: 3,
            longest_ns: 2,
            order: DeviceConcurrency::Mixed,
        }],
        warnings: vec![warning(Some(0), Some(2_000_001)), warning(None, None)],
    }
}

/// Makes the document.
pub(crate) fn document() -> MigrationDocument {
    let moved = DeviceMigration {
        source: Some(side(0, 6_000_000)),
        destination: Some(side(1, 5_700_000)),
        paired_by: Some(PairingReason::StreamBytes),
        verdict: MigrationVerdict::Completed,
        downtime: Some(downtime(5_601_001)),
        stream: StreamTransfer {
            read_bytes: Some(280),
            written_bytes: Some(280),
            integrity: StreamIntegrity::NotKnown,
        },
    };
    let failure = DeviceFailure {
        at_ns: 2_000_901,
        what: "PRE_COPY → STOP_COPY".to_owned(),
        errno: Some("EINVAL".to_owned()),
        step: Some("outer".to_owned()),
        step_errno: None,
    };
    let finding = ReportFinding {
        at_ns: 2_000_902,
        device: 0,
        session: None,
        code: "hisi_acc/mailbox-timeout".to_owned(),
        severity: FindingSeverity::Error,
        step: Some("outer".to_owned()),
        errno: Some("ETIMEDOUT".to_owned()),
        text: "The mailbox did not answer.".to_owned(),
        check: "dmesg".to_owned(),
    };
    let failed = DeviceMigration {
        source: Some(MigrationSide {
            verdict: MigrationVerdict::Failed,
            recovery: Some(SourceRecovery::Reset),
            failures: vec![failure],
            findings: vec![finding],
            ..side(0, 2_500_000)
        }),
        destination: None,
        paired_by: None,
        verdict: MigrationVerdict::Failed,
        downtime: None,
        stream: StreamTransfer {
            read_bytes: Some(0),
            written_bytes: None,
            integrity: StreamIntegrity::NotKnown,
        },
    };
    let nameless = TracedDevice { nr: 2, host: 1, ..TracedDevice::default() };
    MigrationDocument {
        schema: DOCUMENT_SCHEMA,
        schema_version: DOCUMENT_SCHEMA_VERSION,
        version: "0.1.0".to_owned(),
        origin: "2026-11-22T20:44:33.000000001Z".to_owned(),
        duration_ns: 9_000_000_001,
        hosts: vec![host(0, Some("edge"), 123_456_789_012_345), host(1, None, -5)],
        merge: vec![ClockMerge {
            host: 1,
            method: MergeMethod::Causality,
            offset_ns: -7,
            early_ns: Some(3),
            late_ns: None,
            causal_min_ns: Some(-9),
            causal_max_ns: None,
            clock_error_ns: None,
            text: "moved by 7 ns".to_owned(),
        }],
        devices: vec![source(), destination(), nameless],
        sessions: vec![
            session(
                0,
                Some(DataDirection::Save),
                // The call was in progress when the state changed.
                &[(PartName::PreCopy, 13_000, 2_010_000), (PartName::StopCopy, 2_000_500, 5_300_000)],
            ),
            session(1, Some(DataDirection::Resume), &[(PartName::Resuming, 14_000, 14_000)]),
            session(2, None, &[]),
        ],
        migrations: vec![
            migration(0, MigrationVerdict::Completed, vec![moved]),
            migration(1, MigrationVerdict::Failed, vec![failed]),
        ],
        outside: vec![OutsideIssues {
            device: 2,
            failures: vec![DeviceFailure {
                at_ns: 8_000_000,
                what: "RUNNING → STOP".to_owned(),
                errno: Some("EINVAL".to_owned()),
                step: None,
                step_errno: None,
            }],
            findings: vec![ReportFinding {
                at_ns: 8_000_000,
                device: 2,
                session: None,
                code: "hisi_acc/cache-writeback".to_owned(),
                severity: FindingSeverity::Error,
                step: Some("write cache back".to_owned()),
                errno: Some("EINVAL".to_owned()),
                text: "The cache was not written back.".to_owned(),
                check: "dmesg".to_owned(),
            }],
        }],
        warnings: vec![warning(None, Some(7)), warning(Some(2), None)],
        omitted: crate::report::document::OmittedCounts::default(),
    }
}
