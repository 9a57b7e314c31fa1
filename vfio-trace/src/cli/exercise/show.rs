//! Shows an exercise as it happens. The reader of standard output may stall; the device must not wait for it.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd,
    time::Duration,
};

use rustix::event::PollFlags;

use super::Args;
use crate::{
    cli::{error::CliError, out_file::lost},
    exercise::{Observer, Plan, Report, Stage, Step, Verdict, text::Text},
    store::{AT_ONCE, may_wait, ready, stdout},
};

/// A terminal is ready when it has room for something: more than this may have to wait.
const AT_ONCE_TERMINAL: usize = 256;

/// An output that gets what its reader takes at once; the rest is kept.
#[derive(Debug)]
struct Unhurried<W> {
    /// `None`: it could not be had, or nothing more is wanted there.
    out: Option<W>,
    at_once: usize,
    /// Writing to it may have to wait for somebody.
    waits: bool,
    kept: Vec<u8>,
    /// What has gone wrong first; who went away has what it wanted.
    failed: Option<io::Error>,
}

impl<W: Write + AsFd> Unhurried<W> {
    fn new(out: io::Result<W>) -> Self {
        let (out, failed) = match out {
            Ok(out) => (Some(out), None),
            Err(why) => (None, Some(why)),
        };
        let terminal = out.as_ref().is_some_and(|out| out.as_fd().is_terminal());
        let waits = out.as_ref().is_none_or(may_wait);
        let at_once = if terminal { AT_ONCE_TERMINAL } else { AT_ONCE };
        Self { out, at_once, waits, kept: Vec::new(), failed }
    }

    /// Never waits.
    fn print(&mut self, text: &str) {
        let Some(out) = &mut self.out else { return };
        self.kept.extend_from_slice(text.as_bytes());
        let mut done = 0;
        let ended = loop {
            let rest = self.kept.get(done..).unwrap_or_default();
            let piece = rest.get(..self.at_once).unwrap_or(rest);
            if piece.is_empty() {
                break None;
            }
            match ready(&*out, PollFlags::OUT, Duration::ZERO) {
                Ok(false) if self.waits => break None,
                Ok(_) => {},
                Err(why) => break Some(why),
            }
            match out.write(piece) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {},
                Err(why) => break Some(why),
            }
        };
        self.kept.drain(..done);
        if let Some(why) = ended {
            self.end(why);
        }
    }

    fn end(&mut self, why: io::Error) {
        self.out = None;
        if why.kind() != io::ErrorKind::BrokenPipe {
            self.failed.get_or_insert(why);
        }
    }

    /// What was kept, and this; waits for the reader.
    fn finish(mut self, text: &str) -> io::Result<()> {
        if let Some(out) = &mut self.out
            && let Err(why) = out
                .write_all(&self.kept)
                .and_then(|()| out.write_all(text.as_bytes()))
                .and_then(|()| out.flush())
        {
            self.end(why);
        }
        self.failed.map_or(Ok(()), Err)
    }
}

/// Shows what happens.
pub(super) struct Show {
    text: Text,
    live: bool,
    out: Unhurried<File>,
    /// Steps of a stage of a plan with many: shown if it fails.
    held: Vec<Step>,
    plan: &'static str,
    verbose: bool,
}

impl Show {
    pub(super) fn new(args: &Args) -> Self {
        let text = Text::new(args.color.on(&io::stdout()));
        let (live, verbose) = (!args.json && !args.tap, args.verbose);
        Self { text, live, out: Unhurried::new(stdout()), verbose, held: Vec::new(), plan: "" }
    }

    /// The last of it, for which the reader is waited for: the devices are back by now.
    pub(super) fn finish(self, text: &str) -> Result<(), CliError> {
        self.out.finish(text).map_err(|why| lost("standard output", &why))
    }

    fn print(&mut self, text: &str) {
        if self.live {
            self.out.print(text);
        }
    }
}

impl Observer for Show {
    fn open(&mut self, report: &Report) {
        let head = self.text.head(&report.devices, &report.tracing, &report.recovered);
        self.print(&head);
    }

    fn begin(&mut self, plan: &'static str, _name: &str) {
        if std::mem::replace(&mut self.plan, plan) != plan {
            self.print(&format!("\n{plan}\n"));
        }
        self.held.clear();
    }

    fn step(&mut self, step: &Step) {
        if self.plan == Plan::Matrix.name() && !self.verbose {
            self.held.push(step.clone());
        } else {
            let line = self.text.step(step);
            self.print(&line);
        }
    }

    fn end(&mut self, stage: &Stage) {
        for step in std::mem::take(&mut self.held).iter().filter(|_| stage.verdict == Verdict::Failed) {
            let line = self.text.step(step);
            self.print(&line);
        }
        let line = self.text.end(stage);
        self.print(&line);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, thread, time::Instant};

    use super::*;

    #[test]
    fn nobody_who_reads_is_waited_for_and_nothing_is_lost() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut out = Unhurried::new(Ok(writer));
        let began = Instant::now();
        let lines: Vec<String> = (0..40_000).map(|nr| format!("step {nr}\n")).collect();
        for line in &lines {
            out.print(line);
        }
        assert!(out.kept.len() > 1 << 16, "more than a pipe has room for");
        assert!(began.elapsed() < Duration::from_secs(20));
        let reading = thread::spawn(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).map(|_| read)
        });
        out.finish("verdict\n").unwrap();
        assert!(reading.join().unwrap().unwrap() == format!("{}verdict\n", lines.concat()));
    }

    #[test]
    fn what_goes_wrong_is_told_in_the_end_and_a_reader_that_went_away_is_no_error() {
        let mut out = Unhurried::new(File::options().write(true).open("/dev/full"));
        out.print("step 1\n");
        out.print("step 2\n");
        assert_eq!(out.finish("verdict\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut out = Unhurried::new(Ok(writer));
        out.print("step 1\n");
        assert!(out.kept.len() < 10 && out.out.is_none());
        out.finish("verdict\n").unwrap();
    }
}
