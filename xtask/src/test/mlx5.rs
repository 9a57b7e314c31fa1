//! The plug-in for mlx5_vfio_pci with the kernels' own driver: checks that its functions and types are there. The
//! driver does not run: there is no hardware.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Check, Found, full,
    guest::Lab,
    traced::{Traced, text},
};
use crate::lab;

/// Functions that every kernel's driver has, because other files or its tables of ops name them.
const THERE: [&str; 8] = [
    "mlx5vf_cmd_suspend_vhca",
    "mlx5vf_cmd_resume_vhca",
    "mlx5vf_cmd_query_vhca_migration_state",
    "mlx5vf_cmd_save_vhca_state",
    "mlx5vf_save_callback",
    "mlx5vf_cmd_load_vhca_state",
    "mlx5vf_disable_fds",
    "mlx5vf_pci_aer_reset_done",
];

/// Members that a kernel does not have, by image. All others have to be found.
const LACKS: [(&str, [&str; 3]); 3] = [
    (
        "6.1",
        [
            "tracker.object_changed",
            "state, max_pos, pre_copy_initial_bytes, pre_copy_initial_bytes_start, stop_copy_prep_size, num_ready_chunks",
            "state, load_state, max_pos, record_size, record_tag, stop_copy_prep_size",
        ],
    ),
    ("6.12", ["", "pre_copy_initial_bytes_start, total_length", "total_length"]),
    ("7.3", ["", "total_length", "total_length"]),
];

const IMAGES: [&str; 3] = ["device", "saving_migf", "resuming_migf"];

pub(super) fn checks() -> Vec<Check> {
    let check =
        |(series, lacks)| Check::new(format!("mlx5: found on {series}"), move |_| found(series, lacks));
    // The oldest driver and the newest; 6.12's is between them.
    LACKS.into_iter().filter(|(series, _)| full() || *series != "6.12").map(check).collect()
}

fn found(series: &str, lacks: [&str; 3]) -> Result<Found> {
    let lab = Lab::new(lab::ready(series, false)?)?;
    let script = "cd $LAB_RESULTS && modprobe mlx5_vfio_pci && vfio-trace doctor --json >doctor.json; \
                  vfio-trace tail --format ndjson --duration 500ms >tail.ndjson";
    let guest = lab.run(&format!("mlx5-{series}"), script)?;
    let doctor: Value = serde_json::from_str(&guest.file("doctor.json")?).context("doctor.json")?;
    let findings = doctor.get("findings").and_then(Value::as_array).context("doctor.json has no findings")?;
    let of = |id: &str, name: &str| {
        let subject = format!("mlx5_vfio_pci:{name}");
        let fits = |one: &&Value| text(one, "id") == Some(id) && text(one, "subject") == Some(&subject);
        findings.iter().find(fits).with_context(|| format!("doctor says nothing of {id} {subject}"))
    };
    for name in THERE {
        let finding = of("probe-step", name)?;
        let what = text(finding, "what").unwrap_or_default();
        ensure!(text(finding, "status") == Some("ok") && what.contains("attached"), "{name}: {what}");
    }
    let mut members = 0;
    for (name, lacks) in IMAGES.into_iter().zip(lacks) {
        let finding = of("driver-image", name)?;
        let what = text(finding, "what").unwrap_or_default();
        ensure!(text(finding, "status") == Some("ok"), "{name}: {what}");
        let missing = what.split_once("not in this kernel: ").map_or("", |(_, missing)| missing);
        ensure!(missing == lacks, "{name} lacks {missing:?} instead of {lacks:?}");
        members += what.split(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    }
    ensure!(members > 0, "no member was found");
    // The probes were really attached, all at once.
    let tail = guest.file("tail.ndjson")?;
    let traced = Traced::parse(&tail).context("tail.ndjson")?;
    let probes =
        traced.summary.get("probes").and_then(Value::as_array).context("no probes in the summary")?;
    for name in THERE {
        let probe = probes.iter().find(|probe| text(probe, "name") == Some(name));
        let attached = probe.and_then(|probe| probe.get("attached"));
        ensure!(attached == Some(&Value::Bool(true)), "{name} was not attached");
    }
    Ok(Found::one(format!(
        "{} functions probed, {members} members found; not run: there is no hardware",
        THERE.len()
    )))
}
