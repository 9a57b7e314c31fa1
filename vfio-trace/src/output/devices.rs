//! The list of devices: a table for people, one document for programs.

use serde::Serialize;

use super::layout::{CellStyle, TableColumn, TextCell, table};
use crate::{
    event::{MigFlags, MigState},
    units::visible,
};

/// A process that holds a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HolderRow {
    /// The process, as the kernel counts: its number in the first PID namespace.
    pub pid: u32,
    /// Its number in the /proc of who asks; `None` where that is another namespace's, and for a recording.
    pub local_pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// The virtual machine it runs.
    pub vm: Option<String>,
    /// When the process was started, in seconds since 1970 UTC. The device was opened later.
    pub process_started: Option<u64>,
}

/// A device. What is not known is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// PCI address or mdev UUID.
    pub device: String,
    /// `pci`, `mdev` or `other`.
    pub bus: &'static str,
    /// `vfioN`.
    pub vfio: Option<String>,
    /// Its group in /dev/vfio.
    pub group: Option<u32>,
    /// Whether it has a character device of its own. A recording knows neither of these three.
    pub cdev: Option<bool>,
    /// Its driver.
    pub driver: Option<String>,
    /// Whether it can migrate.
    pub migration: Option<bool>,
    /// What its migration can do.
    pub migration_flags: Option<MigFlags>,
    /// Whether it tracks dirty pages itself.
    pub dirty_tracking: Option<bool>,
    /// Its state.
    pub state: Option<MigState>,
    /// How often it is open.
    pub open_count: Option<u32>,
    /// Who has it open.
    pub holders: Option<Vec<HolderRow>>,
}

/// What is said of the state of a device that may never have been opened.
pub(super) const NOT_OPEN: &str = "not open";

impl DeviceRow {
    /// Whether its driver has 0 in memory while nobody has it open: ERROR's number, but also what is there before the first
    /// open. Which of the two it is nobody can tell afterwards; opening it gives it a state in either case.
    pub fn may_be_fresh(&self) -> bool {
        self.state == Some(MigState::ERROR) && self.open_count == Some(0)
    }
}

/// The recording that a list is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordingFacts {
    /// Host that it was made on.
    pub host: Option<String>,
    /// Kernel release there.
    pub kernel: String,
    /// Version of the vfio-trace that made it.
    pub version: String,
    /// When it began, RFC 3339 in UTC.
    pub began: String,
    /// The moment that is shown, RFC 3339 in UTC.
    pub at: String,
    /// The same as CLOCK_MONOTONIC in ns.
    pub at_mono_ns: u64,
    /// Whether nothing was found to be missing of what was read.
    pub complete: bool,
}

/// What a look at the kernel's memory did not bring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListLosses {
    /// Records that found no room in the buffer.
    pub lost: u64,
    /// Records that were not understood.
    pub undecoded: u64,
    /// Devices and files that the eBPF programs could not remember.
    pub no_room: u64,
    /// Devices that could not be looked at.
    pub unopened: u64,
}

#[derive(Serialize)]
struct ListDocument<'rows> {
    schema: &'static str,
    /// Why what only the kernel's memory tells is missing.
    limited_by: Option<&'rows str>,
    /// What was lost on the way; `None`: nothing was looked at.
    losses: Option<ListLosses>,
    /// `None`: this is how things are now.
    recording: Option<&'rows RecordingFacts>,
    devices: &'rows [DeviceRow],
}

/// One JSON document, with a newline.
///
/// # Errors
///
/// None that the types here can cause; serde's interface has them.
pub fn devices_json(
    rows: &[DeviceRow],
    limited_by: Option<&str>,
    losses: Option<ListLosses>,
    recording: Option<&RecordingFacts>,
) -> serde_json::Result<String> {
    let document = ListDocument { schema: "vfio-trace.list/1", limited_by, losses, recording, devices: rows };
    visible::json_pretty(&document).map(|text| format!("{text}\n"))
}

/// A table; empty if there is no device.
pub fn device_table(rows: &[DeviceRow], color: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let titles = ["device", "vfio", "node", "driver", "migration", "dirty tracking", "state", "held by"];
    let columns: Vec<TableColumn> = titles.into_iter().map(TableColumn::left).collect();
    let cells: Vec<Vec<TextCell>> = rows.iter().map(|row| cells(row, color)).collect();
    table(&columns, &cells, color)
}

fn cells(row: &DeviceRow, color: bool) -> Vec<TextCell> {
    let plain = |text: &str| TextCell::of(color, CellStyle::Plain, text);
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let node = match (row.cdev, row.group) {
        (None, _) => "?".to_owned(),
        (Some(true), _) => "cdev".to_owned(),
        (Some(false), Some(group)) => format!("group {group}"),
        (Some(false), None) => "-".to_owned(),
    };
    let none = if row.cdev.is_some() { "-" } else { "?" };
    let vfio = row.vfio.as_deref().unwrap_or(none);
    let (migration, state) = match row.migration {
        Some(false) => ("none".to_owned(), "-".to_owned()),
        _ => (
            or_unknown(row.migration_flags.map(|flags| flags.to_string())),
            if row.may_be_fresh() {
                NOT_OPEN.to_owned()
            } else {
                or_unknown(row.state.map(|state| state.to_string()))
            },
        ),
    };
    let dirty = row.dirty_tracking.map(|yes| if yes { "yes" } else { "no" }.to_owned());
    let holders = row.holders.as_ref().map(|holders| match holders.as_slice() {
        [] => "-".to_owned(),
        some => some.iter().map(holder).collect::<Vec<_>>().join(", "),
    });
    vec![
        plain(&row.device),
        plain(vfio),
        plain(&node),
        plain(row.driver.as_deref().unwrap_or("-")),
        plain(&migration),
        plain(&or_unknown(dirty)),
        TextCell::of(color, CellStyle::State, &state),
        plain(&or_unknown(holders)),
    ]
}

fn holder(holder: &HolderRow) -> String {
    let vm = holder.vm.as_ref().map_or_else(String::new, |vm| format!(" ({vm})"));
    let since = holder
        .process_started
        .and_then(|seconds| jiff::Timestamp::from_second(seconds.try_into().ok()?).ok())
        .map_or_else(String::new, |time| format!(" since {time}"));
    format!("{} {}{vm}{since}", holder.comm, holder.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> DeviceRow {
        DeviceRow {
            device: "0000:75:00.1".to_owned(),
            bus: "pci",
            vfio: Some("vfio0".to_owned()),
            group: Some(12),
            cdev: Some(false),
            driver: Some("hisi_acc_vfio_pci".to_owned()),
            migration: Some(true),
            migration_flags: Some(MigFlags(5)),
            dirty_tracking: Some(false),
            state: Some(MigState::PRE_COPY),
            open_count: Some(1),
            holders: Some(vec![HolderRow {
                pid: 7,
                local_pid: Some(7),
                comm: "qemu".to_owned(),
                vm: Some("web".to_owned()),
                process_started: Some(0),
            }]),
        }
    }

    #[test]
    fn table_says_what_is_known() {
        let unknown = DeviceRow {
            device: "x".to_owned(),
            vfio: None,
            cdev: None,
            migration: None,
            migration_flags: None,
            dirty_tracking: None,
            state: None,
            holders: None,
            ..row()
        };
        let none = DeviceRow { migration: Some(false), holders: Some(Vec::new()), ..row() };
        let text = device_table(&[row(), unknown, none], false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("STOP_COPY|PRE_COPY  no")
                && lines[1].contains("PRE_COPY  qemu 7 (web) since 1970-"),
            "{text}"
        );
        assert!(lines[2].ends_with('?') && lines[2].split_whitespace().nth(2) == Some("?"), "{text}");
        assert!(lines[3].contains("none") && lines[3].ends_with('-'), "{text}");
        assert_eq!(device_table(&[], false), "");
    }

    #[test]
    fn a_device_that_may_never_have_been_opened_is_not_in_error() {
        let fresh =
            DeviceRow { state: Some(MigState::ERROR), open_count: Some(0), holders: Some(vec![]), ..row() };
        let text = device_table(std::slice::from_ref(&fresh), false);
        assert!(text.contains("not open") && !text.contains("ERROR"), "{text}");
        assert!(!device_table(std::slice::from_ref(&fresh), true).contains("\x1b[31m"), "and not red");
        assert!(
            devices_json(std::slice::from_ref(&fresh), None, None, None).unwrap().contains("\"ERROR\""),
            "the kernel's own number stays"
        );
        for open_count in [Some(1), None] {
            let failed = DeviceRow { open_count, ..fresh.clone() };
            assert!(device_table(&[failed], false).contains("ERROR"));
        }
    }

    #[test]
    fn json_has_schema_and_names() {
        let recording = RecordingFacts {
            host: None,
            kernel: "6.12".to_owned(),
            version: "1".to_owned(),
            began: "2026-11-22T15:40:20Z".to_owned(),
            at: "2026-11-22T15:40:21Z".to_owned(),
            at_mono_ns: 7,
            complete: true,
        };
        let json = devices_json(
            &[row()],
            None,
            Some(ListLosses { lost: 2, ..ListLosses::default() }),
            Some(&recording),
        )
        .unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["schema"], "vfio-trace.list/1");
        assert_eq!(value["devices"][0]["state"], "PRE_COPY");
        assert_eq!(value["devices"][0]["migration_flags"], serde_json::json!(["stop-copy", "pre-copy"]));
        assert_eq!(value["devices"][0]["holders"][0]["vm"], "web");
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/schema/list-1.json")).unwrap();
        let names =
            |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&schema["properties"]), names(&value));
        assert_eq!(names(&schema["$defs"]["device"]["properties"]), names(&value["devices"][0]));
        assert_eq!(names(&schema["$defs"]["recording"]["properties"]), names(&value["recording"]));
        assert_eq!(value["losses"]["lost"], 2);
        assert_eq!(names(&schema["$defs"]["losses"]["properties"]), names(&value["losses"]));
        let holder = &value["devices"][0]["holders"][0];
        assert_eq!(names(&schema["$defs"]["holder"]["properties"]), names(holder));
    }
}
