//! Formats the list of devices: as a table for people, as one JSON document for programs.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::layout::{CellStyle, TableColumn, TextCell, table};
use crate::{
    event::{MigFlags, MigState, NOT_OPEN},
    kernel::DeviceBus,
    units::{
        schema::{SchemaHead, came_later, schema_of},
        visible,
    },
};

const HEAD: SchemaHead = SchemaHead {
    name: "vfio-trace.list/1",
    title: "What vfio-trace list --json prints",
    description: "Readers ignore fields that they do not know: version 1 may gain some.",
};

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HolderRow {
    /// PID of the process in the first PID namespace, as the kernel counts.
    pub pid: u32,
    /// PID in the /proc that vfio-trace sees. Null if that /proc is of another PID namespace (then `vm` and
    /// `process_started` are null too), and for a recording.
    pub local_pid: Option<u32>,
    /// Name of the process.
    pub comm: String,
    /// Name of the virtual machine that the process runs.
    pub vm: Option<String>,
    /// Time at which the process started, in seconds since 1970 UTC; the device was opened later.
    pub process_started: Option<u64>,
}

/// One device. Unknown values are null. The rows are made from sysfs and the kernel's memory, or from a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceRow {
    /// PCI address or mdev UUID.
    pub device: String,
    /// Bus of the device.
    #[schemars(extend("enum" = DeviceBus::ALL.map(DeviceBus::name)))]
    pub bus: &'static str,
    /// Name of the device in VFIO: `vfioN`.
    pub vfio: Option<String>,
    /// Number of the device's IOMMU group: N of /dev/vfio/N.
    pub group: Option<u32>,
    /// True if the device has a character device of its own, /dev/vfio/devices/vfioN. Null only from a recording, which
    /// has no `vfio`, `group` and `cdev`.
    pub cdev: Option<bool>,
    /// Driver of the device.
    pub driver: Option<String>,
    /// True if the device can migrate; null if that could not be read.
    pub migration: Option<bool>,
    /// The device's migration_flags.
    pub migration_flags: Option<MigFlags>,
    /// True if the device tracks dirty pages itself.
    pub dirty_tracking: Option<bool>,
    /// State of the device, as the driver has it in memory. ERROR with `open_count` 0 may be a device that was never
    /// opened, because ERROR has the number 0.
    pub state: Option<MigState>,
    /// Number of times the device is open.
    pub open_count: Option<u32>,
    /// Processes that have the device open. Null if they cannot be determined; also null if the device is open or may
    /// be (`open_count`), and no process is known to have it open.
    pub holders: Option<Vec<HolderRow>>,
}

impl DeviceRow {
    /// Returns true if the state reads as ERROR (0) while the device is not open. ERROR has the number 0, and the
    /// driver's memory holds 0 before the first open, too: the two cannot be told apart. Opening the device gives it a
    /// state in either case.
    pub fn may_be_fresh(&self) -> bool {
        self.state == Some(MigState::ERROR) && self.open_count == Some(0)
    }
}

/// Recording that a list is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecordingFacts {
    /// Host on which the recording was made.
    pub host: Option<String>,
    /// Kernel release of that host.
    pub kernel: String,
    /// Version of the vfio-trace that recorded.
    pub version: String,
    /// Time at which the recording began, RFC 3339 in UTC.
    pub began: String,
    /// Time that the list shows, RFC 3339 in UTC.
    pub at: String,
    /// Time that the list shows, as CLOCK_MONOTONIC of that host, in ns.
    pub at_mono_ns: u64,
    /// True if all devices at that time are known: nothing is missing of what was read, no record of devices was lost,
    /// and the inventory with which a recording begins was over.
    pub complete: bool,
}

/// Numbers of devices and records that the inventory of the kernel's memory lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ListLosses {
    /// Number of records that found no room in the buffer.
    pub lost: u64,
    /// Number of records that could not be decoded.
    pub undecoded: u64,
    /// Number of devices and files that the eBPF programs could not remember, because a map was full.
    pub no_room: u64,
    /// Number of devices whose folders in /sys could not be opened.
    pub unopened: u64,
}

/// The document of `list --json`.
#[derive(Serialize, JsonSchema)]
#[schemars(transform = came_later(&["losses", "recording"]))]
struct ListDocument<'rows> {
    /// Name and version of this schema.
    schema: &'static str,
    /// Reason why only sysfs's facts are known; null if the kernel's memory could be read.
    limited_by: Option<&'rows str>,
    /// Losses of the inventory; null if none was taken. The first versions of vfio-trace did not write this field.
    losses: Option<ListLosses>,
    /// Recording that this list is from (`--from`); null if it shows this host now. The first versions of vfio-trace
    /// did not write this field.
    recording: Option<&'rows RecordingFacts>,
    /// All devices.
    devices: &'rows [DeviceRow],
}

/// Makes the JSON Schema of the document, as kept in `docs/schema`.
pub fn list_schema() -> Value {
    schema_of::<ListDocument<'_>>(&HEAD)
}

/// Formats the list as one JSON document, with a newline.
///
/// # Errors
///
/// None with these types; only serde's interface returns them.
pub fn devices_json(
    rows: &[DeviceRow],
    limited_by: Option<&str>,
    losses: Option<ListLosses>,
    recording: Option<&RecordingFacts>,
) -> serde_json::Result<String> {
    let document = ListDocument { schema: HEAD.name, limited_by, losses, recording, devices: rows };
    visible::json_pretty(&document).map(|text| format!("{text}\n"))
}

/// Formats the list as a table; returns an empty text if there is no device.
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
    use crate::units::schema_check::TestSchema;

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
    fn json_is_as_its_schema_says() {
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
        let schema = TestSchema::parse(&list_schema().to_string()).unwrap();
        schema.check_text(&json).unwrap();
        schema.check_text(&devices_json(&[], Some("why"), None, None).unwrap()).unwrap();
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["schema"], "vfio-trace.list/1");
        assert_eq!(value["devices"][0]["state"], "PRE_COPY");
        assert_eq!(value["devices"][0]["migration_flags"], serde_json::json!(["stop-copy", "pre-copy"]));
        assert_eq!(value["devices"][0]["holders"][0]["vm"], "web");
        assert_eq!(value["losses"]["lost"], 2);
        // The first versions printed a document without the newer fields.
        let mut old = value;
        old.as_object_mut().unwrap().retain(|name, _| name != "losses" && name != "recording");
        schema.check_value(&old).unwrap();
        old["devices"][0]["bus"] = "usb".into();
        assert!(schema.check_value(&old).is_err(), "a bus that is none");
    }
}
