//! Formats a document as text for a terminal: the migrations, their downtimes, the failures and the reasons.

use std::fmt::{self, Write as _};

use jiff::{Timestamp, tz::TimeZone};

use super::layout::{CellStyle, TableColumn, TextCell, table};
use crate::units::human::{bytes, clean, count, duration};
use crate::{
    event::FindingSeverity,
    report::document::{
        DataSession, DeviceFailure, DeviceMigration, DowntimeBound, DowntimeBreakdown, DowntimeStage,
        MigrationDocument, MigrationSide, MigrationVerdict, OutsideIssues, PairingReason, PartName,
        ReportFinding, ReportWarning, TracedDevice, TracedHost, VmMigration,
    },
};

/// Formats the report.
pub fn report_text(document: &MigrationDocument, zone: &TimeZone, color: bool) -> String {
    let page = ReportWriter { document, zone, color };
    let mut text = page.hosts();
    if document.migrations.len() > FEW {
        text.push('\n');
        text.push_str(&page.overview());
    }
    for migration in &document.migrations {
        text.push('\n');
        text.push_str(&page.migration(migration));
    }
    if document.migrations.is_empty() {
        text.push_str(page.no_migration());
    }
    if !document.outside.is_empty() {
        text.push_str("\noutside of migrations:\n");
        document.outside.iter().for_each(|outside| page.outside(outside, &mut text));
    }
    if !document.warnings.is_empty() {
        text.push('\n');
        for warning in &document.warnings {
            page.warning(warning, &mut text);
        }
    }
    text
}

/// Most migrations without an overview: with more, a line for each comes before the details.
const FEW: usize = 3;

struct ReportWriter<'a> {
    document: &'a MigrationDocument,
    zone: &'a TimeZone,
    color: bool,
}

impl ReportWriter<'_> {
    /// Returns the sentence for no migration. It claims that none happened only if the recording is known to be
    /// complete.
    fn no_migration(&self) -> &'static str {
        let lacking = |host: &TracedHost| host.losses.lacks_transitions() || !host.losses.complete;
        let unsure = |host: &TracedHost| host.losses.has_uncounted_misses();
        if self.document.hosts.iter().any(lacking) {
            "\nno migration was seen; but not all that happened was recorded, see below\n"
        } else if self.document.hosts.iter().any(unsure) {
            "\nno migration was seen; whether all that happened was recorded is not known, see below\n"
        } else {
            "\nno migration was seen: no device was seen to leave RUNNING for PRE_COPY, STOP_COPY or RESUMING\n"
        }
    }

    fn styled(&self, style: CellStyle, text: &str) -> String {
        let mut line = String::new();
        TextCell::of(self.color, style, text).left(0, &mut line);
        line
    }

    /// Returns the wall time of a time of the document.
    fn wall(&self, at_ns: u64) -> String {
        let origin: Option<Timestamp> = self.document.origin.parse().ok();
        let at = origin
            .and_then(|origin| Timestamp::from_nanosecond(origin.as_nanosecond() + i128::from(at_ns)).ok());
        at.map_or_else(String::new, |at| {
            at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.6f%:z").to_string()
        })
    }

    fn hosts(&self) -> String {
        let mut text = String::new();
        for host in &self.document.hosts {
            let title = format!("{} ({}, {})", clean(&host.label), clean(&host.kernel), clean(&host.machine));
            let length = duration(host.ended_ns.saturating_sub(host.began_ns));
            put(
                &mut text,
                format_args!(
                    "{}: {} of {}, {length} from {}\n",
                    self.styled(CellStyle::Bold, &title),
                    count(host.events, "event"),
                    clean(&host.source),
                    self.wall(host.began_ns)
                ),
            );
        }
        for merge in &self.document.merge {
            let name = self.document.hosts.get(merge.host as usize).map(|host| host.label.as_str());
            put(
                &mut text,
                format_args!(
                    "clock of {}: {}\n",
                    clean(name.unwrap_or("the other host")),
                    clean(&merge.text)
                ),
            );
        }
        text
    }

    fn device(&self, nr: u32) -> Option<&TracedDevice> {
        self.document.devices.get(nr as usize)
    }

    fn name(&self, nr: u32) -> &str {
        self.device(nr).and_then(|device| device.name.as_deref()).unwrap_or("?")
    }

    fn migration(&self, migration: &VmMigration) -> String {
        let style = match migration.verdict {
            MigrationVerdict::Failed => CellStyle::Error,
            _ => CellStyle::Bold,
        };
        let mut text = self.styled(style, &format!("migration {}: {}", migration.nr, clean(&migration.text)));
        text.push('\n');
        put(
            &mut text,
            format_args!(
                "  {}, {}\n",
                self.wall(migration.start_ns),
                duration(migration.end_ns.saturating_sub(migration.start_ns))
            ),
        );
        for (role, party) in [("source", &migration.source), ("destination", &migration.destination)] {
            let Some(party) = party else { continue };
            let host = self.document.hosts.get(party.host as usize).map(|host| host.label.as_str());
            put(
                &mut text,
                format_args!(
                    "  {role:<12} {} {} on {}\n",
                    clean(&party.comm),
                    party.pid,
                    clean(host.unwrap_or("?"))
                ),
            );
        }
        text.push_str(&indent(&self.downtimes(migration)));
        for device in &migration.devices {
            for (role, side) in [("source", &device.source), ("destination", &device.destination)] {
                if let Some(side) = side {
                    self.side(role, side, &mut text);
                }
            }
            if let Some(guess) = device.paired_by.and_then(guess) {
                let what = "together";
                put(&mut text, format_args!("  {what:<12} {}: {guess}\n", self.both(device)));
            }
        }
        for device in &migration.devices {
            for side in device.source.iter().chain(&device.destination) {
                for failure in &side.failures {
                    self.failure(side.device, failure, &mut text);
                }
                for finding in &side.findings {
                    self.finding(finding, &mut text);
                }
            }
        }
        for warning in &migration.warnings {
            self.warning(warning, &mut text);
        }
        text
    }

    /// Returns a table with a line per migration.
    fn overview(&self) -> String {
        let columns = [
            TableColumn::right("migration"),
            TableColumn::left("began"),
            TableColumn::right("took"),
            TableColumn::left("verdict"),
            TableColumn::right("downtime"),
            TableColumn::left("devices"),
        ];
        let row = |migration: &VmMigration| {
            let style = if migration.verdict == MigrationVerdict::Failed {
                CellStyle::Error
            } else {
                CellStyle::Plain
            };
            let devices: Vec<String> = migration.devices.iter().take(FEW).map(|one| self.both(one)).collect();
            let more = migration.devices.len().saturating_sub(FEW);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let downtime = migration.downtime.as_ref().map_or_else(|| "-".to_owned(), total);
            vec![
                self.cell(&migration.nr.to_string()),
                self.cell(&self.wall(migration.start_ns)),
                self.cell(&duration(migration.end_ns.saturating_sub(migration.start_ns))),
                TextCell::of(self.color, style, migration.verdict.name()),
                self.cell(&downtime),
                self.cell(&format!("{}{more}", devices.join(", "))),
            ]
        };
        let rows: Vec<Vec<TextCell>> = self.document.migrations.iter().map(row).collect();
        table(&columns, &rows, self.color)
    }

    /// Appends the failures and findings of a device that belong to no migration: with times, because no heading gives
    /// one.
    fn outside(&self, outside: &OutsideIssues, text: &mut String) {
        let driver = self.device(outside.device).and_then(|device| device.driver.as_deref()).unwrap_or("?");
        put(text, format_args!("  {} ({})\n", clean(self.name(outside.device)), clean(driver)));
        let mut lines: Vec<(u64, String)> = Vec::new();
        for failure in &outside.failures {
            let mut line = format!("    {}\n  ", self.wall(failure.at_ns));
            self.failure(outside.device, failure, &mut line);
            lines.push((failure.at_ns, line));
        }
        for finding in &outside.findings {
            let mut line = format!("    {}\n", self.wall(finding.at_ns));
            let mut told = String::new();
            self.finding(finding, &mut told);
            line.push_str(&indent(&told));
            lines.push((finding.at_ns, line));
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut before = None;
        for (at, line) in lines {
            // Entries of the same time share one line with the time.
            let (_, rest) = line.split_once('\n').unwrap_or_default();
            text.push_str(if before == Some(at) { rest } else { &line });
            before = Some(at);
        }
    }

    fn downtimes(&self, migration: &VmMigration) -> String {
        let Some(all) = &migration.downtime else { return String::new() };
        let stages: Vec<DowntimeStage> =
            DowntimeStage::ALL.into_iter().filter(|stage| all.stage(*stage).is_some()).collect();
        let mut columns = vec![TableColumn::left("downtime"), TableColumn::right("total")];
        columns.extend(stages.iter().map(|stage| TableColumn::right(stage.name())));
        let row = |name: String, downtime: &DowntimeBreakdown| {
            let mut row = vec![self.cell(&name), self.cell(&total(downtime))];
            row.extend(stages.iter().map(|stage| {
                let time = downtime.stage(*stage).map_or_else(String::new, |time| duration(time.share_ns));
                self.cell(&time)
            }));
            row
        };
        let mut rows: Vec<Vec<TextCell>> = migration
            .devices
            .iter()
            .filter_map(|device| Some(row(self.both(device), device.downtime.as_ref()?)))
            .collect();
        if rows.len() > 1 {
            rows.push(row("all devices".to_owned(), all));
        }
        let mut text = table(&columns, &rows, self.color);
        if let Some(why) = &all.why {
            put(&mut text, format_args!("not exact: {}\n", clean(why)));
        }
        for time in all.stages.iter().filter(|time| time.blurred_ns > 0) {
            put(
                &mut text,
                format_args!(
                    "{}: up to {} of it are pauses between calls, which are too many to be kept one by one\n",
                    time.stage.name(),
                    duration(time.blurred_ns)
                ),
            );
        }
        if !migration.order.is_empty() {
            let order: Vec<String> = migration
                .order
                .iter()
                .map(|one| {
                    let order = match one.order {
                        crate::report::document::DeviceConcurrency::Series => "in series",
                        crate::report::document::DeviceConcurrency::Parallel => "in parallel",
                        crate::report::document::DeviceConcurrency::Mixed => "partly in parallel",
                    };
                    format!(
                        "{} {order} ({} of {})",
                        one.stage.name(),
                        duration(one.union_ns),
                        duration(one.sum_ns)
                    )
                })
                .collect();
            put(&mut text, format_args!("{}\n", order.join(", ")));
        }
        text
    }

    fn cell(&self, text: &str) -> TextCell {
        TextCell::of(self.color, CellStyle::Plain, text)
    }

    fn both(&self, device: &DeviceMigration) -> String {
        let name = |side: &Option<MigrationSide>| {
            side.as_ref().map(|side| clean(self.name(side.device)).into_owned())
        };
        match (name(&device.source), name(&device.destination)) {
            (Some(from), Some(to)) if from != to => format!("{from} → {to}"),
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => String::new(),
        }
    }

    fn side(&self, role: &str, side: &MigrationSide, text: &mut String) {
        let driver = self.device(side.device).and_then(|device| device.driver.as_deref()).unwrap_or("?");
        let states: Vec<String> = side
            .phases
            .iter()
            .filter(|phase| !phase.arc)
            .map(|phase| format!("{} {}", phase.name, duration(phase.end_ns.saturating_sub(phase.start_ns))))
            .collect();
        put(
            text,
            format_args!(
                "  {role:<12} {} ({}): {}{}\n",
                clean(self.name(side.device)),
                clean(driver),
                side.verdict.name(),
                if states.is_empty() { String::new() } else { format!("; {}", states.join(", ")) }
            ),
        );
        for nr in &side.sessions {
            if let Some(session) = self.document.sessions.get(*nr as usize) {
                text.push_str(&session_lines(session));
            }
        }
    }

    fn failure(&self, device: u32, failure: &DeviceFailure, text: &mut String) {
        let step = match (&failure.step, &failure.step_errno) {
            (Some(step), errno) => {
                let step = format!("; its first step that failed: {step} {}", errno.as_deref().unwrap_or(""));
                clean(&step).into_owned()
            },
            (None, _) => String::new(),
        };
        put(
            text,
            format_args!(
                "  {} {}: {} {}{}\n",
                self.styled(CellStyle::Error, "failed:"),
                clean(self.name(device)),
                clean(&failure.what),
                clean(failure.errno.as_deref().unwrap_or("")),
                step.trim_end()
            ),
        );
    }

    fn finding(&self, finding: &ReportFinding, text: &mut String) {
        put(
            text,
            format_args!(
                "  {} {}: {}\n    check: {}\n",
                self.severity(finding.severity),
                clean(&finding.code),
                clean(&finding.text),
                clean(&finding.check)
            ),
        );
    }

    fn warning(&self, warning: &ReportWarning, text: &mut String) {
        let device = warning.device.map_or_else(String::new, |nr| format!("{}: ", clean(self.name(nr))));
        put(
            text,
            format_args!(
                "  {} {}: {device}{}\n",
                self.severity(warning.severity),
                clean(warning.code),
                clean(&warning.text)
            ),
        );
    }

    fn severity(&self, severity: FindingSeverity) -> String {
        let style = match severity {
            FindingSeverity::Error => CellStyle::Error,
            FindingSeverity::Warning => CellStyle::Bold,
            FindingSeverity::Info => CellStyle::Dim,
        };
        self.styled(style, &format!("{}:", severity.name()))
    }
}

/// Returns the caution for a pair of sides that may not belong together.
const fn guess(by: PairingReason) -> Option<&'static str> {
    match by {
        PairingReason::Time => Some("nothing but the time tells that they belong together; `--pair` says it"),
        PairingReason::Order => {
            Some("several had as many bytes: by the order in which they began; `--pair` says it")
        },
        PairingReason::StreamBytes | PairingReason::StreamHash | PairingReason::Option => None,
    }
}

/// Formats the total with its bound: `12.3 ms`, `≥ 12.3 ms`, `12.3 ± 0.4 ms`.
fn total(downtime: &DowntimeBreakdown) -> String {
    let total = duration(downtime.total_ns);
    match (downtime.bound, downtime.uncertainty_ns) {
        (DowntimeBound::Exact, _) => total,
        (DowntimeBound::AtLeast, _) => format!("≥ {total}"),
        (DowntimeBound::About, Some(uncertainty)) => format!("{total} ± {}", duration(uncertainty)),
        (DowntimeBound::About, None) => format!("≈ {total}"),
    }
}

fn session_lines(session: &DataSession) -> String {
    let mut text = String::new();
    for part in &session.parts {
        let name = match part.part {
            PartName::PreCopy => "PRE_COPY",
            PartName::StopCopy => "STOP_COPY",
            PartName::Resuming => "RESUMING",
            PartName::Unknown => "unknown",
        };
        let rate = part.bytes_per_s.filter(|_| part.calls > 1);
        let rate = rate.map_or_else(String::new, |rate| format!(", {}/s", bytes(rate)));
        let most =
            part.latency_ns.max.map_or_else(String::new, |max| format!(", longest call {}", duration(max)));
        put(
            &mut text,
            format_args!(
                "    {name:<10} {} in {}, blocked {}{rate}{most}{}\n",
                bytes(part.bytes),
                count(part.calls, "call"),
                duration(part.blocked_ns),
                if part.failed > 0 { format!(", {} failed", part.failed) } else { String::new() }
            ),
        );
    }
    text
}

fn indent(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _never = text.write_fmt(what).is_err();
}
