//! Texts of the driver's files: as in version 9 of the debugfs series, as in mainline, and one for people.

use std::fmt::Write as _;

use super::{
    data::{DATA_LEN, DUMP_LEN, MAGIC_V1, MAGIC_V2, MATCH_LEN, MigfImage},
    device::HisiDevice,
};
use crate::{
    driver::{ViewError, ViewStyle},
    event::{CallOutcome, DataDirection, MigState},
};

/// Files in the order of debugfs: `attr` and `data` are of version 9; `dev_data`, `migf_data` and `cmd_state` of
/// mainline.
pub(super) const FILES: [&str; 6] = [
    "hisi_acc/attr",
    "hisi_acc/data",
    "hisi_acc/dev_data",
    "hisi_acc/migf_data",
    "hisi_acc/cmd_state",
    "hisi_acc/image",
];

pub(super) fn view(
    device: &HisiDevice,
    file: &str,
    style: ViewStyle,
    annotate: bool,
) -> Result<String, ViewError> {
    let is_v9 =
        |by_name: ViewStyle| (if style == ViewStyle::ByName { by_name } else { style }) == ViewStyle::V9;
    match file {
        "hisi_acc/attr" if is_v9(ViewStyle::V9) => attr(device, annotate),
        "hisi_acc/attr" => attr_mainline(device, annotate),
        "hisi_acc/data" => Ok(migf_data(device, is_v9(ViewStyle::V9), annotate)),
        "hisi_acc/migf_data" => Ok(migf_data(device, is_v9(ViewStyle::Mainline), annotate)),
        "hisi_acc/dev_data" => dev_data(device, annotate),
        "hisi_acc/cmd_state" => cmd_state(device, annotate),
        "hisi_acc/image" => image(device),
        other => Err(ViewError::NoFile(other.to_owned())),
    }
}

/// Formats bytes like `seq_hex_dump(…, DUMP_PREFIX_OFFSET, 16, 1, …, false)`.
fn hex_dump(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        // Writing to a String does not fail.
        let _ok = writeln!(text, "{prefix}{:08x}: {}", index * 16, hex.join(" "));
    }
    text
}

fn provenance(migf: &MigfImage) -> String {
    let direction = match migf.image.direction {
        Some(DataDirection::Save) => "saved by",
        Some(DataDirection::Resume) => "loaded by",
        None => "of",
    };
    let session =
        migf.image.session.map_or_else(|| "an earlier session".to_owned(), |nr| format!("session {nr}"));
    let ns = migf.at_ns;
    format!(
        "# {direction} {session}, at {}.{:06} s (CLOCK_MONOTONIC)\n",
        ns / 1_000_000_000,
        ns / 1_000 % 1_000_000
    )
}

const NOT_READ: ViewError =
    ViewError::Unknown("the driver's structure could not be read: see `vfio-trace doctor`");

/// Returns `attr` of version 9: state, readiness, and size of the migration file.
fn attr(device: &HisiDevice, annotate: bool) -> Result<String, ViewError> {
    let state = device.state().ok_or(NOT_READ)?;
    let ready = device.vf_qm_state().ok_or(NOT_READ)?;
    // The values are of the file in use, otherwise of the last one at its end.
    let (disabled, length) = match (device.open_file(), &device.last) {
        (Some(open), _) => (open.disabled(), open.total_length()),
        (None, Some(last)) => (false, last.migf.total_length()),
        (None, None) => (false, 0),
    };
    let note = if annotate {
        "# device state: number of enum vfio_device_mig_state; device ready: 0 means that a guest driver is loaded;\n\
         # data valid: 1 means that the driver has ended the file\n"
    } else {
        ""
    };
    Ok(format!(
        "{note}acc device:\n\
         device  state: {state}\n\
         device  ready: {ready}\n\
         data    valid: {}\n\
         data     size: {length}\n",
        u8::from(disabled)
    ))
}

/// Returns the mainline form of `attr`: the trailer of `dev_data`.
fn attr_mainline(device: &HisiDevice, annotate: bool) -> Result<String, ViewError> {
    let ready = device.vf_qm_state().ok_or(NOT_READ)?;
    let note = if annotate { "# guest driver load: 0 means loaded\n" } else { "" };
    Ok(format!("{note}guest driver load: {ready}\ndata size: {DATA_LEN}\n"))
}

/// Returns the image of the last migration, in either direction. `v9`: without the trailer.
fn migf_data(device: &HisiDevice, v9: bool, annotate: bool) -> String {
    let last = device.last.as_ref().filter(|last| last.migf.total_length() >= MATCH_LEN);
    let Some((last, bytes)) = last.and_then(|last| Some((last, last.migf.dump()?))) else {
        return "device not migrated!\n".to_owned();
    };
    let mut text = if annotate { provenance(&last.migf) } else { String::new() };
    text.push_str(&hex_dump("Mig Data:", bytes));
    if !v9 {
        let _ok = writeln!(text, "migrate data length: {}", last.migf.total_length());
    }
    text
}

/// Returns `dev_data`. Mainline reads registers for it; here it is the driver's own last reading, made when it saved.
fn dev_data(device: &HisiDevice, annotate: bool) -> Result<String, ViewError> {
    let ready = device.vf_qm_state().ok_or(NOT_READ)?;
    if device.is_closed() {
        return Ok("device not opened!\n".to_owned());
    }
    let saved = device.saved.as_ref().ok_or(ViewError::Unknown(
        "the registers were not seen: the driver reads them when it enters STOP_COPY, and vfio-trace reads none itself",
    ))?;
    let mut bytes = saved.migf.dump().ok_or(NOT_READ)?.to_vec();
    // The kernel fills in the members that it read from registers. It leaves the match data zero except for the state.
    let state_at = 24;
    let state = bytes.get(state_at..state_at + 4).unwrap_or_default().to_vec();
    bytes.iter_mut().take(MATCH_LEN as usize).for_each(|byte| *byte = 0);
    for (to, from) in bytes.iter_mut().skip(state_at).zip(state) {
        *to = from;
    }
    let mut text = String::new();
    if annotate {
        text.push_str("# registers as the driver read them at STOP_COPY, not as they are now\n");
        text.push_str(&provenance(&saved.migf));
    }
    text.push_str(&hex_dump("Dev Data:", bytes.get(..DUMP_LEN).unwrap_or_default()));
    let _ok = write!(text, "guest driver load: {ready}\ndata size: {DATA_LEN}\n");
    Ok(text)
}

/// Returns `cmd_state`. Mainline asks the device; here it is the result of the driver's last mailbox command.
fn cmd_state(device: &HisiDevice, annotate: bool) -> Result<String, ViewError> {
    if device.is_closed() {
        return Ok("device not opened!\n".to_owned());
    }
    let (mailbox, outcome, at_ns) = device.mailbox.ok_or(ViewError::Unknown(
        "no mailbox command was seen: the driver sends some when it stops, saves, matches or loads, and vfio-trace \
         sends none itself",
    ))?;
    let mut text = String::new();
    if annotate {
        let result = outcome.errno().map_or_else(|| outcome.name().to_owned(), |errno| errno.to_string());
        let _ok = writeln!(
            text,
            "# last command seen: {} ({}): {result}, at {}.{:06} s (CLOCK_MONOTONIC)",
            mailbox.name(),
            mailbox.command(),
            at_ns / 1_000_000_000,
            at_ns / 1_000 % 1_000_000
        );
    }
    text.push_str(if matches!(outcome, CallOutcome::Failed(_)) {
        "mailbox cmd channel not ready!\n"
    } else {
        "mailbox cmd channel ready!\n"
    });
    Ok(text)
}

/// Returns a table for people: every member with its name, value and meaning.
fn image(device: &HisiDevice) -> Result<String, ViewError> {
    let current = device
        .open_file()
        .map(|migf| (migf, "of the file in use"))
        .or_else(|| device.last.as_ref().map(|last| (&last.migf, "of the last migration")));
    let Some((migf, which)) = current else {
        return Err(ViewError::Unknown("no migration file was seen"));
    };
    let session =
        migf.image.session.map_or_else(|| "an earlier session".to_owned(), |nr| format!("session {nr}"));
    let direction = migf.image.direction.map_or("direction not known", DataDirection::name);
    let mut rows: Vec<(String, String, String)> = vec![
        (
            "image".to_owned(),
            which.to_owned(),
            format!("{session}, {direction}, made at {}", migf.image.moment.name()),
        ),
        (
            "total_length".to_owned(),
            migf.total_length().to_string(),
            length_means(migf.total_length()).to_owned(),
        ),
        ("disabled".to_owned(), u8::from(migf.disabled()).to_string(), String::new()),
    ];
    for field in migf.image.layout.fields.iter().filter(|field| field.path.starts_with("vf_data.")) {
        let name = field.path.trim_start_matches("vf_data.");
        let values = migf.image.elements(&field.path);
        let shown: Vec<String> = values
            .iter()
            .map(|value| match (field.secret, *value) {
                (true, 0) => "0".to_owned(),
                (true, _) if !migf.image.reveal => "redacted".to_owned(),
                (_, value) => format!("{value:#x}"),
            })
            .collect();
        rows.push((name.to_owned(), shown.join(" "), means(name, values.first().copied(), migf)));
    }
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let value_width =
        rows.iter().map(|(_, value, _)| value.len()).filter(|len| *len <= 24).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value, meaning) in rows {
        let line = format!("{name:width$}  {value:value_width$}  {meaning}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

const fn length_means(length: u64) -> &'static str {
    match length {
        0 => "nothing",
        MATCH_LEN => "match data only: the VF was not ready, or PRE_COPY",
        DATA_LEN => "complete",
        1..MATCH_LEN => "less than the match data",
        _ => "incomplete",
    }
}

/// Returns the kind of VF for a PCI device id (include/linux/pci_ids.h).
pub(super) const fn accelerator(id: u64) -> &'static str {
    match id {
        0xa251 => "ZIP VF",
        0xa256 => "SEC VF",
        0xa259 => "HPRE VF",
        _ => "no accelerator VF",
    }
}

fn means(name: &str, value: Option<u64>, migf: &MigfImage) -> String {
    let Some(value) = value else { return String::new() };
    match name {
        "acc_magic" => match value {
            MAGIC_V1 => "version 1: drivers before 6.16",
            MAGIC_V2 => "version 2: drivers since 6.16",
            _ => "unknown: no driver loads this",
        }
        .to_owned(),
        "qp_num" => format!("{value} queue pairs of the VF"),
        "dev_id" => accelerator(value).to_owned(),
        "que_iso_cfg" => "queue isolation, must be equal on both hosts".to_owned(),
        "qp_base" => "first queue of the VF".to_owned(),
        "vf_qm_state" => match value {
            0 => "0 = guest driver loaded",
            1 => "1 = no guest driver: nothing but match data moves",
            _ => "unknown",
        }
        .to_owned(),
        "major_ver" | "minor_ver" if migf.data("acc_magic") == Some(MAGIC_V1) => {
            "not used by version 1".to_owned()
        },
        "major_ver" => "must be 1".to_owned(),
        "eqe_dma" | "aeqe_dma" | "sqc_dma" | "cqc_dma" if migf.total_length() < DATA_LEN => {
            "not saved".to_owned()
        },
        "eqe_dma" | "aeqe_dma" | "sqc_dma" | "cqc_dma" if value == 0 => {
            "null: the destination will not start the VF".to_owned()
        },
        "eqe_dma" => "event queue".to_owned(),
        "aeqe_dma" => "asynchronous event queue".to_owned(),
        "sqc_dma" => "send queue contexts".to_owned(),
        "cqc_dma" => "completion queue contexts".to_owned(),
        _ => String::new(),
    }
}

impl HisiDevice {
    /// Returns the migration state as the driver's number.
    fn state(&self) -> Option<u64> {
        let state = u32::try_from(self.core.as_ref()?.value("mig_state")?).ok()?;
        Some(MigState(state).0.into())
    }
}
