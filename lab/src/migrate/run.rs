//! A whole run: devices, VMs, migrations one after the other, evidence, clean-up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Error, Result, anyhow};
use tempfile::TempDir;

use super::cli::{Args, MttyType, Scenario};
use super::flow::Flow;
use super::summary::{End, FinalState, FinalStates, Migration, SCHEMA_VERSION, Summary};
use super::vm::{Place, Plan, Role, StartingVm, Vm};
use crate::clock::Stamp;
use crate::evidence::{Lines, write_document};
use crate::kernel::{self, DynamicDebug};
use crate::kmsg::{KernelLog, Totals};
use crate::mdev::{self, Mdev};
use crate::report::{FirstError, Report};
use crate::states::MigState;
use crate::uapi::Device;

/// Does a whole run, its clean-up included. An error says what was not as expected.
pub(crate) fn run(args: &Args) -> Result<()> {
    let report = Arc::new(Report::new());
    for module in ["mdev", "vfio_iommu_type1", "mtty"] {
        kernel::load_module(module, args.timeout())?;
    }
    let evidence = args.evidence.as_deref().map(Evidence::start).transpose()?;
    let started = Stamp::now();
    let mut lab = Lab {
        args,
        report: Arc::clone(&report),
        folder: tempfile::tempdir().context("cannot create a folder for sockets")?,
        lines: evidence.as_ref().map(|evidence| Arc::clone(&evidence.lines)),
        slots: [Slot::default(), Slot::default()],
        vms: 0,
        qemu: None,
        migrations: Vec::new(),
    };
    let mut errors = FirstError::default();
    errors.note(lab.migrate_all());
    let states = lab.final_states();
    let (qemu, migrations) = (lab.qemu.take(), std::mem::take(&mut lab.migrations));
    errors.note(lab.remove_devices());
    let good = migrations.iter().filter(|migration| migration.as_expected).count();
    let told = format!("{good} of {} migrations ended as `{}` should", args.count, args.scenario.name());
    if let Some(evidence) = evidence {
        let folder = evidence.folder.clone();
        let totals = errors.note(evidence.finish());
        let summary = Summary {
            schema_version: SCHEMA_VERSION,
            program: "lab-migrate",
            kernel: kernel::release(),
            qemu,
            scenario: args.scenario.name(),
            then_cancel: args.then_cancel,
            ping_pong: args.ping_pong,
            count: args.count,
            started,
            ended: Stamp::now(),
            as_expected: errors.get().is_none(),
            error: errors.get().map(|error| format!("{error:#}")),
            dmesg_records: totals.map(|totals| totals.records),
            dmesg_lost: totals.map(|totals| totals.lost),
            migrations,
        };
        errors.note(write_document(&folder.join("migrate.json"), &summary));
        errors.note(write_document(&folder.join("final-states.json"), &states));
    }
    report.say(&told);
    errors.into_result()
}

/// The running recorders of ground truth.
#[derive(Debug)]
struct Evidence {
    folder: PathBuf,
    lines: Arc<Lines>,
    log: KernelLog,
    debug: DynamicDebug,
}

impl Evidence {
    fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            lines: Arc::new(Lines::create(&folder.join("qmp.ndjson"))?),
            // The log first: it must have the message that dynamic debug was turned on.
            log: KernelLog::start(&folder.join("dmesg.txt"))?,
            debug: DynamicDebug::enable("mtty")?,
        })
    }

    fn finish(self) -> Result<Totals> {
        let totals = self.log.finish()?;
        drop(self.debug);
        self.lines.finish()?;
        Ok(totals)
    }
}

/// One of the two devices, with the last reports of its last VM.
#[derive(Debug, Default)]
struct Slot {
    mdev: Option<Mdev>,
    mtty_type: Option<MttyType>,
    vm: Option<String>,
    qmp_state: Option<MigState>,
}

/// State of a whole run. Running VMs are local variables of its methods, so that they end before their devices.
#[derive(Debug)]
struct Lab<'a> {
    args: &'a Args,
    report: Arc<Report>,
    lines: Option<Arc<Lines>>,
    slots: [Slot; 2],
    /// Number of VMs started so far; their names count on.
    vms: u32,
    qemu: Option<String>,
    migrations: Vec<Migration>,
    /// Folder for sockets, whose paths must be short.
    folder: TempDir,
}

impl Lab<'_> {
    fn migrate_all(&mut self) -> Result<()> {
        let mut errors = FirstError::default();
        // In a ping-pong: the VM that the last migration moved here.
        let mut carried = None;
        for iteration in 1..=self.args.count {
            let outcome = self.migrate_once(iteration, &mut carried);
            let Err(error) = outcome else { continue };
            let error = error.context(format!("migration {iteration} of {}", self.args.count));
            if self.args.keep_going {
                self.report.say(&format!("{error:#}"));
            }
            errors.note::<()>(Err(error));
            if !self.args.keep_going {
                break;
            }
        }
        errors.into_result()
    }

    /// Runs one migration with all its preparation. An error of the scenario is also in the summary.
    fn migrate_once(&mut self, iteration: u32, carried: &mut Option<Vm>) -> Result<()> {
        let started = Stamp::now();
        let from = carried.as_ref().map_or(0, |vm| vm.slot);
        let (mut source, mut destination) = self.pair(iteration, carried.take())?;
        let folder = self.folder.path().to_owned();
        let (outcome, traces) =
            Flow::new(self.args, &self.report, &folder, &mut source, &mut destination).run();
        let timeout = self.args.timeout();
        let mut ends = [
            End::observe(&mut source, true, timeout),
            End::observe(&mut destination, traces.destination_killed.is_none(), timeout),
        ];
        // In a ping-pong the destination's VM is the next source; all other VMs end here.
        let goes_on = outcome.is_ok() && self.args.ping_pong && iteration < self.args.count;
        let mut errors = FirstError::default();
        errors.note(outcome);
        ends[0].exit = errors.note(self.end(source));
        if goes_on {
            *carried = Some(destination);
        } else {
            ends[1].exit = errors.note(self.end(destination));
        }
        let outcome = errors.into_result();
        self.migrations.push(describe(self.args, iteration, from, started, &outcome, traces, ends));
        let told = if outcome.is_ok() { "as expected" } else { "NOT as expected" };
        self.report.say(&format!("migration {iteration}: {told}"));
        outcome
    }

    /// Returns source and destination. Each gets a fresh device, except for a VM that is carried over.
    fn pair(&mut self, iteration: u32, carried: Option<Vm>) -> Result<(Vm, Vm)> {
        let (source, destination_slot) = match carried {
            Some(vm) => {
                vm.move_to(Place { role: Role::Source, iteration });
                let other = 1 - vm.slot;
                (Ok(vm), other)
            },
            None => (Err(self.spawn(0, Place { role: Role::Source, iteration })?), 1),
        };
        // Both QEMUs start at the same time: their start is most of a scenario's duration.
        let destination = self.spawn(destination_slot, Place { role: Role::Destination, iteration })?;
        let source = source.or_else(|starting| self.connect(starting))?;
        let destination = self.connect(destination)?;
        Ok((source, destination))
    }

    fn spawn(&mut self, slot: usize, place: Place) -> Result<StartingVm> {
        let args = self.args;
        let mismatched = args.scenario == Scenario::Mismatch && place.role == Role::Destination;
        let mtty_type = if mismatched { args.mtty_type.other() } else { args.mtty_type };
        let uuid = mdev::default_uuid(slot)?;
        // A device keeps its migration state over a close, so each VM gets a new one.
        if let Some(old) = self.slots[slot].mdev.take() {
            old.remove()?;
        }
        let mdev = Mdev::create(uuid, mtty_type.name(), args.timeout())?;
        self.vms += 1;
        let name = format!("vm-{}", self.vms);
        self.slots[slot] =
            Slot { mdev: Some(mdev), mtty_type: Some(mtty_type), vm: Some(name.clone()), qmp_state: None };
        self.report.say(&format!(
            "{} ({name}): starting with {} {uuid}",
            place.role.name(),
            mtty_type.name()
        ));
        Plan {
            name,
            slot,
            uuid,
            mtty_type,
            place,
            memory_mib: args.memory,
            folder: self.folder.path(),
            evidence: args.evidence.as_deref(),
        }
        .spawn()
    }

    fn connect(&mut self, starting: StartingVm) -> Result<Vm> {
        let vm = starting.connect(self.args.timeout(), &self.report, self.lines.clone())?;
        self.qemu.get_or_insert_with(|| vm.qemu.qmp.version.clone());
        self.report.say(&format!("{}: ready (pid {})", vm.title(), vm.qemu.pid()));
        Ok(vm)
    }

    /// Ends a VM and keeps the last state that it reported of its device.
    fn end(&mut self, mut vm: Vm) -> Result<String> {
        let exit = vm.qemu.quit(self.args.timeout())?;
        self.slots[vm.slot].qmp_state = vm.last_state();
        self.report.say(&format!("{}: {exit}", vm.title()));
        Ok(exit)
    }

    /// Returns the states in which the devices were left, by MIG_DEVICE_STATE GET. No other request: after a close in
    /// RESUMING, mtty would crash on anything else.
    fn final_states(&self) -> FinalStates {
        let devices = (0..)
            .zip(&self.slots)
            .filter_map(|(position, slot)| {
                let uuid = mdev::default_uuid(position).ok()?;
                let asked = slot.mdev.as_ref().map(|_| kernel_state(uuid));
                let (kernel_state, error) = match asked {
                    Some(Ok(state)) => (Some(state), None),
                    Some(Err(error)) => (None, Some(format!("{error:#}"))),
                    None => (None, Some("the device was never created".to_owned())),
                };
                Some(FinalState {
                    uuid: uuid.to_owned(),
                    mtty_type: slot.mtty_type.map(MttyType::name),
                    vm: slot.vm.clone(),
                    qmp_state: slot.qmp_state,
                    kernel_state,
                    error,
                })
            })
            .collect();
        FinalStates { schema_version: SCHEMA_VERSION, devices }
    }

    fn remove_devices(mut self) -> Result<()> {
        for slot in &mut self.slots {
            let Some(mut mdev) = slot.mdev.take() else { continue };
            if self.args.keep_devices {
                mdev.keep();
            }
            mdev.remove()?;
        }
        Ok(())
    }
}

fn kernel_state(uuid: &str) -> Result<MigState> {
    Device::open(uuid)?.state().map_err(|errno| anyhow!("MIG_DEVICE_STATE GET failed: {errno}"))
}

fn describe(
    args: &Args,
    iteration: u32,
    from: usize,
    started: Stamp,
    outcome: &Result<()>,
    traces: super::flow::Traces,
    [source, destination]: [End; 2],
) -> Migration {
    Migration {
        iteration,
        direction: format!("{}->{}", from + 1, 2 - from),
        started,
        ended: Stamp::now(),
        expected: match args.scenario {
            Scenario::Ok => "completed",
            Scenario::Pause if !args.then_cancel => "completed",
            Scenario::Pause | Scenario::Cancel => "cancelled",
            Scenario::KillDestination | Scenario::Mismatch => "failed",
        },
        as_expected: outcome.is_ok(),
        reason: outcome.as_ref().err().map(|error: &Error| format!("{error:#}")),
        total_time_ms: source.number("/total-time"),
        downtime_ms: source.number("/downtime"),
        vfio_transferred: source.number("/vfio/transferred"),
        traces,
        source,
        destination,
    }
}
