//! What is known of one device: its driver's structures as last seen, and the migration that ran last.

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

/// Steps of one arc or write that are remembered: more than any of the driver's functions makes.
const MAX_STEPS: usize = 64;

/// A migration file as it was when the driver was done with it.
#[derive(Clone, Debug)]
pub(super) struct FinishedFile {
    pub(super) migf: MigfImage,
}

/// What was saved, and into which of the device's files.
#[derive(Clone, Debug)]
pub(super) struct SavedImage {
    pub(super) migf: MigfImage,
    pub(super) file: u32,
}

/// One device.
#[derive(Debug, Default)]
pub(super) struct HisiDevice {
    /// Its name, for others to refer to.
    pub(super) name: Option<String>,
    /// Members of `struct hisi_acc_vf_core_device`.
    pub(super) core: Option<DriverImage>,
    /// PCI device id.
    pub(super) pci_id: Option<u64>,
    /// The files in use.
    pub(super) saving: Option<MigfImage>,
    pub(super) resuming: Option<MigfImage>,
    /// The last migration, whichever way it went.
    pub(super) last: Option<FinishedFile>,
    /// The last image that the driver filled from registers.
    pub(super) saved: Option<SavedImage>,
    /// The last mailbox command, how it ended and when.
    pub(super) mailbox: Option<(MailboxCommand, CallOutcome, u64)>,
    /// Whether a mailbox command has paused the queues and nothing has started them since.
    pub(super) paused: bool,
    /// It was stopped since, by what its state says.
    stood: bool,
    /// The driver refused what was written to the file in use: that is proven, and it has not taken it since.
    pub(super) refused: bool,
    /// The match was taken over from an earlier session.
    pub(super) stale: bool,
    /// How the last write ended, until its effect is seen.
    written: Option<CallOutcome>,
    /// What was written last is worth comparing with what was saved.
    pub(super) check_stream: bool,
    /// STOP_COPY was entered by the request in progress.
    saved_now: bool,
    /// Who has read the file that was saved last, and written the one that is loaded; never after the device was closed.
    pub(super) reader: Option<u32>,
    pub(super) writer: Option<u32>,
    /// How many files were begun, so that one is told from the next.
    pub(super) files: u32,
    /// Steps of the arc and of the write in progress: those of neither, as of a look at the driver's debugfs, are none's.
    pub(super) in_arc: Vec<DriverCall>,
    pub(super) in_write: Vec<DriverCall>,
    /// Writes to the file that is loaded.
    writes: u32,
    /// The device's image is of after the last write.
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
                // What the driver makes of it shows in its structures, which are copied next.
                if io.outcome.is_ok() || io.outcome.errno() == Some(Errno::EFAULT) {
                    self.written = Some(io.outcome);
                    return Vec::new();
                }
                self.in_write.clear();
                return explain::write(io);
            },
            EventData::SetState(_) => {
                self.in_arc.clear();
                // By now the structures were copied once more: as the last arc has left them.
                if std::mem::take(&mut self.saved_now) {
                    return explain::saved(self);
                }
            },
            EventData::Device(seen) => self.closed = seen.open_count.map(|count| count == 0).or(self.closed),
            EventData::Open(open) if open.outcome.is_ok() => {
                self.closed = Some(false);
                self.paused = false;
            },
            EventData::Close(close) if close.open_count.is_none_or(|count| count <= 1) => {
                self.closed = Some(true);
                // A process that has ended has closed all: nobody else is taken for it who has its number next.
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

    /// The file that a migration uses just now.
    pub(super) fn open_file(&self) -> Option<&MigfImage> {
        self.resuming.as_ref().or(self.saving.as_ref())
    }

    /// Its last image that was saved, and whether it is of the file that its reader has read.
    pub(super) fn sent(&self) -> Option<(&MigfImage, bool)> {
        if let Some(saving) = &self.saving {
            return Some((saving, true));
        }
        let saved = self.saved.as_ref()?;
        Some((&saved.migf, saved.file == self.files))
    }

    /// `vf_qm_state`.
    pub(super) fn vf_qm_state(&self) -> Option<u64> {
        self.core.as_ref()?.value("vf_qm_state")
    }

    /// Whether nobody has the device open, for all that is known.
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
                // It has found that the stream fits, whatever it had said before.
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

    /// The write that returned last, with all that was seen of it; `seen`: of the file, too.
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
        // Ended by the driver, and not yet let go: what it held was seen before.
        if migf.disabled() && migf.total_length() == 0 {
            return;
        }
        if direction == DataDirection::Save && migf.total_length() >= DATA_LEN {
            self.saved = Some(SavedImage { migf: migf.clone(), file: self.files });
        }
        let place = if direction == DataDirection::Save { &mut self.saving } else { &mut self.resuming };
        *place = Some(migf);
        // Copied after the last close was told of; of a close that is not the last, the driver knows nothing.
        if image.moment == CaptureMoment::Close && self.closed == Some(true) {
            self.end_files();
        }
    }

    /// The driver's own copy of the last migration, where it keeps one, is what counts.
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
            // Read before the first write of the new session.
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

    /// It was seen in a state. One that runs in which it was stopped before was started since, even if that was not seen;
    /// after a stop that failed the state says nothing.
    const fn was_in(&mut self, state: MigState) {
        match state {
            MigState::STOP | MigState::STOP_COPY | MigState::RESUMING => self.stood = true,
            MigState::RUNNING | MigState::PRE_COPY if self.stood => {
                (self.paused, self.stood) = (false, false);
            },
            _ => {},
        }
    }

    /// Whether each write has overwritten the one before, so that the driver's copy is not what arrived: drivers that do not
    /// know yet whether they have matched a stream do so (Linux 6.1). `None`: not known.
    pub(super) fn overwritten(&self) -> Option<bool> {
        let old = self.core.as_ref()?.value("match_done").is_none();
        Some(old && self.writes > 1)
    }

    fn was_reset(&mut self) {
        self.paused = false;
        self.end_files();
    }

    /// As the driver's `hisi_acc_vf_disable_fds()`: the file that it ends last is the last migration.
    fn end_files(&mut self) {
        for migf in [self.resuming.take(), self.saving.take()].into_iter().flatten() {
            self.last = Some(FinishedFile { migf });
        }
        self.refused = false;
    }
}
