//! A merged recording: the events of several hosts in the order of one clock.

use std::{collections::VecDeque, fs, io, path::PathBuf};

use crate::{
    cli::{
        error::{CliError, INPUT, USAGE},
        events::{EventArgs, EventLines, HostLabel},
        histories,
        host::nth,
        output::note,
        report::document_and_shifts,
    },
    event::{TraceStart, VfioEvent, WireRecord},
    pipeline::Pipeline,
    report::ClockShift,
    source::recording::{RecordingItem, RecordingSource},
    units::{
        human,
        width::{column, columns},
    },
};

/// Title of the column.
const TITLE: &str = "HOST";
/// Widest column of hosts: HOST_NAME_MAX of Linux. A longer name, which only a made-up recording has, pushes its own lines
/// to the right.
const MAX_HOST: usize = 64;

/// Events of one host, one after the other.
struct HostFeed {
    recording: RecordingSource,
    pipeline: Pipeline,
    events: VecDeque<VfioEvent>,
    over: bool,
    /// Shift from the host's CLOCK_MONOTONIC to the document's clock.
    shift: ClockShift,
    /// Distance from the first host's CLOCK_MONOTONIC to the document's clock, in ns.
    origin: i128,
    label: HostLabel,
}

/// Runs `vfio-trace replay` of a merged file.
pub(super) fn show<W: io::Write>(
    files: &[PathBuf],
    args: &EventArgs,
    out: W,
    color: bool,
) -> Result<u8, CliError> {
    let [file] = files else {
        return Err(CliError::with_code(
            USAGE,
            "cannot replay a merged recording among others",
            "it has all hosts already",
            "give it alone",
        ));
    };
    if file.as_os_str() == "-" || fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return Err(CliError::with_code(
            USAGE,
            "cannot replay a merged recording from a pipe",
            "its hosts come one after the other, and their events are put in order",
            "give it as a file; `vfio-trace report -` reads it from a pipe, too",
        ));
    }
    // The clocks are found out from all of it; what is missing is told here.
    let histories = histories::read(std::slice::from_ref(file))?;
    let (document, shifts) = document_and_shifts(&histories, &[]);
    let origin = shifts.first().map_or(0, ClockShift::first);
    let width = column_width(document.hosts.iter().map(|host| &*host.label));
    let mut feeds = Vec::new();
    for ((at, host), shift) in document.hosts.iter().enumerate().zip(shifts) {
        feeds.push(HostFeed {
            recording: nth(file, at)?,
            pipeline: Pipeline::new(args.reveal),
            events: VecDeque::new(),
            over: false,
            shift,
            origin,
            label: HostLabel { name: host.label.clone(), width },
        });
    }
    let Some(one) = feeds.first() else { return Ok(0) };
    let mut stream = EventLines::new(args, one.recording.header().start.clock, out, color);
    if let Some(history) = histories.all.first() {
        stream.set_clock(history.clock());
    }
    let starts: Vec<(TraceStart, u64)> = feeds.iter().map(HostFeed::start).collect();
    stream.start_hosts(&starts, &HostLabel { name: TITLE.to_owned(), width })?;
    while !stream.is_full() {
        let mut next: Option<(u64, usize)> = None;
        for (at, feed) in feeds.iter_mut().enumerate() {
            let end = feed.peek()?;
            next = end.map(|end| (end, at)).into_iter().chain(next).min();
        }
        let Some(feed) = next.and_then(|(_, at)| feeds.get_mut(at)) else { break };
        if let Some(event) = feed.events.pop_front() {
            stream.show_event(&event, Some(&feed.label))?;
        }
    }
    stream.flush();
    if !args.quiet && !stream.is_gone() {
        for merge in &document.merge {
            note(&format!("clock: {}", merge.text));
        }
        for feed in &feeds {
            if let Some(text) = undecoded(&feed.label.name, feed.pipeline.undecoded()) {
                note(&text);
            }
        }
        note("`vfio-trace report` tells what it adds up to");
    }
    Ok(if histories.damaged { INPUT } else { 0 })
}

/// Returns the width of the column for hosts with these names.
fn column_width(labels: impl Iterator<Item = impl AsRef<str>>) -> usize {
    column(labels.map(|label| columns(&human::clean(label.as_ref()))), MAX_HOST).max(TITLE.len())
}

/// Says of a host that some of its records are not shown.
fn undecoded(label: &str, number: u64) -> Option<String> {
    (number > 0).then(|| format!("{label}: {} could not be decoded", human::count(number, "record")))
}

impl HostFeed {
    /// Returns what the recording says of itself, and the time at which it began on the first host's clock.
    fn start(&self) -> (TraceStart, u64) {
        let (start, began) = self.recording.start();
        let replayed_by = Some(env!("CARGO_PKG_VERSION").to_owned());
        (TraceStart { replayed_by, ..start }, self.moved(began))
    }

    fn moved(&self, ns: u64) -> u64 {
        u64::try_from((self.shift.moved(ns) - self.origin).max(0)).unwrap_or(u64::MAX)
    }

    /// Returns the time at which the next event ended, on the first host's clock; reads on until there is one.
    fn peek(&mut self) -> Result<Option<u64>, CliError> {
        while self.events.is_empty() && !self.over {
            let mut events = Vec::new();
            let Ok(()) = match self.recording.next()? {
                Some(RecordingItem::Record(bytes)) => {
                    let record = WireRecord::decode(&bytes);
                    self.pipeline.push(record.as_ref().map_err(|error| *error), &mut events)
                },
                Some(RecordingItem::Tick(ns)) => self.pipeline.tick(ns, &mut events),
                // Taken in with the history.
                Some(RecordingItem::Clock(_)) => Ok(()),
                // Told when it was read for the first time.
                Some(RecordingItem::Damage { .. }) => Ok(()),
                Some(RecordingItem::OtherRecording { .. }) | None => {
                    self.over = true;
                    self.pipeline.finish(&mut events)
                },
            };
            for mut event in events {
                event.start_ns = self.moved(event.start_ns);
                event.end_ns = self.moved(event.end_ns);
                self.events.push_back(event);
            }
        }
        Ok(self.events.front().map(|event| event.end_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{GivenItem, migration, record},
        *,
    };

    #[test]
    fn a_long_name_does_not_fill_the_lines_of_others() {
        let long = "x".repeat(70_000);
        assert_eq!(column_width(["dst", "source", &long].into_iter()), 6);
        assert_eq!(column_width([&*long].into_iter()), TITLE.len());
        assert_eq!(column_width(["a\u{1b}[31m"].into_iter()), "a\\x1b[31m".len(), "as it is shown");
    }

    #[test]
    fn records_that_cannot_be_decoded_are_counted() {
        let events = |given: &[GivenItem]| {
            let stream = record(given, 1_000).concat();
            let recording = RecordingSource::from_stream("test", Box::new(io::Cursor::new(stream))).unwrap();
            let mut feed = HostFeed {
                recording,
                pipeline: Pipeline::new(false),
                events: VecDeque::new(),
                over: false,
                shift: ClockShift::always(0),
                origin: 0,
                label: HostLabel { name: "src".to_owned(), width: 4 },
            };
            let mut events = Vec::new();
            while feed.peek().unwrap().is_some() {
                events.extend(feed.events.pop_front());
            }
            (events, undecoded(&feed.label.name, feed.pipeline.undecoded()))
        };
        let mut given = migration();
        let (whole, none) = events(&given);
        assert_eq!(none, None);
        given.insert(3, GivenItem::Record(b"no record".to_vec()));
        let (same, said) = events(&given);
        assert_eq!(said.as_deref(), Some("src: 1 record could not be decoded"));
        assert!(whole == same && !whole.is_empty());
    }
}
