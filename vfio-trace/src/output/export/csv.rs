//! Writes tables for spreadsheets and data frames: one kind of thing per table, one row each, names and units as in the
//! document.

use std::io::{self, Write};

use csv::Writer;
use jiff::{SignedDuration, Timestamp};

use super::words::{CsvCell, word};
use crate::{
    event::{CallOutcome, Errno},
    report::document::{
        DataSession, DowntimeBreakdown, DowntimeStage, MigrationDocument, MigrationSide, ReportWarning,
        TracedDevice,
    },
};

/// A table that can be exported. The names for the command line are in [`CsvTable::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CsvTable {
    /// Migrations: verdict and downtime by stage.
    #[default]
    Migrations,
    /// Downtime by stage: of each migration, and of each of its devices.
    Downtime,
    /// Devices.
    Devices,
    /// States that devices were in.
    States,
    /// Steps of the state machine.
    Arcs,
    /// Requests of user space to change the state.
    Requests,
    /// Steps of drivers.
    Steps,
    /// Marks on devices: open, close, reset, …
    Marks,
    /// Data sessions.
    Sessions,
    /// Bytes, calls and times of each data session, by state.
    Parts,
    /// Values over time: bytes moved, initial and dirty bytes, dirty pages, estimates.
    Samples,
    /// Dirty page tracking.
    DirtyLogs,
    /// Failures.
    Failures,
    /// Findings of drivers' plug-ins.
    Findings,
    /// Warnings.
    Warnings,
}

impl CsvTable {
    /// All tables, each with its name and a description.
    pub const ALL: [(Self, &'static str, &'static str); 15] = [
        (Self::Migrations, "migrations", "how each migration ended, and where its downtime went"),
        (Self::Downtime, "downtime", "downtime by stage, of migrations and of each of their devices"),
        (Self::Devices, "devices", "devices"),
        (Self::States, "states", "states that devices were in"),
        (Self::Arcs, "arcs", "steps of the state machine"),
        (Self::Requests, "requests", "requests of user space to change the state"),
        (Self::Steps, "steps", "steps of drivers"),
        (Self::Marks, "marks", "moments: open, close, reset, …"),
        (Self::Sessions, "sessions", "data sessions"),
        (Self::Parts, "parts", "what went over each session in which state"),
        (
            Self::Samples,
            "samples",
            "values over time: bytes moved, initial and dirty bytes, dirty pages, estimates",
        ),
        (Self::DirtyLogs, "dirty_logs", "dirty page tracking"),
        (Self::Failures, "failures", "what failed"),
        (Self::Findings, "findings", "what drivers' plug-ins make of it"),
        (Self::Warnings, "warnings", "what is worth a look"),
    ];
}

/// Writes a header, and for each item a row with as many fields.
macro_rules! table {
    ($out:expr, $rows:expr, |$item:pat_param| $($name:ident: $value:expr),+ $(,)?) => {{
        $out.write_record([$(stringify!($name)),+])?;
        for $item in $rows {
            $out.write_record([$(CsvCell::text(&$value).as_bytes()),+])?;
        }
    }};
}

/// Writes one table: a header and rows. Lines end with a line feed; fields are quoted where RFC 4180 asks for it.
/// Unknown values are empty.
///
/// # Errors
///
/// Errors of `out`.
pub fn write_csv(document: &MigrationDocument, table: CsvTable, out: impl Write) -> io::Result<()> {
    let mut out = Writer::from_writer(out);
    match table {
        CsvTable::Migrations => migrations(document, &mut out)?,
        CsvTable::Downtime => downtime(document, &mut out)?,
        CsvTable::Devices => devices(document, &mut out)?,
        CsvTable::States => states(document, &mut out)?,
        CsvTable::Arcs => arcs(document, &mut out)?,
        CsvTable::Requests => requests(document, &mut out)?,
        CsvTable::Steps => steps(document, &mut out)?,
        CsvTable::Marks => marks(document, &mut out)?,
        CsvTable::Sessions => sessions(document, &mut out)?,
        CsvTable::Parts => parts(document, &mut out)?,
        CsvTable::Samples => samples(document, &mut out)?,
        CsvTable::DirtyLogs => dirty_logs(document, &mut out)?,
        CsvTable::Failures => failures(document, &mut out)?,
        CsvTable::Findings => findings(document, &mut out)?,
        CsvTable::Warnings => warnings(document, &mut out)?,
    }
    out.flush()
}

/// Returns the wall time of a time of the document, RFC 3339 in UTC.
fn wall(document: &MigrationDocument, at_ns: u64) -> Option<String> {
    let origin: Timestamp = document.origin.parse().ok()?;
    let since = SignedDuration::from_nanos(i64::try_from(at_ns).ok()?);
    Some(format!("{:.9}", origin.checked_add(since).ok()?))
}

fn errno(outcome: CallOutcome) -> Option<String> {
    outcome.errno().map(|errno| Errno::name(errno).into_owned())
}

/// Returns each device with each item of one of its lists.
fn of_devices<'d, T: 'd>(
    document: &'d MigrationDocument,
    list: fn(&'d TracedDevice) -> &'d [T],
) -> impl Iterator<Item = (&'d TracedDevice, &'d T)> {
    document.devices.iter().flat_map(move |device| list(device).iter().map(move |item| (device, item)))
}

fn device_of(document: &MigrationDocument, nr: u32) -> Option<&TracedDevice> {
    document.devices.get(nr as usize)
}

fn name_of(document: &MigrationDocument, nr: u32) -> Option<&str> {
    device_of(document, nr)?.name.as_deref()
}

fn share(downtime: Option<&DowntimeBreakdown>, stage: DowntimeStage) -> Option<u64> {
    // A stage that did not happen took no time.
    downtime.map(|downtime| downtime.stage(stage).map_or(0, |time| time.share_ns))
}

fn migrations(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let bytes = |values: Vec<Option<u64>>| -> Option<u64> {
        values.into_iter().flatten().reduce(u64::saturating_add)
    };
    table!(out, &document.migrations, |one|
        migration: one.nr,
        verdict: one.verdict.name(),
        recovered: one.recovered,
        time: wall(document, one.start_ns),
        start_ns: one.start_ns,
        end_ns: one.end_ns,
        source_host: one.source.as_ref().map(|party| party.host),
        source_pid: one.source.as_ref().map(|party| party.pid),
        source_comm: one.source.as_ref().map(|party| &party.comm),
        destination_host: one.destination.as_ref().map(|party| party.host),
        destination_pid: one.destination.as_ref().map(|party| party.pid),
        destination_comm: one.destination.as_ref().map(|party| &party.comm),
        devices: one.devices.len(),
        read_bytes: bytes(one.devices.iter().map(|device| device.stream.read_bytes).collect()),
        written_bytes: bytes(one.devices.iter().map(|device| device.stream.written_bytes).collect()),
        downtime_start_ns: one.downtime.as_ref().map(|downtime| downtime.start_ns),
        downtime_ns: one.downtime.as_ref().map(|downtime| downtime.total_ns),
        bound: one.downtime.as_ref().map(|downtime| word(&downtime.bound)),
        uncertainty_ns: one.downtime.as_ref().and_then(|downtime| downtime.uncertainty_ns),
        stage_stop_ns: share(one.downtime.as_ref(), DowntimeStage::Stop),
        stage_save_ns: share(one.downtime.as_ref(), DowntimeStage::Save),
        stage_read_ns: share(one.downtime.as_ref(), DowntimeStage::Read),
        stage_gap_ns: share(one.downtime.as_ref(), DowntimeStage::Gap),
        stage_write_ns: share(one.downtime.as_ref(), DowntimeStage::Write),
        stage_load_ns: share(one.downtime.as_ref(), DowntimeStage::Load),
        stage_start_ns: share(one.downtime.as_ref(), DowntimeStage::Start),
        stage_recover_ns: share(one.downtime.as_ref(), DowntimeStage::Recover),
        warnings: one.warnings.len(),
        text: one.text,
    );
    Ok(())
}

fn downtime(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let nr = |side: &Option<MigrationSide>| side.as_ref().map(|side| side.device);
    let mut all = Vec::new();
    for migration in &document.migrations {
        all.push((migration.nr, None, None, migration.downtime.as_ref()));
        for device in &migration.devices {
            let (source, destination) = (nr(&device.source), nr(&device.destination));
            all.push((migration.nr, source, destination, device.downtime.as_ref()));
        }
    }
    let rows = all.into_iter().flat_map(|(migration, source, destination, downtime)| {
        let stages = downtime
            .into_iter()
            .flat_map(|downtime| downtime.stages.iter().map(move |stage| (downtime, stage)));
        stages.map(move |(downtime, stage)| (migration, source, destination, downtime, stage))
    });
    table!(out, rows, |(migration, source, destination, downtime, stage)|
        migration: migration,
        source_device: source,
        source_name: source.and_then(|nr| name_of(document, nr)),
        destination_device: destination,
        destination_name: destination.and_then(|nr| name_of(document, nr)),
        start_ns: downtime.start_ns,
        end_ns: downtime.end_ns,
        total_ns: downtime.total_ns,
        bound: word(&downtime.bound),
        uncertainty_ns: downtime.uncertainty_ns,
        stage: stage.stage.name(),
        share_ns: stage.share_ns,
        busy_ns: stage.busy_ns,
    );
    Ok(())
}

fn devices(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let mut sessions = vec![0u64; document.devices.len()];
    for session in &document.sessions {
        if let Some(count) = sessions.get_mut(session.device as usize) {
            *count += 1;
        }
    }
    table!(out, &document.devices, |device|
        device: device.nr,
        name: device.name,
        driver: device.driver,
        host: device.host,
        host_label: document.hosts.get(device.host as usize).map(|host| &host.label),
        migration_flags: device.migration_flags.map(|flags| flags.names().join("+")),
        dirty_tracking: device.dirty_tracking,
        last_state: device.states.last().and_then(|span| span.state),
        arcs: device.arcs.len(),
        arcs_not_ok: device.arcs.iter().filter(|arc| !arc.outcome.is_ok()).count(),
        requests: device.requests.len(),
        steps: device.steps.len() as u64 + device.steps_left_out,
        sessions: sessions.get(device.nr as usize),
    );
    Ok(())
}

fn states(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, of_devices(document, |device| &device.states), |(device, span)|
        device: device.nr,
        name: device.name,
        time: wall(document, span.start_ns),
        start_ns: span.start_ns,
        end_ns: span.end_ns,
        state: span.state,
    );
    Ok(())
}

fn arcs(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, of_devices(document, |device| &device.arcs), |(device, arc)|
        device: device.nr,
        name: device.name,
        time: wall(document, arc.start_ns),
        start_ns: arc.start_ns,
        end_ns: arc.end_ns,
        duration_ns: arc.duration_ns,
        from: arc.from,
        to: arc.to,
        target: arc.target,
        result: arc.outcome.name(),
        errno: errno(arc.outcome),
        pid: arc.pid,
        tid: arc.tid,
    );
    Ok(())
}

fn requests(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, of_devices(document, |device| &device.requests), |(device, request)|
        device: device.nr,
        name: device.name,
        time: wall(document, request.start_ns),
        start_ns: request.start_ns,
        end_ns: request.end_ns,
        target: request.target,
        arcs: request.arcs,
        session: request.session,
        result: request.outcome.name(),
        errno: errno(request.outcome),
        pid: request.pid,
        tid: request.tid,
        comm: request.comm,
    );
    Ok(())
}

fn steps(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, of_devices(document, |device| &device.steps), |(device, step)|
        device: device.nr,
        name: device.name,
        time: wall(document, step.start_ns),
        start_ns: step.start_ns,
        end_ns: step.end_ns,
        step: step.name,
        function: step.function,
        detail: step.detail,
        result: step.outcome.name(),
        errno: errno(step.outcome),
        tid: step.tid,
    );
    Ok(())
}

fn marks(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, of_devices(document, |device| &device.marks), |(device, mark)|
        device: device.nr,
        name: device.name,
        time: wall(document, mark.at_ns),
        at_ns: mark.at_ns,
        kind: word(&mark.kind),
        text: mark.text,
        result: mark.outcome.name(),
        errno: errno(mark.outcome),
        pid: mark.pid,
    );
    Ok(())
}

fn sessions(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, &document.sessions, |session|
        nr: session.nr,
        device: session.device,
        name: name_of(document, session.device),
        session: session.session,
        direction: session.direction.map(crate::event::DataDirection::name),
        time: wall(document, session.start_ns),
        start_ns: session.start_ns,
        end_ns: session.end_ns,
        partial: session.partial,
        end: word(&session.end),
        errno: session.errno,
        bytes: session.bytes,
        missed_bytes: session.missed_bytes,
        threads: session.threads.len(),
        concurrent_calls: session.concurrent_calls,
        precopy_info_calls: session.precopy_info_calls,
        precopy_info_ns: session.precopy_info_ns,
        calls_after_end: session.calls_after_end,
    );
    Ok(())
}

fn parts(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let rows = document
        .sessions
        .iter()
        .flat_map(|session: &DataSession| session.parts.iter().map(move |part| (session, part)));
    table!(out, rows, |(session, part)|
        session: session.nr,
        device: session.device,
        name: name_of(document, session.device),
        part: part.part.name(),
        time: wall(document, part.first_ns),
        first_ns: part.first_ns,
        last_ns: part.last_ns,
        calls: part.calls,
        empty: part.empty,
        eof: part.eof,
        failed: part.failed,
        bytes: part.bytes,
        blocked_ns: part.blocked_ns,
        busy_ns: part.busy_ns,
        bytes_per_s: part.bytes_per_s,
        size_min_bytes: part.size_bytes.min,
        size_mean_bytes: part.size_bytes.mean(),
        size_max_bytes: part.size_bytes.max,
        latency_min_ns: part.latency_ns.min,
        latency_mean_ns: part.latency_ns.mean(),
        latency_max_ns: part.latency_ns.max,
    );
    Ok(())
}

fn samples(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let of_sessions = document.sessions.iter().flat_map(|session| {
        let bytes = session.series.iter().map(|point| ("bytes", point.at_ns, Some(point.bytes)));
        let info = session.precopy_info.iter().flat_map(|point| {
            [
                ("initial_bytes", point.at_ns, point.initial_bytes),
                ("dirty_bytes", point.at_ns, point.dirty_bytes),
            ]
        });
        bytes.chain(info).map(|sample| (session.device, Some(session.nr), sample))
    });
    let of_devices = document.devices.iter().flat_map(|device| {
        let sizes = device.sizes.iter().map(|size| ("stop_copy_bytes", size.at_ns, size.stop_copy_bytes));
        let reports = device.dirty_logs.iter().flat_map(|log| &log.series);
        let pages = reports.map(|report| ("dirty_pages", report.at_ns, report.dirty_pages));
        sizes.chain(pages).map(|sample| (device.nr, None, sample))
    });
    table!(out, of_sessions.chain(of_devices), |(device, session, (series, at_ns, value))|
        device: device,
        name: name_of(document, device),
        session: session,
        series: series,
        time: wall(document, at_ns),
        at_ns: at_ns,
        value: value,
    );
    Ok(())
}

fn dirty_logs(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    table!(out, of_devices(document, |device| &device.dirty_logs), |(device, log)|
        device: device.nr,
        name: device.name,
        time: wall(document, log.start_ns),
        start_ns: log.start_ns,
        start_duration_ns: log.start_duration_ns,
        stop_ns: log.stop_ns,
        stop_duration_ns: log.stop_duration_ns,
        page_size_bytes: log.page_size_bytes,
        granted_page_size_bytes: log.granted_page_size_bytes,
        ranges: log.ranges,
        span_bytes: log.span_bytes,
        reports: log.reports,
        reports_failed: log.reports_failed,
        reports_ns: log.reports_ns,
        dirty_pages: log.dirty_pages,
        reports_uncounted: log.reports_uncounted,
        result: log.outcome.name(),
        errno: errno(log.outcome),
    );
    Ok(())
}

/// Returns each side of each device of each migration, with the migration's number.
fn sides(document: &MigrationDocument) -> impl Iterator<Item = (u32, &MigrationSide)> {
    document.migrations.iter().flat_map(|migration| {
        let sides = migration.devices.iter().flat_map(|device| [&device.source, &device.destination]);
        sides.flatten().map(|side| (migration.nr, side))
    })
}

fn failures(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let of_none = document
        .outside
        .iter()
        .flat_map(|outside| outside.failures.iter().map(move |failure| (None, outside.device, failure)));
    let rows = sides(document).flat_map(|(migration, side)| {
        side.failures.iter().map(move |failure| (Some(migration), side.device, failure))
    });
    let rows = rows.chain(of_none);
    table!(out, rows, |(migration, device, failure)|
        migration: migration,
        device: device,
        name: name_of(document, device),
        time: wall(document, failure.at_ns),
        at_ns: failure.at_ns,
        what: failure.what,
        errno: failure.errno,
        step: failure.step,
        step_errno: failure.step_errno,
    );
    Ok(())
}

fn findings(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let of_none =
        document.outside.iter().flat_map(|outside| outside.findings.iter().map(|finding| (None, finding)));
    let rows = sides(document)
        .flat_map(|(migration, side)| side.findings.iter().map(move |finding| (Some(migration), finding)))
        .chain(of_none);
    table!(out, rows, |(migration, finding)|
        migration: migration,
        device: finding.device,
        name: name_of(document, finding.device),
        time: wall(document, finding.at_ns),
        at_ns: finding.at_ns,
        code: finding.code,
        severity: finding.severity.name(),
        step: finding.step,
        errno: finding.errno,
        text: finding.text,
        check: finding.check,
    );
    Ok(())
}

fn warnings(document: &MigrationDocument, out: &mut Writer<impl Write>) -> io::Result<()> {
    let of_none = document.warnings.iter().map(|warning| (None, warning));
    let rows = document
        .migrations
        .iter()
        .flat_map(|migration| {
            migration.warnings.iter().map(|warning: &ReportWarning| (Some(migration.nr), warning))
        })
        .chain(of_none);
    table!(out, rows, |(migration, warning)|
        migration: migration,
        device: warning.device,
        name: warning.device.and_then(|nr| name_of(document, nr)),
        time: warning.at_ns.and_then(|at_ns| wall(document, at_ns)),
        at_ns: warning.at_ns,
        code: warning.code,
        severity: warning.severity.name(),
        text: warning.text,
    );
    Ok(())
}
