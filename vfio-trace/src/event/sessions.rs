//! Data sessions: the data that moves through one data fd between the request that created it and its last close.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{DataClose, DataDirection, DeviceRef, MigState};

/// Most sessions that are kept, more than any host has open at once. Beyond it the oldest is forgotten: its release was
/// not seen.
const MAX_SESSIONS: usize = 4096;

/// Open sessions, by the address of their `struct file`.
#[derive(Debug, Default)]
pub(super) struct OpenSessions {
    open: BTreeMap<u64, OpenSession>,
    next_nr: u32,
    /// Number of sessions that were forgotten because the table was full.
    forgotten: u64,
}

/// One session.
#[derive(Debug)]
pub(super) struct OpenSession {
    pub(super) nr: u32,
    /// The device, once a record has named it.
    pub(super) device: Option<DeviceRef>,
    /// The device's address, to recognise calls that end the session; 0 if not known or no longer this device's.
    pointer: u64,
    pub(super) direction: Option<DataDirection>,
    /// Start time; `None` if the start was not seen.
    started_ns: Option<u64>,
    pub(super) ended: bool,
    reads: u64,
    writes: u64,
    failed: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// Furthest offset seen.
    furthest: Option<u64>,
    /// True if the file's offset moved.
    moves: bool,
    /// True if the offset was still 0 although bytes had gone through.
    stuck: bool,
}

impl OpenSession {
    /// Takes one call into account.
    pub(super) fn io(&mut self, direction: DataDirection, failed: bool, bytes: u64, offset: Option<u64>) {
        self.direction.get_or_insert(direction);
        self.moves |= offset.is_some_and(|offset| offset > 0);
        self.stuck |= offset == Some(0) && self.seen() > 0 && !self.ended;
        let (calls, moved) = match direction {
            DataDirection::Save => (&mut self.reads, &mut self.read_bytes),
            DataDirection::Resume => (&mut self.writes, &mut self.written_bytes),
        };
        *calls += 1;
        *moved = moved.saturating_add(bytes);
        self.failed += u64::from(failed);
        self.furthest = self.furthest.max(offset.map(|offset| offset.saturating_add(bytes)));
    }

    fn seen(&self) -> u64 {
        self.read_bytes.saturating_add(self.written_bytes)
    }

    /// Returns true if the offset shows how many bytes went through: not every driver counts in its files (xe does
    /// not). In a session that is older than the trace only an offset other than 0 shows that it does.
    fn counts(&self, position: Option<u64>) -> bool {
        let partial = self.started_ns.is_none() && self.seen() > 0;
        self.moves || position.is_some_and(|position| position > 0) || !(self.stuck || partial)
    }

    /// Returns the account of the session at its last close.
    pub(super) fn account(&self, position: Option<u64>, now_ns: u64) -> DataClose {
        // Calls come in the order of their return, so only the sum shows the bytes that were not seen.
        let seen = self.seen();
        let furthest = self.furthest.max(position).filter(|_| self.counts(position));
        DataClose {
            session: Some(self.nr),
            direction: self.direction,
            partial: self.started_ns.is_none(),
            ended: self.ended,
            reads: self.reads,
            writes: self.writes,
            failed: self.failed,
            read_bytes: self.read_bytes,
            written_bytes: self.written_bytes,
            missed_bytes: furthest.map(|furthest| furthest.saturating_sub(seen)),
            position_bytes: position,
            lifetime_ns: self.started_ns.map(|start| now_ns.saturating_sub(start)),
        }
    }
}

impl OpenSessions {
    /// Starts a session, for a file that a request returned. An earlier session of this address is gone.
    pub(super) fn start(
        &mut self,
        file: u64,
        pointer: u64,
        device: Option<DeviceRef>,
        target: MigState,
        now_ns: u64,
    ) -> u32 {
        let direction = match target {
            MigState::STOP_COPY | MigState::PRE_COPY | MigState::PRE_COPY_P2P => Some(DataDirection::Save),
            MigState::RESUMING => Some(DataDirection::Resume),
            _ => None,
        };
        self.insert(file, pointer, device, direction, Some(now_ns)).nr
    }

    /// Returns the session of a file; one whose start was not seen is made up as partial. `None` for address 0.
    pub(super) fn of(
        &mut self,
        file: u64,
        pointer: u64,
        device: Option<DeviceRef>,
    ) -> Option<&mut OpenSession> {
        if file == 0 {
            return None;
        }
        if !self.open.contains_key(&file) {
            return Some(self.insert(file, pointer, device, None, None));
        }
        let session = self.open.get_mut(&file)?;
        if session.device.is_none() && device.is_some() {
            session.device = device;
            session.pointer = pointer;
        }
        Some(session)
    }

    /// Returns the session of a file, if it is open and this device's.
    pub(super) fn peek(&self, file: u64, pointer: u64) -> Option<&OpenSession> {
        self.open.get(&file).filter(|session| session.pointer == pointer || session.pointer == 0)
    }

    /// Takes the session out at its last close.
    pub(super) fn close(
        &mut self,
        file: u64,
        pointer: u64,
        device: Option<DeviceRef>,
    ) -> Option<OpenSession> {
        self.of(file, pointer, device)?;
        self.open.remove(&file)
    }

    /// Marks this device's open sessions as ended by the driver.
    pub(super) fn end(&mut self, pointer: u64) {
        for session in self.open.values_mut().filter(|session| pointer != 0 && session.pointer == pointer) {
            session.ended = true;
        }
    }

    /// Detaches sessions from a device that is gone: its address may be used again.
    pub(super) fn forget_device(&mut self, pointer: u64) {
        self.end(pointer);
        for session in self.open.values_mut().filter(|session| session.pointer == pointer) {
            session.pointer = 0;
        }
    }

    /// Returns the number of sessions that were forgotten because the table was full.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn insert(
        &mut self,
        file: u64,
        pointer: u64,
        device: Option<DeviceRef>,
        direction: Option<DataDirection>,
        started_ns: Option<u64>,
    ) -> &mut OpenSession {
        if self.open.len() >= MAX_SESSIONS
            && let Some(oldest) =
                self.open.iter().min_by_key(|(_, session)| session.nr).map(|(&file, _)| file)
        {
            self.open.remove(&oldest);
            self.forgotten += 1;
        }
        self.next_nr = self.next_nr.saturating_add(1);
        let session = OpenSession {
            nr: self.next_nr,
            device,
            pointer,
            direction,
            started_ns,
            ended: false,
            reads: 0,
            writes: 0,
            failed: 0,
            read_bytes: 0,
            written_bytes: 0,
            furthest: None,
            moves: false,
            stuck: false,
        };
        match self.open.entry(file) {
            Entry::Vacant(entry) => entry.insert(session),
            Entry::Occupied(mut entry) => {
                entry.insert(session);
                entry.into_mut()
            },
        }
    }
}
