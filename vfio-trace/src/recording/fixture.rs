//! Test data: a header.

use super::{ClockSample, DriverFacts, LayoutMember, PartHeader, SCHEMA};
use crate::event::{TraceStart, fixture::ANCHOR};

pub(crate) fn header() -> PartHeader {
    PartHeader {
        schema: SCHEMA.to_owned(),
        wire_version: 1,
        byte_order: PartHeader::byte_order().to_owned(),
        recording: "boot/1/2".to_owned(),
        part: 1,
        boot_id: Some("boot".to_owned()),
        began_ns: 2,
        part_began_ns: 2,
        start: TraceStart {
            version: "0.1.0".to_owned(),
            replayed_by: None,
            kernel: "6.12.0".to_owned(),
            machine: "x86_64".to_owned(),
            host: Some("there".to_owned()),
            command: vec!["vfio-trace".to_owned(), "record".to_owned()],
            clock: ANCHOR,
            probes: Vec::new(),
        },
        clock: ClockSample::default(),
        settled_ticks: true,
        gaps_told: true,
        drivers: vec![DriverFacts {
            module: Some("mtty".to_owned()),
            functions: vec![("read".to_owned(), "mtty_save_read".to_owned())],
        }],
        layout: vec![LayoutMember { path: "vfio_device.dev".to_owned(), offset_bytes: Some(0) }],
    }
}
