//! `vfio-trace list`: every VFIO device of this host.

use std::io::{self, Write as _};

use super::{
    devices::Devices,
    error::CliError,
    kernel_args::KernelArgs,
    output::{Color, note},
};
use crate::{
    kernel::{KernelFiles, VfioDevice, process::ProcessInfo},
    sink::{DeviceRow, HolderRow, device_table, devices_json},
    source::snapshot::DeviceFacts,
};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON document instead of a table (schema vfio-trace.list/1, docs/schema/list-1.json).
    #[arg(long)]
    json: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// `vfio-trace list`.
pub(super) fn main(args: &Args) -> Result<u8, CliError> {
    let files = args.kernel.files()?;
    let devices = Devices::read(&files);
    let rows: Vec<DeviceRow> =
        devices.all.iter().map(|(device, memory)| row(&files, &devices, device, memory.as_ref())).collect();
    let blind = devices.blind.as_ref().map(ToString::to_string);
    let text = if args.json {
        devices_json(&rows, blind.as_deref())
            .map_err(|why| CliError::failed("cannot write the list as JSON", why, "report this as a bug"))?
    } else {
        device_table(&rows, args.color.on(&io::stdout()))
    };
    // A reader that went away is a normal end.
    let _gone = io::stdout().write_all(text.as_bytes()).is_err();
    if !args.json {
        if let Some(why) = blind {
            note(&format!("flags, state and holders are not known: {why}"));
        } else if !devices.holders_known && !rows.is_empty() {
            note("holders are not known: the address of vfio_device_fops_unl_ioctl is hidden (CAP_SYSLOG)");
        }
        if rows.is_empty() {
            note("no device is bound to a VFIO driver");
        }
    }
    Ok(0)
}

fn row(
    files: &KernelFiles,
    devices: &Devices,
    device: &VfioDevice,
    memory: Option<&DeviceFacts>,
) -> DeviceRow {
    let holders = memory.map_or_else(Vec::new, |memory| {
        let holder = |holder: &crate::source::snapshot::Holder| {
            let ProcessInfo { vm, started } = ProcessInfo::read(files, holder.pid);
            HolderRow { pid: holder.pid, comm: holder.comm.clone(), vm, process_started: started }
        };
        memory.holders.iter().map(holder).collect()
    });
    DeviceRow {
        device: device.name.clone(),
        bus: device.bus.name(),
        vfio: device.vfio.clone(),
        group: device.group,
        cdev: device.cdev,
        driver: device.driver.clone(),
        migration: memory.and_then(|memory| memory.migration),
        migration_flags: memory.and_then(|memory| memory.flags),
        dirty_tracking: memory.and_then(|memory| memory.dirty_tracking),
        state: memory.and_then(|memory| memory.state),
        open_count: memory.and_then(|memory| memory.open_count),
        holders: (devices.holders_known && memory.is_some()).then_some(holders),
    }
}
