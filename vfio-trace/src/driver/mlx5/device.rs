//! State of one device: its driver's structures as last seen, and the progress of its PRE_COPY.

use super::{explain, steps};
use crate::event::{
    ArcStep, CallOutcome, DataIo, DriverCall, DriverFinding, DriverImage, Errno, EventData, MigState,
    VfioEvent,
};

const ENODEV: Errno = Errno(19);

/// `enum mlx5_vf_migf_state`: the values for a file that has failed.
pub(super) const ERROR: u64 = 1;
pub(super) const PRE_COPY_ERROR: u64 = 2;

/// State of one device.
///
/// [`Mlx5Device::apply`] changes it with every event of the device.
#[derive(Debug, Default)]
pub(super) struct Mlx5Device {
    /// Last image of `struct mlx5vf_pci_core_device`.
    core: Option<DriverImage>,
    /// Last images of the files in use (`saving_migf` and `resuming_migf`).
    saving: Option<DriverImage>,
    resuming: Option<DriverImage>,
    /// Number of initial bytes left to read since the last PRECOPY_INFO.
    initial_left: Option<u64>,
    /// True if a command has failed in the session in use and was reported.
    told: bool,
    /// True if a write has failed: the driver accepts no more data, and loads nothing.
    write_failed: bool,
}

impl Mlx5Device {
    pub(super) fn apply(&mut self, event: &mut VfioEvent) -> Vec<DriverFinding> {
        match &mut event.data {
            EventData::Step(step) => self.step(step),
            EventData::Image(image) => self.image(image),
            EventData::Arc(arc) => self.arc(arc),
            EventData::PrecopyInfo(info) => {
                if info.outcome.is_ok() {
                    self.initial_left = info.initial_bytes;
                }
                Vec::new()
            },
            EventData::Read(io) => {
                if let (Some(left), Some(bytes)) = (&mut self.initial_left, io.bytes) {
                    *left = left.saturating_sub(bytes);
                }
                self.session_over(io, "read")
            },
            EventData::Write(io) => self.write(io),
            EventData::Reset(reset) if reset.outcome.is_ok() => self.end_files(),
            EventData::PciReset(reset) if reset.outcome.is_ok() => self.end_files(),
            EventData::Close(close) if close.may_be_last() => self.end_files(),
            _ => Vec::new(),
        }
    }

    fn step(&mut self, step: &mut DriverCall) -> Vec<DriverFinding> {
        step.step = steps::name(step);
        step.detail = steps::detail(step);
        let found = explain::step(step, self.core.as_ref());
        self.told |= found.is_some();
        found.into_iter().collect()
    }

    fn image(&mut self, image: &DriverImage) -> Vec<DriverFinding> {
        let (place, judge): (_, fn(&DriverImage, &DriverImage) -> Option<DriverFinding>) =
            match image.layout.name.as_str() {
                "device" => (&mut self.core, explain::tracker),
                "saving_migf" => (&mut self.saving, explain::save_file),
                "resuming_migf" => (&mut self.resuming, |_, _| None),
                _ => return Vec::new(),
            };
        // Without an earlier image the condition may be old; if it was there before, it is not new.
        let found = place.as_ref().and_then(|before| judge(before, image));
        *place = Some(image.clone());
        found.into_iter().collect()
    }

    fn arc(&mut self, arc: &ArcStep) -> Vec<DriverFinding> {
        if arc.outcome != CallOutcome::Ok {
            return Vec::new();
        }
        let mut findings = Vec::new();
        match (arc.from, arc.to) {
            (MigState::PRE_COPY | MigState::PRE_COPY_P2P, Some(MigState::STOP_COPY)) => {
                findings.extend(self.initial_left.filter(|left| *left > 0).map(explain::initial_left));
            },
            (MigState::RESUMING, Some(MigState::STOP)) => {
                findings
                    .extend(self.resuming.as_ref().and_then(|file| explain::loaded(file, self.write_failed)));
                self.end_files();
            },
            (MigState::STOP_COPY, Some(MigState::STOP))
            | (MigState::PRE_COPY, Some(MigState::RUNNING))
            | (MigState::PRE_COPY_P2P, Some(MigState::RUNNING_P2P)) => {
                self.end_files();
            },
            _ => {},
        }
        findings
    }

    fn write(&mut self, io: &DataIo) -> Vec<DriverFinding> {
        let CallOutcome::Failed(errno) = io.outcome else { return Vec::new() };
        if io.dry.is_some() {
            return Vec::new();
        }
        if errno == ENODEV {
            return self.session_over(io, "write");
        }
        self.write_failed = true;
        // If the reason was a failed load command, it was reported.
        if self.told { Vec::new() } else { explain::write(errno).into_iter().collect() }
    }

    fn session_over(&self, io: &DataIo, step: &'static str) -> Vec<DriverFinding> {
        let over = io.outcome == CallOutcome::Failed(ENODEV) && !self.told && !self.write_failed;
        over.then(|| explain::session_over(step)).into_iter().collect()
    }

    /// Forgets the files, like the driver's `mlx5vf_disable_fds()`.
    fn end_files(&mut self) -> Vec<DriverFinding> {
        (self.saving, self.resuming, self.initial_left) = (None, None, None);
        (self.told, self.write_failed) = (false, false);
        Vec::new()
    }
}
