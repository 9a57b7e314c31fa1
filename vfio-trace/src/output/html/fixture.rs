//! Documents made by hand, for the page: combinations that a real trace rarely has at once, and hostile names.

use crate::{
    event::{CallOutcome, DataDirection, Errno, FindingSeverity, MigFlags, MigState},
    report::document::*,
};

pub(super) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\u{1b}[2J\u{9b}31m\u{202e}\nFORGED";

const MS: u64 = 1_000_000;

fn arc(from: MigState, to: MigState, target: MigState, start: u64, took: u64) -> ArcSpan {
    ArcSpan {
        from,
        to: Some(to),
        target,
        start_ns: start,
        end_ns: start + took,
        duration_ns: Some(took),
        pid: 4211,
        tid: 4219,
        outcome: CallOutcome::Ok,
    }
}

fn histogram(values: impl Iterator<Item = u64>) -> Log2Histogram {
    let mut histogram = Log2Histogram::default();
    values.for_each(|value| histogram.add(value));
    histogram
}

/// Makes a part of `calls` calls of `size` bytes each from `first` to `last`.
fn part(part: PartName, first: u64, last: u64, calls: u64, size: u64) -> SessionPart {
    let latency = |nr: u64| 4_000 + nr * 7_919 % 60_000;
    let blocked: u64 = (0..calls).map(latency).sum();
    let bytes = calls * size;
    SessionPart {
        part,
        first_ns: first,
        last_ns: last,
        calls: calls + 1,
        empty: u64::from(part == PartName::PreCopy),
        eof: u64::from(part == PartName::StopCopy),
        failed: 0,
        bytes,
        blocked_ns: blocked,
        busy_ns: blocked.min(last - first),
        bytes_per_s: Some(bytes * 1_000_000_000 / (last - first)),
        size_bytes: histogram((0..calls).map(|nr| size - nr % 7)),
        latency_ns: histogram((0..calls).map(latency)),
    }
}

fn session(nr: u32, device: u32, direction: DataDirection, parts: Vec<SessionPart>) -> DataSession {
    let bytes = parts.iter().map(|part| part.bytes).sum();
    let mut series = Vec::new();
    let mut moved = 0;
    for part in &parts {
        for step in 1..=20 {
            let at_ns = part.first_ns + (part.last_ns - part.first_ns) * step / 20;
            series.push(BytesSample { at_ns, bytes: moved + part.bytes * step / 20 });
        }
        moved += part.bytes;
    }
    let (start, end) = (parts[0].first_ns - MS, parts[parts.len() - 1].last_ns + MS);
    let save = direction == DataDirection::Save;
    let precopy_info = (0..12)
        .filter(|_| save)
        .map(|step| PrecopySample {
            at_ns: start + step * 40 * MS,
            initial_bytes: Some((8 << 20) - (8 << 20) * step.min(8) / 8),
            dirty_bytes: Some((step * 997 % 5) << 18),
        })
        .collect();
    DataSession {
        nr,
        device,
        session: nr + 1,
        direction: Some(direction),
        start_ns: start,
        end_ns: end,
        partial: false,
        end: if save { SessionEnd::Eof } else { SessionEnd::Arc },
        errno: None,
        bytes,
        missed_bytes: Some(0),
        parts,
        threads: vec![4219, 4231],
        concurrent_calls: 1,
        series,
        precopy_info,
        precopy_info_calls: if save { 12 } else { 0 },
        precopy_info_ns: if save { 83_412 } else { 0 },
        calls_after_end: 0,
    }
}

/// Makes the states between arcs.
fn states(first: MigState, start: u64, arcs: &[ArcSpan], end: u64) -> Vec<StateSpan> {
    let mut spans = Vec::new();
    let (mut state, mut since) = (Some(first), start);
    for arc in arcs {
        spans.push(StateSpan { state, start_ns: since, end_ns: arc.start_ns });
        state = if arc.outcome.is_ok() { arc.to } else { None };
        since = arc.end_ns;
    }
    spans.push(StateSpan { state, start_ns: since, end_ns: end });
    spans
}

fn requests(arcs: &[ArcSpan]) -> Vec<StateRequest> {
    arcs.iter()
        .map(|arc| StateRequest {
            target: arc.to.unwrap_or(arc.target),
            start_ns: arc.start_ns - 900,
            end_ns: arc.end_ns + 1_100,
            arcs: 1,
            session: None,
            pid: arc.pid,
            tid: arc.tid,
            comm: "live_migration".to_owned(),
            outcome: arc.outcome,
        })
        .collect()
}

fn steps(arcs: &[ArcSpan]) -> Vec<StepSpan> {
    let names = ["stop queues", "drain", "save registers", "mailbox QM_VFT", "cache writeback"];
    arcs.iter()
        .flat_map(|arc| {
            let took = arc.end_ns - arc.start_ns;
            names.iter().zip(0_u64..).map(move |(name, nr)| StepSpan {
                name: (*name).to_owned(),
                function: Some(format!("vf_qm_{}", name.replace(' ', "_"))),
                detail: (nr == 3).then(|| "vf 3, reg 0x304".to_owned()),
                // The third arc lies within the second.
                start_ns: arc.start_ns
                    + took * (nr - u64::from(nr == 2)) / 5
                    + u64::from(nr == 2) * took / 20,
                end_ns: arc.start_ns + took * (nr + 1) / 5 + u64::from(nr == 1) * took / 5,
                tid: arc.tid,
                outcome: if nr == 3 { arc.outcome } else { CallOutcome::Ok },
            })
        })
        .collect()
}

fn device(nr: u32, host: u32, name: &str, first: MigState, arcs: Vec<ArcSpan>, end: u64) -> TracedDevice {
    TracedDevice {
        nr,
        host,
        name: Some(name.to_owned()),
        driver: Some("hisi_acc_vfio_pci".to_owned()),
        migration_flags: Some(MigFlags(7)),
        dirty_tracking: Some(host == 0),
        states: states(first, 0, &arcs, end),
        requests: requests(&arcs),
        steps: steps(&arcs),
        arcs,
        ..TracedDevice::default()
    }
}

fn mark(kind: MarkKind, at_ns: u64, text: &str) -> DeviceMark {
    DeviceMark { kind, at_ns, text: text.to_owned(), pid: 4211, outcome: CallOutcome::Ok }
}

fn dirty_log(start: u64, stop: u64) -> DirtyLog {
    let series: Vec<_> = (1..9)
        .map(|nr| DirtyReport {
            at_ns: start + (stop - start) * nr / 10,
            duration_ns: 310_000 + nr * 11_000,
            dirty_pages: (nr != 5).then(|| 9_000 / nr + nr % 3 * 400),
        })
        .collect();
    DirtyLog {
        start_ns: start,
        start_duration_ns: 1_204_331,
        stop_ns: Some(stop),
        stop_duration_ns: Some(402_110),
        page_size_bytes: Some(4096),
        granted_page_size_bytes: Some(4096),
        ranges: Some(3),
        span_bytes: Some(4 << 30),
        reports: 8,
        reports_failed: 0,
        reports_ns: series.iter().map(|report| report.duration_ns).sum(),
        dirty_pages: series.iter().filter_map(|report| report.dirty_pages).sum(),
        reports_uncounted: 1,
        series,
        outcome: CallOutcome::Ok,
    }
}

fn phases(device: &TracedDevice, bytes: u64) -> Vec<MigrationPhase> {
    let mut list: Vec<MigrationPhase> = device
        .arcs
        .iter()
        .map(|arc| MigrationPhase {
            name: format!("{} → {}", arc.from.name(), arc.to.map_or("?", MigState::name)),
            arc: true,
            start_ns: arc.start_ns,
            end_ns: arc.end_ns,
            bytes: 0,
        })
        .collect();
    let inner = device.states.len().saturating_sub(2);
    list.extend(device.states.iter().skip(1).take(inner).map(|span| MigrationPhase {
        name: span.state.map_or("not certain", MigState::name).to_owned(),
        arc: false,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
        bytes: if matches!(span.state, Some(MigState::STOP_COPY | MigState::RESUMING)) { bytes } else { 0 },
    }));
    list.sort_by_key(|phase| phase.start_ns);
    list
}

fn side(device: &TracedDevice, session: u32, verdict: MigrationVerdict, bytes: u64) -> MigrationSide {
    MigrationSide {
        device: device.nr,
        sessions: vec![session],
        start_ns: device.arcs[0].start_ns,
        end_ns: device.arcs[device.arcs.len() - 1].end_ns,
        verdict,
        recovery: None,
        partial: false,
        phases: phases(device, bytes),
        failures: Vec::new(),
        findings: Vec::new(),
    }
}

/// Makes a downtime whose shares add up to the total, with a gap of the rest.
fn downtime(start: u64, end: u64, shares: &[(DowntimeStage, u64)]) -> DowntimeBreakdown {
    let used: u64 = shares.iter().map(|(_, share)| share).sum();
    let mut stages: Vec<_> = shares
        .iter()
        .map(|&(stage, share_ns)| StageTime {
            stage,
            share_ns,
            busy_ns: share_ns + share_ns / 9,
            blurred_ns: 0,
        })
        .collect();
    let gap = end - start - used;
    stages.push(StageTime { stage: DowntimeStage::Gap, share_ns: gap, busy_ns: gap, blurred_ns: 0 });
    stages.sort_by_key(|time| time.stage);
    DowntimeBreakdown {
        start_ns: start,
        end_ns: end,
        total_ns: end - start,
        bound: DowntimeBound::About,
        uncertainty_ns: Some(312_000),
        why: Some("the hosts' clocks agree to ± 312 µs only".to_owned()),
        stages,
    }
}

fn host(nr: u32, name: &str, end: u64) -> TracedHost {
    TracedHost {
        nr,
        name: Some(name.to_owned()),
        label: name.to_owned(),
        kernel: "6.12.117+deb12-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        boot_id: Some("2f6b1d0e-6f0c-4b0e-9f57-7f4f8c9f3a11".to_owned()),
        source: format!("{name}.vft"),
        traced_by: "0.1.0".to_owned(),
        command: ["vfio-trace", "record", "-o", "mig.vft"].map(str::to_owned).to_vec(),
        began_ns: u64::from(nr) * 3 * MS,
        ended_ns: end,
        mono_at_origin_ns: 88_123_456_789 - i64::from(nr) * 99_000_000_000,
        real_at_origin: "2026-11-22T03:00:12.345678901Z".to_owned(),
        events: 1_234,
        losses: HostLosses {
            complete: true,
            lost: Some(0),
            missed: Some(0),
            unmatched: Some(0),
            no_room: Some(0),
            ..HostLosses::default()
        },
        ..TracedHost::default()
    }
}

fn document(hosts: Vec<TracedHost>, duration_ns: u64) -> MigrationDocument {
    MigrationDocument {
        schema: DOCUMENT_SCHEMA,
        schema_version: DOCUMENT_SCHEMA_VERSION,
        version: "0.1.0".to_owned(),
        origin: "2026-11-22T03:00:12.345678901Z".to_owned(),
        duration_ns,
        hosts,
        merge: Vec::new(),
        devices: Vec::new(),
        sessions: Vec::new(),
        migrations: Vec::new(),
        outside: Vec::new(),
        warnings: Vec::new(),
        omitted: OmittedCounts::default(),
    }
}

/// Adds a pair of devices, which go from `from` to `to` in a migration that begins at `start`.
fn pair(
    document: &mut MigrationDocument,
    name: [&str; 2],
    host: [u32; 2],
    start: u64,
    stop: u64,
) -> DeviceMigration {
    use MigState as S;
    let end = document.duration_ns;
    let (at, sessions) = (document.devices.len(), document.sessions.len());
    let nr = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let source_arcs = vec![
        arc(S::RUNNING, S::PRE_COPY, S::PRE_COPY, start, 2 * MS),
        arc(S::PRE_COPY, S::PRE_COPY_P2P, S::STOP_COPY, stop, MS),
        arc(S::PRE_COPY_P2P, S::STOP_COPY, S::STOP_COPY, stop + MS + 40_000, 9 * MS),
        arc(S::STOP_COPY, S::STOP, S::STOP, stop + 240 * MS, 3 * MS),
    ];
    let destination_arcs = vec![
        arc(S::RUNNING, S::RUNNING_P2P, S::RESUMING, start - 60 * MS, MS / 2),
        arc(S::RUNNING_P2P, S::STOP, S::RESUMING, start - 59 * MS, MS / 2),
        arc(S::STOP, S::RESUMING, S::RESUMING, start - 58 * MS, MS),
        arc(S::RESUMING, S::STOP, S::STOP, stop + 178 * MS, 21 * MS),
        arc(S::STOP, S::RUNNING_P2P, S::RUNNING, stop + 203 * MS, 4 * MS),
        arc(S::RUNNING_P2P, S::RUNNING, S::RUNNING, stop + 207 * MS + 30_000, 900_000),
    ];
    let mut source = device(nr(at), host[0], name[0], S::RUNNING, source_arcs, end);
    let mut destination = device(nr(at + 1), host[1], name[1], S::RUNNING, destination_arcs, end);
    source.dirty_logs = vec![dirty_log(start + 5 * MS, stop + 250 * MS)];
    source.sizes = vec![SizeSample { at_ns: start + 3 * MS, stop_copy_bytes: Some(9 << 20) }];
    source.marks = vec![mark(MarkKind::Close, stop + 260 * MS, "fd 31")];
    destination.marks = vec![mark(MarkKind::Open, start.saturating_sub(90 * MS), "fd 31")];
    let read = [
        part(PartName::PreCopy, start + 4 * MS, stop - 20 * MS, 300, 32 << 10),
        part(PartName::StopCopy, stop + 12 * MS, stop + 150 * MS, 90, 64 << 10),
    ];
    let written = part(PartName::Resuming, start + 7 * MS, stop + 171 * MS, 390, 40 << 10);
    let bytes = written.bytes;
    document.sessions.push(session(nr(sessions), nr(at), DataDirection::Save, read.into()));
    document.sessions.push(session(nr(sessions + 1), nr(at + 1), DataDirection::Resume, vec![written]));
    let one = DeviceMigration {
        source: Some(side(&source, nr(sessions), MigrationVerdict::Completed, bytes)),
        destination: Some(side(&destination, nr(sessions + 1), MigrationVerdict::Completed, bytes)),
        paired_by: Some(PairingReason::StreamBytes),
        verdict: MigrationVerdict::Completed,
        downtime: Some(downtime(
            stop,
            stop + 208 * MS,
            &[
                (DowntimeStage::Stop, MS),
                (DowntimeStage::Save, 9 * MS),
                (DowntimeStage::Read, 40 * MS),
                (DowntimeStage::Write, 22 * MS),
                (DowntimeStage::Load, 21 * MS),
                (DowntimeStage::Start, 5 * MS),
            ],
        )),
        stream: StreamTransfer {
            read_bytes: Some(document.sessions[sessions].bytes),
            written_bytes: Some(bytes),
            integrity: StreamIntegrity::NotKnown,
        },
    };
    document.devices.extend([source, destination]);
    one
}

fn migration(nr: u32, start: u64, end: u64, devices: Vec<DeviceMigration>) -> VmMigration {
    VmMigration {
        nr,
        verdict: MigrationVerdict::Completed,
        recovered: None,
        text: "qemu-system-x86 went from alpha to beta with 2 devices; the VM stood still for about 259 ms"
            .to_owned(),
        start_ns: start,
        end_ns: end,
        source: Some(VmmProcess { host: 0, pid: 4211, comm: "qemu-system-x86".to_owned() }),
        destination: Some(VmmProcess { host: 1, pid: 977, comm: "qemu-system-x86".to_owned() }),
        downtime: devices.first().and_then(|one| one.downtime.clone()),
        devices,
        order: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Makes one migration of two devices between two hosts, on one clock.
pub(super) fn merged() -> MigrationDocument {
    let end = 2_400 * MS;
    let mut document = document(vec![host(0, "alpha", end), host(1, "beta", end)], end);
    document.merge = vec![ClockMerge {
        host: 1,
        method: MergeMethod::Causality,
        offset_ns: -1_204_331,
        early_ns: Some(312_000),
        late_ns: Some(12_000),
        causal_min_ns: Some(-1_204_331),
        causal_max_ns: None,
        clock_error_ns: None,
        text: "beta's clock was moved back by 1.20 ms: it would have written bytes before alpha read them."
            .to_owned(),
    }];
    let devices = vec![
        pair(&mut document, ["0000:75:00.1", "0000:bd:00.4"], [0, 1], 620 * MS, 1_520 * MS),
        pair(&mut document, ["0000:75:00.2", "0000:bd:00.5"], [0, 1], 640 * MS, 1_571 * MS),
    ];
    let mut one = migration(0, 560 * MS, 1_822 * MS, devices);
    one.downtime = Some(downtime(
        1_520 * MS,
        1_779 * MS,
        &[
            (DowntimeStage::Stop, MS),
            (DowntimeStage::Save, 18 * MS),
            (DowntimeStage::Read, 78 * MS),
            (DowntimeStage::Write, 40 * MS),
        ],
    ));
    one.order = [DowntimeStage::Save, DowntimeStage::Read]
        .map(|stage| StageOrder {
            stage,
            devices: 2,
            sum_ns: 19 * MS,
            union_ns: 18 * MS,
            longest_ns: 10 * MS,
            order: if stage == DowntimeStage::Save {
                DeviceConcurrency::Series
            } else {
                DeviceConcurrency::Mixed
            },
        })
        .to_vec();
    one.warnings = vec![ReportWarning {
        code: "initial-bytes-left",
        severity: FindingSeverity::Warning,
        device: Some(0),
        at_ns: Some(1_521 * MS),
        text:
            "STOP_COPY was entered with 1.00 MiB of initial bytes left: they moved while the VM stood still."
                .to_owned(),
    }];
    document.migrations.push(one);
    document
}

/// Makes a destination that cannot load, with losses; every text that may come from outside is hostile.
pub(in crate::output) fn hostile() -> MigrationDocument {
    let end = 2_000 * MS;
    let mut document = document(vec![host(0, HOSTILE, end)], end);
    document.hosts[0].losses = HostLosses {
        complete: false,
        lost: Some(17),
        missed: None,
        unmatched: Some(2),
        no_room: Some(1),
        undecoded: 1,
        damage: vec![format!("block 12 is damaged: {HOSTILE}")],
        control: vec!["vfio_mig_get_next_state: 3 lost".to_owned()],
        data: Vec::new(),
        other: vec!["quay_where: 1 lost".to_owned()],
    };
    document.hosts[0].command.push(HOSTILE.to_owned());
    let mut one = pair(&mut document, [HOSTILE, "javascript:alert(1)"], [0, 0], 300 * MS, 900 * MS);
    for device in &mut document.devices {
        device.driver = Some(HOSTILE.to_owned());
        device.marks.push(mark(MarkKind::Desync, 700 * MS, HOSTILE));
        for request in &mut device.requests {
            HOSTILE.clone_into(&mut request.comm);
        }
        for step in &mut device.steps {
            step.detail = Some("\u{2028}\u{202e}\"'`&amp;${alert(1)}".to_owned());
        }
    }
    let load = &mut document.devices[1].arcs[3];
    load.outcome = CallOutcome::Failed(Errno::EINVAL);
    let failed_at = load.end_ns;
    document.devices[1].arcs.truncate(4);
    document.devices[1].states.truncate(4);
    document.devices[1].states.push(StateSpan {
        state: Some(MigState::ERROR),
        start_ns: failed_at,
        end_ns: end,
    });
    one.verdict = MigrationVerdict::Failed;
    if let Some(destination) = &mut one.destination {
        destination.verdict = MigrationVerdict::Failed;
        destination.failures = vec![DeviceFailure {
            at_ns: failed_at,
            what: "RESUMING → STOP".to_owned(),
            errno: Some("EINVAL".to_owned()),
            step: Some(format!("vf_qm_check_match {HOSTILE}")),
            step_errno: Some("EINVAL".to_owned()),
        }];
        destination.findings = vec![ReportFinding {
            at_ns: failed_at,
            device: 1,
            session: None,
            code: "hisi_acc/isolation-mismatch".to_owned(),
            severity: FindingSeverity::Error,
            step: Some("vf_qm_check_match".to_owned()),
            errno: Some("EINVAL".to_owned()),
            text: format!("The devices differ: {HOSTILE}"),
            check: "the firmware of both".to_owned(),
        }];
    }
    if let Some(downtime) = &mut one.downtime {
        downtime.bound = DowntimeBound::AtLeast;
        downtime.uncertainty_ns = None;
        downtime.why = Some(format!("the device never ran again: {HOSTILE}"));
    }
    let mut migration = migration(0, 240 * MS, failed_at, vec![one]);
    migration.verdict = MigrationVerdict::Failed;
    migration.recovered = Some(false);
    migration.text = format!("{HOSTILE} failed on the destination: RESUMING → STOP gave EINVAL");
    migration.destination = Some(VmmProcess { host: 0, pid: 977, comm: HOSTILE.to_owned() });
    document.migrations.push(migration);
    document.outside = vec![OutsideIssues {
        device: 0,
        failures: vec![DeviceFailure {
            at_ns: 1_800 * MS,
            what: format!("RUNNING → STOP {HOSTILE}"),
            errno: Some("EINVAL".to_owned()),
            step: Some(HOSTILE.to_owned()),
            step_errno: None,
        }],
        findings: vec![ReportFinding {
            at_ns: 1_800 * MS,
            device: 0,
            session: None,
            code: "hisi_acc/cache-writeback".to_owned(),
            severity: FindingSeverity::Warning,
            step: Some(HOSTILE.to_owned()),
            errno: None,
            text: HOSTILE.to_owned(),
            check: HOSTILE.to_owned(),
        }],
    }];
    document.warnings = vec![ReportWarning {
        code: "no-pre-copy",
        severity: FindingSeverity::Info,
        device: None,
        at_ns: None,
        text: HOSTILE.to_owned(),
    }];
    document
}

/// Makes a hundred migrations within two hours.
pub(super) fn many() -> MigrationDocument {
    let end = 7_200_000 * MS;
    let mut document = document(vec![host(0, "alpha", end), host(1, "beta", end)], end);
    for nr in 0..100_u32 {
        let start = u64::from(nr) * 70_000 * MS + 5_000 * MS;
        let names = [format!("0000:75:{nr:02x}.1"), format!("0000:bd:{nr:02x}.1")];
        let one = pair(
            &mut document,
            [names[0].as_str(), names[1].as_str()],
            [0, 1],
            start,
            start + (2 + u64::from(nr % 7)) * 1_000 * MS,
        );
        let over = one.destination.as_ref().map_or(start, |side| side.end_ns);
        let mut one = migration(nr, start - 60 * MS, over, vec![one]);
        if nr % 33 == 32 {
            one.verdict = MigrationVerdict::Cancelled;
            one.recovered = Some(true);
            one.downtime = None;
            one.devices[0].downtime = None;
            one.destination = None;
            "qemu-system-x86 gave it up and runs on alpha again".clone_into(&mut one.text);
        }
        document.migrations.push(one);
    }
    document
}

/// Makes a document without events, with the largest possible numbers.
pub(super) fn bare() -> MigrationDocument {
    let mut document = document(vec![TracedHost::default()], 0);
    document.hosts[0].events = u64::MAX;
    document.devices.push(TracedDevice { steps_left_out: u64::MAX, ..TracedDevice::default() });
    document
}
