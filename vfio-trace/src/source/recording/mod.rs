//! A recording as a source of records: several parts in their order, the same on any machine.

mod error;

use std::{
    collections::VecDeque,
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use vfio_trace_common::wire;
use zerocopy::FromBytes as _;

pub use self::error::RecordingError;
use crate::{
    event::{ProbeReport, TraceStart, probes_since},
    recording::{
        BlockItem, ClockSample, EndReason, MergeNote, PartEnd, PartHeader, PartOpenError, ReaderEntry,
        RecordingDamage, RecordingReader,
    },
};

/// Next item of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingItem {
    /// A record.
    Record(Bytes),
    /// Time to be passed to a pipeline (`Pipeline::tick`).
    Tick(u64),
    /// Readings of the host's clocks.
    Clock(ClockSample),
    /// Records are missing here; those that follow are right.
    Damage {
        /// The file.
        name: String,
        /// Kind of the damage.
        damage: RecordingDamage,
    },
    /// Another recording follows in the same stream, which is no part of this one.
    OtherRecording {
        /// The file.
        name: String,
        /// Its host, if it has a name.
        host: Option<String>,
    },
}

/// End of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingEnd {
    /// CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// Counts of the probes since the first part that was read began.
    pub probes: Vec<ProbeReport>,
    /// Number of a following part that was not given.
    pub continued: Option<u32>,
}

struct PartInput {
    name: String,
    path: Option<PathBuf>,
    part: u32,
}

/// The parts of one recording as a source of records. Made from files or a stream; the verbs that read recordings take
/// its items in order and feed them to a pipeline.
pub struct RecordingSource {
    /// Inputs that follow.
    inputs: VecDeque<PartInput>,
    name: String,
    reader: RecordingReader<Box<dyn Read>>,
    /// The first part that was read.
    first: PartHeader,
    /// True if records that a part repeats are needed: the part before it was not read to its end, or is incomplete.
    needs_repeated: bool,
    /// True if records of the part may be missing.
    records_missing: bool,
    /// True if the reader's part is out of order: nothing of it is shown.
    left_out: bool,
    /// Files that cannot be read, and the reasons.
    unread: VecDeque<(String, PartOpenError)>,
    end: Option<PartEnd>,
    /// The part that is being read.
    part: u32,
    /// A tick that only the next item can confirm.
    uncertain_tick: Option<u64>,
    /// The record after a doubtful tick.
    held_record: Option<Bytes>,
    /// Readings of the clocks at the part's beginning, until they are passed on.
    began: Option<ClockSample>,
    /// Latest reading of the probes, if there is no end.
    probes: Option<Vec<ProbeReport>>,
    over: bool,
    /// True if the rest of the stream was left out on purpose.
    alone: bool,
    /// True if the reader has come to another recording.
    other: bool,
    /// Number of bytes of the inputs that are finished.
    before: u64,
    total: Option<u64>,
}

impl RecordingSource {
    /// Opens the parts of one recording, given in any order; `-` is standard input.
    ///
    /// # Errors
    ///
    /// See [`RecordingError`].
    pub fn open(paths: &[PathBuf]) -> Result<Self, RecordingError> {
        refuse_pipes(paths)?;
        let (mut inputs, mut unread) = (Vec::<PartInput>::new(), VecDeque::new());
        let mut recording: Option<String> = None;
        let mut total = Some(0u64);
        for path in paths.iter().filter(|path| paths.len() > 1 || path.as_os_str() != "-") {
            let (name, file) = open_file(path)?;
            let stat = file.metadata().ok().filter(Metadata::is_file);
            let len = stat.map(|stat| stat.len());
            total = total.zip(len).map(|(total, len)| total.saturating_add(len));
            // A single file need not be readable twice: it may be a pipe.
            if paths.len() == 1 {
                return Self::begin(name, Box::new(file), VecDeque::new(), total);
            }
            let header = match RecordingReader::open(file) {
                Ok(reader) => reader.header().clone(),
                // The newest may be empty yet; the others are as good without it.
                Err(source) => {
                    unread.push_back((name, source));
                    continue;
                },
            };
            let same = recording.get_or_insert_with(|| header.recording.clone());
            if *same != header.recording {
                let first = inputs.first().map_or_else(String::new, |input: &PartInput| input.name.clone());
                return Err(RecordingError::Different { first, second: name });
            }
            inputs.push(PartInput { name, path: Some(path.clone()), part: header.part });
        }
        inputs.sort_by_key(|input| input.part);
        for pair in inputs.windows(2) {
            if let [one, two] = pair
                && one.part == two.part
            {
                return Err(RecordingError::Twice { first: one.name.clone(), second: two.name.clone() });
            }
        }
        let mut inputs = VecDeque::from(inputs);
        match (inputs.pop_front(), unread.pop_front()) {
            (Some(PartInput { path: Some(path), .. }), first) => {
                let (name, file) = open_file(&path)?;
                unread.extend(first);
                Ok(Self { unread, ..Self::begin(name, Box::new(file), inputs, total)? })
            },
            (_, Some((name, source))) => Err(RecordingError::Open { name, source }),
            (_, None) => Self::from_stream("standard input", Box::new(io::stdin())),
        }
    }

    /// Opens one stream, which may have several parts.
    ///
    /// # Errors
    ///
    /// [`RecordingError::Open`].
    pub fn from_stream(name: &str, stream: Box<dyn Read>) -> Result<Self, RecordingError> {
        Self::begin(name.to_owned(), stream, VecDeque::new(), None)
    }

    fn begin(
        name: String,
        stream: Box<dyn Read>,
        inputs: VecDeque<PartInput>,
        total: Option<u64>,
    ) -> Result<Self, RecordingError> {
        let reader = open_reader(&name, stream)?;
        let first = reader.header().clone();
        let (end, probes, part, began) = (None, None, first.part, Some(first.clock));
        Ok(Self {
            inputs,
            name,
            reader,
            first,
            needs_repeated: true,
            records_missing: false,
            left_out: false,
            unread: VecDeque::new(),
            end,
            part,
            uncertain_tick: None,
            held_record: None,
            began,
            probes,
            over: false,
            alone: false,
            other: false,
            before: 0,
            total,
        })
    }

    /// Returns the run's description and start time, from the first part that is read.
    pub fn start(&self) -> (TraceStart, u64) {
        (self.first.start.clone(), self.first.part_began_ns)
    }

    /// Returns the header of the first part that is read.
    pub const fn header(&self) -> &PartHeader {
        &self.first
    }

    /// Returns the note of the merge, if it was merged with others.
    pub const fn merge(&self) -> Option<&MergeNote> {
        self.reader.merge()
    }

    /// Returns the recording that follows in the same stream, once [`RecordingItem::OtherRecording`] has shown that
    /// there is one.
    pub fn other(self) -> Option<Self> {
        if !self.other {
            return None;
        }
        let first = self.reader.header().clone();
        Some(Self {
            part: first.part,
            began: Some(first.clock),
            first,
            needs_repeated: true,
            records_missing: false,
            left_out: false,
            end: None,
            uncertain_tick: None,
            held_record: None,
            probes: None,
            over: false,
            other: false,
            ..self
        })
    }

    /// Returns true if recordings of other hosts are in the same stream, as far as was read, and this one was not chosen
    /// among them.
    pub const fn has_others(&self) -> bool {
        !self.alone && (self.other || self.merge().is_some())
    }

    /// Returns the same, without items for other recordings in the stream: this one was chosen among them.
    #[must_use]
    pub fn without_others(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Returns the bytes read, and the total number of bytes if that is known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.before + self.reader.position(), self.total)
    }

    /// Returns true if the next item has yet to be read from the input: the caller may want to pass on first the items
    /// that it has.
    pub fn is_waiting(&self) -> bool {
        self.held_record.is_none() && self.reader.is_waiting()
    }

    /// Returns the end of the recording; `None` if it is missing, or not reached yet.
    pub fn ended(&self) -> Option<RecordingEnd> {
        let end = self.end.as_ref()?;
        Some(RecordingEnd {
            mono_ns: end.mono_ns,
            probes: probes_since(&self.first.start.probes, end.probes.clone()),
            continued: (end.reason == EndReason::Rotated).then(|| self.part.saturating_add(1)),
        })
    }

    /// Returns the probes' counts as the recorder last read them, if there is no end. `None`: it never did.
    pub fn last_probes(&self) -> Option<Vec<ProbeReport>> {
        let probes = self.probes.clone()?;
        Some(probes_since(&self.first.start.probes, probes))
    }

    /// Returns the next item; `None` at the end. Reads no more of a stream than the item takes.
    ///
    /// # Errors
    ///
    /// [`RecordingError`]; items that were read before remain valid.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and lends nothing")]
    pub fn next(&mut self) -> Result<Option<RecordingItem>, RecordingError> {
        loop {
            if let Some((name, why)) = self.unread.pop_front() {
                return Ok(Some(unread(name, &why)));
            }
            if let Some(bytes) = self.held_record.take() {
                return Ok(Some(RecordingItem::Record(bytes)));
            }
            if self.over {
                return Ok(None);
            }
            if let Some(sample) = self.began.take() {
                return Ok(Some(RecordingItem::Clock(sample)));
            }
            let entry = self.reader.next();
            let entry = entry.map_err(|source| RecordingError::Read { name: self.name.clone(), source })?;
            let next = match entry {
                Some(ReaderEntry::Item(item)) => self.item(item),
                Some(ReaderEntry::Part(header)) => self.part(&header)?,
                Some(ReaderEntry::Damage(damage)) => {
                    self.records_missing |= damage.loses_records();
                    Some(self.damage(damage))
                },
                None => self.next_input()?,
            };
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn damage(&self, damage: RecordingDamage) -> RecordingItem {
        RecordingItem::Damage { name: self.name.clone(), damage }
    }

    fn item(&mut self, item: BlockItem) -> Option<RecordingItem> {
        if self.left_out {
            return None;
        }
        match item {
            BlockItem::Record(bytes) => return Some(self.record(bytes)),
            BlockItem::Repeated(bytes) => return self.needs_repeated.then_some(RecordingItem::Record(bytes)),
            BlockItem::Tick(ns) if self.reader.header().settled_ticks => {
                return Some(RecordingItem::Tick(ns));
            },
            BlockItem::Tick(ns) => return self.uncertain_tick.replace(ns).map(RecordingItem::Tick),
            BlockItem::Clock(sample) => return Some(RecordingItem::Clock(sample)),
            BlockItem::Probes(probes) => self.probes = Some(probes),
            BlockItem::End(end) => {
                self.probes = None;
                let failed = end.reason == EndReason::Failed;
                self.end = Some(end);
                return failed.then(|| self.damage(RecordingDamage::Failed));
            },
        }
        None
    }

    /// Passes on a record; before it an uncertain tick, lowered to the record's time if that is earlier.
    fn record(&mut self, bytes: Bytes) -> RecordingItem {
        let header = wire::Header::read_from_prefix(&bytes).ok().map(|(header, _)| header);
        // A note's time comes from the recorder's clock, as the tick's does: it proves nothing.
        let made = header.filter(|header| header.kind != wire::Kind::Note as u16).map(|header| header.end_ns);
        let Some((tick, made)) = self.uncertain_tick.zip(made) else { return RecordingItem::Record(bytes) };
        self.uncertain_tick = None;
        self.held_record = Some(bytes);
        RecordingItem::Tick(tick.min(made))
    }

    fn next_input(&mut self) -> Result<Option<RecordingItem>, RecordingError> {
        let Some(input) = self.inputs.pop_front() else {
            self.over = true;
            return Ok(None);
        };
        let Some(path) = &input.path else { return Ok(None) };
        let (name, file) = open_file(path)?;
        // It could be read a moment ago.
        let reader = match RecordingReader::open(Box::new(file) as Box<dyn Read>) {
            Ok(reader) => reader,
            Err(why) => return Ok(Some(unread(name, &why))),
        };
        if reader.header().recording != self.first.recording {
            return Err(RecordingError::Different { first: self.name.clone(), second: name });
        }
        self.before = self.before.saturating_add(self.reader.position());
        self.reader = reader;
        self.name = name;
        Ok(self.follow())
    }

    /// Starts another part of the same stream.
    fn part(&mut self, header: &PartHeader) -> Result<Option<RecordingItem>, RecordingError> {
        if header.recording == self.first.recording {
            return Ok(self.follow());
        }
        if let Some(input) = self.inputs.front() {
            return Err(RecordingError::Mixed { name: self.name.clone(), other: input.name.clone() });
        }
        (self.over, self.other) = (true, true);
        let host = header.start.host.clone();
        Ok((!self.alone).then(|| RecordingItem::OtherRecording { name: self.name.clone(), host }))
    }

    /// Goes on with the reader's part.
    fn follow(&mut self) -> Option<RecordingItem> {
        let next = self.reader.header().part;
        self.left_out = next <= self.part;
        if self.left_out {
            return Some(self.damage(RecordingDamage::PartOrder { after: self.part, part: next }));
        }
        self.began = Some(self.reader.header().clock);
        let before = std::mem::replace(&mut self.part, next);
        let whole = self.end.take().is_some() && next == before.saturating_add(1);
        self.needs_repeated = !whole || std::mem::take(&mut self.records_missing);
        (next > before.saturating_add(1))
            .then(|| self.damage(RecordingDamage::MissingParts { after: before, next }))
    }
}

fn unread(name: String, why: &PartOpenError) -> RecordingItem {
    RecordingItem::Damage { name, damage: RecordingDamage::Unread { why: why.to_string() } }
}

/// Refuses what can be read only once where several files are looked into first.
///
/// # Errors
///
/// [`RecordingError::Pipe`].
pub fn refuse_pipes(paths: &[PathBuf]) -> Result<(), RecordingError> {
    let once =
        |path: &&PathBuf| fs::metadata(path.as_path()).is_ok_and(|there| !there.is_file() && !there.is_dir());
    match paths.iter().filter(|_| paths.len() > 1).find(once) {
        Some(path) => Err(RecordingError::Pipe { name: path.display().to_string() }),
        None => Ok(()),
    }
}

fn open_file(path: &Path) -> Result<(String, File), RecordingError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Ok((name, file)),
        Err(source) => Err(RecordingError::File { name, source }),
    }
}

fn open_reader(name: &str, stream: Box<dyn Read>) -> Result<RecordingReader<Box<dyn Read>>, RecordingError> {
    RecordingReader::open(stream).map_err(|source| RecordingError::Open { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests;
