//! State of one device: its driver's structures as last seen, and its last migration.

use vfio_trace_common::role::Role;

use super::{
    data::{DATA_LEN, MATCH_LEN, MigfImage},
    explain,
    steps::{self, MailboxCommand},
};
use crate::{
    driver::{ViewError, ViewStyle},
    event::{
        ArcStep, CallOutcome, CaptureMoment, DataDirection, DriverCall, DriverFinding, DriverImage, Errno,
        EventData, MigState, VfioEvent,
    },
};

/// Maximum number of steps kept per arc or write; none of the driver's functions makes as many.
const MAX_STEPS: usize = 64;

/// Migration file at the moment when the driver was done with it.
#[derive(Clone, Debug)]
pub(super) struct FinishedFile {
    pub(super) migf: MigfImage,
}

/// Image that was saved, and the number of the file (`HisiDevice::files`) that it was saved into.
#[derive(Clone, Debug)]
pub(super) struct SavedImage {
    pub(super) migf: MigfImage,
    pub(super) file: u32,
}

/// State of one device.
///
/// [`HisiDevice::apply`] changes it with every event of the device; `explain` and `views` read it.
#[derive(Debug, Default)]
pub(super) struct HisiDevice {
    /// Name of the device, for findings of other devices.
    pub(super) name: Option<String>,
    /// Last image of `struct hisi_acc_vf_core_device`.
    pub(super) core: Option<DriverImage>,
    /// PCI device id.
    pub(super) pci_id: Option<u64>,
    /// Last images of the files in use (`saving_migf` and `resuming_migf`).
    pub(super) saving: Option<MigfImage>,
    pub(super) resuming: Option<MigfImage>,
    /// Last migration in either direction.
    pub(super) last: Option<FinishedFile>,
    /// Last image that the driver filled from registers.
    pub(super) saved: Option<SavedImage>,
    /// Last mailbox command, its outcome, and the time at which it returned (CLOCK_MONOTONIC, ns).
    pub(super) mailbox: Option<(MailboxCommand, CallOutcome, u64)>,
    /// True if a mailbox command has paused the queues and nothing has started them since.
    pub(super) paused: bool,
    /// True if the device was seen in a stopped state since the queues were paused.
    stood: bool,
    /// True if the driver is proven to have refused data of the file in use, and has not accepted it since.
    pub(super) refused: bool,
    /// True if `match_done` was left from an earlier session when the file in use was opened.
    pub(super) stale: bool,
    /// Outcome of the last write, until the image that shows its effect has arrived.
    written: Option<CallOutcome>,
    /// True if the last write makes it worth comparing the data with the saved image.
    pub(super) check_stream: bool,
    /// True if the request in progress has entered STOP_COPY.
    saved_now: bool,
    /// Process ids of the last process that has read the last saved file, and of the last that has written the file
    /// being loaded. Both are cleared when the device is closed.
    pub(super) reader: Option<u32>,
    pub(super) writer: Option<u32>,
    /// Number of files that were opened; identifies the current one.
    pub(super) files: u32,
    /// Steps of the arc and of the write in progress. Steps outside of both, such as those of a read of the driver's
    /// debugfs, are in neither.
    pub(super) in_arc: Vec<DriverCall>,
    pub(super) in_write: Vec<DriverCall>,
    /// Number of writes to the file being loaded.
    writes: u32,
    /// True if `core` was copied after the last write.
    pub(super) core_written: bool,
    closed: Option<bool>,
}

impl HisiDevice {
    pub(super) fn apply(&mut self, event: &mut VfioEvent) -> Vec<DriverFinding> {
        let mut findings =
            if matches!(event.data, EventData::Image(_)) { Vec::new() } else { self.judge_write(false) };
        findings.extend(self.take_in(event));
        findings
    }

    fn take_in(&mut self, event: &mut VfioEvent) -> Vec<DriverFinding> {
        if self.name.is_none() {
            self.name = event.device_name().map(str::to_owned);
        }
        let at_ns = event.end_ns;
        let pid = Some(event.process.pid).filter(|pid| *pid != 0);
        match &mut event.data {
            EventData::Step(step) => self.step(step, at_ns),
            EventData::Image(image) => {
                let written = image.layout.name == "resuming_migf";
                if written || image.layout.name == "saving_migf" {
                    let whole = !written || self.overwritten() != Some(true);
                    image.stream = MigfImage::new(image.clone(), at_ns).stream().filter(|_| whole);
                }
                return self.image(image, at_ns);
            },
            EventData::Arc(arc) => return self.arc(arc),
            EventData::Read(io) => {
                if io.outcome.is_ok() {
                    self.reader = pid;
                }
                return explain::read(io);
            },
            EventData::Write(io) => {
                self.writer = pid;
                self.writes = self.writes.saturating_add(1);
                self.core_written = false;
                // The effect of the write shows in the driver's structures, which are copied next.
                if io.outcome.is_ok() || io.outcome.errno() == Some(Errno::EFAULT) {
                    self.written = Some(io.outcome);
                    return Vec::new();
                }
                self.in_write.clear();
                return explain::write(io);
            },
            EventData::SetState(_) => {
                self.in_arc.clear();
                // The structures have been copied again by now: they are as the last arc has left them.
                if std::mem::take(&mut self.saved_now) {
                    return explain::saved(self);
                }
            },
            EventData::Device(seen) => self.closed = seen.open_count.map(|count| count == 0).or(self.closed),
            EventData::Open(open) if open.outcome.is_ok() => {
                self.closed = Some(false);
                self.paused = false;
            },
            EventData::Close(close) if close.may_be_last() => {
                self.closed = Some(true);
                // A process that has ended has closed the device; another process may get its id.
                (self.reader, self.writer) = (None, None);
                self.end_files();
            },
            EventData::Reset(reset) if reset.outcome.is_ok() => self.was_reset(),
            EventData::PciReset(reset) if reset.outcome.is_ok() => self.was_reset(),
            _ => {},
        }
        Vec::new()
    }

    pub(super) fn view(&self, file: &str, style: ViewStyle, annotate: bool) -> Result<String, ViewError> {
        super::views::view(self, file, style, annotate)
    }

    /// Returns the file that a migration uses now.
    pub(super) fn open_file(&self) -> Option<&MigfImage> {
        self.resuming.as_ref().or(self.saving.as_ref())
    }

    /// Returns the device's last saved image, and whether it belongs to the current file, the one that its reader has
    /// read.
    pub(super) fn sent(&self) -> Option<(&MigfImage, bool)> {
        if let Some(saving) = &self.saving {
            return Some((saving, true));
        }
        let saved = self.saved.as_ref()?;
        Some((&saved.migf, saved.file == self.files))
    }

    /// Returns `vf_qm_state`.
    pub(super) fn vf_qm_state(&self) -> Option<u64> {
        self.core.as_ref()?.value("vf_qm_state")
    }

    /// Returns true if no process is known to have the device open.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.unwrap_or_else(|| {
            self.core.as_ref().and_then(|core| core.value("dev_opened")).is_some_and(|opened| opened == 0)
        })
    }

    fn step(&mut self, step: &mut DriverCall, at_ns: u64) {
        step.step = steps::name(step);
        step.detail = steps::detail(step);
        if let Some(mailbox) = steps::mailbox(step) {
            self.mailbox = Some((mailbox, step.outcome, at_ns));
            if mailbox == MailboxCommand::Stop && step.outcome.is_ok() {
                (self.paused, self.stood) = (true, false);
            }
        }
        let of = match (step.arc, step.within) {
            (Some(_), _) => &mut self.in_arc,
            (None, Some(Role::Write)) => &mut self.in_write,
            _ => return,
        };
        if of.len() < MAX_STEPS {
            of.push(step.clone());
        }
    }

    fn image(&mut self, image: &DriverImage, at_ns: u64) -> Vec<DriverFinding> {
        match image.layout.name.as_str() {
            "device" => {
                self.core = Some(image.clone());
                self.core_written |= image.moment == CaptureMoment::Write;
                // The driver has found that the stream fits, even if it had refused it before.
                self.refused &= image.value("match_done") != Some(1);
                if let Some(state) = image.value("mig_state") {
                    self.was_in(MigState(state as u32));
                }
            },
            "pci" => self.pci_id = image.value("device"),
            "saving_migf" => self.file(image, at_ns, DataDirection::Save),
            "resuming_migf" => self.file(image, at_ns, DataDirection::Resume),
            "debug_migf" => self.debug(image, at_ns),
            _ => {},
        }
        let written = image.layout.name == "resuming_migf" && image.moment == CaptureMoment::Write;
        if written { self.judge_write(true) } else { Vec::new() }
    }

    /// Judges the write that returned last. `seen`: the file was copied after it.
    fn judge_write(&mut self, seen: bool) -> Vec<DriverFinding> {
        let Some(outcome) = self.written.take() else { return Vec::new() };
        let findings = if matches!(outcome, CallOutcome::Failed(_)) {
            let (finding, refused) = explain::mismatch(self, seen);
            self.refused |= refused;
            vec![finding]
        } else if self.stale && self.resuming.as_ref().is_some_and(|migf| migf.total_length() >= MATCH_LEN) {
            self.stale = false;
            vec![explain::stale()]
        } else {
            Vec::new()
        };
        self.check_stream = !findings.is_empty();
        self.in_write.clear();
        findings
    }

    fn file(&mut self, image: &DriverImage, at_ns: u64, direction: DataDirection) {
        let mut migf = MigfImage::new(image.clone(), at_ns);
        migf.image.direction = Some(direction);
        // The driver has ended this file and not yet freed it: its data was seen before.
        if migf.disabled() && migf.total_length() == 0 {
            return;
        }
        if direction == DataDirection::Save && migf.total_length() >= DATA_LEN {
            self.saved = Some(SavedImage { migf: migf.clone(), file: self.files });
        }
        let place = if direction == DataDirection::Save { &mut self.saving } else { &mut self.resuming };
        *place = Some(migf);
        // This copy was made after the event of the last close. The driver does not notice a close that is not the
        // last.
        if image.moment == CaptureMoment::Close && self.closed == Some(true) {
            self.end_files();
        }
    }

    /// Takes the driver's own copy of the last migration, if it keeps one: it is the one that counts.
    fn debug(&mut self, image: &DriverImage, at_ns: u64) {
        let mut migf = MigfImage::new(image.clone(), at_ns);
        if migf.total_length() == 0 {
            return;
        }
        if let Some(last) = &self.last {
            if last.migf.dump() == migf.dump() && last.migf.total_length() == migf.total_length() {
                return;
            }
            migf.image.session = last.migf.image.session;
            migf.image.direction = last.migf.image.direction;
        }
        self.last = Some(FinishedFile { migf });
    }

    fn arc(&mut self, arc: &ArcStep) -> Vec<DriverFinding> {
        self.was_in(arc.from);
        let Some(to) = arc.to else { return Vec::new() };
        let begins = |state| arc.from == MigState::STOP && to == state;
        if arc.outcome.is_ok() {
            let saves =
                begins(MigState::STOP_COPY) || (arc.from, to) == (MigState::RUNNING, MigState::PRE_COPY);
            if saves || begins(MigState::RESUMING) {
                self.files = self.files.wrapping_add(1);
                (self.reader, self.writer) = (None, None);
            }
        }
        if begins(MigState::RESUMING) && arc.outcome.is_ok() {
            (self.refused, self.writes) = (false, 0);
            // `core` was copied before the first write of the new session.
            self.stale = self.core.as_ref().and_then(|core| core.value("match_done")) == Some(1);
        }
        let findings = match arc.outcome {
            CallOutcome::Failed(errno) => explain::arc(self, arc.from, to, errno),
            CallOutcome::Ok if (arc.from, to) == (MigState::RESUMING, MigState::STOP) => {
                explain::loaded(self)
            },
            CallOutcome::Ok | CallOutcome::Refused(_) | CallOutcome::Unknown => Vec::new(),
        };
        self.in_arc.clear();
        self.saved_now = arc.outcome.is_ok() && to == MigState::STOP_COPY;
        if arc.outcome.is_ok() {
            let ends = matches!(
                (arc.from, to),
                (MigState::STOP_COPY | MigState::RESUMING, MigState::STOP)
                    | (MigState::PRE_COPY, MigState::RUNNING)
            );
            if ends {
                self.end_files();
            }
            if to == MigState::RUNNING {
                self.paused = false;
            }
            self.was_in(to);
        }
        findings
    }

    /// Notes that the device was seen in a state. If it runs after it had been stopped, its queues were started, even
    /// if that was not seen. After a stop that failed, the state says nothing about the queues.
    const fn was_in(&mut self, state: MigState) {
        match state {
            MigState::STOP | MigState::STOP_COPY | MigState::RESUMING => self.stood = true,
            MigState::RUNNING | MigState::PRE_COPY if self.stood => {
                (self.paused, self.stood) = (false, false);
            },
            _ => {},
        }
    }

    /// Returns true if each write has overwritten the one before, so that the driver's copy is not the data that
    /// arrived. Drivers without `match_done` do so (Linux 6.1). `None`: not known.
    pub(super) fn overwritten(&self) -> Option<bool> {
        let old = self.core.as_ref()?.value("match_done").is_none();
        Some(old && self.writes > 1)
    }

    fn was_reset(&mut self) {
        self.paused = false;
        self.end_files();
    }

    /// Ends all files, like the driver's `hisi_acc_vf_disable_fds()`: the file that it ends last is the last migration.
    fn end_files(&mut self) {
        for migf in [self.resuming.take(), self.saving.take()].into_iter().flatten() {
            self.last = Some(FinishedFile { migf });
        }
        self.refused = false;
    }
}
