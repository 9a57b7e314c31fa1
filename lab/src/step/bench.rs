//! One device of a run: the effect of each action on it, and the actions that must be refused.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::known_loop;
use super::parse::Action;
use super::record::{Outcome, in_line};
use crate::mdev::{self, Mdev};
use crate::states::MigState;
use crate::uapi::{Device, DmaRange};

/// Names of the MIGRATION feature's bits, from bit 0 on.
const FLAGS: [&str; 3] = ["STOP_COPY", "P2P", "PRE_COPY"];

/// Number of bytes of a stream that the record of a step keeps at most.
const SMALL: usize = 512;

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) name: String,
    created: Option<Mdev>,
    /// Folders of its knobs; if there are none, the knobs are the driver's.
    knobs: Vec<PathBuf>,
    device: Option<Device>,
    /// State after the last successful step, if it is known.
    known: Option<MigState>,
    /// True if the device was opened, and nothing was set or reset since.
    untouched: bool,
}

impl Bench {
    /// Returns a bench for a device that is closed.
    pub(crate) fn new(name: String, created: Option<Mdev>) -> Self {
        let known = created.is_some().then_some(MigState::RUNNING);
        Self { name, created, knobs: Vec::new(), device: None, known, untouched: true }
    }

    /// Sets the folders of the knobs, instead of the driver's; `{}` stands for the device's name.
    pub(crate) fn with_knobs(mut self, patterns: &[String]) -> Self {
        self.knobs =
            patterns.iter().map(|pattern| PathBuf::from(pattern.replace("{}", &self.name))).collect();
        self
    }

    fn knob(&self, name: &str) -> Result<PathBuf> {
        mdev::knob(&self.name, &self.knobs, name)
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.device = Some(Device::open(&self.name)?);
        self.untouched = true;
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.device = None;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.device.is_some()
    }

    /// Removes the device if it was created here, unless it is to stay.
    pub(crate) fn discard(mut self, leave: bool) -> Result<()> {
        self.close();
        let Some(mut mdev) = self.created.take() else { return Ok(()) };
        if leave {
            mdev.keep();
        }
        mdev.remove()
    }

    pub(crate) fn device(&mut self) -> Result<&mut Device> {
        self.device.as_mut().with_context(|| format!("{} is not open", self.name))
    }

    /// Refuses actions that would hang or crash the kernel: a request on which it loops for ever, and a request after a
    /// close in RESUMING. Such a close drops mtty's migration file, and the next arc loads from a NULL pointer
    /// (`mtty_load_state`).
    pub(crate) fn guard(&mut self, action: &Action) -> Result<()> {
        if let Action::Set(to) | Action::Crowd { state: to, .. } = action
            && self.may_loop(*to)?
        {
            bail!("{}", known_loop::why());
        }
        if !matches!(action, Action::Set(_)) || !self.untouched {
            return Ok(());
        }
        if mdev::driver(&self.name).is_some_and(|driver| driver != "mtty") {
            return Ok(());
        }
        let state = match self.known {
            Some(state) => Some(state),
            None => self.device()?.state().ok(),
        };
        if state == Some(MigState::RESUMING) {
            bail!(
                "{} was closed in RESUMING: a set now would make mtty dereference a NULL pointer in the kernel; \
                 put `reset` before it",
                self.name
            );
        }
        Ok(())
    }

    /// Returns true if this kernel may loop for ever when the device is asked for this state in its present one.
    pub(crate) fn may_loop(&mut self, to: MigState) -> Result<bool> {
        // Asks the device only where it makes a difference: tests count requests.
        if !known_loop::may_loop(u64::MAX, None, to) || known_loop::is_mended() {
            return Ok(false);
        }
        let device = self.device()?;
        Ok(known_loop::may_loop(device.migration_flags().unwrap_or(u64::MAX), device.state().ok(), to))
    }

    pub(crate) fn act(&mut self, action: &Action, files: &mut Files) -> Result<Outcome> {
        let outcome = match action {
            Action::Set(state) => self.set(*state)?,
            Action::Crowd { state, threads } => {
                self.untouched = false;
                self.known = None;
                let crowd = self.device()?.set_state_crowded(*state, *threads);
                let (fine, calls) = crowd.context("there are not so many threads to be had")?;
                let told = format!("{fine} of {calls} calls succeeded");
                Outcome::of(Ok(fine), |fine| (json!({"calls": calls, "succeeded": fine}), told))
            },
            Action::Hoard { files } => {
                self.untouched = false;
                Outcome::of(self.device()?.hoard(*files), |kept| {
                    (json!({"files": kept}), format!("{kept} files are kept"))
                })
            },
            Action::Get => {
                Outcome::of(self.device()?.state(), |state| (state_values(state), state.to_string()))
            },
            Action::Flags => Outcome::of(self.device()?.migration_flags(), flags),
            Action::Size => Outcome::of(self.device()?.data_size(), |bytes| {
                (json!({"stop_copy_length": bytes}), format!("{bytes} bytes"))
            }),
            Action::Probe { feature, op } => Outcome::plain(self.device()?.probe(*feature, *op)),
            Action::PrecopyInfo => Outcome::of(self.device()?.precopy_info(), |info| {
                let told = format!("initial {} bytes, dirty {} bytes", info.initial_bytes, info.dirty_bytes);
                (json!({"initial_bytes": info.initial_bytes, "dirty_bytes": info.dirty_bytes}), told)
            }),
            Action::Read { bytes, file } => self.read(*bytes, file.as_deref(), files)?,
            Action::ReadAll { file, chunk } => self.read_all(file.as_deref(), *chunk, files)?,
            Action::Write { file, chunk } => {
                let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                self.write(&bytes, chunk.unwrap_or_else(|| bytes.len().max(1)))?
            },
            Action::WriteZero { bytes } => self.write(&vec![0; *bytes], (*bytes).max(1))?,
            Action::LogStart(range) => Outcome::of(self.device()?.log_start(*range), |page_size| {
                (range_values(*range, "page_size_chosen", page_size), format!("pages of {page_size} bytes"))
            }),
            Action::LogReport(range) => Outcome::of(self.device()?.log_report(*range), |pages| {
                (range_values(*range, "dirty_pages", pages), format!("{pages} dirty pages"))
            }),
            Action::LogStop => Outcome::plain(self.device()?.log_stop()),
            Action::Patch { file, offset, bytes } => patch(file, *offset, bytes)?,
            Action::Truncate { file, bytes } => truncate(file, *bytes)?,
            Action::Reset => self.reset()?,
            Action::PciReset => {
                let done = mdev::write_attribute(&mdev::pci_sysfs(&self.name).join("reset"), "1");
                self.after_reset(done)
            },
            Action::CloseData => {
                let was_open = self.device()?.close_data();
                Outcome::plain(if was_open { Ok(()) } else { Err(Errno::BADF) })
            },
            Action::Reopen => {
                self.close();
                self.open()?;
                Outcome::plain(Ok(()))
            },
            Action::Rebind => {
                self.close();
                mdev::rebind(&self.name)?;
                self.open()?;
                Outcome::plain(Ok(()))
            },
            Action::Sleep { ms } => {
                thread::sleep(Duration::from_millis(*ms));
                Outcome::plain(Ok(()))
            },
            Action::Pause { file } => {
                pause(file)?;
                Outcome::plain(Ok(()))
            },
            Action::Knob { name, value: Some(value) } => {
                Outcome::plain(mdev::write_attribute(&self.knob(name)?, value))
            },
            Action::Knob { name, value: None } => {
                Outcome::of(mdev::read_attribute(&self.knob(name)?), |text| {
                    let text = text.trim_end();
                    (json!({"knob": name, "value": text}), in_line(text))
                })
            },
            Action::CopyTo { .. } => bail!("a copy is made by two devices"),
            Action::Matrix => bail!("the matrix is made of many steps"),
        };
        Ok(outcome)
    }

    pub(crate) fn set(&mut self, state: MigState) -> Result<Outcome> {
        self.untouched = false;
        let result = self.device()?.set_state(state);
        // A set_state that failed may have done some of its arcs.
        self.known = result.is_ok().then_some(state);
        Ok(Outcome::of(result, |fd| {
            let values = json!({"state": state, "state_number": state.0, "data_fd": fd});
            (values, fd.map_or_else(String::new, |fd| format!("data fd {fd}")))
        }))
    }

    pub(crate) fn reset(&mut self) -> Result<Outcome> {
        let result = self.device()?.reset();
        Ok(self.after_reset(result))
    }

    fn after_reset(&mut self, result: Result<(), Errno>) -> Outcome {
        if result.is_ok() {
            self.known = Some(MigState::RUNNING);
            self.untouched = false;
        }
        Outcome::plain(result)
    }

    fn read(&mut self, bytes: usize, file: Option<&Path>, files: &mut Files) -> Result<Outcome> {
        let mut buffer = vec![0; bytes];
        let result = self.device()?.read(&mut buffer);
        if let (Ok(length), Some(file)) = (result, file) {
            files.append(file, &buffer[..length])?;
        }
        Ok(Outcome::of(result, |length| {
            let moved = hex(buffer.get(..length).unwrap_or_default());
            let values = json!({"asked": bytes, "bytes": length, "moved": moved});
            (values, format!("{length} of {bytes} bytes"))
        }))
    }

    fn read_all(&mut self, file: Option<&Path>, chunk: usize, files: &mut Files) -> Result<Outcome> {
        let device = self.device()?;
        let mut buffer = vec![0; chunk];
        let (mut total, mut lengths, mut moved) = (0, Vec::new(), Vec::new());
        let (ended_by, errno) = loop {
            match device.read(&mut buffer) {
                Ok(0) => break ("EOF", None),
                Ok(length) => {
                    total += length;
                    lengths.push(length);
                    if moved.len() <= SMALL {
                        moved.extend_from_slice(&buffer[..length.min(SMALL + 1)]);
                    }
                    if let Some(file) = file {
                        files.append(file, &buffer[..length])?;
                    }
                },
                // Nothing more for now: this ends PRE_COPY's part of the stream.
                Err(Errno::NOMSG) => break ("ENOMSG", None),
                Err(errno) => break ("error", Some(errno)),
            }
        };
        // The call that found the end counts as well: a tracer sees it.
        let calls = lengths.len() + 1;
        let values = json!({
            "calls": calls, "bytes": total, "chunk": chunk, "ended_by": ended_by, "lengths": lengths,
            "moved": hex(&moved),
        });
        Ok(Outcome { errno, values, told: format!("{total} bytes in {calls} calls, then {ended_by}") })
    }

    /// Copies the stream from this device's data fd to the other's. Keeps no more of it than one read's worth.
    pub(crate) fn copy_to(&mut self, other: &mut Self, chunk: usize) -> Result<Outcome> {
        let (from, to) = (self.device()?, other.device()?);
        let mut buffer = vec![0; chunk];
        let (mut total, mut reads, mut writes) = (0, 0_u64, 0_u64);
        let (ended_by, errno) = 'stream: loop {
            reads += 1;
            let length = match from.read(&mut buffer) {
                Ok(0) => break ("EOF", None),
                Ok(length) => length,
                Err(Errno::NOMSG) => break ("ENOMSG", None),
                Err(errno) => break ("read", Some(errno)),
            };
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                writes += 1;
                match to.write(rest) {
                    Ok(0) => break 'stream ("write", Some(Errno::IO)),
                    Ok(length) => {
                        total += length;
                        rest = rest.get(length..).unwrap_or_default();
                    },
                    Err(errno) => break 'stream ("write", Some(errno)),
                }
            }
        };
        let values = json!({
            "reads": reads, "writes": writes, "bytes": total, "chunk": chunk, "ended_by": ended_by,
        });
        let told = format!("{total} bytes in {reads} reads and {writes} writes, then {ended_by}");
        Ok(Outcome { errno, values, told })
    }

    fn write(&mut self, bytes: &[u8], chunk: usize) -> Result<Outcome> {
        let device = self.device()?;
        let (mut written, mut tried, mut calls, mut errno) = (0, 0, 0, None);
        while written < bytes.len() && errno.is_none() {
            let end = bytes.len().min(written + chunk);
            calls += 1;
            tried = end;
            match device.write(&bytes[written..end]) {
                Ok(0) => errno = Some(Errno::IO),
                Ok(length) => written += length,
                Err(error) => errno = Some(error),
            }
        }
        // A driver may have copied the bytes that it then refuses.
        let moved = hex(bytes.get(..tried).unwrap_or_default());
        let values = json!({"calls": calls, "asked": bytes.len(), "bytes": written, "moved": moved});
        Ok(Outcome { errno, values, told: format!("{written} of {} bytes in {calls} calls", bytes.len()) })
    }
}

/// Longest pause. Longer than any test looks at a device that waits; it ends a step whose test has failed.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Creates a file to say that the step was reached, and waits until a test lets it go on.
fn pause(file: &Path) -> Result<()> {
    let mut paused = file.as_os_str().to_owned();
    paused.push(".paused");
    File::create(&paused).with_context(|| format!("cannot create {}", Path::new(&paused).display()))?;
    let end = Instant::now() + LONGEST_PAUSE;
    while !file.exists() {
        if Instant::now() > end {
            bail!("nobody created {} in {} s", file.display(), LONGEST_PAUSE.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Returns the bytes that a step moved in hexadecimal, for tests to compare with; none if they are more than [`SMALL`].
fn hex(bytes: &[u8]) -> Option<String> {
    let two = |byte: &u8| format!("{byte:02x}");
    (bytes.len() <= SMALL).then(|| bytes.iter().map(two).collect())
}

/// Overwrites bytes of a file that an earlier step read into.
fn patch(file: &Path, offset: usize, bytes: &[u8]) -> Result<Outcome> {
    let mut content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let length = content.len();
    let Some(place) = offset.checked_add(bytes.len()).and_then(|end| content.get_mut(offset..end)) else {
        bail!("{} has {length} bytes, nothing to change at {offset}", file.display());
    };
    place.copy_from_slice(bytes);
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Outcome::plain(Ok(())))
}

fn truncate(file: &Path, bytes: usize) -> Result<Outcome> {
    OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|file| file.set_len(bytes as u64))
        .with_context(|| format!("cannot cut {}", file.display()))?;
    Ok(Outcome::plain(Ok(())))
}

fn state_values(state: MigState) -> Value {
    json!({"state": state, "state_number": state.0})
}

fn flags(flags: u64) -> (Value, String) {
    let names: Vec<&str> = FLAGS
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, name)| name)
        .collect();
    (json!({"flags": flags, "names": names}), format!("{flags}: {}", names.join("|")))
}

fn range_values(range: DmaRange, name: &str, seen: u64) -> Value {
    json!({"iova": range.iova, "length": range.length, "page_size": range.page_size, name: seen})
}

/// The files into which steps read: emptied at their first use, then appended to.
#[derive(Debug, Default)]
pub(crate) struct Files {
    begun: BTreeSet<PathBuf>,
}

impl Files {
    pub(crate) fn append(&mut self, file: &Path, bytes: &[u8]) -> Result<()> {
        let first = self.begun.insert(file.to_owned());
        let opened = if first { File::create(file) } else { OpenOptions::new().append(true).open(file) };
        opened
            .and_then(|mut out| out.write_all(bytes))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names() {
        assert_eq!(flags(7).1, "7: STOP_COPY|P2P|PRE_COPY");
        assert_eq!(flags(5).0["names"], json!(["STOP_COPY", "PRE_COPY"]));
        assert_eq!(flags(0).1, "0: ");
    }

    #[test]
    fn little_is_kept_as_text() {
        assert_eq!(hex(&[0, 0xab, 16]).unwrap(), "00ab10");
        assert_eq!(hex(&[1; SMALL]).map(|text| text.len()), Some(2 * SMALL));
        assert_eq!(hex(&[1; SMALL + 1]), None);
    }

    #[test]
    fn a_file_is_begun_once_and_then_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut files = Files::default();
        files.append(&path, b"a").unwrap();
        files.append(&path, b"b").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ab");
    }

    #[test]
    fn a_pause_is_told_and_ends_when_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause");
        let told = file.with_extension("paused");
        let other = (file.clone(), told.clone());
        let waiting = thread::spawn(move || {
            while !other.1.exists() {
                thread::sleep(Duration::from_millis(1));
            }
            fs::write(other.0, "").unwrap();
        });
        pause(&file).unwrap();
        waiting.join().unwrap();
        assert!(file.exists() && told.exists());
    }

    #[test]
    fn a_device_that_was_closed_in_resuming_is_not_set() {
        let mut bench = Bench::new("dev".to_owned(), None);
        bench.known = Some(MigState::RESUMING);
        let error = bench.guard(&Action::Set(MigState::STOP)).unwrap_err().to_string();
        assert!(error.contains("put `reset` before it"), "{error}");
        bench.guard(&Action::Get).unwrap();
        bench.known = Some(MigState::STOP_COPY);
        bench.guard(&Action::Set(MigState::STOP)).unwrap();
    }

    #[test]
    fn a_closed_device_cannot_act() {
        let mut bench = Bench::new("dev".to_owned(), None);
        let error = bench.act(&Action::Get, &mut Files::default()).unwrap_err().to_string();
        assert_eq!(error, "dev is not open");
    }
}
