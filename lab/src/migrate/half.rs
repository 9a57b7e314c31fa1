//! lab-half: one end of a migration. The other end may be in another lab VM: the stream goes to a URI.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use clap::Parser;
use serde_json::json;

use super::{
    cli::MttyType,
    vm::{Place, Plan, Role},
};
use crate::{
    evidence::write_document,
    kernel,
    mdev::{self, Mdev},
    migrate::summary::End,
    report::Report,
    states::MigState,
};

/// Runs one end of a migration of a VM with an mtty device, and cleans up.
///
/// The stream is one-way, so that it can go through anything: the source ends once all is sent, the destination once
/// its guest runs. Exits 0 if this end completed.
#[derive(Debug, Parser)]
#[command(name = "lab-half", version)]
pub(super) struct Args {
    /// Which end
    #[arg(value_enum)]
    role: Which,
    /// Where the stream goes, or comes from, as QEMU's migrate and migrate-incoming take it: `exec:cat >FILE`
    uri: String,
    /// Write what query-migrate says, and QEMU's trace, into this folder
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// Memory of the VM
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=4096))]
    memory: u32,
    /// How long any single wait may take
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// End of a migration that this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// The VM leaves
    Source,
    /// The VM arrives
    Destination,
}

/// Runs one end of a migration.
pub(super) fn run(args: &Args) -> Result<()> {
    let timeout = Duration::from_secs(args.timeout);
    let report = Arc::new(Report::new());
    for module in ["mdev", "vfio_iommu_type1", "mtty"] {
        kernel::load_module(module, timeout)?;
    }
    let folder = tempfile::tempdir()?;
    migrate(args, timeout, &report, folder.path())
}

fn migrate(args: &Args, timeout: Duration, report: &Arc<Report>, folder: &std::path::Path) -> Result<()> {
    let (slot, role) = match args.role {
        Which::Source => (0, Role::Source),
        Which::Destination => (1, Role::Destination),
    };
    let uuid = mdev::default_uuid(slot)?;
    let mdev = Mdev::create(uuid, MttyType::Mtty2.name(), timeout)?;
    if let Some(evidence) = &args.evidence {
        std::fs::create_dir_all(evidence)?;
    }
    let plan = Plan {
        name: format!("vm-{}", role.name()),
        slot,
        uuid,
        mtty_type: MttyType::Mtty2,
        place: Place { role, iteration: 1 },
        memory_mib: args.memory,
        folder,
        evidence: args.evidence.as_deref(),
    };
    let mut vm = plan.spawn()?.connect(timeout, report, None)?;
    let mark = vm.qemu.qmp.mark();
    let events = json!({"capabilities": [{"capability": "events", "state": true}]});
    vm.execute("migrate-set-capabilities", events, timeout)?;
    match args.role {
        Which::Source => {
            let parameters = json!({"downtime-limit": 2_000_000, "avail-switchover-bandwidth": 1_u64 << 50});
            vm.execute("migrate-set-parameters", parameters, timeout)?;
            report.say("migrate");
            vm.execute("migrate", json!({"uri": args.uri}), timeout)?;
            vm.reach_status("completed", mark, timeout)?;
            vm.reach_state(MigState::STOP, mark, timeout)?;
        },
        Which::Destination => {
            vm.execute("migrate-incoming", json!({"uri": args.uri, "exit-on-error": false}), timeout)?;
            report.say("waits");
            vm.reach_status("completed", mark, timeout)?;
            vm.reach_state(MigState::RUNNING, mark, timeout)?;
            vm.reach_running(timeout)?;
        },
    }
    let end = End::observe(&mut vm, true, timeout);
    if let Some(evidence) = &args.evidence {
        write_document(&evidence.join("end.json"), &end)?;
    }
    report.say(&vm.qemu.quit(timeout)?);
    drop(vm);
    mdev.remove()
}
