//! Reading of recordings, for all verbs that do: opening one, the way through it, and what is said on that way.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    error::{CliError, INPUT, USAGE},
    output::note,
};
use crate::{
    recording::ClockSample,
    source::recording::{RecordingError, RecordingItem, RecordingSource},
    units::human,
};

/// Number of damaged places that are told one by one. More are many of a kind.
const TOLD_DAMAGES: usize = 16;

/// Part of a recording that a sink still wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// All records.
    All,
    /// No more records, only the end mark, if there is one: a stream may go on for days.
    End,
    /// Nothing more.
    Nothing,
}

/// Takes what a recording has.
pub(super) trait RecordSink {
    /// Returns what it still wants; called before each item.
    fn demand(&self) -> Demand;
    /// Takes the next record.
    fn record(&mut self, bytes: &Bytes) -> Result<(), CliError>;
    /// Takes a time, CLOCK_MONOTONIC in ns, up to which all records have come.
    fn tick(&mut self, ns: u64) -> Result<(), CliError>;
    /// Takes what the host's clocks showed.
    fn clock(&mut self, sample: ClockSample);
    /// Does what can be done before the next item, which has yet to be read.
    fn pause(&mut self) {}
    /// Returns true if the caller sees to further recordings in the same stream.
    fn reads_others(&self) -> bool {
        false
    }
}

/// Result of reading a recording.
pub(super) struct ReadOutcome {
    /// Sentences on what is missing, which were printed.
    pub(super) damage: Vec<String>,
    /// True if another recording in the same stream was left out, which was printed: nothing is missing of this one.
    pub(super) others: bool,
    /// Error that ended reading before the end.
    pub(super) failed: Option<RecordingError>,
}

impl ReadOutcome {
    /// Returns true if something is missing.
    pub(super) const fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }

    /// Returns the exit code, once all that was read is shown.
    pub(super) fn code(self) -> Result<u8, CliError> {
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(if self.is_damaged() { INPUT } else { 0 }),
        }
    }

    /// Returns the exit code of a verb that shows all recordings that it is given.
    pub(super) fn code_of_all(self) -> Result<u8, CliError> {
        let others = self.others;
        self.code().map(|code| if others { INPUT } else { code })
    }
}

/// Opens the parts of one recording.
pub(super) fn open(files: &[PathBuf]) -> Result<RecordingSource, CliError> {
    if files.len() > 1 && files.iter().any(|file| file.as_os_str() == "-") {
        return Err(CliError::with_code(
            USAGE,
            "cannot read standard input among other files",
            "parts are put in order by looking into each before",
            "give all parts as files, or all through the pipe, as with: cat trace.*.vft | vfio-trace replay -",
        ));
    }
    Ok(RecordingSource::open(files)?)
}

/// Makes the error of a file that has changed when it is read a second time.
pub(super) fn changed(file: &Path) -> CliError {
    let what = format!("cannot read {} again", file.display());
    CliError::with_code(INPUT, what, "it has changed since it was read first", "try again")
}

/// Reads on until the taker has what it wants; says what is missing as it is met.
pub(super) fn read(
    recording: &mut RecordingSource,
    taker: &mut impl RecordSink,
    mut progress: ProgressLine,
) -> Result<ReadOutcome, CliError> {
    let mut through = ReadOutcome { damage: Vec::new(), others: false, failed: None };
    let (mut more, mut more_records) = (0u64, 0u64);
    loop {
        let wants = taker.demand();
        if wants == Demand::Nothing || (wants == Demand::End && recording.progress().1.is_none()) {
            break;
        }
        match recording.next() {
            Ok(Some(RecordingItem::Record(_) | RecordingItem::Tick(_))) if wants == Demand::End => {},
            Ok(Some(RecordingItem::Record(bytes))) => taker.record(&bytes)?,
            Ok(Some(RecordingItem::Tick(ns))) => taker.tick(ns)?,
            Ok(Some(RecordingItem::Clock(sample))) => taker.clock(sample),
            Ok(Some(RecordingItem::Damage { damage, .. })) if through.damage.len() >= TOLD_DAMAGES => {
                more += 1;
                more_records = more_records.saturating_add(damage.records());
            },
            Ok(Some(RecordingItem::Damage { name, damage })) => {
                progress.clear();
                note(&format!("{name}: {damage}"));
                through.damage.push(damage.to_string());
            },
            Ok(Some(RecordingItem::OtherRecording { .. })) if taker.reads_others() => {},
            Ok(Some(RecordingItem::OtherRecording { name, host })) => {
                progress.clear();
                let of = host.map_or_else(String::new, |host| format!(" of host {host}"));
                note(&format!(
                    "{name}: another recording{of} follows, which is left out: --host chooses one"
                ));
                through.others = true;
            },
            Ok(None) => break,
            Err(error) => {
                through.failed = Some(error);
                break;
            },
        }
        // Events come out of a pipe as blocks come in: what waits for input must not hold back output.
        if recording.is_waiting() {
            taker.pause();
            progress.show(recording.progress());
        }
    }
    progress.clear();
    if more > 0 {
        let places = human::count(more, "more place");
        let records = human::count(more_records, "record");
        let verb = if more == 1 { "is" } else { "are" };
        let text = format!("{places} behind these {verb} damaged: at least {records} lost");
        note(&text);
        through.damage.push(text);
    }
    Ok(through)
}

/// Returns a sentence for each part of the recording that is known of and was not given.
pub(super) fn not_given(recording: &RecordingSource) -> Vec<String> {
    let mut texts = Vec::new();
    let part = recording.header().part;
    if part > 1 {
        texts.push(format!("what was given begins with part {part} of the recording"));
    }
    if let Some(part) = recording.ended().and_then(|ended| ended.continued) {
        texts.push(format!("the recording goes on in part {part}, which was not given"));
    }
    texts
}

/// Line that shows how far reading is, on a terminal.
pub(super) struct ProgressLine {
    what: &'static str,
    shown: bool,
    wanted: bool,
    last: Instant,
}

impl ProgressLine {
    /// Makes a line that shows nothing in the first second, nor without a terminal. `what`: name of the work.
    pub(super) fn new(what: &'static str) -> Self {
        let last = Instant::now() + Duration::from_millis(800);
        Self { what, shown: false, wanted: io::stderr().is_terminal(), last }
    }

    /// Shows nothing where it would come between lines of output.
    #[must_use]
    pub(super) fn beside_output(self) -> Self {
        Self { wanted: self.wanted && !io::stdout().is_terminal(), ..self }
    }

    fn show(&mut self, (done, total): (u64, Option<u64>)) {
        if !self.wanted || self.last > Instant::now() {
            return;
        }
        self.last = Instant::now() + Duration::from_millis(200);
        let text = match total.filter(|total| *total > 0) {
            Some(total) => {
                let percent = done.saturating_mul(100) / total;
                format!("{percent} %, {} of {}", human::bytes(done), human::bytes(total))
            },
            None => human::bytes(done),
        };
        put(&format!("\r\x1b[K{}: {text}", self.what));
        self.shown = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            put("\r\x1b[K");
        }
    }
}

fn put(text: &str) {
    let mut stderr = io::stderr();
    // Nobody left to read it is no reason to stop.
    let _gone = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).is_err();
}
