//! Shows an exercise as it happens. The reader of standard output may stall; the device must not wait for it.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

use rustix::{
    event::PollFlags,
    fs::{CWD, Mode, OFlags, openat},
};

use super::ExerciseArgs;
use crate::{
    cli::{error::CliError, out_file::lost},
    exercise::{
        ExerciseObserver, ExercisePlan, ExerciseReport, ExerciseStage, ExerciseStep, ExerciseVerdict,
    },
    output::exercise::text::ExerciseText,
    recording::{AT_ONCE, may_wait, ready, stdout},
};

/// Output that writes as much as its reader takes at once, and keeps the rest.
#[derive(Debug)]
struct NonblockingOutput<W> {
    /// `None` if it could not be opened, or if nothing more is to be written to it.
    out: Option<W>,
    way: WriteMethod,
    kept: Vec<u8>,
    /// The first error; a reader that went away is none, because it has what it wanted.
    failed: Option<io::Error>,
}

/// Method of writing without waiting.
#[derive(Debug)]
enum WriteMethod {
    /// For a regular file: a write never waits.
    Any,
    /// For a pipe and the like: when it is ready, it takes [`AT_ONCE`] bytes without waiting.
    Ready,
    /// For a terminal: even when it is ready, it may take nothing (Ctrl-S). It is opened once more for this alone, with
    /// O_NONBLOCK, so that no other program that writes to it fails with EAGAIN. `None` if it could not be opened: then
    /// all is kept.
    Terminal(Option<File>),
}

impl WriteMethod {
    fn of(out: impl AsFd) -> Self {
        if out.as_fd().is_terminal() {
            let path = format!("/proc/self/fd/{}", out.as_fd().as_raw_fd());
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            Self::Terminal(openat(CWD, path, flags, Mode::empty()).ok().map(File::from))
        } else if may_wait(out) {
            Self::Ready
        } else {
            Self::Any
        }
    }

    /// Writes what the output takes at once; returns the number of bytes, `None` if it takes nothing now.
    fn write(&mut self, out: &mut (impl Write + AsFd), bytes: &[u8]) -> io::Result<Option<usize>> {
        let written = match self {
            Self::Any => out.write(bytes),
            Self::Ready if !ready(&*out, PollFlags::OUT, Duration::ZERO)? => return Ok(None),
            Self::Ready => out.write(bytes.get(..AT_ONCE).unwrap_or(bytes)),
            Self::Terminal(None) => return Ok(None),
            Self::Terminal(Some(terminal)) => terminal.write(bytes),
        };
        match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
            written => written.map(Some),
        }
    }
}

impl<W: Write + AsFd> NonblockingOutput<W> {
    fn new(out: io::Result<W>) -> Self {
        let (out, failed) = match out {
            Ok(out) => (Some(out), None),
            Err(why) => (None, Some(why)),
        };
        let way = out.as_ref().map_or(WriteMethod::Any, WriteMethod::of);
        Self { out, way, kept: Vec::new(), failed }
    }

    /// Writes what was kept and `text`, as far as the output takes it; keeps the rest. Never waits.
    fn print(&mut self, text: &str) {
        let Some(out) = &mut self.out else { return };
        self.kept.extend_from_slice(text.as_bytes());
        let mut done = 0;
        let ended = loop {
            let rest = self.kept.get(done..).unwrap_or_default();
            if rest.is_empty() {
                break None;
            }
            match self.way.write(out, rest) {
                Ok(Some(written)) => done += written,
                Ok(None) => break None,
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

    /// Writes what was kept and `text`; waits for the reader. Returns the first error of all writes.
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

/// Display of an exercise on standard output: text of each step as it happens, unless `--json` or `--tap` is given.
pub(super) struct ExerciseDisplay {
    text: ExerciseText,
    live: bool,
    out: NonblockingOutput<File>,
    /// Steps of the present stage of a plan that has many: shown if the stage fails.
    held: Vec<ExerciseStep>,
    plan: &'static str,
    verbose: bool,
}

impl ExerciseDisplay {
    pub(super) fn new(args: &ExerciseArgs) -> Self {
        let text = ExerciseText::new(args.color.on(&io::stdout()));
        let (live, verbose) = (!args.json && !args.tap, args.verbose);
        Self { text, live, out: NonblockingOutput::new(stdout()), verbose, held: Vec::new(), plan: "" }
    }

    /// Writes `text` as the last output, and waits for the reader: the devices are back by now.
    pub(super) fn finish(self, text: &str) -> Result<(), CliError> {
        self.out.finish(text).map_err(|why| lost("standard output", &why))
    }

    fn print(&mut self, text: &str) {
        if self.live {
            self.out.print(text);
        }
    }
}

impl ExerciseObserver for ExerciseDisplay {
    fn open(&mut self, report: &ExerciseReport) {
        let head = self.text.head(&report.devices, &report.tracing, &report.recovered);
        self.print(&head);
    }

    fn begin(&mut self, plan: &'static str, _name: &str) {
        if std::mem::replace(&mut self.plan, plan) != plan {
            self.print(&format!("\n{plan}\n"));
        }
        self.held.clear();
    }

    fn step(&mut self, step: &ExerciseStep) {
        if self.plan == ExercisePlan::Matrix.name() && !self.verbose {
            self.held.push(step.clone());
        } else {
            let line = self.text.step(step);
            self.print(&line);
        }
    }

    fn end(&mut self, stage: &ExerciseStage) {
        for step in std::mem::take(&mut self.held).iter().filter(|_| stage.verdict == ExerciseVerdict::Failed)
        {
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
        let mut out = NonblockingOutput::new(Ok(writer));
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

    /// As of a connection that has frozen: it says that it is ready, and takes nothing.
    #[test]
    fn a_terminal_that_nobody_reads_is_not_waited_for() {
        use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
        let reader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&reader).unwrap();
        let terminal = ioctl_tiocgptpeer(&reader, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let mut out = NonblockingOutput::new(Ok(File::from(terminal.try_clone().unwrap())));
        assert!(matches!(out.way, WriteMethod::Terminal(Some(_))), "{:?}", out.way);
        let lines: Vec<String> = (0..5_000).map(|nr| format!("step {nr}\n")).collect();
        let (tell, told) = std::sync::mpsc::channel();
        let printing = thread::spawn(move || {
            for line in &lines {
                out.print(line);
            }
            tell.send(out.kept.len()).unwrap();
            (out.finish("verdict\n").map_err(|why| why.to_string()), lines.concat())
        });
        let kept = told.recv_timeout(Duration::from_secs(20)).expect("it waits");
        assert!(kept > 10_000, "{kept} bytes are kept");
        let flags = rustix::fs::fcntl_getfl(&terminal).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "others have it as it was");
        let mut read = Vec::new();
        let mut page = [0; 4096];
        while !read.ends_with(b"verdict\r\n") {
            let length = rustix::io::read(&reader, &mut page).unwrap();
            read.extend_from_slice(&page[..length]);
        }
        let (finished, all) = printing.join().unwrap();
        finished.unwrap();
        let read = String::from_utf8(read).unwrap().replace('\r', "");
        assert!(read == format!("{all}verdict\n"));
    }

    #[test]
    fn what_goes_wrong_is_told_in_the_end_and_a_reader_that_went_away_is_no_error() {
        let mut out = NonblockingOutput::new(File::options().write(true).open("/dev/full"));
        out.print("step 1\n");
        out.print("step 2\n");
        assert_eq!(out.finish("verdict\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut out = NonblockingOutput::new(Ok(writer));
        out.print("step 1\n");
        assert!(out.kept.len() < 10 && out.out.is_none());
        out.finish("verdict\n").unwrap();
    }
}
