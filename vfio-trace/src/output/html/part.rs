//! Selects the part of a document that a page has room for: a browser has to hold all of it.

use std::collections::{HashMap, HashSet};

use crate::{
    report::{
        document::{
            DataSession, MigrationDocument, MigrationSide, MigrationVerdict, OmittedCounts, ReportFinding,
            ReportWarning, TracedDevice, VmMigration,
        },
        windows::SpanIndex,
    },
    units::visible,
};

/// Most bytes of a page's document, as JSON.
pub(super) const BYTES: usize = 32 << 20;

/// Numbers of migrations of a page, and of entries of each list below them: the first pair that fits is used.
const ROOM: [(usize, usize); 7] =
    [(500, usize::MAX), (500, 10_000), (100, 10_000), (20, 1_000), (5, 1_000), (1, 100), (0, 0)];

/// Returns the document as JSON, or as much of it as fits into so many bytes.
pub(super) fn json(document: &MigrationDocument, bytes: usize) -> serde_json::Result<String> {
    let mut json = String::new();
    for (migrations, entries) in ROOM {
        json = if migrations >= document.migrations.len() && entries == usize::MAX {
            visible::json(document)?
        } else {
            visible::json(&part(document, migrations, entries))?
        };
        if json.len() <= bytes {
            break;
        }
    }
    Ok(json)
}

/// Returns a document with at most `most` migrations, the items that they refer to at their times, and at most
/// `entries` entries of each list.
fn part(document: &MigrationDocument, most: usize, entries: usize) -> MigrationDocument {
    let mut migrations: Vec<&VmMigration> = document.migrations.iter().collect();
    migrations.sort_by_key(|one| one.verdict != MigrationVerdict::Failed);
    migrations.truncate(most);
    migrations.sort_by_key(|one| one.nr);
    let whole = migrations.len() == document.migrations.len();
    let outside = &document.outside[..document.outside.len().min(most)];

    let sides = || {
        migrations
            .iter()
            .flat_map(|one| &one.devices)
            .flat_map(|one| one.source.iter().chain(&one.destination))
    };
    let mut devices: HashSet<u32> = sides().map(|side| side.device).collect();
    devices.extend(outside.iter().map(|one| one.device));
    let mut sessions: HashSet<u32> = sides().flat_map(|side| side.sessions.iter().copied()).collect();
    if whole {
        // Devices and sessions of no migration are included, too, if there is room.
        devices.extend(document.devices.iter().map(|one| one.nr).take(most));
        let others = document.sessions.iter().filter(|one| devices.contains(&one.device));
        sessions.extend(others.map(|one| one.nr).take(most));
    }
    let mut cut = PageSelection {
        devices: places(document.devices.iter().map(|one| one.nr), &devices),
        sessions: places(document.sessions.iter().map(|one| one.nr), &sessions),
        spans: (!whole).then(|| SpanIndex::new(migrations.iter().map(|one| (one.start_ns, one.end_ns)))),
        entries,
        omitted: 0,
    };
    let mut part = MigrationDocument {
        schema: document.schema,
        schema_version: document.schema_version,
        version: document.version.clone(),
        origin: document.origin.clone(),
        duration_ns: document.duration_ns,
        hosts: document.hosts.clone(),
        merge: document.merge.clone(),
        devices: document.devices.iter().filter_map(|one| cut.device(one)).collect(),
        sessions: document.sessions.iter().filter_map(|one| cut.session(one)).collect(),
        migrations: migrations.iter().map(|one| cut.migration(one)).collect(),
        outside: outside.to_vec(),
        warnings: cut.warnings(&document.warnings),
        omitted: OmittedCounts::default(),
    };
    part.outside.retain_mut(|one| {
        cut.list(&mut one.failures);
        cut.findings(&mut one.findings);
        let device = cut.devices.get(&one.device).copied();
        one.device = device.unwrap_or(0);
        device.is_some()
    });
    let gone = |all: usize, kept: usize| (all - kept) as u64;
    part.omitted = OmittedCounts {
        migrations: gone(document.migrations.len(), part.migrations.len()),
        devices: gone(document.devices.len(), part.devices.len()),
        sessions: gone(document.sessions.len(), part.sessions.len()),
        outside: gone(document.outside.len(), part.outside.len()),
        entries: cut.omitted,
    };
    part
}

/// Returns the new index of each kept item.
fn places(all: impl Iterator<Item = u32>, kept: &HashSet<u32>) -> HashMap<u32, u32> {
    all.filter(|nr| kept.contains(nr)).zip(0..).collect()
}

struct PageSelection {
    devices: HashMap<u32, u32>,
    sessions: HashMap<u32, u32>,
    /// Times of the migrations; `None`: all times.
    spans: Option<SpanIndex>,
    entries: usize,
    omitted: u64,
}

impl PageSelection {
    fn list<T>(&mut self, list: &mut Vec<T>) {
        self.omitted += list.len().saturating_sub(self.entries) as u64;
        list.truncate(self.entries);
    }

    /// Copies a list's entries that are at the times of the migrations.
    fn copy<T: Clone>(&mut self, list: &[T], span: impl Fn(&T) -> (u64, u64)) -> Vec<T> {
        let within = |one: &&T| {
            let (start, end) = span(one);
            self.spans.as_ref().is_none_or(|spans| spans.overlapping(start, end).next().is_some())
        };
        let copy: Vec<T> = list.iter().filter(within).take(self.entries).cloned().collect();
        self.omitted += (list.len() - copy.len()) as u64;
        copy
    }

    fn device(&mut self, device: &TracedDevice) -> Option<TracedDevice> {
        let nr = *self.devices.get(&device.nr)?;
        let mut requests = self.copy(&device.requests, |one| (one.start_ns, one.end_ns));
        for request in &mut requests {
            request.session = request.session.and_then(|nr| self.sessions.get(&nr).copied());
        }
        let mut logs = self.copy(&device.dirty_logs, |one| (one.start_ns, one.stop_ns.unwrap_or(u64::MAX)));
        for log in &mut logs {
            self.list(&mut log.series);
        }
        Some(TracedDevice {
            nr,
            host: device.host,
            name: device.name.clone(),
            driver: device.driver.clone(),
            migration_flags: device.migration_flags,
            dirty_tracking: device.dirty_tracking,
            states: self.copy(&device.states, |one| (one.start_ns, one.end_ns)),
            arcs: self.copy(&device.arcs, |one| (one.start_ns, one.end_ns)),
            requests,
            steps: self.copy(&device.steps, |one| (one.start_ns, one.end_ns)),
            steps_left_out: device.steps_left_out,
            marks: self.copy(&device.marks, |one| (one.at_ns, one.at_ns)),
            marks_left_out: device.marks_left_out,
            sizes: self.copy(&device.sizes, |one| (one.at_ns, one.at_ns)),
            sizes_left_out: device.sizes_left_out,
            dirty_logs: logs,
        })
    }

    fn session(&mut self, session: &DataSession) -> Option<DataSession> {
        let nr = *self.sessions.get(&session.nr)?;
        let device = *self.devices.get(&session.device)?;
        let mut session = DataSession { nr, device, ..session.clone() };
        self.list(&mut session.series);
        self.list(&mut session.precopy_info);
        Some(session)
    }

    /// Copies a migration with the new places of its devices and sessions. It keeps its number, because the text has
    /// it, too.
    fn migration(&mut self, migration: &VmMigration) -> VmMigration {
        let mut migration = migration.clone();
        for device in &mut migration.devices {
            for side in device.source.iter_mut().chain(&mut device.destination) {
                self.side(side);
            }
        }
        migration.warnings = self.warnings(&migration.warnings);
        migration
    }

    fn side(&mut self, side: &mut MigrationSide) {
        side.device = self.devices.get(&side.device).copied().unwrap_or(0);
        side.sessions = side.sessions.iter().filter_map(|nr| self.sessions.get(nr).copied()).collect();
        self.list(&mut side.phases);
        self.list(&mut side.failures);
        self.findings(&mut side.findings);
    }

    fn findings(&mut self, findings: &mut Vec<ReportFinding>) {
        self.list(findings);
        for finding in findings {
            finding.device = self.devices.get(&finding.device).copied().unwrap_or(0);
            finding.session = finding.session.and_then(|nr| self.sessions.get(&nr).copied());
        }
    }

    /// Returns the warnings of no device, and of devices of the page.
    fn warnings(&mut self, all: &[ReportWarning]) -> Vec<ReportWarning> {
        let moved = |warning: &ReportWarning| {
            let device = match warning.device {
                Some(device) => Some(*self.devices.get(&device)?),
                None => None,
            };
            Some(ReportWarning { device, ..warning.clone() })
        };
        let warnings: Vec<ReportWarning> = all.iter().filter_map(moved).take(self.entries).collect();
        self.omitted += (all.len() - warnings.len()) as u64;
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::html::fixture;

    /// Checks that every index leads to an existing item.
    fn check(part: &MigrationDocument) {
        assert!((0..).zip(&part.devices).all(|(nr, one)| one.nr == nr));
        assert!((0..).zip(&part.sessions).all(|(nr, one)| one.nr == nr));
        let devices = part.devices.len() as u32;
        assert!(part.sessions.iter().all(|one| one.device < devices));
        for side in part
            .migrations
            .iter()
            .flat_map(|one| &one.devices)
            .flat_map(|one| one.source.iter().chain(&one.destination))
        {
            for nr in &side.sessions {
                assert_eq!(part.sessions[*nr as usize].device, side.device);
            }
        }
        let sessions = part.devices.iter().flat_map(|one| &one.requests).filter_map(|one| one.session);
        assert!(sessions.into_iter().all(|nr| (nr as usize) < part.sessions.len()));
        assert!(part.warnings.iter().filter_map(|one| one.device).all(|nr| nr < devices));
    }

    #[test]
    fn what_fits_is_whole() {
        for document in [fixture::many(), fixture::merged(), fixture::hostile(), fixture::bare()] {
            assert_eq!(json(&document, BYTES).unwrap(), visible::json(&document).unwrap());
        }
    }

    #[test]
    fn less_room_less_of_it_and_all_of_that_is_said() {
        let document = fixture::many();
        let whole = visible::json(&document).unwrap().len();
        let mut before = whole;
        for (most, entries) in [(50, usize::MAX), (20, 3), (1, 1), (0, 0)] {
            let part = part(&document, most, entries);
            check(&part);
            let told = part.omitted;
            assert_eq!(part.migrations.len() as u64 + told.migrations, document.migrations.len() as u64);
            assert_eq!(part.devices.len() as u64 + told.devices, document.devices.len() as u64);
            assert_eq!(part.sessions.len() as u64 + told.sessions, document.sessions.len() as u64);
            assert_eq!(part.migrations.len(), most);
            assert!(entries > 10 || part.devices.iter().all(|one| one.states.len() <= entries));
            let length = visible::json(&part).unwrap().len();
            assert!(length < before, "{most}: {length}");
            before = length;
        }
        // The limit holds for any number of bytes.
        for bytes in [whole - 1, whole / 2, whole / 10, 20_000] {
            assert!(json(&document, bytes).unwrap().len() <= bytes, "{bytes} of {whole}");
        }
    }

    #[test]
    fn those_that_failed_go_first_and_keep_their_numbers() {
        let mut document = fixture::many();
        document.migrations[70].verdict = MigrationVerdict::Failed;
        let part = part(&document, 3, usize::MAX);
        check(&part);
        let numbers: Vec<u32> = part.migrations.iter().map(|one| one.nr).collect();
        assert_eq!(numbers, [0, 1, 70]);
        let name = |document: &MigrationDocument, at: usize| {
            let side = document.migrations[at].devices[0].source.as_ref().unwrap();
            document.devices[side.device as usize].name.clone()
        };
        assert_eq!(name(&part, 2), name(&document, 70));
    }
}
