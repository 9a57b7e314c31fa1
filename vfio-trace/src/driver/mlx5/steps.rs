//! Steps of the driver: each of its firmware commands is a function called from another file, and so never inlined.

use std::borrow::Cow;

use vfio_trace_common::capture::moment;

use crate::{
    event::DriverCall,
    kernel::{StepDevice, WantedStep, btf::TypeShape},
};

const DRIVER: &str = "mlx5_vfio_pci";

const DEVICE: TypeShape = TypeShape::Ptr(&TypeShape::Struct("mlx5vf_pci_core_device"));
const PCI_DEV: TypeShape = TypeShape::Ptr(&TypeShape::Struct("pci_dev"));
const WORK: TypeShape = TypeShape::Ptr(&TypeShape::Struct("mlx5_async_work"));

const fn of_device(name: &'static str, captures: u32) -> WantedStep {
    WantedStep { name, module: DRIVER, params: &[(0, DEVICE)], device: StepDevice::Device(0), captures }
}

pub(super) static STEPS: [WantedStep; 11] = [
    WantedStep {
        params: &[(0, DEVICE), (1, TypeShape::Unsigned(2))],
        ..of_device("mlx5vf_cmd_suspend_vhca", 0)
    },
    WantedStep {
        params: &[(0, DEVICE), (1, TypeShape::Unsigned(2))],
        ..of_device("mlx5vf_cmd_resume_vhca", 0)
    },
    of_device("mlx5vf_cmd_query_vhca_migration_state", 0),
    of_device("mlx5vf_cmd_save_vhca_state", 0),
    // Runs when the firmware is done, in an interrupt: the current thread is the one that was interrupted.
    WantedStep {
        name: "mlx5vf_save_callback",
        module: DRIVER,
        params: &[(0, TypeShape::Signed(4)), (1, WORK)],
        device: StepDevice::OfMember {
            argument: 1,
            structure: "mlx5_vf_migration_file",
            member: "async_data.cb_work",
            device: "mvdev",
        },
        captures: 0,
    },
    of_device("mlx5vf_cmd_load_vhca_state", 0),
    // These three are inlined in normal builds.
    of_device("mlx5vf_pci_save_device_data", 0),
    of_device("mlx5vf_pci_save_device_inc_data", 0),
    of_device("mlx5vf_pci_resume_device_data", 0),
    // The last moment at which the files still have their data.
    of_device("mlx5vf_disable_fds", moment::STEP_ENTER),
    WantedStep {
        name: "mlx5vf_pci_aer_reset_done",
        module: DRIVER,
        params: &[(0, PCI_DEV)],
        device: StepDevice::PciDev(0),
        captures: moment::STEP_ENTER,
    },
];

/// Returns the name of a step; `None` for functions that are not known.
pub(super) fn name(step: &DriverCall) -> Option<Cow<'static, str>> {
    let arg = |index: usize| step.args.get(index).copied();
    Some(Cow::Borrowed(match step.function.as_deref()? {
        // MLX5_SUSPEND_VHCA_IN_OP_MOD_*, a u16: first the requests that the VF initiates, then its responses.
        "mlx5vf_cmd_suspend_vhca" => match arg(1).map(|op_mod| op_mod as u16) {
            Some(0) => "suspend initiator",
            Some(1) => "suspend responder",
            _ => "suspend",
        },
        // MLX5_RESUME_VHCA_IN_OP_MOD_*: the reverse order.
        "mlx5vf_cmd_resume_vhca" => match arg(1).map(|op_mod| op_mod as u16) {
            Some(0) => "resume responder",
            Some(1) => "resume initiator",
            _ => "resume",
        },
        "mlx5vf_cmd_query_vhca_migration_state" => "query size",
        "mlx5vf_cmd_save_vhca_state" => "begin save",
        "mlx5vf_save_callback" => "save done",
        "mlx5vf_cmd_load_vhca_state" => "load",
        "mlx5vf_pci_save_device_data" => "open save file",
        "mlx5vf_pci_save_device_inc_data" => "final save",
        "mlx5vf_pci_resume_device_data" => "open load file",
        "mlx5vf_disable_fds" => "end data files",
        "mlx5vf_pci_aer_reset_done" => "reset done",
        _ => return None,
    }))
}

/// Returns a description of a step's arguments.
pub(super) fn detail(step: &DriverCall) -> Option<String> {
    let args = step.args.as_slice();
    match (step.function.as_deref()?, args) {
        // The flags are the last argument: 6.12 has (mvdev, size, total, flags); 7.3 has the state before them; 6.1 has
        // no flags.
        ("mlx5vf_cmd_query_vhca_migration_state", [_, _, _, flags] | [_, _, _, _, flags]) => {
            let flags = *flags as u8;
            let names = [(1, "incremental"), (2, "final"), (4, "clean-up")];
            let names: Vec<&str> =
                names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
            Some(if names.is_empty() { "full image".to_owned() } else { names.join(", ") })
        },
        // (mvdev, migf, buf, bool inc, bool track)
        ("mlx5vf_cmd_save_vhca_state", [_, _, _, inc, track]) => {
            let image = if *inc as u8 != 0 { "incremental" } else { "full image" };
            Some(if *track as u8 != 0 { format!("{image}, go on tracking") } else { image.to_owned() })
        },
        ("mlx5vf_save_callback", [status, ..]) => match (*status as u32).cast_signed() {
            0 => None,
            status => Some(format!("status {status}")),
        },
        _ => None,
    }
}
